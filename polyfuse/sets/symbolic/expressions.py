"""isl's affine and polynomial expressions, and our polynomials, as sympy expressions over integer symbols.

Enters: isl affs, constraints, quasi-polynomials; polynomials. Leaves: sympy expressions with `floor`, and conditions as
lists of `(expression, is_equality)`, each saying `expression >= 0` or `expression = 0`.
"""

from dataclasses import dataclass

import islpy as isl
import sympy

from polyfuse.errors import Unbounded
from polyfuse.sets.components import DIV, PARAM, SET
from polyfuse.sets.names import Names
from polyfuse.sets.polynomial import Polynomial
from polyfuse.sets.spaces import dimension_names

IN = isl.dim_type.in_


@dataclass(frozen=True)
class SymbolicConstraint:
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


def conditions(domain: isl.Set) -> list[list[SymbolicConstraint]]:
    """A set as alternatives of conditions that hold together.

    >>> conditions(isl.Set("[H] -> { : H >= 3 }"))
    [[SymbolicConstraint(expression=H - 3, is_equality=False)]]
    """
    return [_conditions_of(piece) for piece in domain.compute_divs().get_basic_sets()]


def _conditions_of(piece: isl.BasicSet) -> list[SymbolicConstraint]:
    given = [constraint for constraint in piece.get_constraints() if not constraint.is_div_constraint()]
    return [SymbolicConstraint(aff_to_sympy(constraint.get_aff()), constraint.is_equality()) for constraint in given]


def condition_to_sympy(domain: isl.Set) -> sympy.Basic:
    """A set as one sympy condition.

    >>> condition_to_sympy(isl.Set("[H] -> { : H >= 3 }"))
    H - 3 >= 0
    """
    return sympy.Or(*(sympy.And(*(one.to_sympy() for one in together)) for together in conditions(domain)))


def qpolynomial_to_sympy(polynomial: isl.QPolynomial) -> sympy.Expr:
    """An isl quasi-polynomial: rational coefficients, powers and floors.

    >>> qpolynomial_to_sympy(isl.PwQPolynomial("[H] -> { 1/2 * H^2 + 1/2 * H * floor(H/2) }").as_qpolynomial())
    H**2/2 + H*floor(H/2)/2

    Errors: Unbounded where it is infinite.
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


class SympyWriter:
    """Writes polynomials as sympy expressions, the made names as what they stand for.

    >>> names = Names()
    >>> SympyWriter(names).write(names.floor({"H": 9}, 10, 8) * 2)
    2*H + 2*floor(H/8 + 1/4) + 2
    """

    def __init__(self, names: Names) -> None:
        self._names = names
        self._written: dict[str, sympy.Expr] = {}

    def write(self, value: Polynomial) -> sympy.Expr:
        """The polynomial as a sympy expression over integer symbols."""
        terms = []
        for monomial, coefficient in value.terms.items():
            powers = [self._meaning(name) ** exponent for name, exponent in monomial]
            terms.append(sympy.Mul(sympy.Rational(coefficient.numerator, coefficient.denominator), *powers))
        return sympy.Add(*terms)

    def _meaning(self, name: str) -> sympy.Expr:
        if name not in self._written:
            self._written[name] = self._write_meaning(name)
        return self._written[name]

    def _write_meaning(self, name: str) -> sympy.Expr:
        value = self._names.meaning.get(name)
        if value is None:
            return symbol(name)
        if isinstance(value, Polynomial):
            return self.write(value)
        numerator = sympy.Add(*(weight * self._meaning(part) for part, weight in value.numerator), value.offset)
        return sympy.floor(numerator / value.denominator)
