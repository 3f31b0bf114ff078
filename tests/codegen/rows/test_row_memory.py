"""What row kernels touch: nothing outside of their rows, in strips as in whole rows, with prefetching and streaming."""

import ctypes
import subprocess
from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest

from polyfuse.choices import DEFAULT_FLAGS
from polyfuse.codegen.build import SANITIZE, WARNINGS, Options, compile_program, compile_shared, load
from polyfuse.codegen.kernel import aligned
from polyfuse.codegen.rows.convert import ToBlocked, ToPlanar
from polyfuse.codegen.rows.direct import Direct
from polyfuse.codegen.rows.elementwise import Add, Apply, Mul
from polyfuse.codegen.rows.few_channels import FewChannels
from polyfuse.codegen.rows.gather import GatherRows
from polyfuse.codegen.rows.grouped import Grouped
from polyfuse.codegen.rows.interpolation import TILES
from polyfuse.codegen.rows.kernel import RowKernel, row_kernel
from polyfuse.codegen.rows.lrn import Normalised
from polyfuse.codegen.rows.pack import packed_bias, packed_weights
from polyfuse.codegen.rows.pricing import weight_bytes
from polyfuse.codegen.rows.shape import RowShape, Tuning, block_sizes
from polyfuse.codegen.rows.stencil import Stencil
from polyfuse.codegen.rows.text import NAMES, prelude
from polyfuse.codegen.rows.tune import tiled
from polyfuse.codegen.rows.windows import AveragePool, Depthwise, MaxPool
from polyfuse.codegen.rows.winograd import Winograd
from polyfuse.codegen.target import Target
from tests.codegen.rows.images import NAMED, REGISTERS, Case, blocked, pointers, workspace

SANITIZED = [
    RowShape("direct", Direct(), 19, 21, 31, kernel=(3, 3), outside=(1, 1), activation="relu6", residual="before"),
    RowShape("strided", Direct(), 8, 8, 5, kernel=(3, 3), stride=2, outside=(1, 0)),
    RowShape("dilated", Direct(), 4, 4, 3, kernel=(3, 3), dilation=4, outside=(4, 4), activation="silu"),
    RowShape("pointwise", Direct(), 24, 40, 23),
    RowShape("joined", Direct(), 24, 40, 5, stride=2, height=5, residual="after", activation="softplus"),
    RowShape("few", FewChannels(), 3, 24, 17, kernel=(3, 3), stride=2, outside=(1, 1)),
    RowShape("depthwise", Depthwise(), 20, 20, 19, kernel=(5, 5), outside=(2, 2), activation="hard_swish"),
    RowShape("stencil", Stencil(), 1, 1, 37, kernel=(3, 3), outside=(1, 1), height=4, activation="relu"),
    RowShape("largest", MaxPool(), 9, 9, 11, kernel=(3, 3), stride=2, outside=(1, 1)),
    RowShape("mean", AveragePool((1, 0)), 9, 9, 11, kernel=(3, 3), outside=(1, 1)),
    RowShape("add", Add(), 9, 9, 11, activation="relu", residual="after"),
    RowShape("groups", Grouped(5), 20, 30, 13, kernel=(3, 3), outside=(1, 1), activation="softplus"),
    RowShape("taken", GatherRows(tuple((c % 2, 8 - c // 2) for c in range(11))), 9, 11, 13, activation="silu"),
    RowShape("apply", Apply(), 9, 9, 11, activation="tanh"),
    RowShape("spread", Mul(spread=True), 9, 9, 11, activation="silu"),
    RowShape("normal", Normalised(5, 0.1, 0.75, 1.0), 9, 9, 11, activation=("elu", 0.5)),
    RowShape("whole", AveragePool(), 9, 9, 1, kernel=(3, 41)),
    RowShape("wide", Winograd(), 19, 21, 31, kernel=(3, 3), outside=(1, 1), height=7, residual="before"),
    RowShape("strip", Winograd(), 5, 40, 13, kernel=(3, 3), height=12, activation="silu", residual="after"),
    RowShape("corner", Winograd(), 9, 9, 5, kernel=(3, 3), outside=(3, 2), height=1, activation="relu"),
    RowShape("blocks", ToBlocked(), 19, 19, 21),
    RowShape("planes", ToPlanar(), 19, 19, 21),
]


def calling(kernel: RowKernel) -> str:
    """A block of C that gives a kernel rows that are just as large as it may touch; one row is NULL."""
    shape, v = kernel.shape, kernel.floats
    planar_in = shape.kind.name in ("few_channels", "stencil", "to_blocked")
    planar_out = shape.kind.name in ("stencil", "to_planar")
    rows_in = shape.rows_read * (shape.in_channels if planar_in else 1)
    floats_in = shape.in_columns if planar_in else len(block_sizes(shape.in_channels, v)) * shape.in_columns * v
    rows_out = shape.out_channels if shape.kind.name == "to_planar" else shape.height
    floats_out = shape.columns if planar_out else len(block_sizes(shape.out_channels, v)) * shape.columns * v
    per_group = 1 if shape.kind.name == "depthwise" else shape.in_channels
    weights = -(-shape.out_channels // v) * v * per_group * shape.kernel[0] * shape.kernel[1]
    weights = shape.kernel[0] * shape.kernel[1] if shape.kind.name == "stencil" else weights
    weights = weight_bytes(shape, kernel.tuning, v) // 4 if shape.kind.name == "winograd" else weights
    bias = 1 if shape.kind.name == "stencil" else -(-shape.out_channels // v) * v
    absent = f"in[{rows_in - 1}] = 0;" if shape.rows_read > 2 and not shape.joins_rows else ""
    return f"""
  {{
    const float *in[{rows_in}], *residual[{rows_out}];
    float *out[{rows_out}];
    for (int k = 0; k < {rows_in}; k++) in[k] = filled({floats_in});
    for (int k = 0; k < {rows_out}; k++) residual[k] = filled({floats_out}), out[k] = filled({floats_out});
    {absent}
    float *const workspace = filled({kernel.workspace_bytes // 4});
    {kernel.name}(in, filled({weights}), filled({bias}), residual, out, -{shape.outside[0]}, 0, 0, 0, workspace);
  }}"""


@pytest.mark.parametrize("floats", [4, 8, 16])
def test_nothing_outside_is_touched_and_nothing_is_undefined(floats: int) -> None:
    target = Target(floats, REGISTERS[floats])
    wide = [shape for shape in SANITIZED if shape.name == "wide" and floats == 4]
    kernels = [row_kernel(shape, target) for shape in SANITIZED]
    for shape, tile in product(wide, TILES):
        named = replace(shape, name=f"{shape.name}_{tile}")
        kernels.append(row_kernel(named, target, tiled(named, target, tile, (2, 2) if tile == 4 else (0, 0))))
    named = RowShape("edged", Winograd(), 9, 9, 20, kernel=(3, 3), outside=(1, 1), height=10, residual="before")
    kernels.append(row_kernel(named, target, tiled(named, target, 6, (4, 2))))
    filled = (
        "static float *filled(int n) { float *p = malloc(n * sizeof *p); "
        "for (int i = 0; i < n; i++) p[i] = 0.01f * (i % 7); return p; }"
    )
    body = "".join(map(calling, kernels))
    texts = [kernel.text for kernel in kernels]
    source = "\n".join(
        ["#include <stdlib.h>", prelude(floats), filled, *texts, f"int main(void) {{{body}\n}}\n"],
    )
    environment = 'const char *__asan_default_options(void) { return "detect_leaks=0"; }\n'
    program = compile_program(
        "const char *__asan_default_options(void);\n" + environment + source,
        Options(flags=("-std=c11", "-O1", *DEFAULT_FLAGS[2:], *WARNINGS, *SANITIZE)),
    )
    finished = subprocess.run([str(program.executable)], capture_output=True, text=True, timeout=60)
    assert finished.returncode == 0, finished.stderr


def strips(shape: RowShape, cuts: list[int]) -> list[RowShape]:
    """The same row in strips, each with what of it is outside."""
    found = []
    for k, (low, high) in enumerate(pairwise(cuts)):
        first, last = shape.stride * low, shape.stride * (high - 1) + shape.reach
        outside = max(0, shape.outside[0] - first), max(0, last - (shape.span - shape.outside[1]))
        found.append(replace(shape, name=f"{shape.name}_{k}", columns=high - low, outside=outside))
    return found


@pytest.mark.parametrize("kind", ["direct", "depthwise", "max_pool", "average_pool"])
@pytest.mark.parametrize("stride", [1, 2])
def test_strips_make_what_a_whole_row_makes(kind: str, stride: int) -> None:
    """`from` and `to` move; the sums are the same ones in the same order, so they are equal bit for bit."""
    shape = RowShape("whole", NAMED[kind], 12, 12, 21, kernel=(3, 3), stride=stride, outside=(1, 1), bias=False)
    shape = replace(shape, in_pitch=shape.in_columns, out_pitch=21)
    cuts = [0, 5, 6, 13, 21]
    parts = strips(shape, cuts)
    target = Target(8, 16)
    tuning = shape.kind.tuning(shape, target)
    kernels = [row_kernel(s, target, tuning) for s in (shape, *parts)]
    library = load(compile_shared("\n".join([prelude(8), *(k.text for k in kernels)])))
    random = np.random.default_rng(1)
    rows = list(blocked(random.standard_normal((12, 3, shape.in_columns)).astype(np.float32), 8))
    per_group = 1 if kind == "depthwise" else 12
    w = random.standard_normal((12, per_group, 3, 3))
    weights = packed_weights(kernels[0], w) if kind in ("direct", "depthwise") else np.zeros(1, np.float32)
    bias = packed_bias(kernels[0], None)

    def call(kernel: RowKernel, column: int, out: np.ndarray) -> None:
        values = [ctypes.c_void_p(a.ctypes.data) for a in (weights, bias)]
        places = [ctypes.c_ssize_t(stride * column - 1), ctypes.c_ssize_t(column), None, None]
        getattr(library, kernel.name)(pointers(rows), *values, None, pointers([out]), *places, None)

    whole, stripped = (np.full((2, 21, 8), np.nan, np.float32) for _ in range(2))
    call(kernels[0], 0, whole)
    for kernel, column in zip(kernels[1:], cuts, strict=False):
        call(kernel, column, stripped)
    assert np.array_equal(whole, stripped) and not np.isnan(whole).any()


@pytest.mark.parametrize(
    "case",
    [
        Case("direct", (24, 24), (1, 29), (3, 3), padding=(1, 1, 1, 1)),
        Case("direct", (24, 32), (1, 29)),
        Case("direct", (24, 20), (1, 29), (3, 3), padding=(1, 1, 1, 1)),
        Case("direct", (8, 8), (1, 4), (3, 3), dilation=5, padding=(5, 5, 5, 5), tuning=Tuning(pixels=2, taps=1)),
        Case("few_channels", (3, 24), (1, 29), (3, 3), padding=(1, 1, 1, 1)),
        Case("depthwise", (24, 24), (1, 29), (3, 3), padding=(1, 1, 1, 1)),
        Case("stencil", (1, 1), (1, 29), (3, 3), padding=(1, 1, 1, 1)),
        Case("max_pool", (24, 24), (1, 29), (3, 3), padding=(1, 1, 1, 1)),
        Case("add", (24, 24), (1, 29)),
    ],
)
def test_asking_changes_no_value(case: Case) -> None:
    plain = case.row_kernel("plain", 8)
    ahead = row_kernel(
        replace(plain.shape, name="ahead"), Target(8, 16), replace(plain.tuning, prefetch_in=True, prefetch_out=True)
    )
    assert "__builtin_prefetch" in ahead.text and "__builtin_prefetch" not in plain.text
    library = load(compile_shared("\n".join([prelude(8), plain.text, ahead.text]), Options().with_flags(*WARNINGS)))
    size = 4 * 64 * 40
    random = np.random.default_rng(2)
    rows = [random.standard_normal(size).astype(np.float32) for _ in range(9)]
    weights, bias = random.standard_normal(9 * 32 * 32).astype(np.float32), np.zeros(32, np.float32)
    made = []
    for name in ("plain", "ahead"):
        out = np.full(size, np.nan, np.float32)
        values = [ctypes.c_void_p(a.ctypes.data) for a in (weights, bias)]
        places = [ctypes.c_ssize_t(-case.padding[1]), ctypes.c_ssize_t(0)]
        following = [ctypes.c_void_p(rows[0].ctypes.data), ctypes.c_void_p(out.ctypes.data)]
        getattr(library, name)(pointers(rows), *values, None, pointers([out]), *places, *following, None)
        made.append(out)
    assert np.array_equal(*made, equal_nan=True)
    assert len(NAMES) == 10


def test_a_row_of_zeros_is_as_good_as_no_row() -> None:
    shape = RowShape("conv", Direct(), 8, 8, 9, kernel=(3, 3), outside=(1, 1))
    kernel = row_kernel(shape, Target(4, 16), Tuning(pixels=5))
    library = load(compile_shared(kernel.source))
    random = np.random.default_rng(3)
    rows = list(blocked(random.standard_normal((8, 2, 9)).astype(np.float32), 4))
    weights, bias = packed_weights(kernel, random.standard_normal((8, 8, 3, 3))), packed_bias(kernel, None)
    made = []
    for first in (None, np.zeros_like(rows[0])):
        out = np.empty((2, 9, 4), np.float32)
        values = [ctypes.c_void_p(a.ctypes.data) for a in (weights, bias)]
        places = [ctypes.c_ssize_t(-1), ctypes.c_ssize_t(0), None, None]
        library.conv(pointers([first, *rows]), *values, None, pointers([out]), *places, None)
        made.append(out)
    assert np.array_equal(*made)


@pytest.mark.parametrize("residual", ["before", "after"])
def test_a_residual_may_be_the_output_itself(residual: str) -> None:
    shape = RowShape("conv", Direct(), 8, 8, 9, kernel=(3, 3), outside=(1, 1), activation="relu", residual=residual)  # type: ignore[arg-type]
    kernel = row_kernel(shape, Target(4, 16), Tuning(pixels=5))
    library = load(compile_shared(kernel.source))
    random = np.random.default_rng(4)
    rows = list(blocked(random.standard_normal((8, 3, 9)).astype(np.float32), 4))
    weights, bias = packed_weights(kernel, random.standard_normal((8, 8, 3, 3))), packed_bias(kernel, None)
    added = random.standard_normal((2, 9, 4)).astype(np.float32)
    apart, place = np.empty_like(added), added.copy()
    for out, add in ((apart, added), (place, place)):
        values = [ctypes.c_void_p(a.ctypes.data) for a in (weights, bias)]
        places = [ctypes.c_ssize_t(-1), ctypes.c_ssize_t(0), None, None]
        library.conv(pointers(rows), *values, pointers([add]), pointers([out]), *places, None)
    assert np.array_equal(apart, place)


@pytest.mark.parametrize("floats", [4, 8, 16])
@pytest.mark.parametrize(
    "case",
    [
        Case("direct", (24, 24), (1, 29), (3, 3), padding=(1, 1, 1, 1), activation="relu"),
        Case("direct", (24, 20), (1, 29), (3, 3), padding=(1, 1, 1, 1), residual="after"),
        Case("few_channels", (3, 24), (1, 29), (3, 3), padding=(1, 1, 1, 1)),
        Case("depthwise", (24, 24), (1, 29), (3, 3), padding=(1, 1, 1, 1)),
        Case("winograd", (24, 24), (2, 29), (3, 3), padding=(1, 1, 1, 1), height=2),
        Case("max_pool", (24, 24), (1, 29), (3, 3), padding=(1, 1, 1, 1)),
        Case("add", (24, 24), (1, 29)),
    ],
)
def test_streaming_changes_no_value(case: Case, floats: int) -> None:
    plain = case.row_kernel("plain", floats)
    target = Target(floats, REGISTERS[floats])
    streamed = row_kernel(replace(plain.shape, name="streamed", stream=True), target, plain.tuning)
    assert f"STREAM{floats}(o" in streamed.text and f"PUT{floats}(o" not in streamed.text
    assert "STREAM" not in plain.text
    library = load(
        compile_shared("\n".join([prelude(floats), plain.text, streamed.text]), Options().with_flags(*WARNINGS))
    )
    random = np.random.default_rng(2)
    rows = [random.standard_normal(4 * 64 * 40).astype(np.float32) for _ in range(9)]
    weights, bias = random.standard_normal(4 * 64 * 32 * 32).astype(np.float32), np.zeros(32, np.float32)
    made = []
    for name in ("plain", "streamed"):
        outs = [aligned((64 * 40,)) for _ in range(case.height)]
        values = [ctypes.c_void_p(a.ctypes.data) for a in (weights, bias)]
        places = [ctypes.c_ssize_t(-case.padding[1]), ctypes.c_ssize_t(0), None, None]
        places += [workspace(plain)]
        getattr(library, name)(pointers(rows), *values, pointers(rows[-case.height :]), pointers(outs), *places)
        made.append(np.concatenate(outs))
    assert np.array_equal(*made, equal_nan=True) and not np.isnan(made[0]).all()


def test_what_is_read_again_at_once_is_not_streamed() -> None:
    shape = RowShape("conv", Direct(), 8, 8, 9, activation="softplus", stream=True)
    assert "STREAM" not in row_kernel(shape, Target(8, 16)).text
