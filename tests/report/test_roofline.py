"""The roofline: formats, and what is drawn."""

from dataclasses import replace
from pathlib import Path

import matplotlib
import pytest

from polyfuse.errors import InvalidInput
from polyfuse.report import roofline
from polyfuse.report.roofline import plot_peers
from tests.bench.peers_example import comparison, timed


@pytest.mark.parametrize(("name", "start"), [("a.png", b"\x89PNG"), ("a.svg", b"<?xml")])
def test_format_follows_the_suffix(tmp_path: Path, name: str, start: bytes) -> None:
    before = dict(matplotlib.rcParams)
    plot_peers([comparison()], tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(start)
    assert dict(matplotlib.rcParams) == before


def test_every_timed_contender_is_a_point_of_every_workload() -> None:
    other = replace(comparison("$other", timed("onnxruntime", 4.0)), flops=2 * 10**9, level="DRAM")
    figure = roofline._figure([comparison(), other])
    figure.draw_without_rendering()
    (axes,) = figure.axes
    points = {
        line.get_label(): list(zip(*line.get_data(), strict=True)) for line in axes.lines if line.get_marker() != "None"
    }
    assert points["polyfuse local"] == [pytest.approx((250.0, 80.0))]
    assert points["onnxruntime"] == [pytest.approx((250.0, 50.0)), pytest.approx((500.0, 500.0))]
    assert set(points) == {"polyfuse local", "onnxruntime"}
    texts = [text.get_text() for text in axes.texts]
    assert any("peak 100 GFLOP/s" in text for text in texts)
    assert any("DRAM 50 GB/s" in text for text in texts) and any("L3 50 GB/s" in text for text in texts)
    low, high = axes.get_ylim()
    assert low < 50 and high > 500


@pytest.mark.parametrize("found", [[], [replace(comparison(), flops=0)], [replace(comparison(), rows=())]])
def test_nothing_to_draw_is_one_line(tmp_path: Path, found: list[object]) -> None:
    with pytest.raises(InvalidInput, match="expected a workload with multiply-accumulates and times"):
        plot_peers(found, tmp_path / "a.png")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match=r"ends in \.png or \.svg"):
        plot_peers([comparison()], tmp_path / "a.pdf")
    assert list(tmp_path.iterdir()) == []
