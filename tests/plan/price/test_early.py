"""Weights that are loaded while the group before runs: what that saves, and what is refused, beside the simulator."""

import json
from dataclasses import replace

import pytest

from polyfuse.codegen.scratchpad.planned import build_scratchpad
from polyfuse.errors import InvalidInput, SimulationError
from polyfuse.machines.accelerator import accelerator
from polyfuse.network.network import Network
from polyfuse.network.reference import random_inputs
from polyfuse.plan.checking import check_plan
from polyfuse.plan.graph.operations import Graph, graph_of
from polyfuse.plan.planning import plan_for
from polyfuse.plan.price.objective import Objective
from polyfuse.plan.price.timeline import timeline
from polyfuse.plan.scratchplan import PlannedGroup, ScratchPlan
from tests.plan import planned


def both(network: Network, machine: str, capacity: int) -> tuple[Graph, ScratchPlan, ScratchPlan]:
    """The plan of a network without and with weights that arrive early."""
    graph, there = graph_of(network, "int8"), accelerator(machine).with_capacity(capacity)
    return graph, plan_for(graph, there), plan_for(graph, there, early=True)


@pytest.mark.parametrize(
    ("network", "machine", "capacity"),
    [
        (planned.residual(), "npu", 64),
        (planned.residual(), "gemmini", 16),
        (planned.residual(), "gemmini", 32),
        (planned.branches(), "ethos-u65", 24),
        (planned.residual(), "eyeriss", 16),
        (planned.branches(), "npu", 16),
    ],
)
def test_they_save_what_the_plan_says_and_the_simulator_agrees(network: Network, machine: str, capacity: int) -> None:
    graph, plain, early = both(network, machine, 1024 * capacity)
    check_plan(early, graph, early.machine)
    assert early.totals.latency_cycles < plain.totals.latency_cycles
    saved = plain.totals.latency_cycles - early.totals.latency_cycles
    assert f"weights loaded early then save {saved:,.0f} cycles" in early.certificate.scope
    assert early.totals.offchip_bytes == plain.totals.offchip_bytes
    assert early.totals.onchip_peak_bytes <= early.machine.capacity_bytes
    assert sum(time.cycles for time in timeline(early, graph)) == pytest.approx(early.totals.latency_cycles, rel=1e-12)
    inputs = random_inputs(graph.network, 0)
    outputs, taken = build_scratchpad(early, graph)(**inputs)
    expected, _ = build_scratchpad(plain, graph)(**inputs)
    assert taken.offchip_bytes == early.totals.offchip_bytes.all
    assert taken.cycles == pytest.approx(early.totals.latency_cycles, rel=1e-9)
    assert all((outputs[name] == expected[name]).all() for name in expected)


@pytest.mark.parametrize("machine", ["npu", "npu-memory-bound", "gemmini", "eyeriss", "ethos-u65"])
@pytest.mark.parametrize("capacity", [16, 32, 64])
def test_streamed_blocks_take_as_long_as_the_simulator_says(machine: str, capacity: int) -> None:
    graph, plain, _ = both(planned.residual(), machine, 1024 * capacity)
    _, taken = build_scratchpad(plain, graph)(**random_inputs(graph.network, 0))
    assert taken.cycles == pytest.approx(plain.totals.latency_cycles, rel=1e-9)


def test_machines_that_do_one_thing_at_a_time_and_other_goals_have_none() -> None:
    graph = graph_of(planned.residual(), "int8")
    slow = replace(accelerator("npu").with_capacity(65536), double_buffer=False)
    assert not any(group.early for group in plan_for(graph, slow, early=True).groups)
    peak = plan_for(graph, accelerator("npu").with_capacity(65536), objective=Objective("peak"), early=True)
    assert not any(group.early for group in peak.groups)


def edited(plan: ScratchPlan, index: int, **changes: object) -> ScratchPlan:
    """The plan with one group changed."""
    groups = [replace(g, **changes) if k == index else g for k, g in enumerate(plan.groups)]  # type: ignore[arg-type]
    return replace(plan, groups=tuple(groups))


def first_early(plan: ScratchPlan) -> tuple[int, PlannedGroup]:
    """The first group with weights that arrive early."""
    return next((index, group) for index, group in enumerate(plan.groups) if group.early)


def test_what_cannot_be_is_refused() -> None:
    graph, _, plan = both(planned.residual(), "gemmini", 32768)
    index, group = first_early(plan)
    name = next(iter(group.early))
    for place, early, problem in (
        (0, {name: 0}, "no group before computes meanwhile"),
        (index, {"nothing": 0}, "expected operations whose weights stay, got 'nothing'"),
        (index, {name: 9999}, f"expected a step of group {index - 1}, 0 to "),
        (index, {}, "expected cycles of"),
    ):
        with pytest.raises(InvalidInput, match=problem):
            check_plan(edited(plan, place, early=early), graph, plan.machine)


def test_room_is_needed_while_the_group_before_runs() -> None:
    graph, _, plan = both(planned.residual(), "gemmini", 32768)
    index, group = first_early(plan)
    name = f"weights_{next(iter(group.early))}"
    busy = next(iter(plan.groups[index - 1].buffers.values())).address
    moved = {**group.buffers, name: replace(group.buffers[name], address=busy)}
    broken = edited(plan, index, buffers=moved)
    with pytest.raises(InvalidInput, match=f"overlap in group {index - 1}"):
        check_plan(broken, graph, plan.machine)
    with pytest.raises(SimulationError):
        build_scratchpad(broken, graph)(**random_inputs(graph.network, 0))


def test_a_plan_of_an_earlier_file_has_none() -> None:
    _, plain, early = both(planned.branches(), "npu", 16384)
    document = json.loads(plain.to_json())
    for group in document["groups"]:
        del group["early"]
    assert ScratchPlan.from_json(json.dumps(document)) == plain
    assert ScratchPlan.from_json(early.to_json()) == early != plain
