"""All tiles of a group, proved to be beaten or priced: the best are found without pricing every one.

    `TileSpace` + `GroupBounds` + options that are known ──cover()──> `Covered`: more options, and bounds of the rest

A tile whose floor (bounds.py) is not below an option that takes no more workspace cannot be better than it. What
no option beats is priced, the most promising first, until nothing is left, or until so much work is done; floors of
the rest are given back, so that a search can bound what it does not know.
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
from polyfuse.plan.price.sheet import Cost, CostTable, tiled_group
from polyfuse.plan.price.space import NOTHING, Cutting, Names, residences, subsets_of
from polyfuse.plan.price.weights import WeightLoads, block_loads, whole_loads
from polyfuse.plan.tiles.axis import Booleans
from polyfuse.plan.tiles.grid import COLUMNS, ROWS
from polyfuse.plan.tiles.profiles import Profile, least_of, profile
from polyfuse.plan.tiles.tables import Tile

MOST_TENSORS = 7
"""Tensors of a group whose ways of being kept are all looked at."""
LOOK, KEPT, STRIP, STEP = 3000, 150, 7000, 2
"""Work is counted in floors of tiles: looking at few takes as long as at `LOOK`; keeping a strip, pricing it, and
pricing one of its steps, as long as at so many."""
BATCH = 24
CELLS = 400_000
POINTS = 24
FloorPoint = tuple[int, int]
"""Bytes of workspace, and the least that is asked for with so many or more."""


@dataclass(frozen=True)
class Front:
    """Options by workspace: what is asked for of each is less than of those before it."""

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

    def beats(self, floor: LowerBound) -> Booleans:
        """Whether an option is no larger and asks for no more than each floor."""
        if not len(self.sizes):
            return np.zeros(floor.workspace.shape, bool)
        index = np.searchsorted(self.sizes, floor.workspace, "right") - 1
        return np.asarray((index >= 0) & (self.asked[np.maximum(index, 0)] <= floor.asked))


@dataclass(frozen=True, eq=False)
class OpenTiles:
    """Tiles that differ in their height alone and are not beaten yet, each with its floor."""

    tile: Tile
    heights: Integers
    floor: LowerBound

    @property
    def least(self) -> tuple[int, int]:
        """What decides which is priced first."""
        return int(self.floor.asked.min()), int(self.floor.workspace.min())


@dataclass(frozen=True, eq=False)
class Covered:
    """Tiles that were priced, as sheets with their costs; floors of all that were not, none where nothing is left.

    whole: whether all tiles were looked at; where not, the floors are not of all. work: how much was done.
    """

    sheets: tuple[tuple[CostTable, Cost], ...]
    floors: tuple[FloorPoint, ...]
    whole: bool
    work: int


@dataclass(frozen=True, eq=False)
class TileSpace:
    """What is known of a group on a machine wherever its tensors are: profiles, ways to load weights."""

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
        """Ways of keeping along rows that differ: where all tiles make the same, one is as good as another."""
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


def cover(model: TileSpace, bounds: GroupBounds, known: Front, room: int, most_work: int) -> Covered:
    """All tiles of a group in one place that take no more room than there is.

    room: bytes of workspace. most_work: as `Covered.work` counts it, about.
    """
    return _Cover(model, bounds, known, room, most_work).covered()


class _Cover:
    """A covering under way."""

    def __init__(self, model: TileSpace, bounds: GroupBounds, known: Front, room: int, most_work: int) -> None:
        self.model, self.bounds, self.front, self.room, self.most_work = model, bounds, known, room, most_work
        self.strips: list[OpenTiles] = []
        self.sheets: list[tuple[CostTable, Cost]] = []
        self.work, self.whole = 0, model.coverable

    def covered(self) -> Covered:
        """Whole images, rows and strips first: what they are proved to be beats many patches."""
        for patches in (False, True):
            for family in self.model.families(patches):
                for load in self.model.loads:
                    if len(family) < 2 or not self.model.coverable or self.any_alive(family[0], load):
                        for cutting in family:
                            self.look(cutting, load)
            self.price()
        return Covered(tuple(self.sheets), tuple(self.left()), self.whole, self.work)

    def sizes(self, cutting: Cutting) -> tuple[Integers, Integers]:
        """The heights and widths of a cutting."""
        heights = np.array(self.model.sizes(ROWS, cutting.cuts_rows))
        return heights, np.array(self.model.sizes(COLUMNS, cutting.cuts_columns))

    def any_alive(self, cutting: Cutting, load: WeightLoads) -> bool:
        """Whether any tile of a family may not be beaten."""
        heights, widths = self.sizes(cutting)
        if not len(heights) or not len(widths):
            return False
        columns = self.model.profile(COLUMNS, cutting.columns, cutting.cuts_columns)
        return any(
            self.alive(self.floor(self.model.least_rows, columns, cutting, part, True)).any()
            for part in parts_of(load.coarse(), len(heights) * len(widths))
        )

    def floor(
        self, rows: Profile, columns: Profile, cutting: Cutting, load: WeightLoads, loose: bool = False
    ) -> LowerBound:
        """The floor of some tiles."""
        found = self.bounds.of(rows, columns, cutting, load, loose)
        self.work += max(LOOK, found.asked.size)
        return found

    def alive(self, floor: LowerBound) -> Booleans:
        """Which tiles are not beaten and fit."""
        return np.asarray(~self.front.beats(floor) & (floor.workspace <= self.room))

    def look(self, cutting: Cutting, load: WeightLoads) -> None:
        """Keep the tiles of a cutting that no option beats."""
        heights, widths = self.sizes(cutting)
        if not len(heights) or not len(widths):
            return
        if self.work > self.most_work:
            self.whole = False
            return
        rows = self.model.profile(ROWS, cutting.rows, cutting.cuts_rows)
        columns = self.model.profile(COLUMNS, cutting.columns, cutting.cuts_columns)
        for part in parts_of(load.coarse(), len(heights) * len(widths)):
            alive = self.alive(self.floor(rows, columns, cutting, part)).any(axis=(1, 2))
            for blocks in part.blocks[alive]:
                some = np.flatnonzero(load.blocks == blocks)
                for fine in parts_of(load.part(slice(some[0], some[-1] + 1)), len(heights) * len(widths)):
                    self.keep(fine, self.floor(rows, columns, cutting, fine), heights, widths, cutting)

    def keep(self, part: WeightLoads, floor: LowerBound, heights: Integers, widths: Integers, cutting: Cutting) -> None:
        """Keep those that are not beaten, strip by strip."""
        retention, alive = cutting.retention(self.model.tensors), self.alive(floor)
        for c, w in np.argwhere(alive.any(axis=1)):
            self.work += KEPT
            if self.work > self.most_work:
                self.whole = False
                return
            which = alive[c, :, w]
            width = int(widths[w]) if cutting.cuts_columns else 0
            tile = Tile(0, width, int(part.channels[c]), retention, part.residence)
            self.strips.append(
                OpenTiles(tile, heights[which], LowerBound(floor.workspace[c, which, w], floor.asked[c, which, w]))
            )

    def price(self) -> None:
        """Price what is not beaten, the most promising first."""
        self.strips.sort(key=lambda strip: strip.least)
        waiting, self.strips = deque(self.strips), []
        while waiting and self.work <= self.most_work:
            batch: list[OpenTiles] = []
            while waiting and len(batch) < BATCH:
                strip = self.unbeaten(waiting.popleft())
                self.work += KEPT
                if strip is not None:
                    batch.append(strip)
            if batch:
                self.add(batch)
        self.strips = list(waiting)

    def unbeaten(self, strip: OpenTiles) -> OpenTiles | None:
        """What is left of a strip."""
        open_ = ~self.front.beats(strip.floor)
        if open_.all():
            return strip
        if not open_.any():
            return None
        return OpenTiles(
            strip.tile, strip.heights[open_], LowerBound(strip.floor.workspace[open_], strip.floor.asked[open_])
        )

    def add(self, batch: Sequence[OpenTiles]) -> None:
        """Price some strips."""
        group, machine = self.model.group, self.model.machine
        cuts = [tiled_group(group, strip.tile, strip.heights.tolist(), machine) for strip in batch]
        sheet = CostTable.of(cuts)
        cost, fits = sheet.cost(self.bounds.sources, self.bounds.sinks), sheet.can_run(self.bounds.sinks)
        self.work += sum(STRIP + STEP * cut.measures.steps.order.busy.size for cut in cuts)
        sheet.forget_steps()
        self.sheets.append((sheet, cost))
        asked = self.bounds.asked(cost.cycles, cost.offchip_bytes, cost.energy_pj, cost.macs)
        self.front = self.front.joined(Front.of(cost.workspace_bytes[fits], asked[fits]))

    def left(self) -> list[FloorPoint]:
        """The floors of what is neither beaten nor priced, as few points."""
        rest = [strip for strip in map(self.unbeaten, self.strips) if strip is not None]
        if not rest:
            return []
        sizes = np.concatenate([strip.floor.workspace for strip in rest])
        asked = np.concatenate([strip.floor.asked for strip in rest])
        return few(Front.of(sizes, asked))


def few(front: Front) -> list[FloorPoint]:
    """Points below a front: some of its sizes, each with the least that is asked for before the next."""
    cuts = np.unique(np.linspace(0, len(front.sizes), min(POINTS, len(front.sizes)) + 1).astype(int))
    return [(int(front.sizes[start]), int(front.asked[end - 1])) for start, end in pairwise(cuts)]
