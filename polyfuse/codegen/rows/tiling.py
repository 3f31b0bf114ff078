"""The tiles of a Winograd row kernel: how many, in which batches, and where their transforms wait.

A `winograd` shape with its tuning enters; a `Tiling` leaves, from which the C, the counts and the workspace follow.

    V  [frequency][in block][tile of the batch][V]                  transformed inputs
    M  [frequency][out block of the group][tile of the batch][V]    products, summed over all input channels

Frequencies are an odd number of cache lines apart: the n*n stores of a tile then fall into different sets of the cache.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from polyfuse.codegen.rows.shape import RowShape, Tuning, balanced, block_sizes

LINE = 64
RUN_BYTES = 10 * 1024
"""What the columns of a run may take up of the innermost cache."""


@dataclass(frozen=True)
class Tiling:
    """`across` tiles a band, `bands` bands of `tile` rows; tiles are counted along bands, band by band."""

    shape: RowShape
    tuning: Tuning
    floats: int

    @property
    def tile(self) -> int:
        """Output rows and columns of a tile, m."""
        return self.tuning.tile

    @property
    def side(self) -> int:
        """Input rows and columns of a tile, n."""
        return self.tuning.tile + 2

    @property
    def frequencies(self) -> int:
        """The products of a tile for a pair of channels."""
        return self.side**2

    @property
    def across(self) -> int:
        """Tiles along a row, the last one perhaps not whole."""
        return -(-self.shape.columns // self.tile)

    @property
    def bands(self) -> int:
        """Rows of tiles, the last one perhaps not whole."""
        return -(-self.shape.height // self.tile)

    @property
    def tiles(self) -> int:
        """All of them."""
        return self.across * self.bands

    @property
    def last_columns(self) -> int:
        """The columns that exist of the last tile of a band."""
        return self.shape.columns - (self.across - 1) * self.tile

    @property
    def last_rows(self) -> int:
        """The rows that exist of the last band."""
        return self.shape.height - (self.bands - 1) * self.tile

    @property
    def batches(self) -> tuple[int, ...]:
        """The tiles of each batch."""
        return balanced(self.tiles, self.tuning.batch)

    @property
    def run(self) -> int:
        """How many tiles of a band are transformed at once, so that they share their columns."""
        column = 4 * self.side * self.floats
        return max(1, min(self.across, self.batches[0], (RUN_BYTES // column - 2) // self.tile))

    def runs(self) -> Iterator[tuple[int, int]]:
        """The first tile of each run, and its tiles: a run ends with its batch and with its band."""
        first = 0
        for batch in self.batches:
            end = first + batch
            while first < end:
                count = min(self.run, end - first, self.across - first % self.across)
                yield first, count
                first += count

    @property
    def run_columns(self) -> int:
        """The input columns of a run."""
        return self.run * self.tile + 2

    @property
    def in_blocks(self) -> int:
        """Blocks of input channels."""
        return len(block_sizes(self.shape.in_channels, self.floats))

    @property
    def out_blocks(self) -> int:
        """Blocks of output channels."""
        return len(block_sizes(self.shape.out_channels, self.floats))

    @property
    def block_floats(self) -> int:
        """From one block of V, and of M, to the next."""
        return self.batches[0] * self.floats

    @property
    def input_floats(self) -> int:
        """From one frequency of V to the next."""
        return _odd_lines(self.in_blocks * self.block_floats)

    @property
    def product_floats(self) -> int:
        """From one frequency of M to the next."""
        return _odd_lines(self.tuning.blocks * self.block_floats)

    @property
    def workspace_floats(self) -> int:
        """V of all input blocks and M of a group of output blocks."""
        return self.frequencies * (self.input_floats + self.product_floats)


def _odd_lines(floats: int) -> int:
    """So many floats, or more: an odd number of cache lines."""
    return (-(-4 * floats // LINE) | 1) * LINE // 4


def workspace_bytes(shape: RowShape, tuning: Tuning, floats: int) -> int:
    """What a kernel of the shape keeps for itself, in each thread: 0 for kinds other than `winograd`."""
    return 4 * Tiling(shape, tuning, floats).workspace_floats if shape.kind == "winograd" else 0
