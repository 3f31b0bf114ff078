"""Closed forms: numbers of points as functions of sizes. Needs sympy, which no other floor of the house imports."""

from polyfuse.sets.symbolic.closed_forms import cardinality, has_barvinok
from polyfuse.sets.symbolic.quasi import Piece, PiecewiseQuasiPolynomial, from_pw_qpolynomial

__all__ = ["Piece", "PiecewiseQuasiPolynomial", "cardinality", "from_pw_qpolynomial", "has_barvinok"]
