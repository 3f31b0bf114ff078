"""What tiles need and make along one axis, composed backwards from the outputs of a group, for many tile sizes at once.

    `OperationGroup` + sizes ──group_intervals()──> `GroupIntervals`: arrays of tile sizes x tiles

A tensor that is local along the axis is made once, as late as the tiles allow: every tile makes what is new to it, and
tiles before tile 0 make the halo at the border, as `shifted` placement does. One that is recomputed is made by every
tile that needs it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from polyfuse.plan.graph.access import MARGIN, NONE, Integers
from polyfuse.plan.graph.group import Link, OperationGroup

Booleans = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class AxisIntervals:
    """One tensor along one axis: arrays of tile sizes x tiles, of starts and ends of intervals.

    need    what is read of it in the tile, or held as an output
    new     what is made or loaded in the tile
    fresh   what of it was never made before: what is stored
    alive   where the first element is that the tile reads, makes or loads
    ahead   where the need ends as if the image had no borders
    span    the first and the end of all that is made
    """

    need: tuple[Integers, Integers]
    new: tuple[Integers, Integers]
    fresh: tuple[Integers, Integers]
    alive: Integers
    ahead: Integers
    span: tuple[Integers, Integers]
    local: bool


@dataclass(frozen=True, eq=False)
class GroupIntervals:
    """All tensors of a group along one axis.

    tiles     the numbers of the tiles, from those before tile 0 on
    last      for each tile size, the number of the last tile
    of        the intervals of each tensor
    taken_in  for each accumulating operation, what it adds up of each tensor in each tile
    """

    tiles: Integers
    last: Integers
    of: Mapping[str, AxisIntervals]
    taken_in: Mapping[str, Mapping[str, tuple[Integers, Integers]]]


@lru_cache(maxsize=32)
def group_intervals(group: OperationGroup, axis: int, sizes: tuple[int, ...], local: frozenset[str]) -> GroupIntervals:
    """The intervals of all tensors along rows (axis 1) or columns (axis 2), for tiles of so many of the reference's.

    `local` are the tensors that are made once and kept; the others are recomputed.
    """
    return Composition(group, axis, np.array(sizes), local).composed()


@dataclass(frozen=True, eq=False)
class Composition:
    """A composition under way: tensors from the outputs back to the inputs."""

    group: OperationGroup
    axis: int
    sizes: Integers
    local: frozenset[str]

    def extent(self, tensor: str) -> int:
        """How many rows or columns a tensor has."""
        return self.group.graph.tensors[tensor].shape[1 + self.axis]

    def tile(self, tensor: str) -> Integers:
        """How many of them a tile takes: its size counts those of the reference, others are cut in proportion."""
        return -(-self.sizes * self.extent(tensor) // self.extent(self.group.reference))

    def is_cut(self, tensor: str) -> bool:
        """Whether tiles cut a tensor: an output that nothing in the group reads, or what is accumulated."""
        if self.group.is_late(tensor):
            return False
        links = self.group.links[tensor]
        return not links or any(self.group.accumulates(link.reader) for link in links)

    def composed(self) -> GroupIntervals:
        """The intervals, each tensor after its readers."""
        cut = [name for name in self.group.links if self.is_cut(name)]
        last = np.max([-(-self.extent(name) // self.tile(name)) for name in cut], axis=0) - 1
        tiles = np.arange(-self.early(), int(last.max()) + 1)
        found: dict[str, AxisIntervals] = {}
        for name in reversed(list(self.group.links)):
            found[name] = self.of_tensor(name, tiles, last, found)
        taken_in = {
            operation.name: {
                name: found[name].new if found[name].local else self.partition(name, tiles)
                for name in self.group.added_up(operation)
            }
            for operation in self.group.operations
            if self.group.accumulates(operation)
        }
        sums = (interval for each in taken_in.values() for interval in each.values())
        made = [*(found[name].new for name in self.group.makers), *sums]
        busy = np.logical_or.reduce([start < end for start, end in made])
        begun = np.logical_or.accumulate(busy, axis=1)
        opening = begun & ~np.pad(begun, ((0, 0), (1, 0)))[:, :-1]
        loaded = {name: loaded_late(found[name], begun, opening) for name in self.group.inputs if found[name].local}
        return GroupIntervals(tiles, last, found | loaded, taken_in)

    def early(self) -> int:
        """How many tiles before tile 0 make or load something.

        A tensor that is read from its end on, or as a whole, is made in the first of them.
        """
        if not self.local:
            return 0
        tiles = -np.arange(1, MARGIN)
        size = int(self.sizes.min())
        ahead: dict[str, Integers] = {}
        for name in reversed(list(self.group.links)):
            links = self.group.links[name]
            further = [link.reads[self.axis].ends_anywhere(ahead[link.reader.output]) for link in links]
            if self.is_cut(name) or not links:
                further.append((tiles + 1) * max(1, size * self.extent(name) // self.extent(self.group.reference)))
            ahead[name] = np.full_like(tiles, -NONE) if self.group.is_late(name) else np.max(further, axis=0)
        begun = np.logical_or.reduce([(ahead[name] > 0) & (ahead[name][-1] <= 0) for name in self.local])
        return int(begun.sum())

    def partition(self, tensor: str, tiles: Integers) -> tuple[Integers, Integers]:
        """The rows or columns of each tile where a tensor is cut."""
        size = self.tile(tensor)[:, None]
        extent = self.extent(tensor)
        return np.clip(tiles * size, 0, extent), np.clip((tiles + 1) * size, 0, extent)

    def of_tensor(
        self, tensor: str, tiles: Integers, last: Integers, found: Mapping[str, AxisIntervals]
    ) -> AxisIntervals:
        """The intervals of a tensor whose readers' intervals are known."""
        shape = (len(self.sizes), len(tiles))
        start, end, ahead = np.full(shape, NONE), np.full(shape, -NONE), np.full(shape, -NONE)
        readers = [link for link in self.group.links[tensor] if not self.group.accumulates(link.reader)]
        demands = [self.read(link, found) for link in readers]
        if self.is_cut(tensor):
            demands.append((*self.partition(tensor, tiles), (tiles + 1) * self.tile(tensor)[:, None]))
        elif not self.group.links[tensor]:
            demands.append(self.at_the_end(tensor, tiles, last))
        for begins, ends, further in demands:
            some = begins < ends
            start = np.minimum(start, np.where(some, begins, NONE))
            end = np.maximum(end, np.where(some, ends, -NONE))
            ahead = np.maximum(ahead, further)
        wanted = tensor in self.group.outputs
        if tensor in self.local:
            return self.kept(tensor, tiles >= last[:, None], start, end, ahead, wanted)
        if wanted and self.group.links[tensor]:
            start, end = self.without_gaps(tensor, tiles, last, start, end)
        return made_again(start, end, ahead)

    def read(self, link: Link, found: Mapping[str, AxisIntervals]) -> tuple[Integers, Integers, Integers]:
        """What a reader needs in each tile: from, to, and to without borders."""
        made, reads = found[link.reader.output], link.reads[self.axis]
        some = made.new[0] < made.new[1]
        begins = np.where(some, reads.begins(made.new[0]), NONE)
        return begins, np.where(some, reads.ends(made.new[1]), -NONE), reads.ends_anywhere(made.ahead)

    def at_the_end(self, tensor: str, tiles: Integers, last: Integers) -> tuple[Integers, Integers, Integers]:
        """All of a late output in the last tile."""
        here, extent = tiles == last[:, None], self.extent(tensor)
        return np.where(here, 0, NONE), np.where(here, extent, -NONE), np.where(here, extent, -NONE)

    def kept(
        self, tensor: str, over: Booleans, start: Integers, end: Integers, ahead: Integers, wanted: bool
    ) -> AxisIntervals:
        """A tensor of which each tile makes what is new."""
        first, stop = start.min(axis=1, keepdims=True), end.max(axis=1, keepdims=True)
        if wanted:
            first, stop = np.zeros_like(first), np.full_like(stop, self.extent(tensor))
        first, stop = np.where(first < stop, first, 0), np.where(first < stop, stop, 0)
        made = np.maximum.accumulate(np.maximum(ahead, end), axis=1)
        ends = np.where(over, stop, np.clip(made, first, stop))
        begins = np.concatenate([first, ends[:, :-1]], axis=1)
        alive = np.minimum(np.where(begins < ends, np.minimum(start, begins), start), ends)
        need = intervals(start, end)
        return AxisIntervals(need, (begins, ends), (begins, ends), alive, ahead, (first[:, 0], stop[:, 0]), True)

    def without_gaps(
        self, tensor: str, tiles: Integers, last: Integers, start: Integers, end: Integers
    ) -> tuple[Integers, Integers]:
        """The need of an output that is read, too: the first tile with any starts at 0, tiles meet, the last ends."""
        extent = self.extent(tensor)
        later = np.minimum.accumulate(np.append(start, np.full((len(start), 1), extent), axis=1)[:, ::-1], axis=1)
        following = np.where(tiles >= last[:, None], extent, later[:, ::-1][:, 1:])
        some = (start < end) | (tiles == last[:, None])
        opening = np.cumsum(some, axis=1) == 1
        return np.where(some & opening, 0, start), np.where(some, np.maximum(end, following), end)


def loaded_late(along: AxisIntervals, begun: Booleans, opening: Booleans) -> AxisIntervals:
    """An input that is not loaded before something is computed: the first such tile loads all until then."""
    first = np.broadcast_to(along.span[0][:, None], begun.shape)
    start = np.where(begun & ~opening, along.new[0], first)
    end = np.where(begun, along.new[1], first)
    alive = np.where(begun, along.alive, first)
    return replace(along, new=(start, end), fresh=(start, end), alive=np.minimum(alive, end))


def made_again(start: Integers, end: Integers, ahead: Integers) -> AxisIntervals:
    """A tensor that every tile makes as it needs it."""
    need = intervals(start, end)
    before = np.maximum.accumulate(end, axis=1)
    before = np.concatenate([np.full((len(end), 1), -NONE), before[:, :-1]], axis=1)
    fresh = intervals(np.maximum(start, before), end)
    first, stop = start.min(axis=1), end.max(axis=1)
    return AxisIntervals(
        need, need, fresh, need[0], ahead, (np.where(first < stop, first, 0), np.maximum(stop, 0)), False
    )


def intervals(start: Integers, end: Integers) -> tuple[Integers, Integers]:
    """Starts and ends, both 0 where there is nothing between them."""
    some = start < end
    return np.where(some, start, 0), np.where(some, end, 0)
