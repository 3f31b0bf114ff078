"""The steps of a group: the boxes of rows and columns of each tensor that a step needs, makes, loads and stores.

    `Graph` + names + `Tile` ──tables()──> `Tables`

Tables are exact, and derived from access relations alone; boxes are hulls where strides leave holes.

Steps go through images, then blocks of output channels, then strips of columns, then tiles of rows. Where a tensor is
local along columns, tiles of rows come before those of columns.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from polyfuse.errors import InvalidInput
from polyfuse.plan.graph.access import Integers
from polyfuse.plan.graph.group import OperationGroup, group_of
from polyfuse.plan.graph.operations import Graph
from polyfuse.plan.tiles.grid import Box, Cells, Grid, Order, grid

Retention = Literal["local", "recompute"]
AxisRetention = tuple[Retention, Retention]
Residence = Literal["resident", "streamed"]
USUAL: AxisRetention = ("local", "recompute")


@dataclass(frozen=True)
class Tile:
    """How a group is cut.

    rows       of the reference, that a step takes
    columns    the same; 0 takes all of them
    channels   output channels of a block, for groups of one operation; 0 takes all of them. Blocks load their inputs
               again, unless each is one step that reads all channels
    retention  for a tensor, whether it is kept along rows and along columns, or made (loaded, for an input) again by
               each tile that needs it; others are kept along rows and made again along columns
    weights    loaded before the first step and kept, or again in each step
    """

    rows: int
    columns: int = 0
    channels: int = 0
    retention: dict[str, AxisRetention] = field(default_factory=dict)
    weights: Residence = "resident"

    def __post_init__(self) -> None:
        for tensor, along in self.retention.items():
            if len(along) != 2:
                raise InvalidInput(
                    f"retention of {tensor!r}: expected one along rows and one along columns, got {len(along)}; "
                    "give two of local, recompute"
                )

    def retention_of(self, tensor: str) -> AxisRetention:
        """The retention of a tensor along rows and along columns."""
        return self.retention.get(tensor, USUAL)

    def __str__(self) -> str:
        return f"{self.rows} rows{f' x {self.columns} columns' if self.columns else ''}"


@dataclass(frozen=True, eq=False)
class Table:
    """One tensor in every step; boxes are arrays of (steps, 4): row start, row end, column start, column end.

    need      elements that the step reads, or holds as an output
    new       elements that it makes or loads
    fresh     new ones that no step made before: those stored of an output
    channels  (steps, 2): the channels of these boxes
    origin    (steps, 2): row r and column c of a step lie in the ring at row (r + origin[0]) mod the window's rows, and
              column (c + origin[1]) mod its columns
    turning   the axis that the ring turns along: 0 for rows, 1 for columns; `across` is its extent along the other one
    """

    need: Integers
    new: Integers
    fresh: Integers
    channels: Integers
    origin: Integers
    turning: int
    across: int
    cells: Cells

    @property
    def is_unused(self) -> bool:
        """Whether no step makes, loads or reads an element: what reads the tensor sees padding alone."""
        return not any(np.any((box[:, 0] < box[:, 1]) & (box[:, 2] < box[:, 3])) for box in (self.need, self.new))

    def window(self, ahead: bool = False, behind: bool = False) -> tuple[int, int]:
        """The rows and columns of the ring.

        ahead: the next step's elements are loaded while a step runs. behind: the last step's are stored meanwhile.
        """
        rows, columns = self.cells.window(ahead, behind)
        return int(rows[0]), int(columns[0])


@dataclass(frozen=True, eq=False)
class Tables:
    """All steps of a group.

    counts    how many images, blocks of channels, and tiles along the outer and the inner axis: their product
    image     (steps,): the image of the batch
    of        the table of each tensor
    taken_in  for each operation that accumulates, the boxes that it adds up of each tensor, (steps, 4): from the first
              step of an image and a block of channels on, until it makes its output in the last
    """

    group: OperationGroup
    tile: Tile
    steps: int
    counts: tuple[int, int, int, int]
    image: Integers
    of: Mapping[str, Table]
    taken_in: Mapping[str, Mapping[str, Integers]]


def tables(graph: Graph, group: Sequence[str] | OperationGroup, tile: Tile) -> Tables:
    """The steps of a group of operations that is cut in tiles.

    Errors: InvalidInput for tiles larger than the reference, blocks of channels of several operations, retention of
    unknown tensors, and tensors that would be kept along rows while tiles go along columns first.

    >>> from polyfuse.network.network import Builder
    >>> from polyfuse.plan.graph.operations import graph_of
    >>> build = Builder("two")
    >>> x = build.input("x", (1, 16, 32, 32))
    >>> y = build.conv("b", build.conv("a", x, 16, kernel=3), 16, kernel=3)
    >>> found = tables(graph_of(build.network(y)), ("a", "b"), Tile(1))
    >>> found.steps, found.of["x"].window(), found.of["x"].new[:4].tolist()
    (30, (3, 32), [[0, 3, 0, 32], [3, 4, 0, 32], [4, 5, 0, 32], [5, 6, 0, 32]])
    """
    group = group if isinstance(group, OperationGroup) else group_of(graph, group)
    check_tile(group, tile)
    cut = grid_of(group, tile, [tile.rows])
    return Tables(
        group,
        tile,
        cut.order.row.shape[1],
        counts_of(cut.order),
        cut.order.image[0],
        {name: table_of(cells) for name, cells in cut.of.items()},
        {name: {each.tensor: stacked(each.box) for each in taken} for name, taken in cut.taken_in.items()},
    )


def counts_of(order: Order) -> tuple[int, int, int, int]:
    """How many images, blocks, outer and inner tiles the steps of tiles of one height go through."""
    turns, sweeps, steps = int(order.turn[0, -1]) + 1, int(order.sweep[0, -1]) + 1, order.row.shape[1]
    images = int(order.image[0, -1]) + 1
    return images, turns // images, sweeps // turns, steps // sweeps


def grid_of(group: OperationGroup, tile: Tile, heights: Sequence[int]) -> Grid:
    """The steps of tiles of several heights that are otherwise cut as one tile; whole images are one step."""
    height, width = group.graph.tensors[group.reference].shape[2:]
    rows = kept(group, tile, 0) if max(heights) < height else ()
    columns = kept(group, tile, 1) if 0 < tile.columns < width else ()
    return grid(group, heights, tile.columns or width, tile.channels, rows, columns)


def table_of(cells: Cells) -> Table:
    """The table of a tensor in tiles of one height."""
    steps = cells.order.row.shape[1]
    channels = np.stack([np.broadcast_to(edge, (1, steps))[0] for edge in cells.channels], axis=1)
    need, new, fresh = (stacked(box) for box in (cells.need, cells.new, cells.fresh))
    origin = np.stack([edge[0] for edge in cells.shifts], axis=1)
    return Table(need, new, fresh, channels, origin, cells.turning, int(cells.across[0]), cells)


def stacked(box: Box) -> Integers:
    """The boxes of one height: (steps, 4)."""
    return np.stack([edge[0] for edge in (*box.rows, *box.columns)], axis=1)


def check_tile(group: OperationGroup, tile: Tile) -> None:
    """Refuse a tile that the group cannot be cut in.

    Errors: InvalidInput.
    """
    where = f"tile of group {', '.join(operation.name for operation in group.operations)}"
    shape = group.graph.tensors[group.reference].shape
    for key, value, least, most in (("rows", tile.rows, 1, shape[2]), ("columns", tile.columns, 0, shape[3])):
        if not least <= value <= most:
            raise InvalidInput(
                f"{where}: expected {least} to {most} {key} of {group.reference!r}, got {value}; correct it"
            )
    channels = group.graph.tensors[group.operations[0].output].shape[1]
    if tile.channels and (len(group.operations) > 1 or not 0 <= tile.channels <= channels):
        raise InvalidInput(
            f"{where}: expected blocks of channels of one operation, of at most {channels}, got {tile.channels} of "
            f"{len(group.operations)}; take all channels"
        )
    for name, along in tile.retention.items():
        if name not in group.links:
            raise InvalidInput(
                f"{where}: expected retention of a tensor of the group, got {name!r}; it has {', '.join(group.links)}"
            )
        if any(way not in ("local", "recompute") for way in along):
            raise InvalidInput(f"{where}: expected local or recompute along rows and columns of {name!r}, got {along}")
    several = 0 < tile.columns < shape[3]
    if several and any(tile.retention_of(name)[1] == "local" for name in group.links):
        alone = [name for name in group.links if tile.retention_of(name) == USUAL]
        if alone:
            raise InvalidInput(
                f"{where}: {alone[0]!r} is kept along rows alone and others are kept along columns, "
                "so that tiles go along columns first; keep it along both or along neither"
            )


def kept(group: OperationGroup, tile: Tile, d: int) -> tuple[str, ...]:
    """The tensors that are local along rows (0) or columns (1)."""
    return tuple(name for name in group.links if tile.retention_of(name)[d] == "local")
