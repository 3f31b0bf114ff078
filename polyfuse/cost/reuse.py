"""Reuse distances: the bytes of other things that are touched between two touches of a thing.

Enters: touches in order of time, of a run that is repeated again and again. Leaves: distances in bytes. A cache that
holds less than the distance no longer has the thing. Source: Mattson et al., "Evaluation techniques for storage
hierarchies", IBM Systems Journal 9, 1970.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
BLOCK = 256


@dataclass(frozen=True, eq=False)
class Touches:
    """Touches of things, in order.

    things    the number of the thing
    bytes     of it that are touched
    runs      contiguous runs that these bytes lie in
    writes    whether they are written
    kernels   the number of the kernel that touches it
    """

    things: Integers
    bytes: Integers
    runs: Integers
    writes: NDArray[np.bool_]
    kernels: Integers

    def __post_init__(self) -> None:
        assert len({len(part) for part in (self.things, self.bytes, self.runs, self.writes, self.kernels)}) == 1

    @staticmethod
    def joined(parts: "Sequence[Touches]") -> "Touches":
        """One after the other."""
        none = np.zeros(0, np.int64)
        every = [Touches(none, none, none, none.astype(bool), none), *parts]
        return Touches(*(np.concatenate([getattr(part, each.name) for part in every]) for each in fields(Touches)))

    def __len__(self) -> int:
        return len(self.things)

    @cached_property
    def away(self) -> Integers:
        """The distance of each touch, as `distances`."""
        return distances(self)


def distances(touches: Touches) -> Integers:
    """For each touch, the bytes of all things touched since the last touch of this one, and its own; runs repeat.

    >>> sizes = np.array([10, 7, 10, 10])
    >>> distances(Touches(np.array([0, 1, 0, 0]), sizes, np.ones(4, int), np.zeros(4, bool), np.zeros(4, int))).tolist()
    [10, 17, 17, 10]
    """
    count, things, sizes = len(touches), touches.things, touches.bytes
    before = previous(things)
    last = np.full(int(things.max(initial=-1)) + 1, -1)
    last[things] = np.arange(count)
    before = np.where(before < 0, last[things], before + count)
    alive = np.zeros(2 * count, np.int64)
    alive[last[last >= 0]] = sizes[last[last >= 0]]
    found = np.zeros(count, np.int64)
    for start in range(0, count, BLOCK):
        found[start : start + BLOCK] = of_block(start, before, sizes, alive)
    return found


def previous(things: Integers) -> Integers:
    """The touch before each one, of the same thing; -1 for none."""
    order = np.argsort(things, kind="stable")
    same = things[order][1:] == things[order][:-1]
    before = np.full(len(things), -1)
    before[order[1:][same]] = order[:-1][same]
    return before


def of_block(start: int, before: Integers, sizes: Integers, alive: Integers) -> Integers:
    """The distances of a block of touches, in the second of two runs; `alive` goes on behind the block.

    `alive[k]` are the bytes of touch k, counted from the first run on, while it is the last of its thing. A distance is
    what is alive where the block begins, from the last touch on, and what the block itself touches that was not.
    """
    count = len(before)
    last, own = before[start : start + BLOCK], sizes[start : start + BLOCK]
    first = count + start
    here = first + np.arange(len(last))
    until = np.concatenate([[0], np.cumsum(alive[:first])])
    earlier = until[first] - until[np.minimum(last, first)] + np.where(last >= first, sizes[last - count], 0)
    new = (here[None, :] < here[:, None]) & (last[None, :] < last[:, None]) & (here[None, :] > last[:, None])
    alive[first : first + len(last)] = own
    alive[last] = 0
    return np.asarray(earlier + new @ own)
