"""The points of a bounded set as an array of numpy, and expressions at all of them at once.

Enters: isl sets and expressions without parameters. Leaves: `points[k, d]`, coordinate `d` of point `k`, in
lexicographic order; values as arrays over `k`.
"""

from math import prod

import islpy as isl
import numpy as np
from numpy.typing import NDArray

from polyfuse.errors import TooComplex, Unbounded

Integers = NDArray[np.int64]
MOST_PLACES = 1 << 25
"""Boxes around a set with more points than this are not walked through."""


def points(values: isl.Set) -> Integers:
    """All points of a set, in lexicographic order.

    Errors: Unbounded; TooComplex for more than MOST_PLACES in the box around all coordinates but the last.

    >>> points(isl.Set("{ [a, b] : 0 <= a <= 2 and 0 <= b < a }")).tolist()
    [[1, 0], [2, 0], [2, 1]]
    """
    rank = values.dim(isl.dim_type.set)
    if values.is_empty() or rank == 0:
        return np.zeros((0 if values.is_empty() else 1, rank), np.int64)
    heads = in_box(values.project_out(isl.dim_type.set, rank - 1, 1))
    last = isl.Map.from_domain(values.reset_tuple_id() if values.has_tuple_id() else values)
    last = last.move_dims(isl.dim_type.out, 0, isl.dim_type.in_, rank - 1, 1)
    low, high = (values_at(ends.get_at(0), heads) for ends in (last.lexmin_pw_multi_aff(), last.lexmax_pw_multi_aff()))
    counts = high - low + 1
    before = np.repeat(np.cumsum(counts) - counts, counts)
    tails = np.repeat(low, counts) + np.arange(int(counts.sum())) - before
    found = np.column_stack([np.repeat(heads, counts, axis=0), tails])
    return np.ascontiguousarray(found[contains(values, found)])


def in_box(values: isl.Set) -> Integers:
    """The points of a set, from those of the box around it. Errors: TooComplex, Unbounded."""
    rank = values.dim(isl.dim_type.set)
    ends = [(values.dim_min_val(d), values.dim_max_val(d)) for d in range(rank)]
    if not all(low.is_int() and high.is_int() for low, high in ends):
        raise Unbounded(f"points of {values}: expected a bounded set; give sizes as numbers")
    lows = [int(low.to_python()) for low, _ in ends]
    sizes = [int(high.to_python()) - low + 1 for low, (_, high) in zip(lows, ends, strict=True)]
    if prod(sizes) > MOST_PLACES:
        raise TooComplex(f"points of a set in a box of {prod(sizes):,}: expected at most {MOST_PLACES:,}; cut it")
    box = np.indices(sizes).reshape(rank, prod(sizes)).T + np.array(lows, np.int64)
    return np.ascontiguousarray(box[contains(values, box)])


def contains(values: isl.Set, at: Integers) -> NDArray[np.bool_]:
    """A mask of the points that a set holds."""
    held = np.zeros(len(at), bool)
    for part in values.compute_divs().get_basic_sets():
        inside = np.ones(len(at), bool)
        for constraint in part.get_constraints():
            found = numerators(constraint.get_aff(), at)
            inside &= found == 0 if constraint.is_equality() else found >= 0
        held |= inside
    return held


def values_at(expression: isl.PwAff, at: Integers) -> Integers:
    """The whole-numbered values of an expression at points of its domain.

    >>> values_at(isl.PwAff("{ [a] -> [floor(a/2)] : a < 4; [a] -> [7] : a >= 4 }"), np.array([[3], [5]])).tolist()
    [1, 7]
    """
    found = np.zeros(len(at), np.int64)
    pieces = expression.get_pieces()
    for where, value in pieces:
        here = contains(where, at) if len(pieces) > 1 else slice(None)
        found[here] = aff_at(value, at[here])
    return found


def aff_at(value: isl.Aff, at: Integers) -> Integers:
    """The floor of an affine expression at points."""
    return numerators(value, at) // int(value.get_denominator_val().to_python())


def numerators(value: isl.Aff, at: Integers) -> Integers:
    """An affine expression at points, times its denominator."""
    over = value.get_denominator_val()

    def whole(coefficient: isl.Val) -> int:
        return int(coefficient.mul(over).to_python())

    total = np.full(len(at), whole(value.get_constant_val()), np.int64)
    for d in range(value.dim(isl.dim_type.in_)):
        if factor := whole(value.get_coefficient_val(isl.dim_type.in_, d)):
            total += factor * at[:, d]
    for k in range(value.dim(isl.dim_type.div)):
        if factor := whole(value.get_coefficient_val(isl.dim_type.div, k)):
            total += factor * aff_at(value.get_div(k), at)
    return total
