"""Closed forms: numbers of points as functions of sizes. Needs sympy, which no other floor of the house imports."""

from polyfuse.sets.symbolic.closed_forms import cardinality, has_barvinok
from polyfuse.sets.symbolic.factors import FactoredSum, factored
from polyfuse.sets.symbolic.quasi import Piece, PiecewiseQuasiPolynomial, from_pw_qpolynomial

__all__ = [
    "FactoredSum",
    "Piece",
    "PiecewiseQuasiPolynomial",
    "cardinality",
    "factored",
    "from_pw_qpolynomial",
    "has_barvinok",
]
