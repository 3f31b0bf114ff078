"""Groups in time: what their steps take adds up to what the plan says, on every shipped machine."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from polyfuse.machines.accelerator import Accelerator, accelerator
from polyfuse.plan.graph.operations import graph_of
from polyfuse.plan.planning import plan_for
from polyfuse.plan.price.timeline import GroupTime, timeline
from tests.plan.planned import NETWORKS

MACHINES = ("npu", "npu-memory-bound", "ethos-u65", "gemmini", "eyeriss", "mcu-320k")


def two_engines() -> Accelerator:
    return replace(accelerator("npu-memory-bound"), name="two", dma_engines=2)


def times_of(network: str, machine: Accelerator, capacity: int) -> tuple[GroupTime, ...]:
    """The groups of a plan, found to move and take what it says."""
    graph = graph_of(NETWORKS[network](), "int8")
    plan = plan_for(graph, machine.with_capacity(capacity))
    times = timeline(plan, graph)
    for group, time in zip(plan.groups, times, strict=True):
        assert time.cycles == pytest.approx(group.cycles, rel=1e-9)
        assert sum(time.loaded.values()) == group.load_bytes
        assert sum(time.stored.values()) == group.store_bytes
        assert time.weight_bytes == group.weight_bytes
    assert times[-1].end == pytest.approx(plan.totals.latency_cycles, rel=1e-9)
    return times


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", MACHINES)
def test_steps_add_up_to_the_plan(network: str, name: str) -> None:
    for capacity in (12288, 32768):
        times_of(network, accelerator(name), capacity)


@pytest.mark.parametrize("machine", [accelerator("npu"), accelerator("mcu-320k"), two_engines()], ids=lambda m: m.name)
def test_what_an_engine_or_the_unit_does_never_overlaps(machine: Accelerator) -> None:
    for time in times_of("residual", machine, 12288):
        lanes = {work: sorted(spans.tolist()) for work, spans in time.spans.items()}
        if machine.dma_engines == 1:
            lanes["load"] = sorted([*lanes["load"], *lanes.pop("store")])
        for spans in lanes.values():
            for (start, length), (after, _) in pairwise(spans):
                assert start + length <= after + 1e-6
            assert all(time.start - 1e-6 <= start <= start + length <= time.end + 1e-6 for start, length in spans)


def test_spans_are_all_that_is_done() -> None:
    for time in times_of("chain", accelerator("npu-memory-bound"), 12288):
        done = {work: float(spans[:, 1].sum()) for work, spans in time.spans.items()}
        assert done["compute"] == pytest.approx(time.compute_cycles)
        assert done["load"] + done["store"] == pytest.approx(time.dma_cycles)
        assert time.bound == ("dma" if time.dma_cycles > time.compute_cycles else "compute")
        assert np.all(time.lasting >= time.compute)
