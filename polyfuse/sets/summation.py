"""Sum a polynomial over the integer points of a basic set with symbolic parameters, in closed form.

Enters: `[p] -> { [x] : … }` without existential variables. Leaves: terms `(domain over p, polynomial in p and floors)`.
Terms may overlap: where several domains hold, their values add.

One dimension is summed at a time. Between the largest lower and the smallest upper bound the sum of a polynomial is
a polynomial (Faulhaber); which bound is the largest splits the set. A bound that is not a multiple of the
dimension's coefficient gives a floor, which stays a name of its own if it depends on parameters alone;
otherwise the dimensions in it are split into residue classes. Where an equality makes a dimension a function of the
parameters (as `mod` on sizes does) it becomes a name too.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import gcd

import islpy as isl

from polyfuse.errors import Unbounded
from polyfuse.sets.components import PARAM, SET
from polyfuse.sets.names import Names
from polyfuse.sets.polynomial import Polynomial, affine, constant, sum_between, variable
from polyfuse.sets.spaces import dimension_names


@dataclass(frozen=True)
class ConstraintRow:
    """One constraint: `sum of coefficients*names + offset >= 0` (`= 0` for an equality)."""

    coefficients: dict[str, int]
    offset: int
    is_equality: bool

    def solved_for(self, name: str) -> tuple[dict[str, int], int, int]:
        """`(rest, offset, size)`: the bound on `name` is `(rest + offset) / size`, with `size > 0`."""
        own = self.coefficients[name]
        sign = -1 if own > 0 else 1
        rest = {other: sign * value for other, value in self.coefficients.items() if other != name}
        return rest, sign * self.offset, abs(own)


@dataclass(frozen=True, eq=False)
class PointSum:
    """The sum of `summand` over the dimensions of `points`; `dimensions` names them in order."""

    points: isl.BasicSet
    dimensions: tuple[str, ...]
    summand: Polynomial


Term = tuple[isl.BasicSet, Polynomial]


def sum_over(points: isl.BasicSet, names: Names) -> list[Term]:
    """Number of points of `[p] -> { [x] : … }` as terms over the parameters and the names made.

    >>> [(domain, value)] = sum_over(isl.BasicSet("[H] -> { [i, j] : 0 <= i < H and 0 <= j < 3 }"), Names())
    >>> value.terms == (variable("H") * 3).terms
    True

    Errors: Unbounded, or TooComplex past `names.MAX_STEPS` steps.
    """
    dimensions = tuple(names.fresh() for _ in range(points.dim(SET)))
    pending = [PointSum(points, dimensions, constant(1))]
    terms: list[Term] = []
    while pending:
        current = pending.pop()
        simple = current.points.detect_equalities().remove_redundancies()
        if simple.is_empty() or not current.summand.terms:
            continue
        if current.dimensions:
            pending.extend(_step(PointSum(simple, current.dimensions, current.summand), names))
        else:
            terms.append((simple.params(), current.summand))
    return terms


def _step(current: PointSum, names: Names) -> list[PointSum]:
    """The sum with one dimension fewer, or a step towards that."""
    names.fresh()
    rows = _rows(current)
    for row in rows:
        mine = [name for name in current.dimensions if name in row.coefficients]
        if row.is_equality and mine:
            return [_use_equality(current, row, mine, names)]
    costs = {name: _cost(name, rows, current) for name in current.dimensions}
    best = min(current.dimensions, key=lambda name: costs[name])
    splits = _needed_splits(best, rows, current)
    names.allow_steps(costs[best][0])
    if splits:
        split, modulus = min(splits.items(), key=lambda item: item[1])
        return _residue_classes(current, split, modulus, names)
    return _summed_between_bounds(current, best, rows, names)


def _use_equality(current: PointSum, row: ConstraintRow, mine: list[str], names: Names) -> PointSum:
    """Remove, determine or shorten a dimension of an equality."""
    pivot = min(mine, key=lambda name: abs(row.coefficients[name]))
    own = row.coefficients[pivot]
    rest, offset, size = ConstraintRow(row.coefficients, row.offset, False).solved_for(pivot)
    if size == 1:
        return _substituted(current, pivot, affine(rest.items(), offset))
    if len(mine) == 1:
        value = affine(((name, Fraction(v, size)) for name, v in rest.items()), Fraction(offset, size))
        return _as_parameter(current, pivot, value, names)
    new = names.fresh()
    quotients = {name: row.coefficients[name] // own for name in mine if name != pivot}
    changed = ConstraintRow({pivot: 1, new: -1, **{name: q for name, q in quotients.items() if q}}, 0, True)
    widened = PointSum(current.points.add_dims(SET, 1), (*current.dimensions, new), current.summand)
    constrained = PointSum(_with_row(widened, changed), widened.dimensions, widened.summand)
    value = affine(((name, -v) for name, v in changed.coefficients.items() if name != pivot), 0)
    return _substituted(constrained, pivot, value)


def _substituted(current: PointSum, name: str, value: Polynomial) -> PointSum:
    """The sum without dimension `name`, which an equality with coefficient 1 makes equal to `value`."""
    position = current.dimensions.index(name)
    points = current.points.eliminate(SET, position, 1).project_out(SET, position, 1)
    return PointSum(points, _without(current.dimensions, name), current.summand.substitute(name, value))


def _as_parameter(current: PointSum, name: str, value: Polynomial, names: Names) -> PointSum:
    """The sum without dimension `name`, a function of the parameters, which becomes a parameter itself."""
    symbol = names.define(value)
    position = current.dimensions.index(name)
    points = current.points.move_dims(PARAM, current.points.dim(PARAM), SET, position, 1)
    points = points.set_dim_name(PARAM, points.dim(PARAM) - 1, symbol)
    summand = current.summand.substitute(name, variable(symbol))
    return PointSum(points, _without(current.dimensions, name), summand)


def _cost(name: str, rows: list[ConstraintRow], current: PointSum) -> tuple[int, int, int]:
    """The cost of summing over a dimension now: residue classes, then pieces, then bounds that are floors."""
    classes = 1
    for modulus in _needed_splits(name, rows, current).values():
        classes *= modulus
    involved = [row for row in rows if name in row.coefficients]
    lowers = sum(row.coefficients[name] > 0 for row in involved)
    floors = sum(abs(row.coefficients[name]) > 1 for row in involved)
    return classes, lowers * (len(involved) - lowers), floors


def _needed_splits(name: str, rows: list[ConstraintRow], current: PointSum) -> dict[str, int]:
    """Dimensions to split into residue classes, and their moduli, before the bounds on `name` are affine in them."""
    moduli: dict[str, int] = {}
    for row in rows:
        own = abs(row.coefficients.get(name, 1))
        for other in _others(row, name, current):
            modulus = own // gcd(own, row.coefficients[other])
            if modulus > 1:
                shared = gcd(moduli.get(other, 1), modulus)
                moduli[other] = moduli.get(other, 1) * modulus // shared
    return moduli


def _residue_classes(current: PointSum, name: str, modulus: int, names: Names) -> list[PointSum]:
    """One sum for each residue: `x = modulus*q + residue`, over q."""
    results = []
    for residue in range(modulus):
        new = names.fresh()
        row = ConstraintRow({name: 1, new: -modulus}, -residue, True)
        widened = PointSum(current.points.add_dims(SET, 1), (*current.dimensions, new), current.summand)
        constrained = PointSum(_with_row(widened, row), widened.dimensions, widened.summand)
        results.append(_substituted(constrained, name, affine([(new, modulus)], residue)))
    return results


def _summed_between_bounds(current: PointSum, name: str, rows: list[ConstraintRow], names: Names) -> list[PointSum]:
    """One sum for each choice of the largest lower and the smallest upper bound."""
    lowers = [row for row in rows if row.coefficients.get(name, 0) > 0]
    uppers = [row for row in rows if row.coefficients.get(name, 0) < 0]
    if not lowers or not uppers:
        raise Unbounded(f"{current.points} has infinitely many points; bound every dimension from both sides")
    position = current.dimensions.index(name)
    rest = current.points.drop_constraints_involving_dims(SET, position, 1).project_out(SET, position, 1)
    outer = PointSum(rest, _without(current.dimensions, name), current.summand)
    results = []
    for lower, where_lower in _tightest(lowers, name):
        for upper, where_upper in _tightest(uppers, name):
            points = rest
            for row in (*where_lower, *where_upper, _eliminated(lower, upper, name, 0)):
                points = _with_row(PointSum(points, outer.dimensions, outer.summand), row)
            value = sum_between(current.summand, name, _lower(lower, name, names), _upper(upper, name, names))
            results.append(PointSum(points, outer.dimensions, value))
    return results


def _tightest(bounds: list[ConstraintRow], name: str) -> Iterator[tuple[ConstraintRow, list[ConstraintRow]]]:
    """Each bound with the conditions that make it the tightest; the conditions are disjoint and cover everything."""
    for index, bound in enumerate(bounds):
        flipped = ConstraintRow({key: -value for key, value in bound.coefficients.items()}, -bound.offset, False)
        earlier = [_eliminated(other, flipped, name, 1) for other in bounds[:index]]
        later = [_eliminated(other, flipped, name, 0) for other in bounds[index + 1 :]]
        yield bound, earlier + later


def _eliminated(first: ConstraintRow, second: ConstraintRow, name: str, margin: int) -> ConstraintRow:
    """The combination of two rows, with coefficients of opposite sign for `name`, that is free of it, less `margin`."""
    a, b = abs(second.coefficients[name]), abs(first.coefficients[name])
    keys = (first.coefficients.keys() | second.coefficients.keys()) - {name}
    combined = {key: a * first.coefficients.get(key, 0) + b * second.coefficients.get(key, 0) for key in keys}
    return ConstraintRow(combined, a * first.offset + b * second.offset - margin, False)


def _lower(row: ConstraintRow, name: str, names: Names) -> Polynomial:
    """`ceil(bound)` of a row `size*name - rest - offset >= 0`."""
    rest, offset, size = row.solved_for(name)
    return -names.floor({key: -value for key, value in rest.items()}, -offset, size)


def _upper(row: ConstraintRow, name: str, names: Names) -> Polynomial:
    """`floor(bound)` of a row `rest + offset - size*name >= 0`."""
    rest, offset, size = row.solved_for(name)
    return names.floor(rest, offset, size)


def _others(row: ConstraintRow, name: str, current: PointSum) -> list[str]:
    return [other for other in current.dimensions if other != name and other in row.coefficients]


def _without(dimensions: tuple[str, ...], name: str) -> tuple[str, ...]:
    return tuple(other for other in dimensions if other != name)


def _rows(current: PointSum) -> list[ConstraintRow]:
    columns = _columns(current)
    rows = []
    for constraint in current.points.get_constraints():
        values = {name: constraint.get_coefficient_val(kind, k).to_python() for name, (kind, k) in columns.items()}
        nonzero = {name: value for name, value in values.items() if value}
        rows.append(ConstraintRow(nonzero, constraint.get_constant_val().to_python(), constraint.is_equality()))
    return rows


def _with_row(current: PointSum, row: ConstraintRow) -> isl.BasicSet:
    """The points of a sum that satisfy one more row."""
    space = isl.LocalSpace.from_space(current.points.get_space())
    alloc = isl.Constraint.alloc_equality if row.is_equality else isl.Constraint.alloc_inequality
    constraint = alloc(space).set_constant_val(isl.Val(row.offset))
    columns = _columns(current)
    for name, value in row.coefficients.items():
        constraint = constraint.set_coefficient_val(*columns[name], value)
    return current.points.add_constraint(constraint)


def _columns(current: PointSum) -> dict[str, tuple[isl.dim_type, int]]:
    """The dimension of isl that each name is."""
    points = current.points
    columns = {name: (PARAM, k) for k, name in enumerate(dimension_names(points.get_space(), PARAM))}
    return columns | {name: (SET, k) for k, name in enumerate(current.dimensions)}
