"""Compile piecewise quasi-polynomials to exact integer arithmetic over numpy arrays.

Enters: alternatives of conditions and a sympy value for each piece. Leaves: a function of arrays (or Python integers).
No floats: rational coefficients become one integer numerator and one floor division. A bound on the size of every
intermediate result is computed first; where it does not fit 64 bits, Python integers are used instead.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from math import lcm
from typing import Any

import numpy as np
import sympy
from numpy.typing import ArrayLike, NDArray

from polyfuse.errors import InvalidInput, TooComplex
from polyfuse.sets.symbolic.expressions import SymbolicConstraint

INT64_MAX = 2**63 - 1


@dataclass(frozen=True)
class _Fraction:
    """Python source of an integer numerator, over a positive integer."""

    numerator: str
    denominator: int


@dataclass
class _Lines:
    """Source lines under construction; equal expressions are computed once."""

    arguments: Mapping[str, str]
    magnitudes: bool
    lines: list[str] = field(default_factory=list)
    _known: dict[object, str] = field(default_factory=dict)

    def value(self, expression: sympy.Expr) -> str:
        """A name that holds an integer-valued expression."""
        fraction = self._fraction(expression)
        return self._assigned(self._divided(fraction))

    def assign(self, source: str) -> str:
        """A name that holds a source expression."""
        return self._assigned(source)

    def _assigned(self, source: str) -> str:
        if source not in self._known:
            self._known[source] = f"v{len(self._known)}"
            self.lines.append(f"{self._known[source]} = {source}")
        return self._known[source]

    def _divided(self, fraction: _Fraction) -> str:
        if fraction.denominator == 1 or self.magnitudes:
            return fraction.numerator
        return f"{fraction.numerator} // {fraction.denominator}"

    def _fraction(self, expression: sympy.Expr) -> _Fraction:
        if isinstance(expression, sympy.Rational):
            numerator = abs(expression.p) if self.magnitudes else expression.p
            return _Fraction(f"({numerator})", expression.q)
        if isinstance(expression, sympy.Symbol):
            return _Fraction(self.arguments[expression.name], 1)
        if isinstance(expression, sympy.floor):
            inner = self._fraction(expression.args[0])
            source = self._assigned(inner.numerator) if self.magnitudes else inner.numerator
            rounded = f"{source} // {inner.denominator}"
            return _Fraction(self._assigned(f"{rounded} + 1" if self.magnitudes else rounded), 1)
        if isinstance(expression, sympy.Pow) and expression.exp.is_Integer and expression.exp > 0:
            base = self._fraction(expression.base)
            return _Fraction(f"({base.numerator})**{expression.exp}", base.denominator**expression.exp)
        if isinstance(expression, sympy.Mul):
            return self._multiplied([self._fraction(part) for part in expression.args])
        if isinstance(expression, sympy.Add):
            return self._added([self._fraction(part) for part in expression.args])
        raise InvalidInput(
            f"cannot evaluate {expression}: expected sums, products, powers and floors of integer symbols, "
            f"got {type(expression).__name__}"
        )

    def _multiplied(self, parts: list[_Fraction]) -> _Fraction:
        denominator = 1
        for part in parts:
            denominator *= part.denominator
        return _Fraction(f"({' * '.join(part.numerator for part in parts)})", denominator)

    def _added(self, parts: list[_Fraction]) -> _Fraction:
        shared = lcm(*(part.denominator for part in parts))
        scaled = [
            part.numerator if part.denominator == shared else f"{shared // part.denominator} * {part.numerator}"
            for part in parts
        ]
        return _Fraction(f"({' + '.join(scaled)})", shared)


Cases = Sequence[tuple[Sequence[Sequence[SymbolicConstraint]], sympy.Expr]]


@dataclass(frozen=True, eq=False)
class Evaluator:
    """Evaluates a piecewise quasi-polynomial at integers or at arrays of integers, by name.

    >>> h = sympy.Symbol("H", integer=True)
    >>> half = evaluator(("H",), [([[SymbolicConstraint(h - 1, False)]], sympy.floor(h / 2))])
    >>> half(H=np.arange(6)).tolist(), half.at(H=7)
    ([0, 0, 1, 1, 2, 2], 3)
    """

    names: tuple[str, ...]
    values_source: str
    magnitude_source: str

    def __call__(self, **arrays: ArrayLike) -> NDArray[np.int64]:
        """The value for each element of the broadcast arrays.

        Errors: InvalidInput on missing, unknown or non-integer arguments, TooComplex where a result passes 64 bits.
        """
        self._check_names(arrays)
        columns = [_integers(name, arrays[name]) for name in self.names]
        exact = [column.astype(object) for column in columns] if self._may_overflow(columns) else columns
        shape = np.broadcast_shapes(*(column.shape for column in columns))
        result = np.broadcast_to(np.asarray(self._values(np.where, *exact)), shape)
        if result.dtype == object and result.size and max(abs(result.max()), abs(result.min())) > INT64_MAX:
            raise TooComplex("a value does not fit 64 bits; evaluate single points with `at`, which has no limit")
        return np.array(result, dtype=np.int64)

    def at(self, **values: int) -> int:
        """The value at one point, of any size."""
        self._check_names(values)
        integers = [_integer(name, values[name]) for name in self.names]
        return int(self._values(lambda holds, value, other: value if holds else other, *integers))

    def __getstate__(self) -> dict[str, object]:
        """The state for pickle: the sources, not the functions compiled from them."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    @cached_property
    def _values(self) -> Callable[..., Any]:
        return _compiled(self.values_source, "values")

    @cached_property
    def _magnitude(self) -> Callable[..., int]:
        return _compiled(self.magnitude_source, "magnitude")

    def _may_overflow(self, columns: list[NDArray[np.int64]]) -> bool:
        sizes = [max(1, abs(int(c.max())), abs(int(c.min()))) if c.size else 1 for c in columns]
        return self._magnitude(*sizes) > INT64_MAX

    def _check_names(self, given: Mapping[str, object]) -> None:
        if set(given) != set(self.names):
            expected, got = ", ".join(self.names) or "none", ", ".join(given) or "none"
            raise InvalidInput(f"values of a quasi-polynomial: expected the symbols {expected}, got {got}; name each")


def evaluator(names: tuple[str, ...], cases: Cases) -> Evaluator:
    """Compile `[(alternatives of conditions, value), …]`; zero where no case holds."""
    arguments = {name: f"a{index}" for index, name in enumerate(names)}
    cases = [(alternatives, value) for alternatives, value in cases if alternatives]
    return Evaluator(names, _values_source(arguments, cases), _magnitude_source(arguments, cases))


def _values_source(arguments: Mapping[str, str], cases: Cases) -> str:
    program = _Lines(arguments, magnitudes=False)
    results = []
    for alternatives, value in cases:
        masks = [
            " & ".join(
                program.assign(f"{program.value(one.expression)} {'==' if one.is_equality else '>='} 0")
                for one in together
            )
            for together in alternatives
        ]
        mask = program.assign(" | ".join(f"({mask})" for mask in masks)) if all(masks) else "True"
        results.append(program.assign(f"where({mask}, {program.value(value)}, 0)"))
    header = f"def values({', '.join(['where', *arguments.values()])}):"
    return "\n    ".join([header, *program.lines, f"return {' + '.join(results) or '0'}"])


def _magnitude_source(arguments: Mapping[str, str], cases: Cases) -> str:
    """Source of a bound on every intermediate result, from bounds (at least 1) on the absolute arguments."""
    program = _Lines(arguments, magnitudes=True)
    for alternatives, value in cases:
        for together in alternatives:
            for one in together:
                program.value(one.expression)
        program.value(value)
    names = [line.split(" = ")[0] for line in program.lines]
    returned = f"return max({', '.join(['0', '0', *names])})"
    return "\n    ".join([f"def magnitude({', '.join(arguments.values())}):", *program.lines, returned])


def _compiled(source: str, name: str) -> Callable[..., Any]:
    """The function that generated source defines."""
    scope: dict[str, Any] = {}
    exec(compile(source, f"<quasi-polynomial {name}>", "exec"), scope)
    function: Callable[..., Any] = scope[name]
    return function


def _integers(name: str, values: ArrayLike) -> NDArray[np.int64]:
    array = np.asarray(values)
    if not np.issubdtype(array.dtype, np.integer) or array.dtype == np.uint64:
        raise InvalidInput(f"symbol {name!r}: expected 64-bit integers, got an array of {array.dtype}; convert it")
    return array.astype(np.int64)


def _integer(name: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise InvalidInput(f"symbol {name!r}: expected an integer, got {value!r}")
    return int(value)
