"""Experiments count what schedules count, in any executor, and go on from a file."""

import json
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

import pytest

import polyfuse as pf
from polyfuse.bench.experiments import FIGURES
from tests.schedule.networks import pair, same_chain

TILES = [(4,), (4, 4), (8, 8)]


class Killed(Exception):
    """What kills an experiment in these tests."""


class Counting(ThreadPoolExecutor):
    """A thread that counts what it is given, and fails from some task on."""

    def __init__(self, until: int = 1000) -> None:
        super().__init__(1)
        self.until, self.given = until, 0

    def submit(self, call: Any, /, *values: Any, **named: Any) -> Future[Any]:
        self.given += 1
        return super().submit(call if self.given <= self.until else self._fail, *values, **named)

    @staticmethod
    def _fail(*_: Any) -> None:
        raise Killed


def tried(chosen: Any, **more: Any) -> pf.Experiment:
    with Counting() as thread:
        return pf.experiment(pair(), chosen, executor=thread, **more)


def test_strategies_are_every_choice() -> None:
    every = pf.strategies(pair(), TILES)
    assert [(each.tile, each.others) for each in every] == [
        (tile, places) for tile in TILES for places in product(("recompute", "local"), repeat=len(tile))
    ]
    chain = same_chain(3, 12, 12)
    each = pf.strategies(chain, [(4,)], ("recompute", "local", "global"), per_tensor=True)
    kept = [tuple(strategy.retention.values()) for strategy in each]
    assert kept == [((a,), (b,)) for a in ("recompute", "local", "global") for b in ("recompute", "local", "global")]
    assert list(each[0].retention) == ["c0_out", "c1_out"] and each[0].others == ("recompute",)


def test_trials_are_what_schedules_count() -> None:
    chosen = pf.strategies(pair(), TILES, ("recompute", "local", "global"))
    found = tried(chosen, costs={"energy": lambda counts: 100 * counts.offchip_bytes + counts.macs_executed})
    assert [trial.strategy for trial in found.trials] == list(chosen)
    for trial in found.trials:
        counts = pf.counts(pf.fused(pair(), trial.strategy)[0])
        assert trial.figures == {name: getattr(counts, name) for name in FIGURES} and trial.refusal is None
        assert trial.costs == {"energy": 100 * counts.offchip_bytes + counts.macs_executed}
    best = found.best("energy")
    assert best.costs["energy"] == min(trial.costs["energy"] for trial in found.trials)
    assert found.best("onchip_bytes").figures["onchip_bytes"] == min(t.figures["onchip_bytes"] for t in found.trials)


def test_processes_find_the_same() -> None:
    chosen = pf.strategies(pair(), [(8, 8)])
    steps: list[tuple[str, int, int]] = []
    found = pf.experiment(pair(), chosen, progress=lambda *step: steps.append(step))
    assert found == tried(chosen)
    assert steps == [("counting", done, 4) for done in range(5)]


def test_rows_are_flat_and_alike() -> None:
    per_tensor = pf.strategies(same_chain(2, 12, 12), [(4,)], per_tensor=True)
    with Counting() as thread:
        mixed = pf.experiment(same_chain(2, 12, 12), [*per_tensor, pf.Strategy((4,))], executor=thread)
    rows = mixed.rows()
    assert [row["retention_c0_out"] for row in rows] == ["recompute", "local", None]
    assert len({tuple(row) for row in rows}) == 1
    assert all(value is None or isinstance(value, str | int | float) for row in rows for value in row.values())
    json.dumps(rows)


def test_refused_strategies_say_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Any:
        raise pf.IllegalSchedule("a row too short")

    monkeypatch.setattr("polyfuse.bench.experiments.fused", refuse)
    found = tried(pf.strategies(pair(), [(4,)]), costs={"moved": lambda counts: counts.offchip_bytes})
    assert [trial.refusal for trial in found.trials] == ["a row too short"] * 2
    assert all(row["executions"] is None for row in found.rows())
    with pytest.raises(pf.InvalidInput, match="all 2 are refused"):
        found.best("moved")


def test_an_experiment_goes_on_from_its_file(tmp_path: Path) -> None:
    file, chosen = tmp_path / "found.json", pf.strategies(pair(), TILES)
    with Counting(until=3) as dying, pytest.raises(Killed):
        pf.experiment(pair(), chosen, executor=dying, file=file)
    with Counting() as thread:
        found = pf.experiment(pair(), chosen, executor=thread, file=file)
        assert thread.given == len(chosen) - 3 and found == tried(chosen)
        cost = {"moved": lambda counts: counts.offchip_bytes}
        again = pf.experiment(pair(), chosen[2:5], cost, executor=thread, file=file)
        assert thread.given == len(chosen) - 3
    assert [trial.figures for trial in again.trials] == [trial.figures for trial in found.trials[2:5]]
    assert [trial.costs["moved"] for trial in again.trials] == [
        trial.figures["offchip_read_bytes"] + trial.figures["offchip_write_bytes"] for trial in again.trials
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected JSON"),
        ('{"format": "polyfuse-comparison", "version": 1}', "expected format 'polyfuse-experiment' version 1, got"),
        ('{"format": "polyfuse-experiment", "version": 1, "more": 1}', "unknown 'more'"),
    ],
)
def test_a_file_that_is_no_experiment_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "found.json").write_text(text)
    with pytest.raises(pf.InvalidInput, match=message):
        tried(pf.strategies(pair(), [(4,)]), file=tmp_path / "found.json")


def test_a_file_of_another_network_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    tried(pf.strategies(pair(), [(4,)]), file=file)
    for other, message in ((same_chain(2, 20, 20), "network 'same', got 'pair'"), (pair(12), "got another")):
        with pytest.raises(pf.InvalidInput, match=message):
            pf.experiment(other, [pf.Strategy((4,))], file=file)


def test_what_is_wrong_is_said() -> None:
    with pytest.raises(pf.InvalidInput, match="expected at least one strategy"):
        tried([])
    with pytest.raises(pf.InvalidInput, match="larger than the output"):
        tried([pf.Strategy((64,))])
    with pytest.raises(pf.InvalidInput, match="cost 'macs' has the name of a column"):
        tried([pf.Strategy((4,))], costs={"macs": lambda counts: 1})
    with pytest.raises(pf.InvalidInput, match="expected a number from cost 'a', got 'x'"):
        tried([pf.Strategy((4,))], costs={"a": lambda counts: "x"})
    with pytest.raises(pf.InvalidInput, match="expected one of instances, "):
        tried([pf.Strategy((4,))]).best("speed")
    with pytest.raises(pf.InvalidInput, match="at least one tile and one place"):
        pf.strategies(pair(), [])
    with pytest.raises(pf.InvalidInput, match=r"at most 100,000, got 1,048,576"):
        pf.strategies(same_chain(11, 12, 12), [(4, 4)], per_tensor=True)


def test_pandas_reads_the_rows() -> None:
    pandas = pytest.importorskip("pandas")
    chosen = pf.strategies(pair(), TILES)
    table = pandas.DataFrame(tried(chosen).rows())
    assert len(table) == len(chosen) and table["executions"].min() > 0
