"""Loops that are unrolled, vectorised or shared among threads: dimensions of times with marks.

    Schedule ──unroll(), unroll_and_jam(), vectorize(), parallel()──> Schedule, or IllegalSchedule with a witness

Loops of a marked dimension get a pragma in C. Dimensions are counted as in `transform`.
"""

from dataclasses import replace

from polyfuse.errors import InvalidInput
from polyfuse.schedule.retiming import checked_dims, explicit, mapped, pieces, positive, proved, variables
from polyfuse.schedule.schedule import Mark, Schedule


def unroll(schedule: Schedule, dim: int, factor: int) -> Schedule:
    """Leave a loop to the compiler to unroll: `#pragma GCC unroll factor`. Times stay as they are.

    Errors: InvalidInput for a dimension or a factor that there is not.

    >>> from polyfuse.network.network import Builder
    >>> from polyfuse.schedule.given import schedule_from
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
    >>> from polyfuse.schedule.given import schedule_from
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
    >>> from polyfuse.schedule.given import schedule_from
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
    >>> from polyfuse.schedule.given import schedule_from
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
    inside_of_tile(schedule, dim, mark)
    return proved(replace(schedule, marks={**schedule.marks, dim: mark}))


def innermost(schedule: Schedule, dim: int, size: int, mark: Mark) -> Schedule:
    """A loop in pieces, the loop inside of a piece innermost and marked. Errors: InvalidInput, IllegalSchedule."""
    schedule = explicit(schedule)
    length = inside_of_tile(schedule, dim, mark)
    positive(size, "width" if mark.kind == "vectorize" else "factor")
    values = variables(length)
    outer, inner = pieces(values[dim], size)
    dims = [*range(dim), None, *range(dim + 1, length), None]
    return mapped(schedule, [*values[:dim], outer, *values[dim + 1 :], inner], dims, marks={length: mark})


def inside_of_tile(schedule: Schedule, dim: int, mark: Mark) -> int:
    """The number of dimensions of times, of which `dim` is to be marked. Errors: InvalidInput."""
    length = checked_dims(schedule, dim)
    if dim < len(schedule.tiling.dims):
        raise InvalidInput(f"{mark.kind}: dimension {dim} names the tile; expected one inside of it")
    return length
