"""Transformations of schedules: functions that return another schedule, proved legal.

    Schedule ──split(), interchange(), skew(), tile(), …──> Schedule, or IllegalSchedule with a witness

A schedule is seen as in `given`: every instance has a time `[t, time]`, whose first dimensions name the tile.
Dimensions are counted from 0, those of the tile included, and each function says what it makes of a time: before ->
after. A schedule that was derived is taken in its explicit form, `union_map`.

Examples print the last time of a statement, or the first, before and after; what follows the dimensions that were given
keeps the start of a sum before its terms.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import islpy as isl

from polyfuse.choices import Place
from polyfuse.errors import InvalidInput
from polyfuse.schedule.given import assembled, tile_of
from polyfuse.schedule.retiming import (
    FARTHEST,
    checked_dims,
    explicit,
    mapped,
    pieces,
    positive,
    proved,
    statements_of,
    variables,
)
from polyfuse.schedule.schedule import Schedule
from polyfuse.schedule.strategy import Strategy
from polyfuse.schedule.tiling import Tiling
from polyfuse.whole import whole


def split(schedule: Schedule, dim: int, size: int) -> Schedule:
    """Cut a loop into a loop over pieces and one inside of a piece.

        [.., i, ..]   ->   [.., floor(i / size), i mod size, ..]

    Errors: InvalidInput for a dimension or a size that there is not.

    >>> from polyfuse.network.network import Builder
    >>> from polyfuse.schedule.given import schedule_from
    >>> build = Builder("pool")
    >>> net = build.network(build.max_pool("top", build.input("x", (1, 1, 8, 8)), kernel=2, stride=2))
    >>> rows = schedule_from(net, "{ top[n, c, h, w, y, x] -> [h, w, y, x] }")
    >>> print(rows.times["top_update"].range().lexmax())
    { [3, 3, 1, 1, 1] }
    >>> print(split(rows, 1, 2).times["top_update"].range().lexmax())
    { [3, 1, 1, 1, 1, 1] }
    """
    schedule = explicit(schedule)
    length = checked_dims(schedule, dim)
    positive(size, "size")
    values = variables(length)
    dims = [*range(dim), None, None, *range(dim + 1, length)]
    return mapped(schedule, [*values[:dim], *pieces(values[dim], size), *values[dim + 1 :]], dims, split_at=dim)


def interchange(schedule: Schedule, dim: int, other: int) -> Schedule:
    """Exchange two loops; both name the tile or neither does.

        [.., i, .., j, ..]   ->   [.., j, .., i, ..]

    Errors: InvalidInput for dimensions that there are not; IllegalSchedule.

    >>> from polyfuse.network.network import Builder
    >>> from polyfuse.schedule.given import schedule_from
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
    >>> from polyfuse.schedule.given import schedule_from
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
    >>> from polyfuse.schedule.given import schedule_from
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
    values = variables(len(order))
    return mapped(schedule, [values[d] for d in order], order)


def reverse(schedule: Schedule, dim: int) -> Schedule:
    """Run a loop from its end.

        [.., i, ..]   ->   [.., -i, ..]

    Errors: InvalidInput for a dimension that there is not; IllegalSchedule.

    >>> from polyfuse.network.network import Builder
    >>> from polyfuse.schedule.given import schedule_from
    >>> build = Builder("pool")
    >>> net = build.network(build.max_pool("top", build.input("x", (1, 1, 8, 8)), kernel=2, stride=2))
    >>> rows = schedule_from(net, "{ top[n, c, h, w, y, x] -> [h, w, y, x] }")
    >>> print(rows.times["top_update"].range().lexmin())
    { [0, 0, 0, 0, 1] }
    >>> print(reverse(rows, 1).times["top_update"].range().lexmin())
    { [0, -3, 0, 0, 1] }
    """
    schedule = explicit(schedule)
    values = variables(checked_dims(schedule, dim))
    return mapped(schedule, [*values[:dim], values[dim].neg(), *values[dim + 1 :]])


def shift(schedule: Schedule, layer: str, dim: int, by: int) -> Schedule:
    """Run a layer later, or earlier, than others along a loop.

        layer[..] at [.., i, ..]   ->   [.., i + by, ..]

    Errors: InvalidInput for a layer or a dimension that there is not; IllegalSchedule.

    >>> from polyfuse.network.network import Builder
    >>> from polyfuse.schedule.given import schedule_from
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
    values = variables(length)
    values[dim] = values[dim].add_constant_val(isl.Val(whole(by, "by", -FARTHEST, FARTHEST)))
    return mapped(schedule, values, statements=names)


def skew(schedule: Schedule, dim: int, by: int, factor: int = 1) -> Schedule:
    """Add a multiple of one loop to another: what depended along both runs in wavefronts.

        [.., i, .., j, ..]   ->   [.., i, .., j + factor i, ..]     for dim = j, by = i

    Errors: InvalidInput for dimensions that there are not, or twice the same; IllegalSchedule.

    >>> from polyfuse.network.network import Builder
    >>> from polyfuse.schedule.given import schedule_from
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
    values = variables(length)
    values[dim] = values[dim].add(values[by].scale_val(isl.Val(whole(factor, "factor", -FARTHEST, FARTHEST))))
    return mapped(schedule, values)


def tile(schedule: Schedule, dims: Sequence[int], sizes: Sequence[int]) -> Schedule:
    """Cut neighbouring loops into tiles: the loops over tiles outside, those inside of a tile behind them.

        [.., i, j, ..]   ->   [.., floor(i / I), floor(j / J), i mod I, j mod J, ..]

    Where values wait stays as it is: `with_retention` makes the first loops name the tile.
    Errors: InvalidInput for dimensions that are not next to one another, or other numbers of sizes; IllegalSchedule.

    >>> from polyfuse.network.network import Builder
    >>> from polyfuse.schedule.given import schedule_from
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
    values, first, end = variables(length), dims[0], dims[-1] + 1
    cut = [pieces(values[dim], size) for dim, size in zip(dims, sizes, strict=True)]
    inside_out = [part[k] for k in (0, 1) for part in cut]
    order = [*range(first), *(None for _ in inside_out), *range(end, length)]
    return mapped(schedule, [*values[:first], *inside_out, *values[end:]], order)


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
