"""A layer computed in the iterations of the loop that reads it (Halide's `compute_at`).

Schedule ──compute_at()──> Schedule, or IllegalSchedule with a witness
"""

import islpy as isl

from polyfuse.errors import InvalidInput
from polyfuse.network.layer import Layer
from polyfuse.schedule.retiming import checked_dims, explicit, retimed, statements_of
from polyfuse.schedule.schedule import Schedule
from polyfuse.sets.coalescing import coalesced
from polyfuse.sets.spaces import union

OUT = isl.dim_type.out


def compute_at(schedule: Schedule, layer: str, reader: str, dim: int, *, once: bool = False) -> Schedule:
    """Compute in every iteration of a reader's loop what that iteration reads of a layer, before it reads it.

        layer at [time], reader at [.., i, ..]   ->   layer at [.., i, 0, time], reader at [.., i, 1, ..]

    Elements that several iterations read run again in each of them; with `once`, in the first one alone.
    Errors: InvalidInput for a layer that the reader does not read, or a dimension that there is not; IllegalSchedule.

    >>> from polyfuse.network.network import Builder
    >>> from polyfuse.schedule.given import schedule_from
    >>> build = Builder("two")
    >>> low = build.max_pool("low", build.input("x", (1, 1, 8, 4)), kernel=1)
    >>> net = build.network(build.max_pool("top", low, kernel=1))
    >>> given = "{ low[n, c, h, w] -> [0, 0, h, w]; top[n, c, h, w] -> [0, 1, h, w] }"
    >>> apart = schedule_from(net, given)
    >>> print(apart.times["low_update"].range().lexmax())
    { [0, 0, 7, 3, 1, 0, 0] }
    >>> print(compute_at(apart, "low", "top", 2).times["low_update"].range().lexmax())
    { [0, 1, 7, 0, 0, 0, 7, 3, 1, 0, 0] }
    """
    schedule = explicit(schedule)
    length, names = checked_dims(schedule, dim), statements_of(schedule, layer)
    statements_of(schedule, reader)
    maker, user = schedule.network.layer(layer), schedule.network.layer(reader)
    if maker.output not in user.inputs:
        raise InvalidInput(f"compute_at: layer {reader!r} does not read {layer!r}; it reads {user.inputs}")
    count = len(schedule.tiling.dims)
    if dim < count - 1:
        raise InvalidInput(f"compute_at: dimension {dim} is outside of others that name the tile; expected {count - 1}")
    iterations = needed_at(schedule, maker, user, dim)
    if once:
        iterations = coalesced(iterations.lexmin())
    width = max(length + 1, dim + 2 + length - count)
    earlier = before(schedule, maker)

    def change(name: str, times: isl.Map) -> isl.Map:
        if name not in names:
            return padded(inserted(times, dim + 1, -1 if name in earlier else 1), width)
        statement = next(each for each in maker.statements if each.name == name)
        points = maker.instances_of_points(statement).reverse().intersect_domain(statement.domain)
        at = inserted(points.apply_range(iterations), dim + 1, 0)
        return padded(at.flat_range_product(times.project_out(OUT, 0, count)), width)

    return retimed(schedule, change, [*range(dim + 1), *([None] * (width - dim - 1))])


def needed_at(schedule: Schedule, maker: Layer, user: Layer, dim: int) -> isl.Map:
    """`{ L[p] -> [time] }`: the iterations of a reader's loop that read what a point makes, up to a dimension."""
    found = []
    for statement in user.statements:
        times = schedule.times[statement.name]
        outer = times.project_out(OUT, dim + 1, times.dim(OUT) - dim - 1)
        for access in statement.operands.values():
            if access.tensor == maker.output:
                found.append(maker.makes.apply_range(access.relation.reverse()).apply_range(outer))
    return coalesced(union(found))


def before(schedule: Schedule, layer: Layer) -> set[str]:
    """The statements of the layers that a layer needs, directly or not."""
    wanted, found = {*layer.inputs}, set()
    for each in reversed(schedule.network.layers):
        if each.output in wanted and each != layer:
            wanted |= {*each.inputs}
            found |= {statement.name for statement in each.statements}
    return found


def inserted(times: isl.Map, position: int, number: int) -> isl.Map:
    """Times with a constant dimension at a position."""
    return times.insert_dims(OUT, position, 1).fix_val(OUT, position, isl.Val(number))


def padded(times: isl.Map, width: int) -> isl.Map:
    """Times with zeros behind."""
    while times.dim(OUT) < width:
        times = inserted(times, times.dim(OUT), 0)
    return times
