"""All tiles of a group, each proved to be beaten or priced.

    `TileSpace` + `GroupBounds` + options that are known ──cover()──> `Covered`: more options, and bounds of the rest

A tile whose lower bound (bounds.py) is not below an option that takes no more workspace cannot be better than it.
Tiles that no option beats are priced, the most promising first, until none is left or the effort is spent; the bounds
of the rest are returned, so that a search can bound the tiles it does not know.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

import numpy as np

from polyfuse.machines.accelerator import Accelerator
from polyfuse.plan.graph.access import Integers
from polyfuse.plan.graph.group import OperationGroup
from polyfuse.plan.price.bounds import GroupBounds, LowerBound
from polyfuse.plan.price.compulsory import BoundPoint
from polyfuse.plan.price.costs import Cost, CostTable, tiled_group
from polyfuse.plan.price.space import NOTHING, Cutting, Names, residences, subsets_of
from polyfuse.plan.price.weights import WeightLoads, block_loads, whole_loads
from polyfuse.plan.tiles.axis import Booleans
from polyfuse.plan.tiles.grid import COLUMNS, ROWS
from polyfuse.plan.tiles.profiles import Profile, least_of, profile
from polyfuse.plan.tiles.tables import Tile

MOST_TENSORS = 7
"""Tensors of a group whose ways of being kept are all looked at."""
BOUND, KEEP, PRICE, PRICE_STEP = 3000, 150, 7000, 2
"""Effort, counted in bounds of tiles: at least of a call, of keeping tiles of one width, of pricing them, of a step."""
BATCH = 24
CELLS = 400_000
POINTS = 24


@dataclass(frozen=True)
class Front:
    """A Pareto front of options: workspaces that grow, and asked parts of prices that fall."""

    sizes: Integers
    asked: Integers

    @staticmethod
    def of(sizes: Integers, asked: Integers) -> "Front":
        """The front of some options."""
        order = np.lexsort((asked, sizes))
        sizes, asked = sizes[order], asked[order]
        least = np.minimum.accumulate(asked) if len(asked) else asked
        first = np.ones(len(asked), bool)
        first[1:] = asked[1:] < least[:-1]
        return Front(sizes[first], asked[first])

    def joined(self, other: "Front") -> "Front":
        """Both."""
        return Front.of(np.concatenate([self.sizes, other.sizes]), np.concatenate([self.asked, other.asked]))

    def beats(self, bound: LowerBound) -> Booleans:
        """For each bound, whether an option takes no more workspace and costs no more."""
        if not len(self.sizes):
            return np.zeros(bound.workspace.shape, bool)
        index = np.searchsorted(self.sizes, bound.workspace, "right") - 1
        return np.asarray((index >= 0) & (self.asked[np.maximum(index, 0)] <= bound.asked))


@dataclass(frozen=True, eq=False)
class OpenTiles:
    """Tiles that differ in their height alone and are not beaten yet, each with its bound."""

    tile: Tile
    heights: Integers
    bound: LowerBound

    @property
    def least(self) -> tuple[int, int]:
        """What decides which is priced first."""
        return int(self.bound.asked.min()), int(self.bound.workspace.min())


@dataclass(frozen=True, eq=False)
class Covered:
    """Tiles that were priced, as tables with their costs; bounds of the tiles left, none where none is.

    whole: whether all tiles were looked at; where not, the bounds are not of all. effort: what was spent.
    """

    tables: tuple[tuple[CostTable, Cost], ...]
    bounds_left: tuple[BoundPoint, ...]
    whole: bool
    effort: int


@dataclass(frozen=True, eq=False)
class TileSpace:
    """The tiles of a group on a machine wherever its tensors are: their profiles, and ways to load weights."""

    group: OperationGroup
    machine: Accelerator
    profiles: dict[tuple[int, Names, bool], Profile] = field(default_factory=dict)
    equal: dict[bytes, Profile] = field(default_factory=dict)

    @cached_property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the reference."""
        rows, columns = self.group.graph.tensors[self.group.reference].shape[2:]
        return rows, columns

    @cached_property
    def tensors(self) -> tuple[str, ...]:
        """The tensors of the group."""
        return tuple(self.group.links)

    @cached_property
    def loads(self) -> tuple[WeightLoads, ...]:
        """The ways to load weights."""
        found = [whole_loads(self.group, residence, self.machine) for residence in residences(self.group, self.machine)]
        blocks = block_loads(self.group, self.machine)
        return (*found, blocks) if blocks is not None else tuple(found)

    @property
    def coverable(self) -> bool:
        """Whether all ways of keeping its tensors can be looked at."""
        return len(self.tensors) <= MOST_TENSORS

    def sizes(self, axis: int, cut: bool) -> range:
        """The sizes of tiles along an axis."""
        whole = self.shape[axis - 1]
        return range(1, whole) if cut else range(whole, whole + 1)

    def profile(self, axis: int, local: Names, cut: bool) -> Profile:
        """The profile of an axis that is cut or not."""
        key = (axis, local if cut else NOTHING, cut)
        if key not in self.profiles:
            found = profile(self.group, axis, self.sizes(axis, cut), key[1])
            self.profiles[key] = self.equal.setdefault(found.key, found)
        return self.profiles[key]

    @cached_property
    def rows_alike(self) -> tuple[Names, ...]:
        """Ways to keep tensors along rows, one of those with equal profiles."""
        seen: dict[bytes, Names] = {}
        for local in subsets_of(self.tensors) if self.shape[0] > 1 else ():
            seen.setdefault(self.profile(ROWS, local, True).key, local)
        return tuple(seen.values())

    def families(self, patches: bool) -> Iterator[tuple[Cutting, ...]]:
        """Cuttings that differ in what is kept along rows alone: those that keep tensors along columns, or the others.

        Where there are too many, all tensors are kept along rows, or none.
        """
        alike = self.rows_alike if self.coverable else (NOTHING, frozenset(self.tensors))
        if not patches:
            for cuts_columns in (False, True):
                yield (Cutting(NOTHING, NOTHING, False, cuts_columns),)
                yield tuple(Cutting(rows, NOTHING, True, cuts_columns) for rows in alike)
            return
        for columns in subsets_of(self.tensors) if self.coverable else ():
            if columns:
                yield (Cutting(NOTHING, columns, False, True),)
                yield tuple(Cutting(rows, columns, True, True) for rows in subsets_of(sorted(columns)))

    @cached_property
    def least_rows(self) -> Profile:
        """A profile below all of those of rows that are cut."""
        return least_of([self.profile(ROWS, local, True) for local in self.rows_alike])


def parts_of(load: WeightLoads, tiles: int) -> Iterator[WeightLoads]:
    """A way to load weights, for so few sizes of blocks at one time that arrays of all tiles stay small."""
    some = max(1, CELLS // tiles)
    yield from (load.part(slice(start, start + some)) for start in range(0, len(load.channels), some))


def cover(space: TileSpace, bounds: GroupBounds, known: Front, room: int, most_effort: int) -> Covered:
    """All tiles of a group that take no more workspace than `room` bytes; most_effort: about, as of `Covered`."""
    return _Cover(space, bounds, known, room, most_effort).covered()


class _Cover:
    """A covering under way."""

    def __init__(self, space: TileSpace, bounds: GroupBounds, known: Front, room: int, most_effort: int) -> None:
        self.space, self.bounds, self.front, self.room, self.most_effort = space, bounds, known, room, most_effort
        self.waiting_tiles: list[OpenTiles] = []
        self.tables: list[tuple[CostTable, Cost]] = []
        self.effort, self.whole = 0, space.coverable

    def covered(self) -> Covered:
        """Whole images, rows and columns first: their options beat many patches."""
        for patches in (False, True):
            for family in self.space.families(patches):
                for load in self.space.loads:
                    if len(family) < 2 or not self.space.coverable or self.any_alive(family[0], load):
                        for cutting in family:
                            self.look(cutting, load)
            self.price()
        return Covered(tuple(self.tables), tuple(self.left()), self.whole, self.effort)

    def sizes(self, cutting: Cutting) -> tuple[Integers, Integers]:
        """The heights and widths of a cutting."""
        heights = np.array(self.space.sizes(ROWS, cutting.cuts_rows))
        return heights, np.array(self.space.sizes(COLUMNS, cutting.cuts_columns))

    def any_alive(self, cutting: Cutting, load: WeightLoads) -> bool:
        """Whether any tile of a family may not be beaten."""
        heights, widths = self.sizes(cutting)
        if not len(heights) or not len(widths):
            return False
        columns = self.space.profile(COLUMNS, cutting.columns, cutting.cuts_columns)
        return any(
            self.alive(self.bound(self.space.least_rows, columns, cutting, part, True)).any()
            for part in parts_of(load.coarse(), len(heights) * len(widths))
        )

    def bound(
        self, rows: Profile, columns: Profile, cutting: Cutting, load: WeightLoads, loose: bool = False
    ) -> LowerBound:
        """The bounds of some tiles."""
        found = self.bounds.of(rows, columns, cutting, load, loose)
        self.effort += max(BOUND, found.asked.size)
        return found

    def alive(self, bound: LowerBound) -> Booleans:
        """Which tiles are not beaten and fit."""
        return np.asarray(~self.front.beats(bound) & (bound.workspace <= self.room))

    def look(self, cutting: Cutting, load: WeightLoads) -> None:
        """Keep the tiles of a cutting that no option beats."""
        heights, widths = self.sizes(cutting)
        if not len(heights) or not len(widths):
            return
        if self.effort > self.most_effort:
            self.whole = False
            return
        rows = self.space.profile(ROWS, cutting.rows, cutting.cuts_rows)
        columns = self.space.profile(COLUMNS, cutting.columns, cutting.cuts_columns)
        for part in parts_of(load.coarse(), len(heights) * len(widths)):
            alive = self.alive(self.bound(rows, columns, cutting, part)).any(axis=(1, 2))
            for blocks in part.blocks[alive]:
                some = np.flatnonzero(load.blocks == blocks)
                for fine in parts_of(load.part(slice(some[0], some[-1] + 1)), len(heights) * len(widths)):
                    self.keep(fine, self.bound(rows, columns, cutting, fine), heights, widths, cutting)

    def keep(self, part: WeightLoads, bound: LowerBound, heights: Integers, widths: Integers, cutting: Cutting) -> None:
        """Keep those that are not beaten."""
        retention, alive = cutting.retention(self.space.tensors), self.alive(bound)
        for c, w in np.argwhere(alive.any(axis=1)):
            self.effort += KEEP
            if self.effort > self.most_effort:
                self.whole = False
                return
            which = alive[c, :, w]
            width = int(widths[w]) if cutting.cuts_columns else 0
            tile = Tile(0, width, int(part.channels[c]), retention, part.residence)
            self.waiting_tiles.append(
                OpenTiles(tile, heights[which], LowerBound(bound.workspace[c, which, w], bound.asked[c, which, w]))
            )

    def price(self) -> None:
        """Price the tiles that are not beaten, the most promising first."""
        self.waiting_tiles.sort(key=lambda tiles: tiles.least)
        waiting, self.waiting_tiles = deque(self.waiting_tiles), []
        while waiting and self.effort <= self.most_effort:
            batch: list[OpenTiles] = []
            while waiting and len(batch) < BATCH:
                tiles = self.unbeaten(waiting.popleft())
                self.effort += KEEP
                if tiles is not None:
                    batch.append(tiles)
            if batch:
                self.add(batch)
        self.waiting_tiles = list(waiting)

    def unbeaten(self, tiles: OpenTiles) -> OpenTiles | None:
        """The tiles that are still not beaten."""
        open_ = ~self.front.beats(tiles.bound)
        if open_.all():
            return tiles
        if not open_.any():
            return None
        return OpenTiles(
            tiles.tile, tiles.heights[open_], LowerBound(tiles.bound.workspace[open_], tiles.bound.asked[open_])
        )

    def add(self, batch: Sequence[OpenTiles]) -> None:
        """Price some tiles."""
        group, machine = self.space.group, self.space.machine
        tiled = [tiled_group(group, tiles.tile, tiles.heights.tolist(), machine) for tiles in batch]
        table = CostTable.of(tiled)
        cost, fits = table.cost(self.bounds.sources, self.bounds.sinks), table.can_run(self.bounds.sinks)
        self.effort += sum(PRICE + PRICE_STEP * each.measures.steps.order.busy.size for each in tiled)
        table.forget_steps()
        self.tables.append((table, cost))
        asked = self.bounds.asked(cost.cycles, cost.offchip_bytes, cost.energy_pj, cost.macs)
        self.front = self.front.joined(Front.of(cost.workspace_bytes[fits], asked[fits]))

    def left(self) -> list[BoundPoint]:
        """Bounds of the tiles that are neither beaten nor priced, as few points."""
        rest = [tiles for tiles in map(self.unbeaten, self.waiting_tiles) if tiles is not None]
        if not rest:
            return []
        sizes = np.concatenate([tiles.bound.workspace for tiles in rest])
        asked = np.concatenate([tiles.bound.asked for tiles in rest])
        return few(Front.of(sizes, asked))


def few(front: Front) -> list[BoundPoint]:
    """Points below a front: some of its sizes, each with the least price before the next."""
    cuts = np.unique(np.linspace(0, len(front.sizes), min(POINTS, len(front.sizes)) + 1).astype(int))
    return [(int(front.sizes[start]), int(front.asked[end - 1])) for start, end in pairwise(cuts)]
