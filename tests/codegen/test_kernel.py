"""Kernels as callables: what they take and refuse, and C that was edited by hand."""

import mmap
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polyfuse.choices import DEFAULT_FLAGS
from polyfuse.codegen.compiler import Toolchain, find_compiler
from polyfuse.codegen.kernel import (
    LARGE_PAGE,
    Kernel,
    Options,
    build,
    compile_programs,
    memory_of,
    rebuild,
    side_by_side,
)
from polyfuse.codegen.lower.program import ALIGNMENT
from polyfuse.codegen.lower.selection import named_selection
from polyfuse.codegen.program import Program, generate
from polyfuse.errors import BuildError, IllegalSchedule, InvalidInput
from polyfuse.network.network import Builder
from polyfuse.schedule.groups import fused
from polyfuse.schedule.strategy import Strategy

QUICK = Options(flags=("-std=c11", "-O0"))
ONES = np.ones((1, 1, 12, 12))


@pytest.fixture(scope="module")
def program() -> Program:
    build = Builder("pair")
    x = build.input("x", (1, 1, 12, 12))
    net = build.network(build.conv("conv2", build.conv("conv1", x, 1, kernel=3, bias=False), 1, kernel=3, bias=False))
    return generate(net, fused(net, Strategy.named("local", (4,))), kernels="scalar")


@pytest.fixture(scope="module")
def kernel(program: Program) -> Kernel:
    return build(program, options=QUICK)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, r"expected \['x'\], got \[\]"),
        ({"y": ONES}, r"expected \['x'\], got \['y'\]"),
        ({"x": ONES[:, :, 1:]}, r"input 'x': expected shape \(1, 1, 12, 12\), got \(1, 1, 11, 12\)"),
        ({"x": None}, "input 'x': expected shape"),
        ({"x": "image.png"}, "input 'x': expected an array of real numbers, got could not convert"),
        ({"x": [[1.0, [2.0]]]}, "input 'x': expected an array of real numbers"),
        ({"x": 1j * ONES}, "input 'x': expected an array of real numbers, got Cannot cast"),
        ({"x": object()}, "input 'x': expected an array of real numbers"),
    ],
)
def test_wrong_arrays_are_refused(kernel: Kernel, inputs: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        kernel(**inputs)


def test_arrays_of_any_numbers_and_layout_are_taken(kernel: Kernel) -> None:
    values = np.arange(144).reshape(1, 1, 12, 12)
    expected = kernel(x=values.astype(np.float32))["conv2_out"]
    for same in (values, values.tolist(), np.asfortranarray(values), values[::-1, ::-1]):
        assert np.array_equal(kernel(x=same)["conv2_out"], expected)
    assert not np.isfinite(kernel(x=values * 1e300)["conv2_out"]).any()


def test_results_outlive_the_next_call(kernel: Kernel) -> None:
    first = kernel(x=ONES)["conv2_out"]
    kept = first.copy()
    kernel(x=2 * ONES)
    assert np.array_equal(first, kept)


@pytest.mark.parametrize(
    ("threads", "error", "message"),
    [(0, InvalidInput, "from 1 to 1,024, got 0"), (-1, InvalidInput, "got -1"), (2, IllegalSchedule, "2 threads")],
)
def test_wrong_threads_are_refused(program: Program, threads: int, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        build(program, threads=threads, options=QUICK)


def test_kernels_that_share_see_the_same_arrays(program: Program) -> None:
    (built,) = compile_programs([program], options=QUICK)
    first = Kernel(program, built)
    second = Kernel(program, built, sharing=first)
    first.set_inputs({"x": ONES})
    second.run()
    assert np.array_equal(first.outputs["conv2_out"], build(program, options=QUICK)(x=ONES)["conv2_out"])


@pytest.fixture
def edited(kernel: Kernel, tmp_path: Path) -> Callable[[str, str], Path]:
    """A copy of the C of the kernel with some text replaced."""

    def edit(old: str, new: str) -> Path:
        source = kernel.built.source.read_text()
        assert old in source
        path = tmp_path / "edited.c"
        path.write_text(source.replace(old, new))
        return path

    return edit


def test_c_edited_by_hand_runs(program: Program, kernel: Kernel, edited: Callable[[str, str], Path]) -> None:
    doubled = rebuild(program, edited("conv2_out[0][0][h][w] = 0.0f;", "conv2_out[0][0][h][w] = 7.0f;"), options=QUICK)
    assert np.allclose(doubled(x=ONES)["conv2_out"], kernel(x=ONES)["conv2_out"] + 7, rtol=1e-6)


def test_a_mistake_in_edited_c_names_file_and_line(program: Program, edited: Callable[[str, str], Path]) -> None:
    path = edited("#include <math.h>", "#include <math.h>\nint mistake(;")
    line = path.read_text().splitlines().index("int mistake(;") + 1
    with pytest.raises(BuildError, match=f"C file '{path}', line {line}: expected C that .* accepts"):
        rebuild(program, path, options=QUICK)


def test_c_that_is_not_there_is_refused(program: Program, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"gone\.c': expected a file of C, got: No such file"):
        rebuild(program, tmp_path / "gone.c", options=QUICK)


@pytest.mark.parametrize("size", [0, 100, LARGE_PAGE - 1, LARGE_PAGE, 3 * LARGE_PAGE + 5])
def test_memory_is_zeroed_aligned_and_large_enough(size: int) -> None:
    memory = memory_of(size)
    assert memory.size >= size and not memory.any()
    large = size >= LARGE_PAGE and hasattr(mmap, "MADV_HUGEPAGE")
    assert memory.ctypes.data % (LARGE_PAGE if large else ALIGNMENT) == 0
    memory[:size] = 7
    assert memory[:size].all()


def test_arrays_side_by_side_are_copies_in_one_piece_of_memory() -> None:
    given = [np.arange(5, dtype=np.float64), np.zeros((0, 3)), np.full((2, 3), 7.5)]
    copies = side_by_side(given)
    assert all(np.array_equal(copy, array) for copy, array in zip(copies, given, strict=True))
    assert all(copy.dtype == np.float32 and copy.ctypes.data % ALIGNMENT == 0 for copy in copies if copy.size)
    assert copies[2].ctypes.data - copies[0].ctypes.data == ALIGNMENT
    copies[0][:] = -1
    assert given[0][0] == 0 and (copies[2] == 7.5).all()


def test_a_program_is_compiled_by_the_toolchain_of_its_target_unless_options_say_otherwise(program: Program) -> None:
    """Selected for the vectors that a compiler has under some flags, it is not built with others by oversight."""
    compiler, flags = find_compiler(), ("-O1", "-march=x86-64" if platform.machine() == "x86_64" else "-g0")
    groups = tuple(group.storage for group in program.groups)
    made = generate(program.network, groups, kernels=named_selection(program.network, flags=flags))
    assert made.selection.target.toolchain == Toolchain(compiler, flags)
    assert [flag for flag in build(made).built.command if flag in flags] == [*flags]
    assert not set(flags) & set(build(made, options=QUICK).built.command)
    assert [flag for flag in build(program).built.command if flag in DEFAULT_FLAGS] == [*DEFAULT_FLAGS]
