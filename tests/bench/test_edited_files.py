"""Files of measurements that somebody edited: what is derived has to be that of what was measured, and possible."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from polyfuse.bench import profiles
from polyfuse.bench.peers.results import PeerReport
from polyfuse.bench.profiles import Profiled, ProfileKey
from polyfuse.bench.results import Comparison
from polyfuse.deploy import tuned
from polyfuse.deploy.space import Choice
from polyfuse.deploy.tuned import Key, TunedEntry, read_tuned, tried
from polyfuse.errors import InvalidInput
from polyfuse.schedule.strategy import Strategy
from tests.bench.example import example
from tests.bench.peers_example import report

IMPOSSIBLE = ("nan", "inf", -1.0, 0.0)


def changed(document: dict[str, Any], *path: str | int, value: Any) -> str:
    """The text of a document with another value at a path."""
    copied = json.loads(json.dumps(document))
    at = copied
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return json.dumps(copied)


def test_a_ratio_is_that_of_the_times() -> None:
    document = json.loads(example().to_json())
    rows = [k for k, row in enumerate(document["rows"]) if row["ratio_to_unfused"] is not None]
    assert rows
    for index in rows:
        ratio = document["rows"][index]["ratio_to_unfused"]
        for value in (ratio * 0.5, ratio + 1e-6, "nan", -1.0):
            with pytest.raises(InvalidInput, match=rf"rows\[{index}\]: expected a ratio_to_unfused of"):
                Comparison.from_json(changed(document, "rows", index, "ratio_to_unfused", value=value))
        with pytest.raises(InvalidInput, match="expected a ratio_to_unfused of"):
            seconds = document["rows"][index]["seconds_median"] * 2
            Comparison.from_json(changed(document, "rows", index, "seconds_median", value=seconds))


@pytest.mark.parametrize("value", IMPOSSIBLE)
def test_times_and_rates_of_peers_are_possible(value: Any) -> None:
    document = json.loads(report().to_json())
    comparison = document["comparisons"][0]
    row = next(k for k, each in enumerate(comparison["rows"]) if each["state"] == "timed")
    for name in ("cpu_seconds", "wall_seconds"):
        text = changed(document, "comparisons", 0, "rows", row, name, value=value)
        with pytest.raises(InvalidInput, match=f"expected {name} above 0 and finite"):
            PeerReport.from_json(text)
    for name in ("peak_gflop_per_second", "bandwidth_gb_per_second"):
        with pytest.raises(InvalidInput, match=f"expected {name} above 0 and finite"):
            PeerReport.from_json(changed(document, "comparisons", 0, name, value=value))


@pytest.fixture
def tuned_file(tmp_path: Path) -> Callable[..., Path]:
    """A tuned file with one value changed."""

    def written(name: str, value: Any) -> Path:
        choice = Choice(Strategy((8, 8), ("local", "recompute"), {}, "shifted"), {"conv": 4})
        entry = TunedEntry(
            Key("cpu", "gcc", (), "0", "1", 1, "nchw", "any"), "net", (tried(choice, 1.0, 2.0, 3.0, 5, 0.0),)
        )
        file = tmp_path / "tuned.json"
        file.unlink(missing_ok=True)
        tuned.FILE.at(file).add(entry)
        assert read_tuned(file) == (entry,)
        file.write_text(changed(json.loads(file.read_text()), "entries", 0, "tried", 0, name, value=value))
        return file

    return written


@pytest.mark.parametrize("name", ["seconds", "unfused_seconds", "samples", "predicted_seconds", "max_rel_error"])
@pytest.mark.parametrize("value", [-1, "nan"])
def test_what_was_tuned_is_possible(tuned_file: Callable[..., Path], name: str, value: Any) -> None:
    with pytest.raises(InvalidInput, match=r"tried '8x8|expected a whole number") as refused:
        read_tuned(tuned_file(name, value))
    assert name in str(refused.value) and "\n" not in str(refused.value)


def test_a_choice_is_called_what_it_is(tuned_file: Callable[..., Path]) -> None:
    for name, value in (("label", "unfused"), ("tile", [4, 4]), ("algorithms", {}), ("others", ["local", "local"])):
        with pytest.raises(InvalidInput, match="expected the label of its choice"):
            read_tuned(tuned_file(name, value))


@pytest.mark.parametrize("name", ["fused_seconds", "apart_seconds"])
def test_what_was_profiled_is_possible(tmp_path: Path, name: str) -> None:
    file = tmp_path / "profiles.json"
    known = Profiled(ProfileKey("cpu", "gcc", ("conv",), "relu"), 1.0, 2.0)
    profiles.FILE.at(file).add(known)
    assert profiles.FILE.at(file).read() == (known,)
    file.write_text(changed(json.loads(file.read_text()), "entries", 0, name, value="nan"))
    with pytest.raises(InvalidInput, match=f"expected {name} of 0 or more and finite, got nan"):
        profiles.FILE.at(file).read()
    with pytest.raises(InvalidInput, match=name):
        replace(known, **{name: -1.0})
