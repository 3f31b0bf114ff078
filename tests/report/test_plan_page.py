"""The page of a plan: it needs nothing else, says what the plan says, and names in it are text."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import matplotlib
import pytest

from polyfuse.plan.graph.operations import Graph, graph_of
from polyfuse.plan.planning import plan_for
from polyfuse.plan.price.timeline import GroupTime, timeline
from polyfuse.plan.scratchplan import ScratchPlan
from polyfuse.report.planfigures import figures_of, traffic_of
from polyfuse.report.planpage import page
from tests.plan.planned import machine, residual

VOID = {"meta", "br", "img", "link", "input", "hr"}


class Balanced(HTMLParser):
    """Every element that is opened is closed, in order; the text outside of styles."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text.append(data)


@pytest.fixture(scope="module")
def graph() -> Graph:
    return graph_of(residual(), "int8")


@pytest.fixture(scope="module")
def plan(graph: Graph) -> ScratchPlan:
    return plan_for(graph, machine(20480), baselines=True)


@pytest.fixture(scope="module")
def times(plan: ScratchPlan, graph: Graph) -> tuple[GroupTime, ...]:
    return timeline(plan, graph)


def test_the_page_is_whole_and_needs_nothing_else(
    plan: ScratchPlan, graph: Graph, times: tuple[GroupTime, ...]
) -> None:
    before = dict(matplotlib.rcParams)
    text = page(plan, times, figures_of(plan, graph, times, None))
    assert dict(matplotlib.rcParams) == before
    parser = Balanced()
    parser.feed(text)
    assert parser.open == [] and {"svg", "table", "figcaption"} < parser.seen
    assert not parser.seen & {"script", "link", "img", "iframe"}
    assert not re.search(r'(?:src|href)="(?!#)', text)
    assert "url(http" not in text
    shown = " ".join(parser.text)
    for group in plan.groups:
        assert f"{group.cycles:,.0f}" in shown
    claimed = str(plan.certificate).partition(" (")[0]
    for words in (f"{plan.totals.offchip_bytes.all:,} B", "fuse_then_pin_retiled", claimed):
        assert words in shown


def test_names_are_text_whatever_they_hold(plan: ScratchPlan, times: tuple[GroupTime, ...]) -> None:
    group = replace(plan.groups[0], operations=("<script>alert(1)</script>",))
    text = page(replace(plan, network="<b>$net$", groups=(group, *plan.groups[1:])), times, [])
    assert "<script>" not in text and "<b>" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text and "&lt;b&gt;$net$" in text


def test_traffic_is_all_that_crosses(plan: ScratchPlan, times: tuple[GroupTime, ...]) -> None:
    loaded, stored = traffic_of(plan, times)
    assert loaded.total() + stored.total() == plan.totals.offchip_bytes.all
    assert stored["add1_out"] == 16 * 24 * 24 and loaded["x"] >= 3 * 24 * 24


def test_the_memory_map_has_every_buffer_at_its_address(
    plan: ScratchPlan, graph: Graph, times: tuple[GroupTime, ...]
) -> None:
    memory = figures_of(plan, graph, times, None)[0]
    (axes,) = memory.figure.axes
    drawn = sorted(
        (round(patch.get_x()), round(patch.get_width()), round(patch.get_y() * 1024), round(patch.get_height() * 1024))
        for patch in axes.patches
    )
    expected = sorted(
        (index, 1, buffer.address, buffer.bytes)
        for index, group in enumerate(plan.groups)
        for buffer in group.buffers.values()
    )
    pins = [(pin.first, pin.last - pin.first + 1, pin.address, pin.bytes) for pin in plan.pins]
    assert drawn == sorted([*expected, *pins])


def test_names_with_dollars_are_drawn_as_they_are(
    plan: ScratchPlan, graph: Graph, times: tuple[GroupTime, ...]
) -> None:
    for picture in figures_of(replace(plan, network="$a_b$"), graph, times, None)[:3]:
        assert picture.svg.startswith("<svg") and picture.png.startswith(b"\x89PNG")
