"""Helpers over isl: exact numbers of points, formulas for them, limits on isl's work."""

from polyfuse.sets.counting import cardinality, count, has_barvinok
from polyfuse.sets.expressions import aff_to_sympy, pw_aff_to_sympy
from polyfuse.sets.limits import operation_limit
from polyfuse.sets.pickling import OfFields
from polyfuse.sets.quasi import Piece, PiecewiseQuasiPolynomial, from_pw_qpolynomial

__all__ = [
    "OfFields",
    "Piece",
    "PiecewiseQuasiPolynomial",
    "aff_to_sympy",
    "cardinality",
    "count",
    "from_pw_qpolynomial",
    "has_barvinok",
    "operation_limit",
    "pw_aff_to_sympy",
]
