"""The dynamic program of `polyfuse.plan.search.program`: states of all ideals, from nothing run to everything run.

    Problem + Lattice + Rules ──Walk.run()──> Arrived: the cheapest way, transition by transition

Sets of operations and of tensors are numbers whose bits they are. A state of an ideal is (tensors on chip, tensors off
chip). States that cannot become cheaper than a plan that is known are dropped: from each ideal on, the least that can
follow is bounded by the cheapest groups, each with all that fits on chip there.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from operator import or_

from polyfuse.plan.search.choices import FrontPoint, Fronts
from polyfuse.plan.search.ideals import Lattice, bits

State = tuple[int, int]
CUT = "the cheapest states of each ideal"
FREELY = 6
"""The most tensors of which any subset is loaded whole, or dropped, at one time."""


@dataclass(frozen=True)
class Rules:
    """What a search may do; by default everything.

    pins      whether tensors may stay on chip between groups
    spills    whether what is neither an input nor an output may go off chip; where not, outputs go there for good and
              are not read again from there
    allowed   which groups it may run, by the names of their operations; none: all
    pinned    tensors that must be on chip, whole, from what makes or first reads them to their last reader
    """

    pins: bool = True
    spills: bool = True
    allowed: Callable[[tuple[str, ...]], bool] | None = None
    pinned: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Reached:
    """How a state was reached: its price, the state before it, and the transition."""

    price: int
    ideal: int = 0
    state: State = (0, 0)
    held: int = 0
    fetched: int = 0
    choice: FrontPoint | None = None


@dataclass(frozen=True)
class Arrived:
    """The transitions of a cheapest way, its price, and how many states and transitions were seen.

    lower: the least price of any plan; below the price if states were cut. cut: what was, in words.
    """

    way: tuple[Reached, ...]
    price: int
    lower: int
    states: int
    transitions: int
    cut: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Group:
    """The tensors that a group reads from outside, those live after it, and the ways to leave its outputs."""

    operations: int
    end: int
    reads: int
    live: int
    sinks: tuple[tuple[int, int, int], ...]


class Walk:
    """A lattice to walk over with choices and rules; `peak`: the price is the most bytes on chip at any moment."""

    def __init__(self, choices: Fronts, rules: Rules, graph: Lattice, peak: bool = False) -> None:
        self.choices, self.rules, self.graph, self.peak = choices, rules, graph, peak
        self.dag = graph.dag
        self.sizes = tuple(choices.problem.tensor_bytes[name] for name in self.dag.tensors)
        fetches, objective = choices.problem.fetches, choices.objective
        self.loads = tuple(0 if peak else fetches[name].price(objective) for name in self.dag.tensors)
        self.outputs = self._set(self.dag.outputs)
        self.pinned = self._set(rules.pinned)
        self.kept = 0 if rules.spills else self.outputs
        self.limited = False

    def run(
        self, capacity_bytes: int, most_states: int, bound: "Bound | None" = None, longest: int | None = None
    ) -> Arrived | None:
        """The cheapest way through; none where nothing is reached.

        most_states: of one ideal; the cheapest of more go on. bound: drops states. longest: operations of
        a group, where it is less than that of the lattice; the lower bound is then one of such plans.
        """
        reached: dict[int, dict[State, Reached]] = {ideal: {} for ideal in self.graph.ideals}
        reached[0][0, self._set(self.dag.inputs)] = Reached(0)
        states = transitions = 0
        left_out: list[int] = []
        for ideal in self.graph.ideals[:-1]:
            kept = self._kept(reached[ideal])
            if len(kept) > most_states:
                first = list(kept.values())[most_states].price
                left_out.append(first + (bound.after(ideal) if bound else 0))
                kept = dict(list(kept.items())[:most_states])
            reached[ideal] = kept
            states += len(kept)
            for group in self.groups[ideal] if kept else ():
                if longest is not None and group.operations.bit_count() > longest:
                    break
                transitions += self._extend(ideal, group, kept, reached[group.end], capacity_bytes, bound)
        last = reached[self.dag.all]
        if not last:
            return None
        end = min(last.values(), key=lambda node: node.price)
        if self.limited:
            left_out.append(bound.after(0) if bound else 0)
        lower = min((end.price, *left_out))
        cut = (CUT,) if left_out and lower < end.price else ()
        return Arrived(tuple(self._way(reached, end)), end.price, lower, states, transitions, cut)

    @cached_property
    def groups(self) -> Mapping[int, tuple[_Group, ...]]:
        """The groups that may run in each ideal."""
        allowed: dict[int, bool] = {}
        found: dict[int, tuple[_Group, ...]] = {}
        for ideal in self.graph.ideals:
            for group in self.graph.moves[ideal]:
                if group not in allowed:
                    allowed[group] = self.rules.allowed is None or self.rules.allowed(self.dag.names(group))
            groups = (self._group(ideal, group) for group in self.graph.moves[ideal] if allowed[group])
            found[ideal] = tuple(group for group in groups if group is not None)
        return found

    def least(self, group: _Group, capacity_bytes: int) -> int | None:
        """The least price of a group, wherever its operands are; None where it cannot run.

        Tensors whole on chip never cost more than moved step by step, so all that fit on chip are taken to be there.
        """
        reads = self._fitting(group.reads, capacity_bytes) if self.rules.pins else 0
        kept = 0
        for on, _, _ in group.sinks:
            kept |= self._fitting(on, capacity_bytes) & ~self.outputs
        ways = [(on, off) for on, off, _ in group.sinks if on & kept == kept and not off & kept]
        picks = [
            self.choices.pick(group.operations, reads, on, off, capacity_bytes, False)[0]
            for on, off in ways
            if on == self._fitting(on, capacity_bytes)
        ]
        return min((choice.price for choice in picks if choice is not None), default=None)

    def _extend(
        self,
        ideal: int,
        group: _Group,
        kept: Mapping[State, Reached],
        to: dict[State, Reached],
        capacity_bytes: int,
        bound: "Bound | None",
    ) -> int:
        """All transitions by one group from all states of an ideal, and how many they are."""
        count = 0
        spare = None if bound is None else bound.spare(group)
        for (on, off), node in kept.items():
            if spare is not None and node.price > spare:
                break
            free = on & off & ~self.pinned & ~self.kept
            loadable = group.reads & off & ~on if self.rules.pins else 0
            must = group.reads & off & ~on & self.pinned
            for fetched in self._subsets(loadable & ~must):
                fetched |= must
                price = node.price + sum(self.loads[number] for number in bits(fetched))
                if spare is not None and price > spare:
                    continue
                base = on | fetched
                base_bytes = self._bytes(base)
                for out_on, out_off, out_bytes in group.sinks:
                    for dropped in self._subsets(free):
                        held = base & ~dropped
                        taken = base_bytes + out_bytes - (self._bytes(dropped) if dropped else 0)
                        if taken > capacity_bytes:
                            continue
                        count += 1
                        choice, best = self.choices.pick(
                            group.operations, held & group.reads, out_on, out_off, capacity_bytes - taken, self.peak
                        )
                        if choice is not None:
                            moment = taken + choice.workspace_bytes
                            total = max(price, moment) if self.peak else price + choice.price
                            state = ((held | out_on) & group.live, (off | out_off) & group.live)
                            known = to.get(state)
                            if known is None or total < known.price:
                                to[state] = Reached(total, ideal, (on, off), held | out_on, fetched, choice)
                        if best and not dropped:
                            break
        return count

    def _subsets(self, tensors: int) -> Iterator[int]:
        """All subsets; of more than `FREELY` tensors none, each by itself, and all of them."""
        if tensors.bit_count() <= FREELY:
            yield from subsets(tensors)
            return
        self.limited = True
        yield 0
        for number in bits(tensors):
            yield 1 << number
        yield tensors

    def _group(self, ideal: int, operations: int) -> _Group | None:
        """The inputs and outputs of a group; None where it would not leave a tensor that must be pinned."""
        members = list(bits(operations))
        made = self._set(self.dag.makes[index] for index in members)
        reads = self._set(name for index in members for name in self.dag.reads[index]) & ~made
        end = ideal | operations
        live = self.live[end]
        leaves = made & (live | self.outputs)
        if self.pinned & made & ~leaves:
            return None
        return _Group(operations, end, reads, live, tuple(self._sinks(leaves, end)))

    @cached_property
    def live(self) -> Mapping[int, int]:
        """The tensors that are live after each ideal."""
        return {ideal: self.dag.live(ideal) for ideal in self.graph.ideals}

    def _sinks(self, leaves: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Ways to leave tensors: those on chip, those off chip, the bytes of those on chip.

        Both pays where several operations read a tensor later; outputs of the network are always stored.
        """
        ways: list[tuple[int, int]] = [(0, 0)]
        for number in bits(leaves):
            each = 1 << number
            later = (self.dag.readers[number] & ~end).bit_count()
            places = [(0, each)] if self.rules.spills or (self.outputs & each and not later) else []
            if self.rules.pins and self.outputs & each:
                places += [(each, each)] if later else []
            elif self.rules.pins:
                places += [(each, 0)]
                places += [(each, each)] if later > 1 and self.rules.spills else []
            if self.pinned & each and later:
                places = [place for place in places if place[0]]
            ways = [(on | more_on, off | more_off) for on, off in ways for more_on, more_off in places]
        for on, off in ways:
            yield on, off, self._bytes(on)

    def _kept(self, states: Mapping[State, Reached]) -> dict[State, Reached]:
        """The states of an ideal, cheapest first, that no other can become for the difference in price."""
        kept: list[tuple[int, int, int]] = []
        found: dict[State, Reached] = {}
        for (on, off), node in sorted(states.items(), key=lambda item: (item[1].price, item[0])):
            price = node.price
            for better_on, better_off, less in kept:
                if not off & ~better_off and self._loaded(on & ~better_on, price - less):
                    break
            else:
                kept.append((on, off, price))
                found[on, off] = node
        return found

    def _loaded(self, missing: int, budget: int) -> bool:
        """Whether tensors can be loaded whole for a price."""
        if not missing:
            return True
        if self.peak:
            return self.rules.spills and self.rules.pins
        return self.rules.pins and sum(self.loads[number] for number in bits(missing)) <= budget

    def _way(self, reached: Mapping[int, Mapping[State, Reached]], end: Reached) -> Sequence[Reached]:
        way = []
        node = end
        while node.choice is not None:
            way.append(node)
            node = reached[node.ideal][node.state]
        return way[::-1]

    def _fitting(self, tensors: int, capacity_bytes: int) -> int:
        return sum(1 << number for number in bits(tensors) if self.sizes[number] <= capacity_bytes)

    def _set(self, names: "Sequence[str] | frozenset[str] | Iterator[str]") -> int:
        return reduce(or_, (1 << self.dag.number[name] for name in names), 0)

    def _bytes(self, tensors: int) -> int:
        return sum(self.sizes[number] for number in bits(tensors))


class Bound:
    """The least price of all that is left after each ideal, and the price of a known plan, None for none.

    States that must end above a known price are dropped.
    """

    def __init__(self, walk: Walk, capacity_bytes: int) -> None:
        self.known: int | None = None
        self._least: dict[int, int | None] = {}
        self._after: dict[int, int] = {walk.dag.all: 0}
        for ideal in reversed(walk.graph.ideals[:-1]):
            prices = []
            for group in walk.groups[ideal]:
                if group.operations not in self._least:
                    self._least[group.operations] = walk.least(group, capacity_bytes)
                own, after = self._least[group.operations], self._after.get(group.end)
                if own is not None and after is not None:
                    prices.append(own + after)
            if prices:
                self._after[ideal] = min(prices)

    def after(self, ideal: int) -> int:
        """The least price of all that is left after an ideal."""
        return self._after.get(ideal, 0)

    def spare(self, group: _Group) -> int | None:
        """The highest price of all before a group; None for any price."""
        own, after = self._least.get(group.operations), self._after.get(group.end)
        if own is None or after is None:
            return -1
        return None if self.known is None else self.known - own - after


def subsets(numbers: int) -> Iterator[int]:
    """All subsets of a set of bits, the empty one first.

    >>> list(subsets(0b101))
    [0, 1, 4, 5]
    """
    found = 0
    while True:
        yield found
        if found == numbers:
            return
        found = (found - numbers) & numbers
