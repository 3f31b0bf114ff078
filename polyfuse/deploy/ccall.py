"""The C library of a program, compiled and called as a user of the header would: by position, with memory of its own.

Program + arrays in the model's order ──call_library()──> its outputs in the model's order
"""

import ctypes
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from polyfuse.codegen.build import Options, compile_shared, load
from polyfuse.codegen.kernel import aligned, memory_of, real_array
from polyfuse.codegen.program import Program
from polyfuse.deploy.csignature import C_TYPES, ArrayParameter, parameters
from polyfuse.deploy.library import library
from polyfuse.errors import BuildError
from polyfuse.network.dtypes import Values

NUMPY_TYPES = {ctype: dtype for dtype, ctype in C_TYPES.items()}


def call_library(
    program: Program, arrays: Sequence[ArrayLike | None], threads: int = 1, options: Options | None = None
) -> list[Values]:
    """The outputs of `NAME_run` for an array of each input, in the model's order; None for NULL.

    Errors: those of library, BuildError, and BuildError where `NAME_load` refuses the weights that belong to it.
    """
    made, chosen = library(program, threads=threads), options or Options()
    built = compile_shared(made.source, chosen.for_threads(threads))
    code = load(built)
    weights, arena = memory_of(max(made.weights_bytes, 1)), memory_of(made.arena_bytes)
    with tempfile.TemporaryDirectory(prefix="polyfuse-", ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "weights"
        path.write_bytes(made.weights)
        status = getattr(code, f"{made.name}_load")(str(path).encode(), ctypes.c_void_p(weights.ctypes.data))
    if status:
        raise BuildError(f"library {made.name!r}: {made.name}_load refuses its own weights ({status}); build it again")
    ends = parameters(program)
    memory = [_entering(program, each, array) for each, array in zip(ends, arrays, strict=False)]
    memory += [_leaving(program, each) for each in ends[len(arrays) :]]
    addresses = [ctypes.c_void_p(None if each is None else each.ctypes.data) for each in (weights, arena, *memory)]
    getattr(code, f"{made.name}_run")(*addresses)
    return [_given_back(program, each, value) for each, value in zip(ends, memory, strict=True) if each.kind != "input"]


def _entering(program: Program, end: ArrayParameter, array: ArrayLike | None) -> Values | None:
    """An input as it lies in memory."""
    if end.tensor is None or array is None:
        return None if array is None else np.ascontiguousarray(array)
    memory = aligned(program.array(end.tensor).shape)
    program.array(end.tensor).fill(memory, real_array(end.original, array).reshape(end.tensor.concrete_shape))
    return memory


def _leaving(program: Program, end: ArrayParameter) -> Values:
    """Memory for an output, of NaN where that can be."""
    if end.tensor is not None:
        return aligned(program.array(end.tensor).shape)
    return np.full(end.elements or 0, 0x5A, NUMPY_TYPES[end.ctype])


def _given_back(program: Program, end: ArrayParameter, memory: Values | None) -> Values:
    """An output in the order of its elements; flat where it is no tensor."""
    assert memory is not None
    return memory if end.tensor is None else np.array(program.array(end.tensor).tensor(memory))
