"""Plans of small networks: legal, no dearer than any baseline, never dearer with more memory, certified."""

import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from polyfuse.errors import DoesNotFit, InvalidInput
from polyfuse.network.network import Builder
from polyfuse.plan.checking import check_plan
from polyfuse.plan.graph.operations import graph_of
from polyfuse.plan.planning import Ways, plan_for
from polyfuse.plan.price.objective import Objective
from polyfuse.plan.scratchplan import ScratchPlan, Totals, value_of
from polyfuse.plan.search.baselines import NAMES, Baselines
from tests.plan.planned import NETWORKS, branches, chain, machine, residual

OBJECTIVES = [
    Objective(),
    Objective("latency", 0.5),
    Objective("bytes"),
    Objective("energy"),
    Objective("macs"),
    Objective("peak"),
]


def ways(name: str, objective: Objective = OBJECTIVES[0]) -> Ways:
    graph = graph_of(NETWORKS[name](), "int8")
    return Ways(graph, machine(), Baselines(graph, machine(), objective))


@pytest.mark.usefixtures("full_effort")
@pytest.mark.parametrize("name", NETWORKS)
def test_plans_of_a_sweep_are_legal_and_never_cost_more_with_more_memory(name: str) -> None:
    known = ways(name)
    least = known.searches.joint.smallest_capacity()
    assert least is not None
    capacities = [*range(least, least + 2048, 512), 4096, 12288, 24576]
    plans = [known.plan(capacity) for capacity in capacities]
    for capacity, plan in zip(capacities, plans, strict=True):
        check_plan(plan, known.graph, machine(capacity))
        assert plan.totals.onchip_peak_bytes <= capacity
        assert plan.certificate.gap == pytest.approx(plan.totals.latency_cycles / plan.certificate.lower_bound - 1)
    assert any(plan.certificate.gap == 0 for plan in plans)
    assert all(b.certificate.lower_bound <= a.totals.latency_cycles for a, b in pairwise(plans))
    assert plans[-1].totals.latency_cycles < plans[0].totals.latency_cycles


@pytest.mark.parametrize("objective", OBJECTIVES, ids=str)
@pytest.mark.parametrize("name", NETWORKS)
def test_no_baseline_is_better_than_the_joint_plan(name: str, objective: Objective) -> None:
    known = ways(name, objective)
    plan = known.plan(12288, baselines=True)
    assert list(plan.baselines) == list(NAMES)
    totals = {way: found for way, found in plan.baselines.items() if found is not None}
    joint = value_of(objective, plan.totals)
    assert totals["joint"] == plan.totals
    for found in totals.values():
        assert joint <= value_of(objective, found) * (1 + 1e-9)
    if objective.goal == "latency":
        for better, worse in (
            ("fuse_weak", "layers"),
            ("fuse_strong", "fuse_weak"),
            ("pin", "layers"),
            ("fuse_then_pin", "fuse_strong"),
            ("fuse_then_pin_retiled", "fuse_then_pin"),
        ):
            assert value_of(objective, totals[better]) <= value_of(objective, totals[worse]) * (1 + 1e-9)


def test_a_chain_that_fits_moves_its_ends_and_weights_alone() -> None:
    plan = plan_for(chain(), machine(10**6), dtype="int8", objective=Objective("bytes"))
    graph = graph_of(chain(), "int8")
    assert plan.totals.offchip_bytes.feature_maps == 2 * 16 * 24 * 24
    assert plan.totals.offchip_bytes.weights == sum(operation.weight_bytes for operation in graph.operations)
    assert plan.totals.macs == plan.totals.macs_executed == 4 * 16 * 16 * (3 * 24 - 2) ** 2


def test_two_convolutions_take_what_was_counted_by_hand() -> None:
    build = Builder("two")
    x = build.input("x", (1, 16, 32, 32))
    y = build.conv("b", build.conv("a", x, 16, kernel=3, bias=False), 16, kernel=3, bias=False)
    plan = plan_for(build.network(y), machine(16384), dtype="int8", objective=Objective("bytes"))
    assert plan.totals.offchip_bytes.all == 33536


@pytest.mark.usefixtures("full_effort")
def test_an_impossible_capacity_names_the_layer_and_the_smallest_that_would_do() -> None:
    with pytest.raises(DoesNotFit, match=r"layers? 'c\d'.*got 512 B; ([\d,]+) B are the smallest capacity") as refused:
        plan_for(chain(), machine(512), dtype="int8")
    least = int(str(refused.value).rsplit(";", 1)[1].split()[0].replace(",", ""))
    assert plan_for(chain(), machine(least), dtype="int8").totals.onchip_peak_bytes <= least
    with pytest.raises(DoesNotFit):
        plan_for(chain(), machine(least - 1), dtype="int8")


@pytest.mark.parametrize("name", NETWORKS)
def test_the_lowest_peak_is_the_smallest_capacity(name: str) -> None:
    known = ways(name, Objective("peak"))
    plan = known.plan(10**6)
    check_plan(plan, known.graph, machine(10**6))
    assert plan.totals.onchip_peak_bytes == known.searches.joint.smallest_capacity()
    assert plan.certificate.lower_bound <= plan.totals.onchip_peak_bytes


def test_plans_are_read_back_as_they_were_written() -> None:
    plan = plan_for(residual(), machine(), dtype="int8", baselines=True)
    text = plan.to_json()
    assert ScratchPlan.from_json(text) == plan
    assert ScratchPlan.from_json(text).to_json() == text


def test_the_file_has_the_keys_that_are_promised() -> None:
    document = json.loads(plan_for(branches(), machine(), dtype="int8", baselines=True).to_json())
    assert list(document) == [
        *("format", "version", "network", "machine", "dtype", "objective", "latency_cycles", "offchip_bytes"),
        *("onchip_peak_bytes", "macs", "macs_executed", "energy_pj", "certificate", "groups", "pins", "baselines"),
        *("origin", "inputs", "outputs", "graph"),
    ]
    assert list(document["offchip_bytes"]) == ["feature_maps", "weights"]
    assert list(document["certificate"]) == ["lower_bound", "gap", "scope", "digest"]
    assert document["baselines"]["joint"]["latency_cycles"] == document["latency_cycles"]


def test_baselines_that_fit_nowhere_are_null() -> None:
    known = ways("chain")
    least = known.searches.joint.smallest_capacity()
    assert least is not None
    found = known.plan(least, baselines=True).baselines
    assert isinstance(found["joint"], Totals)
    assert ScratchPlan.from_json(known.plan(least, baselines=True).to_json()).baselines == found


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("groups"), "got no 'groups'"),
        (lambda d: d.update(extra=1), "got an unknown 'extra'"),
        (lambda d: d.update(version=1), "version 2, got 'polyfuse-plan' 1"),
        (lambda d: d["groups"][0].update(cycles="many"), r"groups\[0\].cycles: expected a number"),
        (lambda d: d["groups"][0]["sources"].update(x="nowhere"), "expected one of 'on', 'off', got 'nowhere'"),
        (
            lambda d: d["groups"][0]["tile"]["retention"].update(x=["local"]),
            "expected one along rows and one along col",
        ),
        (lambda d: d["machine"].update(dma_engines=3), "expected 1 or 2 dma_engines, got 3"),
        (lambda d: d["objective"].update(goal="beauty"), "expected one of 'latency', 'bytes'"),
    ],
)
def test_files_of_another_form_are_refused(change: Callable[[dict[str, Any]], object], message: str) -> None:
    document = json.loads(plan_for(chain(2), machine(), dtype="int8").to_json())
    change(document)
    with pytest.raises(InvalidInput, match=message):
        ScratchPlan.from_json(json.dumps(document), "plan.json")
