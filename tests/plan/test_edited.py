"""Plan files that somebody edited: each field of real plans, one after the other, with and without a forged digest.

An edit is refused in one line, or the plan still checks and claims nothing any more: what is printed of it is computed
anew.
"""

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from io import StringIO
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from polyfuse.errors import InvalidInput, PolyfuseError
from polyfuse.machines.accelerator import Accelerator, accelerator
from polyfuse.network.network import Builder, Network
from polyfuse.plan.checking import check_plan
from polyfuse.plan.graph.operations import Graph, graph_of
from polyfuse.plan.memory.addresses import Allocation
from polyfuse.plan.planning import plan_for, totals_of
from polyfuse.plan.price.objective import Objective
from polyfuse.plan.price.options import option_of
from polyfuse.plan.price.timeline import timeline
from polyfuse.plan.scratchplan import Certificate, Origin, ScratchPlan, Totals, value_of
from polyfuse.plan.tiles.tables import Tile
from polyfuse.report.planfigures import figures_of
from polyfuse.report.planpage import page
from polyfuse.report.scratchplan import print_plan
from polyfuse.typed_json import decode
from tests.plan.planned import branches, chain, machine, residual

Path = tuple[str | int, ...]
Document = dict[str, Any]
CASES: dict[str, tuple[Callable[[], Network], Accelerator, Objective, bool]] = {
    "latency": (residual, machine(20480), Objective(), False),
    "early": (lambda: chain(2), machine(8192, "eyeriss"), Objective(), True),
    "memory alone": (lambda: chain(3), machine(16384, "mcu-320k"), Objective("macs"), False),
    "peak": (branches, machine(65536), Objective("peak"), False),
    "bytes": (lambda: chain(2), machine(12288, "npu"), Objective("bytes"), False),
}
CLAIMS = ("optimal for this model", "of the optimum", "way of planning")
NUMBERS: tuple[Callable[[Any], Any], ...] = (
    lambda v: v + 1,
    lambda v: v - 1,
    lambda v: -5,
    lambda v: 0,
    lambda v: 2 * v,
    lambda v: v * 0.75,
    lambda v: 10**30,
    lambda v: "nan",
    lambda v: "inf",
    lambda v: None,
    lambda v: "x",
    lambda v: True,
)
TEXTS: tuple[Callable[[Any], Any], ...] = (
    lambda v: v + "x",
    lambda v: "",
    lambda v: {"on": "off", "off": "on", "local": "recompute", "resident": "streamed", "latency": "bytes"}.get(
        v, "peak"
    ),
    lambda v: 3,
    lambda v: None,
)


@cache
def planned(name: str) -> tuple[ScratchPlan, Graph]:
    network, on, objective, early = CASES[name]
    graph = graph_of(network(), "int8")
    plan = plan_for(graph, on, objective=objective, baselines=True, early=early)
    assert any(group.early for group in plan.groups) == early
    return replace(plan, origin=Origin("net.onnx", {"size": "24"}, 3)), graph


def leaves(value: object, path: Path = ()) -> Iterator[tuple[Path, object]]:
    """Every value that holds no other, and every list and object, by its path."""
    yield path, value
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            yield from leaves(item, (*path, key))


def edits_of(value: object) -> Iterator[object]:
    """Other values in the place of one."""
    match value:
        case bool():
            yield not value
        case int() | float():
            yield from (change(value) for change in NUMBERS)
        case str():
            yield from (change(value) for change in TEXTS)
        case list():
            yield from ([*value[1:]], [*value, *value[-1:]], value[::-1], None)
        case dict():
            yield from ({k: v for k, v in value.items() if k != key} for key in list(value)[:3])
            yield {**value, "x": 1}
        case None:
            yield from (0, "x", {})


def edited(document: Document, path: Path, value: object) -> Document:
    """The document with another value at a path."""
    changed = copy.deepcopy(document)
    at: Any = changed
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return changed


def mutants(name: str) -> list[tuple[Path, Document]]:
    """Of each value all edits in the head, one, drawn, of the many in groups, baselines and the machine."""
    document = json.loads(planned(name)[0].to_json())
    random, found = np.random.default_rng(len(name)), []
    for path, value in leaves(document):
        edits = [edit for edit in edits_of(value) if edit != value or isinstance(edit, bool)] if path else []
        if path[:1] in (("groups",), ("baselines",), ("machine",), ("pins",)) and edits:
            edits = [edits[int(random.integers(len(edits)))]]
        found += [(path, edited(document, path, edit)) for edit in edits]
    return found


def text_of(plan: ScratchPlan, graph: Graph) -> str:
    """All that is said of a plan, on the terminal and on its page."""
    out, times = StringIO(), timeline(plan, graph)
    print_plan(plan, times, Console(file=out, width=200))
    return out.getvalue() + page(plan, times, [])


def checked(document: Document, graph: Graph, forged: bool) -> ScratchPlan | str:
    """The plan in a file, checked; or why it is refused."""
    try:
        plan = ScratchPlan.from_json(json.dumps(document))
        if forged:
            plan = resealed(document)
        return check_plan(plan, graph, plan.machine)
    except PolyfuseError as error:
        return str(error)


def resealed(document: Document) -> ScratchPlan:
    """The plan as somebody leaves it who computes the digest anew."""
    certificate = decode(document["certificate"], Certificate, "certificate")
    baselines = decode(document["baselines"], dict[str, Totals | None], "baselines")
    plan = ScratchPlan.from_json(json.dumps(document))
    return replace(plan, certificate=certificate, baselines=baselines).sealed()


@pytest.mark.parametrize("name", CASES)
def test_a_plan_that_nobody_edited_keeps_what_it_claims(name: str) -> None:
    plan, graph = planned(name)
    read = ScratchPlan.from_json(plan.to_json())
    assert read == plan and check_plan(read, graph, read.machine) == plan
    text = text_of(read, graph)
    assert str(plan.certificate).partition(" (")[0] in text and "edited" not in text and "fuse_then_pin" in text


@pytest.mark.parametrize("name", CASES)
def test_an_edit_is_refused_in_one_line_or_the_plan_claims_nothing(name: str) -> None:
    plan, graph = planned(name)
    accepted = 0
    for path, document in mutants(name):
        found = checked(document, graph, forged=False)
        if isinstance(found, str):
            assert found and "\n" not in found, path
            continue
        accepted += 1
        if path[0] in ("origin", "format", "version"):
            assert replace(found, origin=plan.origin) == plan
            continue
        assert found.is_edited and found.baselines == {} and found.certificate.gap == np.inf, path
        assert_figures_are_right(found, plan)
    assert accepted > 10


def assert_figures_are_right(found: ScratchPlan, plan: ScratchPlan) -> None:
    """An edit of one value changes no figure of a group; the peak is where the buffers end."""
    for group, like in zip(found.groups, plan.groups, strict=True):
        for key in ("cycles", "energy_pj", "load_bytes", "store_bytes", "weight_bytes", "macs_executed"):
            assert getattr(group, key) == getattr(like, key)
    ends = [address + lived.bytes for lived, address in found.buffers]
    unit = found.machine.alignment_bytes
    assert found.totals == replace(plan.totals, onchip_peak_bytes=-(-max(ends) // unit) * unit)


def test_what_is_printed_of_an_edited_plan_claims_nothing() -> None:
    plan, graph = planned("latency")
    document = json.loads(plan.to_json())
    for path, edit in (
        (("certificate", "gap"), 0.5),
        (("objective", "goal"), "bytes"),
        (("machine", "clock_ghz"), 9.0),
    ):
        found = checked(edited(document, path, edit), graph, forged=False)
        assert isinstance(found, ScratchPlan)
        text = " ".join(text_of(found, graph).split())
        assert "its certificate no longer holds" in text and "edited since it was planned" in text
        assert not any(claim in text for claim in CLAIMS)
    in_memory = replace(plan, objective=Objective("bytes"))
    assert not any(claim in text_of(in_memory, graph) for claim in CLAIMS)
    assert figures_of(in_memory, graph, timeline(in_memory, graph), None)


@pytest.mark.parametrize("name", ["latency", "memory alone", "peak", "bytes"])
def test_a_forged_digest_does_not_hide_contradictions(name: str) -> None:
    """Of the certificate only its words, and of baselines only figures for the worse, can be forged in one place."""
    plan, graph = planned(name)
    value = plan.certificate.lower_bound
    for path, document in mutants(name):
        if path[0] not in ("certificate", "baselines"):
            continue
        found = checked(document, graph, forged=True)
        if isinstance(found, str):
            assert "\n" not in found, path
            continue
        assert (found.certificate.lower_bound, found.certificate.gap) == (value, plan.certificate.gap), path
        others = [value_of(found.objective, other) for other in found.baselines.values() if other is not None]
        assert all(other >= value * (1 - 1e-6) for other in others), path


EXAMPLES: dict[str, tuple[Path, Any, str]] = {
    "negative gap": (("certificate", "gap"), -5, "expected a gap of 0 or more"),
    "no gap": (("certificate", "gap"), "nan", "expected a gap of 0 or more and finite, got nan"),
    "no bound": (("certificate", "lower_bound"), "nan", "expected a lower_bound of 0 or more"),
    "endless capacity": (("machine", "capacity_bytes"), 10**30, "expected capacity_bytes of at most"),
    "baseline below nothing": (("baselines", "layers", "latency_cycles"), -1, "latency_cycles of 0 or more"),
    "baseline that is no number": (("baselines", "pin", "energy_pj"), "nan", "energy_pj of 0 or more and finite"),
    "cycles that are no number": (("latency_cycles",), "nan", "latency_cycles of 0 or more and finite, got nan"),
    "a millionth of a cycle": (("groups", 0, "cycles"), 1e-6, "expected cycles of"),
    "joules": (("energy_pj",), 1.0, "expected energy_pj of"),
    "multiply-accumulates": (("macs",), 1, "expected macs of"),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_impossible_figures_are_refused(name: str) -> None:
    path, value, message = EXAMPLES[name]
    plan, graph = planned("latency")
    found = checked(edited(json.loads(plan.to_json()), path, value), graph, forged=False)
    assert isinstance(found, str) and message in found and "\n" not in found


FORGED: dict[str, tuple[Callable[[ScratchPlan], ScratchPlan], str]] = {
    "below its bound": (
        lambda plan: replace(plan, certificate=replace(plan.certificate, lower_bound=2 * plan.totals.latency_cycles)),
        "expected a lower_bound of at most",
    ),
    "another gap": (
        lambda plan: replace(plan, certificate=replace(plan.certificate, lower_bound=1.0)),
        "expected a gap of",
    ),
    "a better baseline": (
        lambda plan: replace(plan, baselines={"pin": replace(plan.totals, latency_cycles=1.0)}),
        "baselines.pin: expected no less latency than the lower_bound",
    ),
    "a baseline of another network": (
        lambda plan: replace(plan, baselines={"pin": replace(plan.totals, macs=1)}),
        "baselines.pin: expected macs of",
    ),
    "a baseline that does not fit": (
        lambda plan: replace(plan, baselines={"pin": replace(plan.totals, onchip_peak_bytes=10**9)}),
        "baselines.pin: expected onchip_peak_bytes within",
    ),
    "an unknown baseline": (lambda plan: replace(plan, baselines={"magic": plan.totals}), "got 'magic'"),
    "another joint plan": (
        lambda plan: replace(plan, baselines={"joint": replace(plan.totals, energy_pj=1.0)}),
        "baselines.joint: expected the totals of the plan",
    ),
}


@pytest.mark.parametrize("name", FORGED)
def test_contradictions_are_refused_whatever_the_digest_says(name: str) -> None:
    change, message = FORGED[name]
    plan, graph = planned("latency")
    with pytest.raises(InvalidInput, match=message):
        check_plan(change(plan).sealed(), graph, plan.machine)


def test_another_machine_or_network_is_not_certified() -> None:
    plan, graph = planned("latency")
    larger = plan.machine.with_capacity(plan.machine.capacity_bytes * 2)
    assert check_plan(plan, graph, larger).certificate.gap == np.inf
    other = replace(plan, graph="0" * 32).sealed()
    assert not other.is_edited and check_plan(other, graph, plan.machine).certificate.gap == np.inf


def test_a_plan_of_an_earlier_version_has_no_certificate() -> None:
    plan, graph = planned("latency")
    document = json.loads(plan.to_json())
    del document["graph"], document["certificate"]["digest"], document["machine"]["offchip_writable"]
    found = checked(document, graph, forged=False)
    assert isinstance(found, ScratchPlan) and found.certificate.gap == np.inf and found.totals == plan.totals


def with_tile(plan: ScratchPlan, graph: Graph, tile: Tile) -> ScratchPlan:
    """A plan of one group in another tile, nothing on chip as a whole, with the figures and the addresses of that."""
    (group,) = plan.groups
    group = replace(group, sources=dict.fromkeys(group.sources, "off"), fetched=())
    found = option_of(graph, group.operations, tile, group.sources, group.sinks, plan.machine)
    address, buffers = 0, {}
    for name, size in found.workspace.items():
        buffers[name] = Allocation(address, size)
        address += -(-size // 64) * 64
    moved = replace(
        group,
        tile=tile,
        buffers=buffers,
        load_bytes=found.load_bytes,
        store_bytes=found.store_bytes,
        weight_bytes=found.weight_bytes,
        cycles=float(f"{found.cycles:.12g}"),
        macs_executed=found.macs_executed,
        energy_pj=float(f"{found.energy_pj:.12g}"),
    )
    return replace(plan, groups=(moved,), pins=(), totals=totals_of(graph, (moved,), (), plan.machine))


def test_an_edited_tile_that_moves_less_is_accepted_and_not_called_optimal() -> None:
    """A plan below the bound of its own certificate was accepted as optimal."""
    build = Builder("one")
    x = build.input("x", (1, 256, 14, 14))
    graph = graph_of(build.network(build.conv("conv", x, 512, kernel=1, bias=False)), "int8")
    on = accelerator("npu").with_capacity(55 * 1024)
    plan = plan_for(graph, on, objective=Objective("bytes"))
    changed = with_tile(plan, graph, Tile(14, 0, 4))
    assert changed.totals.offchip_bytes.all == 281600
    read = ScratchPlan.from_json(changed.to_json())
    found = check_plan(read, graph, on)
    assert found.totals.offchip_bytes.all == 281600 and found.certificate.gap == np.inf
    assert "optimal" not in text_of(found, graph)
    worse = replace(changed, certificate=Certificate(632832.0, 0.0, plan.certificate.scope)).sealed()
    with pytest.raises(InvalidInput, match=r"expected a lower_bound of at most 281,600\.0, its bytes, got 632,832"):
        check_plan(worse, graph, on)
