"""What transformations of schedules are made of: times are changed, and what comes of it is proved.

Schedule ──explicit()──> times of all instances ──mapped(), retimed()──> Schedule, or IllegalSchedule with a witness
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

import islpy as isl

from polyfuse.errors import InvalidInput
from polyfuse.schedule.given import assembled, schedule_from, union_map
from polyfuse.schedule.legality import check
from polyfuse.schedule.schedule import Mark, Schedule
from polyfuse.schedule.storage import storage
from polyfuse.schedule.tiling import Tiling
from polyfuse.sets.coalescing import coalesced
from polyfuse.sets.limits import operation_limit
from polyfuse.whole import whole

FARTHEST = 2**31 - 1
"""What loops may be cut, shifted and skewed by: C has `int` for them."""
OUT, SET = isl.dim_type.out, isl.dim_type.set


def explicit(schedule: Schedule) -> Schedule:
    """A schedule whose times are all given: itself, or its explicit form with the places that it has.

    Errors: InvalidInput where tiles were put in another order.
    """
    if schedule.is_explicit:
        return schedule
    count = len(schedule.tiling.dims)
    if not schedule.is_in_order:
        raise InvalidInput("transformations start from tiles in their own order; give the times with schedule_from")
    retention = {name: flow.places for name, flow in schedule.flows.items() if flow.role != "weight"}
    weights, times = schedule.strategy.weights, union_map(schedule)
    return schedule_from(schedule.network, times, tile=count, retention=retention, weights=weights)


def mapped(
    schedule: Schedule,
    values: Sequence[isl.Aff],
    dims: Sequence[int | None] | None = None,
    statements: Collection[str] | None = None,
    marks: Mapping[int, Mark] | None = None,
    split_at: int | None = None,
) -> Schedule:
    """The schedule with these values of each time in its place, of all statements or of some; else as `retimed`.

    Errors: IllegalSchedule; TooComplex above isl's operation limit.
    """
    change = together(values)

    def changed(name: str, times: isl.Map) -> isl.Map:
        return times.apply_range(change) if statements is None or name in statements else times

    return retimed(schedule, changed, range(len(values)) if dims is None else dims, marks, split_at)


def retimed(
    schedule: Schedule,
    change: Callable[[str, isl.Map], isl.Map],
    dims: Sequence[int | None],
    marks: Mapping[int, Mark] | None = None,
    split_at: int | None = None,
) -> Schedule:
    """The schedule with changed times, proved: `dims` says which dimension each of the new ones was.

    A coordinate of the tile that is split gives two. Marks stay with their dimensions.
    Errors: IllegalSchedule; TooComplex above isl's operation limit.
    """
    tiling = schedule.tiling
    count = len(tiling.dims)
    order = [d for d in dims[:count] if d is not None]
    if split_at is not None and split_at < count:
        order = sorted([*range(count), split_at])
    positions = tuple(k for k, d in enumerate(order) if d in tiling.positions)
    taken = [tiling.positions.index(order[k]) for k in positions]
    strategy = replace(
        schedule.strategy,
        tile=(0,) * len(taken),
        others=tuple(schedule.strategy.others[k] for k in taken),
        retention={name: tuple(places[k] for k in taken) for name, places in schedule.strategy.retention.items()},
    )
    kept = {k: schedule.marks[d] for k, d in enumerate(dims) if d is not None and d in schedule.marks}
    with operation_limit(what=f"transformed schedule of {schedule.network.name!r}"):
        times = {name: coalesced(change(name, each)) for name, each in schedule.times.items()}
        new = Tiling.of_times(len(order), positions)
        found = assembled(schedule.network, strategy, new, times, schedule.reorder)
    return proved(replace(found, marks={**kept, **(marks or {})}))


def proved(schedule: Schedule) -> Schedule:
    """A schedule that is legal with the buffers that it gets. Errors: IllegalSchedule, TooComplex."""
    check(storage(schedule))
    return schedule


def checked_dims(schedule: Schedule, *dims: int) -> int:
    """The number of dimensions of a schedule's times. Errors: InvalidInput for others than these."""
    length = int(next(iter(schedule.times.values())).dim(OUT))
    for dim in dims:
        if isinstance(dim, bool) or not isinstance(dim, int) or not 0 <= dim < length:
            raise InvalidInput(f"dimension {dim!r} of times: expected a whole number from 0 to {length - 1}")
    return length


def statements_of(schedule: Schedule, layer: str) -> set[str]:
    """The names of the statements of a layer. Errors: InvalidInput."""
    return {statement.name for statement in schedule.network.layer(layer).statements}


def positive(value: int, what: str) -> None:
    """Refuse what is no whole number of at least 1, or larger than any loop. Errors: InvalidInput."""
    whole(value, what, 1, FARTHEST)


def variables(length: int) -> list[isl.Aff]:
    """The dimensions of times of so many."""
    space = isl.LocalSpace.from_space(isl.Space.set_alloc(isl.DEFAULT_CONTEXT, 0, length))
    return [isl.Aff.var_on_domain(space, SET, d) for d in range(length)]


def pieces(value: isl.Aff, size: int) -> tuple[isl.Aff, isl.Aff]:
    """The number of a piece of a loop, and the place inside of it: `floor(i / size)`, `i mod size`."""
    return value.scale_down_val(isl.Val(size)).floor(), value.mod_val(isl.Val(size))


def together(values: Sequence[isl.Aff]) -> isl.Map:
    """`{ [time] -> [values] }`."""
    found = isl.Map.from_aff(values[0])
    for value in values[1:]:
        found = found.flat_range_product(isl.Map.from_aff(value))
    return found
