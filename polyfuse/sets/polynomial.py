"""Polynomials with rational coefficients, and their exact sums (Faulhaber).

Enters: names of integer quantities. Leaves: what `summation` adds up; `quasi` shows it to users as sympy.
Much smaller and faster than a computer algebra system for the few operations that summing needs.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import comb

Monomial = tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Polynomial:
    """A sum of monomials: `{(("H", 2),): 1/2, (): 3}` stands for `H**2/2 + 3`.

    >>> H, t = variable("H"), variable("t")
    >>> (H + 1) * (H - 1) == H * H - 1
    True
    >>> (H * H).substitute("H", t + 2) == t * t + 4 * t + 4
    True
    """

    terms: Mapping[Monomial, Fraction]

    def __add__(self, other: "Polynomial | int | Fraction") -> "Polynomial":
        terms = dict(self.terms)
        for monomial, coefficient in _as_polynomial(other).terms.items():
            terms[monomial] = terms.get(monomial, Fraction(0)) + coefficient
        return _without_zeros(terms)

    def __mul__(self, other: "Polynomial | int | Fraction") -> "Polynomial":
        terms: dict[Monomial, Fraction] = {}
        for left, a in self.terms.items():
            for right, b in _as_polynomial(other).terms.items():
                monomial = _product(left, right)
                terms[monomial] = terms.get(monomial, Fraction(0)) + a * b
        return _without_zeros(terms)

    def __hash__(self) -> int:
        return hash(frozenset(self.terms.items()))

    __radd__ = __add__
    __rmul__ = __mul__

    def __neg__(self) -> "Polynomial":
        return self * -1

    def __sub__(self, other: "Polynomial | int | Fraction") -> "Polynomial":
        return self + -_as_polynomial(other)

    @property
    def names(self) -> set[str]:
        """The names the value depends on."""
        return {name for monomial in self.terms for name, _ in monomial}

    def coefficients(self, name: str) -> list["Polynomial"]:
        """`[c0, c1, …]` with `self = c0 + c1*name + c2*name**2 + …`, free of `name`."""
        parts: dict[int, dict[Monomial, Fraction]] = {}
        for monomial, coefficient in self.terms.items():
            exponent = dict(monomial).get(name, 0)
            rest = tuple(factor for factor in monomial if factor[0] != name)
            parts.setdefault(exponent, {})[rest] = coefficient
        return [Polynomial(parts.get(exponent, {})) for exponent in range(max(parts, default=-1) + 1)]

    def substitute(self, name: str, value: "Polynomial") -> "Polynomial":
        """The polynomial with `value` in the place of `name`."""
        return horner(self.coefficients(name), value)


def constant(value: int | Fraction) -> Polynomial:
    """The polynomial without names."""
    return _without_zeros({(): Fraction(value)})


def variable(name: str) -> Polynomial:
    """The polynomial that is one name."""
    return Polynomial({((name, 1),): Fraction(1)})


def affine(coefficients: Iterable[tuple[str, int | Fraction]], offset: int | Fraction = 0) -> Polynomial:
    """`sum of coefficient*name + offset`."""
    terms: dict[Monomial, Fraction] = {((name, 1),): Fraction(value) for name, value in coefficients}
    return _without_zeros({**terms, (): Fraction(offset)})


def horner(coefficients: list[Polynomial], value: Polynomial) -> Polynomial:
    """`c0 + c1*value + c2*value**2 + …`."""
    result = constant(0)
    for coefficient in reversed(coefficients):
        result = result * value + coefficient
    return result


def sum_between(summand: Polynomial, name: str, lower: Polynomial, upper: Polynomial) -> Polynomial:
    """The sum of `summand` over `lower <= name <= upper`, right wherever `upper >= lower - 1`.

    >>> n, x = variable("n"), variable("x")
    >>> sum_between(x, "x", constant(1), n) == (n * n + n) * Fraction(1, 2)
    True
    """
    below = lower - 1
    result = constant(0)
    for exponent, coefficient in enumerate(summand.coefficients(name)):
        if coefficient.terms:
            powers = _power_sum(exponent)
            result = result + coefficient * (horner(powers, upper) - horner(powers, below))
    return result


@lru_cache(maxsize=64)
def _power_sum(exponent: int) -> list[Polynomial]:
    """Coefficients in n of `1**exponent + … + n**exponent`, by Faulhaber's formula."""
    scale = Fraction(1, exponent + 1)
    values = [Fraction(0)] * (exponent + 2)
    for k in range(exponent + 1):
        values[exponent + 1 - k] = scale * comb(exponent + 1, k) * _bernoulli(k)
    return [constant(value) for value in values]


@lru_cache(maxsize=64)
def _bernoulli(index: int) -> Fraction:
    """The Bernoulli numbers, with `B(1) = +1/2`."""
    if index == 0:
        return Fraction(1)
    return 1 - sum((comb(index, k) * _bernoulli(k) / (index - k + 1) for k in range(index)), Fraction(0))


def _as_polynomial(value: Polynomial | int | Fraction) -> Polynomial:
    return value if isinstance(value, Polynomial) else constant(value)


def _product(left: Monomial, right: Monomial) -> Monomial:
    if not left or not right:
        return left or right
    exponents = dict(left)
    for name, exponent in right:
        exponents[name] = exponents.get(name, 0) + exponent
    return tuple(sorted(exponents.items()))


def _without_zeros(terms: Mapping[Monomial, Fraction]) -> Polynomial:
    return Polynomial({monomial: coefficient for monomial, coefficient in terms.items() if coefficient})
