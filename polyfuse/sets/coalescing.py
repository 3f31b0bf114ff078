"""Fewer pieces for a union, where isl can."""

from typing import TypeVar

import islpy as isl

from polyfuse.sets.limits import is_quota_error
from polyfuse.sets.spaces import freed, only_axis

Union = TypeVar("Union", isl.Set, isl.Map)


def coalesced(union: Union) -> Union:
    """The same set or relation in fewer pieces; as it is where isl 0.27 stops with an error of its own.

    Only the pieces change, never what they hold, so that nothing depends on it but time and how clean loops are.

    >>> print(coalesced(isl.Set("{ [i] : 0 <= i < 4 or 4 <= i < 8 }")))
    { [i] : 0 <= i <= 7 }
    """
    try:
        return union.coalesce()
    except isl.Error as error:
        if is_quota_error(error):
            raise
        return union


def boxed(points: isl.Set) -> isl.Set:
    """The same bounded set as bounds on each dimension where it is a box, and in fewer pieces where it is not.

    A union that was composed of many may say a box by quotients, which no coalescing takes out.

    >>> print(boxed(isl.Set("{ [i, 3] : (i mod 2 = 0 and 0 <= i < 9) or (i mod 2 = 1 and 0 < i < 8) }")))
    { [i, 3] : 0 <= i <= 8 }
    """
    if points.dim(isl.dim_type.param) or points.is_empty():
        return coalesced(points)
    box = isl.Set.universe(points.get_space())
    for d in range(points.dim(isl.dim_type.set)):
        box = box.lower_bound_val(isl.dim_type.set, d, points.dim_min_val(d))
        box = box.upper_bound_val(isl.dim_type.set, d, points.dim_max_val(d))
    return box if box.is_equal(points) else coalesced(points)


def simplified(relation: isl.Map) -> isl.Map:
    """The same relation without quotients, along inputs that take every value between two: those of shuffled channels.

    >>> some = "0 <= e <= 135 and -544 + 4c - 137e <= 544*floor((-1 - e)/4) <= -541 + 4c - 137e"
    >>> print(simplified(isl.Map(f"{{ A[c, h] -> [t] : h = t and exists (e : {some}) }}")))
    { A[i0, h] -> [t = h] : 0 <= i0 <= 135 }
    """
    for axis in range(relation.dim(isl.dim_type.in_)):
        if any(piece.dim(isl.dim_type.div) for piece in relation.get_basic_maps()):
            relation = _freed(relation, axis)
    return relation


def _freed(relation: isl.Map, axis: int) -> isl.Map:
    """The relation with an input that is anything between its smallest and largest value, if that is the same."""
    values = only_axis(relation.domain().reset_tuple_id(), isl.dim_type.set, axis)
    if relation.dim(isl.dim_type.param) or values.is_empty() or not values.is_bounded():
        return relation
    free = freed(relation, isl.dim_type.in_, [axis])
    free = free.lower_bound_val(isl.dim_type.in_, axis, values.dim_min_val(0))
    free = free.upper_bound_val(isl.dim_type.in_, axis, values.dim_max_val(0))
    return coalesced(free) if free.is_subset(relation) else relation
