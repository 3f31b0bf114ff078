"""The cheapest sequence of groups, and what is kept on chip between them: a dynamic program.

    Problem + Objective ──Searcher()──> ──found()──> Found at a capacity

A state is an order ideal (what has run) and, for each live tensor, whether it is on chip whole, off chip, or both. A
transition runs a connected convex group with one of its options. Before it, tensors that are off chip too may be
dropped from the chip, and tensors that it reads may be loaded whole and stay. While it runs there are on chip: every
tensor that is kept, read by the group or not; what it leaves there; its workspace. That never passes the capacity.

Of two states of one ideal, one is dropped if the other can become it for no more than they differ in price: what is on
chip may be dropped, what is off chip may be loaded whole by the first group that reads it. Options must be such that
reading or leaving a tensor whole on chip takes no more workspace and no higher price than moving it step by step.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from polyfuse.choices import LONGEST
from polyfuse.errors import DoesNotFit
from polyfuse.plan.price.objective import Objective, asked
from polyfuse.plan.price.space import ALL_TILES
from polyfuse.plan.search.choices import BoundedFronts, ChosenGroup, Fronts, Key, Problem
from polyfuse.plan.search.ideals import Lattice, bits, lattice
from polyfuse.plan.search.walk import Arrived, Bound, Rules, Walk

MOST_STATES = 1000
ROUGH = ((1, 2), (4, 3), (8, LONGEST), (64, LONGEST))
"""States of an ideal and operations of a group in first searches, whose prices bound later ones."""
MOST_PRICED = 80_000
"""Fronts that are priced before a search goes on to more states of an ideal."""
MOST_EFFORT = 20_000_000
"""For all tiles of one key, as covering.py counts it."""
ALL_EFFORT = 40_000_000
FEW_OPERATIONS = 20
"""Effort for all tiles of a network of so many operations; in proportion less for more, whose search takes longer."""
TRANSITION = 120
"""The effort of a transition in a search over bounds."""
UNLIMITED = 1 << 62
EVERYTHING = Rules()


@dataclass(frozen=True, eq=False)
class Found:
    """A cheapest plan: its steps, its price, and the most bytes that are on chip at once.

    lower       the least price of any plan in the scope; the price itself unless states were cut or tiles left
    lower_peak  with the goal `peak`, the least bytes of any plan; 0 with others
    """

    steps: tuple[ChosenGroup, ...]
    price: int
    lower: int
    peak_bytes: int
    lower_peak: int
    scope: str
    states: int
    transitions: int


@dataclass(frozen=True)
class Smallest:
    """The least capacity at which a plan is known, and one below which there is none."""

    arrived: Arrived
    lower: int

    @property
    def bytes(self) -> int:
        """The capacity."""
        return self.arrived.price


class Searcher:
    """Searches of one problem and objective at any capacity and under any rules; what is priced is remembered."""

    def __init__(self, problem: Problem, objective: Objective, graph: Lattice | None = None) -> None:
        self.problem, self.objective = problem, objective
        self.graph = graph or lattice(problem.dag)
        self.choices = Fronts(problem, objective)
        tilings = problem.tilings
        self.bounded = BoundedFronts(self.choices, tilings) if tilings is not None else None
        self.bounded_peak = BoundedFronts(self.choices, tilings, peak=True) if tilings is not None else None
        self.most_effort = ALL_EFFORT * FEW_OPERATIONS // max(FEW_OPERATIONS, len(problem.dag.operations))
        self.effort = 0

    def found(
        self, capacity_bytes: int, rules: Rules = EVERYTHING, most_states: int = MOST_STATES, close: bool = True
    ) -> Found:
        """The cheapest plan that fits a capacity; with the goal `peak`, that fits the smallest there is.

        Where an ideal has more than `most_states`, the cheapest of them go on, and the lower bound is below the price.
        close: whether to price or bound all tiles, and not only those that are tried.

        Errors: DoesNotFit where there is none; it names layers and the smallest capacity that would do.
        """
        self._reset()
        rules = self._allowed(rules)
        smallest: Smallest | None = None
        if self.objective.goal == "peak":
            smallest = self._smallest(rules, close)
            capacity_bytes = min(capacity_bytes, smallest.bytes if smallest else 0)
        walk = Walk(self.choices, rules, self.graph)
        arrived = self._arrived(walk, capacity_bytes, most_states)
        if arrived is None and smallest is None:
            smallest = self._smallest(rules, close)
            if smallest is not None and smallest.bytes <= capacity_bytes:
                arrived = self._arrived(walk, capacity_bytes, most_states)
        if arrived is None:
            raise DoesNotFit(self._too_small(capacity_bytes, smallest, rules))
        if close and self.bounded is not None and self.objective.goal != "peak":
            self.effort = min(self.effort, 1)
            arrived = self._closed(self.bounded, walk, arrived, capacity_bytes, most_states)
        steps = self._steps(arrived)
        peak = max((self.problem.held_bytes(step) for step in steps), default=0)
        closes = close and self.bounded is not None
        tiles = ALL_TILES if closes else self.problem.scope
        return Found(
            steps,
            arrived.price,
            arrived.lower,
            peak,
            smallest.lower if self.objective.goal == "peak" and smallest else 0,
            "; ".join(each for each in (self.scope, tiles, *arrived.cut) if each),
            arrived.states,
            arrived.transitions,
        )

    @property
    def scope(self) -> str:
        """The plans that are searched, in words, without their tiles."""
        alone = "" if self.problem.spills else ", nothing between layers stored off chip"
        return self.graph.scope + alone

    def _allowed(self, rules: Rules) -> Rules:
        """The rules, as far as the machine can keep to them."""
        return rules if self.problem.spills else replace(rules, spills=False)

    def smallest_capacity(self, rules: Rules = EVERYTHING, close: bool = True) -> int | None:
        """The least capacity, in bytes, at which there is a plan; none where there is none at any."""
        self._reset()
        smallest = self._smallest(rules, close)
        return None if smallest is None else smallest.bytes

    def _reset(self) -> None:
        """Forget the options that earlier searches added: a plan depends on its capacity alone."""
        self.effort = 0
        for choices in (self.choices, self.bounded, self.bounded_peak):
            if choices is not None:
                choices.reset()

    def _smallest(self, rules: Rules, close: bool) -> Smallest | None:
        """A plan of the smallest peak. Small tensors may be on chip whole: a ring with prefetch is larger."""
        rules = self._allowed(rules)

        def known() -> Arrived | None:
            return Walk(self.choices, rules, self.graph, peak=True).run(UNLIMITED, MOST_STATES)

        arrived = known()
        if arrived is None:
            return None
        if not close or self.bounded_peak is None:
            return Smallest(arrived, arrived.lower)
        lower = 0
        while True:
            below = Walk(self.bounded_peak, rules, self.graph, peak=True).run(UNLIMITED, MOST_STATES)
            assert below is not None
            lower = below.lower
            self.effort += (below.transitions + arrived.transitions) * TRANSITION
            if lower >= arrived.price or not self._cover(self.bounded_peak, keys_of(below), arrived.price):
                break
            arrived = known() or arrived
        return Smallest(arrived, min(arrived.price, lower))

    def _closed(
        self, bounded: BoundedFronts, walk: Walk, arrived: Arrived, capacity_bytes: int, most_states: int
    ) -> Arrived:
        """A plan that costs no more than one with any other tiles, or as near to that as the effort allows.

        Keys of which the cheapest way has bounds alone are covered until it has none: that way is a plan. Where a way
        has keys that cannot be covered, its price bounds all plans, and the search goes on without these bounds.
        """
        lower: int | None = None
        while True:
            below = Walk(bounded, walk.rules, self.graph)
            bound = Bound(below, capacity_bytes)
            bound.known = arrived.price
            found = below.run(capacity_bytes, most_states, bound)
            self.effort += found.transitions * TRANSITION if found is not None else 0
            if found is None or asked(found.lower) >= asked(arrived.price):
                if lower is None:
                    return replace(arrived, lower=arrived.price)
                break
            keys = keys_of(found)
            if not keys:
                return found if lower is None else replace(found, lower=min(found.price, lower))
            if not self._cover(bounded, keys, capacity_bytes):
                lower = found.lower if lower is None else lower
                if self.effort >= self.most_effort:
                    break
                bounded.settle(keys)
        bound = Bound(self._bounding(walk), capacity_bytes)
        bound.known = arrived.price
        again = walk.run(capacity_bytes, most_states, bound)
        best = min((each for each in (arrived, again) if each is not None), key=lambda each: each.price)
        return replace(best, lower=min(best.price, lower))

    def _bounding(self, walk: Walk) -> Walk:
        """A walk in which tensors whole on chip never cost more: options may have been added for some keys alone."""
        return Walk(self.bounded, walk.rules, self.graph) if self.bounded is not None and self.effort else walk

    def _cover(self, bounded: BoundedFronts, keys: Sequence[Key], capacity_bytes: int) -> bool:
        """Cover keys that are bounded; whether any was new."""
        worked = False
        for key in (key for key in keys if key not in bounded.covered):
            if self.effort < self.most_effort:
                self.effort += bounded.cover(key, capacity_bytes, min(MOST_EFFORT, self.most_effort - self.effort))
                worked = True
        return worked

    def _arrived(self, walk: Walk, capacity_bytes: int, most_states: int) -> Arrived | None:
        """A cheap plan without pins, then better ones of few states, then the best of all states that cost no more."""
        streams = None
        if walk.rules.spills and not walk.rules.pinned:
            streams = Walk(self.choices, replace(walk.rules, pins=False), self.graph).run(capacity_bytes, most_states)
            if not walk.rules.pins:
                return streams
        bound = Bound(self._bounding(walk), capacity_bytes)
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

    def _steps(self, arrived: Arrived) -> tuple[ChosenGroup, ...]:
        def names(tensors: int) -> tuple[str, ...]:
            return tuple(self.problem.dag.tensors[number] for number in bits(tensors))

        return tuple(
            ChosenGroup(node.choice.option, names(node.fetched), names(node.held))
            for node in arrived.way
            if node.choice is not None and node.choice.option is not None
        )

    def _too_small(self, capacity_bytes: int, least: Smallest | None, rules: Rules) -> str:
        if least is None:
            return (
                f"network of {len(self.problem.dag.operations)} operations: no plan of it keeps to these rules at any "
                "capacity"
            )
        tight = next(step for step in self._steps(least.arrived) if self.problem.held_bytes(step) == least.bytes)
        operations = tight.option.group
        named = f"layer {operations[0]!r}" if len(operations) == 1 else f"layers {', '.join(map(repr, operations))}"
        alone = "" if rules.spills else ", where nothing between layers can be stored off chip"
        proved = "are the smallest capacity that would do"
        if least.lower < least.bytes:
            proved = f"would do, and less than {least.lower:,} B would not"
        return (
            f"{named}: expected {least.bytes:,} B or more on chip{alone}, got {capacity_bytes:,} B; "
            f"{least.bytes:,} B {proved}"
        )


def keys_of(found: Arrived) -> tuple[Key, ...]:
    """The keys of a way of which it has bounds alone."""
    choices = (node.choice for node in found.way)
    return tuple(dict.fromkeys(each.key for each in choices if each is not None and each.option is None))
