"""Pareto fronts of the options of groups, for every place of their inputs and outputs: priced once, asked often.

Problem + Objective ──Fronts.pick()──> `FrontPoint` that fits the free bytes on chip
"""

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from polyfuse.plan.price.costs import Sink, Sinks, Source, Sources
from polyfuse.plan.price.objective import TIE_BITS, Objective
from polyfuse.plan.price.options import Option
from polyfuse.plan.search.ideals import Dag, bits
from polyfuse.plan.search.tiling import Tilings

OptionsOf = Callable[[tuple[str, ...], Sources, Sinks], Sequence[Option]]
"""The options of a group by its operations, its sources ("on" or "off") and its sinks ("on", "off" or "both")."""


@dataclass(frozen=True)
class Fetch:
    """The cost of loading a tensor whole before the first step of a group: bytes, cycles, picojoules."""

    bytes: int
    cycles: float
    energy_pj: float

    def price(self, objective: Objective) -> int:
        """Its price for an objective."""
        return objective.price(self.cycles, self.bytes, self.energy_pj, 0)


@dataclass(frozen=True)
class ChosenGroup:
    """A group of a plan: its option, the tensors loaded whole before it, and all that are on chip whole meanwhile."""

    option: Option
    fetched: tuple[str, ...]
    held: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Problem:
    """A network on a machine, as a search sees it.

    tensor_bytes  of each whole tensor on chip, a multiple of the alignment
    fetches       the cost of loading each tensor whole
    spills        whether tensors between layers may be stored off chip
    tilings       all tiles, of which `options` are some; None where the options are all tiles
    scope         of the options, in words
    """

    dag: Dag
    tensor_bytes: Mapping[str, int]
    fetches: Mapping[str, Fetch]
    options: OptionsOf
    alignment_bytes: int = 1
    spills: bool = True
    tilings: Tilings | None = None
    scope: str = ""

    def held_bytes(self, step: ChosenGroup) -> int:
        """What is on chip while a step runs."""
        return step.option.workspace_bytes + sum(self.tensor_bytes[name] for name in step.held)


@dataclass(frozen=True)
class FrontPoint:
    """An option, its price and the bytes of its workspace; without an option, a bound of options not priced yet."""

    option: Option | None
    price: int
    workspace_bytes: int
    key: "Key" = (0, 0, 0, 0)


Key = tuple[int, int, int, int]
"""The operations of a group, the tensors it reads on chip, those it leaves on chip and those off chip, as bits."""
Front = tuple[tuple[int, ...], tuple[FrontPoint, ...]]
"""The workspaces of points, growing, and the points, each cheaper than all before it."""


class Fronts:
    """The fronts of the groups of a problem, remembered; groups and tensors are bits."""

    def __init__(self, problem: Problem, objective: Objective) -> None:
        self.problem, self.objective = problem, objective
        self._fronts: dict[Key, Front] = {}
        self._tried: dict[Key, Front] = {}

    def pick(
        self, group: int, on: int, out_on: int, out_off: int, room: int, smallest: bool
    ) -> tuple[FrontPoint | None, bool]:
        """The cheapest point whose workspace fits `room` bytes, or the `smallest` one; whether it is the front's last.

        on: tensors the group reads on chip. out_on, out_off: those it leaves on chip and off chip.
        """
        sizes, choices = self.front((group, on, out_on, out_off))
        fitting = bisect_right(sizes, room)
        if smallest:
            return (choices[0] if fitting else None), False
        return (choices[fitting - 1] if fitting else None), fitting == len(sizes)

    @property
    def priced(self) -> int:
        """How many fronts are priced."""
        return len(self._fronts)

    def front(self, key: Key) -> Front:
        """The front of one key."""
        front = self._fronts.get(key)
        if front is None:
            self._fronts[key] = front = self._front(*key)
        return front

    def add(self, key: Key, options: Sequence[Option]) -> None:
        """Know more options of a key, until `reset`."""
        self._tried.setdefault(key, self.front(key))
        self._fronts[key] = merged([*self._fronts[key][1], *map(self._choice, options)])

    def reset(self) -> None:
        """Forget what was added."""
        self._fronts.update(self._tried)
        self._tried.clear()

    def _front(self, group: int, on: int, out_on: int, out_off: int) -> Front:
        return merged(list(map(self._choice, self.problem.options(*self.places((group, on, out_on, out_off))))))

    def places(self, key: Key) -> tuple[tuple[str, ...], dict[str, Source], dict[str, Sink]]:
        """The names of a group's operations, its sources and its sinks."""
        group, on, out_on, out_off = key
        dag, members = self.problem.dag, set(bits(group))
        made = {dag.makes[index] for index in members}
        reads = dict.fromkeys(name for index in sorted(members) for name in dag.reads[index] if name not in made)
        sources: dict[str, Source] = {name: "on" if on >> dag.number[name] & 1 else "off" for name in reads}
        sinks: dict[str, Sink] = {}
        for number in bits(out_on | out_off):
            off: Sink = "both" if out_off >> number & 1 else "on"
            sinks[dag.tensors[number]] = off if out_on >> number & 1 else "off"
        return dag.names(group), sources, sinks

    def _choice(self, option: Option) -> FrontPoint:
        return FrontPoint(option, option.price(self.objective), option.workspace_bytes)


class BoundedFronts(Fronts):
    """Fronts below those of all tiles: known options, and bounds of all others; peak: bounds of workspace alone."""

    def __init__(self, known: Fronts, tilings: Tilings, peak: bool = False) -> None:
        super().__init__(known.problem, known.objective)
        self.known, self.tilings, self.peak = known, tilings, peak
        self.covered: set[Key] = set()
        self.counted: set[tuple[object, ...]] = set()

    def reset(self) -> None:
        """Forget what was covered."""
        super().reset()
        self.covered.clear()
        self.counted.clear()

    def cover(self, key: Key, capacity_bytes: int, most_effort: int) -> int:
        """Price or bound the tiles of a key within an effort; the effort spent, counted once for equal groups.

        The capacity is taken to be free, since bounds are asked for without knowing what else is on chip.
        """
        tiled = self.tilings.covered(*self.places(key), capacity_bytes, most_effort, self.peak)
        self.covered.add(key)
        self.known.add(key, tiled.options)
        self._tried.setdefault(key, self.front(key))
        self._fronts[key] = self._with(key, tiled.bounds_left)
        effort = 0 if tiled.model in self.counted else tiled.effort
        self.counted.add(tiled.model)
        return effort

    def settle(self, keys: Sequence[Key]) -> None:
        """Drop the bounds of some keys, which the caller takes account of, and keep their known options."""
        for key in keys:
            self._tried.setdefault(key, self.front(key))
            self._fronts[key] = self.known.front(key)

    def _front(self, group: int, on: int, out_on: int, out_off: int) -> Front:
        key = (group, on, out_on, out_off)
        return self._with(key, self.tilings.compulsory(*self.places(key)))

    def _with(self, key: Key, points: Sequence[tuple[int, int]]) -> Front:
        bounds = [FrontPoint(None, asked << TIE_BITS, size, key) for size, asked in points]
        return merged([*self.known.front(key)[1], *bounds])


def merged(points: Sequence[FrontPoint]) -> Front:
    """The points that are cheaper than all with no more workspace."""
    front: list[FrontPoint] = []
    for choice in sorted(points, key=lambda each: (each.workspace_bytes, each.price)):
        if not front or choice.price < front[-1].price:
            front.append(choice)
    return tuple(choice.workspace_bytes for choice in front), tuple(front)
