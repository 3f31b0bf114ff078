"""Proofs of plans for a scratchpad machine: isl's judgement of the C of each group.

    PlacedGroup ──prove()──> None, or IllegalSchedule with a witness
    ScratchPlan + Graph ──prove_plan()──> `Proof`: how many groups are proved, and why others are not

The steps of a group are times. Its tables say which boxes a step loads, makes and stores, and where rings begin. What
an operation reads of them follows from its layer's access relations, and not from the arithmetic that planned it.
docs/inside/scratchpad-plans.md says what is proved, and what is not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256

import islpy as isl
import numpy as np

from polyfuse.doors import public
from polyfuse.errors import IllegalSchedule, TooComplex
from polyfuse.plan.graph.operations import Graph, Operation
from polyfuse.plan.price.options import signature
from polyfuse.plan.proof.placed import PlacedGroup, placed_group
from polyfuse.plan.proof.relations import AXES, Boxes, Relations, in_memory
from polyfuse.plan.scratchplan import ScratchPlan
from polyfuse.schedule.valueflow import Accesses, at_most, clash, last_written, unserved
from polyfuse.sets.limits import operation_limit
from polyfuse.sets.spaces import coordinates

IN, OUT, SET = isl.dim_type.in_, isl.dim_type.out, isl.dim_type.set
MOST_OPERATIONS = 1_000_000
"""isl's operations for one tensor of a group."""


def prove(placed: PlacedGroup) -> None:
    """Prove that a group computes every element that it leaves from the right values, and stores it once.

    Errors: IllegalSchedule with a witness; TooComplex where it takes too much work to say.
    """
    judge = _Judge(placed)
    for name in (*placed.tables.of, *placed.weights):
        with operation_limit(MOST_OPERATIONS, what=f"proof of {name}"):
            judge.tensor(name)
    for operation in placed.operations:
        if operation.name in placed.tables.taken_in:
            with operation_limit(MOST_OPERATIONS, what=f"proof of the sums of '{operation.name}'"):
                judge.sums(operation)


@public
@dataclass(frozen=True)
class Proof:
    """isl's judgement of a plan that it does not refuse.

    groups    the number of groups
    unproved  the reason for each group that isl could not judge
    """

    groups: int
    unproved: Mapping[int, str]

    def __str__(self) -> str:
        if not self.unproved:
            return "every read of every step finds its element, and every output is stored once"
        numbers = ", ".join(map(str, self.unproved))
        many = "groups" if len(self.unproved) > 1 else "group"
        return f"not proved: {many} {numbers} of {self.groups} ({next(iter(self.unproved.values()))})"


def prove_plan(plan: ScratchPlan, graph: Graph) -> Proof:
    """Prove every group of a plan, equal ones once.

    Errors: IllegalSchedule with a witness: the step, the operation, the element that it needs, and what it finds;
    InvalidInput for groups that lack buffers.
    """
    return prove_groups([placed_group(plan, number, graph) for number in range(len(plan.groups))])


def prove_groups(groups: Sequence[PlacedGroup]) -> Proof:
    """The same for the placed groups of a plan."""
    reasons = [reason_of(placed) for placed in groups]
    return Proof(len(groups), {number: reason for number, reason in enumerate(reasons) if reason is not None})


def reason_of(placed: PlacedGroup) -> str | None:
    """Why a group is not proved; None where it is. Errors: IllegalSchedule."""
    key = digest(placed)
    if key not in _REASONS:
        try:
            prove(placed)
            reason = None
        except TooComplex as error:
            reason = str(error).partition(";")[0]
        except isl.Error as error:
            reason = f"isl stopped with an error of its own: {' '.join(str(error).split())}"
        if len(_REASONS) >= MOST_KNOWN:
            _REASONS.pop(next(iter(_REASONS)))
        _REASONS[key] = reason
    return _REASONS[key]


_REASONS: dict[str, str | None] = {}
MOST_KNOWN = 4096
"""Groups of which it is remembered whether they are proved."""


def digest(placed: PlacedGroup) -> str:
    """All that a proof depends on, without names."""
    group, found = placed.group, placed.tables
    number = {name: k for k, name in enumerate(group.links)}
    ends = [[number[name] for name in names] for names in (placed.loaded, placed.stored, placed.kept)]
    order = [group.operations.index(operation) for operation in placed.operations]
    places = [placed.places[name] for name in group.links]
    sizes: list[object] = [(place.rows, place.columns, place.planes, place.whole) for place in places]
    arrays = [found.image, *(place.shifts for place in places)]
    for name in group.links:
        table = found.of[name]
        arrays += [table.new, table.fresh, table.channels]
    for weights in placed.weights.values():
        arrays += [weights.place.shifts, weights.loaded, weights.used, weights.steps]
        sizes.append((weights.counts, weights.channels, weights.place.planes))
    arrays += [boxes for taken in found.taken_in.values() for boxes in taken.values()]
    text = repr((signature(group), ends, order, sizes, placed.double_buffer, found.counts, list(map(len, arrays))))
    return sha256(text.encode() + b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()


@dataclass(frozen=True, eq=False)
class _Judge:
    placed: PlacedGroup

    @cached_property
    def relations(self) -> Relations:
        """The accesses of the group."""
        return Relations(self.placed)

    def tensor(self, name: str) -> None:
        """Every read of a tensor finds its element, and every output is left as a whole."""
        relations, placed = self.relations, self.placed
        self.capacity(name)
        writes = relations.writes(name)
        if writes is not None:
            self.inside(name, relations.made(name), writes.name)
            if (pair := clash(writes)) is not None:
                first, other = ends_of(pair)
                self.refuse(
                    f"step {self.step(first, name)}: {writes.name} puts {self.element(name, first)} and "
                    f"{self.element(name, other)} into one cell; enlarge its buffer"
                )
            for reads in relations.reads(name):
                self.served(name, reads, writes)
        if name in placed.stored:
            self.inside(name, relations.stored(name), f"the store of {name}")
            self.complete(name, relations.stored(name), once=True)
        if name in placed.kept:
            self.complete(name, relations.made(name), once=False)

    def served(self, name: str, reads: Accesses, writes: Accesses) -> None:
        """Every read finds its element."""
        lost = unserved(reads, [writes])
        if lost.is_empty():
            return
        point = lost.sample_point()
        at, place = coordinates(point), self.relations.place(name)
        why, advice = "nothing has put it there before", "keep more of it, or run what makes it before"
        found = last_written(point, reads, [writes])
        if found is not None:
            other = coordinates(found[1])
            ring = f"a ring of {place.rows} rows and {place.columns} columns"
            ring = "its pin" if place.whole else "its buffer" if name in self.placed.weights else ring
            who, advice = f"{writes.name} of step {self.step(other, name)}", "keep more of it, or enlarge its buffer"
            why = f"{who} has put {self.element(name, other)} in its place in {ring}"
            if not reads.during(writes).intersect_domain(isl.Set.from_point(point)).is_empty():
                why = f"{who} is under way in its place in {ring}"
        self.refuse(f"step {self.step(at, name)}: {reads.name} reads {self.element(name, at)}, but {why}; {advice}")

    def capacity(self, name: str) -> None:
        """No plane of a tensor is before the start of its buffer, or behind the end."""
        relations, place = self.relations, self.relations.place(name)
        made, shape = relations.made(name), relations.shape(name)
        first, last = ((made.ends[:, k] - place.shifts[:, 2]) * made.some for k in (2, 3))
        planes = shape[0] * shape[1] if place.whole else int(last.max(initial=0))
        outside = planes > place.planes or first.min(initial=0) < 0
        if outside or (place.whole and (place.rows, place.columns) != shape[2:]):
            size = place.rows * place.columns * place.element_bytes
            many = f"{planes} plane{'s' * (planes != 1)} of {size:,} B"
            self.refuse(f"{name} has {many} in a buffer of {place.room.bytes:,} B; enlarge it")

    def inside(self, name: str, boxes: Boxes, who: str) -> None:
        """No element that is written, stored or added up is outside of its tensor."""
        ends = boxes.ends
        outside = ((ends[:, ::2] < 0) | (ends[:, 1::2] > np.array(boxes.shape))).any(axis=1) & (boxes.some > 0)
        if outside.any():
            step = self.step_numbered(int(np.argmax(outside)), name)
            box = " x ".join(f"{a}..{b - 1}" for a, b in ends[np.argmax(outside)].reshape(-1, 2).tolist())
            self.refuse(
                f"step {step}: {who} takes {box} of {name}, which has {' x '.join(map(str, boxes.shape))}; cut it"
            )

    def complete(self, name: str, boxes: Boxes, once: bool) -> None:
        """Every element of an output is left, and none is stored twice."""
        steps, axes = self.relations.steps, boxes.cut
        held = steps.instances(boxes, axes)
        box = isl.Set.universe(isl.Space.set_alloc(isl.DEFAULT_CONTEXT, 0, len(axes)))
        for k, axis in enumerate(axes):
            box = box.lower_bound_val(SET, k, isl.Val(0)).upper_bound_val(SET, k, isl.Val(boxes.shape[axis] - 1))
        missing = box.subtract(held.project_out(SET, 0, steps.rank))
        if not missing.is_empty():
            at = [0] * steps.rank + coordinates(missing.sample_point())
            verb = "stored" if once else "made"
            self.refuse(f"output {self.element(name, at, axes)} is never {verb}; some step must do it")
        if not once:
            return
        stores = held.identity().project_out(OUT, 0, steps.rank)
        twice = stores.apply_range(stores.reverse())
        twice = twice.subtract(isl.Map.identity(twice.get_space()))
        if not twice.is_empty():
            first, other = ends_of(twice.sample())
            self.refuse(
                f"output {self.element(name, first, axes)} is stored in step {self.step(first)} and again in step "
                f"{self.step(other)}; store it once"
            )

    def sums(self, operation: Operation) -> None:
        """An operation that accumulates has added up everything, once, when it makes its output."""
        relations = self.relations
        ((operand, parts),) = zip(operation.layer.inputs, operation.operands, strict=True)
        reads = in_memory(operation.layer, operand)
        for axis in (0, 1):
            if not reads.is_subset(reads.equate(IN, axis, OUT, axis)):
                raise TooComplex(f"'{operation.name}' adds up channels of other places; expected each into its own")
        taken = [relations.taken(operation, part) for part in parts]
        for part, boxes in zip(parts, taken, strict=True):
            self.inside(part.tensor, boxes, f"'{operation.name}'")
        axes = tuple(sorted({axis for boxes in taken for axis in boxes.cut} | ({1} if len(parts) > 1 else set())))
        added = isl.Set.empty(relations.steps.space(len(axes)))
        for part, boxes in zip(parts, taken, strict=True):
            offset = np.zeros(8, np.int64)
            offset[2:4] = part.offset
            moved = Boxes(boxes.shape, (boxes.ends + offset) * boxes.some[:, None])
            added = added.union(relations.steps.instances(moved, axes))
        into = self.sums_of(axes)
        wanted = relations.elements(operation.output, reads, axes)
        twice = into.intersect_domain(added)
        if not twice.is_injective():
            pairs = twice.apply_range(twice.reverse())
            at, other = ends_of(pairs.subtract(isl.Map.identity(pairs.get_space())).sample())
            element = self.element(operand.name, at, axes)
            steps = f"step {self.step(at)} and again in step {self.step(other)}"
            self.refuse(f"'{operation.name}' adds up {element} in {steps}; take it once")
        moment = relations.steps.moment(len(axes), 0)
        earlier = moment.apply_range(at_most(moment).reverse())
        pairs = into.apply_range(twice.reverse()) & earlier.apply_range(moment.reverse())
        lost = wanted.subtract(pairs.domain())
        if not lost.is_empty():
            at = coordinates(lost.sample_point())
            element = self.element(operand.name, at, axes)
            self.refuse(f"step {self.step(at)}: '{operation.name}' is made before {element} is added up; make it later")

    def sums_of(self, axes: Sequence[int]) -> isl.Map:
        """`{ [s, a] -> [sum, a] }`: which sums an element of a step goes into; new ones begin with image and block."""
        steps = self.relations.steps
        begun = np.cumsum(self.placed.starts)[:, None]
        space = steps.space(len(axes))
        elements = isl.Set.universe(space).identity().project_out(OUT, 0, steps.rank)
        found = None
        for where, (number,) in steps.values(begun, len(axes)):
            part = isl.Map.from_aff(number).flat_range_product(elements).intersect_domain(where)
            found = part if found is None else found.union(part)
        assert found is not None
        return found

    def step(self, at: Sequence[int], name: str = "") -> int:
        """The number of the step of an access, to a tensor or to weights."""
        return self.step_numbered(self.relations.steps_of(name).number(at), name)

    def step_numbered(self, moment: int, name: str) -> int:
        """The step of the group of a moment of weights; steps themselves are theirs."""
        weights = self.placed.weights.get(name)
        return moment if weights is None else int(weights.steps[moment])

    def element(self, name: str, at: Sequence[int], axes: Sequence[int] | None = None) -> str:
        """The element of an access, with `:` for axes along which all are alike."""
        axes = self.relations.axes(name) if axes is None else axes
        by_axis = dict(zip(axes, at[len(at) - len(axes) :], strict=True))
        return f"{name}[{', '.join(str(by_axis.get(axis, ':')) for axis in AXES)}]"

    def refuse(self, problem: str) -> None:
        """Raise what is wrong."""
        raise IllegalSchedule(f"{self.placed.where}: {problem}")


def ends_of(pair: isl.BasicMap) -> tuple[list[int], list[int]]:
    """The coordinates of a pair's ends."""
    first, other = (isl.Set.from_basic_set(end) for end in (pair.domain(), pair.range()))
    return coordinates(first.sample_point()), coordinates(other.sample_point())
