"""The tiles of a Winograd row kernel: how many, in which batches, and where their transforms wait.

A `winograd` shape with its tuning enters; a `Region` for each of its regions leaves, from which the C, the counts and
the workspace follow. A tile is as large as its transforms along rows and along columns make it. Where tiles do not fit
a map, its last rows, its last columns, or both may have smaller ones (56 = 8 * 6 + 2 * 4): regions of a kernel, each
with its own transforms and transformed weights.

    V  [frequency][in block][tile of the batch][V]                  transformed inputs
    M  [frequency][out block of the group][tile of the batch][V]    products, summed over all input channels

Frequencies are an odd number of cache lines apart: the n*n stores of a tile then fall into different sets of the cache.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, product

from polyfuse.codegen.c.elements import FLOAT
from polyfuse.codegen.rows.shape import RowShape, Tuning, balanced, block_sizes

LINE = 64
RUN_BYTES = 10 * 1024
"""The most bytes of the innermost cache that the columns of a run take up."""

Sizes = tuple[int, int]
"""Of rows and of columns."""


@dataclass(frozen=True)
class Region:
    """Tiles of `tile` outputs that cover the outputs `rows` x `columns` of a kernel, counted band by band.

    `across` tiles are a band, `bands` bands are the region. `weights` is where its transformed weights begin.
    """

    shape: RowShape
    tuning: Tuning
    floats: int
    tile: Sizes
    rows: range
    columns: range
    weights: int = 0

    @property
    def name(self) -> str:
        """What the names of its functions begin with: the kernel's, where it is all of it."""
        return self.shape.name if self.whole else f"{self.shape.name}__{self.tile[0]}x{self.tile[1]}"

    @property
    def whole(self) -> bool:
        """Whether it is all of the kernel, and its weights are the first."""
        return not self.weights and len(self.rows) == self.shape.height and len(self.columns) == self.shape.columns

    @property
    def side(self) -> Sizes:
        """Input rows and columns of a tile."""
        return self.tile[0] + 2, self.tile[1] + 2

    @property
    def frequencies(self) -> int:
        """The products of a tile for a pair of channels."""
        return frequencies(self.tile)

    @property
    def outside(self) -> Sizes:
        """How many columns left of the image and right of it the windows of the region read."""
        left, right = self.shape.outside
        return max(0, left - self.columns.start), max(0, right - (self.shape.columns - self.columns.stop))

    @property
    def across(self) -> int:
        """Tiles along a row, the last one perhaps not whole."""
        return -(-len(self.columns) // self.tile[1])

    @property
    def bands(self) -> int:
        """Rows of tiles, the last one perhaps not whole."""
        return -(-len(self.rows) // self.tile[0])

    @property
    def tiles(self) -> int:
        """All of them."""
        return self.across * self.bands

    @property
    def last_columns(self) -> int:
        """The columns that exist of the last tile of a band."""
        return len(self.columns) - (self.across - 1) * self.tile[1]

    @property
    def last_rows(self) -> int:
        """The rows that exist of the last band."""
        return len(self.rows) - (self.bands - 1) * self.tile[0]

    @property
    def batches(self) -> tuple[int, ...]:
        """The tiles of each batch: as many as the tuning says, more of smaller ones."""
        main = frequencies((self.tuning.tile, self.tuning.tile))
        return balanced(self.tiles, self.tuning.batch * main // self.frequencies)

    @property
    def run(self) -> int:
        """How many tiles of a band are transformed at once, so that they share their columns."""
        column = FLOAT.bytes * self.side[0] * self.floats
        return max(1, min(self.across, self.batches[0], (RUN_BYTES // column - 2) // self.tile[1]))

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
        return self.run * self.tile[1] + 2

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


def regions_of(shape: RowShape, tuning: Tuning, floats: int) -> tuple[Region, ...]:
    """The regions of a kernel, those of larger tiles first; one, where all tiles are alike.

    >>> from polyfuse.codegen.rows.winograd import Winograd
    >>> shape = RowShape("conv", Winograd(), 64, 64, 56, kernel=(3, 3), outside=(1, 1), height=12)
    >>> [(each.tile, each.bands, each.across) for each in regions_of(shape, Tuning(tile=6, batch=12, edge=(4, 4)), 16)]
    [((6, 6), 2, 8), ((6, 4), 2, 2)]
    """
    sizes = zip((shape.height, shape.columns), tuning.edge, strict=True)
    rows, columns = (split(size, tuning.tile, edge) for size, edge in sizes)
    tiles = transforms(tuning)
    ends = accumulate(weight_floats(shape, tile, floats) for tile in tiles)
    starts = dict(zip(tiles, (0, *ends), strict=False))
    return tuple(
        Region(shape, tuning, floats, (high, wide), rows[high], columns[wide], starts[high, wide])
        for high, wide in product(rows, columns)
    )


def split(size: int, tile: int, edge: int) -> dict[int, range]:
    """The outputs along one dimension that tiles of each size make: as few products as `edge`, if not 0, allows.

    >>> split(56, 6, 4), split(12, 6, 4), split(8, 6, 4), split(57, 6, 0)
    ({6: range(0, 48), 4: range(48, 56)}, {6: range(0, 12)}, {4: range(0, 8)}, {6: range(0, 57)})
    """

    def read(large: int) -> int:
        """The input rows, or columns, of so many large tiles and of the smaller ones that make the rest."""
        return large * (tile + 2) + -(-max(0, size - large * tile) // edge) * (edge + 2)

    most = -(-size // tile)
    large = min(range(most, -1, -1), key=read) if edge else most
    end = min(size, large * tile)
    return {m: part for m, part in ((tile, range(end)), (edge, range(end, size))) if part}


def transforms(tuning: Tuning) -> tuple[Sizes, ...]:
    """The sizes of tiles that weights are transformed for, those that a kernel does not use included."""
    rows, columns = ((tuning.tile, edge) if edge else (tuning.tile,) for edge in tuning.edge)
    return tuple(product(rows, columns))


def weight_floats(shape: RowShape, tile: Sizes, floats: int) -> int:
    """The weights transformed for one tile, output channels filled up to whole blocks."""
    return frequencies(tile) * shape.in_channels * len(block_sizes(shape.out_channels, floats)) * floats


def frequencies(tile: Sizes) -> int:
    """The products of a tile for a pair of channels.

    >>> frequencies((6, 4))
    48
    """
    return (tile[0] + 2) * (tile[1] + 2)


def _odd_lines(floats: int) -> int:
    """So many floats, or more: an odd number of cache lines."""
    return (-(-FLOAT.bytes * floats // LINE) | 1) * LINE // FLOAT.bytes


def workspace_bytes(shape: RowShape, tuning: Tuning, floats: int) -> int:
    """The workspace that a call of a `winograd` kernel needs: its regions share it, one after the other."""
    return FLOAT.bytes * max(region.workspace_floats for region in regions_of(shape, tuning, floats))
