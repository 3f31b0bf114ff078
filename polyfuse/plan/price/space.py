"""The space of tiles: all that a plan file can say of how a group is cut, in words and as lists.

    `OperationGroup` ──every_tile()──> `Tile`s, each way of cutting once
    `OperationGroup` ──cuttings_of()──> `Cutting`s: the same without sizes

    rows       1 to all rows of the reference
    columns    1 to all of its columns
    channels   for one operation whose weights have an equal part for each output channel, or that has none: blocks of 1
               to all of them, or none
    retention  each tensor kept or made again along rows, and along columns, in all combinations that are legal
    weights    resident or streamed
    order      that of the tile loops follows from retention: rows inside of columns, or outside where a tensor is kept
               along columns

Two tiles that differ in something without effect are one: retention along an axis that is not cut, the placement of
weights that no step loads again, how a tensor is kept of which no tile reads what another one makes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from polyfuse.machines.accelerator import Accelerator
from polyfuse.plan.graph.group import OperationGroup
from polyfuse.plan.price.sheet import channel_bytes, streamed
from polyfuse.plan.tiles.tables import USUAL, AxisRetention, Residence, Retention, Tile

Names = frozenset[str]
NOTHING: Names = frozenset()
ALL_TILES = "all tiles: rows, columns, channels, retention, weights"
TRIED_TILES = "tiles that are tried"
"""What a certificate is said of."""


@dataclass(frozen=True)
class Cutting:
    """Which tensors are kept along rows and along columns, and whether either axis is cut."""

    rows: Names
    columns: Names
    cuts_rows: bool
    cuts_columns: bool

    @property
    def rows_first(self) -> bool:
        """Whether all columns of a tile of rows come before the next rows."""
        return bool(self.columns)

    def retention(self, tensors: Sequence[str]) -> dict[str, AxisRetention]:
        """What a tile says of each tensor, where it is not the usual."""
        rows = self.rows if self.cuts_rows else (self.columns or frozenset(tensors))
        found: dict[str, AxisRetention] = {}
        for name in tensors:
            along: tuple[Retention, Retention] = (
                "local" if name in rows else "recompute",
                "local" if name in self.columns else "recompute",
            )
            if along != USUAL:
                found[name] = along
        return found


def subsets_of(names: Sequence[str]) -> Iterator[Names]:
    """All subsets, the small ones first."""
    for size in range(len(names) + 1):
        yield from map(frozenset, combinations(names, size))


def cuttings_of(group: OperationGroup) -> Iterator[Cutting]:
    """All legal ways to keep the tensors of a group; of a tensor kept along columns rows may be made again."""
    tensors = list(group.links)
    yield Cutting(NOTHING, NOTHING, False, False)
    for rows in subsets_of(tensors):
        yield Cutting(rows, NOTHING, True, False)
    for columns in subsets_of(tensors):
        yield Cutting(NOTHING, columns, False, True)
        inside = subsets_of(tensors if not columns else sorted(columns))
        for rows in inside:
            yield Cutting(rows, columns, True, True)


def residences(group: OperationGroup, machine: Accelerator) -> tuple[Residence, ...]:
    """The placements of weights that differ where channels are not in blocks."""
    in_steps = any(streamed(group, Tile(1, weights="streamed"), o, machine) for o in group.operations)
    usual = all(
        streamed(group, Tile(1), o, machine) == streamed(group, Tile(1, weights="streamed"), o, machine)
        for o in group.operations
    )
    return ("resident",) if machine.weights_in_place or not in_steps or usual else ("resident", "streamed")


def blocks_of(group: OperationGroup) -> range:
    """The channels of a block, where one operation may be cut in such."""
    (operation, *others) = group.operations
    if others or (operation.weight_bytes and not channel_bytes(group.graph, operation)):
        return range(0)
    return range(1, group.graph.tensors[operation.output].shape[1] + 1)


def every_tile(group: OperationGroup, machine: Accelerator) -> Iterator[Tile]:
    """All tiles of a group; there are many."""
    rows, columns = group.graph.tensors[group.reference].shape[2:]
    loads: list[tuple[int, Residence]] = [(0, residence) for residence in residences(group, machine)]
    loads += [(channels, "resident") for channels in blocks_of(group)]
    for cutting in cuttings_of(group):
        retention = cutting.retention(list(group.links))
        for height in range(1, rows) if cutting.cuts_rows else [rows]:
            for width in range(1, columns) if cutting.cuts_columns else [0]:
                for channels, residence in loads:
                    yield Tile(height, width, channels, retention, residence)
