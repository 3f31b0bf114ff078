"""Transformations of schedules: functions that return another schedule, proved legal.

    Schedule ──split(), interchange(), skew(), compute_at(), …──> Schedule, or IllegalSchedule with a witness

A schedule is seen as in `given`: every instance has a time `[t, time]`, whose first dimensions name the tile.
Dimensions are counted from 0, those of the tile included, and each function says what it makes of a time: before ->
after. A schedule that was derived is taken in its explicit form, `union_map`.

Examples print the last time of a statement, or the first, before and after; what follows the dimensions that were given
keeps the start of a sum before its terms.

`unroll`, `vectorize` and `parallel` leave times alone: they mark a dimension, whose loops get a pragma in C.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import islpy as isl

from polyfuse.choices import Place
from polyfuse.errors import InvalidInput
from polyfuse.network.layer import Layer
from polyfuse.schedule.given import assembled, schedule_from, tile_of, union_map
from polyfuse.schedule.legality import check
from polyfuse.schedule.schedule import Mark, Schedule
from polyfuse.schedule.storage import storage
from polyfuse.schedule.strategy import Strategy
from polyfuse.schedule.tiling import Tiling
from polyfuse.sets.coalescing import coalesced
from polyfuse.sets.limits import operation_limit
from polyfuse.sets.spaces import union
from polyfuse.whole import whole

FARTHEST = 2**31 - 1
"""What loops may be cut, shifted and skewed by: C has `int` for them."""
IN, OUT, SET = isl.dim_type.in_, isl.dim_type.out, isl.dim_type.set


def split(schedule: Schedule, dim: int, size: int) -> Schedule:
    """Cut a loop into a loop over pieces and one inside of a piece.

        [.., i, ..]   ->   [.., floor(i / size), i mod size, ..]

    Errors: InvalidInput for a dimension or a size that there is not.

    >>> from polyfuse.network.network import Builder
    >>> build = Builder("pool")
    >>> net = build.network(build.max_pool("top", build.input("x", (1, 1, 8, 8)), kernel=2, stride=2))
    >>> rows = schedule_from(net, "{ top[n, c, h, w, y, x] -> [h, w, y, x] }")
    >>> print(split(rows, 1, 2).times["top_update"].sample().range().dim(isl.dim_type.set))
    6
    """
    schedule = explicit(schedule)
    length = checked_dims(schedule, dim)
    positive(size, "size")
    outer, inner = _floor(length, dim, size), _mod(length, dim, size)
    change = _together([*_variables(length, range(dim)), outer, inner, *_variables(length, range(dim + 1, length))])
    dims: list[int | None] = [*range(dim), None, None, *range(dim + 1, length)]
    return retimed(schedule, lambda _, times: times.apply_range(change), dims, split_at=dim)


def interchange(schedule: Schedule, dim: int, other: int) -> Schedule:
    """Exchange two loops; both name the tile or neither does.

        [.., i, .., j, ..]   ->   [.., j, .., i, ..]

    Errors: InvalidInput for dimensions that there are not; IllegalSchedule.

    >>> from polyfuse.network.network import Builder
    >>> build = Builder("pool")
    >>> net = build.network(build.max_pool("top", build.input("x", (1, 1, 8, 8)), kernel=2, stride=2))
    >>> rows = schedule_from(net, "{ top[n, c, h, w, y, x] -> [h, w, y, x] }")
    >>> print(rows.times["top_update"].range().lexmax())
    { [3, 3, 1, 1, 1] }
    >>> print(interchange(rows, 1, 2).times["top_update"].range().lexmax())
    { [3, 1, 3, 1, 1] }
    """
    schedule = explicit(schedule)
    order = list(range(checked_dims(schedule, dim, other)))
    order[dim], order[other] = other, dim
    return permuted(schedule, order)


def fuse(schedule: Schedule, dim: int, loop: int) -> Schedule:
    """Move a dimension that orders layers inside of a loop: their loops, outside of it before, become one.

        [k, i, ..]   ->   [i, k, ..]

    `shift` the layers first by as much as their reads need. Errors: InvalidInput where the loop is not inside of the
    dimension; IllegalSchedule.

    >>> from polyfuse.network.network import Builder
    >>> build = Builder("two")
    >>> low = build.max_pool("low", build.input("x", (1, 1, 8, 4)), kernel=1)
    >>> net = build.network(build.max_pool("top", low, kernel=1))
    >>> given = "{ low[n, c, h, w] -> [0, 0, h, w]; top[n, c, h, w] -> [0, 1, h, w] }"
    >>> apart = schedule_from(net, given)
    >>> print(apart.times["top_update"].range().lexmax())
    { [0, 1, 7, 3, 1, 0, 0] }
    >>> print(fuse(apart, 1, 2).times["top_update"].range().lexmax())
    { [0, 7, 1, 3, 1, 0, 0] }
    """
    if not dim < loop:
        raise InvalidInput(f"fuse: expected a loop inside of dimension {dim}, got {loop}")
    return _moved(schedule, dim, loop)


def fission(schedule: Schedule, dim: int, loop: int) -> Schedule:
    """Move a dimension that orders layers outside of a loop: each layer gets a loop of its own.

        [i, k, ..]   ->   [k, i, ..]

    Errors: InvalidInput where the loop is not outside of the dimension; IllegalSchedule.

    >>> from polyfuse.network.network import Builder
    >>> build = Builder("two")
    >>> low = build.max_pool("low", build.input("x", (1, 1, 8, 4)), kernel=1)
    >>> net = build.network(build.max_pool("top", low, kernel=1))
    >>> given = "{ low[n, c, h, w] -> [0, 0, h, w]; top[n, c, h, w] -> [0, 1, h, w] }"
    >>> apart = schedule_from(net, given)
    >>> print(fuse(apart, 1, 2).times["top_update"].range().lexmax())
    { [0, 7, 1, 3, 1, 0, 0] }
    >>> print(fission(fuse(apart, 1, 2), 2, 1).times["top_update"].range().lexmax())
    { [0, 1, 7, 3, 1, 0, 0] }
    """
    if not loop < dim:
        raise InvalidInput(f"fission: expected a loop outside of dimension {dim}, got {loop}")
    return _moved(schedule, dim, loop)


def _moved(schedule: Schedule, dim: int, to: int) -> Schedule:
    schedule = explicit(schedule)
    order = list(range(checked_dims(schedule, dim, to)))
    order.insert(to, order.pop(dim))
    return permuted(schedule, order)


def permuted(schedule: Schedule, order: Sequence[int]) -> Schedule:
    """The dimensions of time in another order. Errors: InvalidInput where a dimension of the tile goes inside."""
    count = len(schedule.tiling.dims)
    if {*order[:count]} != {*range(count)}:
        raise InvalidInput(f"the first {count} dimensions name the tile, others do not: exchange loops among either")
    change = _together(_variables(len(order), order))
    return retimed(schedule, lambda _, times: times.apply_range(change), list(order))


def reverse(schedule: Schedule, dim: int) -> Schedule:
    """Run a loop from its end.

        [.., i, ..]   ->   [.., -i, ..]

    Errors: InvalidInput for a dimension that there is not; IllegalSchedule.

    >>> from polyfuse.network.network import Builder
    >>> build = Builder("pool")
    >>> net = build.network(build.max_pool("top", build.input("x", (1, 1, 8, 8)), kernel=2, stride=2))
    >>> rows = schedule_from(net, "{ top[n, c, h, w, y, x] -> [h, w, y, x] }")
    >>> print(rows.times["top_update"].range().lexmin())
    { [0, 0, 0, 0, 1] }
    >>> print(reverse(rows, 1).times["top_update"].range().lexmin())
    { [0, -3, 0, 0, 1] }
    """
    schedule = explicit(schedule)
    length = checked_dims(schedule, dim)
    values = _variables(length, range(length))
    change = _together([*values[:dim], values[dim].neg(), *values[dim + 1 :]])
    return retimed(schedule, lambda _, times: times.apply_range(change), list(range(length)))


def shift(schedule: Schedule, layer: str, dim: int, by: int) -> Schedule:
    """Run a layer later, or earlier, than others along a loop.

        layer[..] at [.., i, ..]   ->   [.., i + by, ..]

    Errors: InvalidInput for a layer or a dimension that there is not; IllegalSchedule.

    >>> from polyfuse.network.network import Builder
    >>> build = Builder("two")
    >>> low = build.max_pool("low", build.input("x", (1, 1, 8, 4)), kernel=1)
    >>> net = build.network(build.max_pool("top", low, kernel=1))
    >>> given = "{ low[n, c, h, w] -> [0, 0, h, w]; top[n, c, h, w] -> [0, 1, h, w] }"
    >>> apart = schedule_from(net, given)
    >>> print(apart.times["top_update"].range().lexmax())
    { [0, 1, 7, 3, 1, 0, 0] }
    >>> print(shift(apart, "top", 2, 3).times["top_update"].range().lexmax())
    { [0, 1, 10, 3, 1, 0, 0] }
    """
    schedule = explicit(schedule)
    length, names = checked_dims(schedule, dim), statements_of(schedule, layer)
    values = _variables(length, range(length))
    change = _together(
        [*values[:dim], values[dim].add_constant_val(isl.Val(whole(by, "by", -FARTHEST, FARTHEST))), *values[dim + 1 :]]
    )
    return retimed(
        schedule, lambda name, times: times.apply_range(change) if name in names else times, list(range(length))
    )


def skew(schedule: Schedule, dim: int, by: int, factor: int = 1) -> Schedule:
    """Add a multiple of one loop to another: what depended along both runs in wavefronts.

        [.., i, .., j, ..]   ->   [.., i, .., j + factor i, ..]     for dim = j, by = i

    Errors: InvalidInput for dimensions that there are not, or twice the same; IllegalSchedule.

    >>> from polyfuse.network.network import Builder
    >>> build = Builder("pool")
    >>> net = build.network(build.max_pool("top", build.input("x", (1, 1, 8, 8)), kernel=2, stride=2))
    >>> rows = schedule_from(net, "{ top[n, c, h, w, y, x] -> [h, w, y, x] }")
    >>> print(rows.times["top_update"].range().lexmax())
    { [3, 3, 1, 1, 1] }
    >>> print(skew(rows, 1, 0).times["top_update"].range().lexmax())
    { [3, 6, 1, 1, 1] }
    """
    schedule = explicit(schedule)
    length = checked_dims(schedule, dim, by)
    if dim == by:
        raise InvalidInput(f"skew: expected two dimensions, got {dim} twice")
    values = _variables(length, range(length))
    values[dim] = values[dim].add(values[by].scale_val(isl.Val(whole(factor, "factor", -FARTHEST, FARTHEST))))
    change = _together(values)
    return retimed(schedule, lambda _, times: times.apply_range(change), list(range(length)))


def tile(schedule: Schedule, dims: Sequence[int], sizes: Sequence[int]) -> Schedule:
    """Cut neighbouring loops into tiles: the loops over tiles outside, those inside of a tile behind them.

        [.., i, j, ..]   ->   [.., floor(i / I), floor(j / J), i mod I, j mod J, ..]

    Where values wait stays as it is: `with_retention` makes the first loops name the tile.
    Errors: InvalidInput for dimensions that are not next to one another, or other numbers of sizes; IllegalSchedule.

    >>> from polyfuse.network.network import Builder
    >>> build = Builder("pool")
    >>> net = build.network(build.max_pool("top", build.input("x", (1, 1, 8, 8)), kernel=2, stride=2))
    >>> rows = schedule_from(net, "{ top[n, c, h, w, y, x] -> [h, w, y, x] }")
    >>> print(rows.times["top_update"].range().lexmax())
    { [3, 3, 1, 1, 1] }
    >>> print(tile(rows, [1, 2], [2, 2]).times["top_update"].range().lexmax())
    { [3, 1, 0, 1, 1, 1, 1] }
    """
    if len(dims) != len(sizes) or not dims or list(dims) != list(range(dims[0], dims[0] + len(dims))):
        raise InvalidInput(f"tile: expected neighbouring dimensions with a size each, got {list(dims)}, {list(sizes)}")
    schedule = explicit(schedule)
    length = checked_dims(schedule, *dims)
    if dims[0] < len(schedule.tiling.dims):
        raise InvalidInput(f"tile: dimension {dims[0]} names the tile already; expected one inside, or take split")
    for size in sizes:
        positive(size, "sizes")
    pairs = list(zip(dims, sizes, strict=True))
    change = _together(
        [
            *_variables(length, range(dims[0])),
            *(_floor(length, dim, size) for dim, size in pairs),
            *(_mod(length, dim, size) for dim, size in pairs),
            *_variables(length, range(dims[-1] + 1, length)),
        ]
    )
    new: list[int | None] = [None] * (2 * len(dims))
    order = [*range(dims[0]), *new, *range(dims[-1] + 1, length)]
    return retimed(schedule, lambda _, times: times.apply_range(change), order)


def compute_at(schedule: Schedule, layer: str, reader: str, dim: int, *, once: bool = False) -> Schedule:
    """Compute in every iteration of a reader's loop what that iteration reads of a layer, before it reads it.

        layer at [time], reader at [.., i, ..]   ->   layer at [.., i, 0, time], reader at [.., i, 1, ..]

    Elements that several iterations read run again in each of them; with `once`, in the first one alone.
    Errors: InvalidInput for a layer that the reader does not read, or a dimension that there is not; IllegalSchedule.

    >>> from polyfuse.network.network import Builder
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


def unroll(schedule: Schedule, dim: int, factor: int) -> Schedule:
    """Leave a loop to the compiler to unroll: `#pragma GCC unroll factor`. Times stay as they are.

    Errors: InvalidInput for a dimension or a factor that there is not.

    >>> from polyfuse.network.network import Builder
    >>> build = Builder("pool")
    >>> net = build.network(build.max_pool("top", build.input("x", (1, 1, 8, 8)), kernel=2, stride=2))
    >>> rows = schedule_from(net, "{ top[n, c, h, w, y, x] -> [h, w, y, x] }")
    >>> rows.marks, unroll(rows, 2, 2).marks
    ({}, {2: Mark(kind='unroll', factor=2)})
    """
    positive(factor, "factor")
    return marked(schedule, dim, Mark("unroll", factor))


def unroll_and_jam(schedule: Schedule, dim: int, factor: int) -> Schedule:
    """Unroll a loop inside of the loops that it holds: `factor` of its iterations at once, innermost.

        [.., i, j, ..]   ->   [.., floor(i / factor), j, .., i mod factor]

    Errors: InvalidInput for a dimension or a factor that there is not; IllegalSchedule.

    >>> from polyfuse.network.network import Builder
    >>> build = Builder("pool")
    >>> net = build.network(build.max_pool("top", build.input("x", (1, 1, 8, 8)), kernel=2, stride=2))
    >>> rows = schedule_from(net, "{ top[n, c, h, w, y, x] -> [h, w, y, x] }")
    >>> print(rows.times["top_update"].range().lexmax())
    { [3, 3, 1, 1, 1] }
    >>> print(unroll_and_jam(rows, 1, 2).times["top_update"].range().lexmax())
    { [3, 1, 1, 1, 1, 1] }
    """
    return innermost(schedule, dim, factor, Mark("unroll", factor))


def vectorize(schedule: Schedule, dim: int, width: int) -> Schedule:
    """Run `width` iterations of a loop at once, innermost: `#pragma omp simd`. They must not depend on each other.

        [.., i, j, ..]   ->   [.., floor(i / width), j, .., i mod width]

    Errors: InvalidInput for a dimension or a width that there is not; IllegalSchedule with two executions that depend
    on each other.

    >>> from polyfuse.network.network import Builder
    >>> build = Builder("pool")
    >>> net = build.network(build.max_pool("top", build.input("x", (1, 1, 8, 8)), kernel=2, stride=2))
    >>> rows = schedule_from(net, "{ top[n, c, h, w, y, x] -> [h, w, y, x] }")
    >>> print(rows.times["top_update"].range().lexmax())
    { [3, 3, 1, 1, 1] }
    >>> print(vectorize(rows, 1, 2).times["top_update"].range().lexmax())
    { [3, 1, 1, 1, 1, 1] }
    """
    return innermost(schedule, dim, width, Mark("vectorize", width))


def parallel(schedule: Schedule, dim: int) -> Schedule:
    """Share the iterations of a loop among threads; loops outside of it stay in order. Times stay as they are.

    `skew` makes wavefronts, inside of which executions do not depend on each other. The dimensions that name the tile
    need no mark: tiles run in parallel where nothing is retained along one.
    Errors: InvalidInput for a dimension that there is not, or that names the tile; IllegalSchedule with two executions
    of different iterations that depend on each other.

    >>> from polyfuse.network.network import Builder
    >>> build = Builder("pool")
    >>> net = build.network(build.max_pool("top", build.input("x", (1, 1, 8, 8)), kernel=2, stride=2))
    >>> rows = schedule_from(net, "{ top[n, c, h, w, y, x] -> [h, w, y, x] }")
    >>> rows.marks, parallel(rows, 1).marks
    ({}, {1: Mark(kind='parallel', factor=0)})
    """
    return marked(schedule, dim, Mark("parallel"))


def marked(schedule: Schedule, dim: int, mark: Mark) -> Schedule:
    """The schedule with a mark on a dimension of its times, proved. Errors: InvalidInput, IllegalSchedule."""
    schedule = explicit(schedule)
    checked_dims(schedule, dim)
    if dim < len(schedule.tiling.dims):
        raise InvalidInput(f"{mark.kind}: dimension {dim} names the tile; expected one inside of it")
    return proved(replace(schedule, marks={**schedule.marks, dim: mark}))


def innermost(schedule: Schedule, dim: int, size: int, mark: Mark) -> Schedule:
    """A loop in pieces, the loop inside of a piece innermost and marked. Errors: InvalidInput, IllegalSchedule."""
    schedule = explicit(schedule)
    length = checked_dims(schedule, dim)
    positive(size, "width" if mark.kind == "vectorize" else "factor")
    if dim < len(schedule.tiling.dims):
        raise InvalidInput(f"{mark.kind}: dimension {dim} names the tile; expected one inside of it")
    values = _variables(length, range(length))
    change = _together([*values[:dim], _floor(length, dim, size), *values[dim + 1 :], _mod(length, dim, size)])
    dims: list[int | None] = [*range(dim), None, *range(dim + 1, length), None]
    return retimed(schedule, lambda _, times: times.apply_range(change), dims, {length: mark})


def with_retention(
    schedule: Schedule,
    *,
    tile: int | tuple[int, ...],
    others: tuple[Place, ...] = (),
    retention: Mapping[str, tuple[Place, ...]] | None = None,
    reorder: bool | None = None,
) -> Schedule:
    """The same times with other dimensions that name the tile, and other places where values wait between tiles.

    `reorder` says whether sums may be added up in another order; None leaves that as it is.
    Errors: InvalidInput for dimensions or places that there are not; IllegalSchedule.
    """
    schedule = explicit(schedule)
    named, count = tile_of(tile, list(schedule.times.values()))
    strategy = Strategy((0,) * len(named), others, retention or {}, weights=schedule.strategy.weights)
    free = schedule.reorder if reorder is None else reorder
    found = assembled(schedule.network, strategy, Tiling.of_times(count, named), schedule.times, free)
    return proved(replace(found, marks=schedule.marks))


def explicit(schedule: Schedule) -> Schedule:
    """A schedule whose times are all given: itself, or its explicit form with the places that it has.

    Errors: InvalidInput where tiles were put in another order.
    """
    if schedule.is_in_order and schedule.times and all(map(schedule.is_given, schedule.network.layers)):
        return schedule
    count = len(schedule.tiling.dims)
    if not schedule.is_in_order:
        raise InvalidInput("transformations start from tiles in their own order; give the times with schedule_from")
    retention = {name: flow.places for name, flow in schedule.flows.items() if flow.role != "weight"}
    weights, times = schedule.strategy.weights, union_map(schedule)
    return schedule_from(schedule.network, times, tile=count, retention=retention, weights=weights)


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


def inserted(times: isl.Map, position: int, number: int) -> isl.Map:
    """Times with a constant dimension at a position."""
    return times.insert_dims(OUT, position, 1).fix_val(OUT, position, isl.Val(number))


def padded(times: isl.Map, width: int) -> isl.Map:
    """Times with zeros behind."""
    while times.dim(OUT) < width:
        times = inserted(times, times.dim(OUT), 0)
    return times


def _variables(length: int, dims: Sequence[int]) -> list[isl.Aff]:
    space = isl.LocalSpace.from_space(isl.Space.set_alloc(isl.DEFAULT_CONTEXT, 0, length))
    return [isl.Aff.var_on_domain(space, SET, d) for d in dims]


def _floor(length: int, dim: int, size: int) -> isl.Aff:
    (value,) = _variables(length, [dim])
    return value.scale_down_val(isl.Val(size)).floor()


def _mod(length: int, dim: int, size: int) -> isl.Aff:
    (value,) = _variables(length, [dim])
    return value.mod_val(isl.Val(size))


def _together(values: Sequence[isl.Aff]) -> isl.Map:
    """`{ [time] -> [values] }`."""
    found = isl.Map.from_aff(values[0])
    for value in values[1:]:
        found = found.flat_range_product(isl.Map.from_aff(value))
    return found
