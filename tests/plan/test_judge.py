"""A plan beside the exact model."""

from dataclasses import replace

import pytest

from polyfuse.errors import PolyfuseError
from polyfuse.plan.judge import judge
from polyfuse.plan.objective import Objective
from polyfuse.plan.planning import ways_of
from tests.plan.planned import chain, machine


@pytest.mark.parametrize("goal", ["latency", "bytes"])
def test_the_exact_model_finds_the_same(goal: str) -> None:
    ways = ways_of(chain(3), machine(), objective=Objective(goal), dtype="int8")  # type: ignore[arg-type]
    plan = ways.plan(12288)
    judged = judge(plan, ways)
    assert judged.optimal and judged.value == pytest.approx(judged.planned, abs=1e-3)


def test_a_certificate_that_claims_too_much_is_a_bug() -> None:
    ways = ways_of(chain(2), machine(), dtype="int8")
    plan = ways.plan(12288)
    bold = replace(plan.certificate, lower_bound=2 * plan.certificate.lower_bound)
    with pytest.raises(PolyfuseError, match=r"the exact model says that a plan takes .*this is a polyfuse bug"):
        judge(replace(plan, certificate=bold), ways)
