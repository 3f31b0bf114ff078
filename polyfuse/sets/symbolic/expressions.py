"""isl's affine and polynomial expressions as sympy expressions over integer symbols.

Enters: isl affs, constraints, piecewise affs, quasi-polynomials. Leaves: sympy expressions with `floor`, and conditions
as lists of `(expression, is_equality)`, each saying `expression >= 0` or `expression = 0`.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import islpy as isl
import sympy

from polyfuse.errors import Unbounded
from polyfuse.sets.components import DIV, PARAM, SET, basic_sets, constraints
from polyfuse.sets.interrupts import interrupts_held

IN = isl.dim_type.in_


@dataclass(frozen=True)
class Condition:
    """`expression >= 0`, or `expression = 0`."""

    expression: sympy.Expr
    is_equality: bool

    def to_sympy(self) -> sympy.Basic:
        """The condition as a sympy relation."""
        return sympy.Eq(self.expression, 0) if self.is_equality else sympy.Ge(self.expression, 0)


def symbol(name: str) -> sympy.Symbol:
    """The integer symbol of a parameter or dimension.

    >>> symbol("H").is_integer
    True
    """
    return sympy.Symbol(name, integer=True)


def dimension_names(space: isl.Space, kind: isl.dim_type) -> tuple[str, ...]:
    """Distinct names of the dimensions of one kind; unnamed or repeated ones get `i0`, `i1`, ….

    >>> dimension_names(isl.Set("[H] -> { A[y, 5] }").get_space(), isl.dim_type.set)
    ('y', 'i1')
    """
    taken = {space.get_dim_name(PARAM, k) for k in range(space.dim(PARAM))} if kind != PARAM else set()
    names: list[str] = []
    for position in range(space.dim(kind)):
        name = space.get_dim_name(kind, position)
        candidates = [name] if name and name not in taken else []
        fallback = (f"i{position}{'_' * extra}" for extra in range(len(taken) + 1))
        names.append(next(option for option in (*candidates, *fallback) if option not in taken))
        taken.add(names[-1])
    return tuple(names)


def aff_to_sympy(aff: isl.Aff) -> sympy.Expr:
    """An isl affine expression, with its integer divisions as `floor`.

    >>> aff_to_sympy(isl.Aff("[H] -> { A[y] -> [floor((H + y)/4) - 1] }"))
    floor(H/4 + y/4) - 1
    """
    terms = [_exact(aff.get_constant_val())]
    for kind in (PARAM, IN):
        names = dimension_names(aff.get_domain_space(), PARAM if kind == PARAM else SET)
        terms += [_exact(aff.get_coefficient_val(kind, k)) * symbol(name) for k, name in enumerate(names)]
    for position in range(aff.dim(DIV)):
        coefficient = _exact(aff.get_coefficient_val(DIV, position))
        if coefficient:
            terms.append(coefficient * sympy.floor(aff_to_sympy(aff.get_div(position))))
    return sympy.Add(*terms)


def conditions(domain: isl.Set) -> list[list[Condition]]:
    """A set as alternatives of conditions that hold together.

    >>> conditions(isl.Set("[H] -> { : H >= 3 }"))
    [[Condition(expression=H - 3, is_equality=False)]]
    """
    return [_conditions_of(piece) for piece in basic_sets(domain.compute_divs())]


def _conditions_of(piece: isl.BasicSet) -> list[Condition]:
    told = [constraint for constraint in constraints(piece) if not constraint.is_div_constraint()]
    return [Condition(aff_to_sympy(constraint.get_aff()), constraint.is_equality()) for constraint in told]


def condition_to_sympy(domain: isl.Set) -> sympy.Basic:
    """A set as one sympy condition.

    >>> condition_to_sympy(isl.Set("[H] -> { : H >= 3 }"))
    H - 3 >= 0
    """
    return sympy.Or(*(sympy.And(*(one.to_sympy() for one in together)) for together in conditions(domain)))


def pw_aff_to_sympy(pw_aff: isl.PwAff) -> sympy.Expr:
    """A piecewise affine expression; a `Piecewise` unless it is one expression everywhere.

    >>> pw_aff_to_sympy(isl.PwAff("[H] -> { [H - 1] : H >= 1; [0] : H < 1 }"))
    Piecewise((H - 1, H >= 1), (0, H <= 0))
    """
    pieces: list[tuple[isl.Set, isl.Aff]] = []
    with interrupts_held():
        pw_aff.foreach_piece(lambda domain, aff: pieces.append((domain, aff)))
    return piecewise((domain, aff_to_sympy(aff)) for domain, aff in pieces)


def piecewise(pieces: Iterable[tuple[isl.Set, sympy.Expr]]) -> sympy.Expr:
    """Values on disjoint sets as a `Piecewise`."""
    return sympy.Piecewise(*((value, condition_to_sympy(domain)) for domain, value in pieces))


def qpolynomial_to_sympy(polynomial: isl.QPolynomial) -> sympy.Expr:
    """An isl quasi-polynomial: rational coefficients, powers and floors.

    >>> qpolynomial_to_sympy(isl.PwQPolynomial("[H] -> { 1/2 * H^2 + 1/2 * H * floor(H/2) }").as_qpolynomial())
    H**2/2 + H*floor(H/2)/2

    Raises Unbounded where it is infinite.
    """
    if polynomial.is_infty() or polynomial.is_neginfty() or polynomial.is_nan():
        raise Unbounded(f"expected a quasi-polynomial with finite values, got {polynomial}; bound every dimension")
    terms: list[isl.Term] = []
    polynomial.foreach_term(terms.append)
    return sympy.Add(*(_term_to_sympy(term, polynomial.get_domain_space()) for term in terms))


def _term_to_sympy(term: isl.Term, domain: isl.Space) -> sympy.Expr:
    factors = [_exact(term.get_coefficient_val())]
    for kind in (PARAM, SET):
        names = dimension_names(domain, kind)
        factors += [symbol(name) ** term.get_exp(kind, k) for k, name in enumerate(names)]
    for position in range(term.dim(DIV)):
        exponent = term.get_exp(DIV, position)
        if exponent:
            factors.append(sympy.floor(aff_to_sympy(term.get_div(position))) ** exponent)
    return sympy.Mul(*factors)


def _exact(value: isl.Val) -> sympy.Rational:
    return sympy.Rational(value.to_str())
