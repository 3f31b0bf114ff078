"""Why tensors are not on chip: the moment, what is there, and the price of forcing them."""

import pytest

from polyfuse.errors import InvalidInput
from polyfuse.plan.graph.operations import graph_of
from polyfuse.plan.planning import Ways
from polyfuse.plan.price.objective import Objective
from polyfuse.plan.scratchplan import ScratchPlan
from polyfuse.plan.search.baselines import Baselines
from polyfuse.plan.why import why
from tests.plan.planned import machine, residual

CAPACITY = 12288


def new_ways() -> Ways:
    graph = graph_of(residual(), "int8")
    return Ways(graph, machine(), Baselines(graph, machine(), Objective()))


@pytest.fixture(scope="module")
def ways() -> Ways:
    return new_ways()


@pytest.fixture(scope="module")
def plan(ways: Ways) -> ScratchPlan:
    return ways.plan(CAPACITY)


def test_every_tensor_is_explained(ways: Ways, plan: ScratchPlan) -> None:
    places = set()
    for tensor in ways.graph.tensors:
        found = why(plan, ways, tensor)
        places.add(found.place)
        assert plan.groups[found.moment].names
        assert found.free_bytes >= 0
        assert found.now == plan.totals.latency_cycles
        assert found.forced is None or found.forced >= found.now * (1 - 1e-9)
        assert (found.forced is None) == (found.refusal is not None)
        assert tensor in str(found)
    assert "inside a group" in places and len(places) > 1


def test_forcing_what_is_pinned_costs_nothing(ways: Ways) -> None:
    plan = ways.plan(26000, way="pin")
    pinned = [pin.tensor for pin in plan.pins]
    joint = ways.plan(10**6)
    assert pinned
    for pin in joint.pins:
        found = why(joint, ways, pin.tensor)
        if found.place == "pinned":
            assert found.forced == pytest.approx(found.now, rel=1e-9)


def test_the_moment_is_the_fullest_of_the_tensors_life(ways: Ways) -> None:
    plan = ways.plan(CAPACITY, way="layers")
    found = why(plan, ways, "stem_out")
    assert found.place == "off chip"
    taken = []
    for index in range(found.first, found.last + 1):
        group = plan.groups[index]
        own = {name: buffer.bytes for name, buffer in group.buffers.items() if name != "ring_stem_out"}
        pins = [pin.bytes for pin in plan.pins if pin.first <= index <= pin.last and pin.tensor != "stem_out"]
        taken.append(sum(-(-size // 64) * 64 for size in (*own.values(), *pins)))
    assert len(set(taken)) > 1
    assert found.free_bytes == CAPACITY - max(taken)
    assert taken[found.moment - found.first] == max(taken)


@pytest.mark.usefixtures("full_effort")
def test_what_cannot_fit_is_said(plan: ScratchPlan) -> None:
    found = why(plan, new_ways(), "a0_out")
    assert found.forced is None
    assert "B are the smallest capacity that would do" in str(found)


def test_unknown_tensors_are_refused(ways: Ways, plan: ScratchPlan) -> None:
    with pytest.raises(InvalidInput, match="'nothing': expected a tensor of 'residual', such as x"):
        why(plan, ways, "nothing")
