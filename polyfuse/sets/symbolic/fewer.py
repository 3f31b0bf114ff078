"""Fewer pieces of a quasi-polynomial: floors that are constant on a piece, and pieces that another one's value covers.

Enters: disjoint pieces. Leaves: pieces on the same union of domains with equal values, as few as these two rules find.
"""

from collections.abc import Mapping
from functools import reduce

import islpy as isl
import sympy

from polyfuse.sets.components import PARAM
from polyfuse.sets.spaces import dimension_names
from polyfuse.sets.symbolic.expressions import symbol

MOST_PIECES = 24
Pieces = list[tuple[isl.Set, sympy.Expr]]


def fewer_pieces(pieces: Pieces) -> Pieces:
    """The same function in fewer pieces: each value is tried on the domains of the others.

        H >= 13: H + 2*floor((H + 3)/8) - 4,   5 <= H <= 12: H - 2   to   H >= 5: H + 2*floor((H + 3)/8) - 4

    >>> h = symbol("H")
    >>> many = [(isl.Set("[H] -> { : H >= 8 }"), h + sympy.floor(h / 8)), (isl.Set("[H] -> { : 0 <= H < 8 }"), h)]
    >>> [(domain, value)] = fewer_pieces(many)
    >>> print(domain, value)
    [H] -> {  : H >= 0 } H + floor(H/8)
    """
    known = [(domain, value) for domain, value in pieces if not domain.is_empty()]
    if not 1 < len(known) <= MOST_PIECES:
        return [(domain, _at(domain, value)) for domain, value in known]
    here = [_expanded(domain, value) for domain, value in known]
    samples = [_sample(domain) for domain, _ in known]
    covered = {
        (one, other)
        for one in range(len(known))
        for other in range(len(known))
        if one != other
        and known[one][1].subs(samples[other]) == known[other][1].subs(samples[other])
        and _expanded(known[other][0], known[one][1]) == here[other]
    }
    results: Pieces = []
    left = set(range(len(known)))
    while left:
        best = max(left, key=lambda one: (sum((one, other) in covered for other in left), -one))
        joined = {best} | {other for other in left if (best, other) in covered}
        domain = reduce(isl.Set.union, (known[index][0] for index in sorted(joined))).coalesce()
        results.append((domain, _at(domain, known[best][1])))
        left -= joined
    return results


def _expanded(domain: isl.Set, value: sympy.Expr) -> sympy.Expr:
    return sympy.expand(_fixed(domain, _at(domain, value)))


def _fixed(domain: isl.Set, value: sympy.Expr) -> sympy.Expr:
    """The value with numbers for the symbols that have only one value on the domain."""
    numbers = {}
    for position, name in enumerate(dimension_names(domain.get_space(), PARAM)):
        if symbol(name) in value.free_symbols:
            fixed = domain.plain_get_val_if_fixed(PARAM, position)
            if fixed.is_int():
                numbers[symbol(name)] = sympy.Integer(fixed.to_python())
    return value.subs(numbers)


def _at(domain: isl.Set, value: sympy.Expr) -> sympy.Expr:
    """The value with numbers for the floors that are constant on the domain, inner ones first."""
    floors = sorted(value.atoms(sympy.floor), key=lambda floor: len(floor.atoms(sympy.floor)))
    if not floors:
        return value
    point = _sample(domain)
    constant = {floor: floor.subs(point) for floor in floors if _is_constant(domain, floor, point)}
    return value.xreplace(constant) if constant else value


def _sample(domain: isl.Set) -> dict[sympy.Symbol, sympy.Integer]:
    """A point of the domain, by symbol."""
    point = domain.sample_point()
    return {
        symbol(name): sympy.Integer(point.get_coordinate_val(PARAM, position).to_python())
        for position, name in enumerate(dimension_names(domain.get_space(), PARAM))
    }


def _is_constant(domain: isl.Set, floor: sympy.Expr, point: Mapping[sympy.Symbol, sympy.Integer]) -> bool:
    inside = floor.args[0]
    if inside.atoms(sympy.floor):
        return False
    denominator = reduce(
        sympy.lcm, (term.as_coeff_Mul()[0].q for term in sympy.Add.make_args(inside)), sympy.Integer(1)
    )
    numerator = sympy.expand(inside * denominator)
    lowest = floor.subs(point) * denominator
    below = _at_least(domain, numerator - lowest)
    above = _at_least(domain, lowest + denominator - 1 - numerator)
    return bool(domain.is_subset(below.intersect(above)))


def _at_least(domain: isl.Set, expression: sympy.Expr) -> isl.Set:
    """The parameters at which an affine expression is 0 or more."""
    constraint = isl.Constraint.alloc_inequality(isl.LocalSpace.from_space(domain.get_space()))
    names = dimension_names(domain.get_space(), PARAM)
    for position, name in enumerate(names):
        constraint = constraint.set_coefficient_val(PARAM, position, isl.Val(int(expression.coeff(symbol(name)))))
    rest = expression.subs({symbol(name): 0 for name in names})
    bounded = isl.BasicSet.universe(domain.get_space()).add_constraint(constraint.set_constant_val(isl.Val(int(rest))))
    return bounded.to_set()
