"""The steps of a group: what each of them needs, makes, loads and stores of every tensor, as boxes of rows and columns.

`Graph` + names + `Tile` ──tables()──> `Tables`: exact, and derived from access relations alone; boxes are hulls where
strides leave holes.

Steps go through images, then blocks of output channels, then strips of columns, then tiles of rows. Where a tensor is
local along columns, tiles of rows come before those of columns.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from polyfuse.errors import InvalidInput
from polyfuse.plan.access import Integers
from polyfuse.plan.axis import Run, Runs, runs
from polyfuse.plan.group import Group, group_of
from polyfuse.plan.operations import Graph

Place = Literal["local", "recompute"]
Places = tuple[Place, Place]
Residence = Literal["resident", "streamed"]
USUAL: Places = ("local", "recompute")
ROWS, COLUMNS = 1, 2


@dataclass(frozen=True)
class Tile:
    """How a group is cut.

    rows       of the reference, that a step takes
    columns    the same; 0 takes all of them
    channels   output channels of a block, for groups of one operation; 0 takes all of them
    retention  for a tensor, whether it is kept along rows and along columns, or made (loaded, for an input) again by
               every tile that needs it; others are kept along rows and made again along columns
    weights    loaded before the first step and kept, or again in every step
    """

    rows: int
    columns: int = 0
    channels: int = 0
    retention: Mapping[str, Places] = field(default_factory=dict)
    weights: Residence = "resident"

    def places(self, tensor: str) -> Places:
        """The places of a tensor along rows and along columns."""
        return self.retention.get(tensor, USUAL)

    def __str__(self) -> str:
        return f"{self.rows} rows{f' x {self.columns} columns' if self.columns else ''}"


@dataclass(frozen=True, eq=False)
class Table:
    """One tensor in every step; boxes are arrays of (steps, 4): row start, row end, column start, column end.

    need      what the step reads of it, or holds as an output
    new       what the step makes or loads
    fresh     what of it was never made before: what is stored of an output
    channels  (steps, 2): the channels of all of these
    origin    (steps, 2): row r and column c of a step lie in the ring at row (r + origin[0]) mod the window's rows, and
              column (c + origin[1]) mod its columns
    turning   the axis that the ring turns along: 0 for rows, 1 for columns; `across` is its extent along the other one
    alive     (steps, 3), along that axis with its origin added: where what is held starts and ends, and where new does
    """

    need: Integers
    new: Integers
    fresh: Integers
    channels: Integers
    origin: Integers
    turning: int
    across: int
    alive: Integers

    def window(self, ahead: bool = False, behind: bool = False) -> tuple[int, int]:
        """The rows and columns of the ring.

        `ahead`: the next step's part is loaded while a step runs. `behind`: the last step's part is stored meanwhile.
        """
        start, end, arriving = self.alive.T
        if ahead:
            end = np.maximum(end, np.append(end[1:], end[-1:]))
        if behind:
            start = np.minimum(start, np.append(start[:1], arriving[:-1]))
        turned = int((end - start).max(initial=0))
        return (turned, self.across) if self.turning == 0 else (self.across, turned)


@dataclass(frozen=True, eq=False)
class Tables:
    """All steps of a group.

    image     (steps,): the image of the batch
    of        the table of each tensor
    taken_in  for each operation that accumulates, the boxes of its operand that it adds up, (steps, 4): from the first
              step of an image and a block of channels on, until it makes its output in the last
    """

    group: Group
    tile: Tile
    steps: int
    image: Integers
    of: Mapping[str, Table]
    taken_in: Mapping[str, Integers]

    @property
    def window(self) -> dict[str, tuple[int, int]]:
        """The rows and columns that each tensor's ring has where no transfer runs while a step computes."""
        return {name: table.window() for name, table in self.of.items()}


def tables(graph: Graph, group: Sequence[str] | Group, tile: Tile) -> Tables:
    """The steps of a group of operations that is cut in tiles.

    Errors: InvalidInput for tiles larger than the reference, blocks of channels of several operations, retention of
    unknown tensors, and tensors that would be kept along rows while tiles go along columns first.

    >>> from polyfuse.network.network import Builder
    >>> from polyfuse.plan.operations import graph_of
    >>> build = Builder("two")
    >>> x = build.input("x", (1, 16, 32, 32))
    >>> y = build.conv("b", build.conv("a", x, 16, kernel=3), 16, kernel=3)
    >>> found = tables(graph_of(build.network(y)), ("a", "b"), Tile(1))
    >>> found.steps, found.window, found.of["x"].new[:4].tolist()
    (30, {'x': (3, 32), 'a_out': (3, 30), 'b_out': (1, 28)}, \
[[0, 3, 0, 32], [3, 4, 0, 32], [4, 5, 0, 32], [5, 6, 0, 32]])
    """
    group = group if isinstance(group, Group) else group_of(graph, group)
    check_tile(group, tile)
    height, width = graph.tensors[group.reference].shape[2:]
    local_rows = kept(group, tile, 0) if tile.rows < height else ()
    rows = trimmed(runs(group, ROWS, np.array([tile.rows]), local_rows))
    local_columns = kept(group, tile, 1) if 0 < tile.columns < width else ()
    columns = trimmed(runs(group, COLUMNS, np.array([tile.columns or width]), local_columns))
    order = Order.of(group, tile, rows, columns, rows_first=bool(local_columns))
    found = {name: table_of(order, name, rows.of[name], columns.of[name]) for name in group.links}
    sums = {
        name: order.boxes(interval, columns.taken_in[name], order.channels_of(group.reference))
        for name, interval in rows.taken_in.items()
    }
    return Tables(group, tile, len(order.row), order.image, found, sums)


def check_tile(group: Group, tile: Tile) -> None:
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
    for name, places in tile.retention.items():
        if name not in group.links:
            raise InvalidInput(
                f"{where}: expected a tensor of the group, got {name!r}; it has {', '.join(group.links)}"
            )
        if len(places) != 2 or any(place not in ("local", "recompute") for place in places):
            raise InvalidInput(f"{where}: expected local or recompute along rows and columns of {name!r}, got {places}")
    several = 0 < tile.columns < shape[3]
    if several and any(tile.places(name)[1] == "local" for name in group.links):
        alone = [name for name in group.links if tile.places(name) == USUAL]
        if alone:
            raise InvalidInput(
                f"{where}: {alone[0]!r} is kept along rows alone and others are kept along columns, "
                "so that tiles go along columns first; keep it along both or along neither"
            )


def kept(group: Group, tile: Tile, d: int) -> tuple[str, ...]:
    """The tensors that are local along rows (0) or columns (1)."""
    return tuple(name for name in group.links if tile.places(name)[d] == "local")


def trimmed(found: Runs) -> Runs:
    """The runs of one tile size without the tiles in which nothing happens before and after all others."""
    busy = np.zeros(len(found.tiles), bool)
    for start, end in (*(run.new for run in found.of.values()), *found.taken_in.values()):
        busy |= (start < end)[0]
    used = np.flatnonzero(busy)
    first, last = (int(used[0]), int(used[-1]) + 1) if len(used) else (0, 0)

    def cut(pair: tuple[Integers, Integers]) -> tuple[Integers, Integers]:
        return pair[0][:, first:last], pair[1][:, first:last]

    cut_runs = {
        name: Run(
            cut(run.need),
            cut(run.new),
            cut(run.fresh),
            run.alive[:, first:last],
            run.ahead[:, first:last],
            run.span,
            run.local,
        )
        for name, run in found.of.items()
    }
    sums = {name: cut(interval) for name, interval in found.taken_in.items()}
    return Runs(found.tiles[first:last], found.last, cut_runs, sums)


@dataclass(frozen=True, eq=False)
class Order:
    """Which tile of rows and of columns, which image and which block of channels each step is.

    sweep  counts runs through all tiles of the inner axis; turn: through all tiles of both
    """

    group: Group
    channels: int
    image: Integers
    block: Integers
    row: Integers
    column: Integers
    sweep: Integers
    turn: Integers

    @staticmethod
    def of(group: Group, tile: Tile, rows: Runs, columns: Runs, rows_first: bool) -> "Order":
        """The order of steps."""
        channels = group.graph.tensors[group.operations[0].output].shape[1]
        blocks = -(-channels // tile.channels) if tile.channels else 1
        outer, inner = (rows, columns) if rows_first else (columns, rows)
        sizes = (group.graph.images, blocks, len(outer.tiles), len(inner.tiles))
        image, block, outside, inside = (index.ravel() for index in np.indices(sizes))
        row, column = (outside, inside) if rows_first else (inside, outside)
        turn = image * blocks + block
        return Order(group, tile.channels, image, block, row, column, turn * sizes[2] + outside, turn)

    def channels_of(self, tensor: str) -> Integers:
        """The channels of a tensor that each step works on: (steps, 2)."""
        operation, whole = self.group.operations[0], self.group.graph.tensors[tensor].shape[1]
        start, end = np.zeros_like(self.block), np.full_like(self.block, whole)
        if self.channels:
            made = self.group.graph.tensors[operation.output].shape[1]
            first, stop = self.block * self.channels, np.minimum((self.block + 1) * self.channels, made)
            if tensor == operation.output:
                start, end = first, stop
            else:
                reads = [link.reads[0] for link in self.group.links[tensor]]
                start = np.min([read.begins(first) for read in reads], axis=0)
                end = np.max([read.ends(stop) for read in reads], axis=0)
        some = start < end
        return np.stack([np.where(some, start, 0), np.where(some, end, 0)], axis=1)

    def boxes(
        self, rows: tuple[Integers, Integers], columns: tuple[Integers, Integers], channels: Integers
    ) -> Integers:
        """The product of an interval of rows and one of columns in each step: 0 where one of them is empty."""
        sides = [side[0][index] for pair, index in ((rows, self.row), (columns, self.column)) for side in pair]
        box = np.stack(sides, axis=1)
        box[(box[:, 0] >= box[:, 1]) | (box[:, 2] >= box[:, 3]) | (channels[:, 0] >= channels[:, 1])] = 0
        return box


def table_of(order: Order, tensor: str, rows: Run, columns: Run) -> Table:
    """The table of a tensor, from its runs along rows and columns."""
    channels = order.channels_of(tensor)
    need, new, fresh = (
        order.boxes(pair, other, channels)
        for pair, other in ((rows.need, columns.need), (rows.new, columns.new), (rows.fresh, columns.fresh))
    )
    if columns.local:
        origin, turning, across, alive = ring_along_columns(order, rows, columns, new)
    else:
        origin, turning, across, alive = ring_along_rows(order, rows, columns, new)
    return Table(need, new, fresh, channels, origin, turning, across, alive)


def ring_along_rows(order: Order, rows: Run, columns: Run, new: Integers) -> tuple[Integers, int, int, Integers]:
    """A ring of rows as wide as the widest strip: strips follow each other, as do boxes that are made again."""
    if rows.local:
        shift = order.sweep * int(rows.span[1][0] - rows.span[0][0]) - int(rows.span[0][0])
        alive = [rows.alive[0][order.row] + shift, rows.new[1][0][order.row] + shift, rows.new[0][0][order.row] + shift]
    else:
        heights = new[:, 1] - new[:, 0]
        starts = np.cumsum(heights) - heights
        shift = starts - new[:, 0]
        alive = [starts, starts + heights, starts]
    origin = np.stack([shift, -columns.new[0][0][order.column]], axis=1)
    return origin, 0, int((new[:, 3] - new[:, 2]).max(initial=0)), np.stack(alive, axis=1)


def ring_along_columns(order: Order, rows: Run, columns: Run, new: Integers) -> tuple[Integers, int, int, Integers]:
    """What is kept along columns: whole rows in a ring of rows, or a ring of columns for each row of tiles."""
    begin, span = int(columns.span[0][0]), int(columns.span[1][0] - columns.span[0][0])
    if rows.local:
        shift = order.turn * int(rows.span[1][0] - rows.span[0][0]) - int(rows.span[0][0])
        alive = [rows.alive[0][order.row] + shift, rows.new[1][0][order.row] + shift, rows.new[0][0][order.row] + shift]
        return np.stack([shift, np.full_like(shift, -begin)], axis=1), 0, span, np.stack(alive, axis=1)
    shift = order.sweep * span - begin
    alive = [
        columns.alive[0][order.column] + shift,
        columns.new[1][0][order.column] + shift,
        columns.new[0][0][order.column] + shift,
    ]
    height = int((new[:, 1] - new[:, 0]).max(initial=0))
    return np.stack([-rows.new[0][0][order.row], shift], axis=1), 1, height, np.stack(alive, axis=1)
