"""A peer that does not run is never beaten: it is part of no ratio, and whoever reads a ratio reads its name."""

import io
import json
import math
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from docs.measured.peerpages import (
    ALONE_COLUMNS,
    PEER_COLUMNS,
    Kept,
    best_peer_cells,
    contender_rows,
    markdown,
    one_by_one,
    peer_cells,
)
from polyfuse.bench.peers.contender import PEERS, Contender
from polyfuse.bench.peers.race import RaceRules, race
from polyfuse.bench.peers.results import STATES, PeerComparison, PeerReport, PeerRow
from polyfuse.network.reference import random_inputs, run
from polyfuse.report.peers import print_peers
from tests.bench.peers_example import comparison, timed
from tests.bench.test_race import FAKE, pair
from tests.machines.example import example as machine

NAMES = ("onnxruntime", "openvino", "torch-eager", "torch-inductor", "ncnn", "halide")
WORDS = {"wrong": "wrong", "failed": "failed", "missing": "not installed"}


@st.composite
def rows_of_peers(draw: st.DrawFn) -> list[PeerRow]:
    """Peers in any state; one that is not timed may have times all the same, as in a file that somebody edited."""
    rows = []
    for name in draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=6)):
        state = draw(st.sampled_from(STATES))
        row = replace(timed(name, draw(st.integers(1, 1000)) / 10), state=state, message="why")
        if state != "timed" and draw(st.booleans()):
            row = replace(row, cpu_seconds=None, wall_seconds=None)
        rows.append(row)
    return rows


def printed(found: PeerComparison) -> str:
    file = io.StringIO()
    print_peers([found], Console(file=file, width=400))
    return file.getvalue()


@given(rows_of_peers(), st.sampled_from(["CPU time", "wall time"]))
@settings(max_examples=100, deadline=None)
def test_ratios_are_those_of_peers_that_ran_and_all_others_are_named(peers: list[PeerRow], clock: str) -> None:
    ours = timed("polyfuse plan", 7.0)
    found = replace(comparison("w", ours, *peers), clock=clock)
    ran = [row for row in peers if row.state == "timed"]
    fastest = min((row.cpu_seconds for row in ran), default=math.nan)
    kept = Kept("w", PeerReport({}, (found,)), "polyfuse plan")
    best, ratio = best_peer_cells(kept)
    names, others = peer_cells(kept)
    assert names == (", ".join(row.contender for row in ran) or "none")
    assert others == ", ".join(f"{row.contender} {WORDS[row.state]}" for row in peers if row.state != "timed")
    text = printed(found)
    if ran:
        assert found.best_peer is not None and found.best_peer.cpu_seconds == fastest
        assert best == found.best_peer.contender and ratio == f"{fastest / 0.007:.2f}"
        assert f"best peer / polyfuse: {ratio} ({best} / polyfuse plan)" in text
    else:
        assert (best, ratio) == ("none ran", "-") and "best peer" not in text and found.best_peer is None
    if peers:
        told = f"peers that ran: {names}" + (f"; not compared: {others}" if others else "")
        assert told in text.splitlines()


@given(st.lists(rows_of_peers(), min_size=1, max_size=4))
@settings(max_examples=100, deadline=None)
def test_a_mean_is_over_the_races_of_a_peer_and_says_which_are_not(races: list[list[PeerRow]]) -> None:
    kept = [
        Kept(f"w{k}", PeerReport({}, (comparison("w", timed("polyfuse", 10.0), *peers),)), "polyfuse")
        for k, peers in enumerate(races)
    ]
    *single, best = one_by_one(kept)
    assert {cells[0] for cells in single} == {row.contender for peers in races for row in peers}
    for name, ran_in, faster, mean, *_, without in single:
        times = [[r.cpu_seconds for r in peers if r.contender == name and r.state == "timed"] for peers in races]
        ratios = [seconds[0] / 0.01 for seconds in times if seconds and seconds[0] is not None]
        assert ran_in == f"{len(ratios)} of {len(races)}" and int(faster) == sum(r > 1 for r in ratios)
        assert mean == (f"{math.prod(ratios) ** (1 / len(ratios)):.2f}" if ratios else "-")
        assert without == ", ".join(f"w{k}" for k, seconds in enumerate(times) if not seconds)
    partly = [f"w{k}" for k, peers in enumerate(races) if any(r.state != "timed" for r in peers)]
    assert best[-1] == (f"not all of them in {', '.join(partly)}" if partly else "")
    assert best[1] == f"{sum(any(r.state == 'timed' for r in peers) for peers in races)} of {len(races)}"


def test_a_peer_that_was_not_asked_is_not_compared() -> None:
    found = comparison("w", timed("polyfuse", 2.0), timed("openvino", 3.0))
    kept = Kept("w", PeerReport({}, (found,)), "polyfuse", ("openvino", "ncnn"))
    assert peer_cells(kept) == ("openvino", "ncnn not asked")
    assert one_by_one([kept])[-1][-1] == "not all of them in w"


def test_polyfuse_that_was_not_timed_beats_nobody() -> None:
    found = comparison("w", PeerRow("polyfuse plan", "wrong", "wrong result"), timed("openvino", 3.0))
    kept = Kept("w", PeerReport({}, (found,)), "polyfuse plan")
    assert best_peer_cells(kept) == ("openvino", "-")
    assert one_by_one([kept])[-1][1:4] == ("0 of 1", "0", "-")
    assert "best peer" not in printed(found) and "peers that ran: openvino" in printed(found)


@pytest.mark.parametrize("mode", ["crash", "crash_later", "error", "wrong", "nan", "names", "times", "nothing"])
def test_a_fake_peer_that_fails_is_not_counted_as_beaten(mode: str, tmp_path: Path) -> None:
    net = pair()
    value = run(net, random_inputs(net, 0))["conv2_out"].astype(np.float32)
    np.savez(tmp_path / "right.npz", conv2_out=value)

    def command(contender: Contender, cores: Sequence[int]) -> list[str]:
        return [sys.executable, str(FAKE), contender.module, str(tmp_path)]

    contenders = [Contender("polyfuse", "right"), Contender("good", "slow"), Contender("bad", mode)]
    found = race(net, contenders, machine(), RaceRules(repeats=2, start_seconds=20, run_seconds=20), command=command)
    assert [row.contender for row in found.peers_that_ran] == ["good"]
    (bad,) = found.peers_that_did_not
    assert bad.contender == "bad" and bad.state in ("failed", "wrong") and bad.message
    kept = Kept("net", PeerReport({}, (found,)), "polyfuse")
    assert best_peer_cells(kept) == ("good", "2.00")
    assert peer_cells(kept) == ("good", bad.in_words)
    assert f"peers that ran: good; not compared: {bad.in_words}" in printed(found)
    assert any(bad.message in cells for cells in contender_rows(kept))
    again = PeerReport.from_json(PeerReport({}, (found,)).to_json()).comparisons[0]
    assert again.peers_that_did_not == (bad,)


def test_a_bar_in_a_message_does_not_end_a_cell() -> None:
    assert markdown(("a", "b"), [("x|y", "z")])[-1] == r"| x\|y | z |"


MEASURED = Path(__file__).parents[2] / "docs" / "measured"


def tables(page: str) -> list[list[dict[str, str]]]:
    """The tables of a page, row by row."""
    found = []
    for block in re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE):
        head, _, *rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in block.splitlines()]
        found.append([dict(zip(head, row, strict=True)) for row in rows])
    return found


@pytest.mark.parametrize("page", ["network-benchmarks.md", "fast-benchmarks.md"])
def test_each_row_of_a_page_names_who_ran_and_who_did_not(page: str) -> None:
    rows = [row for table in tables((MEASURED / page).read_text()) for row in table]
    claims = [row for row in rows if "best peer" in row]
    assert claims
    for row in claims:
        assert set(PEER_COLUMNS) <= row.keys() and row["measured"]
        assert row["best peer"] in row["peers that ran"].split(", ")
        assert not any(row["best peer"] in other for other in row["not compared"].split(", "))
    (alone,) = [table for table in tables((MEASURED / page).read_text()) if set(ALONE_COLUMNS) <= table[0].keys()]
    assert [row["peer"] for row in alone][-1] == "the best of those that ran"


@pytest.mark.parametrize("folder", ["networks", "fast"])
def test_pages_say_what_the_kept_races_say(folder: str) -> None:
    page = (MEASURED / {"networks": "network-benchmarks.md", "fast": "fast-benchmarks.md"}[folder]).read_text()
    claims = [row for table in tables(page) for row in table if "best peer" in row]
    files = [path for path in (MEASURED / folder).glob("*.json") if "comparisons" in json.loads(path.read_text())]
    assert len(claims) == len(files)
    ran = sorted(
        ", ".join(row.contender for row in PeerReport.from_json(path.read_text()).comparisons[0].peers_that_ran)
        for path in files
    )
    assert sorted(row["peers that ran"] for row in claims) == ran


def test_every_peer_of_the_table_can_be_named() -> None:
    assert tuple(peer.name for peer in PEERS) == NAMES
