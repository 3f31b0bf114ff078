"""Legality as value flow: every read of a cell must find the element it wants there.

Writes and reads of a tensor's buffer, and of its off-chip array, are ordered by time `[tile, stage]`. Schedule and
storage are legal if every read comes after a write of the element it wants to the cell it looks in, and no other
element was written there in between, wherever and however often the element was computed. Since a point starts from
scratch whenever it is executed, every execution of it writes the same final value.

    writes  { load[t, a], make[t, a] -> buffer[cell(t, a)] }    and in memory  { store[t, a] -> A[a] }
    reads   { layer[t, a], store[t, a] -> buffer[cell(t, a)] }  and in memory  { load[t, a] -> A[a] }

Tensors may share an array: then all of them write it and read it, and a stage holds what it reads until its end.
`polyfuse.schedule.valueflow` judges each of these; this module says what a schedule and its storage write and read.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import islpy as isl

from polyfuse.errors import IllegalSchedule
from polyfuse.schedule.apart import check_marks
from polyfuse.schedule.buffers import (
    arrays,
    at_first,
    check_buffers,
    check_complete,
    check_index,
    cut_axes,
    ends_of,
    own_indices,
    why_no_rows,
)
from polyfuse.schedule.cells import Buffer
from polyfuse.schedule.inside import check_times
from polyfuse.schedule.retention import in_buffer
from polyfuse.schedule.schedule import Flow, Schedule
from polyfuse.schedule.storage import Storage
from polyfuse.schedule.valueflow import Accesses, collision, element_written, last_written, unserved
from polyfuse.schedule.windows import cut
from polyfuse.schedule.witness import AccessText, Write, refusal, witness
from polyfuse.sets.limits import operation_limit
from polyfuse.sets.spaces import Part, coordinates, freed, union


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

    Any storage is judged: every order of axes, padding, skew, ring and sharing of an array. A stage of a tile is one
    moment: what it reads has to stay until its end, and all that it writes has cells of its own.

    Errors: IllegalSchedule with a witness: the reader, its tile, the element it needs, its cell, what it would find;
    TooComplex above isl's operation limit.
    """
    schedule = storage.schedule
    with operation_limit(what=f"legality of {schedule.network.name!r}"):
        check_complete(schedule)
        check_order(schedule)
        check_buffers(schedule, storage.buffers)
    early = check_times(schedule)
    check_marks(schedule)
    for name, flow in schedule.flows.items():
        with operation_limit(what=f"legality of {name!r}"):
            check_stores(schedule, flow)
            if flow.role == "made":
                check_values(schedule, (lodger(flow, None, *memory_events(schedule, flow)),))
    for array, sharers in arrays(storage.buffers).items():
        with operation_limit(what=f"legality of {array!r}"):
            held = [(schedule.flows[b.tensor.name], b) for b in sharers if b.tensor.name in schedule.flows]
            if len(held) > 1:
                check_values(schedule, lodgers(schedule, held, early))
            for flow, buffer in held if len(held) == 1 else ():
                rows = why_no_rows(schedule, storage.buffers, flow.tensor.name) is None
                for form in buffer.forms(cut_axes(schedule, flow.tensor.name)) if rows else (buffer,):
                    check_values(schedule, (lodger(flow, form, *chip_events(schedule, flow, early)),))


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


def chip_events(schedule: Schedule, flow: Flow, early: Mapping[str, isl.Map]) -> tuple[list[Event], list[Event]]:
    """Writes and reads of the on-chip buffer; `early` are reads of what the same tile makes again afterwards."""
    writes = list(events(schedule, flow, load=flow.loads, make=flow.executions))
    reads = list(events(schedule, flow, store=flow.stores))
    for layer in schedule.network.layers:
        stage = schedule.stage("make", layer.output)
        own = layer.recurs and flow.tensor == layer.output
        if stage is not None and (own or flow.tensor in (*layer.inputs, *layer.weights)):
            done = own or schedule.is_given(layer)
            reads.append(Event(layer.name, stage, schedule.reads(layer, flow.tensor), done))
    again = early.get(flow.tensor.name)
    if again is not None and not again.is_empty():
        reads.append(Event(f"an early reader of {flow.tensor.name}", schedule.together, again))
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


@dataclass(frozen=True, eq=False)
class Lodger:
    """A tensor in an array, its buffer there (None in memory), and the events that write and read it.

    An instance is `[t, a]` over the axes on which anything depends. Where tensors share an array it is
    `[t, number, a]` over all axes, and zeros behind them up to `rank`; elements are numbered from `first`.
    """

    flow: Flow
    buffer: Buffer | None
    writes: tuple[Event, ...]
    reads: tuple[Event, ...]
    shares: bool = False
    number: int = 0
    first: int = 0
    rank: int = 0


def lodger(flow: Flow, buffer: Buffer | None, writes: Iterable[Event], reads: Iterable[Event]) -> Lodger:
    """A tensor in an array of its own."""
    return Lodger(flow, buffer, tuple(writes), tuple(reads))


def lodgers(
    schedule: Schedule, held: Sequence[tuple[Flow, Buffer]], early: Mapping[str, isl.Map]
) -> tuple[Lodger, ...]:
    """The tensors that share an array."""
    firsts = accumulate((flow.tensor.elements for flow, _ in held), initial=0)
    rank = max(len(flow.tensor.shape) for flow, _ in held)
    alone = (lodger(flow, buffer, *chip_events(schedule, flow, early)) for flow, buffer in held)
    numbered = enumerate(zip(firsts, alone, strict=False))
    return tuple(replace(each, shares=True, number=k, first=first, rank=rank) for k, (first, each) in numbered)


def check_values(schedule: Schedule, sharers: Sequence[Lodger]) -> None:
    """Every read finds the element it wants, in an array or in memory, where each element has its own cell.

    A write of the element serves a read of it if no other element is written to the cell between the two. On chip it
    must come from a tile that agrees in the coordinates along which nothing is retained: tiles may run in parallel
    along those.
    Errors: IllegalSchedule.
    """
    found = [event for each in sharers for event in (*each.writes, *each.reads)]
    if not found:
        return
    clock = clock_of(schedule, found)
    homes = [Home.of(schedule, each) for each in sharers]
    sources = []
    for home in homes:
        for write in home.lodger.writes:
            sources.append(home.accesses(schedule, write, clock))
            check_one_cell_each(home.lodger.flow, write, sources[-1].cells)
    for home in homes:
        kept = in_buffer(home.lodger.flow.places)
        private = [d for d in range(len(home.lodger.flow.places)) if d not in kept and home.lodger.buffer is not None]
        for read in home.lodger.reads:
            reader = home.accesses(schedule, read, clock)
            lost = unserved(reader, sources, private)
            if not lost.is_empty():
                point = lost.sample_point()
                last = last_written(point, reader, sources)
                right = element_written(point, reader, sources)
                raise IllegalSchedule(
                    refusal(
                        read.name,
                        verb_of(schedule, home, point),
                        seen(schedule, homes, point),
                        seen(schedule, homes, last[1]) if last is not None else None,
                        written(schedule, homes, *right) if right is not None else None,
                    )
                )
    for home in homes:
        home.check_bounds(schedule, clock)


@dataclass(frozen=True, eq=False)
class Home:
    """Where a tensor is found: `cell` is `{ [instance] -> [c] }` over its essential `axes` and the `kept` indices.

    Each of the other axes has indices of its own, which tell its elements apart whatever the rest is.
    """

    lodger: Lodger
    axes: tuple[int, ...]
    kept: tuple[int, ...]
    cell: isl.Map

    @staticmethod
    def of(schedule: Schedule, lodger: Lodger) -> "Home":
        """The home of a tensor."""
        coordinates, rank = len(schedule.tiling.dims), len(lodger.flow.tensor.shape)
        if lodger.buffer is None:
            own: dict[int, tuple[int, ...]] = {axis: (axis,) for axis in range(rank)}
            space = isl.Space.set_alloc(isl.DEFAULT_CONTEXT, 0, coordinates + rank)
            cell = isl.Map.identity(space.map_from_set()).project_out(isl.dim_type.out, 0, coordinates)
        else:
            own = {} if lodger.shares else own_indices(lodger.buffer, coordinates)
            cell = lodger.buffer.cell.as_map().flatten_domain().reset_tuple_id(isl.dim_type.out)
        essential = essential_axes(schedule, lodger.flow, [*lodger.writes, *lodger.reads])
        axes = tuple(axis for axis in range(rank) if axis in essential or axis not in own)
        left_out = {k for axis in range(rank) if axis not in axes for k in own[axis]}
        kept = tuple(k for k in range(cell.dim(isl.dim_type.out)) if k not in left_out)
        for k in sorted(left_out, reverse=True):
            cell = cell.project_out(isl.dim_type.out, k, 1)
        for axis in reversed(range(rank)):
            if axis not in axes:
                cell = cell.project_out(isl.dim_type.in_, coordinates + axis, 1)
        return Home(lodger, axes, kept, extended(cell, isl.dim_type.in_, coordinates, lodger))

    def accesses(self, schedule: Schedule, event: Event, clock: isl.Map) -> Accesses:
        """The accesses of an event with their times; elements are numbered row by row. Errors: IllegalSchedule."""
        coordinates = len(schedule.tiling.dims)
        instances = extended(
            cut(event.moments, self.axes).reverse().wrap().flatten(), isl.dim_type.set, coordinates, self.lodger
        )
        if not instances.is_subset(self.cell.domain()):
            lost = instances.subtract(self.cell.domain()).sample_point()
            name = self.lodger.flow.tensor.name
            raise IllegalSchedule(f"buffer of {name}: {seen(schedule, [self], lost).element} has no cell")
        moments = time_of(schedule, event, instances.dim(isl.dim_type.set) - coordinates).apply_range(clock)
        number = isl.Aff.zero_on_domain(isl.LocalSpace.from_space(instances.get_space()))
        stride = 1
        for position, axis in reversed(list(enumerate(self.axes))):
            d = coordinates + position + self.lodger.shares
            number = number.set_coefficient_val(isl.dim_type.in_, d, isl.Val(stride))
            stride *= self.lodger.flow.tensor.concrete_shape[axis]
        elements = isl.Map.from_aff(number.set_constant_val(isl.Val(self.lodger.first)))
        ends = moments.copy() if self.lodger.shares else moments
        return Accesses(event.name, self.cell.intersect_domain(instances), elements, moments, ends)

    def check_bounds(self, schedule: Schedule, clock: isl.Map) -> None:
        """No access lies outside of the buffer; rings have no outside. Errors: IllegalSchedule with the index."""
        buffer = self.lodger.buffer
        if buffer is None:
            return
        for event in (*self.lodger.writes, *self.lodger.reads):
            cells = self.accesses(schedule, event, clock).cells.range()
            for position, k in enumerate(self.kept):
                if not buffer.indices[k].folded and not cells.is_empty():
                    check_index(buffer, k, *ends_of(cells, position))
        for k in {*range(len(buffer.indices))} - {*self.kept}:
            check_index(
                buffer, k, *ends_of(buffer.cell.as_map().intersect_domain(at_first(schedule, buffer.tensor)).range(), k)
            )


def essential_axes(schedule: Schedule, flow: Flow, found: Sequence[Event]) -> tuple[int, ...]:
    """The axes on which anything depends: those that tiles cut, and those of which some event takes only a part."""
    cut_axes = {dim.axis for dim in schedule.tiling.dims}
    box = flow.tensor.box
    axes = []
    for axis in range(len(flow.tensor.shape)):
        every = (freed(event.moments, isl.dim_type.in_, [axis]).intersect_domain(box) for event in found)
        if axis in cut_axes or any(free != event.moments for free, event in zip(every, found, strict=True)):
            axes.append(axis)
    return tuple(axes)


def extended(part: Part, kind: isl.dim_type, coordinates: int, lodger: Lodger) -> Part:
    """Instances `[t, a]` as `[t, number, a, 0..]` where tensors share an array."""
    if not lodger.shares:
        return part
    padding = lodger.rank - len(lodger.flow.tensor.shape)
    part = part.insert_dims(kind, coordinates, 1).fix_val(kind, coordinates, isl.Val(lodger.number))
    last = part.dim(kind)
    part = part.insert_dims(kind, last, padding)
    for d in range(last, last + padding):
        part = part.fix_val(kind, d, isl.Val(0))
    return part


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


def seen(schedule: Schedule, homes: Sequence[Home], point: isl.Point) -> AccessText:
    """An access in words; axes that nothing depends on are shown as `:`."""
    values, count = coordinates(point), len(schedule.tiling.dims)
    home = homes[values[count]] if homes[0].lodger.shares else homes[0]
    by_axis = dict(zip(home.axes, values[count + home.lodger.shares :], strict=False))
    name, buffer = home.lodger.flow.tensor.name, home.lodger.buffer
    element = ", ".join(str(by_axis.get(axis, ":")) for axis in range(len(home.lodger.flow.tensor.shape)))
    cells = home.cell.intersect_domain(isl.Set.from_point(point)).range()
    if buffer is None or cells.is_empty():
        return AccessText(name, str(tuple(values[:count])), f"{name}[{element}]")
    by_index = dict(zip(home.kept, coordinates(cells.sample_point()), strict=True))
    cell = ", ".join(str(by_index.get(k, ":")) for k in range(len(buffer.indices)))
    return AccessText(name, str(tuple(values[:count])), f"{name}[{element}]", f"{buffer.name}[{cell}]")


def verb_of(schedule: Schedule, home: Home, point: isl.Point) -> str:
    """What should bring an element to where it is read: what is stored has to be made, too."""
    flow, count = home.lodger.flow, len(schedule.tiling.dims) + home.lodger.shares
    made = flow.executions.domain()
    for axis, value in zip(home.axes, coordinates(point)[count:], strict=False):
        made = made.fix_val(isl.dim_type.set, axis, isl.Val(value))
    if flow.role != "made":
        return "load"
    return "store" if home.lodger.buffer is None and not made.is_empty() else "make"


def written(schedule: Schedule, homes: Sequence[Home], writer: Accesses, point: isl.Point, before: bool) -> Write:
    """A write in words: of a layer's, its instance."""
    at = seen(schedule, homes, point)
    verb, _, name = writer.name.partition("_")
    layers = [layer for layer in schedule.network.layers if verb == "make" and layer.output.name == name]
    who = f"{layers[0].name}{at.element.removeprefix(name)}" if layers else writer.name
    return Write(verb, who, at.tile, before)


def time_of(schedule: Schedule, event: Event, axes: int) -> isl.Map:
    """`{ [t, a] -> [time, stage] }`."""
    time = schedule.tile_to_time.reset_tuple_id(isl.dim_type.in_).add_dims(isl.dim_type.in_, axes)
    stage = time.dim(isl.dim_type.out)
    time = time.add_dims(isl.dim_type.out, 1).fix_val(isl.dim_type.out, stage, isl.Val(event.moment))
    return time
