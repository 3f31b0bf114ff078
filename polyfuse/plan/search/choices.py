"""Options by where a group finds what it reads and leaves what it makes: priced once, asked often.

Problem + Objective ──Choices.pick()──> Choice that fits what is free on chip
"""

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from polyfuse.plan.price.objective import TIE_BITS, Objective
from polyfuse.plan.price.options import Option
from polyfuse.plan.price.sheet import Sink, Source
from polyfuse.plan.search.ideals import Dag, bits
from polyfuse.plan.search.tiling import Tilings

OptionsOf = Callable[[tuple[str, ...], Mapping[str, Source], Mapping[str, Sink]], Sequence[Option]]
"""The options of a group by its operations, its sources ("on" or "off") and its sinks ("on", "off" or "both")."""


@dataclass(frozen=True)
class Fetch:
    """What it takes to load a tensor whole, before the first step of a group: bytes, cycles, picojoules."""

    bytes: int
    cycles: float
    energy_pj: float


@dataclass(frozen=True)
class ChosenGroup:
    """A group as it runs: its option, the tensors loaded whole before it, and all that are on chip whole meanwhile."""

    option: Option
    fetched: tuple[str, ...]
    held: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Problem:
    """What a search knows of a network on a machine.

    tensor_bytes: what a whole tensor takes on chip, a multiple of the alignment. fetches: what loading it takes.
    spills: whether what is between layers may be stored off chip.
    tilings: all tiles, of which `options` are some; none where the options are all that there are. scope: of these.
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
    """An option, its price and the bytes of its workspace; without an option, a bound of options that are not known."""

    option: Option | None
    price: int
    workspace_bytes: int
    key: "Key" = (0, 0, 0, 0)


Key = tuple[int, int, int, int]
"""A group, what it reads on chip, what it leaves on chip and off chip."""
Front = tuple[tuple[int, ...], tuple[FrontPoint, ...]]
"""Choices from the smallest workspace to the cheapest price, each cheaper than all that are smaller; and workspaces."""


class Fronts:
    """The choices of the groups of a problem, remembered; groups and tensors are bits."""

    def __init__(self, problem: Problem, objective: Objective) -> None:
        self.problem, self.objective = problem, objective
        self._fronts: dict[Key, Front] = {}
        self._tried: dict[Key, Front] = {}

    def pick(
        self, group: int, on: int, out_on: int, out_off: int, room: int, smallest: bool
    ) -> tuple[FrontPoint | None, bool]:
        """The cheapest choice whose workspace fits, or the `smallest` one, and whether more room would not help.

        on: what the group reads on chip. out_on, out_off: what it leaves on chip and off chip.
        """
        key = (group, on, out_on, out_off)
        front = self._fronts.get(key)
        if front is None:
            self._fronts[key] = front = self._front(*key)
        sizes, choices = front
        fitting = bisect_right(sizes, room)
        if smallest:
            return (choices[0] if fitting else None), False
        return (choices[fitting - 1] if fitting else None), fitting == len(sizes)

    @property
    def priced(self) -> int:
        """How many groups and places are priced."""
        return len(self._fronts)

    def fetch_price(self, tensor: str) -> int:
        """The price of loading a tensor whole."""
        fetch = self.problem.fetches[tensor]
        return self.objective.price(fetch.cycles, fetch.bytes, fetch.energy_pj, 0)

    def front(self, key: Key) -> Front:
        """The choices of a group in one place."""
        if key not in self._fronts:
            self._fronts[key] = self._front(*key)
        return self._fronts[key]

    def add(self, key: Key, options: Sequence[Option]) -> None:
        """Know more options of a group in one place, until `reset`."""
        self._tried.setdefault(key, self.front(key))
        self._fronts[key] = merged([*self._fronts[key][1], *map(self._choice, options)])

    def reset(self) -> None:
        """Forget what was added."""
        self._fronts.update(self._tried)
        self._tried.clear()

    def _front(self, group: int, on: int, out_on: int, out_off: int) -> Front:
        return merged(list(map(self._choice, self.problem.options(*self.places((group, on, out_on, out_off))))))

    def places(self, key: Key) -> tuple[tuple[str, ...], dict[str, Source], dict[str, Sink]]:
        """The names of a group, and where what it reads and leaves is."""
        group, on, out_on, out_off = key
        dag, members = self.problem.dag, set(bits(group))
        made = {dag.makes[index] for index in members}
        reads = dict.fromkeys(name for index in sorted(members) for name in dag.reads[index] if name not in made)
        sources: dict[str, Source] = {name: "on" if on >> dag.number[name] & 1 else "off" for name in reads}
        sinks = {
            dag.tensors[number]: _sink(out_on >> number & 1, out_off >> number & 1) for number in bits(out_on | out_off)
        }
        return dag.names(group), sources, sinks

    def _choice(self, option: Option) -> FrontPoint:
        price = self.objective.price(option.cycles, option.offchip_bytes, option.energy_pj, option.macs_executed)
        return FrontPoint(option, price, option.workspace_bytes)


class BoundedFronts(Fronts):
    """Choices that are no dearer than those of any tile: what is known, and bounds of all that is not.

    peak: bounds of workspace alone.
    """

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

    def cover(self, key: Key, capacity_bytes: int, most_work: int) -> int:
        """Look at all tiles of a group in one place, or at as many as can be; the work, counted once for equal groups.

        That is done as if nothing else were on chip: what a group costs at least is asked without knowing what is.
        """
        tiled = self.tilings.covered(*self.places(key), capacity_bytes, most_work, self.peak)
        self.covered.add(key)
        self.known.add(key, tiled.options)
        self._tried.setdefault(key, self.front(key))
        self._fronts[key] = self._with(key, tiled.floors)
        work = 0 if tiled.model in self.counted else tiled.work
        self.counted.add(tiled.model)
        return work

    def settle(self, keys: Sequence[Key]) -> None:
        """Keep to what is known of groups in some places: their bounds are taken account of elsewhere."""
        for key in keys:
            self._tried.setdefault(key, self.front(key))
            self._fronts[key] = self.known.front(key)

    def _front(self, group: int, on: int, out_on: int, out_off: int) -> Front:
        key = (group, on, out_on, out_off)
        return self._with(key, self.tilings.floors(*self.places(key)))

    def _with(self, key: Key, points: Sequence[tuple[int, int]]) -> Front:
        bounds = [FrontPoint(None, asked << TIE_BITS, size, key) for size, asked in points]
        return merged([*self.known.front(key)[1], *bounds])


def merged(choices: Sequence[FrontPoint]) -> Front:
    """Of some choices those that are cheaper than all that take no more workspace."""
    front: list[FrontPoint] = []
    for choice in sorted(choices, key=lambda each: (each.workspace_bytes, each.price)):
        if not front or choice.price < front[-1].price:
            front.append(choice)
    return tuple(choice.workspace_bytes for choice in front), tuple(front)


def _sink(on: int, off: int) -> Sink:
    return ("both" if off else "on") if on else "off"
