"""Searched plans as C on the simulated machine: bytes as planned, outputs as the reference, time as modelled."""

import logging
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import polyfuse as pf
from polyfuse.codegen.build import Options
from polyfuse.codegen.scratchpad.planned import build_scratchpad, scratch_program
from polyfuse.errors import InvalidInput, SimulationError
from polyfuse.machines.accelerator import accelerator
from polyfuse.network.network import Network
from polyfuse.network.onnx.load import imported
from polyfuse.network.reference import max_relative_error, random_inputs, run
from polyfuse.plan.graph.operations import Graph, graph_of
from polyfuse.plan.memory.addresses import Allocation
from polyfuse.plan.planning import plan_for
from polyfuse.plan.scratchplan import ScratchPlan
from polyfuse.rewrite.rewriting import rewrite
from tests.codegen.scratchpad.networks import branches, chain, classifier, squeeze
from tests.network.quantised.models import NETWORKS as NETWORKS_IN_FLOAT
from tests.network.quantised.models import inputs, onnxruntime_outputs, quantised

FAST = Options(flags=("-std=c11", "-O0"))
NETWORKS: dict[str, Callable[[], Network]] = {
    "chain": chain,
    "squeeze": squeeze,
    "a batch": lambda: squeeze(2),
    "branches": branches,
    "classifier": classifier,
}


def planned(graph: Graph, machine: str, capacity_bytes: int) -> ScratchPlan:
    return plan_for(graph, accelerator(machine).with_capacity(capacity_bytes))


@pytest.mark.parametrize("machine", ["npu", "gemmini", "mcu-320k"])
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("capacity_bytes", [6144, 65536])
def test_plans_move_what_they_say_and_compute_the_reference(name: str, machine: str, capacity_bytes: int) -> None:
    network = NETWORKS[name]()
    graph = graph_of(network, "int8")
    plan = planned(graph, machine, capacity_bytes)
    inputs = random_inputs(network, 2)
    outputs, taken = build_scratchpad(plan, graph, FAST)(**inputs)
    expected = run(network, inputs)
    assert all(max_relative_error(value, expected[name]) < 2e-6 for name, value in outputs.items())
    assert taken.weight_bytes == plan.totals.offchip_bytes.weights
    assert taken.offchip_bytes == plan.totals.offchip_bytes.all
    assert taken.peak_bytes <= plan.totals.onchip_peak_bytes <= capacity_bytes
    summed = {operation.name for operation in graph.operations if operation.layer.macs}
    assert sum(taken.work[name] for name in summed) == plan.totals.macs_executed
    assert taken.cycles == pytest.approx(plan.totals.latency_cycles, rel=1e-9)


def test_a_block_of_mobilenet_takes_the_time_of_the_model() -> None:
    network = pf.load_workload("mbv2_block")
    graph = graph_of(network, "int8")
    for capacity_bytes in (16384, 32768):
        plan = planned(graph, "npu", capacity_bytes)
        _, taken = build_scratchpad(plan, graph, FAST)(**random_inputs(network, 0))
        assert taken.offchip_bytes == plan.totals.offchip_bytes.all
        assert taken.cycles == pytest.approx(plan.totals.latency_cycles, rel=1e-9)


def broken(plan: ScratchPlan, buffer: str, change: Callable[[Allocation], Allocation]) -> ScratchPlan:
    """The plan with a buffer of its first group changed."""
    first, *others = plan.groups
    buffers = {**first.buffers, buffer: change(first.buffers[buffer])}
    return replace(plan, groups=(replace(first, buffers=buffers), *others))


@pytest.mark.usefixtures("full_effort")
@pytest.mark.parametrize("by", [1, -64, 64])
def test_a_plan_edited_into_something_illegal_is_found(by: int) -> None:
    graph = graph_of(chain(), "int8")
    plan = planned(graph, "npu", 8192)
    wrong = broken(plan, "ring_c1_out", lambda b: Allocation(b.address + by if b.address + by >= 0 else 8192, b.bytes))
    with pytest.raises(SimulationError, match="group 0"):
        build_scratchpad(wrong, graph, FAST)(**random_inputs(graph.network, 0))


@pytest.mark.usefixtures("full_effort")
def test_plans_without_what_they_need_are_refused() -> None:
    graph = graph_of(chain(), "int8")
    plan = planned(graph, "npu", 8192)
    (group, *others) = plan.groups
    with pytest.raises(InvalidInput, match=r"group 0 \(c1.*: expected a buffer 'ring_c1_out', got .*; add it"):
        fewer = {name: buffer for name, buffer in group.buffers.items() if name != "ring_c1_out"}
        scratch_program(replace(plan, groups=(replace(group, buffers=fewer), *others)), graph)
    with pytest.raises(InvalidInput, match=r"expected a pin of 'x', there is none"):
        scratch_program(replace(plan, groups=(replace(group, sources={"x": "on"}), *others)), graph)
    with pytest.raises(InvalidInput, match=r"expected sources of x, got y"):
        scratch_program(replace(plan, groups=(replace(group, sources={"y": "off"}), *others)), graph)
    with pytest.raises(InvalidInput, match=r"expected every operation in a group, '\w+' is in none"):
        scratch_program(replace(plan, groups=()), graph)
    odd = replace(group.buffers["scratch"], address=group.buffers["scratch"].address + 2)
    with pytest.raises(InvalidInput, match=r"expected sums at a multiple of 4 bytes, got address \d+; move them"):
        moved = replace(group, buffers={**group.buffers, "scratch": odd})
        scratch_program(replace(plan, groups=(moved, *others)), graph)


def test_the_code_compiles_without_the_simulator(tmp_path: Path) -> None:
    graph = graph_of(squeeze(), "int8")
    files = scratch_program(planned(graph, "npu", 8192), graph).files
    assert list(files) == ["squeeze.c", "scratchpad.h", "simulator.c", "squeeze.weights"]
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    command = ["gcc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-c", "squeeze.c", "-o", "squeeze.o"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("capacity_bytes", [6144, 65536])
def test_plans_of_quantised_networks_are_what_onnxruntime_computes_to_the_bit(
    capacity_bytes: int, tmp_path: Path
) -> None:
    logging.disable(logging.WARNING)
    path = quantised(NETWORKS_IN_FLOAT["mobile"](), tmp_path, "QDQ", "QInt8", True)
    graph = graph_of(rewrite(imported(path).network).network)
    plan = planned(graph, "npu", capacity_bytes)
    given = inputs(graph.network, 1)
    outputs, taken = build_scratchpad(plan, graph, FAST)(**given)
    (expected,) = onnxruntime_outputs(path, given, optimised=True)
    np.testing.assert_array_equal(next(iter(outputs.values())), expected)
    assert len(np.unique(expected)) > 3
    assert taken.offchip_bytes == plan.totals.offchip_bytes.all
