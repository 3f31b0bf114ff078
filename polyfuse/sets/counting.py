"""Exact numbers of integer points, of sets without parameters.

Enters: any isl set or map. Leaves: an `int`. Sets with parameters: `polyfuse.sets.symbolic.cardinality`.

A set is made disjoint, each piece split into independent factors, and the factors counted on their own: footprints
of convolution and pooling layers are products of small systems (tile, row, kernel tap) along each axis.
"""

from fractions import Fraction

import islpy as isl

from polyfuse.errors import InvalidInput, TooComplex, Unbounded
from polyfuse.sets.components import PARAM, SET, total
from polyfuse.sets.limits import is_exhausted, operation_limit
from polyfuse.sets.names import Names
from polyfuse.sets.polynomial import Polynomial
from polyfuse.sets.reading import read
from polyfuse.sets.spaces import dimension_names
from polyfuse.sets.summation import sum_over

Countable = str | isl.BasicSet | isl.Set | isl.BasicMap | isl.Map | isl.UnionSet | isl.UnionMap

MAX_ENUMERATED_ROWS = 300


def count(s: Countable) -> int:
    """The number of points of a set, or of pairs of a map, that does not depend on parameters.

    >>> count("{ conv[oc, y, x] : 0 <= oc < 64 and 0 <= y, x < 1000 }")
    64000000
    >>> count(isl.Map("{ tile[t] -> row[y] : 0 <= t < 2 and 8t <= y < 8t + 10 }"))
    20

    Errors: Unbounded, InvalidInput where a parameter matters, TooComplex where counting takes too long.
    """
    return sum(_count_set(part) for part in _parts(s))


def _parts(s: Countable) -> list[isl.Set]:
    """The set as sets of one space each; a map becomes the set of its pairs."""
    if isinstance(s, str):
        s = _read(s)
    if isinstance(s, isl.BasicMap):
        s = s.to_map()
    if isinstance(s, isl.BasicSet):
        s = s.to_set()
    if isinstance(s, (isl.Map, isl.UnionMap)):
        s = s.wrap()
    if isinstance(s, isl.Set):
        return [s]
    if isinstance(s, isl.UnionSet):
        found: list[isl.Set] = []
        s.foreach_set(found.append)
        return found
    raise InvalidInput(f"count: expected an isl set or map, got {type(s).__name__}; convert it with `as_set`")


def _read(text: str) -> isl.UnionSet | isl.UnionMap:
    """What a text holds. Errors: InvalidInput."""
    try:
        return read(isl.UnionSet, text, "count", "{ S[i] : 0 <= i < 8 }")
    except InvalidInput:
        return read(isl.UnionMap, text, "count", "{ S[i] : 0 <= i < 8 } or { S[i] -> [i] : 0 <= i < 8 }")


def _count_set(s: isl.Set) -> int:
    if not s.is_bounded():
        raise Unbounded(f"count: expected a finite set, got {s}; bound every dimension from both sides")
    return total(_without_parameters(s), _count_factor)


def _without_parameters(s: isl.Set) -> isl.Set:
    """The set without its parameters, which must not matter or have one value."""
    if s.is_empty() or not s.dim(PARAM):
        return s.project_out(PARAM, 0, s.dim(PARAM))
    names = dimension_names(s.get_space(), PARAM)
    used = [name for position, name in enumerate(names) if s.involves_dims(PARAM, position, 1)]
    if used and not _has_one_value(s.params().drop_unused_params()):
        raise InvalidInput(
            f"count: expected a set without parameters, got one that depends on {', '.join(used)}: {s}; "
            "use `polyfuse.sets.symbolic.cardinality` for a formula, or fix the parameters"
        )
    return s.project_out(PARAM, 0, s.dim(PARAM))


def _has_one_value(parameters: isl.Set) -> bool:
    values = isl.Set.from_params(parameters).move_dims(SET, 0, PARAM, 0, parameters.dim(PARAM))
    return bool(values.is_singleton())


def _count_factor(factor: isl.BasicSet) -> int:
    """Count one connected set: by rows where there are few, by closed forms otherwise."""
    if _rows_to_enumerate(factor) <= MAX_ENUMERATED_ROWS:
        return _enumerated(factor)
    try:
        return _sum_of_constants(sum_over(factor, Names()))
    except TooComplex:
        with operation_limit(what=f"counting {factor}"):
            return _enumerated(factor)


def _enumerated(factor: isl.BasicSet) -> int:
    """Count by visiting points. isl that runs out of operations says nothing and returns what it has visited."""
    visited = factor.to_set().count_val()
    if is_exhausted():
        raise TooComplex(
            "count: expected to visit all points of a set within the limit of isl operations, it has more; make the "
            "set simpler, or raise the limit"
        )
    return int(visited.to_python())


def _rows_to_enumerate(factor: isl.BasicSet) -> int:
    """The largest number of rows of the last dimension that isl visits to count a bounded set."""
    rows, box = 1, factor.to_set()
    for position in range(factor.dim(SET) - 1):
        rows *= box.dim_max_val(position).to_python() - box.dim_min_val(position).to_python() + 1
    return rows


def _sum_of_constants(terms: list[tuple[isl.BasicSet, Polynomial]]) -> int:
    result = sum((value.terms[()] for _, value in terms if value.terms), Fraction(0))
    assert result.denominator == 1 and all(not value.names for _, value in terms), terms
    return int(result)
