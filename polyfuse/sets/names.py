"""Names for what summing makes: floors of sizes, and dimensions that are functions of sizes.

Enters: affine numerators. Leaves: names that polynomials can hold, and what they stand for.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count as counter
from math import gcd

from polyfuse.errors import TooComplex
from polyfuse.sets.polynomial import Polynomial, affine, variable

MAX_STEPS = 5_000


@dataclass(frozen=True)
class FloorDivision:
    """`floor(numerator / denominator)`, with an affine numerator."""

    numerator: tuple[tuple[str, int], ...]
    offset: int
    denominator: int


@dataclass
class Names:
    """Names made while summing, and their meanings: floors, or values of determined dimensions."""

    meaning: dict[str, FloorDivision | Polynomial] = field(default_factory=dict)
    _floors: dict[FloorDivision, str] = field(default_factory=dict)
    _fresh: Iterator[int] = field(default_factory=counter)

    def fresh(self) -> str:
        """A name that no isl set read from text can have."""
        number = next(self._fresh)
        self.allow_steps(number)
        return f"#{number}"

    def allow_steps(self, steps: int) -> None:
        """Refuse a sum of more steps than `MAX_STEPS`. Errors: TooComplex."""
        if steps > MAX_STEPS:
            raise TooComplex(
                f"no closed form within {MAX_STEPS:,} steps; fix some parameters, use concrete tile sizes, "
                "or count concrete sets with `count`"
            )

    def define(self, value: Polynomial) -> str:
        """A new name for a value."""
        name = self.fresh()
        self.meaning[name] = value
        return name

    def floor(self, coefficients: dict[str, int], offset: int, denominator: int) -> Polynomial:
        """`floor((coefficients . names + offset) / denominator)`, its integer part taken out of the floor.

        Equal floors get equal names: `floor(-n/d)` is written `-floor((n + d - 1)/d)`.

        >>> Names().floor({"H": 9}, 10, 8).terms == (variable("H") + 1 + variable("#0")).terms
        True
        """
        reduced = {name: _centred(value, denominator) for name, value in coefficients.items()}
        whole = affine(
            ((name, (value - reduced[name]) // denominator) for name, value in coefficients.items()),
            offset // denominator,
        )
        rest = {name: value for name, value in sorted(reduced.items()) if value}
        offset %= denominator
        if rest and next(iter(rest.values())) < 0:
            return whole - self.floor(
                {name: -value for name, value in rest.items()}, denominator - 1 - offset, denominator
            )
        return whole + self._named_floor(rest, offset, denominator) if rest else whole

    def _named_floor(self, rest: dict[str, int], offset: int, denominator: int) -> Polynomial:
        shared = gcd(denominator, *rest.values())
        numerator = tuple((name, value // shared) for name, value in rest.items())
        key = FloorDivision(numerator, offset // shared, denominator // shared)
        if key not in self._floors:
            self._floors[key] = self.fresh()
            self.meaning[self._floors[key]] = key
        return variable(self._floors[key])


def _centred(value: int, modulus: int) -> int:
    """The residue in `-modulus/2 < residue <= modulus/2`."""
    residue = value % modulus
    return residue - modulus if 2 * residue > modulus else residue
