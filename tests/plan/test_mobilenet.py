"""Plans of whole MobileNetV2: what they save, over a fine sweep of capacities, and in as little memory as can be."""

from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

from polyfuse.loading import load_workload
from polyfuse.machines.accelerator import accelerator
from polyfuse.network.network import Network
from polyfuse.plan.planning import Ways, ways_of
from polyfuse.plan.price.objective import Objective
from polyfuse.plan.search.pins import placed_plan
from polyfuse.plan.search.problem import problem_of
from polyfuse.plan.search.program import Searcher
from polyfuse.plan.search.walk import Rules

KERNEL = Path(__file__).parents[2] / "kernels" / "mobilenet_v2.py"
KIB = 1024


def mobilenet(size: int = 224, width: float = 1.0) -> Network:
    return load_workload(str(KERNEL), parameters={"size": str(size), "width": str(width)})


@cache
def memory_bound() -> Ways:
    return ways_of(mobilenet(), accelerator("npu-memory-bound"), dtype="int8")


def test_more_memory_never_costs_more_over_a_fine_sweep_of_tiles_that_are_tried() -> None:
    capacities = range(64 * KIB, 640 * KIB, 8 * KIB)
    plans = [memory_bound().searches.joint.found(capacity, close=False) for capacity in capacities]
    for capacity, plan in zip(capacities, plans, strict=True):
        assert plan.peak_bytes <= capacity
        assert plan.lower == plan.price
    assert all(more.price <= less.price for less, more in pairwise(plans))
    assert len({plan.price for plan in plans}) > 10


def test_all_tiles_of_a_whole_network_are_bounded() -> None:
    plan = memory_bound().plan(256 * KIB)
    tried = memory_bound().searches.joint.found(256 * KIB, close=False)
    assert plan.totals.latency_cycles <= Objective.value(tried.price)
    assert plan.certificate.lower_bound <= plan.totals.latency_cycles < 1.03 * plan.certificate.lower_bound
    assert "all tiles" in plan.certificate.scope


@pytest.mark.parametrize("capacity_kib", [256, 512])
def test_half_of_the_feature_maps_and_a_sixth_of_the_time_of_weak_fusion_are_saved(capacity_kib: int) -> None:
    joint = memory_bound().plan(capacity_kib * KIB).totals
    weak = memory_bound().plan(capacity_kib * KIB, way="fuse_weak").totals
    assert joint.offchip_bytes.feature_maps <= 0.5 * weak.offchip_bytes.feature_maps
    assert joint.latency_cycles <= 0.85 * weak.latency_cycles


@cache
def tiny() -> Ways:
    """Width 0.35 on the microcontroller, for the fewest multiply-accumulates."""
    network = mobilenet(144, 0.35)
    return ways_of(network, accelerator("mcu-320k"), dtype="int8", objective=Objective("macs"), longest=13)


def in_memory_alone(group: tuple[str, ...]) -> bool:
    """The groups that such a plan needs: a long one in the beginning, then short ones. Fewer are priced sooner."""
    return len(group) <= 4 or (group[0] == "stem" and len(group) == 13)


@pytest.mark.parametrize(("peak_bytes", "most"), [(15340, 1.1), (12288, 1.2)])
def test_memory_alone_is_enough(peak_bytes: int, most: float) -> None:
    """Nothing between the image and the scores leaves the chip."""
    known = tiny()
    found = known.searches.joint.found(peak_bytes, Rules(allowed=in_memory_alone), close=False)
    assert placed_plan(known.problem, found.steps, peak_bytes) is not None
    assert found.peak_bytes <= peak_bytes
    moved = {name for step in found.steps for name, place in step.option.sources.items() if place == "off"}
    assert moved == {"x"}
    executed = sum(step.option.macs_executed for step in found.steps)
    assert 26377472 < executed <= most * 26377472


def test_external_memory_makes_a_smaller_peak_without_recomputation() -> None:
    machine = replace(accelerator("mcu-320k"), offchip_writable=True)
    known = ways_of(mobilenet(144, 0.35), machine, dtype="int8", objective=Objective("macs"), longest=4)
    found = known.searches.joint.found(7887, close=False)
    assert found.peak_bytes <= 7887
    assert sum(step.option.macs_executed for step in found.steps) == 26377472


def test_the_least_memory_is_less_than_that_of_usual_tiles() -> None:
    known = tiny()
    rules = Rules(allowed=in_memory_alone)
    usual = Searcher(problem_of(known.graph, known.machine), known.searches.objective, known.searches.lattice)
    least, more = known.searches.joint.smallest_capacity(rules, close=False), usual.smallest_capacity(rules)
    assert least is not None and more is not None
    assert least < 12288 < 15340 < more
