"""Kernels: a program, compiled, callable on numpy arrays.

Program ──build()──> Kernel;  Kernel(x=array) -> {output name: array}
"""

import contextlib
import ctypes
import mmap
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from polyfuse.codegen.build import Built, Options, compile_file, compile_many, load
from polyfuse.codegen.emit.group import Counter
from polyfuse.codegen.lower.program import ALIGNMENT, unsupported_threads
from polyfuse.codegen.program import Program
from polyfuse.doors import public
from polyfuse.errors import BuildError, InvalidInput
from polyfuse.network.dtypes import TYPES, Values
from polyfuse.network.network import Network
from polyfuse.network.tensor import Tensor
from polyfuse.text import html_table

LARGE_PAGE = 2 << 20


@public
class Kernel:
    """A compiled program with its own memory; calls of one kernel are not concurrent.

    The arena of scratch tensors, on-chip buffers and outputs are allocated once; `run` computes in place on what
    `set_inputs` copied.
    `sharing` is a kernel of the same network whose inputs and outputs this one takes for its own, in the same layout.
    """

    def __init__(self, program: Program, built: Built, threads: int = 1, *, sharing: "Kernel | None" = None) -> None:
        unsupported_threads(program, threads)
        threads = program.threads_of(threads)
        self.program = program
        self.built = built
        self.threads = threads
        self._library = load(built)
        for name in ("polyfuse_chip_bytes", "polyfuse_kept_bytes", "polyfuse_group_bytes", "polyfuse_workspace_bytes"):
            getattr(self._library, name).restype = ctypes.c_longlong
        network = program.network
        ends = (*network.inputs, *network.outputs)
        if sharing is not None and any(program.array(t) != sharing.program.array(t) for t in ends):
            sharing = None
        self._inputs: dict[str, Values] = sharing._inputs if sharing else self._arrays(network.inputs)
        self._outputs: dict[str, Values] = sharing._outputs if sharing else self._arrays(network.outputs)
        self._weights = side_by_side(list(program.constants.values()), TYPES[network.outputs[0].dtype].held)
        self._arena = memory_of(program.arena.bytes)
        self._chips = memory_of(threads * self._library.polyfuse_chip_bytes())
        self._kept = memory_of(self._library.polyfuse_kept_bytes())
        self._counts = np.zeros(max(1, len(program.counters)), np.int64)
        self._arguments = (
            addresses([array.ctypes.data for array in self._inputs.values()]),
            addresses([array.ctypes.data for array in self._weights]),
            addresses([array.ctypes.data for array in self._outputs.values()]),
            addresses([self._arena.ctypes.data + at for at in program.addresses.values()]),
            ctypes.c_void_p(self._chips.ctypes.data),
            ctypes.c_void_p(self._kept.ctypes.data),
            ctypes.c_int(threads),
            ctypes.c_void_p(self._counts.ctypes.data),
        )

    def _arrays(self, tensors: Sequence[Tensor]) -> dict[str, Values]:
        """An array of NaN for each tensor, by name."""
        return {tensor.name: aligned(self.program.array(tensor).shape, TYPES[tensor.dtype].held) for tensor in tensors}

    @property
    def onchip_bytes(self) -> int:
        """The on-chip buffers of the largest group, one thread, as the compiled code has them."""
        return max(self.group_bytes)

    @property
    def group_bytes(self) -> tuple[int, ...]:
        """The on-chip buffers of each group, one thread, as the compiled code has them."""
        return tuple(int(self._library.polyfuse_group_bytes(group.index)) for group in self.program.groups)

    @property
    def workspace_bytes(self) -> int:
        """What computing takes besides buffers, in each thread, as the compiled code has it."""
        return int(self._library.polyfuse_workspace_bytes())

    @property
    def counts(self) -> dict[Counter, int]:
        """What the last run of an instrumented program counted."""
        return dict(zip(self.program.counters, map(int, self._counts), strict=True)) if self.program.counters else {}

    def exported(self, name: str, count: int) -> ctypes.Array[ctypes.c_double]:
        """An array of doubles that the compiled code exports, such as one that was added to its text.

        Errors: BuildError where there is none of that name.
        """
        try:
            return (ctypes.c_double * count).in_dll(self._library, name)
        except ValueError:
            where = f"kernel of {self.program.network.name!r}"
            raise BuildError(f"{where}: expected an array {name!r} in the compiled code, found none") from None

    def set_inputs(self, values: Mapping[str, ArrayLike]) -> None:
        """Copy the inputs in.

        Errors: InvalidInput for a missing or unknown name, a wrong shape, or what is not an array of real numbers.
        """
        arrays = checked_inputs(self.program.network, values)
        for tensor in self.program.network.inputs:
            self.program.array(tensor).fill(self._inputs[tensor.name], arrays[tensor.name])

    def poison(self) -> None:
        """Fill outputs, scratch and on-chip buffers with NaN, so that a value never computed is seen."""
        for array in self._outputs.values():
            array.fill(np.nan)
        for memory in (self._arena, self._chips, self._kept):
            memory.fill(0xFF)

    @property
    def inputs(self) -> dict[str, Values]:
        """The inputs that were set, `[n, c, h, w]`: the kernel's own memory where that is planar, else copies."""
        return {t.name: self.program.array(t).tensor(self._inputs[t.name]) for t in self.program.network.inputs}

    @property
    def outputs(self) -> dict[str, Values]:
        """The outputs of the last run, `[n, c, h, w]`: the kernel's own memory where that is planar, else copies."""
        return {t.name: self.program.array(t).tensor(self._outputs[t.name]) for t in self.program.network.outputs}

    def run(self) -> None:
        """Compute the outputs from the inputs that were set; counts start from zero."""
        self._counts.fill(0)
        self._library.polyfuse_run(*self._arguments)

    def __call__(self, /, **inputs: ArrayLike) -> dict[str, Values]:
        """Set the inputs, run, and return copies of the outputs."""
        self.set_inputs(inputs)
        self.run()
        return {name: array.copy() for name, array in self.outputs.items()}

    def __reduce__(self) -> NoReturn:
        """Errors: InvalidInput: loaded code is of this process."""
        raise InvalidInput(
            f"kernel of {self.program.network.name!r}: loaded code cannot be pickled or copied; pickle its program, "
            "and build that"
        )

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


def build(program: Program, *, threads: int = 1, options: Options | None = None) -> Kernel:
    """Compile a program, or find it in the cache, and load it; without options, by the toolchain of its target.

    A thread for which there is no tile is left out: `Kernel.threads` says how many there are.

    Errors: BuildError from the compiler; IllegalSchedule where threads are asked for that the program cannot share;
    InvalidInput for a number of threads that is not from 1 to 1,024.
    """
    return build_many([program], threads=threads, options=options)[0]


def build_many(programs: Sequence[Program], *, threads: int = 1, options: Options | None = None) -> list[Kernel]:
    """Compile several programs at once on all cores."""
    libraries = compile_programs(programs, threads=threads, options=options)
    return [Kernel(program, built, threads) for program, built in zip(programs, libraries, strict=True)]


def compile_programs(
    programs: Sequence[Program], *, threads: int = 1, options: Options | None = None
) -> tuple[Built, ...]:
    """The libraries of several programs, compiled at once on all cores; nothing is loaded or allocated.

    Without options they are compiled by the toolchain of the first target that has one.
    """
    toolchains = (program.selection.target.toolchain for program in programs)
    chosen = options or Options.of(next((each for each in toolchains if each is not None), None))
    return compile_many([program.source for program in programs], chosen.for_threads(threads))


def rebuild(program: Program, source: Path, *, threads: int = 1, options: Options | None = None) -> Kernel:
    """A kernel from a `.c` file that was generated from this program and edited by hand."""
    chosen = options or Options.of(program.selection.target.toolchain)
    built = compile_file(source, chosen.for_threads(threads))
    return Kernel(program, built, threads)


def checked_inputs(network: Network, values: Mapping[str, ArrayLike]) -> dict[str, Values]:
    """The array of each input in the type of its elements, by name.

    Errors: InvalidInput for a missing or unknown name, a wrong shape, or what is not an array of real numbers.
    """
    names = {tensor.name for tensor in network.inputs}
    if set(values) != names:
        raise InvalidInput(f"kernel inputs: expected {sorted(names)}, got {sorted(values)}")
    arrays = {t.name: real_array(t.name, values[t.name], TYPES[t.dtype].held) for t in network.inputs}
    for tensor in network.inputs:
        if arrays[tensor.name].shape != tensor.shape:
            raise InvalidInput(f"input {tensor.name!r}: expected shape {tensor.shape}, got {arrays[tensor.name].shape}")
    return arrays


def real_array(name: str, value: ArrayLike, dtype: str = "float32") -> Values:
    """The array of an input in a type of floats; what that cannot hold becomes infinite."""
    try:
        with np.errstate(over="ignore"):
            return np.asarray(value).astype(dtype, casting="same_kind" if np.iscomplexobj(value) else "unsafe")
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"input {name!r}: expected an array of real numbers, got {error}") from None


def aligned(shape: Sequence[int], dtype: str = "float32") -> Values:
    """An array of NaN, aligned for vectors."""
    size = np.dtype(dtype).itemsize * prod(shape)
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = first_aligned(memory) - memory.ctypes.data
    array: Values = memory[start : start + size].view(dtype)
    array.fill(np.nan)
    return array.reshape(shape)


def side_by_side(arrays: Sequence[Values], dtype: str = "float32") -> list[Values]:
    """Copies of arrays in one piece of memory, in one type, each aligned for vectors."""
    element_bytes = np.dtype(dtype).itemsize
    sizes = [-(-element_bytes * array.size // ALIGNMENT) * ALIGNMENT for array in arrays]
    memory, start, copies = memory_of(sum(sizes)), 0, []
    for array, size in zip(arrays, sizes, strict=True):
        copies.append(memory[start : start + element_bytes * array.size].view(dtype).reshape(array.shape))
        copies[-1][...] = array
        start += size
    return copies


def memory_of(size: int) -> NDArray[np.uint8]:
    """Zeroed memory, aligned for vectors; much of it begins with a large page, in such pages where the system has them.

    Many small pages fall on the same sets of a cache by accident, and take up the entries that translate addresses.
    """
    if size < LARGE_PAGE or not hasattr(mmap, "MADV_HUGEPAGE"):
        memory = np.zeros(size + ALIGNMENT, np.uint8)
        return memory[first_aligned(memory) - memory.ctypes.data :]
    pages = mmap.mmap(-1, size + LARGE_PAGE)
    with contextlib.suppress(OSError):
        pages.madvise(mmap.MADV_HUGEPAGE)
    memory = np.frombuffer(pages, np.uint8)
    return memory[-memory.ctypes.data % LARGE_PAGE :]


def aligned_copy(values: NDArray[np.floating]) -> Values:
    """The values, aligned for vectors."""
    array = aligned(values.shape)
    array[...] = values
    return array


def first_aligned(memory: NDArray[np.uint8]) -> int:
    """The first aligned address of some memory."""
    return -(-memory.ctypes.data // ALIGNMENT) * ALIGNMENT


def addresses(values: Sequence[int]) -> ctypes.Array[ctypes.c_void_p]:
    """Addresses of arrays, as C's `float *const *`."""
    return (ctypes.c_void_p * max(1, len(values)))(*values)
