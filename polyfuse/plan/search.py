"""The cheapest sequence of groups, and what is kept on chip between them: a dynamic program.

    Problem + capacity + Objective ──search()──> Found

A state is an order ideal (what has run) and, for each live tensor, whether it is on chip whole, off chip, or both. A
transition runs a connected convex group with one of its options. Before it, tensors that are off chip too may be
dropped from the chip, and tensors that it reads may be loaded whole and stay. While it runs there are on chip: every
tensor that is kept, read by the group or not; what it leaves there; its workspace. That never passes the capacity.

Of two states of one ideal, one is dropped if the other can become it for no more than they differ in price: what is on
chip may be dropped, what is off chip may be loaded whole by the first group that reads it. Options must be such that
reading or leaving a tensor in place takes no more workspace and no higher price than streaming it.
"""

from dataclasses import dataclass, replace

from polyfuse.errors import DoesNotFit
from polyfuse.plan.choices import Choices, Problem, Step
from polyfuse.plan.ideals import LONGEST, Lattice, bits, lattice
from polyfuse.plan.objective import Objective
from polyfuse.plan.walk import Arrived, Bound, Rules, Walk

MOST_STATES = 1000
ROUGH = ((1, 2), (4, 3), (8, LONGEST), (64, LONGEST))
"""States of an ideal and operations of a group in first searches, whose plans tell later ones what not to look at."""
MOST_PRICED = 80_000
"""Groups and places that are priced before a search goes on to more states of an ideal."""
UNLIMITED = 1 << 62
EVERYTHING = Rules()


@dataclass(frozen=True, eq=False)
class Found:
    """A cheapest plan: its steps, its price, and the most bytes that are on chip at once.

    lower: the least price of any plan in the scope; the price itself unless states were cut.
    """

    steps: tuple[Step, ...]
    price: int
    lower: int
    peak_bytes: int
    scope: str
    states: int
    transitions: int


class Searcher:
    """Searches of one problem and objective at any capacity and under any rules; what is priced is remembered."""

    def __init__(self, problem: Problem, objective: Objective, graph: Lattice | None = None) -> None:
        self.problem, self.objective = problem, objective
        self.graph = graph or lattice(problem.dag)
        self.choices = Choices(problem, objective)

    def found(self, capacity_bytes: int, rules: Rules = EVERYTHING, most_states: int = MOST_STATES) -> Found:
        """The cheapest plan that fits a capacity; with the goal `peak`, that fits the smallest there is.

        Where an ideal has more than `most_states`, the cheapest of them go on, and the lower bound is below the price.

        Errors: DoesNotFit where there is none; it names layers and the smallest capacity that would do.
        """
        rules = self._allowed(rules)
        if self.objective.goal == "peak":
            capacity_bytes = min(capacity_bytes, self.smallest_capacity(rules) or 0)
        walk = Walk(self.choices, rules, self.graph)
        arrived = self._arrived(walk, capacity_bytes, most_states)
        if arrived is None:
            raise DoesNotFit(self._too_small(capacity_bytes, rules))
        steps = self._steps(arrived)
        peak = max((self.problem.held_bytes(step) for step in steps), default=0)
        cut = "" if arrived.lower == arrived.price else "; the cheapest states of each ideal"
        return Found(
            steps,
            arrived.price,
            arrived.lower,
            peak,
            self.scope + cut,
            arrived.states,
            arrived.transitions,
        )

    @property
    def scope(self) -> str:
        """The plans that are searched, in words."""
        alone = "" if self.problem.spills else ", nothing between layers stored off chip"
        return self.graph.scope + alone

    def _allowed(self, rules: Rules) -> Rules:
        """The rules, as far as the machine can keep to them."""
        return rules if self.problem.spills else replace(rules, spills=False)

    def smallest_capacity(self, rules: Rules = EVERYTHING) -> int | None:
        """The least capacity, in bytes, at which there is a plan; none where there is none at any."""
        arrived = self._smallest(rules)
        return None if arrived is None else arrived.price

    def smallest_bound(self) -> int:
        """What no plan's peak is below, in bytes: the smallest capacity, unless states were cut."""
        arrived = self._smallest(EVERYTHING)
        return 0 if arrived is None else arrived.lower

    def _smallest(self, rules: Rules) -> Arrived | None:
        """A plan of the smallest peak: streaming takes no more than being there whole, so nothing need be pinned."""
        rules = self._allowed(rules)
        if rules.spills and not rules.pinned:
            rules = replace(rules, pins=False)
        return Walk(self.choices, rules, self.graph, peak=True).run(UNLIMITED, MOST_STATES)

    def _arrived(self, walk: Walk, capacity_bytes: int, most_states: int) -> Arrived | None:
        """A cheap plan without pins, then a better one of few states, then the best of those that are not worse."""
        streams = None
        if walk.rules.spills and not walk.rules.pinned:
            streams = Walk(self.choices, replace(walk.rules, pins=False), self.graph).run(capacity_bytes, most_states)
            if streams is None or not walk.rules.pins:
                return streams
        bound = Bound(walk, capacity_bytes)
        known = [arrived for arrived in (streams,) if arrived is not None]
        lower, priced = 0, self.choices.priced
        for states, longest in (*ROUGH, (most_states, self.graph.longest)):
            if states > 1 and self.choices.priced - priced > MOST_PRICED:
                break
            bound.known = min((arrived.price for arrived in known), default=None)
            arrived = walk.run(capacity_bytes, states, bound, longest)
            if arrived is not None:
                known.append(arrived)
                lower = arrived.lower if longest >= self.graph.longest else bound.after(0)
                if arrived.lower == arrived.price and longest >= self.graph.longest:
                    break
        best = min(known, key=lambda each: each.price, default=None)
        return best if best is None else replace(best, lower=min(best.price, lower))

    def _steps(self, arrived: Arrived) -> tuple[Step, ...]:
        def names(tensors: int) -> tuple[str, ...]:
            return tuple(self.problem.dag.tensors[number] for number in bits(tensors))

        return tuple(
            Step(node.choice.option, names(node.fetched), names(node.held))
            for node in arrived.way
            if node.choice is not None
        )

    def _too_small(self, capacity_bytes: int, rules: Rules) -> str:
        least = self._smallest(rules)
        if least is None:
            return (
                f"network of {len(self.problem.dag.operations)} operations: no plan of it keeps to these rules at any "
                "capacity"
            )
        tight = next(step for step in self._steps(least) if self.problem.held_bytes(step) == least.price)
        operations = tight.option.group
        named = f"layer {operations[0]!r}" if len(operations) == 1 else f"layers {', '.join(map(repr, operations))}"
        alone = "" if rules.spills else ", where nothing between layers can be stored off chip"
        enough = "are the smallest capacity that would do" if least.lower == least.price else "would do"
        return (
            f"{named}: expected {least.price:,} B or more on chip{alone}, got {capacity_bytes:,} B; "
            f"{least.price:,} B {enough}"
        )


def search(problem: Problem, capacity_bytes: int, objective: Objective, rules: Rules = EVERYTHING) -> Found:
    """The cheapest plan of a problem that fits a capacity. Errors: as `Searcher.found`."""
    return Searcher(problem, objective).found(capacity_bytes, rules)
