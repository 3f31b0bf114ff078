"""The shortest form of a quasi-polynomial in one symbol that grows linearly, as one-dimensional counts do.

Enters: disjoint pieces over one parameter. Leaves: a line plus a floor for every step that is not the common one, as
far down as it holds, and lines for what lies below.

Where each residue of the period P has the same slope, the steps v(n) - v(n - 1) repeat with period P, and

    v(n) = a*n + sum of (step(r) - a)*floor((n + P - r)/P) over the residues r + a constant

Equal functions get equal forms. Proof of a form is by values: on each residue both sides are polynomials in n/P, whose
degree is known, and what lies between the regions where the pieces repeat is compared point by point.
"""

from collections import Counter
from collections.abc import Sequence
from math import lcm

import islpy as isl
import numpy as np
import sympy

from polyfuse.sets.components import PARAM
from polyfuse.sets.spaces import dimension_names
from polyfuse.sets.symbolic.expressions import conditions, symbol
from polyfuse.sets.symbolic.fewer import Pieces
from polyfuse.sets.symbolic.vectorise import Evaluator, evaluator

LARGEST_PERIOD = 256
LONGEST_START = 4_096


def canonical_pieces(pieces: Pieces) -> Pieces:
    """The same function of one symbol in its shortest form; as it was where it does not grow linearly.

    >>> n = symbol("n")
    >>> where = isl.Set("[n] -> { : n >= 5 }")
    >>> [(domain, value)] = canonical_pieces([(where, 4*n - 4*sympy.floor(n/8 + 1/sympy.S(8)) - n - 2*n)])
    >>> print(domain, value)
    [n] -> {  : n >= 5 } n - 4*floor(n/8 + 1/8)
    """
    period = _period(pieces)
    bounds = None if period is None else _varying(pieces, period)
    if period is None or bounds is None:
        return pieces
    first, last = bounds
    name = dimension_names(pieces[0][0].get_space(), PARAM)[0]
    values = _Values(name, pieces)
    degree = max(sympy.Poly(sympy.expand(value), *_generators(value, name)).total_degree() for _, value in pieces)
    far = values.between(last + 1, last + 1 + period * (degree + 2))
    if values.between(first - period * (degree + 2), first).any() or not _is_linear(far, period):
        return pieces
    line = _line(name, last + 1, far, period)
    assert (_evaluated(name, line, last + 1, last + 1 + len(far)) == far).all(), "a line that misses its values"
    start = values.between(first, last + 1)
    differs = np.flatnonzero(start != _evaluated(name, line, first, last + 1))
    lowest = first + (int(differs[-1]) + 1 if len(differs) else 0)
    lowest += int((start[lowest - first :] != 0).argmax()) if start[lowest - first :].any() else last + 1 - lowest
    results = [] if line == 0 else [(_interval(pieces[0][0], lowest, None), line)]
    return results + _runs(pieces[0][0], name, first, start[: lowest - first])


def _generators(value: sympy.Expr, name: str) -> list[sympy.Expr]:
    return [symbol(name), *sorted(value.atoms(sympy.floor), key=str)]


def _period(pieces: Pieces) -> int | None:
    """A period of all floors and conditions; None where one is inside another, or it is long."""
    floors = {floor for _, value in pieces for floor in value.atoms(sympy.floor)}
    for domain, _ in pieces:
        for together in conditions(domain):
            floors |= {floor for one in together for floor in one.expression.atoms(sympy.floor)}
    if any(floor.args[0].atoms(sympy.floor) for floor in floors):
        return None
    period = lcm(*(int(sympy.fraction(sympy.together(floor.args[0]))[1]) for floor in floors))
    return period if period <= LARGEST_PERIOD else None


def _varying(pieces: Pieces, period: int) -> tuple[int, int] | None:
    """The first and the last value around which some piece does not repeat; None where there is no such range."""
    lows, highs = [0], [0]
    for domain, _ in pieces:
        line = isl.Set.from_params(domain).move_dims(isl.dim_type.set, 0, PARAM, 0, 1)
        shift = isl.MultiAff.identity_on_domain_space(line.get_space())
        constant = isl.Aff.val_on_domain_space(line.get_space(), isl.Val(period))
        moved = line.apply(isl.Map.from_multi_aff(shift.set_aff(0, shift.get_aff(0).add(constant))))
        changed = line.subtract(moved).union(moved.subtract(line))
        if changed.is_empty():
            continue
        low, high = changed.dim_min_val(0), changed.dim_max_val(0)
        if not (low.is_int() and high.is_int()):
            return None
        lows.append(low.to_python())
        highs.append(high.to_python())
    first, last = min(lows[1:] or lows) - period, max(highs[1:] or highs)
    return (first, last) if last - first <= LONGEST_START else None


class _Values:
    """Values of the pieces at integers."""

    def __init__(self, name: str, pieces: Pieces) -> None:
        self._name = name
        self._evaluate: Evaluator = evaluator((name,), [(conditions(domain), value) for domain, value in pieces])

    def between(self, first: int, end: int) -> np.ndarray:
        """At `first`, …, `end - 1`."""
        return self._evaluate(**{self._name: np.arange(first, end)})


def _evaluated(name: str, value: sympy.Expr, first: int, end: int) -> np.ndarray:
    return evaluator((name,), [([[]], value)])(**{name: np.arange(first, end)})


def _is_linear(values: np.ndarray, period: int) -> bool:
    """Each residue grows by the same amount in every period."""
    steps = values[period:] - values[:-period]
    return bool((steps == steps[0]).all())


def _line(name: str, first: int, values: np.ndarray, period: int) -> sympy.Expr:
    """`a*n + sum of weights*floor((n + c)/P) + constant`, with the values given at `first`, `first + 1`, …."""
    changes = values[1 : period + 1] - values[:period]
    divisors = [each for each in range(1, period + 1) if period % each == 0]
    period = next(each for each in divisors if (changes == np.resize(changes[:each], period)).all())
    steps = {(first + k) % period: int(changes[k - 1]) for k in range(1, period + 1)}
    counts = Counter(steps.values())
    common = max(counts, key=lambda step: (counts[step], -abs(step)))
    n = symbol(name)
    line = common * n
    for residue, step in sorted(steps.items()):
        if step != common:
            line += (step - common) * sympy.floor((n + (-residue) % period) / sympy.Integer(period))
    return line + int(values[0]) - line.subs(n, first)


def _runs(like: isl.Set, name: str, first: int, values: np.ndarray) -> Pieces:
    """Values one by one, as lines where three or more lie on one and as constants elsewhere, without zeros."""
    results: Pieces = []
    position = 0
    while position < len(values):
        end = _run(values, position)
        slope = int(values[position + 1] - values[position]) if end - position > 1 else 0
        value = slope * (symbol(name) - first - position) + int(values[position])
        if value != 0:
            results.append((_interval(like, first + position, first + end - 1), sympy.expand(value)))
        position = end
    return results


def _run(values: Sequence[int] | np.ndarray, position: int) -> int:
    """The end of the longest run from a position that is a line of three or more points, or constant."""
    end = position + 1
    while end < len(values) and values[end] - values[end - 1] == values[position + 1] - values[position]:
        end += 1
    short = end - position == 2 and values[position] != values[position + 1]
    return position + 1 if short else end


def _interval(like: isl.Set, first: int, last: int | None) -> isl.Set:
    """`first <= n <= last` over the parameter of a set."""
    interval = isl.Set.universe(like.get_space()).lower_bound_val(PARAM, 0, isl.Val(first))
    return interval if last is None else interval.upper_bound_val(PARAM, 0, isl.Val(last))
