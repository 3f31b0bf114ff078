"""A program as C that others can build and call: one .c, one .h, one file of weights; no library but libc's.

    Program ──library()──> Library: the texts, the weights, the bytes of memory that a caller provides

`NAME_run(weights, arena, inputs…, outputs…)` allocates nothing and keeps nothing between calls: calls with arenas and
outputs of their own may run at the same time. `NAME_load` reads the file of weights and checks it.

The file of weights is little-endian: the 8 bytes "polyfuse", uint32 version (1), uint32 CRC-32 of the data, uint64
bytes of the data, zeros up to byte 64, and the data, float32: what row kernels read, packed, each array aligned.
"""

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from polyfuse.codegen.cfile import calls, signature
from polyfuse.codegen.layout import PLANAR, Array
from polyfuse.codegen.program import ALIGNMENT, Program
from polyfuse.errors import InvalidInput
from polyfuse.network.tensor import Tensor
from polyfuse.plan.addresses import aligned_up

VERSION = 1
HEADER_BYTES = 64
LOADER = """\
#ifndef {big}_NO_FILES
#include <stdio.h>
#include <string.h>

static unsigned crc32_of(const unsigned char *data, size_t bytes) {{
  unsigned crc = ~0u;
  for (size_t k = 0; k < bytes; k++) {{
    crc ^= data[k];
    for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0);
  }}
  return ~crc;
}}

int {name}_load(const char *path, void *weights) {{
  struct {{ char magic[8]; unsigned version, crc; unsigned long long bytes; char rest[40]; }} head;
  FILE *file = fopen(path, "rb");
  if (!file) return 1;
  int known = fread(&head, 1, sizeof head, file) == sizeof head && memcmp(head.magic, "polyfuse", 8) == 0
    && head.version == {version} && head.bytes == {bytes}ull && head.crc == 0x{crc:08X}u;
  int whole = known && fread(weights, 1, {bytes}, file) == {bytes};
  fclose(file);
  return !known ? 2 : !whole || crc32_of(weights, {bytes}) != head.crc ? 3 : 0;
}}
#endif
"""


@dataclass(frozen=True)
class Library:
    """A program's files as text and bytes; sizes are in bytes.

    `weights` is the file of weights; `weights_bytes` is what a caller provides for `NAME_load` to fill.
    """

    name: str
    source: str
    header: str
    weights: bytes
    weights_bytes: int
    arena_bytes: int

    @property
    def embedded(self) -> str:
        """The weights as a C array of their own, for targets without files."""
        words = np.frombuffer(self.weights[HEADER_BYTES:], "<u4")
        rows = ("  " + ", ".join(f"0x{word:08X}" for word in words[k : k + 8]) for k in range(0, len(words), 8))
        body = ",\n".join(rows) or "  0"
        return (
            f"/* {self.name}: the weights, as the bits of floats. */\n"
            f"_Alignas({ALIGNMENT}) const unsigned {self.name}_weights[{max(1, len(words))}] = {{\n{body}\n}};\n"
        )


@dataclass(frozen=True)
class Memory:
    """Where things are in the arena: scratch tensors first, then what every thread has, then shared buffers.

    A thread has the buffers of a group and the workspace in which it computes.
    """

    scratch: int
    chip: int
    kept: int
    threads: int

    @staticmethod
    def of(program: Program, threads: int) -> "Memory":
        """The bytes of each part, aligned."""
        return Memory(
            aligned_up(program.arena.bytes, ALIGNMENT),
            max(struct_bytes(group.chip) + aligned_up(group.workspace_bytes, ALIGNMENT) for group in program.groups),
            max(struct_bytes(group.kept) for group in program.groups),
            threads,
        )

    @property
    def bytes(self) -> int:
        """All of it, and enough for an array."""
        return max(ALIGNMENT, self.scratch + self.threads * self.chip + self.kept)


def struct_bytes(arrays: Sequence[Array]) -> int:
    """A struct of arrays, each aligned; nothing for one that holds none."""
    return sum(aligned_up(4 * array.elements, ALIGNMENT) for array in arrays)


def library(program: Program, *, threads: int = 1, written_for: str = "") -> Library:
    """The files of a program that `threads` threads run; more than one need a compiler with OpenMP.

    `written_for` says which compiler and flags the C was written for, in comments: it is right with others.

    Errors: InvalidInput for a program that counts, and for inputs and outputs that share a name in C.
    """
    if program.counters:
        raise InvalidInput(f"library of {program.network.name!r}: expected a program that does not count executions")
    name, memory = program.network.name, Memory.of(program, threads)
    offsets, data = packed_constants(program)
    crc = zlib.crc32(data)
    head = struct.pack("<8sIIQ", b"polyfuse", VERSION, crc, len(data)).ljust(HEADER_BYTES, b"\0")
    source = "\n".join(
        [
            *([f"/* {written_for} */"] if written_for else []),
            program.body,
            *checks(memory),
            "",
            *run_function(program, memory, offsets),
            "",
            LOADER.format(name=name, big=name.upper(), bytes=len(data), crc=crc, version=VERSION),
        ]
    )
    return Library(name, source, header(program, memory, len(data), written_for), head + data, len(data), memory.bytes)


def packed_constants(program: Program) -> tuple[dict[str, int], bytes]:
    """The offset of each constant in floats, and all of them, each aligned."""
    offsets, parts, size = {}, [], 0
    for name, values in program.constants.items():
        data = np.ascontiguousarray(values, dtype="<f4").tobytes()
        offsets[name] = size // 4
        parts.append(data.ljust(aligned_up(len(data), ALIGNMENT), b"\0"))
        size += len(parts[-1])
    return offsets, b"".join(parts)


def checks(memory: Memory) -> list[str]:
    """What the compiler verifies of the sizes that the header promises."""
    return [
        f'_Static_assert(sizeof(union {kind}) <= {size}, "the arena has room for union {kind}");'
        for kind, size in (("chip", memory.chip), ("kept", memory.kept))
        if size
    ]


def run_function(program: Program, memory: Memory, offsets: dict[str, int]) -> list[str]:
    """`NAME_run`: the groups in order, with the address of each array."""
    network, addresses = program.network, program.addresses
    known = {name: f"(void *)(constants + {offset})" for name, offset in offsets.items()}
    known |= {tensor.name: f"(void *){tensor.name}" for tensor in (*network.inputs, *network.outputs)}
    known |= {tensor.name: f"(void *)(memory + {addresses[tensor.name]})" for tensor in program.scratch}
    kept_at = memory.scratch + memory.threads * memory.chip
    chips, kept = f"(void *)(memory + {memory.scratch})", f"(void *)(memory + {kept_at})"
    return [
        *prototype(program),
        "{",
        "  const float *const constants = weights;",
        "  char *const memory = arena;",
        "  (void)constants, (void)memory;",
        *calls(program.groups, known, (chips, kept, str(memory.threads), "0")),
        "}",
    ]


def prototype(program: Program) -> list[str]:
    """The head of `NAME_run`."""
    network = program.network
    ends = [f"const float *{tensor.name}" for tensor in network.inputs]
    ends += [f"float *{tensor.name}" for tensor in network.outputs]
    return signature(f"void {network.name}_run", ["const void *weights", "void *arena", *ends])


def header(program: Program, memory: Memory, weights_bytes: int, written_for: str) -> str:
    """The .h file: what to provide, and what is promised."""
    network = program.network
    name, big = network.name, network.name.upper()
    tensors = [("input", tensor) for tensor in network.inputs] + [("output", tensor) for tensor in network.outputs]
    return "\n".join(
        [
            f"/* {name}: generated by polyfuse.",
            *([f" * {written_for}"] if written_for else []),
            " *",
            *(f" * {kind:<7}{described(program, tensor)}" for kind, tensor in tensors),
            " *",
            f" * Every pointer is aligned to {big}_ALIGNMENT bytes; inputs and outputs do not overlap. {name}_run",
            " * allocates nothing and keeps nothing between calls: threads may call it at the same time, each with",
            f" * an arena and outputs of its own. One call runs on {memory.threads} thread(s).",
            f" * {name}_load reads the file of weights: 0 done, 1 no such file, 2 not the weights of this model,",
            f" * 3 cut short or damaged; it is left out with -D{big}_NO_FILES, for targets without files. */",
            f"#ifndef {big}_H",
            f"#define {big}_H",
            "#ifdef __cplusplus",
            'extern "C" {',
            "#endif",
            "",
            f"#define {big}_ALIGNMENT {ALIGNMENT}",
            f"#define {big}_WEIGHTS_BYTES {max(weights_bytes, ALIGNMENT)}",
            f"#define {big}_ARENA_BYTES {memory.bytes}",
            *(f"#define {big}_{t.name.upper()}_FLOATS {program.array(t).elements}" for _, t in tensors),
            "",
            f"extern const unsigned {name}_weights[]; /* only in {name}_weights.c */",
            f"int {name}_load(const char *path, void *weights);",
            *prototype(program)[:-1],
            f"{prototype(program)[-1]};",
            "",
            "#ifdef __cplusplus",
            "}",
            "#endif",
            "#endif",
            "",
        ]
    )


def described(program: Program, tensor: Tensor) -> str:
    """A tensor for the reader: its shape and how it lies in memory."""
    array = program.array(tensor)
    dense = "row-major" if array.layout == PLANAR else f"{array.layout}: {' x '.join(map(str, array.shape))}"
    return f"{tensor.name}: float32 {list(tensor.concrete_shape)}, {dense}"
