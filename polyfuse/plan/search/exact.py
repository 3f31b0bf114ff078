"""Groups, order, pins and addresses at once, as one model for CP-SAT of OR-tools: the search's independent judge.

    Problem + capacity + Objective ──exact()──> Exact

Of the search it uses the graph, its groups and the options, and nothing else. There are no ideals and no states here:

    which group   of the groups that hold an operation one is chosen, and of its options one
    order         every operation has the position of its group; readers come after makers, or in one group with them
    pins          a tensor is on chip from its maker, or from a load of all of it, to each operation that reads it there
    capacity      at every operation, the workspace of its group and the pins that reach over it
    addresses     pins and workspaces are rectangles of positions and addresses that do not overlap

A workspace is one piece here, which it need not be in a plan; where that forbids the optimum, the result is above it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import TypeVar

from ortools.sat.python import cp_model

from polyfuse.errors import TooComplex
from polyfuse.plan.memory.packing import deterministic
from polyfuse.plan.price.costs import Sink, Source
from polyfuse.plan.price.objective import TIE_BITS, Objective, asked, tie
from polyfuse.plan.price.options import Option
from polyfuse.plan.search.choices import Problem
from polyfuse.plan.search.ideals import bits

EFFORT = 600.0
P = TypeVar("P")


@dataclass(frozen=True)
class Exact:
    """The price of the best plan found, whether none is cheaper, and its groups in order with their options.

    lower: no plan has a lower price, but for ties. placed: pins and workspaces at their addresses, if asked for.
    """

    price: int
    lower: int
    optimal: bool
    options: tuple[Option, ...]
    placed: tuple["PlacedBuffer", ...]


@dataclass(frozen=True)
class PlacedBuffer:
    """A pin by its tensor, or a workspace ("workspace"): operations that have run when it begins and ends; bytes."""

    name: str
    first: int
    end: int
    address: int
    bytes: int


def exact(
    problem: Problem,
    capacity_bytes: int,
    objective: Objective,
    groups: Iterable[int],
    *,
    addresses: bool = True,
    effort: float = EFFORT,
) -> Exact | None:
    """The cheapest plan of groups, which are sets of operations as bits; None if there is none.

    Without `addresses` only the bytes that are on chip at once are bounded. `effort` is the solver's deterministic
    limit, about seconds; where it is passed the result is not optimal, or TooComplex if there is none yet.
    """
    model = _Model(problem, capacity_bytes, objective, sorted(groups), addresses)
    first = model.solve(0, effort)
    if first is None:
        return None
    price, lower = first.price << TIE_BITS, first.lower << TIE_BITS
    if not first.optimal:
        return replace(first, price=price, lower=lower)
    model.keep(first.price)
    second = model.solve(1, effort)
    assert second is not None
    return replace(second, price=price + second.price, lower=lower)


@dataclass(frozen=True)
class _Rectangle:
    """A piece of the arena for some time, as variables."""

    name: str
    there: cp_model.IntVar
    first: cp_model.IntVar
    end: cp_model.IntVar
    address: cp_model.IntVar
    units: cp_model.IntVar | int


@dataclass(frozen=True)
class _Candidate:
    """A group with an option, its workspace and price, and whether it is chosen."""

    group: int
    option: Option
    workspace: int
    price: int
    chosen: cp_model.IntVar


@dataclass(frozen=True)
class _Pin:
    """A tensor on chip from an operation on; `there` is whether it is."""

    tensor: str
    start: int
    there: cp_model.IntVar


Spans = Sequence[tuple[_Pin, Mapping[int, cp_model.IntVar]]]
"""Pins, and for each reader of a pin's tensor whether it reads this one."""


class _Model:
    """The model, built once and solved for the figure to minimise, then for the tie-break."""

    def __init__(
        self, problem: Problem, capacity: int, objective: Objective, groups: Sequence[int], addresses: bool
    ) -> None:
        self.problem, self.capacity, self.objective, self.groups = problem, capacity, objective, groups
        self.dag, self.model = problem.dag, cp_model.CpModel()
        self.count = len(self.dag.operations)
        self.start = [self.model.new_int_var(0, self.count - 1, f"start {v}") for v in range(self.count)]
        self.candidates = [candidate for group in groups for candidate in self._candidates(group)]
        self.made_on = {name: self._bool(f"{name} left on chip") for name in self.dag.makes}
        self.made_off = {name: self._bool(f"{name} stored") for name in self.dag.makes}
        self.reads_on = {pair: self._bool(f"{pair} on chip") for pair in self._reads}
        self.loaded = {pair: self._bool(f"{pair} loaded whole") for pair in self._reads}
        self.rectangles: list[_Rectangle] = []
        self._before: dict[tuple[int, int], cp_model.IntVar] = {}
        self._partition()
        self._order()
        self._ends()
        spans = self._spans()
        self._bound(spans)
        if addresses:
            self._addresses(spans)

    def solve(self, part: int, effort: float) -> Exact | None:
        """The plan of least asked part (0), or tie (1), of its price, which is its price here; None if none fits."""
        self.model.minimize(self._total(part))
        solver = deterministic(effort)
        solver.parameters.linearization_level = 2
        status = solver.solve(self.model)
        if status == cp_model.INFEASIBLE:
            return None
        if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
            raise TooComplex(f"exact model: expected a plan within an effort of {effort:g}, found none; allow more")
        picked = [candidate for candidate in self.candidates if solver.value(candidate.chosen)]
        picked.sort(key=lambda each: solver.value(self.start[_first(each.group)]))
        value, bound = round(solver.objective_value), round(solver.best_objective_bound)
        unit = self.problem.alignment_bytes
        placed = tuple(
            PlacedBuffer(
                each.name,
                solver.value(each.first),
                solver.value(each.end),
                solver.value(each.address) * unit,
                solver.value(each.units) * unit,
            )
            for each in self.rectangles
            if solver.value(each.there)
        )
        return Exact(value, bound, status == cp_model.OPTIMAL, tuple(each.option for each in picked), placed)

    def keep(self, least: int) -> None:
        """Allow only plans of that price."""
        self.model.add(self._total(0) == least)

    def _total(self, part: int) -> cp_model.LinearExpr:
        prices = [_parts(candidate.price)[part] for candidate in self.candidates]
        loads = [_parts(self.problem.fetches[name].price(self.objective))[part] for name, _ in self.loaded]
        chosen = [candidate.chosen for candidate in self.candidates]
        return cp_model.LinearExpr.weighted_sum([*chosen, *self.loaded.values()], [*prices, *loads])

    @cached_property
    def _reads(self) -> tuple[tuple[str, int], ...]:
        return tuple((name, index) for index, reads in enumerate(self.dag.reads) for name in reads)

    def _candidates(self, group: int) -> list[_Candidate]:
        """All options of a group that could fit by themselves, for all places of its inputs and outputs."""
        members = list(bits(group))
        made = [self.dag.makes[v] for v in members]
        reads = sorted({name for v in members for name in self.dag.reads[v]} - set(made))
        left = [name for name in made if name in self.dag.outputs or self._read_outside(name, group)]
        spills = self.problem.spills
        inputs: dict[str, Sequence[Source]] = {
            name: ("on", "off") if spills or self._maker(name) is None else ("on",) for name in reads
        }
        inside: Sequence[Sink] = ("on", "off", "both") if spills else ("on",)
        places: dict[str, Sequence[Sink]] = {
            name: ("off", "both") if name in self.dag.outputs else inside for name in left
        }
        found = []
        for sources in _assignments(inputs):
            for sinks in _assignments(places):
                whole = [n for n in reads if sources[n] == "on"] + [n for n in left if sinks[n] != "off"]
                room = self.capacity - sum(self.problem.tensor_bytes[name] for name in whole)
                options = self.problem.options(self.dag.names(group), sources, sinks) if room >= 0 else ()
                found.extend(self._fitting(group, options, room))
        return found

    def _fitting(self, group: int, options: Sequence[Option], room: int) -> list[_Candidate]:
        """The options that fit and that no smaller one undercuts."""
        priced = [(o.workspace_bytes, o.price(self.objective), o) for o in options if o.workspace_bytes <= room]
        priced.sort(key=lambda each: each[:2])
        found: list[_Candidate] = []
        for size, price, option in priced:
            if not found or price < found[-1].price:
                found.append(_Candidate(group, option, size, price, self._bool("")))
        return found

    def _read_outside(self, tensor: str, group: int) -> bool:
        return any(tensor in reads for v, reads in enumerate(self.dag.reads) if not group >> v & 1)

    def _partition(self) -> None:
        """Every operation is in one chosen group, whose members start together."""
        holding: list[list[cp_model.IntVar]] = [[] for _ in range(self.count)]
        sizes: list[list[int]] = [[] for _ in range(self.count)]
        self.together: dict[tuple[int, int], list[cp_model.IntVar]] = {}
        intervals = []
        ways: dict[int, list[cp_model.IntVar]] = {group: [] for group in self.groups}
        for candidate in self.candidates:
            ways[candidate.group].append(candidate.chosen)
        for group in self.groups:
            members = list(bits(group))
            chosen = self._bool(f"group {group}")
            self.model.add(_total(ways[group]) == chosen)
            interval = self.model.new_optional_fixed_size_interval_var(self.start[members[0]], len(members), chosen, "")
            intervals.append(interval)
            for v in members:
                holding[v].append(chosen)
                sizes[v].append(len(members))
                self.model.add(self.start[v] == self.start[members[0]]).only_enforce_if(chosen)
                for other in members:
                    self.together.setdefault((v, other), []).append(chosen)
        self.model.add_no_overlap(intervals)
        for v in range(self.count):
            self.model.add_exactly_one(holding[v])
        lengths = [cp_model.LinearExpr.weighted_sum(holding[v], sizes[v]) for v in range(self.count)]
        self.end = [start + length for start, length in zip(self.start, lengths, strict=True)]

    def _order(self) -> None:
        """Readers come after the group of the maker, unless they are in it."""
        for name, reader in self._reads:
            maker = self._maker(name)
            if maker is not None:
                same = _total(self._together(maker, reader))
                self.model.add(self.end[maker] <= self.start[reader] + self.count * same)

    def _ends(self) -> None:
        """Chosen options say where tensors are read and left; those read off chip, or loaded whole, were stored."""
        holding: list[list[_Candidate]] = [[] for _ in range(self.count)]
        for candidate in self.candidates:
            for v in bits(candidate.group):
                holding[v].append(candidate)
        for v, name in enumerate(self.dag.makes):
            sinks = [(candidate.chosen, candidate.option.sinks.get(name)) for candidate in holding[v]]
            self.model.add(self.made_on[name] == _total(chosen for chosen, sink in sinks if sink in ("on", "both")))
            self.model.add(self.made_off[name] == _total(chosen for chosen, sink in sinks if sink in ("off", "both")))
        for (name, reader), read_on in self.reads_on.items():
            sources = [(candidate.chosen, candidate.option.sources.get(name)) for candidate in holding[reader]]
            self.model.add(read_on == _total(chosen for chosen, source in sources if source == "on"))
            if name in self.made_off:
                streamed = _total(chosen for chosen, source in sources if source == "off")
                self.model.add(self.made_off[name] >= streamed)
                self.model.add_implication(self.loaded[name, reader], self.made_off[name])
                if not self.problem.spills:
                    self.model.add(self.loaded[name, reader] == 0)

    def _maker(self, tensor: str) -> int | None:
        return self.dag.makes.index(tensor) if tensor in self.dag.makes else None

    def _spans(self) -> Spans:
        """All possible pins, and for each reader of a pin's tensor whether it reads this one."""
        found: list[tuple[_Pin, dict[int, cp_model.IntVar]]] = []
        for name in self.dag.tensors:
            readers = [reader for tensor, reader in self._reads if tensor == name]
            maker = self._maker(name)
            pins = [] if maker is None else [_Pin(name, maker, self.made_on[name])]
            pins += [_Pin(name, reader, self.loaded[name, reader]) for reader in readers]
            users: list[dict[int, cp_model.IntVar]] = [{} for _ in pins]
            for reader in readers:
                for pin, used in zip(pins, users, strict=True):
                    if self.dag.ancestors[pin.start] >> reader & 1:
                        continue
                    used[reader] = self._bool(f"{name} from {pin.start} for {reader}")
                    self.model.add_implication(used[reader], pin.there)
                    self.model.add(self.start[pin.start] <= self.start[reader]).only_enforce_if(used[reader])
                inside = _total(self._together(maker, reader)) if maker is not None else 0
                from_one = _total(used[reader] for used in users if reader in used)
                self.model.add(from_one + inside >= self.reads_on[name, reader])
            found.extend(zip(pins, users, strict=True))
        return found

    def _bound(self, spans: Spans) -> None:
        """At each operation: the workspace of its group, and every pin from its start to its last reader."""
        for v in range(self.count):
            there = [candidate for candidate in self.candidates if candidate.group >> v & 1]
            taken = [cp_model.LinearExpr.weighted_sum([c.chosen for c in there], [c.workspace for c in there])]
            for pin, users in spans:
                reasons = list(self._reasons(pin, users, v))
                if reasons:
                    reaches = self._bool(f"{pin.tensor} from {pin.start} at {v}")
                    for reason in reasons:
                        self.model.add(reaches >= reason)
                    taken.append(self.problem.tensor_bytes[pin.tensor] * reaches)
            self.model.add(cp_model.LinearExpr.sum(taken) <= self.capacity)

    def _reasons(self, pin: _Pin, users: Mapping[int, cp_model.IntVar], v: int) -> Iterator[cp_model.LinearExpr]:
        """Expressions that are 1 where a pin is on chip at an operation: from its own group, or until a reader."""
        since = self._not_after(pin.start, v)
        if isinstance(since, int) and since == 0:
            return
        if self._together(pin.start, v):
            yield pin.there + _total(self._together(pin.start, v)) - 1
        for reader, used in users.items():
            until = self._not_after(v, reader)
            if not isinstance(until, int) or until:
                yield used + since + until - 2

    def _together(self, a: int, b: int) -> list[cp_model.IntVar]:
        """The chosen groups that hold two operations."""
        return self.together.get((a, b), [])

    def _not_after(self, a: int, b: int) -> cp_model.LinearExpr | int:
        """Whether the group of `a` is that of `b` or runs before it."""
        if a == b or self.dag.ancestors[b] >> a & 1:
            return 1
        if self.dag.ancestors[a] >> b & 1:
            return _total(self._together(a, b)) if self._together(a, b) else 0
        if (a, b) not in self._before:
            found = self._bool(f"{a} not after {b}")
            self.model.add(self.start[a] <= self.start[b]).only_enforce_if(found)
            self.model.add(self.start[a] >= self.start[b] + 1).only_enforce_if(found.negated())
            self._before[a, b] = found
        return self._before[a, b]

    def _addresses(self, spans: Spans) -> None:
        """Rectangles of positions and addresses: one for each pin, and for the workspace of each first operation."""
        unit = self.problem.alignment_bytes
        most = self.capacity // unit
        times, spaces = [], []
        for pin, users in spans:
            size = self.problem.tensor_bytes[pin.tensor] // unit
            if size > most:
                self.model.add(pin.there == 0)
                continue
            length = self.model.new_int_var(1, self.count, "")
            until = self.model.new_int_var(1, self.count, "")
            self.model.add(until >= self.end[pin.start])
            for reader, used in users.items():
                self.model.add(until >= self.end[reader]).only_enforce_if(used)
            times.append(self.model.new_optional_interval_var(self.start[pin.start], length, until, pin.there, ""))
            address = self.model.new_int_var(0, most - size, "")
            spaces.append(self.model.new_optional_fixed_size_interval_var(address, size, pin.there, ""))
            self.rectangles.append(_Rectangle(pin.tensor, pin.there, self.start[pin.start], until, address, size))
        for v in range(self.count):
            first = [c for c in self.candidates if _first(c.group) == v]
            there = self._bool("")
            self.model.add(sum(c.chosen for c in first) == there)
            height = self.model.new_int_var(0, most, "")
            self.model.add(height == sum(c.workspace // unit * c.chosen for c in first))
            address, top = self.model.new_int_var(0, most, ""), self.model.new_int_var(0, most, "")
            length = self.model.new_int_var(1, self.count, "")
            until = self.model.new_int_var(1, self.count, "")
            self.model.add(until == self.end[v]).only_enforce_if(there)
            times.append(self.model.new_optional_interval_var(self.start[v], length, until, there, ""))
            spaces.append(self.model.new_optional_interval_var(address, height, top, there, ""))
            self.rectangles.append(_Rectangle("workspace", there, self.start[v], until, address, height))
        self.model.add_no_overlap_2d(times, spaces)

    def _bool(self, name: str) -> cp_model.IntVar:
        return self.model.new_bool_var(name)


def _assignments(places: Mapping[str, Sequence[P]]) -> list[dict[str, P]]:
    """Every choice of one place for each name."""
    return [dict(zip(places, chosen, strict=True)) for chosen in product(*places.values())]


def _total(chosen: Iterable[cp_model.IntVar]) -> cp_model.LinearExpr:
    return cp_model.LinearExpr.sum(list(chosen))


def _parts(price: int) -> tuple[int, int]:
    return asked(price), tie(price)


def _first(group: int) -> int:
    return (group & -group).bit_length() - 1
