"""What a Winograd row kernel costs: operations, exactly; bytes of its weights; a price to choose its tile by.

A `winograd` shape with its tuning enters; numbers leave.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from polyfuse.codegen.rows.interpolation import Sum, input_sums, needed, output_sums
from polyfuse.codegen.rows.shape import RowShape, Tuning
from polyfuse.codegen.rows.tiling import Tiling

Unit = Literal["numbers", "vectors"]

FLOP, STORE = 0.3, 1.4
"""What a vector operation and a vector store of a transform take, in multiply-adds of vectors: as measured on Zen 4,
whose stores of 64 bytes hold up its multiply-adds."""

CACHED_BYTES = 24 << 20
CACHE_BYTES, MEMORY_BYTES = 4.0, 0.75
"""What is read in the time of a multiply-add, for each of its floats: weights up to CACHED_BYTES from the last-level
cache for every batch, larger ones from memory."""

GAIN = 0.95
"""A larger tile, which loses more digits, must cost at most this share of a smaller one."""


@dataclass(frozen=True)
class Counts:
    """Operations of one call. A product is a multiplication and an addition; bias, residual and activation are not in.

    `numbers` count channels, `vectors` count blocks of them, as they are executed: products then are multiply-adds of
    vectors, and what fills up the last block counts.
    """

    products: int
    input_additions: int
    input_multiplications: int
    output_additions: int
    output_multiplications: int


def winograd_counts(shape: RowShape, tuning: Tuning, floats: int, unit: Unit = "numbers") -> Counts:
    """The operations of one call of a `winograd` kernel.

    >>> shape = RowShape("conv", "winograd", 8, 8, 12, kernel=(3, 3), height=6)
    >>> winograd_counts(shape, Tuning(tile=6, batch=2, pixels=2), 8).products == 2 * 64 * 8 * 8
    True
    """
    plan = Tiling(shape, tuning, floats)
    vectors = unit == "vectors"
    ins = plan.in_blocks if vectors else shape.in_channels
    outs = plan.out_blocks if vectors else shape.out_channels
    lines = ins * _input_lines(plan)
    added, multiplied = _operations(input_sums(plan.tile))
    sums = [(_operations(part), outs * count) for part, count in _output_lines(plan)]
    return Counts(
        plan.tiles * plan.frequencies * shape.in_channels * outs,
        lines * added,
        lines * multiplied,
        sum(n * count for (n, _), count in sums),
        sum(n * count for (_, n), count in sums),
    )


def _operations(sums: Iterable[Sum]) -> tuple[int, int]:
    """Additions and multiplications."""
    every = tuple(sums)
    return sum(s.additions for s in every), sum(s.multiplications for s in every)


def _input_lines(plan: Tiling) -> int:
    """The transforms in one dimension of one input channel: columns that exist, then rows."""
    left, right = plan.shape.outside
    columns = 0
    for first, tiles in plan.runs():
        low, high = first % plan.across * plan.tile, (first % plan.across + tiles) * plan.tile + 2
        columns += max(0, min(high, plan.shape.span - right) - max(low, left))
    return columns + plan.tiles * plan.side


def _output_lines(plan: Tiling) -> Iterator[tuple[tuple[Sum, ...], int]]:
    """The transforms in one dimension of one output channel, and how many: columns, then the rows that exist."""
    sums = output_sums(plan.tile)
    yield sums, plan.tiles * plan.side
    yield sums, (plan.across - 1) * plan.shape.height
    yield needed(sums, plan.last_columns), plan.shape.height


def weight_bytes(shape: RowShape, tuning: Tuning, floats: int) -> int:
    """The transformed weights, output channels filled up to whole blocks."""
    plan = Tiling(shape, tuning, floats)
    return 4 * plan.frequencies * shape.in_channels * plan.out_blocks * floats


def price(shape: RowShape, tuning: Tuning, floats: int) -> float:
    """About how long a call takes, in multiply-adds of vectors.

    Products, transforms, and reading the weights once for every batch.
    """
    plan = Tiling(shape, tuning, floats)
    counts = winograd_counts(shape, tuning, floats, "vectors")
    flops = counts.input_additions + counts.input_multiplications
    flops += counts.output_additions + counts.output_multiplications
    stores = plan.in_blocks * plan.side * _input_lines(plan) + plan.out_blocks * plan.tiles * plan.frequencies
    stores += plan.out_blocks * (plan.tiles * plan.side * plan.tile + shape.height * shape.columns)
    size = weight_bytes(shape, tuning, floats)
    rate = floats * (CACHE_BYTES if size <= CACHED_BYTES else MEMORY_BYTES)
    return counts.products + FLOP * flops + STORE * stores + size * len(plan.batches) / rate


def direct_price(shape: RowShape, floats: int) -> float:
    """The same of the direct algorithm: its multiply-adds."""
    blocks = -(-shape.out_channels // floats)
    return float(9 * shape.in_channels * blocks * shape.height * shape.columns)


def cheapest_tile(shape: RowShape, tunings: Iterable[Tuning], floats: int) -> Tuning:
    """Of tunings with tiles that grow, the one that a larger tile no longer makes GAIN cheaper."""
    best, *larger = tunings
    for tuning in larger:
        if price(shape, tuning, floats) < GAIN * price(shape, best, floats):
            best = tuning
    return best


def worthwhile(shape: RowShape, tuning: Tuning, floats: int) -> bool:
    """Whether Winograd's algorithm is expected to be faster than the direct one.

    >>> wide = RowShape("conv", "winograd", 64, 64, 56, kernel=(3, 3), outside=(1, 1), height=12)
    >>> row = RowShape("row", "winograd", 64, 64, 56, kernel=(3, 3), outside=(1, 1))
    >>> worthwhile(wide, Tuning(tile=6, batch=24), 16), worthwhile(row, Tuning(tile=2, batch=24), 16)
    (True, False)
    """
    return price(shape, tuning, floats) < GAIN * direct_price(shape, floats)
