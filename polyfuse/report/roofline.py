"""Comparisons with peers as a picture: each contender under the roof of the machine.

Enters: `PeerComparison`s and a path. Leaves: a PNG or SVG file there. Nothing global of matplotlib is touched.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from polyfuse.bench.peers.results import PeerComparison
from polyfuse.errors import InvalidInput
from polyfuse.report.format import significant
from polyfuse.report.plot import check_picture, drawing, plain, write_picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INCHES = (9.0, 6.2)
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000", "#999999")
_MARKERS = "osD^vP*X"
_ROOF = "#444444"
_NAME_WIDTH = 0.025


def plot_peers(comparisons: Sequence[PeerComparison], path: Path) -> None:
    """Write the roofline, as PNG or SVG by the suffix of `path`: a column of points for each workload.

    A point that is not direct convolution may lie above the roof.

    Errors: InvalidInput for another suffix, where there is nothing to draw, and for a path that cannot be written.
    """
    check_picture(path)
    drawn = [comparison for comparison in comparisons if comparison.flops and comparison.timed]
    if not drawn:
        raise InvalidInput(f"plot '{path}': expected a workload with multiply-accumulates and times, got none")
    write_picture(_figure(drawn), path)


def intensity(comparison: PeerComparison) -> float:
    """Operations of the direct algorithm for each compulsory byte."""
    return comparison.flops / comparison.compulsory_bytes


def _figure(comparisons: Sequence[PeerComparison]) -> "Figure":
    figure, (axes,) = drawing(*_INCHES)
    axes.set_xscale("log")
    axes.set_yscale("log")
    _points(axes, comparisons)
    _roofs(axes, comparisons)
    axes.set_xlabel("operations of the direct algorithm for each compulsory byte")
    axes.set_ylabel("GFLOP/s of the direct algorithm")
    axes.grid(which="both", linewidth=0.3, alpha=0.6)
    first = comparisons[0]
    threads = "1 thread" if first.threads == 1 else f"{first.threads} threads"
    figure.suptitle(f"{threads}, {first.clock}")
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False)
    return figure


def _points(axes: "Axes", comparisons: Sequence[PeerComparison]) -> None:
    """A marker for each contender, in the same colour everywhere."""
    names = list(dict.fromkeys(row.contender for comparison in comparisons for row in comparison.rows))
    names = [name for name in names if any(name == row.contender for each in comparisons for row in each.timed)]
    for index, name in enumerate(names):
        places = [
            (intensity(comparison), comparison.gflop_per_second(row) or 0.0)
            for comparison in comparisons
            for row in comparison.timed
            if row.contender == name
        ]
        axes.plot(
            [x for x, _ in places],
            [y for _, y in places],
            linestyle="",
            marker=_MARKERS[index % len(_MARKERS)],
            color=_COLOURS[index % len(_COLOURS)],
            markersize=7,
            alpha=0.85,
            zorder=3,
            label=plain(name),
        )


def _roofs(axes: "Axes", comparisons: Sequence[PeerComparison]) -> None:
    """The peak, and the bandwidth of each level that a workload comes from."""
    peak = max(comparison.peak_gflop_per_second for comparison in comparisons)
    where = [intensity(comparison) for comparison in comparisons]
    bandwidths = {comparison.level: comparison.bandwidth_gb_per_second for comparison in comparisons}
    rates = [comparison.gflop_per_second(row) or peak for comparison in comparisons for row in comparison.timed]
    corners = [peak / rate for rate in bandwidths.values()]
    left, right = min(*where, *corners) / 2, max(*where, *corners) * 2
    low, high = min(*rates, peak) / 2, max(*rates, peak) * 1.6
    axes.axhline(peak, color=_ROOF, linewidth=1.4)
    axes.text(max(corners), peak * 1.03, f"peak {significant(peak, 3)} GFLOP/s", va="bottom", color=_ROOF, fontsize=8)
    for level, rate in bandwidths.items():
        ends = np.array([left, peak / rate])
        axes.plot(ends, ends * rate, color=_ROOF, linewidth=1.4)
        x = max(left, low / rate) * 1.15
        axes.text(
            x,
            x * rate * 1.12,
            f"{level} {significant(rate, 3)} GB/s",
            rotation=math.degrees(math.atan2(rate, 1.0)),
            rotation_mode="anchor",
            transform_rotates_text=True,
            fontsize=8,
            color=_ROOF,
        )
    axes.set_xlim(left, right)
    axes.set_ylim(low, high)
    _names(axes, comparisons, where)


def _names(axes: "Axes", comparisons: Sequence[PeerComparison], where: Sequence[float]) -> None:
    """The names of workloads above the axes, over their points, and aside where they would cover each other."""
    left, right = (math.log(limit) for limit in axes.get_xlim())
    after = 0.0
    for x, comparison in sorted(zip(where, comparisons, strict=True), key=lambda pair: pair[0]):
        place = max((math.log(x) - left) / (right - left), after)
        after = place + _NAME_WIDTH
        axes.axvline(x, color=_ROOF, linewidth=0.4, linestyle=":")
        axes.annotate(
            plain(comparison.workload),
            (x, 1.0),
            xycoords=axes.get_xaxis_transform(),
            xytext=(place, 1.03),
            textcoords="axes fraction",
            rotation=60,
            ha="left",
            rotation_mode="anchor",
            fontsize=8,
            arrowprops={"arrowstyle": "-", "linewidth": 0.4, "color": _ROOF, "shrinkA": 0, "shrinkB": 0},
        )
