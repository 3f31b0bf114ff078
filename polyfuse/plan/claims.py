"""The claims of a plan beyond its figures: its certificate and baselines must not contradict it or each other.

A digest says whether a plan was edited, but anyone can compute it anew; the checks here hold for any plan that a search
makes.
"""

import math
from collections.abc import Mapping

from polyfuse.errors import InvalidInput
from polyfuse.plan.price.objective import Objective
from polyfuse.plan.scratchplan import Certificate, Totals, value_of

CLOSE = 1e-6
"""How far the sum of rounded prices may be from that of the figures themselves, relative to it."""


def gap_of(value: float, lower_bound: float) -> float:
    """How far a value is above a lower bound, relative to it; infinite where the bound is 0.

    >>> gap_of(110.0, 100.0), gap_of(0.0, 0.0), gap_of(1.0, 0.0)
    (0.10000000000000009, 0.0, inf)
    """
    if lower_bound:
        return value / lower_bound - 1
    return math.inf if value else 0.0


def closeness(objective: Objective) -> float:
    """The relative distance that figures may have: 0 where they are whole numbers."""
    return CLOSE if objective.goal in ("latency", "energy") else 0.0


def certificate_of(objective: Objective, value: float, lower_bound: float, scope: str) -> Certificate:
    """The certificate of a value; a bound that rounding put above the value is the value.

    A plan further below the bound is none of the plans that were searched: it gets no certificate.
    """
    if value < lower_bound * (1 - closeness(objective)):
        less = f"the plan takes {value:,.0f}, less than all that was searched ({lower_bound:,.0f}; {scope})"
        return Certificate(0.0, math.inf, less)
    lower = min(value, lower_bound)
    return Certificate(lower, gap_of(value, lower), scope)


def check_claims(
    where: str,
    objective: Objective,
    totals: Totals,
    certificate: Certificate,
    baselines: Mapping[str, Totals | None],
    names: tuple[str, ...],
    capacity_bytes: int,
) -> None:
    """Refuse a certificate and baselines that cannot be those of a plan with such totals and without prefetch.

    names: the ways of planning.

    Errors: InvalidInput for a value below its lower bound, a gap that is not that of both, and baselines that are
    unknown, of another network, above the capacity, or below the bound that holds for them too.
    """
    value, lower = value_of(objective, totals), certificate.lower_bound
    if value < lower * (1 - closeness(objective)):
        raise InvalidInput(
            f"{where}: certificate: expected a lower_bound of at most {value:,}, its {objective.goal}, got {lower:,}; "
            "plan again"
        )
    gap = max(0.0, gap_of(value, lower))
    if not (certificate.gap == gap or abs(certificate.gap - gap) <= closeness(objective)):
        raise InvalidInput(
            f"{where}: certificate: expected a gap of {gap}, between {value:,} and the lower_bound {lower:,}, got "
            f"{certificate.gap}; plan again"
        )
    for name, other in baselines.items():
        if name not in names:
            raise InvalidInput(f"{where}: baselines: expected some of {', '.join(names)}, got {name!r}; plan again")
        if other is not None:
            _check_baseline(f"{where}: baselines.{name}", objective, totals, other, lower, capacity_bytes)
    if "joint" in baselines and baselines["joint"] != totals:
        raise InvalidInput(f"{where}: baselines.joint: expected the totals of the plan, got others; plan again")


def _check_baseline(
    where: str, objective: Objective, totals: Totals, other: Totals, lower: float, capacity_bytes: int
) -> None:
    """Refuse totals that cannot be those of a plan of the same network, machine and space."""
    if other.macs != totals.macs:
        raise InvalidInput(
            f"{where}: expected macs of {totals.macs:,}, those of the network, got {other.macs:,}; plan again"
        )
    if other.onchip_peak_bytes > capacity_bytes:
        raise InvalidInput(
            f"{where}: expected onchip_peak_bytes within {capacity_bytes:,} B, got {other.onchip_peak_bytes:,} B; "
            "plan again"
        )
    if value_of(objective, other) < lower * (1 - closeness(objective)):
        raise InvalidInput(
            f"{where}: expected no less {objective.goal} than the lower_bound {lower:,}, which bounds every way of "
            f"planning, got {value_of(objective, other):,}; plan again"
        )
