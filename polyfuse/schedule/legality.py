"""Legality as value flow: every read of a cell must find the element it wants there.

Writes and reads of a tensor's buffer, and of its off-chip array, are ordered by time `[tile, stage]`. Schedule and
storage are legal if every read comes after a write of the element it wants to the cell it looks in, and no other
element was written there in between, wherever and however often the element was computed. Since a point starts from
scratch whenever it is executed, every execution of it writes the same final value.

    writes  { load[t, a], make[t, a] -> buffer[cell(t, a)] }    and in memory  { store[t, a] -> A[a] }
    reads   { layer[t, a], store[t, a] -> buffer[cell(t, a)] }  and in memory  { load[t, a] -> A[a] }

`polyfuse.schedule.valueflow` judges each of these; this module says what a schedule and its storage write and read.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import islpy as isl

from polyfuse.errors import IllegalSchedule
from polyfuse.schedule.buffers import check_buffers, check_complete
from polyfuse.schedule.retention import in_buffer
from polyfuse.schedule.schedule import Flow, Schedule
from polyfuse.schedule.storage import Buffer, Storage, cut
from polyfuse.schedule.valueflow import Accesses, collision, last_written, unserved
from polyfuse.schedule.witness import refusal, witness
from polyfuse.sets.limits import operation_limit
from polyfuse.sets.spaces import freed, union


@dataclass(frozen=True, eq=False)
class Event:
    """The elements of a tensor that one stage writes or reads: `{ A[a] -> tile[t] }`.

    A layer that recurs reads its own output in the stage that makes it. The points of a stage run in an order in which
    an element is made before it is read; what it finds then is judged when all of the stage is `done`, so that a buffer
    has to hold until then what any point of it reads.
    """

    name: str
    stage: int
    moments: isl.Map
    done: bool = False

    @property
    def moment(self) -> int:
        """The stage as a number; the ends of stages lie between them."""
        return 2 * self.stage + self.done


def check(storage: Storage) -> None:
    """Prove that every output is computed from the right values and stored once.

    Storage may be edited: any windows, rings, offsets and copies of the form in `buffers` are judged; other storage is
    refused, whether or not it would be right.

    Errors: IllegalSchedule with a witness: the reader, its tile, the element it needs, and what it would find;
    TooComplex above isl's operation limit.
    """
    schedule = storage.schedule
    with operation_limit(what=f"legality of {schedule.network.name!r}"):
        check_complete(schedule)
        check_order(schedule)
        check_buffers(schedule, storage.buffers)
    for name, flow in schedule.flows.items():
        with operation_limit(what=f"legality of {name!r}"):
            check_stores(schedule, flow)
            for buffer in storage.buffers[name].forms:
                check_values(schedule, flow, buffer, *chip_events(schedule, flow))
            if flow.role == "made":
                check_values(schedule, flow, None, *memory_events(schedule, flow))


def check_order(schedule: Schedule) -> None:
    """Every tile has one time, and no two tiles have the same. Errors: IllegalSchedule."""
    order = schedule.tile_to_time
    tiles = isl.Set.empty(schedule.tiling.space)
    for flow in schedule.flows.values():
        tiles = tiles.union(flow.arrivals.range()).union(flow.stores.range())
    order = order.intersect_domain(tiles)
    if not tiles.is_subset(order.domain()):
        raise IllegalSchedule(f"tile {witness(tiles.subtract(order.domain()))} has no time; give every tile one")
    if not order.is_single_valued():
        twice = order.subtract(order.lexmin()).domain()
        raise IllegalSchedule(f"tile {witness(twice)} has several times; give it one")
    if (clash := collision(order)) is not None:
        raise IllegalSchedule(
            f"tiles {witness(clash.domain())} and {witness(clash.range())} have the same time; their stages would run "
            "in no defined order; add a dimension to the time"
        )


def check_stores(schedule: Schedule, flow: Flow) -> None:
    """Every element of an output is stored, and no element twice: parallel tiles must not race.

    Errors: IllegalSchedule.
    """
    name = flow.tensor.name
    if flow.tensor in schedule.network.outputs:
        made = schedule.network.makers[flow.tensor].makes.range()
        missing = made.subtract(flow.stores.domain())
        if not missing.is_empty():
            raise IllegalSchedule(
                f"output {name}: element {witness(missing)} is never stored; some tile must compute it"
            )
    twice = flow.stores.subtract(flow.stores.lexmin()).domain()
    if not twice.is_empty():
        raise IllegalSchedule(f"tensor {name}: element {witness(twice)} is stored off-chip by several tiles; keep one")


def chip_events(schedule: Schedule, flow: Flow) -> tuple[list[Event], list[Event]]:
    """Writes and reads of the on-chip buffer."""
    writes = list(events(schedule, flow, load=flow.loads, make=flow.executions))
    reads = list(events(schedule, flow, store=flow.stores))
    for layer in schedule.network.layers:
        stage = schedule.stage("make", layer.output)
        own = layer.recurs and flow.tensor == layer.output
        if stage is not None and (own or flow.tensor in (*layer.inputs, *layer.weights)):
            reads.append(Event(layer.name, stage, schedule.reads(layer, flow.tensor), own))
    return writes, reads


def memory_events(schedule: Schedule, flow: Flow) -> tuple[list[Event], list[Event]]:
    """Writes and reads of the off-chip array."""
    return list(events(schedule, flow, store=flow.stores)), list(events(schedule, flow, load=flow.loads))


def events(schedule: Schedule, flow: Flow, **moments: isl.Map) -> Iterator[Event]:
    """The events of a flow that happen at all. Errors: IllegalSchedule."""
    for action, relation in moments.items():
        if not relation.is_empty():
            stage = schedule.stage(action, flow.tensor)  # type: ignore[arg-type]
            if stage is None:
                raise IllegalSchedule(f"tensor {flow.tensor.name}: elements to {action}, but no such stage in a tile")
            yield Event(f"{action}_{flow.tensor.name}", stage, relation)


def check_values(
    schedule: Schedule, flow: Flow, buffer: Buffer | None, writes: list[Event], reads: list[Event]
) -> None:
    """Every read finds the element it wants, in a buffer or (None) in memory, where each element has its own cell.

    A write of the element serves a read of it if no other element is written to the cell between the two. On chip it
    must come from a tile that agrees in the coordinates along which nothing is retained: tiles may run in parallel
    along those.
    Errors: IllegalSchedule.
    """
    if not writes and not reads:
        return
    axes = essential_axes(schedule, flow, [*writes, *reads])
    cell = cells(schedule, flow, buffer, axes)
    clock = clock_of(schedule, [*writes, *reads])
    timed = {event.name: timed_accesses(schedule, flow, event, axes, cell, clock) for event in (*writes, *reads)}
    for write in writes:
        check_one_cell_each(flow, write, timed[write.name].cells)
    kept = in_buffer(flow.places)
    private = [d for d in range(len(flow.places)) if d not in kept] if buffer is not None else []
    sources = [timed[write.name] for write in writes]
    for read in reads:
        lost = unserved(timed[read.name], sources, private)
        if not lost.is_empty():
            point = lost.sample_point()
            found = last_written(point, timed[read.name], sources)
            raise IllegalSchedule(refusal(schedule, flow, axes, read.name, point, found and found[1]))
    if buffer is not None:
        check_bounds(buffer, axes, timed.values())


def essential_axes(schedule: Schedule, flow: Flow, found: list[Event]) -> tuple[int, ...]:
    """The axes on which anything depends: those that tiles cut, and those of which some event takes only a part."""
    cut_axes = {dim.axis for dim in schedule.tiling.dims}
    box = flow.tensor.box
    axes = []
    for axis in range(len(flow.tensor.shape)):
        every = (freed(event.moments, isl.dim_type.in_, [axis]).intersect_domain(box) for event in found)
        if axis in cut_axes or any(free != event.moments for free, event in zip(every, found, strict=True)):
            axes.append(axis)
    return tuple(axes)


def cells(schedule: Schedule, flow: Flow, buffer: Buffer | None, axes: tuple[int, ...]) -> isl.Map:
    """`{ [t, a] -> [c] }` over the essential axes; indices of other axes are the element itself and are left out."""
    coordinates, rank = len(schedule.tiling.dims), len(flow.tensor.shape)
    if buffer is None:
        space = isl.Space.map_from_domain_and_range(
            isl.Space.set_alloc(isl.DEFAULT_CONTEXT, 0, coordinates + rank),
            isl.Space.set_alloc(isl.DEFAULT_CONTEXT, 0, rank),
        )
        relation = isl.Map.universe(space)
        for d in range(rank):
            relation = relation.equate(isl.dim_type.in_, coordinates + d, isl.dim_type.out, d)
        copies = 0
    else:
        relation = isl.Map.from_multi_aff(buffer.cell).flatten_domain().reset_tuple_id(isl.dim_type.out)
        copies = len(buffer.indices) - rank
    for axis in reversed(range(rank)):
        if axis not in axes:
            relation = relation.project_out(isl.dim_type.out, copies + axis, 1)
            relation = relation.project_out(isl.dim_type.in_, coordinates + axis, 1)
    return relation


def timed_accesses(
    schedule: Schedule, flow: Flow, event: Event, axes: tuple[int, ...], cell: isl.Map, clock: isl.Map
) -> Accesses:
    """The accesses of an event with their times; elements are numbered row by row."""
    instances = cut(event.moments, axes).reverse().wrap().flatten()
    moments = time_of(schedule, event, len(axes)).apply_range(clock)
    coordinates = len(schedule.tiling.dims)
    number = isl.Aff.zero_on_domain(isl.LocalSpace.from_space(instances.get_space()))
    stride = 1
    for position, axis in reversed(list(enumerate(axes))):
        number = number.set_coefficient_val(isl.dim_type.in_, coordinates + position, isl.Val(stride))
        stride *= flow.tensor.concrete_shape[axis]
    return Accesses(event.name, cell.intersect_domain(instances), isl.Map.from_aff(number), moments, moments)


def clock_of(schedule: Schedule, found: list[Event]) -> isl.Map:
    """`{ [time, stage] -> [moment] }`: times as numbers in their order."""
    times = union(event.moments.range().apply(schedule.tile_to_time).reset_tuple_id() for event in found)
    rank = times.dim(isl.dim_type.set)
    space = isl.Space.set_alloc(isl.DEFAULT_CONTEXT, 0, rank + 1)
    moment = isl.Aff.var_on_domain(isl.LocalSpace.from_space(space), isl.dim_type.set, rank)
    stride = isl.Val(1 + max((event.moment for event in found), default=0))
    for d in reversed(range(rank)):
        moment = moment.set_coefficient_val(isl.dim_type.in_, d, stride)
        if not times.is_empty():
            stride = stride.mul(times.dim_max_val(d).sub(times.dim_min_val(d)).add(isl.Val(1)))
    return isl.Map.from_aff(moment)


def check_one_cell_each(flow: Flow, write: Event, access: isl.Map) -> None:
    """Elements that one stage of a tile writes go to different cells. Errors: IllegalSchedule."""
    coordinates = write.moments.dim(isl.dim_type.out)
    timed = access.insert_dims(isl.dim_type.out, 0, coordinates)
    for d in range(coordinates):
        timed = timed.equate(isl.dim_type.in_, d, isl.dim_type.out, d)
    if (clash := collision(timed)) is not None:
        raise IllegalSchedule(
            f"buffer of {flow.tensor.name}: {write.name} writes {witness(clash.domain())} and {witness(clash.range())} "
            "(tile, element) to the same cell; the buffer is too small"
        )


def check_bounds(buffer: Buffer, axes: tuple[int, ...], accesses: Iterable[Accesses]) -> None:
    """No access lies outside of the buffer. Rings have no outside; along axes that are left out is the element itself.

    Errors: IllegalSchedule that says by how much.
    """
    copies = len(buffer.indices) - len(buffer.tensor.shape)
    kept = (*range(copies), *(copies + axis for axis in axes))
    for access in accesses:
        cells = access.cells.range()
        for position, k in enumerate(kept):
            index = buffer.indices[k]
            if index.folded or cells.is_empty():
                continue
            first, last = (int(end.to_python()) for end in (cells.dim_min_val(position), cells.dim_max_val(position)))
            if first < 0 or last >= index.window:
                raise IllegalSchedule(
                    f"{buffer}: index {k} of {index.window} is used from {first} to {last}; enlarge it or move its "
                    "origin"
                )


def time_of(schedule: Schedule, event: Event, axes: int) -> isl.Map:
    """`{ [t, a] -> [time, stage] }`."""
    time = schedule.tile_to_time.reset_tuple_id(isl.dim_type.in_).add_dims(isl.dim_type.in_, axes)
    stage = time.dim(isl.dim_type.out)
    time = time.add_dims(isl.dim_type.out, 1).fix_val(isl.dim_type.out, stage, isl.Val(event.moment))
    return time
