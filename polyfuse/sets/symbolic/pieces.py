"""Add values that are given on overlapping sets: what comes out is given on disjoint sets."""

from collections.abc import Hashable, Iterable
from typing import Protocol, Self, TypeVar

import islpy as isl

from polyfuse.errors import TooComplex

MAX_PIECES = 1_000


class Addable(Hashable, Protocol):
    """A value with exact addition and equality: `Polynomial`, or a sympy expression."""

    def __add__(self, other: Self, /) -> Self:
        """The sum."""


Value = TypeVar("Value", bound=Addable)


def disjoint_sum(parts: Iterable[tuple[isl.Set, Value]]) -> list[tuple[isl.Set, Value]]:
    """The sum of `value` over all `(domain, value)` that hold at a point, as disjoint pieces.

        (A, f), (B, g)   gives   (A - B, f), (A & B, f + g), (B - A, g)

    Errors: TooComplex past `MAX_PIECES` convex pieces.

    >>> one, two = isl.Set("[H] -> { : H > 0 }"), isl.Set("[H] -> { : H > 5 }")
    >>> [(str(domain), value) for domain, value in disjoint_sum([(one, 10), (two, 1)])]
    [('[H] -> {  : H >= 6 }', 11), ('[H] -> {  : 0 < H <= 5 }', 10)]
    """
    pieces: list[tuple[isl.Set, Value]] = []
    for domain, value in merged(parts):
        refined: list[tuple[isl.Set, Value]] = []
        for old_domain, old_value in pieces:
            shared = old_domain.intersect(domain)
            if shared.is_empty():
                refined.append((old_domain, old_value))
                continue
            refined += [(shared, old_value + value), (old_domain.subtract(domain), old_value)]
            domain = domain.subtract(old_domain)
        pieces = [piece for piece in (*refined, (domain, value)) if not piece[0].is_empty()]
        fragments = sum(piece.n_basic_set() for piece, _ in pieces)
        if fragments > MAX_PIECES:
            raise TooComplex(
                f"adding piecewise values: expected at most {MAX_PIECES:,} convex pieces, got {fragments:,}; "
                "fix some parameters or restrict their range"
            )
    return merged(pieces)


def merged(parts: Iterable[tuple[isl.Set, Value]]) -> list[tuple[isl.Set, Value]]:
    """One piece for each value, on the union of its domains where they do not overlap."""
    pieces: dict[Value, list[isl.Set]] = {}
    for domain, value in parts:
        domains = pieces.setdefault(value, [])
        for index, known in enumerate(domains):
            if known.is_disjoint(domain):
                domains[index] = known.union(domain).coalesce()
                break
        else:
            domains.append(domain.coalesce())
    return [(domain, value) for value, domains in pieces.items() for domain in domains]
