"""Row steps: what a group executes when row kernels compute its layers, one step for each kernel.

    Places ──group_rows()──> RowStep: { row[t, n, g] } with its time, its kernel and where its rows lie

The executions are those of the schedule: a row step stands for the points of whole strips, `points` of them each.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import islpy as isl

from polyfuse.codegen.c.elements import FLOAT
from polyfuse.codegen.lower.finishes import Finish, finishes
from polyfuse.codegen.lower.layout import PAGE_BYTES, Array
from polyfuse.codegen.lower.phases import Phase, phases
from polyfuse.codegen.lower.places import Places
from polyfuse.codegen.lower.strips import Heights, Strip, one_by_one, strips
from polyfuse.codegen.rows.convert import ToBlocked, ToPlanar
from polyfuse.codegen.rows.shape import Kind, RowShape, balanced
from polyfuse.network.layer import Layer
from polyfuse.network.tensor import Tensor
from polyfuse.network.window import Pair, Window
from polyfuse.schedule.cells import Index
from polyfuse.schedule.schedule import Action, Flow, Schedule
from polyfuse.schedule.steps import REDUCTION_DIMS, point_dims
from polyfuse.sets.counting import count

STREAM_BYTES = 1 << 24
"""Arrays of at least so many bytes leave nothing of a last-level cache to others: many cores share 16 to 64 MiB."""
FIRST_BYTES = 32 << 10
"""Rows of so many bytes that a stencil prefetches to write leave nothing in a first cache of the ring that it reads."""
AHEAD_BYTES = 2 << 20
"""Arrays of so many bytes do not stay in a second cache: convolutions prefetch their rows."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of one array that a step reads or writes, `step` apart, from the element `[n, row, column]` on.

    `row` and `column` are expressions over the executions of the step and may lie outside the image. `indices` are
    those of the buffer; none for an off-chip array, whose subscripts are the elements themselves. Of a column every
    execution reads the same one.
    """

    tensor: Tensor
    array: Array
    indices: tuple[Index, ...]
    row: isl.PwAff
    column: isl.PwAff
    count: int
    step: int = 1
    is_column: bool = False

    @property
    def is_large(self) -> bool:
        """Whether no second cache holds the array."""
        return self.array.bytes >= AHEAD_BYTES


@dataclass(frozen=True, eq=False)
class RowStep:
    """One row kernel at all the places where it runs.

    `shape` has no name yet: kernels of one shape are one. `makes` are the tensors whose points are executed, `points`
    of each by every execution; `layer` is where weights and bias come from, `slopes` where those of
    the activation do; the outputs are those of a `phase`.
    """

    name: str
    shape: RowShape
    layer: Layer | None
    makes: tuple[Tensor, ...]
    points: int
    executions: isl.Set
    time: isl.Map
    reads: tuple[Rows, ...]
    writes: Rows
    added: Rows | None = None
    slopes: Layer | None = None
    phase: Phase | None = None

    @property
    def weights_name(self) -> str | None:
        """The array of packed weights; None where the kernel reads none."""
        if self.layer is None or not self.has_weights:
            return None
        return f"packed_weights_{self.layer.name}{self.phase.label if self.phase is not None else ''}"

    @property
    def bias_name(self) -> str | None:
        """The array of the bias, filled up to whole blocks; None where the kernel reads none."""
        return f"packed_bias_{self.layer.name}" if self.layer is not None and self.shape.reads_bias else None

    @property
    def every(self) -> tuple[Rows, ...]:
        """All rows that are read and written, the written ones last."""
        return (*self.reads, *((self.added,) if self.added is not None else ()), self.writes)

    @property
    def has_weights(self) -> bool:
        """Whether the kernel reads packed weights."""
        return self.layer is not None and bool(self.layer.weights) and self.shape.kind.weighted

    @property
    def prefetches_in(self) -> bool:
        """Whether rows that come straight from memory are prefetched.

        The hardware follows few streams, and none from one row to the next: what it misses, the kernel would wait for.
        """
        rows = self.reads[0]
        return not rows.indices and self.shape.kind.prefetches_in(self.shape, rows.is_large)

    @property
    def prefetches_out(self) -> bool:
        """Whether rows that go straight to memory are prefetched: where many are written at once."""
        return not self.writes.indices and self.shape.kind.prefetches_out(self.shape, self.writes.is_large)


def group_rows(places: Places) -> tuple[list[tuple[RowStep, ...]], set[str]]:
    """The row steps of every layer and copy that has them, and the names of the steps that they replace."""
    found: list[tuple[RowStep, ...]] = []
    replaced: set[str] = set()
    if not places.selection.target.has_rows:
        return found, replaced
    schedule = places.storage.schedule
    for finish in finishes(schedule, places.selection).values():
        steps = finish_steps(places, finish)
        if steps:
            found += steps
            replaced |= {statement.name for layer in between(schedule, finish) for statement in layer.statements}
    for flow in schedule.flows.values():
        if not places.selection.converts(flow.tensor):
            continue
        if not flow.loads.is_empty() and (loads := copy_steps(places, flow, "load")) is not None:
            found.append(loads)
            replaced.add(f"load_{flow.tensor.name}")
        if not flow.stores.is_empty() and (stores := copy_steps(places, flow, "store")) is not None:
            found.append(stores)
            replaced.add(f"store_{flow.tensor.name}")
    return found, replaced


def finish_steps(places: Places, finish: Finish) -> list[tuple[RowStep, ...]]:
    """The row steps of each phase of a layer and of what its kernel finishes; none where its executions are no rows."""
    found = [phase_steps(places, finish, phase) for phase in phases(finish.base)]
    return [] if None in found else [steps for steps in found if steps]


def phase_steps(places: Places, finish: Finish, phase: Phase) -> tuple[RowStep, ...] | None:
    """The row steps of a phase; None where its executions are no rows."""
    kind = places.selection.kinds[finish.base.name]
    steps = steps_of_kind(places, finish, kind, phase)
    if not steps or not kind.priced:
        return steps
    cheaper = kind.otherwise(main_step(steps).shape, places.selection.target)
    return steps if cheaper is None else steps_of_kind(places, finish, cheaper, phase)


def main_step(steps: Sequence[RowStep]) -> RowStep:
    """The step of a layer that computes most."""
    return max(steps, key=lambda step: step.points * count(step.executions))


def steps_of_kind(places: Places, finish: Finish, kind: Kind, phase: Phase) -> tuple[RowStep, ...] | None:
    """The row steps that compute a phase with one kind of row kernel; None where its executions are no rows."""
    schedule, layer = places.storage.schedule, finish.base
    window, x, out = phase.window, kind.operands(layer)[0], finish.last.output
    offchip = x in schedule.network.inputs and places.selection.reads_offchip(layer, x)
    tallest = kind.tallest(layer, places.selection.target)
    in_memory = offchip or places.stays(x)
    if (
        kind.planar_out
        and not in_memory
        and places.stays(out)
        and FLOAT.bytes * tallest * out.concrete_shape[3] > FIRST_BYTES
    ):
        tallest //= 2
    heights = several(places.array(x, in_memory), tallest) if tallest > 1 else one_by_one
    moments = phase.moments(schedule.flows[out.name].executions)
    if moments.is_empty():
        return ()
    found = strips(moments, out, window, x.concrete_shape[3], heights)
    if found is None or any(columns_read(window, strip) < 1 for strip in found):
        return None
    stage = schedule.stage("make", out)
    assert stage is not None
    steps = [strip_step(places, finish, kind, phase, strip, k, stage, offchip) for k, strip in enumerate(found)]
    return None if None in steps else tuple(step for step in steps if step is not None)


def strip_step(
    places: Places, finish: Finish, kind: Kind, phase: Phase, strip: Strip, k: int, stage: int, offchip: bool
) -> RowStep | None:
    """The row step of one strip; None where the rows that it reads lie too differently for one kernel."""
    schedule, layer, name = places.storage.schedule, finish.base, f"{finish.last.name}{phase.label}__{k}"
    window, out = phase.window, finish.last.output
    named = with_name(strip, name)
    reads = tuple(
        column_rows(places, tensor, named)
        if tensor == kind.column(layer)
        else window_rows(places, tensor, named, window, kind, offchip and tensor == layer.inputs[0])
        for tensor in kind.operands(layer)
    )
    made = replace(named, first_row=phase.place(named.first_row, 0), first_column=phase.place(named.first_column, 1))
    writes = plain_rows(places, out, made, places.stays(out))
    added = plain_rows(places, finish.added, made, places.stays(finish.added)) if finish.added else None
    if any(rows.array.pitch < columns_read(window, strip) for rows in reads if not rows.is_column):
        return None
    shape = layer_shape(finish, kind, phase, strip, reads, writes, added)
    shape = replace(shape, stream=kind.streams and shape.apart == 1 and is_streamed(places, out))
    makes = tuple(each.output for each in between(schedule, finish))
    points = strip.height * strip.columns * out.concrete_shape[1]
    time = row_time(schedule, named.executions, stage, phase.first)
    return RowStep(
        name, shape, layer, makes, points, named.executions, time, reads, writes, added, finish.slopes, phase
    )


def is_streamed(places: Places, out: Tensor) -> bool:
    """Whether a tensor is written past the caches: straight to a large array whose rows suit vectors, for later groups.

    A smaller one may still be in a cache when it is read; what its own group reads is read soon.
    """
    array = places.array(out, True)
    read = places.storage.schedule.network.readers(out)
    return places.stays(out) and not read and array.layout.order != "planar" and array.bytes >= STREAM_BYTES


def columns_read(window: Window, strip: Strip) -> int:
    """The columns that all windows of a strip span, without those outside of the image."""
    return window.stride[1] * (strip.columns - 1) + window.reach[1] - sum(strip.outside)


def between(schedule: Schedule, finish: Finish) -> Iterator[Layer]:
    """The layers of one kernel, the last first."""
    layer = finish.last
    while layer is not finish.base:
        yield layer
        makers = (schedule.network.makers.get(t) for t in layer.inputs if t != finish.added)
        layer = next(maker for maker in makers if maker is not None)
    yield layer


def several(x: Array, tallest: int) -> Heights:
    """Several rows at once; fewer where the rows of an image start at the same place in every page.

    In blocks, where more rows come than are computed at once, all but the last take as many as are.
    """
    if x.layout.order != "planar":
        return lambda rows: (tallest,) * (rows // tallest) + ((rows % tallest,) if rows % tallest else ())
    if FLOAT.bytes * x.pitch % PAGE_BYTES == 0:
        tallest //= 2
    return lambda rows: balanced(rows, tallest)


def layer_shape(
    finish: Finish, kind: Kind, phase: Phase, strip: Strip, reads: Sequence[Rows], writes: Rows, added: Rows | None
) -> RowShape:
    """The shape of the kernel of one strip."""
    layer, window = finish.base, phase.window
    padding = (window.padding[1], window.padding[3])
    return RowShape(
        "row",
        kind.placed(padding, strip.outside, [rows.array.pitch for rows in reads]),
        kind.in_channels(layer),
        layer.output.concrete_shape[1],
        strip.columns,
        window.kernel,
        window.stride[1],
        window.dilation[1],
        strip.outside,
        0 if kind.planar_in else reads[0].array.pitch,
        0 if kind.planar_out else writes.array.pitch,
        added.array.pitch if added is not None and not kind.planar_out else 0,
        len(layer.weights) > 1,
        finish.activation,
        finish.residual,
        strip.height,
        apart=phase.apart[1],
    )


def copy_steps(places: Places, flow: Flow, action: Action) -> tuple[RowStep, ...] | None:
    """The row steps that load or store a tensor whose layout changes on the way; None where they are no rows."""
    schedule, tensor = places.storage.schedule, flow.tensor
    moments = flow.loads if action == "load" else flow.stores
    inward = action == "load"
    kind: Kind = ToBlocked() if inward else ToPlanar()
    found = strips(moments, tensor, Window(), tensor.concrete_shape[3], one_by_one)
    if found is None:
        return None
    stage = schedule.stage(action, tensor)
    assert stage is not None
    steps = []
    for k, strip in enumerate(found):
        name = f"{action}_{tensor.name}__{k}"
        named = with_name(strip, name)
        source, target = (plain_rows(places, tensor, named, offchip) for offchip in (inward, not inward))
        channels = tensor.concrete_shape[1]
        shape = RowShape("row", kind, channels, channels, strip.columns)
        shape = replace(shape, out_pitch=target.array.pitch) if inward else replace(shape, in_pitch=source.array.pitch)
        points = strip.columns * channels
        time = row_time(schedule, named.executions, stage)
        steps.append(RowStep(name, shape, None, (), points, named.executions, time, (source,), target))
    return tuple(steps)


def with_name(strip: Strip, name: str) -> Strip:
    """The strip with named executions."""
    space = strip.executions.get_space().set_tuple_name(isl.dim_type.set, name)
    named = isl.MultiAff.identity_on_domain_space(space).reset_tuple_id(isl.dim_type.out)
    row, column = (value.pullback_multi_aff(named) for value in (strip.first_row, strip.first_column))
    return replace(strip, executions=strip.executions.set_tuple_name(name), first_row=row, first_column=column)


def rows_at(
    places: Places, tensor: Tensor, offchip: bool, row: isl.PwAff, column: isl.PwAff, count: int, step: int = 1,
    is_column: bool = False,
) -> Rows:  # fmt: skip
    """Rows of a tensor's off-chip array, or of its buffer."""
    indices = () if offchip else places.buffer(tensor).indices
    return Rows(tensor, places.array(tensor, offchip), indices, row, column, count, step, is_column)


def plain_rows(places: Places, tensor: Tensor, strip: Strip, offchip: bool) -> Rows:
    """The rows of a strip themselves."""
    return rows_at(places, tensor, offchip, strip.first_row, strip.first_column, strip.height)


def window_rows(places: Places, tensor: Tensor, strip: Strip, window: Window, kind: Kind, offchip: bool) -> Rows:
    """The rows that the windows of a strip read."""
    top, left = window.padding[:2]
    row = strip.first_row.scale_val(isl.Val(window.stride[0])).add_constant_val(isl.Val(-top))
    column = strip.first_column.scale_val(isl.Val(window.stride[1])).add_constant_val(isl.Val(-left))
    taps, step = window.kernel[0], window.dilation[0]
    if kind.tall > 1:
        taps, step = strip.height + step * (taps - 1), 1
    elif strip.height > 1:
        taps, step = strip.height, window.stride[0]
    return rows_at(places, tensor, offchip or places.stays(tensor), row, column, taps, step)


def column_rows(places: Places, tensor: Tensor, strip: Strip) -> Rows:
    """The one column of a tensor, which every execution of a strip reads."""
    zero = strip.first_row.sub(strip.first_row).coalesce()
    return rows_at(places, tensor, places.stays(tensor), zero, zero, 1, is_column=True)


def row_time(schedule: Schedule, executions: isl.Set, stage: int, phase: Pair = (0, 0)) -> isl.Map:
    """`{ row[t, n, g] -> [tile time, stage, n, g, phase, 0..] }`, as long as the times of all steps of the group."""
    coordinates = len(schedule.tiling.dims)
    time = schedule.tile_to_time.reset_tuple_id(isl.dim_type.in_).add_dims(isl.dim_type.in_, 2)
    fixed = time.dim(isl.dim_type.out)
    rest = 1 + point_dims(schedule) + 1 + REDUCTION_DIMS
    time = time.add_dims(isl.dim_type.out, rest).fix_val(isl.dim_type.out, fixed, isl.Val(stage))
    for k in range(2):
        time = time.equate(isl.dim_type.out, fixed + 1 + k, isl.dim_type.in_, coordinates + k)
    for k, value in enumerate((*phase, *(0,) * (rest - 5)), 3):
        time = time.fix_val(isl.dim_type.out, fixed + k, isl.Val(value))
    time = time.set_tuple_name(isl.dim_type.in_, executions.get_tuple_name())
    return time.intersect_domain(executions)
