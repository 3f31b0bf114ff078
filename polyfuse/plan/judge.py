"""A plan beside the independent exact model: for networks that are small enough to solve twice.

ScratchPlan + Ways ──judge()──> Judged
"""

from dataclasses import dataclass

from polyfuse.errors import PolyfuseError
from polyfuse.plan.exact import exact
from polyfuse.plan.objective import Objective, asked
from polyfuse.plan.planning import Ways
from polyfuse.plan.scratchplan import ScratchPlan, value_of

EFFORT = 120.0


@dataclass(frozen=True)
class Judged:
    """What the exact model found by capacity, in the unit of the objective; without a value, nothing in its time.

    optimal: whether it proved that nothing is below its value.
    """

    value: float | None
    optimal: bool
    planned: float


def judge(plan: ScratchPlan, ways: Ways, effort: float = EFFORT) -> Judged:
    """Solve the exact model of a plan's network, at most for `effort` seconds or so.

    Errors: PolyfuseError where it is better than the bound of the plan's certificate, which is a bug.
    """
    planned = value_of(plan.objective, plan.totals)
    searches = ways.searches
    try:
        found = exact(
            ways.problem,
            plan.machine.capacity_bytes,
            plan.objective,
            searches.lattice.groups,
            addresses=False,
            effort=effort,
        )
    except TimeoutError:
        return Judged(None, False, planned)
    if found is None:
        raise _bug(plan, "there is no plan")
    value = Objective.value(found.price)
    if asked(found.price) < round(plan.certificate.lower_bound * 1024) - 1:
        raise _bug(plan, f"a plan takes {value:,.3f}")
    return Judged(value, found.optimal, planned)


def _bug(plan: ScratchPlan, what: str) -> PolyfuseError:
    return PolyfuseError(
        f"plan of {plan.network!r}: the exact model says that {what}, the certificate that none takes less than "
        f"{plan.certificate.lower_bound:,.3f}; this is a polyfuse bug, please report it"
    )
