"""What a Winograd row kernel costs: operations, exactly; bytes of its weights; a price to choose its tile by.

A `winograd` shape with its tuning enters; numbers leave.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass
from functools import lru_cache
from typing import Literal

from polyfuse.codegen.c.elements import FLOAT
from polyfuse.codegen.rows.interpolation import Sum, input_sums, needed, output_sums
from polyfuse.codegen.rows.regions import Region, frequencies, regions_of, transforms, weight_floats, workspace_bytes
from polyfuse.codegen.rows.shape import RowShape, Tuning, balanced

Unit = Literal["numbers", "vectors"]

FLOP, STORE = 0.3, 1.4
"""What a vector operation and a vector store of a transform take, in multiply-adds of vectors: as measured on Zen 4,
whose stores of 64 bytes hold up its multiply-adds."""

SHARE_BYTES, CACHED_BYTES = 8 << 20, 24 << 20
CACHE_BYTES, MEMORY_BYTES = 4.0, 0.75
"""What is read in the time of a multiply-add, for each of its floats: weights up to CACHED_BYTES from the last-level
cache for every batch, larger ones from memory. Those beyond SHARE_BYTES come from memory for the first batch: other
layers' have taken their place since the last run."""

CHAINS = 8
"""Multiply-adds in flight at once: fewer accumulators take as long as this many."""

GAIN = 0.95
"""A larger tile, which loses more digits, must cost at most this share of a smaller one."""

EDGE_GAIN = 0.99
"""Smaller tiles at the edges, whose weights take up room, must cost at most this share of what fewer weights cost."""

Calls = Sequence[tuple[RowShape, int]]
"""The kernels of a layer, and how often each is called."""


@dataclass(frozen=True)
class OperationCounts:
    """Operations of one call. A product is a multiplication and an addition; bias, residual and activation are not in.

    `numbers` count channels, `vectors` count blocks of them, as they are executed: products then are multiply-adds of
    vectors, and what fills up the last block counts.
    """

    products: int = 0
    input_additions: int = 0
    input_multiplications: int = 0
    output_additions: int = 0
    output_multiplications: int = 0

    def __add__(self, other: "OperationCounts") -> "OperationCounts":
        return OperationCounts(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


def winograd_counts(shape: RowShape, tuning: Tuning, floats: int, unit: Unit = "numbers") -> OperationCounts:
    """The operations of one call of a `winograd` kernel.

    >>> from polyfuse.codegen.rows.winograd import Winograd
    >>> shape = RowShape("conv", Winograd(), 8, 8, 12, kernel=(3, 3), height=6)
    >>> winograd_counts(shape, Tuning(tile=6, batch=2, pixels=2), 8).products == 2 * 64 * 8 * 8
    True
    """
    regions = regions_of(shape, tuning, floats)
    return sum((_region_counts(region, unit) for region in regions), OperationCounts())


def _region_counts(region: Region, unit: Unit) -> OperationCounts:
    """The operations of one region."""
    vectors = unit == "vectors"
    ins = region.in_blocks if vectors else region.shape.in_channels
    outs = region.out_blocks if vectors else region.shape.out_channels
    down, across = (_operations(input_sums(m)) for m in region.tile)
    lines = [(ins * _input_columns(region), down), (ins * region.tiles * region.side[0], across)]
    sums = [(outs * count, _operations(part)) for part, count in _output_lines(region)]
    return OperationCounts(
        region.tiles * region.frequencies * region.shape.in_channels * outs,
        *(sum(count * each[k] for count, each in part) for part in (lines, sums) for k in range(2)),
    )


def _operations(sums: Iterable[Sum]) -> tuple[int, int]:
    """Additions and multiplications."""
    every = tuple(sums)
    return sum(s.additions for s in every), sum(s.multiplications for s in every)


def _input_columns(region: Region) -> int:
    """The columns of a run, of one input channel, that exist and are transformed, of all runs."""
    (left, right), wide = region.outside, region.tile[1]
    columns = 0
    for first, tiles in region.runs():
        low, high = first % region.across * wide, (first % region.across + tiles) * wide + 2
        columns += max(0, min(high, len(region.columns) + 2 - right) - max(low, left))
    return columns


def _output_lines(region: Region) -> Iterator[tuple[tuple[Sum, ...], int]]:
    """The transforms in one dimension of one output channel, and how many: columns, then the rows that exist."""
    down, across = map(output_sums, region.tile)
    yield down, region.tiles * region.side[1]
    yield across, (region.across - 1) * len(region.rows)
    yield needed(across, region.last_columns), len(region.rows)


def weight_bytes(shape: RowShape, tuning: Tuning, floats: int) -> int:
    """The transformed weights, for every size of tiles, output channels filled up to whole blocks."""
    return FLOAT.bytes * sum(weight_floats(shape, tile, floats) for tile in transforms(tuning))


def read_bytes(shape: RowShape, tuning: Tuning, floats: int) -> int:
    """The transformed weights that a kernel reads: for the sizes of its tiles."""
    return FLOAT.bytes * sum(weight_floats(shape, region.tile, floats) for region in regions_of(shape, tuning, floats))


@lru_cache(maxsize=4096)
def price(shape: RowShape, tuning: Tuning, floats: int) -> float:
    """About how long a call takes, in multiply-adds of vectors.

    Products, transforms, and reading the weights of a region for each of its batches.
    """
    once, again = read_bytes(shape, tuning, floats), sum(moved for moved, _ in read_again(shape, tuning, floats))
    first, later = (CACHE_BYTES if once <= most else MEMORY_BYTES for most in (SHARE_BYTES, CACHED_BYTES))
    reading = (once / first + again / later) / floats
    return products_price(shape, tuning, floats) + transforms_price(shape, tuning, floats) + reading


def memory_price(shape: RowShape, tuning: Tuning, floats: int) -> float:
    """The price of reading all weights from memory: other layers' have taken their place since the last run."""
    return read_bytes(shape, tuning, floats) / MEMORY_BYTES / floats


def read_again(shape: RowShape, tuning: Tuning, floats: int) -> tuple[tuple[int, int], ...]:
    """For each region the bytes of weights that its batches read after the first, and what is read in between."""
    found = []
    for region in regions_of(shape, tuning, floats):
        held = FLOAT.bytes * weight_floats(shape, region.tile, floats)
        found.append((held * (len(region.batches) - 1), held + workspace_bytes(shape, tuning, floats)))
    return tuple(found)


def products_price(shape: RowShape, tuning: Tuning, floats: int) -> int:
    """The price of the products, with the time for more where accumulators are few."""
    blocks, found = tuning.blocks, 0
    for region in regions_of(shape, tuning, floats):
        accumulators = (blocks * chunk for batch in region.batches for chunk in balanced(batch, tuning.pixels))
        steps = region.frequencies * shape.in_channels * (region.out_blocks // blocks)
        found += steps * sum(max(CHAINS, count) for count in accumulators)
    return found


def transforms_price(shape: RowShape, tuning: Tuning, floats: int) -> float:
    """The price of the transforms of inputs and of products; weights are transformed when they are packed."""
    counts = winograd_counts(shape, tuning, floats, "vectors")
    flops = counts.input_additions + counts.input_multiplications
    flops += counts.output_additions + counts.output_multiplications
    return FLOP * flops + STORE * sum(map(_stores, regions_of(shape, tuning, floats)))


def _stores(region: Region) -> int:
    """Vectors that a region stores: both transforms of inputs, products, both transforms back."""
    (high, wide), (down, _) = region.side, region.tile
    inputs = region.in_blocks * (_input_columns(region) * high + region.tiles * region.frequencies)
    back = region.tiles * wide * down + len(region.rows) * len(region.columns)
    return inputs + region.out_blocks * (region.tiles * region.frequencies + back)


def cheapest_tile(calls: Calls, tunings: Iterable[Iterable[Tuning]], floats: int) -> Tuning:
    """The tuning for all calls. `tunings` come by tile, these growing, and for each tile with any smaller ones."""

    def total(tuning: Tuning) -> float:
        return sum(count * price(shape, tuning, floats) for shape, count in calls)

    def weights(tuning: Tuning) -> int:
        return sum(map(frequencies, transforms(tuning)))

    edged = [_cheapest(total, sorted(each, key=weights), EDGE_GAIN) for each in tunings]
    return _cheapest(total, edged, GAIN)


def _cheapest(total: Callable[[Tuning], float], tunings: Sequence[Tuning], gain: float) -> Tuning:
    """The first tuning, unless a later one costs less than `gain` of it, and so on."""
    best, *later = tunings
    for tuning in later:
        if total(tuning) < gain * total(best):
            best = tuning
    return best


def worthwhile(shape: RowShape, tuning: Tuning, floats: int) -> bool:
    """Whether Winograd's algorithm is expected to be faster than the direct one, whose price is its multiply-adds.

    >>> from polyfuse.codegen.rows.winograd import Winograd
    >>> wide = RowShape("conv", Winograd(), 64, 64, 56, kernel=(3, 3), outside=(1, 1), height=12)
    >>> row = RowShape("row", Winograd(), 64, 64, 56, kernel=(3, 3), outside=(1, 1))
    >>> worthwhile(wide, Tuning(tile=6, batch=24), 16), worthwhile(row, Tuning(tile=2, batch=24), 16)
    (True, False)
    """
    direct = 9 * shape.in_channels * -(-shape.out_channels // floats) * shape.height * shape.columns
    return price(shape, tuning, floats) < GAIN * direct
