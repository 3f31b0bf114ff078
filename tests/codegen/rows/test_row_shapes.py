"""Chunks, layouts, targets and refusals of row kernels."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyfuse.choices import DEFAULT_FLAGS
from polyfuse.codegen.build import WARNINGS, Options, compile_shared, find_compiler
from polyfuse.codegen.rows.chunks import chunks, uses
from polyfuse.codegen.rows.direct import Direct
from polyfuse.codegen.rows.elementwise import Add
from polyfuse.codegen.rows.few_channels import FewChannels
from polyfuse.codegen.rows.gather import GatherRows
from polyfuse.codegen.rows.grouped import Grouped
from polyfuse.codegen.rows.kernel import row_kernel
from polyfuse.codegen.rows.pack import packed_bias, packed_weights
from polyfuse.codegen.rows.shape import RowShape, Tuning, balanced
from polyfuse.codegen.rows.stencil import Stencil
from polyfuse.codegen.rows.text import prelude
from polyfuse.codegen.rows.windows import Depthwise, MaxPool
from polyfuse.codegen.rows.winograd import Winograd
from polyfuse.codegen.target import Target, probe
from polyfuse.errors import InvalidInput
from tests.codegen.rows.images import blocked, planar

CONV = RowShape("conv", Direct(), 8, 8, 20, kernel=(3, 3), outside=(1, 1))


@given(st.integers(1, 200), st.integers(1, 30))
def test_chunks_are_balanced_and_as_few_as_possible(total: int, most: int) -> None:
    parts = balanced(total, most)
    assert sum(parts) == total and max(parts) <= most and max(parts) - min(parts) <= 1
    assert (len(parts) - 1) * most < total


@given(
    st.integers(1, 12), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.integers(1, 5),
    st.integers(0, 3), st.integers(0, 3),
)  # fmt: skip
def test_chunks_together_use_every_tap_inside_once(
    columns: int, kernel: int, stride: int, dilation: int, most: int, left: int, right: int
) -> None:
    span = stride * (columns - 1) + dilation * (kernel - 1) + 1
    if left + right >= span:
        return
    shape = RowShape(
        "conv", Direct(), 4, 4, columns, kernel=(1, kernel), stride=stride, dilation=dilation, outside=(left, right)
    )
    found = [
        (stride * chunk.first + column, chunk.first + pixel, tap)
        for chunk in chunks(shape, most)
        for column, pairs in uses(shape, chunk, range(kernel))
        for pixel, tap in pairs
    ]
    every = [(stride * p + dilation * t, p, t) for p in range(columns) for t in range(kernel)]
    assert sorted(found) == sorted(x for x in every if left <= x[0] < span - right)


def test_weights_are_packed_in_the_order_of_the_loops() -> None:
    """By hand: V = 4, two blocks at once, five input channels, one row, two taps held together."""
    shape = RowShape("conv", Direct(), 5, 8, 3, kernel=(1, 2))
    kernel = row_kernel(shape, Target(4, 16), Tuning(blocks=2, pixels=3, taps=2))
    w = np.arange(8 * 5 * 2, dtype=np.float32).reshape(8, 5, 1, 2)
    order = [w[4 * a + lane, c, 0, t] for c in range(5) for t in range(2) for a in range(2) for lane in range(4)]
    assert packed_weights(kernel, w).tolist() == order


@pytest.mark.parametrize(("stride", "tuned"), [(1, (1, 26)), (2, (2, 11))])
def test_output_blocks_share_columns_that_few_taps_read(stride: int, tuned: tuple[int, int]) -> None:
    shape = RowShape("first", FewChannels(), 3, 32, 112, kernel=(3, 3), stride=stride)
    kernel = row_kernel(shape, Target(16, 32))
    assert (kernel.tuning.blocks, kernel.tuning.pixels) == tuned


def test_weights_of_a_shared_block_hold_channels_in_neighbouring_lanes() -> None:
    shape = RowShape("last", Direct(), 4, 2, 3)
    kernel = row_kernel(shape, Target(8, 16))
    assert kernel.tuning.ways == 4
    w = np.arange(8, dtype=np.float32).reshape(2, 4, 1, 1)
    assert packed_weights(kernel, w).tolist() == [0, 1, 2, 3, 4, 5, 6, 7]


def test_output_channels_are_filled_up_with_zeros() -> None:
    shape = RowShape("depth", Depthwise(), 3, 3, 5, kernel=(1, 2))
    kernel = row_kernel(shape, Target(4, 16))
    w = np.arange(1, 7, dtype=np.float32).reshape(3, 1, 1, 2)
    assert packed_weights(kernel, w).tolist() == [1, 3, 5, 0, 2, 4, 6, 0]
    assert packed_bias(kernel, np.ones(3)).tolist() == [1, 1, 1, 0]


@given(st.integers(1, 20), st.integers(1, 3), st.integers(1, 5), st.sampled_from([4, 8, 16]))
def test_blocked_and_back_is_the_same(channels: int, rows: int, columns: int, floats: int) -> None:
    image = np.random.default_rng(0).standard_normal((channels, rows, columns)).astype(np.float32)
    there = blocked(image, floats)
    assert there.shape == (rows, -(-channels // floats), columns, floats)
    assert np.array_equal(planar(there, channels), image)


def test_the_target_is_what_the_compiler_says_it_may_use() -> None:
    compiler = find_compiler()
    wide = probe(compiler, DEFAULT_FLAGS)
    assert wide.floats in (4, 8, 16)
    if wide.floats == 16:
        assert probe(compiler, (*DEFAULT_FLAGS, "-mno-avx512f")) == Target(8, 16)
        assert probe(compiler, ("-O3", "-march=x86-64")) == Target(4, 16)


def test_kernels_of_several_widths_share_a_file() -> None:
    kernels = [row_kernel(replace(CONV, name=f"conv{v}"), Target(v, 16)) for v in (4, 8)]
    source = "\n".join([prelude(4), prelude(8), prelude(4), *(k.text for k in kernels)])
    compile_shared(source, Options().with_flags(*WARNINGS))


def test_the_header_says_layer_shape_and_layout() -> None:
    head = row_kernel(replace(CONV, activation="relu6", residual="before"), Target(8, 16)).text.split("*/")[0]
    for said in ("conv: direct 3x3", "8 -> 8 channels", "20 columns", "outside 1 and 1", "[block][column][8]",
                 "bias yes", "activation relu6", "residual before", "accumulators 1 x 10, 10"):  # fmt: skip
        assert said in head, said


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"columns": 0}, "at least 1"),
        ({"outside": (11, 11)}, "no input"),
        ({"kind": Depthwise(), "out_channels": 16}, "as many channels"),
        ({"kind": Stencil()}, "one channel and stride 1"),
        ({"height": 2}, "only stencil, winograd and pointwise direct"),
        ({"kind": Winograd(), "stride": 2}, "winograd expects kernel"),
        ({"kind": Grouped(0)}, "at least 1"),
        ({"kind": GatherRows(((0, 1),)), "kernel": (1, 1), "outside": (0, 0)}, "a source for each channel"),
        ({"kind": Depthwise(), "apart": 2}, "only direct puts outputs 2 columns apart"),
        ({"kind": Stencil(), "in_channels": 1, "out_channels": 1, "activation": "prelu"}, "prelu expects blocked rows"),
        ({"kind": Add()}, "no window"),
        ({"kind": MaxPool(), "outside": (3, 0)}, "all outside"),
        ({"in_pitch": 3}, "pitch"),
        ({"out_pitch": 3}, "pitch"),
        ({"activation": "softmax"}, "expected one of"),
    ],
)
def test_shapes_that_are_none_are_refused(changes: dict[str, object], match: str) -> None:
    with pytest.raises(InvalidInput, match=match):
        row_kernel(replace(CONV, **changes), Target(8, 16))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("shape", "tuning", "match"),
    [
        (CONV, Tuning(pixels=0), "at least 1"),
        (CONV, Tuning(blocks=2), "divides 1 blocks"),
        (CONV, Tuning(unroll=3), "do not divide"),
        (CONV, Tuning(ways=2), "ways do not fit"),
        (replace(CONV, kind=Direct(2)), None, "expect a multiple of 8"),
        (replace(CONV, kind=Depthwise()), Tuning(unroll=2), "only direct"),
    ],
)
def test_tunings_that_do_not_suit_are_refused(shape: RowShape, tuning: Tuning | None, match: str) -> None:
    with pytest.raises(InvalidInput, match=match):
        row_kernel(shape, Target(8, 16), tuning)


def test_targets_and_weights_of_another_shape_are_refused() -> None:
    with pytest.raises(InvalidInput, match="4, 8 or 16"):
        Target(5, 16)
    kernel = row_kernel(CONV, Target(8, 16))
    with pytest.raises(InvalidInput, match=r"weights of shape \(8, 8, 3, 3\)"):
        packed_weights(kernel, np.zeros((8, 8, 3)))
    with pytest.raises(InvalidInput, match="a bias of shape"):
        packed_bias(kernel, np.zeros(7))
