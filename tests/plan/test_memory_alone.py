"""Memory alone: on a machine whose off-chip memory cannot be written, what is between layers stays on chip."""

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyfuse.codegen.scratchpad.planned import build_scratchpad
from polyfuse.errors import DoesNotFit, InvalidInput
from polyfuse.machines.accelerator import Accelerator, accelerator
from polyfuse.network.network import Builder, Network
from polyfuse.network.reference import max_relative_error, random_inputs, run
from polyfuse.plan.checking import check_plan
from polyfuse.plan.graph.operations import Graph, graph_of
from polyfuse.plan.planning import plan_for, ways_of
from polyfuse.plan.price.objective import Objective
from polyfuse.plan.scratchplan import ScratchPlan
from polyfuse.plan.search.exact import exact
from polyfuse.plan.search.program import Searcher
from tests.oracles.pinning import cheapest
from tests.plan.planned import NETWORKS, branches, chain, machine, residual
from tests.plan.search.invented import Invented, invented

TIE = 1 << 20
ROOM = 1 << 20


def two_ended() -> Network:
    """A network whose first output is read again by a later layer."""
    build = Builder("two_ended")
    first = build.conv("first", build.input("x", (1, 3, 12, 12)), 8, kernel=3, padding=1)
    second = build.conv("second", first, 8, kernel=3, padding=1)
    return build.network(first, build.arithmetic("sum", "add", second, first))


EVERY: dict[str, Callable[[], Network]] = {**NETWORKS, "two_ended": two_ended}


def written(plan: ScratchPlan, graph: Graph) -> set[str]:
    """The tensors that a plan stores off chip, but for the outputs of the network."""
    stored = {t for group in plan.groups for t, place in group.sinks.items() if place != "on"}
    return stored - set(graph.outputs)


def read(plan: ScratchPlan, graph: Graph) -> set[str]:
    """The tensors that a plan reads off chip, but for the inputs of the network."""
    streamed = {t for group in plan.groups for t, place in group.sources.items() if place == "off"}
    return (streamed | {t for group in plan.groups for t in group.fetched}) - set(graph.inputs)


@pytest.mark.parametrize(
    ("on", "name", "goal"),
    [("npu", "residual", "latency"), ("npu", "two_ended", "bytes"), *(("mcu-320k", name, "peak") for name in EVERY)],
)
def test_nothing_between_layers_leaves_the_chip(on: str, name: str, goal: str) -> None:
    graph = graph_of(EVERY[name](), "int8")
    plan = plan_for(graph, machine(ROOM, on), objective=Objective(goal), external=on != "npu")  # type: ignore[arg-type]
    assert not plan.machine.offchip_writable
    assert not written(plan, graph) and not read(plan, graph)
    assert "nothing between layers stored off chip" in plan.certificate.scope
    assert check_plan(plan, graph, plan.machine) == plan == ScratchPlan.from_json(plan.to_json())
    network = graph.network
    outputs, taken = build_scratchpad(plan, graph)(**random_inputs(network, 1))
    expected = run(network, random_inputs(network, 1))
    assert all(max_relative_error(value, expected[key]) < 2e-6 for key, value in outputs.items())
    assert taken.offchip_bytes == plan.totals.offchip_bytes.all and taken.peak_bytes <= plan.totals.onchip_peak_bytes


@pytest.mark.usefixtures("full_effort")
def test_the_microcontroller_has_no_memory_outside_to_lower_the_peak_with() -> None:
    """The least peak was that of a plan that stored every tensor in a memory that the chip does not have."""
    graph = graph_of(chain(3), "int8")
    microcontroller, goal = accelerator("mcu-320k"), Objective("peak")
    inside = plan_for(graph, microcontroller, objective=goal, longest=1)
    outside = plan_for(graph, replace(microcontroller, offchip_writable=True), objective=goal, longest=1)
    assert outside.totals.onchip_peak_bytes < inside.totals.onchip_peak_bytes
    assert written(outside, graph) and not written(inside, graph)
    assert inside.certificate.gap == 0 and inside.certificate.lower_bound == inside.totals.onchip_peak_bytes
    assert inside.totals.offchip_bytes.feature_maps < outside.totals.offchip_bytes.feature_maps


@settings(max_examples=60, deadline=None)
@given(invented(4), st.integers(1, 60), st.booleans())
def test_no_order_grouping_or_place_in_memory_alone_is_cheaper(case: Invented, capacity: int, wanted: bool) -> None:
    """Against brute force; an output in the middle of the graph is not read again from where it went."""
    outputs = case.outputs | ({case.nodes[0][2]} if wanted else frozenset())
    case = replace(case, outputs=outputs)
    problem = replace(case.problem(), spills=False)
    price = cheapest(
        case.nodes,
        outputs,
        case.sizes,
        {tensor: case.loads(tensor)[0] * TIE + case.loads(tensor)[1] for tensor in case.sizes},
        lambda group, sources, sinks: [(s, c * TIE + b) for s, c, b in case.ways(sorted(group), sources, sinks)],
        capacity,
        spills=False,
    )
    try:
        plan = Searcher(problem, Objective()).found(capacity)
    except DoesNotFit:
        assert price is None
        return
    assert price is not None and plan.lower == plan.price
    assert (round(Objective.value(plan.price)), plan.price % (1 << 48)) == divmod(price, TIE)


@pytest.mark.parametrize("name", [*NETWORKS, "two_ended"])
def test_the_exact_model_agrees(name: str) -> None:
    graph = graph_of(EVERY[name](), "int8")
    ways = ways_of(graph, machine(ROOM).memory_alone())
    least = ways.searches.joint.smallest_capacity(close=False)
    assert least is not None
    for capacity in (least, least + 2048, ROOM):
        found = ways.searches.joint.found(capacity, close=False)
        groups = ways.searches.lattice.groups
        judged = exact(ways.problem, capacity, Objective(), groups, addresses=False, effort=60.0)
        assert judged is not None and judged.optimal and judged.price == found.price
    assert exact(ways.problem, least - 1, Objective(), ways.searches.lattice.groups, addresses=False) is None


@pytest.mark.usefixtures("full_effort")
@pytest.mark.parametrize("name", NETWORKS)
def test_a_plan_that_stores_tensors_is_refused_where_nothing_can_be_stored(name: str) -> None:
    graph = graph_of(NETWORKS[name](), "int8")
    least = ways_of(graph, machine()).searches.joint.smallest_capacity()
    assert least is not None
    plan = plan_for(graph, machine(least))
    assert written(plan, graph)
    alone = plan.machine.memory_alone()
    with pytest.raises(InvalidInput, match=r"off chip, where machine 'npu-memory-bound' can store nothing"):
        check_plan(replace(plan, machine=alone), graph, alone)


@pytest.mark.parametrize("build", [residual, branches])
def test_what_does_not_fit_says_the_least_that_would(build: Callable[[], Network]) -> None:
    graph = graph_of(build(), "int8")
    with pytest.raises(DoesNotFit, match="where nothing between layers can be stored off chip") as refused:
        plan_for(graph, machine(1024), external=False)
    enough, _, below = str(refused.value).rsplit("; ")[-1].partition(" would do")
    numbers = [int(text.replace(",", "")) for text in re.findall(r"([\d,]+) B", enough + below)]
    assert ("are the smallest capacity that" in enough) == (len(numbers) == 1)
    assert plan_for(graph, machine(numbers[0]), external=False).totals.onchip_peak_bytes <= numbers[0]
    with pytest.raises(DoesNotFit):
        plan_for(graph, machine(numbers[-1] - 64), external=False)


def test_ways_of_another_use_of_memory_are_refused() -> None:
    graph = graph_of(chain(2), "int8")
    ways = ways_of(graph, machine(ROOM))
    with pytest.raises(InvalidInput, match="expected ways of a machine whose off-chip memory is used alike"):
        plan_for(graph, machine(ROOM), ways=ways, external=False)
    assert plan_for(graph, machine(ROOM), ways=ways).machine.offchip_writable


def test_a_machine_file_says_whether_its_memory_can_be_written() -> None:
    text = accelerator("npu").to_toml()
    assert "offchip_writable = true" in text
    changed = Accelerator.from_toml(text.replace("offchip_writable = true", "offchip_writable = false"))
    assert changed == accelerator("npu").memory_alone() != accelerator("npu")
    assert Accelerator.from_toml(text.replace("offchip_writable = true\n", "")) == accelerator("npu")
    assert not accelerator("mcu-320k").offchip_writable
