"""Results as JSON: what goes in comes out, and anything else is refused where it is wrong."""

import json
import math
import os
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyfuse.bench.results import COUNTED, Comparison, Row, read_comparison
from polyfuse.errors import InvalidInput
from tests.bench.example import example, row

GOLDEN = """\
{
  "format": "polyfuse-comparison",
  "version": 1,
  "workload": "one",
  "machine": {
    "cpu": "Example"
  },
  "compiler": "gcc 12",
  "flags": [
    "-O3"
  ],
  "rows": [
    {
      "strategy": "local",
      "placement": "first",
      "retention": {
        "conv1_out": [
          "local"
        ]
      },
      "tile": [
        8
      ],
      "instances": 580,
      "executions": 580,
      "macs": 5220,
      "macs_executed": 5220,
      "recomputed": 0,
      "halo": {
        "conv1_out": [
          2
        ],
        "x": [
          4
        ]
      },
      "onchip_bytes": 1296,
      "offchip_read_bytes": 1600,
      "offchip_write_bytes": 1024,
      "buffer_bytes": 2592,
      "workspace_bytes": 0,
      "loops": 14,
      "branches": 0,
      "counted": {
        "executions": 580,
        "macs_executed": 5220,
        "onchip_bytes": 1296,
        "offchip_read_bytes": 1600,
        "offchip_write_bytes": 1024,
        "buffer_bytes": 2592,
        "workspace_bytes": 0
      },
      "seconds_median": null,
      "seconds_min": null,
      "ratio_to_unfused": null,
      "max_rel_error": null,
      "threads": 1,
      "axes": []
    }
  ]
}
"""


def one() -> Comparison:
    only = row("local", (8,), placement="first", retention=("local",), seconds=None)
    return Comparison("one", {"cpu": "Example"}, "gcc 12", ("-O3",), (only,))


def edited(path: str, value: object) -> str:
    """The golden JSON with the value at a path such as "rows.0.tile" replaced."""
    document: Any = json.loads(GOLDEN)
    place = document
    *steps, last = [int(step) if step.isdigit() else step for step in path.split(".")]
    for step in steps:
        place = place[step]
    place[last] = value
    return json.dumps(document)


def test_json_is_the_documented_one() -> None:
    assert one().to_json() == GOLDEN


def test_files_from_before_tiles_cut_any_axis_are_read() -> None:
    older = GOLDEN.replace(',\n      "axes": []', "")
    assert older != GOLDEN and Comparison.from_json(older) == Comparison.from_json(GOLDEN)


def test_json_comes_back() -> None:
    assert Comparison.from_json(GOLDEN) == one()
    assert Comparison.from_json(example().to_json()) == example()


numbers = st.none() | st.floats(allow_nan=False)


@given(seconds=numbers, error=numbers, tile=st.lists(st.integers(1), max_size=3), name=st.text())
def test_every_value_comes_back(seconds: float | None, error: float | None, tile: list[int], name: str) -> None:
    changed = replace(
        row("recompute", tuple(tile)), seconds_median=seconds, max_rel_error=error, counted=None, halo={name: ()}
    )
    comparison = replace(one(), workload=name, rows=(changed,))
    assert Comparison.from_json(comparison.to_json()) == comparison


def test_nan_is_kept_in_strict_json() -> None:
    text = replace(one(), rows=(replace(one().rows[0], max_rel_error=math.nan),)).to_json()
    assert '"max_rel_error": "nan"' in text
    (back,) = Comparison.from_json(text).rows
    assert back.max_rel_error is not None
    assert math.isnan(back.max_rel_error)


def test_file_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text("what was there before")
    example().write_json(path)
    assert read_comparison(path) == example()
    assert list(tmp_path.iterdir()) == [path]


def test_mismatches_are_the_counts_that_differ() -> None:
    assert row("local", (8, 8)).mismatches == []
    assert row("local", (8, 8), wrong={"offchip_read_bytes": 1, "executions": 2}).mismatches == [
        "executions",
        "offchip_read_bytes",
    ]
    assert replace(row("local", (8, 8)), counted=None).mismatches == []
    assert replace(row("local", (8, 8)), counted={"onchip_bytes": 7}).mismatches == ["onchip_bytes"]


def test_counted_keys_are_fields_of_a_row() -> None:
    assert set(COUNTED) <= {field.name for field in fields(Row)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"strategy": "fused"}, "strategy of unfused, recompute, local, global, mixed, tuned, got 'fused'"),
        ({"placement": "last"}, "placement of first, shifted, got 'last'"),
        ({"retention": {"t": ("far",)}}, "retention of 't' of recompute, local, global, got 'far'"),
        ({"counted": {"seconds": 1}}, "counted of executions, .*, got 'seconds'"),
        (
            {"recomputed": 581},
            r"8x8 recompute.*expected 0 to 580 recomputed of 580 executions of 580 instances, got 581",
        ),
        ({"loops": -1}, "loops of at least 0, got -1"),
    ],
)
def test_row_that_contradicts_itself_is_rejected(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        replace(row("recompute", (8, 8)), **changes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "comparison: expected JSON, got: Expecting value"),
        (GOLDEN[:100], "expected JSON"),
        ("[]", "comparison: expected an object, got list; is it a comparison?"),
        ("{}", "expected format 'polyfuse-comparison' version 1, got None"),
        (GOLDEN.replace('"max_rel_error": null', '"max_rel_error": NaN'), "NaN is no JSON number"),
        (edited("version", 2), "version 1, got 'polyfuse-comparison' 2"),
        (edited("extra", 2), "comparison: expected the keys workload, .*, got an unknown 'extra'"),
        (edited("rows", {}), r"comparison\.rows: expected a list, got \{\}"),
        (edited("rows.0", {}), r"rows\[0\]: expected the keys strategy, .*, got no 'branches'"),
        (edited("rows.0.tile", [8, "8"]), r"rows\[0\]\.tile\[1\]: expected a whole number, got \"8\""),
        (edited("rows.0.loops", True), r"rows\[0\]\.loops: expected a whole number, got true"),
        (edited("rows.0.halo.x", None), r"rows\[0\]\.halo\.x: expected a list, got null"),
        (edited("rows.0.seconds_min", "fast"), r"rows\[0\]\.seconds_min: expected a number, got \"fast\""),
        (edited("rows.0.seconds_min", 10**400), r"seconds_min: expected a number below 1e308"),
        (edited("two\nlines", 2), r"got an unknown 'two\\nlines'"),
        (edited("rows.0.strategy", "fused"), r"rows\[0\]: row: expected a strategy"),
    ],
)
def test_other_json_is_rejected(text: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message) as caught:
        Comparison.from_json(text)
    assert "\n" not in str(caught.value)
    assert "; " in str(caught.value)


@pytest.mark.parametrize("name", ["missing/result.json", "file/result.json", "folder", "pipe"])
def test_path_that_cannot_be_written_is_rejected(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InvalidInput, match=f"output '{tmp_path / name}': expected a (file|folder)"):
        one().write_json(tmp_path / name)
    assert (tmp_path / "pipe").is_fifo()


def test_full_disk_leaves_the_file_that_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "result.json"
    path.write_text("what was there before")
    monkeypatch.setattr("os.replace", refuse)
    with pytest.raises(InvalidInput, match="No space left on device"):
        one().write_json(path)
    assert path.read_text() == "what was there before"
    assert list(tmp_path.iterdir()) == [path]


def test_file_that_cannot_be_read_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="No such file"):
        read_comparison(tmp_path / "result.json")
    (tmp_path / "bytes").write_bytes(b"\xff")
    with pytest.raises(InvalidInput, match="no UTF-8"):
        read_comparison(tmp_path / "bytes")
