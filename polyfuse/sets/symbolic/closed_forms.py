"""Numbers of integer points as functions of sizes, in closed form and exact.

Enters: any isl set or map, with parameters. Leaves: a `PiecewiseQuasiPolynomial`.

A set is made disjoint, each piece split into independent factors, and the factors summed on their own, as `count` does
with sets that have no parameters.
"""

from math import prod
from typing import Any, Literal

import islpy as isl
import sympy

from polyfuse.errors import InvalidInput, TooComplex
from polyfuse.sets.components import PARAM, SET, Product, independent_sets, products
from polyfuse.sets.limits import operation_limit
from polyfuse.sets.names import Names
from polyfuse.sets.polynomial import Polynomial, constant
from polyfuse.sets.spaces import dimension_names
from polyfuse.sets.summation import sum_over
from polyfuse.sets.symbolic.expressions import SympyWriter
from polyfuse.sets.symbolic.pieces import disjoint_sum
from polyfuse.sets.symbolic.quasi import Piece, PiecewiseQuasiPolynomial, as_parameters, from_pw_qpolynomial

FactoredPiece = tuple[isl.Set, tuple[Polynomial, ...]]
Backend = Literal["auto", "own", "barvinok"]

MAX_OPERATIONS = 10_000_000
IN = isl.dim_type.in_


def cardinality(s: isl.Set | isl.Map, backend: Backend = "auto") -> PiecewiseQuasiPolynomial:
    """The number of points of a set as a function of its parameters, in closed form and exact.

    For a map `[p] -> { D[d] -> R[r] }`: the number of range points for each domain point, as a function of `p` and `d`.
    Domain dimensions are symbols by their names (`i0`, `i1`, … where they have none).

    >>> rows = cardinality(isl.Map("[H] -> { tile[t] -> row[y] : 8t - 1 <= y <= 8t + 8 and 0 <= y < H and 0 <= t }"))
    >>> rows.at(H=20, t=0), rows.at(H=20, t=1), rows.at(H=20, t=2)
    (9, 10, 5)
    >>> print(cardinality(isl.Set("[H] -> { A[y, x] : 0 <= y, x < H and y mod 2 = 0 }")))
    [H] -> { H*floor(H/2 + 1/2) : H > 0 }

    `backend` chooses our closed forms (`own`), those of barvinok where the package islpy-barvinok is installed
    (`barvinok`), or barvinok where ours find none (`auto`). barvinok ignores operation limits for long: call it in a
    process that can be killed.

    Errors: Unbounded where some parameters give infinitely many points, TooComplex where no closed form is found.
    """
    if backend not in ("auto", "own", "barvinok"):
        raise InvalidInput(f"cardinality: expected backend 'auto', 'own' or 'barvinok', got {backend!r}")
    if not isinstance(s, (isl.Set, isl.Map)):
        raise InvalidInput(f"cardinality: expected an isl.Set or isl.Map, got {type(s).__name__}; convert it first")
    if backend == "barvinok":
        return _barvinok_cardinality(s)
    try:
        with operation_limit(MAX_OPERATIONS, what=f"cardinality of {s}"):
            return _own_cardinality(fibres(s))
    except TooComplex:
        if backend == "own" or not has_barvinok():
            raise
        return _barvinok_cardinality(s)


def has_barvinok() -> bool:
    """Whether the installed islpy can count with barvinok (package islpy-barvinok).

    >>> has_barvinok() == hasattr(isl.Set, "card")
    True
    """
    return hasattr(isl.Set, "card")


def _barvinok_cardinality(s: isl.Set | isl.Map) -> PiecewiseQuasiPolynomial:
    if not has_barvinok():
        raise InvalidInput(
            "cardinality: backend 'barvinok' needs the package islpy-barvinok (GPL-2) in the place of islpy; "
            "install it, or use backend 'own'"
        )
    countable: Any = s
    return from_pw_qpolynomial(countable.card())


def fibres(s: isl.Set | isl.Map) -> isl.Set:
    """`[p] -> { D[d] -> R[r] }` as `[p, d] -> { R[r] }`; a set stays as it is."""
    if isinstance(s, isl.Set):
        return s
    names = dimension_names(s.domain().get_space(), SET)
    return as_parameters(s.flatten_domain(), IN, names).range()


def _own_cardinality(s: isl.Set) -> PiecewiseQuasiPolynomial:
    names = Names()
    pieces: list[FactoredPiece] = [(isl.Set.universe(s.get_space().params()), ())]
    for part in independent_sets(s):
        pieces = _crossed(pieces, _part_pieces(part, names))
    writer = SympyWriter(names)
    values = [(domain, sympy.Mul(*(writer.write(factor) for factor in factors))) for domain, factors in pieces]
    symbols = dimension_names(s.get_space(), PARAM)
    return PiecewiseQuasiPolynomial(symbols, tuple(Piece(domain, value) for domain, value in values if value != 0))


def _part_pieces(part: isl.Set, names: Names) -> list[FactoredPiece]:
    """The number of points on disjoint sets of parameters; one product keeps its factors, several are added."""
    products_pieces = [_product_pieces(product, part.dim(PARAM), names) for product in products(part)]
    if len(products_pieces) == 1:
        return products_pieces[0]
    expanded = [(domain, prod(factors, start=constant(1))) for pieces in products_pieces for domain, factors in pieces]
    return [(domain, (value,)) for domain, value in disjoint_sum(expanded)]


def _product_pieces(product: Product, parameters: int, names: Names) -> list[FactoredPiece]:
    """The number of points of a product, one polynomial for each factor."""
    pieces: list[FactoredPiece] = [(product.context.to_set(), ())]
    for factor in product.factors:
        terms = [(_over(domain, parameters), value) for domain, value in sum_over(factor, names)]
        pieces = _crossed(pieces, [(domain, (value,)) for domain, value in disjoint_sum(terms)])
    return pieces


def _crossed(left: list[FactoredPiece], right: list[FactoredPiece]) -> list[FactoredPiece]:
    """The product of two piecewise values."""
    both = [(mine.intersect(other), (*factors, *more)) for mine, factors in left for other, more in right]
    return [(domain.coalesce(), factors) for domain, factors in both if not domain.is_empty()]


def _over(domain: isl.BasicSet, parameters: int) -> isl.Set:
    """The domain over the first parameters only; the others are functions of them."""
    return domain.to_set().project_out(PARAM, parameters, domain.dim(PARAM) - parameters).compute_divs()
