"""Plans that people broke are refused, with the reason; plans that people changed in legal ways are not."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from polyfuse.errors import DoesNotFit, InvalidInput
from polyfuse.plan.checking import check_plan
from polyfuse.plan.graph.operations import Graph, graph_of
from polyfuse.plan.planning import Ways, plan_for
from polyfuse.plan.price.objective import Objective
from polyfuse.plan.scratchplan import ScratchPlan
from polyfuse.plan.search.baselines import Baselines
from tests.plan.planned import branches, chain, machine, residual

Document = dict[str, Any]
CAPACITY = 30720


@pytest.fixture(scope="module")
def graph() -> Graph:
    return graph_of(residual(), "int8")


@pytest.fixture(scope="module")
def document(graph: Graph) -> Document:
    """The plan that keeps tensors on chip between operations that run one by one."""
    searches = Baselines(graph, machine(), Objective())
    plan = Ways(graph, machine(), searches).plan(CAPACITY, way="pin")
    check_plan(plan, graph, machine(CAPACITY))
    found: Document = json.loads(plan.to_json())
    assert [len(group["operations"]) for group in found["groups"]] == [1] * 7
    assert any(pin["last"] - pin["first"] > 1 for pin in found["pins"])
    return found


def checked(document: Document, graph: Graph, change: Callable[[Document], object], capacity: int = CAPACITY) -> None:
    changed = json.loads(json.dumps(document))
    change(changed)
    check_plan(ScratchPlan.from_json(json.dumps(changed)), graph, machine(capacity))


def long_pin(document: Document) -> Document:
    """The pin that reaches over another group."""
    return next(pin for pin in document["pins"] if pin["last"] - pin["first"] > 1)


def swap(document: Document, a: int, b: int) -> None:
    groups = document["groups"]
    groups[a], groups[b] = groups[b], groups[a]


def join(document: Document, *members: int) -> None:
    """Operations of several groups in the first of them."""
    groups = document["groups"]
    for index in members[1:]:
        groups[members[0]]["operations"] += groups[index]["operations"]
    for index in sorted(members[1:], reverse=True):
        del groups[index]


def buffer(document: Document, group: int) -> Document:
    """A buffer of a group."""
    found: Document = next(iter(document["groups"][group]["buffers"].values()))
    return found


def overlap(document: Document) -> None:
    pin = long_pin(document)
    buffer(document, pin["first"] + 1)["address"] = pin["address"]


BROKEN: dict[str, tuple[Callable[[Document], object], str]] = {
    "unknown operation": (lambda d: d["groups"][0].update(operations=["nothing"]), "group 0.*got 'nothing'; correct"),
    "operation left out": (lambda d: d["groups"].pop(), "operation 'add1' is in no group"),
    "operation twice": (lambda d: d["groups"].append(d["groups"][0]), "group 7.*'stem' runs twice"),
    "not topological": (lambda d: swap(d, 1, 2), "the order is not topological: 'a0' must run before"),
    "not convex": (lambda d: join(d, 0, 3), "not convex: 'stem' is in it and leads to 'a0'"),
    "no operations": (lambda d: d["groups"][0].update(operations=[]), "at least one"),
    "source of another": (
        lambda d: d["groups"][0]["sources"].update(y="on"),
        "expected sources of x; 'y' does not fit",
    ),
    "sink left out": (lambda d: d["groups"][0].update(sinks={}), "expected sinks of stem_out; 'stem_out' does not fit"),
    "output not stored": (lambda d: d["groups"][6]["sinks"].update(add1_out="on"), "'add1_out' is an output of the"),
    "read before stored": (
        lambda d: d["groups"][1]["sources"].update(stem_out="off"),
        "'stem_out' is read off chip where it was never stored",
    ),
    "fetched and streamed": (lambda d: d["groups"][0].update(fetched=["x"]), "'x' is fetched and not read on chip"),
    "pin too short": (
        lambda d: long_pin(d).update(last=long_pin(d)["first"]),
        "read on chip where no pin of it reaches",
    ),
    "no pin": (lambda d: d["pins"].remove(long_pin(d)), "comes on chip and no pin of it begins here"),
    "pin of nothing": (lambda d: long_pin(d).update(tensor="nothing"), "no pin of it begins here"),
    "one pin more": (
        lambda d: d["pins"].append({**long_pin(d), "first": long_pin(d)["first"] + 1}),
        "neither leaves it on chip nor fetches it",
    ),
    "pin beyond the end": (lambda d: long_pin(d).update(last=99), "expected groups of the plan, got 0 to 99"),
    "pin too small": (lambda d: long_pin(d).update(bytes=64), r"expected 9,216 B, the whole tensor, got 64 B"),
    "no buffer": (lambda d: d["groups"][0]["buffers"].popitem(), "expected buffers of"),
    "misaligned": (lambda d: buffer(d, 0).update(address=buffer(d, 0)["address"] + 1), "a multiple of 64"),
    "below the arena": (lambda d: buffer(d, 0).update(address=-64), "a multiple of 64, got -64"),
    "overlap": (overlap, "overlap in group 1; move one"),
    "tile of another": (lambda d: d["groups"][0]["tile"].update(rows=999), "group 0"),
    "bytes": (lambda d: d["groups"][0].update(load_bytes=1), "expected load_bytes of 1,728, got 1"),
    "cycles": (lambda d: d["groups"][0].update(cycles=1.5), "expected cycles of"),
    "total": (lambda d: d.update(latency_cycles=1.5), "expected latency_cycles of"),
    "total bytes": (lambda d: d["offchip_bytes"].update(weights=1), "expected offchip_bytes of"),
    "peak": (lambda d: d.update(onchip_peak_bytes=64), "expected onchip_peak_bytes of"),
    "another network": (lambda d: d.update(network="chain"), "got a network 'residual'; give the network"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_plan_is_refused_with_the_reason(name: str, document: Document, graph: Graph) -> None:
    change, message = BROKEN[name]
    with pytest.raises(InvalidInput, match=message):
        checked(document, graph, change)


def test_a_group_in_two_pieces_is_refused() -> None:
    graph = graph_of(branches(), "int8")
    plan = Ways(graph, machine(), Baselines(graph, machine(), Objective())).plan(CAPACITY, way="layers")
    document = json.loads(plan.to_json())
    order = {group["operations"][0]: index for index, group in enumerate(document["groups"])}
    document["groups"] = [document["groups"][order[name]] for name in ("stem", "squeeze", "left", "right", "last")]
    join(document, 2, 3)
    with pytest.raises(InvalidInput, match=r"group 2 \(left..right\): its operations share no tensors"):
        checked(document, graph, lambda d: None)


def test_what_passes_the_capacity_is_refused(document: Document, graph: Graph) -> None:
    with pytest.raises(DoesNotFit, match="has 20,480 B on chip; move it, or plan again"):
        checked(document, graph, lambda d: None, 20480)


def test_a_plan_that_is_moved_is_legal(document: Document, graph: Graph) -> None:
    def moved(changed: Document) -> None:
        for piece in (*(b for g in changed["groups"] for b in g["buffers"].values()), *changed["pins"]):
            piece["address"] += 640
        changed["onchip_peak_bytes"] += 640

    checked(document, graph, moved, CAPACITY + 640)


def test_a_buffer_may_be_larger_than_it_must(document: Document, graph: Graph) -> None:
    def larger(changed: Document) -> None:
        top = changed["onchip_peak_bytes"]
        buffer(changed, 0).update(address=top, bytes=buffer(changed, 0)["bytes"] + 64)
        changed["onchip_peak_bytes"] = -(-(top + buffer(changed, 0)["bytes"]) // 64) * 64

    checked(document, graph, larger, 10**6)


@pytest.mark.usefixtures("full_effort")
def test_a_plan_of_groups_is_legal_in_another_tile_if_its_figures_are_right(graph: Graph) -> None:
    plan = plan_for(chain(3), machine(10**6), dtype="int8")
    changed = json.loads(plan.to_json())
    changed["groups"][0]["tile"]["rows"] = 5
    with pytest.raises(InvalidInput, match="group 0"):
        check_plan(ScratchPlan.from_json(json.dumps(changed)), graph_of(chain(3), "int8"), machine(10**6))
