"""A plan for a scratchpad machine as pictures: memory over time, a timeline, traffic, memory against time and bytes.

Enters: a `ScratchPlan`, its groups in time, perhaps a `Sweep`. Leaves: `Picture`s, for a page or as PNG files. Nothing
global of matplotlib is touched.
"""

import io
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from polyfuse.plan.graph.operations import Graph
from polyfuse.plan.price.timeline import GroupTime, Lane
from polyfuse.plan.scratchplan import ScratchPlan, Totals
from polyfuse.plan.sweep import Sweep
from polyfuse.report.format import byte_unit, short_bytes, significant
from polyfuse.report.plot import drawing, plain
from polyfuse.report.scratchplan import heading, layers_text
from polyfuse.report.tilefigures import tile_figures

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DOTS_PER_INCH = 120
MOST_BARS = 32
MOST_SPANS = 1500
"""Spans of a lane that are closer than this part of its group are drawn as one."""
# Okabe and Ito's palette, which people of any colour vision tell apart.
KINDS = {"pinned": "#56B4E9", "ring": "#009E73", "weights": "#E69F00", "sums": "#BBBBBB"}
LANES: dict[Lane, str] = {"load": "#0072B2", "compute": "#444444", "store": "#D55E00"}
WAYS = {
    "layers": ("#999999", "x"),
    "fuse_weak": ("#E69F00", "v"),
    "fuse_strong": ("#D55E00", "^"),
    "pin": ("#CC79A7", "D"),
    "fuse_then_pin": ("#56B4E9", "s"),
    "fuse_then_pin_retiled": ("#009E73", "P"),
    "joint": ("#000000", "o"),
}


@dataclass(frozen=True, eq=False)
class Picture:
    """A figure with the name of its file, a title and what it shows."""

    name: str
    title: str
    caption: str
    figure: "Figure"

    @property
    def svg(self) -> str:
        """The figure as an SVG element, for a page."""
        text = io.StringIO()
        self.figure.savefig(text, format="svg", metadata={"Date": None})
        return text.getvalue()[text.getvalue().index("<svg") :]

    @property
    def png(self) -> bytes:
        """The figure as a PNG file."""
        data = io.BytesIO()
        self.figure.savefig(data, format="png", dpi=DOTS_PER_INCH)
        return data.getvalue()


def figures_of(plan: ScratchPlan, graph: Graph, times: Sequence[GroupTime], swept: Sweep | None) -> tuple[Picture, ...]:
    """The pictures of a plan; with a sweep, its curves too."""
    memory = (
        "Every buffer and pinned tensor at its address, for the groups that it lives in; groups run from left to right,"
        " above each is when it ends."
    )
    time = "Loads, computation and stores of each group, from its own start on; all groups have one scale."
    traffic = "Bytes that cross, by tensor, the most first."
    found = [
        Picture("memory", "Memory on chip", memory, memory_figure(plan, times)),
        Picture("timeline", "Time", time, timeline_figure(plan, times)),
        Picture("traffic", "Off-chip traffic", traffic, traffic_figure(plan, times)),
    ]
    if swept is not None and any(point.totals is not None for point in swept.points):
        curve = "What each way of planning takes over the on-chip memory there is."
        found.append(Picture("curve", "Memory against traffic and latency", curve, curve_figure(swept)))
    tiles = tile_figures(plan, graph, times)
    return (*found, *(Picture(f"tiles-{index}", title, caption, figure) for index, title, caption, figure in tiles))


def png_files(pictures: Sequence[Picture]) -> dict[str, bytes]:
    """The pictures as PNG files, by name."""
    return {f"{picture.name}.png": picture.png for picture in pictures}


def memory_figure(plan: ScratchPlan, times: Sequence[GroupTime]) -> "Figure":
    """Addresses over groups: a rectangle for each buffer and pin, named where there is room."""
    from matplotlib.patches import Patch, Rectangle

    count = len(plan.groups)
    figure, (axes,) = drawing(min(22.0, max(8.0, 2.0 + 0.85 * count)), 6.0)
    unit, name = byte_unit([plan.machine.capacity_bytes])
    wide, high = 72 * figure.get_figwidth() / (count + 1), 72 * 4.6 / plan.machine.capacity_bytes
    for lived, address in plan.buffers:
        title, kind = _named(lived.name)
        width = lived.last - lived.first + 1
        place, height = (lived.first, address / unit), lived.bytes / unit
        axes.add_patch(Rectangle(place, width, height, facecolor=KINDS[kind], edgecolor="white", linewidth=0.6))
        text = _shortened(title, width * wide)
        if lived.bytes * high > 7 and text:
            middle = (lived.first + width / 2, (address + lived.bytes / 2) / unit)
            axes.text(*middle, plain(text), ha="center", va="center", fontsize=6.5)
    limit = axes.axhline(plan.machine.capacity_bytes / unit, color="#AA0000", linewidth=1.2, label="capacity")
    axes.set_xlim(0, count)
    axes.set_ylim(0, plan.machine.capacity_bytes / unit * 1.02)
    axes.set_xticks(np.arange(count) + 0.5, [str(index) for index in range(count)])
    axes.set_xlabel("group")
    axes.set_ylabel(f"address, {name}")
    top = axes.secondary_xaxis("top")
    size, second = _time_unit(plan)
    top.set_xticks(
        range(1, count + 1),
        [significant(time.end * size, 3) for time in times],
        fontsize=7,
        rotation=45 if count > 16 else 0,
    )
    top.set_xlabel(second)
    patches = [Patch(color=colour, label=kind) for kind, colour in KINDS.items()]
    figure.legend(handles=[*patches, limit], loc="outside lower center", ncols=len(patches) + 1, frameon=False)
    figure.suptitle(plain(heading(plan)))
    return figure


def timeline_figure(plan: ScratchPlan, times: Sequence[GroupTime]) -> "Figure":
    """A row of three lanes for each group, from its start on."""
    count = len(times)
    figure, (axes,) = drawing(11.0, 1.5 + 0.42 * count)
    size, unit = _time_unit(plan)
    for row, time in enumerate(times):
        axes.axhspan(row - 0.42, row + 0.42, color="#F4F4F4", zorder=0)
        for lane, (work, colour) in enumerate(LANES.items()):
            spans = merged(time.spans[work] - [time.start, 0.0], time.cycles / MOST_SPANS) * size
            place = (row - 0.4 + lane * 0.27, 0.25)
            axes.broken_barh([tuple(span) for span in spans.tolist()], place, color=colour, linewidth=0, label=work)
        axes.text(time.cycles * size, row, f"  {time.bound}", va="center", fontsize=7, color="#666666")
    axes.set_yticks(
        range(count), [f"{k}  {plain(layers_text(group))}" for k, group in enumerate(plan.groups)], fontsize=8
    )
    axes.set_ylim(count - 0.5, -0.5)
    axes.set_xlim(0, max(time.cycles for time in times) * size * 1.08)
    axes.set_xlabel(f"{unit} from the start of the group; at its end, what bounds it")
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles[:3], labels[:3], loc="outside upper right", ncols=3, frameon=False)
    return figure


def merged(spans: NDArray[np.float64], least: float) -> NDArray[np.float64]:
    """Spans of (start, length) in order, those that are closer than `least` taken together.

    >>> merged(np.array([[0.0, 1.0], [1.5, 1.0], [9.0, 1.0]]), 1.0).tolist()
    [[0.0, 2.5], [9.0, 1.0]]
    """
    found: list[list[float]] = []
    for start, length in spans[np.argsort(spans[:, 0], kind="stable")].tolist():
        if found and start - sum(found[-1]) < least:
            found[-1][1] = max(sum(found[-1]), start + length) - found[-1][0]
        else:
            found.append([start, length])
    return np.array(found).reshape(-1, 2)


def traffic_figure(plan: ScratchPlan, times: Sequence[GroupTime]) -> "Figure":
    """Bars of bytes loaded and stored for each tensor, and the weights of each group."""
    loaded, stored = traffic_of(plan, times)
    names = sorted(loaded | stored, key=lambda name: -(loaded[name] + stored[name]))
    shown = names[:MOST_BARS]
    rest = names[MOST_BARS:]
    bars = [(name, loaded[name], stored[name]) for name in shown]
    if rest:
        bars.append((f"{len(rest)} others", sum(map(loaded.__getitem__, rest)), sum(map(stored.__getitem__, rest))))
    size, unit = byte_unit(load + store for _, load, store in bars)
    figure, (axes,) = drawing(9.0, 1.4 + 0.24 * len(bars))
    rows = np.arange(len(bars))
    loads, stores = (np.array([bar[k] for bar in bars]) / size for k in (1, 2))
    axes.barh(rows, loads, color=LANES["load"], label="loaded")
    axes.barh(rows, stores, left=loads, color=LANES["store"], label="stored")
    axes.set_yticks(rows, [plain(name) for name, _, _ in bars], fontsize=8)
    axes.set_ylim(len(bars) - 0.4, -0.6)
    axes.margins(x=0.03)
    axes.set_xlabel(unit)
    axes.legend(frameon=False, loc="lower right")
    return figure


def traffic_of(plan: ScratchPlan, times: Sequence[GroupTime]) -> tuple[Counter[str], Counter[str]]:
    """The bytes loaded and the bytes stored, by tensor; the weights of a group are one."""
    loaded, stored = Counter[str](), Counter[str]()
    for index, (group, time) in enumerate(zip(plan.groups, times, strict=True)):
        loaded.update(time.loaded)
        stored.update(time.stored)
        if time.weight_bytes:
            loaded[f"weights of {index}  {layers_text(group)}"] += time.weight_bytes
    return loaded, stored


def curve_figure(swept: Sweep) -> "Figure":
    """Bytes and cycles of every way of planning over the on-chip memory."""
    figure, (moved, latency) = drawing(11.0, 4.8, 2)
    found = [totals for point in swept.points for totals in point.baselines.values() if totals is not None]
    size, unit = byte_unit(totals.offchip_bytes.all for totals in found)
    for axes, title, value in (
        (moved, f"off-chip {unit}", lambda totals: totals.offchip_bytes.all / size),
        (latency, "million cycles", lambda totals: totals.latency_cycles / 1e6),
    ):
        _curves(axes, swept, value)
        axes.set_ylabel(title)
    handles, labels = moved.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    figure.suptitle(plain(f"{swept.request.network} in {swept.request.dtype} on {swept.request.machine.name}"))
    return figure


def _curves(axes: "Axes", swept: Sweep, value: Callable[[Totals], float]) -> None:
    for name, (colour, marker) in WAYS.items():
        places = [(p.capacity_bytes, p.baselines.get(name)) for p in swept.points]
        drawn = [(capacity, value(totals)) for capacity, totals in places if totals is not None]
        if drawn:
            axes.plot(
                [capacity for capacity, _ in drawn],
                [height for _, height in drawn],
                color=colour,
                marker=marker,
                markersize=7 if name == "joint" else 5,
                linewidth=2.0 if name == "joint" else 1.0,
                fillstyle="none",
                label=name.replace("_", " "),
            )
    capacities = [point.capacity_bytes for point in swept.points if point.totals is not None]
    axes.set_xscale("log", base=2)
    shown = capacities if len(capacities) <= 9 else [1 << k for k in range(capacities[0].bit_length() - 1, 40)]
    shown = [capacity for capacity in shown if capacities[0] <= capacity <= capacities[-1]]
    axes.set_xticks(shown, [short_bytes(capacity) for capacity in shown], rotation=30, fontsize=8)
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.set_xlabel("on-chip memory")
    axes.grid(axis="y", linewidth=0.4, alpha=0.6)


def _named(lived: str) -> tuple[str, str]:
    """What a buffer is called in the picture, and its kind."""
    name = lived.split(" of ")[0]
    for prefix, kind in (("pin ", "pinned"), ("ring_", "ring"), ("weights_", "weights")):
        if name.startswith(prefix):
            return name.removeprefix(prefix), kind
    return "sums", "sums"


def _shortened(text: str, points: float) -> str:
    """As much of a text as fits in a width, nothing where that says nothing."""
    most = int(points / 3.9)
    if len(text) <= most:
        return text
    return f"{text[: most - 1]}…" if most > 6 else ""


def _time_unit(plan: ScratchPlan) -> tuple[float, str]:
    """What cycles are multiplied by, and the unit that they are in then."""
    seconds = plan.totals.latency_cycles / plan.machine.clock_ghz / 1e9
    factor, unit = (1e3, "ms") if seconds >= 1e-3 else (1e6, "µs")
    return factor / plan.machine.clock_ghz / 1e9, unit
