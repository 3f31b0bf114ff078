"""Winograd's transforms F(m x m, 3x3), made from their interpolation points.

A tile size m enters; matrices of exact numbers leave, and the sums of a transform in one dimension, with what a
computation shares. With n = m + 2 points, one of them infinity,

    y = A (G g * B d)      m outputs y, 3 weights g, n inputs d; in two dimensions, along columns and along rows

is the product of polynomials by Toom and Cook, transposed (Winograd, Arithmetic Complexity of Computations, 1980):
column j of A holds the powers of point p_j, row j of G the same powers over the product of its differences to the
others, and row j of B the coefficients of the polynomial that is zero at the other points. Infinity stands for the
leading coefficient.

The points come as zero and pairs of p and -p, whose rows of B have the same even part and opposite odd parts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import isqrt, prod

import numpy as np
from numpy.typing import NDArray

TILES = (2, 4, 6)
"""The output tiles: F(8x8) loses too many digits in single precision."""

ERROR = {2: 5e-7, 4: 2e-6, 6: 1.4e-5}
"""See `relative_error`."""

ROOT_OF_TWO = Fraction(isqrt(2 * 10**80), 10**40)
"""The square root of two, but for less than 1e-40."""


@dataclass(frozen=True)
class Surd:
    """`rational + surd * √2`, exactly.

    >>> root = Surd(surd=Fraction(1))
    >>> print(root * root, 1 / root, float(root))
    2 1/2√2 1.4142135623730951
    """

    rational: Fraction = Fraction(0)
    surd: Fraction = Fraction(0)

    def __add__(self, other: "Surd") -> "Surd":
        return Surd(self.rational + other.rational, self.surd + other.surd)

    def __sub__(self, other: "Surd") -> "Surd":
        return self + -other

    def __mul__(self, other: "Surd") -> "Surd":
        return Surd(
            self.rational * other.rational + 2 * self.surd * other.surd,
            self.rational * other.surd + self.surd * other.rational,
        )

    def __truediv__(self, other: "Surd") -> "Surd":
        norm = other.rational**2 - 2 * other.surd**2
        return self * Surd(other.rational / norm, -other.surd / norm)

    def __rtruediv__(self, number: int) -> "Surd":
        return Surd(Fraction(number)) / self

    def __neg__(self) -> "Surd":
        return Surd(-self.rational, -self.surd)

    def __abs__(self) -> "Surd":
        return -self if float(self) < 0 else self

    def __float__(self) -> float:
        return float(self.rational + self.surd * ROOT_OF_TWO)

    def __str__(self) -> str:
        parts = [str(self.rational)] if self.rational or not self.surd else []
        return " + ".join([*parts, *([f"{self.surd}√2"] if self.surd else [])])


ZERO, ONE, TWO, ROOT = Surd(), Surd(Fraction(1)), Surd(Fraction(2)), Surd(surd=Fraction(1))
Row = tuple[Surd, ...]
PAIRS: dict[int, Row] = {2: (ONE,), 4: (1 / ROOT, ROOT), 6: (ONE, TWO, 1 / TWO)}
"""The positive points of each tile, beside zero, their negatives and infinity. The product of their squares is 1, which
saves multiplications; roots of two lose fewer digits than 1 and 2 do."""


@dataclass(frozen=True)
class Matrices:
    """A (m x n), G (n x 3) and B (n x n), exactly, as rows."""

    a: tuple[Row, ...]
    g: tuple[Row, ...]
    b: tuple[Row, ...]


@lru_cache(maxsize=8)
def matrices(tile: int) -> Matrices:
    """The transforms of an output tile.

    >>> for row in matrices(2).a: print(*row)
    1 1 1 0
    0 1 -1 1
    """
    points = [ZERO, *(signed for p in PAIRS[tile] for signed in (p, -p))]
    others = [[q for q in points if q != p] for p in points]
    a = [(*(_power(p, i) for p in points), ONE if i == tile - 1 else ZERO) for i in range(tile)]
    g = []
    for p, roots in zip(points, others, strict=True):
        scale = prod((p - q for q in roots), start=ONE)
        g.append(tuple(_power(p, k) / scale for k in range(3)))
    b = [(*_polynomial(roots), ZERO) for roots in others]
    return Matrices(tuple(a), (*g, (ZERO, ZERO, ONE)), (*b, _polynomial(points)))


def _power(base: Surd, exponent: int) -> Surd:
    return prod([base] * exponent, start=ONE)


def _polynomial(roots: Sequence[Surd]) -> Row:
    """The coefficients of the product of x - root, the constant first."""
    found: Row = (ONE,)
    for root in roots:
        found = tuple(high - root * low for high, low in zip((ZERO, *found), (*found, ZERO), strict=True))
    return found


@dataclass(frozen=True)
class Sum:
    """`name` = the sum of coefficient * operand; a coefficient of 1 or -1 is no multiplication."""

    name: str
    terms: tuple[tuple[float, str], ...]

    @property
    def additions(self) -> int:
        """Additions and subtractions."""
        return len(self.terms) - 1

    @property
    def multiplications(self) -> int:
        """Multiplications."""
        return sum(abs(c) != 1 for c, _ in self.terms)


@lru_cache(maxsize=8)
def input_sums(tile: int) -> tuple[Sum, ...]:
    """`f0 … ` = B (`d0 …`): even and odd parts once for every pair of points.

    >>> for s in input_sums(2): print(s.name, s.terms)
    f0 ((-1.0, 'd0'), (1.0, 'd2'))
    e1 ((1.0, 'd2'),)
    o1 ((1.0, 'd1'),)
    f1 ((1.0, 'e1'), (1.0, 'o1'))
    f2 ((1.0, 'e1'), (-1.0, 'o1'))
    f3 ((-1.0, 'd1'), (1.0, 'd3'))
    """
    b = matrices(tile).b
    names = [f"d{k}" for k in range(tile + 2)]
    sums = _sums("f0", b[0], names)
    for j in range(1, tile + 1, 2):
        pairs = list(zip(b[j], b[j + 1], strict=True))
        sums += _sums(f"e{j}", [(plus + minus) / TWO for plus, minus in pairs], names)
        sums += _sums(f"o{j}", [(plus - minus) / TWO for plus, minus in pairs], names)
        sums += [Sum(f"f{j}", ((1.0, f"e{j}"), (1.0, f"o{j}"))), Sum(f"f{j + 1}", ((1.0, f"e{j}"), (-1.0, f"o{j}")))]
    return tuple(sums + _sums(f"f{tile + 1}", b[tile + 1], names))


@lru_cache(maxsize=8)
def output_sums(tile: int) -> tuple[Sum, ...]:
    """`y0 …` = A (`f0 …`): the even powers of a pair of points take its sum, the odd ones its difference."""
    a = matrices(tile).a
    sums = []
    for j in range(1, tile + 1, 2):
        pair = f"f{j}", f"f{j + 1}"
        sums += [Sum(f"{part}{j}", ((1.0, pair[0]), (s, pair[1]))) for part, s in (("s", 1.0), ("r", -1.0))]
    for i in range(tile):
        names = ["f0", *(f"{'r' if i % 2 else 's'}{j}" for j in range(1, tile + 1, 2)), f"f{tile + 1}"]
        sums += _sums(f"y{i}", [a[i][j] for j in (0, *range(1, tile + 1, 2), tile + 1)], names)
    return tuple(sums)


def needed(sums: Sequence[Sum], outputs: int) -> tuple[Sum, ...]:
    """Those sums that the first outputs `y0 …` are made of."""
    wanted = {f"y{k}" for k in range(outputs)}
    found: list[Sum] = []
    for s in reversed(sums):
        if s.name in wanted:
            found.append(s)
            wanted |= {operand for _, operand in s.terms}
    return tuple(reversed(found))


def _sums(name: str, coefficients: Sequence[Surd], operands: Sequence[str]) -> list[Sum]:
    """One row; operands whose coefficients are equal or opposite are added up first, and multiplied once."""
    terms = [(c, x) for c, x in zip(coefficients, operands, strict=True) if c != ZERO]
    sizes = dict.fromkeys(abs(c) for c, _ in terms)
    parts: list[Sum] = []
    found: list[tuple[float, str]] = []
    for size in sizes:
        same = [(c, x) for c, x in terms if abs(c) == size]
        if size == ONE or len(same) == 1:
            found += [(float(c), x) for c, x in same]
            continue
        inner = f"{name}_{same[0][1]}"
        parts.append(Sum(inner, tuple((float(c / size), x) for c, x in same)))
        found.append((float(size), inner))
    return [*parts, Sum(name, tuple(found))]


def relative_error(tile: int, in_channels: int) -> float:
    """How much a whole image may be off in single precision, relative to its largest sum of products.

    Measured against float64, not proved: about twice the largest error seen over 1 to 512 input channels, 16 x 24 x 24
    outputs, with inputs that were normal, rectified, positive, or a ramp with noise, and normal or positive weights.
    Residual and activation come after; what an activation cuts off does not make the error smaller.

    >>> [f"{relative_error(tile, 64):.1e}" for tile in TILES]
    ['8.7e-07', '3.5e-06', '2.4e-05']
    """
    return float(ERROR[tile] * np.sqrt(1 + in_channels / 32))


def transformed_weights(weights: NDArray[np.floating], tile: tuple[int, int]) -> NDArray[np.float64]:
    """`[out, in, 3, 3]` to `[out, in, n, n']`: G g G'^T of every kernel, G of the rows of a tile and G' of its columns.

    In float64; not finite where a weight is not.
    """
    down, across = (np.array(matrices(m).g, dtype=np.float64) for m in tile)
    with np.errstate(invalid="ignore"):
        found: NDArray[np.float64] = down @ weights.astype(np.float64) @ across.T
    return found
