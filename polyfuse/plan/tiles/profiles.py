"""What all tiles along one axis of a group do: sums over tiles, and the largest of each.

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
    """Arrays of (tensors, sizes), in the order of the group's links; of operations or of their work where it says so.

    steps     how many tiles do anything, for each size
    new       indices made or loaded in all tiles, needed, and stored: `needed`, `fresh`
    loads     how many tiles make or load anything, and store anything: `stores`
    first     indices loaded in the first tile, and stored in the last: `last`
    widest    the most new ones of a tile; `most`: of the need, too
    window    the extent of a ring that turns along this axis; `ahead`: with the next tile's; `behind`: with the last's
    extent    the extent of all that is made
    active    (operations, sizes): in how many tiles each works, or takes in the first tensor that it adds up
    work      (terms, sizes): the work of all tiles; `ending`: of the last one
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


def least_of(profiles: Sequence[Profile]) -> Profile:
    """The least of each entry: below every one of the profiles. Of the work of the last tile it is the most."""
    names = [field.name for field in fields(Profile)]
    return Profile(
        **{n: (np.max if n == "ending" else np.min)([getattr(p, n) for p in profiles], axis=0) for n in names}
    )


def profile(group: OperationGroup, axis: int, sizes: Sequence[int], local: Iterable[str]) -> Profile:
    """The profile of tiles of several sizes along rows (1) or columns (2), `local` of whose tensors are kept."""
    found = group_intervals(group, axis, tuple(sizes), frozenset(local))
    begin, stop = span(found)
    place = np.arange(found.tiles.shape[0])
    used = (place >= begin[:, None]) & (place < stop[:, None])
    row = np.arange(len(sizes))
    boxes = {name: Extents(run, used) for name, run in found.of.items() if name in group.links}
    every = [boxes[name] for name in group.links]
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
        np.array([np.broadcast_to(each.run.span[1] - each.run.span[0], len(sizes)) for each in every]),
        active,
        np.array([(each * used).sum(axis=1) for each in work]).reshape(-1, len(sizes)),
        np.array([each[row, stop - 1] for each in work]).reshape(-1, len(sizes)),
    )


def length(interval: Interval) -> Integers:
    """How long intervals are."""
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

    def __init__(self, run: AxisIntervals, used: Booleans) -> None:
        self.run, self.used = run, used
        self.new, self.need, self.fresh = (length(each) * used for each in (run.new, run.need, run.fresh))

    def window(self, ahead: int, behind: int) -> Integers:
        """The most that is alive in a tile, with the next one's or the last one's where they are steps one by one."""
        if self.run.local:
            start, end, arriving = self.run.alive, self.run.new[1], self.run.new[0]
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
