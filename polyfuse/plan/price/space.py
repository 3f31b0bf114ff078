"""The space of tiles: all that a plan file can say of how a group is cut, in words and as lists.

    `Cutting` + sizes + how weights are loaded = `Tile`; search/covering.py goes through all of them

    rows       1 to all rows of the reference
    columns    1 to all of its columns
    channels   for one operation whose weights have an equal part for each output channel, or that has none: blocks of 1
               to all of them, or none
    retention  each tensor kept or made again along rows, and along columns, in all combinations that are legal
    weights    resident or streamed
    order      that of the tile loops follows from retention: rows inside of columns, or outside where a tensor is kept
               along columns

Two tiles that differ in something without effect are one: retention along an axis that is not cut, the loading of
weights that no step loads again, how a tensor is kept of which no tile reads what another one makes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import get_args

from polyfuse.machines.accelerator import Accelerator
from polyfuse.plan.graph.group import OperationGroup
from polyfuse.plan.price.costs import channel_bytes, streamed
from polyfuse.plan.tiles.tables import USUAL, AxisRetention, Residence, Retention, Tile

Names = frozenset[str]
NOTHING: Names = frozenset()
ALL_TILES = "all tiles: rows, columns, channels, retention, weights"
TRIED_TILES = "tiles that are tried"
"""What a certificate holds for."""


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
        """The retention of each tensor that a tile has to name: all but the usual one."""
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


def residences(group: OperationGroup, machine: Accelerator) -> tuple[Residence, ...]:
    """The ways to load weights that differ where channels are not in blocks."""
    resident, other = (streamed(group, Tile(1, weights=weights), machine) for weights in get_args(Residence))
    return ("resident",) if resident == other else get_args(Residence)


def blocks_of(group: OperationGroup) -> range:
    """The channels of a block, where one operation may be cut in such."""
    (operation, *others) = group.operations
    if others or (operation.weight_bytes and not channel_bytes(group.graph, operation)):
        return range(0)
    return range(1, group.graph.tensors[operation.output].shape[1] + 1)
