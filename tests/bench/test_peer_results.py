"""The JSON of comparisons with peers."""

import json
from pathlib import Path

import pytest

from polyfuse.bench.peers.results import PeerReport, PeerRow
from polyfuse.errors import InvalidInput
from tests.bench.peers_example import comparison, report


def test_json_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "peers.json"
    report().write_json(path)
    assert PeerReport.from_json(path.read_text()) == report()
    assert list(json.loads(path.read_text()))[:2] == ["format", "version"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("polyfuse-peers", "polyfuse-machine", "expected format 'polyfuse-peers' version 1, got 'polyfuse-machine'"),
        ('"version": 1,', '"version": 9,', "version 1, got 'polyfuse-peers' 9; write it again"),
        ('"state": "failed"', '"state": "fine"', "expected a state of timed, wrong, failed, missing, got 'fine'"),
        ('"clock"', '"watch"', "unknown 'watch'"),
        ('"rows": [', '"rows": [7,', r"rows\[0\]: expected an object, got 7"),
        ("{", "", "expected JSON"),
    ],
)
def test_other_json_is_refused(old: str, new: str, message: str) -> None:
    text = report().to_json()
    assert old in text
    with pytest.raises(InvalidInput, match=message):
        PeerReport.from_json(text.replace(old, new, 1))


def test_ratios_follow_from_times() -> None:
    found = comparison()
    polyfuse, onnxruntime, missing, *_ = found.rows
    assert found.bound_seconds == pytest.approx(0.01)
    assert found.gflop_per_second(polyfuse) == pytest.approx(80.0)
    assert found.ratio_to_best(onnxruntime) == pytest.approx(1.6)
    assert found.ratio_to_bound(onnxruntime) == pytest.approx(2.0)
    assert found.seconds(missing) is found.gflop_per_second(missing) is found.ratio_to_best(missing) is None


def test_objects_print_as_tables() -> None:
    lines = str(comparison()).splitlines()
    assert lines[0] == "pair: CPU time" and lines[2].split() == ["polyfuse", "local", "12.5", "1.00", "2e-07"]
    assert "<td>polyfuse local</td>" in comparison()._repr_html_()
    with pytest.raises(InvalidInput, match="expected a state"):
        PeerRow("x", "ill")
