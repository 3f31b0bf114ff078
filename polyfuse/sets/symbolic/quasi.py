"""Piecewise quasi-polynomials: numbers of points as functions of sizes.

Enters: disjoint isl sets over parameters, each with a sympy expression. Leaves: sympy, numpy, integers, text.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import islpy as isl
import sympy

from polyfuse.sets.components import PARAM, SET
from polyfuse.sets.interrupts import interrupts_held
from polyfuse.sets.spaces import Part, dimension_names
from polyfuse.sets.symbolic.canonical import canonical_pieces
from polyfuse.sets.symbolic.expressions import condition_to_sympy, conditions, qpolynomial_to_sympy, symbol
from polyfuse.sets.symbolic.fewer import fewer_pieces
from polyfuse.sets.symbolic.pieces import disjoint_sum
from polyfuse.sets.symbolic.vectorise import Evaluator, evaluator


@dataclass(frozen=True, eq=False)
class Piece:
    """`value` where `domain` holds; the domain is a set of parameters, the value a sympy expression with `floor`."""

    domain: isl.Set
    value: sympy.Expr

    def __str__(self) -> str:
        """`value : conditions`, the conditions as isl writes them."""
        inside = self.domain.to_str().split("{", 1)[1].rsplit("}", 1)[0].strip()
        return f"{self.value} {inside}".strip()


@dataclass(frozen=True, eq=False)
class PiecewiseQuasiPolynomial:
    """An integer function of named integers: disjoint pieces, zero elsewhere.

    >>> from polyfuse.sets.symbolic.expressions import symbol
    >>> triangle = PiecewiseQuasiPolynomial(
    ...     ("H",), (Piece(isl.Set("[H] -> { : H >= 1 }"), symbol("H") * (symbol("H") + 1) / 2),)
    ... )
    >>> print(triangle)
    [H] -> { H*(H + 1)/2 : H > 0 }
    >>> triangle.at(H=4), triangle.at(H=-4)
    (10, 0)
    >>> triangle.to_numpy()(H=[0, 1, 2, 3]).tolist()
    [0, 1, 3, 6]
    """

    symbols: tuple[str, ...]
    pieces: tuple[Piece, ...]

    def at(self, **values: int) -> int:
        """The exact value at one point, every symbol given by name. Errors: InvalidInput otherwise."""
        return self._evaluator.at(**values)

    def to_numpy(self) -> Evaluator:
        """A function of integer arrays by name; they are broadcast, the result is int64 and exact."""
        return self._evaluator

    def to_sympy(self) -> sympy.Expr:
        """A `Piecewise` over integer symbols, zero where no piece holds."""
        cases = [(piece.value, condition_to_sympy(piece.domain)) for piece in self.pieces]
        return sympy.Piecewise(*cases, (sympy.Integer(0), True))

    def __add__(self, other: "PiecewiseQuasiPolynomial") -> "PiecewiseQuasiPolynomial":
        pieces = [(piece.domain, piece.value) for piece in (*self.pieces, *other.pieces)]
        return _from_parts(_joined(self.symbols, other.symbols), disjoint_sum(pieces))

    def __mul__(self, other: "PiecewiseQuasiPolynomial") -> "PiecewiseQuasiPolynomial":
        both = [
            (left.domain.intersect(right.domain), left.value * right.value)
            for left in self.pieces
            for right in other.pieces
        ]
        kept = [(domain.coalesce(), value) for domain, value in both if not domain.is_empty()]
        return _from_parts(_joined(self.symbols, other.symbols), kept)

    def simplified(self) -> "PiecewiseQuasiPolynomial":
        """The same function in fewer and shorter pieces; of one symbol, equal ones that grow linearly become alike."""
        pieces = fewer_pieces([(piece.domain, piece.value) for piece in self.pieces])
        return _from_parts(self.symbols, canonical_pieces(pieces) if len(self.symbols) == 1 and pieces else pieces)

    def in_used_symbols(self) -> "PiecewiseQuasiPolynomial":
        """The same function without the symbols that it does not depend on."""
        pieces = [(piece.domain.compute_divs(), piece.value) for piece in self.pieces]
        used = [
            name
            for position, name in enumerate(self.symbols)
            if any(d.involves_dims(PARAM, position, 1) or symbol(name) in v.free_symbols for d, v in pieces)
        ]
        for position in reversed([index for index, name in enumerate(self.symbols) if name not in used]):
            pieces = [(domain.project_out(PARAM, position, 1), value) for domain, value in pieces]
        return _from_parts(tuple(used), pieces)

    def with_symbols(self, names: tuple[str, ...]) -> "PiecewiseQuasiPolynomial":
        """The same function of other symbols, one for each."""
        renamed = {symbol(own): symbol(name) for own, name in zip(self.symbols, names, strict=True)}
        pieces = []
        for piece in self.pieces:
            domain = piece.domain
            for position, name in enumerate(names):
                domain = domain.set_dim_name(PARAM, position, name)
            pieces.append((domain, piece.value.xreplace(renamed)))
        return _from_parts(names, pieces)

    def __str__(self) -> str:
        text = "; ".join(map(str, self.pieces)) or "0"
        return f"[{', '.join(self.symbols)}] -> {{ {text} }}"

    __repr__ = __str__

    def _repr_latex_(self) -> str:
        return f"$\\displaystyle {sympy.latex(self.to_sympy())}$"

    @cached_property
    def _evaluator(self) -> Evaluator:
        return evaluator(self.symbols, [(conditions(piece.domain), piece.value) for piece in self.pieces])


def from_pw_qpolynomial(pw_qpolynomial: isl.PwQPolynomial) -> PiecewiseQuasiPolynomial:
    """isl's own piecewise quasi-polynomial, as barvinok's `card` returns it; its domain dimensions become symbols.

    >>> print(from_pw_qpolynomial(isl.PwQPolynomial("[H] -> { D[d] -> 1/2 * H * d : 0 < d < H }")))
    [H, d] -> { H*d/2 : 0 < d < H }
    """
    pieces: list[tuple[isl.Set, isl.QPolynomial]] = []
    with interrupts_held():
        pw_qpolynomial.foreach_piece(lambda domain, value: pieces.append((domain, value)))
    parts = [(domain_as_parameters(domain), qpolynomial_to_sympy(value)) for domain, value in pieces]
    return _from_parts(_names(pw_qpolynomial.get_domain_space()), parts)


def domain_as_parameters(domain: isl.Set) -> isl.Set:
    """`[p] -> { D[d] : … }` as the set of parameters `[p, d] -> { : … }`.

    >>> domain_as_parameters(isl.Set("[H] -> { D[d] : d < H }"))
    Set("[H, d] -> {  : d < H }")
    """
    if domain.is_params():
        return domain
    return as_parameters(domain, SET, dimension_names(domain.get_space(), SET)).params()


def as_parameters(part: Part, kind: isl.dim_type, names: Sequence[str]) -> Part:
    """A set or relation whose dimensions of a tuple are parameters, by these names, behind those that it has."""
    first = part.dim(PARAM)
    moved = part.move_dims(PARAM, first, kind, 0, len(names))
    for position, name in enumerate(names):
        moved = moved.set_dim_name(PARAM, first + position, name)
    return moved


def _from_parts(symbols: tuple[str, ...], parts: Iterable[tuple[isl.Set, sympy.Expr]]) -> PiecewiseQuasiPolynomial:
    return PiecewiseQuasiPolynomial(symbols, tuple(Piece(domain, value) for domain, value in parts if value != 0))


def _names(domain: isl.Space) -> tuple[str, ...]:
    return dimension_names(domain, PARAM) + (() if domain.is_params() else dimension_names(domain, SET))


def _joined(left: tuple[str, ...], right: tuple[str, ...]) -> tuple[str, ...]:
    return left + tuple(name for name in right if name not in left)
