"""Options by where a group finds what it reads and leaves what it makes: priced once, asked often.

Problem + Objective ──Choices.pick()──> Choice that fits what is free on chip
"""

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from polyfuse.plan.ideals import Dag, bits
from polyfuse.plan.objective import Objective
from polyfuse.plan.options import Option
from polyfuse.plan.pricing import Sink, Source

OptionsOf = Callable[[tuple[str, ...], Mapping[str, Source], Mapping[str, Sink]], Sequence[Option]]
"""The options of a group by its operations, its sources ("on" or "off") and its sinks ("on", "off" or "both")."""


@dataclass(frozen=True)
class Fetch:
    """What it takes to load a tensor whole, before the first step of a group: bytes, cycles, picojoules."""

    bytes: int
    cycles: float
    energy_pj: float


@dataclass(frozen=True)
class Step:
    """A group as it runs: its option, the tensors loaded whole before it, and all that are on chip whole meanwhile."""

    option: Option
    fetched: tuple[str, ...]
    held: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Problem:
    """What a search knows of a network on a machine.

    tensor_bytes: what a whole tensor takes on chip, a multiple of the alignment. fetches: what loading it takes.
    spills: whether what is between layers may be stored off chip.
    """

    dag: Dag
    tensor_bytes: Mapping[str, int]
    fetches: Mapping[str, Fetch]
    options: OptionsOf
    alignment_bytes: int = 1
    spills: bool = True

    def held_bytes(self, step: Step) -> int:
        """What is on chip while a step runs."""
        return step.option.workspace_bytes + sum(self.tensor_bytes[name] for name in step.held)


@dataclass(frozen=True)
class Choice:
    """An option, its price and the bytes of its workspace."""

    option: Option
    price: int
    workspace_bytes: int


Front = tuple[tuple[int, ...], tuple[Choice, ...]]
"""Choices from the smallest workspace to the cheapest price, each cheaper than all that are smaller; and workspaces."""


class Choices:
    """The choices of the groups of a problem, remembered; groups and tensors are bits."""

    def __init__(self, problem: Problem, objective: Objective) -> None:
        self.problem, self.objective = problem, objective
        self._fronts: dict[tuple[int, int, int, int], Front] = {}

    def pick(
        self, group: int, on: int, out_on: int, out_off: int, room: int, smallest: bool
    ) -> tuple[Choice | None, bool]:
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

    def _front(self, group: int, on: int, out_on: int, out_off: int) -> Front:
        dag, members = self.problem.dag, set(bits(group))
        made = {dag.makes[index] for index in members}
        reads = dict.fromkeys(name for index in sorted(members) for name in dag.reads[index] if name not in made)
        sources: dict[str, Source] = {name: "on" if on >> dag.number[name] & 1 else "off" for name in reads}
        sinks = {
            dag.tensors[number]: _sink(out_on >> number & 1, out_off >> number & 1) for number in bits(out_on | out_off)
        }
        found = [self._choice(option) for option in self.problem.options(dag.names(group), sources, sinks)]
        front: list[Choice] = []
        for choice in sorted(found, key=lambda each: (each.workspace_bytes, each.price)):
            if not front or choice.price < front[-1].price:
                front.append(choice)
        return tuple(choice.workspace_bytes for choice in front), tuple(front)

    def _choice(self, option: Option) -> Choice:
        price = self.objective.price(option.cycles, option.offchip_bytes, option.energy_pj, option.macs_executed)
        return Choice(option, price, option.workspace_bytes)


def _sink(on: int, off: int) -> Sink:
    return ("both" if off else "on") if on else "off"
