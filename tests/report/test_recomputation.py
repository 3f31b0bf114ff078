"""The picture of recomputation: a line for each size, in percent of what is needed."""

from pathlib import Path

import pytest

from polyfuse.report.recomputation import plot_recomputation, recomputation_figure
from polyfuse.schedule.tilesizes import Recomputation

CURVES = (
    Recomputation("net", 2, 64, 200, (2, 4, 8), (400, 300, 210)),
    Recomputation("net", 2, 256, 1000, (2, 4, 8), (2500, 1500, 1100)),
)


def test_lines_are_percent_of_what_is_needed(tmp_path: Path) -> None:
    (axes,) = recomputation_figure(CURVES).axes
    assert [list(line.get_xdata()) for line in axes.lines] == [[2, 4, 8]] * 2
    assert [list(line.get_ydata()) for line in axes.lines] == [
        pytest.approx([100, 50, 5]),
        pytest.approx([150, 50, 10]),
    ]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["64", "256"]
    assert (axes.get_xlabel(), axes.get_ylim()[0]) == ("rows and columns of a tile", 0)
    plot_recomputation(CURVES, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
