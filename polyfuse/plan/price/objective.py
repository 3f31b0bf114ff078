"""The objective of a plan, and prices: costs as whole numbers that add up without rounding.

A price is one number of Python: the figure to minimise in its upper part, in 1/1024 of its unit, and a tie-break below.
Sums and comparisons of prices are exact, so two searches that agree agree to the last bit.
"""

from dataclasses import dataclass
from typing import Any, get_args

from polyfuse.choices import Goal
from polyfuse.doors import public
from polyfuse.errors import InvalidInput

PARTS = 1024
NOISE = 1e-14
TIE_BITS = 48
"""Ties stay below 2^48: a plan moves less than 256 TiB, and takes fewer cycles than that."""


@public
@dataclass(frozen=True)
class Objective:
    """The goal of a plan.

    latency   cycles + `cycles_per_byte` x bytes moved off-chip; ties by bytes
    bytes     bytes moved off-chip; ties by cycles
    energy    picojoules; ties by cycles
    macs      multiply-accumulates executed; ties by cycles
    peak      bytes on chip at the fullest moment; ties by cycles

    Errors: InvalidInput for other goals and for weights below 0 or without effect.
    """

    goal: Goal = "latency"
    cycles_per_byte: float = 0.0

    def __post_init__(self) -> None:
        if self.goal not in get_args(Goal):
            raise InvalidInput(f"objective: expected one of {', '.join(get_args(Goal))}, got {self.goal!r}")
        if not 0 <= self.cycles_per_byte < 1e9:
            raise InvalidInput(f"objective: expected 0 cycles a byte or more, got {self.cycles_per_byte}; correct it")
        if self.cycles_per_byte and self.goal != "latency":
            raise InvalidInput(
                f"objective: cycles a byte weigh bytes against latency, the goal is {self.goal!r}; drop one of them"
            )

    def price(self, cycles: float, moved_bytes: int, energy_pj: float, macs: int) -> int:
        """The price of a cost with such figures.

        >>> Objective().price(10.0, 5, 0.0, 0) < Objective().price(10.0, 6, 0.0, 0) < Objective().price(10.5, 0, 0.0, 0)
        True
        """
        wanted: float = self.wanted(cycles, moved_bytes, energy_pj, macs)
        tie = moved_bytes if self.goal in ("latency", "peak") else round(cycles)
        return (round(wanted * PARTS) << TIE_BITS) + tie

    def wanted(self, cycles: Any, moved_bytes: Any, energy_pj: Any, macs: Any) -> Any:
        """The figure to minimise, of one cost or of arrays of costs; for `peak`, which no cost has, the latency."""
        weighted = cycles + self.cycles_per_byte * moved_bytes
        return {"bytes": moved_bytes, "energy": energy_pj, "macs": macs}.get(self.goal, weighted)

    @staticmethod
    def value(price: int) -> float:
        """The figure to minimise in a price, in its unit: cycles, bytes, picojoules, multiply-accumulates.

        >>> Objective.value(Objective().price(10.25, 5, 0.0, 0))
        10.25
        """
        return asked(price) / PARTS

    def __str__(self) -> str:
        weight = f" + {self.cycles_per_byte:g} cycles a byte" if self.cycles_per_byte else ""
        return self.goal + weight


def figure(value: float) -> float:
    """A figure as plans write it, in 12 digits: the order of a sum does not show in it.

    >>> figure(1000 / 3)
    333.333333333
    """
    return float(f"{value:.12g}")


def is_figure(value: float, written: float) -> bool:
    """Whether what a plan writes is a value, which may differ in the last bits of a float.

    >>> is_figure(1000 / 3, 333.333333333), is_figure(1000 / 3, 333.333333334)
    (True, False)
    """
    return written in {figure(value * (1 + noise)) for noise in (-NOISE, 0.0, NOISE)}


def asked(price: int) -> int:
    """The part of a price that holds the figure to minimise."""
    return price >> TIE_BITS


def tie(price: int) -> int:
    """The part of a price that breaks ties."""
    return price & ((1 << TIE_BITS) - 1)
