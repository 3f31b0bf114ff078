"""Plans, sweeps and simulated runs on the terminal."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from polyfuse.plan.graph.operations import graph_of
from polyfuse.plan.planning import plan_for
from polyfuse.plan.price.timeline import GroupTime, timeline
from polyfuse.plan.scratchplan import ScratchPlan
from polyfuse.plan.sweep import Point, Request, Sweep
from polyfuse.plan.tiles.tables import Tile
from polyfuse.report.scratchplan import print_plan, print_sweep, retention_text, tile_text
from tests.plan.planned import machine, residual


@pytest.fixture(scope="module")
def plan() -> ScratchPlan:
    return plan_for(residual(), machine(20480), dtype="int8", baselines=True)


@pytest.fixture(scope="module")
def times(plan: ScratchPlan) -> tuple[GroupTime, ...]:
    return timeline(plan, graph_of(residual(), "int8"))


def printed(width: int) -> tuple[Console, io.StringIO]:
    text = io.StringIO()
    return Console(file=text, width=width), text


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_no_line_is_wider_than_the_terminal(plan: ScratchPlan, times: tuple[GroupTime, ...], width: int) -> None:
    console, text = printed(width)
    print_plan(plan, times, console)
    assert max(map(len, text.getvalue().splitlines())) <= width
    assert "…" not in text.getvalue()


def test_names_are_no_markup(plan: ScratchPlan, times: tuple[GroupTime, ...]) -> None:
    console, text = printed(120)
    group = replace(plan.groups[0], operations=("[red]x[/red]",))
    print_plan(replace(plan, network="[bold]", groups=(group, *plan.groups[1:])), times, console)
    assert "[red]x[/red]" in text.getvalue() and "[bold] in int8" in text.getvalue()


@pytest.mark.parametrize(
    ("tile", "shown"),
    [
        (Tile(4, 0, 0, {}, "resident"), ("4 rows", "local")),
        (Tile(1, 0, 0, {}, "resident"), ("1 row", "local")),
        (Tile(4, 6, 0, {}, "resident"), ("4x6", "local/recompute")),
        (Tile(4, 0, 8, {}, "resident"), ("4 rows, 8 ch", "local")),
        (Tile(4, 6, 0, {"a": ("local", "local")}, "resident"), ("4x6", "mixed")),
        (Tile(4, 0, 0, {"a": ("recompute", "recompute")}, "resident"), ("4 rows", "mixed")),
    ],
)
def test_tiles_and_overlaps_in_words(
    plan: ScratchPlan, times: tuple[GroupTime, ...], tile: Tile, shown: tuple[str, str]
) -> None:
    several = next(time for time in times if time.steps > 1)
    group = replace(plan.groups[0], tile=tile, sources={"a": "off", "b": "off"}, buffers={})
    assert (tile_text(group, several), retention_text(group, several)) == shown


def test_a_sweep_marks_its_curve_and_says_what_does_not_fit(plan: ScratchPlan) -> None:
    request = Request("residual", "0", "int8", machine(), plan.objective, 8)
    none = Point(1024, None, None, {}, "layer 'b0': expected more")
    points = [Point(size, plan.totals, plan.certificate, plan.baselines, None) for size in (20480, 40960)]
    console, text = printed(80)
    print_sweep(Sweep(request, (none, *points)), console)
    lines = text.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert any(line.startswith("20 KiB* ") for line in lines) and any(line.startswith("40 KiB  ") for line in lines)
    assert "…" not in text.getvalue()
    assert "nothing fits 1 KiB: layer 'b0': expected more" in text.getvalue()
