"""Helpers over isl: exact numbers of points, and limits on isl's work. Formulas are in `polyfuse.sets.symbolic`."""

from polyfuse.sets.counting import count
from polyfuse.sets.limits import operation_limit
from polyfuse.sets.pickling import OfFields

__all__ = ["OfFields", "count", "operation_limit"]
