"""Kernels: a program, compiled, callable on numpy arrays.

Program ──build()──> Kernel;  Kernel(x=array) -> {output name: array}
"""

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from polyfuse.codegen.build import DEFAULT_FLAGS, Built, compile_file, compile_many, load
from polyfuse.codegen.compiler import Compiler
from polyfuse.codegen.group import Counter
from polyfuse.codegen.program import Program, unsupported_threads
from polyfuse.errors import InvalidInput
from polyfuse.network.tensor import Tensor
from polyfuse.text import html_table

Values = NDArray[np.float32]
ALIGNMENT = 64


class Kernel:
    """A compiled program with its own memory; calls of one kernel are not concurrent.

    `scratch`, on-chip buffers and outputs are allocated once; `run` computes in place on what `set_inputs` copied.
    `sharing` is a kernel of the same network whose inputs and outputs this one takes for its own.
    """

    def __init__(self, program: Program, built: Built, threads: int = 1, *, sharing: "Kernel | None" = None) -> None:
        unsupported_threads(program, threads)
        self.program = program
        self.built = built
        self.threads = threads
        self._library = load(built)
        for name in ("polyfuse_chip_bytes", "polyfuse_kept_bytes", "polyfuse_group_bytes"):
            getattr(self._library, name).restype = ctypes.c_longlong
        network = program.network
        self.inputs: dict[str, Values] = sharing.inputs if sharing else arrays(network.inputs)
        self.outputs: dict[str, Values] = sharing.outputs if sharing else arrays(network.outputs)
        self._weights = [np.ascontiguousarray(value, dtype=np.float32) for value in network.weights.values()]
        self._scratch = [aligned(tensor) for tensor in program.scratch]
        self._chips = np.zeros(threads * self._library.polyfuse_chip_bytes() + ALIGNMENT, np.uint8)
        self._kept = np.zeros(self._library.polyfuse_kept_bytes() + ALIGNMENT, np.uint8)
        self._counts = np.zeros(max(1, len(program.counters)), np.int64)
        self._arguments = (
            pointers(list(self.inputs.values())),
            pointers(self._weights),
            pointers(list(self.outputs.values())),
            pointers(self._scratch),
            ctypes.c_void_p(first_aligned(self._chips)),
            ctypes.c_void_p(first_aligned(self._kept)),
            ctypes.c_int(threads),
            ctypes.c_void_p(self._counts.ctypes.data),
        )

    @property
    def onchip_bytes(self) -> int:
        """The on-chip buffers of the largest group, one thread, as the compiled code has them."""
        return max(int(self._library.polyfuse_group_bytes(group.index)) for group in self.program.groups)

    @property
    def counts(self) -> dict[Counter, int]:
        """What the last run of an instrumented program counted."""
        return dict(zip(self.program.counters, map(int, self._counts), strict=True)) if self.program.counters else {}

    def set_inputs(self, values: Mapping[str, ArrayLike]) -> None:
        """Copy the inputs in.

        Errors: InvalidInput for a missing or unknown name, a wrong shape, or what is not an array of real numbers.
        """
        if set(values) != set(self.inputs):
            raise InvalidInput(f"kernel inputs: expected {sorted(self.inputs)}, got {sorted(values)}")
        for name, value in values.items():
            array = real_array(name, value)
            if array.shape != self.inputs[name].shape:
                raise InvalidInput(f"input {name!r}: expected shape {self.inputs[name].shape}, got {array.shape}")
            np.copyto(self.inputs[name], array)

    def poison(self) -> None:
        """Fill outputs, scratch and on-chip buffers with NaN, so that a value never computed is seen."""
        for array in (*self.outputs.values(), *self._scratch):
            array.fill(np.nan)
        for memory in (self._chips, self._kept):
            memory.fill(0xFF)

    def run(self) -> None:
        """Compute the outputs from the inputs that were set; counts start from zero."""
        self._counts.fill(0)
        self._library.polyfuse_run(*self._arguments)

    def __call__(self, **inputs: ArrayLike) -> dict[str, Values]:
        """Set the inputs, run, and return copies of the outputs."""
        self.set_inputs(inputs)
        self.run()
        return {name: array.copy() for name, array in self.outputs.items()}

    def __repr__(self) -> str:
        network = self.program.network
        return f"Kernel({', '.join(map(str, network.inputs))} -> {', '.join(map(str, network.outputs))})"

    def _repr_html_(self) -> str:
        rows = [
            ("inputs", ", ".join(map(str, self.program.network.inputs))),
            ("outputs", ", ".join(map(str, self.program.network.outputs))),
            ("threads", self.threads),
            ("C file", self.built.source),
        ]
        return html_table(f"Kernel of {self.program.network.name}", ("what", "value"), rows)


@dataclass(frozen=True)
class Options:
    """How programs are compiled."""

    compiler: Compiler | None = None
    flags: Sequence[str] = DEFAULT_FLAGS
    cache: Path | None = None


def build(program: Program, *, threads: int = 1, options: Options | None = None) -> Kernel:
    """Compile a program, or find it in the cache, and load it.

    Errors: BuildError from the compiler; IllegalSchedule where threads are asked for that the program cannot share.
    """
    return build_many([program], threads=threads, options=options)[0]


def build_many(programs: Sequence[Program], *, threads: int = 1, options: Options | None = None) -> list[Kernel]:
    """Compile several programs at once on all cores."""
    libraries = compile_programs(programs, openmp=threads > 1, options=options)
    return [Kernel(program, built, threads) for program, built in zip(programs, libraries, strict=True)]


def compile_programs(
    programs: Sequence[Program], *, openmp: bool = False, options: Options | None = None
) -> tuple[Built, ...]:
    """The libraries of several programs, compiled at once on all cores; nothing is loaded or allocated."""
    chosen = options or Options()
    sources = [program.source for program in programs]
    return compile_many(sources, compiler=chosen.compiler, flags=chosen.flags, openmp=openmp, cache=chosen.cache)


def rebuild(program: Program, source: Path, *, threads: int = 1, options: Options | None = None) -> Kernel:
    """A kernel from a `.c` file that was generated from this program and edited by hand."""
    chosen = options or Options()
    built = compile_file(source, compiler=chosen.compiler, flags=chosen.flags, openmp=threads > 1, cache=chosen.cache)
    return Kernel(program, built, threads)


def real_array(name: str, value: ArrayLike) -> Values:
    """The float32 array of an input; what float32 cannot hold becomes infinite."""
    try:
        with np.errstate(over="ignore"):
            return np.asarray(value).astype(np.float32, casting="same_kind" if np.iscomplexobj(value) else "unsafe")
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"input {name!r}: expected an array of real numbers, got {error}") from None


def arrays(tensors: Sequence[Tensor]) -> dict[str, Values]:
    """An array of NaN for each tensor, by name."""
    return {tensor.name: aligned(tensor) for tensor in tensors}


def aligned(tensor: Tensor) -> Values:
    """An array of NaN for a tensor, aligned for vectors."""
    memory = np.empty(tensor.elements * tensor.element_bytes + ALIGNMENT, np.uint8)
    start = first_aligned(memory) - memory.ctypes.data
    array = memory[start : start + tensor.elements * tensor.element_bytes].view(np.float32)
    array.fill(np.nan)
    return array.reshape(tensor.concrete_shape)


def first_aligned(memory: NDArray[np.uint8]) -> int:
    """The first aligned address of some memory."""
    return -(-memory.ctypes.data // ALIGNMENT) * ALIGNMENT


def pointers(values: Sequence[Values]) -> ctypes.Array[ctypes.c_void_p]:
    """The addresses of arrays, as C's `float *const *`."""
    return (ctypes.c_void_p * max(1, len(values)))(*(array.ctypes.data for array in values))
