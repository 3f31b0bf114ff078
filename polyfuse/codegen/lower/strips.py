"""Rows of executions: a tensor's executions in a group, cut into strips of columns that one row kernel computes.

    { A[n, c, h, w] -> tile[t] }  ──strips()──>  Strip: { row[t, n, g] } with the first row and column of each

Rows whose columns are as many, and reach as far beyond the image, are computed by one kernel; isl says which they are.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import islpy as isl

from polyfuse.network.tensor import Tensor
from polyfuse.network.window import Window
from polyfuse.sets.coalescing import coalesced
from polyfuse.sets.points import points

MOST_VARIANTS = 48
"""Executions that would need more kinds of rows than this keep scalar code."""

Heights = Callable[[int], Sequence[int]]
"""In how many rows at a time so many rows are computed."""


@dataclass(frozen=True, eq=False)
class Strip:
    """Executions that one row kernel computes: `height` rows of `columns` outputs from a first row and column.

    executions    { [t.., n, g] }: tile coordinates, image, and the number of the strip among those of its tile
    first_row     { [t.., n, g] -> [h] }, first_column { [t.., n, g] -> [w] }
    outside       how many columns of the first and of the last window are left and right of the image
    """

    executions: isl.Set
    first_row: isl.PwAff
    first_column: isl.PwAff
    height: int
    columns: int
    outside: tuple[int, int]


def one_by_one(rows: int) -> Sequence[int]:
    """Every row by itself."""
    return (1,) * rows


def strips(moments: isl.Map, tensor: Tensor, window: Window, width: int, heights: Heights) -> tuple[Strip, ...] | None:
    """The strips of `moments`, `{ A[n, c, h, w] -> tile[t] }`, of a layer that reads images of `width` columns.

    None where they are no rows: some channels only, columns with holes, or too many different ones.
    """
    columns = columns_of_rows(moments, tensor)
    if columns is None:
        return None
    ends = interval(columns)
    if ends is None:
        return None
    first, last = ends
    found: list[Strip] = []
    for (count, left, right), rows in alike(first, last, window, width):
        strip = Strip(rows, last_index(rows), first.intersect_domain(rows), 1, count, (left, right))
        high = [strip] if heights is one_by_one else stacked(strip, heights)
        if high is None:
            return None
        found += high
        if len(found) > MOST_VARIANTS:
            return None
    return tuple(found)


def columns_of_rows(moments: isl.Map, tensor: Tensor) -> isl.Map | None:
    """`{ [t.., n, h] -> [w] }`; None where a row lacks some channels."""
    pairs = moments.reverse().wrap().flatten()
    channel = pairs.dim(isl.dim_type.set) - 3
    without = coalesced(pairs.project_out(isl.dim_type.set, channel, 1))
    every = without.insert_dims(isl.dim_type.set, channel, 1).lower_bound_val(isl.dim_type.set, channel, isl.Val(0))
    every = every.upper_bound_val(isl.dim_type.set, channel, isl.Val(tensor.concrete_shape[1] - 1))
    if not pairs.is_equal(every):
        return None
    return isl.Map.from_domain(without).move_dims(isl.dim_type.out, 0, isl.dim_type.in_, channel + 1, 1)


def interval(relation: isl.Map) -> tuple[isl.PwAff, isl.PwAff] | None:
    """The first and the last value of `{ [i] -> [w] }`; None where values between them are missing."""
    if relation.is_empty():
        return None
    first, last = (ends.get_at(0) for ends in (relation.lexmin_pw_multi_aff(), relation.lexmax_pw_multi_aff()))
    line = relation.range().get_space()
    from_first = isl.Map.from_pw_aff(first).apply_range(isl.Map.lex_le(line))
    between = from_first & isl.Map.from_pw_aff(last).apply_range(isl.Map.lex_ge(line))
    return (first.coalesce(), last.coalesce()) if between.is_equal(relation) else None


def alike(
    first: isl.PwAff, last: isl.PwAff, window: Window, width: int
) -> Iterator[tuple[tuple[int, int, int], isl.Set]]:
    """Rows by what their kernel depends on: columns, and those of its windows that are left and right of the image."""
    stride, before = isl.Val(window.stride[1]), window.padding[1]
    reach = window.dilation[1] * (window.kernel[1] - 1) + 1
    left = at_least_zero(first.scale_val(stride).neg().add_constant_val(isl.Val(before)))
    right = at_least_zero(last.scale_val(stride).add_constant_val(isl.Val(reach - before - width)))
    count = last.sub(first).add_constant_val(isl.Val(1))
    measures = isl.Map.from_pw_aff(count)
    for measure in (left, right):
        measures = measures.flat_range_product(isl.Map.from_pw_aff(measure))
    for values in points_of(measures.range()):
        same = measures
        for d, value in enumerate(values):
            same = same.fix_val(isl.dim_type.out, d, isl.Val(value))
        yield (values[0], values[1], values[2]), coalesced(same.domain())


def at_least_zero(value: isl.PwAff) -> isl.PwAff:
    """The larger of a value and 0."""
    zero = isl.Aff.zero_on_domain(isl.LocalSpace.from_space(value.get_domain_space()))
    return value.max(isl.PwAff.from_aff(zero))


def points_of(values: isl.Set) -> list[tuple[int, ...]]:
    """The points of a bounded set, the last one first."""
    return [tuple(map(int, point)) for point in points(values)[::-1]]


def last_index(rows: isl.Set) -> isl.PwAff:
    """`{ [t.., n, h] -> [h] }`."""
    row = rows.dim(isl.dim_type.set) - 1
    aff = isl.Aff.var_on_domain(isl.LocalSpace.from_space(rows.get_space()), isl.dim_type.set, row)
    return isl.PwAff.from_aff(aff)


def stacked(strip: Strip, heights: Heights) -> list[Strip] | None:
    """A strip of single rows as strips of several; None where rows between are missing or start elsewhere.

    { [t.., n, h] }   to   { [t.., n, g] : 0 <= g < strips of one height }, the first row a function of g
    """
    row = strip.executions.dim(isl.dim_type.set) - 1
    by_tile = isl.Map.from_domain(strip.executions).move_dims(isl.dim_type.out, 0, isl.dim_type.in_, row, 1)
    ends = interval(by_tile)
    starts = isl.Map.from_pw_aff(strip.first_column).intersect_domain(strip.executions)
    starts = starts.project_out(isl.dim_type.in_, row, 1)
    if ends is None or not starts.is_single_valued():
        return None
    column = isl.PwMultiAff.from_map(coalesced(starts)).get_at(0)
    first, last = ends
    counts = isl.Map.from_pw_aff(last.sub(first).add_constant_val(isl.Val(1)))
    found = []
    for (rows,) in points_of(counts.range()):
        tiles = coalesced(counts.fix_val(isl.dim_type.out, 0, isl.Val(rows)).domain())
        for offset, height, repeated in runs(heights(rows)):
            executions = tiles.add_dims(isl.dim_type.set, 1)
            executions = executions.lower_bound_val(isl.dim_type.set, row, isl.Val(0))
            executions = executions.upper_bound_val(isl.dim_type.set, row, isl.Val(repeated - 1))
            start = widened(first).add_constant_val(isl.Val(offset))
            start = start.add(last_index(executions).scale_val(isl.Val(height)))
            place = widened(column).intersect_domain(executions)
            found.append(Strip(executions, start, place, height, strip.columns, strip.outside))
    return found


def widened(value: isl.PwAff) -> isl.PwAff:
    """The same value, with one more index in its domain that it does not depend on."""
    return value.add_dims(isl.dim_type.in_, 1)


def runs(heights: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Equal neighbours: (rows before them, height, how many).

    >>> list(runs((8, 8, 5)))
    [(0, 8, 2), (16, 5, 1)]
    """
    offset = k = 0
    while k < len(heights):
        same = next((n for n in range(k, len(heights)) if heights[n] != heights[k]), len(heights)) - k
        yield offset, heights[k], same
        offset += heights[k] * same
        k += same
