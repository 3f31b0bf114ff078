"""What row kernels prefetch: every prefetch is recorded and compared with what is read later."""

import ctypes
from dataclasses import replace

import numpy as np
import pytest

from polyfuse.codegen.build import WARNINGS, Options, compile_shared, load
from polyfuse.codegen.kernel import aligned
from polyfuse.codegen.rows.direct import Direct
from polyfuse.codegen.rows.few_channels import FewChannels
from polyfuse.codegen.rows.kernel import RowKernel, row_kernel
from polyfuse.codegen.rows.regions import regions_of
from polyfuse.codegen.rows.shape import RowShape, Tuning
from polyfuse.codegen.rows.text import prelude
from polyfuse.codegen.rows.tune import tiled
from polyfuse.codegen.rows.winograd import Winograd
from polyfuse.codegen.target import Target
from tests.codegen.rows.images import pointers, workspace

LINE, MOST = 64, 1 << 16
RECORD = f"""\
const void *prefetched[{MOST}]; long long prefetched_count;
#define __builtin_prefetch(place, ...) (prefetched[prefetched_count++ % {MOST}] = (place))
"""
WIDE = Target(8, 16)


def prefetched_by(
    kernel: RowKernel, rows: list[np.ndarray], weights: np.ndarray, out: list[np.ndarray], below: int
) -> list[int]:
    """The lines of 64 bytes that one call prefetches, in order, as their numbers."""
    built = load(compile_shared(f"{prelude(kernel.floats)}{RECORD}{kernel.text}", Options().with_flags(*WARNINGS)))
    bias = np.zeros(1024, np.float32)
    values = [ctypes.c_void_p(a.ctypes.data) for a in (weights, bias)]
    ahead = [ctypes.c_void_p(rows[0].ctypes.data + below), ctypes.c_void_p(out[0].ctypes.data)]
    places = [ctypes.c_ssize_t(0), ctypes.c_ssize_t(0)]
    prefetched_count = ctypes.c_longlong.in_dll(built, "prefetched_count")
    prefetched_count.value = 0
    getattr(built, kernel.name)(pointers(rows), *values, None, pointers(out), *places, *ahead, workspace(kernel))
    count = prefetched_count.value
    assert count <= MOST
    prefetched = (ctypes.c_void_p * MOST).in_dll(built, "prefetched")
    return [prefetched[k] // LINE for k in range(count)]


def lines(first: int, size: int) -> set[int]:
    """The lines that so many bytes lie in."""
    return set(range(first // LINE, (first + size - 1) // LINE + 1))


def whole_lines(floats: int) -> np.ndarray:
    """An array of zeros that begins with a line."""
    memory = aligned((floats + LINE // 4,))
    start = -memory.ctypes.data % LINE // 4
    memory[:] = 0
    return memory[start : start + floats]


@pytest.mark.parametrize(
    ("shape", "tuning"),
    [
        (RowShape("joined", Direct(), 192, 128, 7, height=7), None),
        (RowShape("row", Direct(), 256, 128, 29), Tuning(blocks=2, pixels=6, taps=1)),
        (RowShape("once", Direct(), 256, 128, 5), Tuning(blocks=1, pixels=6, taps=1)),
    ],
)
def test_the_weights_of_a_group_are_asked_for_while_those_of_the_one_before_are_used(
    shape: RowShape, tuning: Tuning | None
) -> None:
    kernel = row_kernel(shape, WIDE, tuning or shape.kind.tuning(shape, WIDE))
    weights = whole_lines(shape.in_channels * shape.out_channels)
    rows = [np.zeros(shape.in_channels * shape.columns, np.float32) for _ in range(shape.height)]
    out = [np.zeros(shape.out_channels * shape.columns, np.float32) for _ in range(shape.height)]
    group = 4 * kernel.tuning.blocks * 8 * shape.in_channels
    prefetched = prefetched_by(kernel, rows, weights, out, 0)
    later = lines(weights.ctypes.data + group, weights.nbytes - group)
    assert later <= set(prefetched)
    assert len(prefetched) <= 2 * weights.nbytes / LINE
    groups = weights.nbytes // group
    each = len(prefetched) // groups
    for index in range(groups - 1):
        following = lines(weights.ctypes.data + (index + 1) * group, group)
        assert following <= set(prefetched[index * each : (index + 1) * each])


@pytest.mark.parametrize("shape", [RowShape("few", Direct(), 64, 64, 29), RowShape("matrix", Direct(), 512, 512, 1)])
def test_few_weights_and_those_used_once_are_not_asked_for(shape: RowShape) -> None:
    assert "__builtin_prefetch" not in row_kernel(shape, WIDE).text


@pytest.mark.parametrize("tiles", [(14, 14), (28, 6)])
def test_chunks_of_tiles_share_the_weights_of_the_next_frequency(tiles: tuple[int, int]) -> None:
    columns, height = tiles
    shape = RowShape("tiles", Winograd(), 32, 32, columns, kernel=(3, 3), outside=(1, 1), height=height)
    kernel = row_kernel(shape, WIDE, tiled(shape, WIDE, 4))
    weights = whole_lines(36 * 32 * 32)
    rows = [np.zeros(32 * columns, np.float32) for _ in range(height + 2)]
    out = [np.zeros(32 * columns, np.float32) for _ in range(height)]
    prefetched = prefetched_by(kernel, rows, weights, out, 0)
    first = 4 * 32 * kernel.tuning.blocks * 8
    assert lines(weights.ctypes.data + first, weights.nbytes - first) <= set(prefetched)


@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("columns", [5, 56])
def test_a_first_layer_prefetches_the_rows_that_the_next_row_reads_and_this_one_does_not(
    stride: int, columns: int
) -> None:
    shape = RowShape("first", FewChannels(), 3, 24, columns, kernel=(3, 3), stride=stride)
    tuning = Tuning(blocks=1, pixels=5, taps=3, prefetch_in=True)
    kernel = row_kernel(shape, WIDE, tuning)
    wide = 4 * shape.in_columns
    image = whole_lines(3 * 16 * shape.in_columns).reshape(3, 16, shape.in_columns)
    rows = [image[c, k] for c in range(3) for k in range(3)]
    prefetched = prefetched_by(
        kernel, rows, np.zeros(3 * 9 * 24, np.float32), [np.zeros(24 * columns, np.float32)], stride * wide
    )
    following = [lines(image[c, row].ctypes.data, wide) for c in range(3) for row in range(max(3, stride), 3 + stride)]
    assert set(prefetched) <= set().union(*following)
    assert all(each - set(prefetched) <= {max(each)} for each in following)


def test_a_first_layer_prefetches_nothing_where_no_row_follows() -> None:
    shape = RowShape("first", FewChannels(), 3, 8, 9, kernel=(3, 3))
    kernel = row_kernel(shape, WIDE, Tuning(pixels=5, taps=3, prefetch_in=True))
    assert kernel.text.count("if (below)") == 2 and "next_in ? next_in - in[0] : 0" in kernel.text


@pytest.mark.parametrize(("channels", "columns", "kernel", "stride"), [(24, 29, 3, 1), (16, 13, 1, 1), (8, 20, 5, 2)])
def test_a_convolution_prefetches_the_row_that_it_is_told(
    channels: int, columns: int, kernel: int, stride: int
) -> None:
    shape = RowShape("conv", Direct(), channels, 8, columns, kernel=(kernel, kernel), stride=stride)
    made = row_kernel(shape, WIDE, replace(shape.kind.tuning(shape, WIDE), prefetch_in=True))
    image = whole_lines((kernel + 1) * channels * shape.in_columns).reshape(kernel + 1, -1)
    weights, out = np.zeros(kernel**2 * channels * 8, np.float32), np.zeros(8 * columns, np.float32)
    prefetched = set(
        prefetched_by(made, list(image[:kernel]), weights, [out], image[kernel].ctypes.data - image.ctypes.data)
    )
    assert prefetched <= lines(image[kernel].ctypes.data, image[kernel].nbytes + LINE)
    used = stride * columns * 8
    for block in image[kernel].reshape(channels // 8, -1):
        assert len(lines(block.ctypes.data, 4 * used) - prefetched) <= 1


def winograd(columns: int, height: int, tile: int, **asks: bool) -> RowKernel:
    shape = RowShape("tiles", Winograd(), 16, 16, columns, kernel=(3, 3), outside=(0, 0), height=height)
    return row_kernel(shape, WIDE, replace(tiled(shape, WIDE, tile), **asks))


def row_lines(row: np.ndarray, first: int, count: int) -> set[int]:
    """The lines of so many columns of a row, `[block][column of 8]`."""
    return set().union(*(lines(block.ctypes.data + 32 * first, 32 * count) for block in row))


@pytest.mark.parametrize("below", [True, False])
@pytest.mark.parametrize(("columns", "height", "tile"), [(58, 12, 4), (30, 24, 6), (13, 8, 2), (96, 7, 6)])
def test_tiles_prefetch_what_the_next_ones_read(columns: int, height: int, tile: int, below: bool) -> None:
    kernel = winograd(columns, height, tile, prefetch_in=True)
    wide = columns + 2
    image = whole_lines((2 * height + 2) * 16 * wide).reshape(2 * height + 2, 2, wide * 8)
    out = [np.zeros(16 * columns, np.float32) for _ in range(height)]
    far = height * image[0].nbytes if below else 0
    prefetched = prefetched_by(kernel, list(image[: height + 2]), np.zeros(2 * 64 * 256, np.float32), out, far)
    whole = lines(image.ctypes.data, image.nbytes)
    found = set(prefetched) & whole
    (region,) = regions_of(kernel.shape, kernel.tuning, kernel.floats)
    later = range(region.batches[0], region.tiles + (region.batches[-1] if below else 0))
    needed = set()
    for number in later:
        band, column = divmod(number, region.across)
        first, count = column * tile, min(tile, columns - column * tile)
        execution, band = divmod(band, region.bands)
        for row in range(band * tile, min(band * tile + tile, height) + 2):
            needed |= row_lines(image[execution * height + row], first, count)
    assert needed <= found
    assert sum(line in whole for line in prefetched) <= 4 * len(found)
    if not below:
        first = min(region.batches[0], region.across) * tile - 2
        assert not found & lines(image[0, 0].ctypes.data, 32 * (first - first % 2))
        assert not found & lines(image[height + 2].ctypes.data + LINE, image[height + 2 :].nbytes - LINE)


@pytest.mark.parametrize(("columns", "height", "tile"), [(58, 12, 4), (30, 24, 6), (13, 8, 2), (96, 7, 6)])
def test_tiles_prefetch_what_they_write(columns: int, height: int, tile: int) -> None:
    kernel = winograd(columns, height, tile, prefetch_out=True)
    rows = [np.zeros(16 * (columns + 2), np.float32) for _ in range(height + 2)]
    out = whole_lines(height * 16 * columns).reshape(height, -1)
    prefetched = set(prefetched_by(kernel, rows, np.zeros(64 * 256, np.float32), list(out), 0))
    assert lines(out.ctypes.data, out.nbytes) <= prefetched
