"""Recomputation over tile size as a picture.

Enters: `Recomputation`s of one network, for several sizes. Leaves: a PNG or SVG file.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from polyfuse.report.plot import plain, write_picture
from polyfuse.schedule.tilesizes import Recomputation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's palette, as in `polyfuse.report.plot`.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#000000")
_MARKERS = "os^Dv*"


def plot_recomputation(curves: Sequence[Recomputation], path: Path) -> None:
    """Write the picture, as PNG or SVG by the suffix of `path`. Errors: as `write_picture`."""
    write_picture(recomputation_figure(curves), path)


def recomputation_figure(curves: Sequence[Recomputation]) -> "Figure":
    """Recomputed executions, in percent of what has to be computed, over the tile size; a line for each image size."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 4.4), layout="constrained")
    axes = figure.subplots()
    for curve, colour, marker in zip(curves, _COLOURS, _MARKERS, strict=False):
        percent = [100 * (made - curve.instances) / curve.instances for made in curve.executions]
        axes.plot(curve.tiles, percent, label=str(curve.size), color=colour, marker=marker, markersize=4, linewidth=1.2)
    ticks = sorted({tile for curve in curves for tile in curve.tiles})
    axes.set_xscale("log", base=2)
    axes.set_xticks([tile for tile in ticks if tile & (tile - 1) == 0], minor=False)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("rows of a tile" if curves[0].rank == 1 else "rows and columns of a tile")
    axes.set_ylabel("recomputed, % of executions needed")
    axes.set_title(plain(f"{curves[0].network}: recomputation over tile size, from closed forms"))
    axes.grid(linewidth=0.4, alpha=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(title="size", frameon=False)
    return figure
