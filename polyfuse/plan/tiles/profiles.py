"""What tiles along one axis of a group do in all: sums over tiles, and the largest tile.

    `OperationGroup` + axis + sizes + what is kept ──profile()──> `Profile`

Boxes are products of an interval of rows and one of columns, so that a sum over all steps is a product of a sum over
rows and one over columns.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

import numpy as np

from polyfuse.plan.graph.access import Integers
from polyfuse.plan.graph.group import OperationGroup
from polyfuse.plan.tiles.axis import AxisIntervals, Booleans, group_intervals
from polyfuse.plan.tiles.grid import Interval, span


@dataclass(frozen=True, eq=False)
class Profile:
    """Sums over tiles: arrays of (tensors, sizes), in the order of the group's links, where nothing else is said.

    steps     (sizes,): tiles that do anything
    new       indices made or loaded; needed, fresh: indices needed, and stored
    loads     tiles that make or load any index; stores: tiles that store any
    first     indices loaded in the first tile; last: indices stored in the last one
    widest    the most new indices of a tile
    window    the extent of a ring that turns along this axis; ahead, behind: with the next or the last tile's part
    extent    the extent of all indices made
    active    (operations, sizes): tiles in which each works, or takes in the first tensor that it adds up
    work      (terms, sizes): the work of all tiles; ending: of the last one
    """

    steps: Integers
    new: Integers
    needed: Integers
    fresh: Integers
    loads: Integers
    stores: Integers
    first: Integers
    last: Integers
    widest: Integers
    window: Integers
    ahead: Integers
    behind: Integers
    extent: Integers
    active: Integers
    work: Integers
    ending: Integers

    @property
    def key(self) -> bytes:
        """Equal for profiles that are equal."""
        return b"".join(getattr(self, field.name).tobytes() for field in fields(self))

    def upright(self) -> "Profile":
        """Its arrays with sizes along the last axis but one."""
        return Profile(*(getattr(self, field.name)[..., None] for field in fields(self)))


def least_of(profiles: Sequence[Profile]) -> Profile:
    """A profile below all of some: the least of each entry, but the most of `ending`, the work of the last tile."""
    names = [field.name for field in fields(Profile)]
    return Profile(
        **{n: (np.max if n == "ending" else np.min)([getattr(p, n) for p in profiles], axis=0) for n in names}
    )


def profile(group: OperationGroup, axis: int, sizes: Sequence[int], local: Iterable[str]) -> Profile:
    """The profile of tiles of several sizes along rows (1) or columns (2), `local` of whose tensors are kept."""
    found = group_intervals(group, axis, tuple(sizes), frozenset(local))
    begin, stop = span(found)
    number = np.arange(found.tiles.shape[0])
    used = (number >= begin[:, None]) & (number < stop[:, None])
    row = np.arange(len(sizes))
    every = [Extents(found.of[name], used) for name in group.links]
    made: list[list[Interval]] = []
    for operation in group.operations:
        taken = found.taken_in.get(operation.name)
        made.append(list(taken.values()) if taken else [found.of[operation.output].new])
    active = np.array([(length(first) * used > 0).sum(axis=1) for first, *_ in made])
    work = [
        table
        for operation, intervals in zip(group.operations, made, strict=True)
        for interval in intervals
        for table in work_of(group, axis, operation.name, interval, operation.name in found.taken_in)
    ]
    return Profile(
        stop - begin,
        np.array([each.new.sum(axis=1) for each in every]),
        np.array([each.need.sum(axis=1) for each in every]),
        np.array([each.fresh.sum(axis=1) for each in every]),
        np.array([(each.new > 0).sum(axis=1) for each in every]),
        np.array([(each.fresh > 0).sum(axis=1) for each in every]),
        np.array([each.new[row, begin] for each in every]),
        np.array([each.fresh[row, stop - 1] for each in every]),
        np.array([each.new.max(axis=1) for each in every]),
        np.array([each.window(0, 0) for each in every]),
        np.array([each.window(1, 0) for each in every]),
        np.array([each.window(0, 1) for each in every]),
        np.array([np.broadcast_to(each.along.span[1] - each.along.span[0], len(sizes)) for each in every]),
        active,
        np.array([(each * used).sum(axis=1) for each in work]).reshape(-1, len(sizes)),
        np.array([each[row, stop - 1] for each in work]).reshape(-1, len(sizes)),
    )


def length(interval: Interval) -> Integers:
    """The lengths of intervals."""
    return np.maximum(np.asarray(interval[1] - interval[0]), 0)


def work_of(group: OperationGroup, axis: int, name: str, interval: Interval, taken_in: bool) -> list[Integers]:
    """The work of an operation along an axis, term by term, in each tile."""
    if taken_in:
        return [length(interval)]
    some = interval[0] < interval[1]
    start, end = np.where(some, interval[0], 0), np.where(some, interval[1], 0)
    tables = [term[axis] for term in group.analysis.tables[name].work.terms]
    return [table[end] - table[start] for table in tables]


class Extents:
    """The lengths of one tensor's intervals in the tiles that are used."""

    def __init__(self, along: AxisIntervals, used: Booleans) -> None:
        self.along, self.used = along, used
        self.new, self.need, self.fresh = (length(each) * used for each in (along.new, along.need, along.fresh))

    def window(self, ahead: int, behind: int) -> Integers:
        """The most indices alive in a tile, with those of the next or the last one where both are steps."""
        if self.along.local:
            start, end, arriving = self.along.alive, self.along.new[1], self.along.new[0]
        else:
            end = np.cumsum(self.new, axis=1)
            start = arriving = end - self.new
        if ahead:
            together = self.used[:, :-1] & self.used[:, 1:]
            end = np.concatenate([np.where(together, np.maximum(end[:, :-1], end[:, 1:]), end[:, :-1]), end[:, -1:]], 1)
        if behind:
            together = self.used[:, :-1] & self.used[:, 1:]
            start = np.concatenate(
                [start[:, :1], np.where(together, np.minimum(start[:, 1:], arriving[:, :-1]), start[:, 1:])], 1
            )
        return np.asarray(((end - start) * self.used).max(axis=1, initial=0))
