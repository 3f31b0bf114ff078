"""The picture: formats, what is drawn, and that matplotlib is left as it was."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import matplotlib
import pytest
from matplotlib.figure import Figure

from polyfuse.bench.results import Comparison
from polyfuse.errors import InvalidInput
from polyfuse.report import plot as plot_module
from polyfuse.report.plot import plot
from tests.bench.example import example, row


def figure_of(comparison: Comparison) -> Figure:
    figure = plot_module._figure(comparison)
    figure.draw_without_rendering()
    return figure


def labels(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


@pytest.mark.parametrize(("name", "start"), [("a.png", b"\x89PNG"), ("a.svg", b"<?xml"), ("a.PNG", b"\x89PNG")])
def test_format_follows_the_suffix(tmp_path: Path, name: str, start: bytes) -> None:
    plot(example(), tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(start)


def test_lines_are_strategies_and_unfused_is_a_level() -> None:
    figure = figure_of(example())
    assert labels(figure) == [
        "unfused",
        "recompute",
        "local (first)",
        "local (shifted)",
        "global (shifted)",
        "mixed LR (shifted)",
    ]
    time_axes, byte_axes = figure.axes
    level = next(line for line in time_axes.lines if line.get_label() == "unfused")
    assert list(level.get_ydata()) == pytest.approx([12, 12])
    assert level.get_linestyle() == "--"
    (recompute,) = (line for line in byte_axes.lines if line.get_label() == "recompute")
    assert list(recompute.get_ydata()) == pytest.approx([2624 / 1024] * 3)
    assert [label.get_text() for label in time_axes.get_xticklabels()] == ["4x4", "8x8", "72x60"]
    assert (time_axes.get_ylabel(), byte_axes.get_ylabel()) == ("µs", "KiB")


def test_values_start_at_zero_and_the_legend_covers_nothing() -> None:
    figure = figure_of(example())
    legend = figure.legends[0].get_window_extent()
    for axes in figure.axes:
        assert axes.get_ylim()[0] == 0
        assert not legend.overlaps(axes.get_tightbbox())


def test_mixed_strategies_are_told_apart() -> None:
    rows = [replace(row("mixed", (8, 8)), retention={"a": choice}) for choice in (("local",), ("global",))]
    figure = figure_of(replace(example(), rows=tuple(rows)))
    assert labels(figure) == ["mixed L", "mixed G"]
    assert len({line.get_marker() for line in figure.axes[0].lines}) == 2


def test_comparison_without_times_says_so() -> None:
    figure = figure_of(replace(example(), rows=(row("local", (8, 8), seconds=None),)))
    assert [text.get_text() for text in figure.axes[0].texts] == ["not measured"]
    assert not figure.axes[1].texts


def test_names_are_not_read_as_mathematics(tmp_path: Path) -> None:
    plot(replace(example(), workload="net$x^$"), tmp_path / "a.png")


def test_nothing_global_changes(tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    plot(example(), tmp_path / "a.svg")
    assert dict(matplotlib.rcParams) == before


def test_matplotlib_waits_until_it_is_needed_and_pyplot_never_comes(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path\n"
        "from polyfuse.report.plot import plot\n"
        "from tests.bench.example import example\n"
        "assert 'matplotlib' not in sys.modules\n"
        "plot(example(), Path(sys.argv[1]))\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "a.png")], cwd=root, check=True)


@pytest.mark.parametrize("name", ["a.pdf", "a", "png"])
def test_other_suffix_is_rejected(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInput, match=r"ends in \.png or \.svg; rename"):
        plot(example(), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_comparison_without_rows_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="with rows, got none"):
        plot(replace(example(), rows=()), tmp_path / "a.png")


def test_missing_folder_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="No such file or directory; make the folder"):
        plot(example(), tmp_path / "missing" / "a.png")
