"""Accesses in C: which array a step touches, and the index expressions of the cell.

A ring along the innermost axis would put a modulo into the innermost loop. Instead the loop is split where the ring
wraps: its number `wrap = floor(index / window)` becomes a time dimension around the innermost one, and the index is
`index - window * wrap`, which has stride one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import islpy as isl

from polyfuse.choices import BUFFER
from polyfuse.codegen.lower.layout import Array
from polyfuse.codegen.lower.selection import SCALAR, Selection
from polyfuse.network.tensor import Tensor
from polyfuse.schedule.buffers import cut_axes, why_no_rows
from polyfuse.schedule.cells import Buffer, Index
from polyfuse.schedule.schedule import Schedule
from polyfuse.schedule.steps import Step, Touch, chip_name
from polyfuse.schedule.storage import Storage
from polyfuse.sets.spaces import without_domain


def in_place(schedule: Schedule, tensor: Tensor) -> bool:
    """Whether the copies of a tensor can be left out: its off-chip array holds each element before it is read.

    Inputs and weights never change. A tensor whose every element is computed once and is stored somewhere can be
    computed straight into its off-chip array.
    """
    flow = schedule.flows.get(tensor.name)
    if flow is None or flow.role != "made":
        return True
    return not flow.stores.is_empty() and bool(flow.executions.is_single_valued())


@dataclass(frozen=True, eq=False)
class Places:
    """Where a form of a program keeps its values, and how a step finds them."""

    storage: Storage
    staged: bool
    selection: Selection = SCALAR

    def stays(self, tensor: Tensor) -> bool:
        """Whether layers work on the off-chip array of a tensor, without a copy."""
        return not self.staged and in_place(self.storage.schedule, tensor) and not self.selection.converts(tensor)

    def why_no_rows(self) -> str | None:
        """Why row kernels cannot compute the group, or use its buffers that are there; None where they can."""
        schedule, buffers = self.storage.schedule, self.storage.buffers
        if schedule.times:
            return "times inside of tiles order the points of a row; leave them out"
        used = (name for name, flow in schedule.flows.items() if not self.stays(flow.tensor))
        return next((why for name in used if (why := why_no_rows(schedule, buffers, name)) is not None), None)

    def keeps(self, step: Step) -> bool:
        """Whether a step is there in this form of the program: copies are not, where values stay in place."""
        return step.action == "make" or not self.stays(step.touches[0].tensor)

    def is_offchip(self, touch: Touch) -> bool:
        """The access goes to an off-chip array: because it is a copy's far end, or because there is no copy."""
        return touch.memory != BUFFER or self.stays(touch.tensor)

    def buffer(self, tensor: Tensor) -> Buffer:
        """A buffer. With row kernels no ring runs along a row: rows are as wide as the image then."""
        buffer = self.storage.buffers[tensor.name]
        cut = cut_axes(self.storage.schedule, tensor.name)
        return buffer.widened(cut) if self.selection.target.has_rows else buffer

    def array(self, tensor: Tensor, offchip: bool) -> Array:
        """A tensor's off-chip array, or its on-chip buffer."""
        layout = self.selection.layout(tensor, offchip)
        given = tensor.name in self.selection.interface or tensor.name in self.storage.schedule.network.weights
        target = self.selection.target
        padded = target.has_rows and not given
        if offchip:
            part = self.selection.inside.get(tensor.name)
            among = part.whole.concrete_shape[1] if part is not None else None
            return Array(tensor.name, tensor.concrete_shape, layout, padded, among, target.element)
        buffer = self.buffer(tensor)
        name = chip_name(tensor, buffer.array)
        return Array(name, buffer.shape, layout, target.has_rows, element=target.element)

    def wrapping(self, touch: Touch) -> Index | None:
        """The innermost index of an access, if it is a ring."""
        if self.is_offchip(touch):
            return None
        last = self.buffer(touch.tensor).indices[-1]
        return last if last.folded and isinstance(last.origin, isl.Aff) else None

    def subscripts(self, touch: Touch, instance: isl.PwMultiAff, wraps: Mapping[Touch, int]) -> list[isl.PwAff]:
        """The index expressions of an access over the loops: `{ [time] -> index }` each.

        `instance` is `{ [time] -> step[t, i, wrap] }`; `wraps` says which of its indices counts the wraps of an access.
        """
        element = without_domain(isl.PwMultiAff.from_map(touch.element)).pullback_pw_multi_aff(instance)
        array = self.array(touch.tensor, self.is_offchip(touch))
        if self.is_offchip(touch):
            count = len(touch.tensor.shape)
            first = element.dim(isl.dim_type.out) - count
            return array.subscripts([element.get_at(first + d) for d in range(count)])
        buffer = self.buffer(touch.tensor)
        cell = buffer.cell.pullback_pw_multi_aff(element)
        found = [cell.get_at(d) for d in range(len(buffer.indices))]
        if touch in wraps:
            last = buffer.indices[-1]
            wrapped = instance.get_at(wraps[touch]).scale_val(isl.Val(last.window))
            found[-1] = last.unfolded.pullback_pw_multi_aff(element).sub(wrapped)
        return array.subscripts(found)


@dataclass(frozen=True, eq=False)
class Timed:
    """Steps whose executions and times count wraps: for each step, the index that counts the wraps of an access."""

    steps: tuple[Step, ...]
    names: tuple[str, ...]
    wraps: Mapping[str, Mapping[Touch, int]]


def with_wraps(places: Places, steps: Sequence[Step], names: Sequence[str]) -> Timed:
    """Insert the time dimensions that count wraps, before the innermost; none where nothing wraps innermost."""
    distinct = {step.name: distinct_wraps([t for t in step.touches if places.wrapping(t)]) for step in steps}
    count = max((len(groups) for groups in distinct.values()), default=0)
    counted = {step.name: count_wraps(places, step, distinct[step.name], count) for step in steps}
    loops = tuple(f"wrap{k}" for k in range(count))
    return Timed(
        tuple(step for step, _ in counted.values()),
        (*names[:-1], *loops, names[-1]),
        {name: wraps for name, (_, wraps) in counted.items()},
    )


def distinct_wraps(touches: Sequence[Touch]) -> list[list[Touch]]:
    """Accesses grouped by the cell they touch: reading and writing the same element wraps once."""
    groups: list[list[Touch]] = []
    for touch in touches:
        same = next((g for g in groups if g[0].tensor == touch.tensor and g[0].element.is_equal(touch.element)), None)
        if same is None:
            groups.append([touch])
        else:
            same.append(touch)
    return groups


def count_wraps(
    places: Places, step: Step, groups: Sequence[Sequence[Touch]], count: int
) -> tuple[Step, dict[Touch, int]]:
    """Give the executions of a step an index for each wrap, and their times a dimension for each, zero where unused.

    { step[t, i] -> [outer.., inner] }   to   { step[t, i, wrap..] -> [outer.., wrap.., inner] }
    """
    if count == 0:
        return step, {}
    rank, length = step.executions.dim(isl.dim_type.set), step.time.dim(isl.dim_type.out)
    widened = step.executions.identity()
    for group in groups:
        index = places.wrapping(group[0])
        assert index is not None
        wrap = isl.Map.from_aff(index.affine.scale_down_val(isl.Val(index.window)).floor())
        widened = widened.flat_range_product(group[0].element.apply_range(wrap))
    widened = widened.set_tuple_name(isl.dim_type.out, step.name)
    time = widened.reverse().apply_range(step.time).insert_dims(isl.dim_type.out, length - 1, count)
    for k in range(count):
        if k < len(groups):
            time = time.equate(isl.dim_type.in_, rank + k, isl.dim_type.out, length - 1 + k)
        else:
            time = time.fix_val(isl.dim_type.out, length - 1 + k, isl.Val(0))
    touches, wraps = [], {}
    for touch in step.touches:
        touches.append(replace(touch, element=widened.reverse().apply_range(touch.element)))
        for k, group in enumerate(groups):
            if touch in group:
                wraps[touches[-1]] = rank + k
    return replace(step, executions=widened.range(), time=time, touches=tuple(touches)), wraps
