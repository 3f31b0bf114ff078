"""Legality as value flow: every read of a cell must find the element it wants there.

Writes and reads of a tensor's buffer, and of its off-chip array, are ordered by time `[tile, stage]`. isl's dataflow
analysis gives the last writer of every cell that is read; schedule and storage are legal if that writer wrote the
element the reader wants, wherever and however often it was computed. Since a point starts from scratch whenever it
is executed, every execution of it writes the same final value.

    writes  { load[t, a], make[t, a] -> buffer[cell(t, a)] }    and in memory  { store[t, a] -> A[a] }
    reads   { layer[t, a], store[t, a] -> buffer[cell(t, a)] }  and in memory  { load[t, a] -> A[a] }
"""

from collections.abc import Iterator
from dataclasses import dataclass

import islpy as isl

from polyfuse.errors import IllegalSchedule
from polyfuse.schedule.schedule import Flow, Schedule
from polyfuse.schedule.storage import Buffer, Storage, cut
from polyfuse.sets.limits import operation_limit


@dataclass(frozen=True, eq=False)
class Event:
    """What one stage writes or reads of a tensor: `{ A[a] -> tile[t] }`."""

    name: str
    stage: int
    moments: isl.Map


def check(storage: Storage) -> None:
    """Prove that every output is computed from the right values and stored once.

    Errors: IllegalSchedule with a witness: the reader, its tile, the element it needs, and what it would find;
    TooComplex above isl's operation limit.
    """
    schedule = storage.schedule
    check_order(schedule)
    for name, flow in schedule.flows.items():
        with operation_limit(what=f"legality of {name!r}"):
            check_stores(schedule, flow)
            check_values(schedule, flow, storage.buffers[name], *chip_events(schedule, flow))
            if flow.role == "made":
                check_values(schedule, flow, None, *memory_events(schedule, flow))


def check_order(schedule: Schedule) -> None:
    """Every tile has one time, and no two tiles have the same."""
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
    if not order.is_injective():
        pairs = order.apply_range(order.reverse())
        clash = pairs.subtract(isl.Map.identity(pairs.get_space())).sample()
        raise IllegalSchedule(
            f"tiles {numbers(clash.domain())} and {numbers(clash.range())} have the same time; their stages would run "
            "in no defined order; add a dimension to the time"
        )


def check_stores(schedule: Schedule, flow: Flow) -> None:
    """Every element of an output is stored, and no element twice: parallel tiles must not race."""
    name = flow.tensor.name
    if flow.tensor in schedule.network.outputs:
        missing = flow.tensor.box.subtract(flow.stores.domain())
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
        if stage is not None and flow.tensor in (*layer.inputs, *layer.weights):
            reads.append(Event(layer.name, stage, schedule.reads(layer, flow.tensor)))
    return writes, reads


def memory_events(schedule: Schedule, flow: Flow) -> tuple[list[Event], list[Event]]:
    """Writes and reads of the off-chip array."""
    return list(events(schedule, flow, store=flow.stores)), list(events(schedule, flow, load=flow.loads))


def events(schedule: Schedule, flow: Flow, **moments: isl.Map) -> Iterator[Event]:
    """The events of a flow that happen at all."""
    for action, relation in moments.items():
        if not relation.is_empty():
            stage = schedule.stage(action, flow.tensor)  # type: ignore[arg-type]
            if stage is None:
                raise IllegalSchedule(f"tensor {flow.tensor.name}: elements to {action}, but no such stage in a tile")
            yield Event(f"{action}_{flow.tensor.name}", stage, relation)


def check_values(
    schedule: Schedule, flow: Flow, buffer: Buffer | None, writes: list[Event], reads: list[Event]
) -> None:
    """Every read finds the element it wants, in a buffer or (None) in memory, where each element has its own cell."""
    axes = essential_axes(schedule, flow, [*writes, *reads])
    cell = cells(schedule, flow, buffer, axes)
    for write in writes:
        check_one_cell_each(flow, write, accesses(write, axes, cell))
    sources = last_writers(schedule, writes, reads, axes, cell)
    for read in reads:
        wanted = accesses(read, axes, cell).domain()
        found = isl.Map.empty(wanted.get_space().map_from_domain_and_range(wanted.get_space()))
        for write in writes:
            space = isl.Space.map_from_domain_and_range(
                wanted.get_space(), wanted.get_space().set_tuple_name(isl.dim_type.set, write.name)
            )
            relation = sources.extract_map(space).set_tuple_name(isl.dim_type.out, read.name)
            found = found.union(relation)
        lost = wanted.subtract(found.domain())
        if not lost.is_empty():
            raise IllegalSchedule(complaint(schedule, flow, axes, read, lost.sample_point(), None))
        wrong = found.subtract(same_element(found, len(schedule.tiling.dims)))
        if not wrong.is_empty():
            raise IllegalSchedule(complaint(schedule, flow, axes, read, *ends(wrong)))
        foreign = found.subtract(same_tile_along(found, private_coordinates(flow))) if buffer else None
        if foreign is not None and not foreign.is_empty():
            raise IllegalSchedule(foreign_value(schedule, flow, axes, read, *ends(foreign)))


def essential_axes(schedule: Schedule, flow: Flow, found: list[Event]) -> tuple[int, ...]:
    """The axes on which anything depends: those that tiles cut, and those of which some event takes only a part."""
    cut_axes = {dim.axis for dim in schedule.tiling.dims}
    box = flow.tensor.box
    axes = []
    for axis in range(len(flow.tensor.shape)):
        every = (with_axis_free(event.moments, axis).intersect_domain(box) for event in found)
        if axis in cut_axes or any(free != event.moments for free, event in zip(every, found, strict=True)):
            axes.append(axis)
    return tuple(axes)


def with_axis_free(moments: isl.Map, axis: int) -> isl.Map:
    """The relation with one axis of its elements unconstrained."""
    name = moments.get_tuple_name(isl.dim_type.in_)
    free = moments.project_out(isl.dim_type.in_, axis, 1).insert_dims(isl.dim_type.in_, axis, 1)
    return free.set_tuple_name(isl.dim_type.in_, name)


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


def accesses(event: Event, axes: tuple[int, ...], cell: isl.Map) -> isl.Map:
    """`{ event[t, a] -> [c] }`."""
    instances = cut(event.moments, axes).reverse().wrap().flatten()
    return cell.intersect_domain(instances).set_tuple_name(isl.dim_type.in_, event.name)


def check_one_cell_each(flow: Flow, write: Event, access: isl.Map) -> None:
    """Elements that one stage of a tile writes go to different cells."""
    coordinates = write.moments.dim(isl.dim_type.out)
    timed = access.insert_dims(isl.dim_type.out, 0, coordinates)
    for d in range(coordinates):
        timed = timed.equate(isl.dim_type.in_, d, isl.dim_type.out, d)
    if not timed.is_injective():
        pairs = timed.apply_range(timed.reverse())
        clash = pairs.subtract(isl.Map.identity(pairs.get_space())).sample()
        raise IllegalSchedule(
            f"buffer of {flow.tensor.name}: {write.name} writes {numbers(clash.domain())} and {numbers(clash.range())} "
            "(tile, element) to the same cell; the buffer is too small"
        )


def last_writers(
    schedule: Schedule, writes: list[Event], reads: list[Event], axes: tuple[int, ...], cell: isl.Map
) -> isl.UnionMap:
    """`{ read[t, a] -> write[t', a'] }`: who wrote the cell last before it is read."""
    empty = isl.UnionMap.empty(cell.get_space())
    sources, sinks, times = empty, empty, empty
    for event in (*writes, *reads):
        access = isl.UnionMap.from_map(accesses(event, axes, cell))
        if event in writes:
            sources = sources.union(access)
        else:
            sinks = sinks.union(access)
        times = times.union(isl.UnionMap.from_map(time_of(schedule, event, len(axes))))
    info = isl.UnionAccessInfo.from_sink(sinks).set_must_source(sources).set_schedule_map(times)
    return info.compute_flow().get_must_dependence().reverse()


def time_of(schedule: Schedule, event: Event, axes: int) -> isl.Map:
    """`{ event[t, a] -> [time, stage] }`."""
    time = schedule.tile_to_time.reset_tuple_id(isl.dim_type.in_).add_dims(isl.dim_type.in_, axes)
    stage = time.dim(isl.dim_type.out)
    time = time.add_dims(isl.dim_type.out, 1).fix_val(isl.dim_type.out, stage, isl.Val(event.stage))
    return time.set_tuple_name(isl.dim_type.in_, event.name)


def same_element(pairs: isl.Map, coordinates: int) -> isl.Map:
    """The pairs `[t, a] -> [t', a']` with a = a'."""
    for d in range(coordinates, pairs.dim(isl.dim_type.in_)):
        pairs = pairs.equate(isl.dim_type.in_, d, isl.dim_type.out, d)
    return pairs


def private_coordinates(flow: Flow) -> list[int]:
    """The tile coordinates along which a value may not outlive its tile: such tiles may run in parallel."""
    return [d for d, place in enumerate(flow.places) if place != "local"]


def same_tile_along(pairs: isl.Map, coordinates: list[int]) -> isl.Map:
    """The pairs `[t, a] -> [t', a']` with t_d = t'_d for some coordinates d."""
    for d in coordinates:
        pairs = pairs.equate(isl.dim_type.in_, d, isl.dim_type.out, d)
    return pairs


def ends(pairs: isl.Map) -> tuple[isl.Point, isl.Point]:
    """The two points of one of the pairs."""
    pair = pairs.sample()
    first, second = isl.Set.from_basic_set(pair.domain()), isl.Set.from_basic_set(pair.range())
    return first.sample_point(), second.sample_point()


def foreign_value(
    schedule: Schedule, flow: Flow, axes: tuple[int, ...], read: Event, reader: isl.Point, writer: isl.Point
) -> str:
    """A value that another tile left where tiles share nothing, in words."""
    tile, element = split(reader, schedule, flow, axes)
    return (
        f"illegal: {read.name} at tile {tile} reads {flow.tensor.name}[{element}], which only tile "
        f"{split(writer, schedule, flow, axes)[0]} has made, and {flow.tensor.name} is not retained between them; "
        "retain it along that dimension or compute it in both tiles"
    )


def complaint(
    schedule: Schedule, flow: Flow, axes: tuple[int, ...], read: Event, reader: isl.Point, writer: isl.Point | None
) -> str:
    """The witness in words."""
    tile, element = split(reader, schedule, flow, axes)
    found = "nothing was written before"
    if writer is not None:
        other_tile, other = split(writer, schedule, flow, axes)
        found = f"tile {other_tile} has put {flow.tensor.name}[{other}] in its place"
    return (
        f"illegal: {read.name} at tile {tile} reads {flow.tensor.name}[{element}], but {found}; retain more of "
        f"{flow.tensor.name}, enlarge its buffer or change the order"
    )


def split(point: isl.Point, schedule: Schedule, flow: Flow, axes: tuple[int, ...]) -> tuple[str, str]:
    """A point `[t, a]` as the text of its tile and of its element; axes nothing depends on are shown as `:`."""
    values = coordinates_of(point)
    count = len(schedule.tiling.dims)
    by_axis = dict(zip(axes, values[count:], strict=True))
    element = ", ".join(str(by_axis.get(axis, ":")) for axis in range(len(flow.tensor.shape)))
    return str(tuple(values[:count])), element


def coordinates_of(point: isl.Point) -> list[int]:
    """The coordinates of a point as numbers."""
    dims = point.get_space().dim(isl.dim_type.set)
    return [int(str(point.get_coordinate_val(isl.dim_type.set, d))) for d in range(dims)]


def witness(region: isl.Set) -> str:
    """One element of a set, as text."""
    return str(coordinates_of(region.sample_point()))


def numbers(region: isl.BasicSet) -> str:
    """One point of a basic set, as text."""
    return witness(isl.Set.from_basic_set(region))
