"""A comparison as a picture: time and off-chip bytes over tile size.

Enters: a `Comparison` and a path. Leaves: a PNG or SVG file there. Nothing global of matplotlib is touched.
"""

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from polyfuse.bench.results import STRATEGIES, Comparison, Row
from polyfuse.choices import PICTURES
from polyfuse.errors import InvalidInput
from polyfuse.files import write_atomically
from polyfuse.report.format import TIME_UNITS, byte_unit
from polyfuse.text import tile_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INCHES = (9.0, 4.6)
_DOTS_PER_INCH = 150
# Okabe and Ito's palette, which people of any colour vision tell apart; marks and dashes say the same again.
_COLOURS = dict(zip(STRATEGIES, ("#000000", "#E69F00", "#0072B2", "#009E73", "#CC79A7", "#D55E00"), strict=True))
_MARKERS = dict(zip(STRATEGIES, ("x", "o", "s", "^", "D", "*"), strict=True))
_MORE_MARKERS = "vP*<>"
_DASHES: dict[str | None, str] = {None: "-", "first": ":", "shifted": "-"}
_SIDESTEP = 0.07


@dataclass(frozen=True)
class _Line:
    """What makes a line of a panel; the label has retention and threads where they tell lines apart."""

    strategy: str
    placement: str | None
    label: str


def plot(comparison: Comparison, path: Path) -> None:
    """Write the picture, as PNG or SVG by the suffix of `path`.

    Two panels over the tile sizes in the order of the rows, a line for each strategy and placement; unfused and
    untiled is a dashed level.

    Errors: InvalidInput for another suffix, for no rows and for a path that cannot be written.
    """
    check_picture(path)
    if not comparison.rows:
        raise InvalidInput(f"plot '{path}': expected a comparison with rows, got none; run one first")
    write_picture(_figure(comparison), path)


def check_picture(path: Path) -> None:
    """Refuse a file whose name says no kind of picture. Errors: InvalidInput."""
    if path.suffix.lower() not in PICTURES:
        raise InvalidInput(f"plot '{path}': expected a name that ends in {' or '.join(PICTURES)}; rename it")


def write_picture(figure: "Figure", path: Path) -> None:
    """Write a figure, as PNG or SVG by the suffix of `path`, without the date. Errors: as `write_atomically`."""
    kind, picture = path.suffix.lower()[1:], io.BytesIO()
    figure.savefig(picture, format=kind, dpi=_DOTS_PER_INCH, metadata={"Date": None} if kind == "svg" else None)
    write_atomically(path, picture.getvalue())


def drawing(width: float, height: float, columns: int = 1) -> tuple["Figure", list["Axes"]]:
    """A figure of so many inches, and its axes side by side, open above and on the right."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    (panels,) = figure.subplots(1, columns, squeeze=False)
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
    return figure, list(panels)


def _figure(comparison: Comparison) -> "Figure":
    rows = comparison.rows
    figure, (time_axes, byte_axes) = drawing(*_INCHES, 2)
    second, second_unit = _time_unit(rows)
    byte, byte_name = byte_unit(_offchip_bytes(row) for row in rows)
    _panel(time_axes, rows, lambda row: None if row.seconds_median is None else row.seconds_median / second)
    _panel(byte_axes, rows, lambda row: _offchip_bytes(row) / byte)
    time_axes.set_title("time, median")
    time_axes.set_ylabel(second_unit)
    byte_axes.set_title("off-chip bytes, read and written")
    byte_axes.set_ylabel(byte_name)
    cpu = comparison.machine.get("cpu")
    figure.suptitle(plain(comparison.workload + (f" on {cpu}" if cpu else "")))
    handles, labels = byte_axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(3, len(labels)), frameon=False)
    return figure


def _panel(axes: "Axes", rows: tuple[Row, ...], value: Callable[[Row], float | None]) -> None:
    """Draw the lines, each a little aside, so that equal values of two strategies are both seen."""
    tiles = list(dict.fromkeys((row.tile, row.axes) for row in rows if not _is_level(row)))
    levels = {_line(row, rows): value(row) for row in rows if _is_level(row)}
    for line, level in levels.items():
        if level is not None:
            axes.axhline(level, color=_COLOURS[line.strategy], linestyle="--", linewidth=1.2, label=line.label)
    lines = list(dict.fromkeys(_line(row, rows) for row in rows if not _is_level(row)))
    for index, line in enumerate(lines):
        heights = {(row.tile, row.axes): value(row) for row in rows if not _is_level(row) and _line(row, rows) == line}
        shift = min(_SIDESTEP, 0.8 / len(lines)) * (index - (len(lines) - 1) / 2)
        alike = sum((other.strategy, other.placement) == (line.strategy, line.placement) for other in lines[:index])
        axes.plot(
            [tiles.index(tile) + shift for tile in heights],
            [math.nan if height is None else height for height in heights.values()],
            label=line.label,
            color=_COLOURS[line.strategy],
            marker=(_MARKERS[line.strategy] + _MORE_MARKERS)[alike % (1 + len(_MORE_MARKERS))],
            linestyle=_DASHES[line.placement],
            fillstyle="none" if line.placement == "first" else "full",
        )
    if all(value(row) is None for row in rows):
        axes.text(0.5, 0.5, "not measured", ha="center", va="center", transform=axes.transAxes)
    _decorate(axes, tiles)


def _decorate(axes: "Axes", tiles: list[tuple[tuple[int, ...], tuple[str, ...]]]) -> None:
    axes.set_xticks(range(len(tiles)), [tile_label(*tile) for tile in tiles], rotation=0 if len(tiles) <= 6 else 45)
    axes.set_xlim(-0.5, max(len(tiles), 1) - 0.5)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("tile of the output")
    axes.grid(axis="y", linewidth=0.4, alpha=0.6)


def _line(row: Row, rows: tuple[Row, ...]) -> _Line:
    words = [row.name]
    if row.placement is not None:
        words.append(f"({row.placement})")
    if len({other.threads for other in rows}) > 1:
        words.append(f"{row.threads} thread{'s' if row.threads > 1 else ''}")
    return _Line(row.strategy, row.placement, plain(" ".join(words)))


def _is_level(row: Row) -> bool:
    return row.strategy == "unfused" and not row.tile


def _offchip_bytes(row: Row) -> int:
    return row.offchip_read_bytes + row.offchip_write_bytes


def _time_unit(rows: tuple[Row, ...]) -> tuple[float, str]:
    longest = max((row.seconds_median for row in rows if row.seconds_median is not None), default=1.0)
    return next(((size, unit) for size, unit in TIME_UNITS if longest >= size), TIME_UNITS[-1])


def plain(text: str) -> str:
    """The text as it is: matplotlib reads what stands between dollar signs as mathematics."""
    return text.replace("$", r"\$")
