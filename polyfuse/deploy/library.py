"""A program as C that others can build and call: one .c, one .h, one file of weights; no library but libc's.

    Program ──library()──> Library: the texts, the weights, the bytes of memory that a caller provides

`NAME_run(weights, arena, inputs…, outputs…)` allocates nothing and keeps nothing between calls: calls with arenas and
outputs of their own may run at the same time. `NAME_load` reads the file of weights and checks it.

The file of weights is little-endian: the 8 bytes "polyfuse", uint32 version (1), uint32 CRC-32 of the data, uint64
bytes of the data, zeros up to byte 64, and the data: what row kernels read, packed, float32, then the outputs that are
constant, each in its own type; each array aligned.
"""

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from polyfuse.codegen.c.text import signature
from polyfuse.codegen.emit.cfile import calls
from polyfuse.codegen.lower.layout import Array
from polyfuse.codegen.lower.program import ALIGNMENT, LoweredProgram
from polyfuse.codegen.program import Program
from polyfuse.deploy.csignature import ArrayParameter, constant_outputs, copied, parameters
from polyfuse.errors import InvalidInput
from polyfuse.plan.memory.addresses import aligned_up

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
class ArenaBytes:
    """Where things are in the arena: scratch tensors first, then what every thread has, then shared buffers.

    A thread has the buffers of a group and the workspace in which it computes.
    """

    scratch: int
    chip: int
    kept: int
    threads: int

    @staticmethod
    def of(program: LoweredProgram, threads: int) -> "ArenaBytes":
        """The bytes of each part, aligned."""
        return ArenaBytes(
            aligned_up(program.arena.bytes, ALIGNMENT),
            max(struct_bytes(group.chip) + aligned_up(group.workspace_bytes, ALIGNMENT) for group in program.groups),
            max(struct_bytes(group.kept) for group in program.groups),
            threads,
        )

    @property
    def bytes(self) -> int:
        """The whole arena, which is never empty."""
        return max(ALIGNMENT, self.scratch + self.threads * self.chip + self.kept)


def struct_bytes(arrays: Sequence[Array]) -> int:
    """A struct of arrays, each aligned; nothing for one that holds none."""
    return sum(aligned_up(array.bytes, ALIGNMENT) for array in arrays)


def library(program: Program, *, threads: int = 1) -> Library:
    """The files of a program that `threads` threads run; more than one need a compiler with OpenMP.

    Comments say what the C was written for, the toolchain of its target: it is right with others.

    Errors: InvalidInput for a program that counts, and for an output that is no array of numbers of a fixed size.
    """
    if program.counters:
        raise InvalidInput(f"library of {program.network.name!r}: expected a program that does not count executions")
    name, memory = program.network.name, ArenaBytes.of(program, threads)
    toolchain = program.selection.target.toolchain
    written_for = [toolchain.written_for] if toolchain is not None else []
    ends, (offsets, given, data) = parameters(program), packed_constants(program)
    crc = zlib.crc32(data)
    head = struct.pack("<8sIIQ", b"polyfuse", VERSION, crc, len(data)).ljust(HEADER_BYTES, b"\0")
    source = "\n".join(
        [
            *(f"/* {line} */" for line in written_for),
            "#include <stdint.h>",
            program.body,
            *checks(memory),
            "",
            *run_function(program, memory, ends, offsets, given),
            "",
            LOADER.format(name=name, big=name.upper(), bytes=len(data), crc=crc, version=VERSION),
        ]
    )
    head_text = header(program, memory, ends, len(data), written_for)
    return Library(name, source, head_text, head + data, len(data), memory.bytes)


def packed_constants(program: Program) -> tuple[dict[str, int], dict[int, int], bytes]:
    """The offset of each constant in floats, that of each constant output in bytes, and all of them, each aligned."""
    data = bytearray()

    def place(values: np.ndarray) -> int:
        offset = len(data)
        data.extend(values.tobytes())
        data.extend(bytes(aligned_up(len(data), ALIGNMENT) - len(data)))
        return offset

    read = {name: np.ascontiguousarray(values, dtype="<f4") for name, values in program.constants.items()}
    offsets = {name: place(values) // 4 for name, values in read.items()}
    given = {k: place(values) for k, values in constant_outputs(program).items()}
    return offsets, given, bytes(data)


def checks(memory: ArenaBytes) -> list[str]:
    """What the compiler verifies of the sizes that the header promises."""
    return [
        f'_Static_assert(sizeof(union {kind}) <= {size}, "the arena has room for union {kind}");'
        for kind, size in (("chip", memory.chip), ("kept", memory.kept))
        if size
    ]


def run_function(
    program: Program, memory: ArenaBytes, ends: Sequence[ArrayParameter], offsets: dict[str, int], given: dict[int, int]
) -> list[str]:
    """`NAME_run`: the groups in order, with the address of each array; `given` has that of constant outputs."""
    addresses = program.addresses
    known = {name: f"(void *)(constants + {offset})" for name, offset in offsets.items()}
    known |= {each.tensor.name: f"(void *){each.name}" for each in reversed(ends) if each.tensor is not None}
    known |= {tensor.name: f"(void *)(memory + {addresses[tensor.name]})" for tensor in program.scratch}
    kept_at = memory.scratch + memory.threads * memory.chip
    chips, kept = f"(void *)(memory + {memory.scratch})", f"(void *)(memory + {kept_at})"
    return [
        *prototype(program, ends),
        "{",
        "  const float *const constants = weights;",
        "  char *const memory = arena;",
        "  (void)constants, (void)memory;",
        *calls(program.parts, known, (chips, kept, str(memory.threads), "0")),
        *copied(program, ends, given),
        "}",
    ]


def prototype(program: Program, ends: Sequence[ArrayParameter]) -> list[str]:
    """The head of `NAME_run`."""
    own = ["const void *weights", "void *arena"]
    return signature(f"void {program.network.name}_run", [*own, *(each.declaration for each in ends)])


def header(
    program: Program,
    memory: ArenaBytes,
    ends: Sequence[ArrayParameter],
    weights_bytes: int,
    written_for: Sequence[str],
) -> str:
    """The .h file: what to provide, and what is promised."""
    name, big = program.network.name, program.network.name.upper()
    head = prototype(program, ends)
    return "\n".join(
        [
            f"/* {name}: generated by polyfuse.",
            *(f" * {line}" for line in written_for),
            " *",
            *(f" * {each.described}" for each in ends),
            " *",
            f" * Every pointer is aligned to {big}_ALIGNMENT bytes; inputs and outputs do not overlap. {name}_run",
            " * allocates nothing and keeps nothing between calls: threads may call it at the same time, each with",
            f" * an arena and outputs of its own. One call runs on {memory.threads} thread(s).",
            f" * {name}_load reads the file of weights: 0 done, 1 no such file, 2 not the weights of this model,",
            f" * 3 cut short or damaged; it is left out with -D{big}_NO_FILES, for targets without files. */",
            f"#ifndef {big}_H",
            f"#define {big}_H",
            "#include <stdint.h>",
            "#ifdef __cplusplus",
            'extern "C" {',
            "#endif",
            "",
            f"#define {big}_ALIGNMENT {ALIGNMENT}",
            f"#define {big}_WEIGHTS_BYTES {max(weights_bytes, ALIGNMENT)}",
            f"#define {big}_ARENA_BYTES {memory.bytes}",
            *(f"#define {each.macro(big)} {each.elements}" for each in ends if each.elements is not None),
            "",
            f"extern const unsigned {name}_weights[]; /* only in {name}_weights.c */",
            f"int {name}_load(const char *path, void *weights);",
            *head[:-1],
            f"{head[-1]};",
            "",
            "#ifdef __cplusplus",
            "}",
            "#endif",
            "#endif",
            "",
        ]
    )
