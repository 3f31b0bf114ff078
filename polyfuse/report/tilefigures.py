"""Tiles as pictures: what one step of a group reads, keeps and makes of each of its tensors.

Enters: a `ScratchPlan` and its `Graph`. Leaves: a figure for each of the groups with several steps that take longest.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from polyfuse.plan.graph.operations import Graph
from polyfuse.plan.price.timeline import GroupTime
from polyfuse.plan.scratchplan import PlannedGroup, ScratchPlan
from polyfuse.plan.tiles.tables import Table, Tables, tables
from polyfuse.report.plot import plain
from polyfuse.report.scratchplan import layers_text, retention_text, tile_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_GROUPS = 8
ACROSS = 5
KEPT, NEW, TENSOR = "#A6D8C7", "#0072B2", "#F0F0F0"


def tile_figures(
    plan: ScratchPlan, graph: Graph, times: Sequence[GroupTime]
) -> Iterator[tuple[int, str, str, "Figure"]]:
    """The number of a group, a title, a caption and the figure."""
    several = [index for index, time in enumerate(times) if time.steps > 1 and not plan.groups[index].tile.channels]
    longest = sorted(several, key=lambda index: -times[index].cycles)[:MOST_GROUPS]
    for index in sorted(longest):
        group, time = plan.groups[index], times[index]
        how = ", ".join(filter(None, (tile_text(group, time), retention_text(group, time))))
        found = tables(graph, group.operations, group.tile)
        step = typical_step(graph, found)
        caption = (
            f"Step {step} of {found.steps}: rows x columns of each tensor, dark what is new in it, light what it keeps."
        )
        yield (
            index,
            f"Tiles of group {index}: {layers_text(group)}, {how}",
            caption,
            tile_figure(graph, group, found, step),
        )


def typical_step(graph: Graph, found: Tables) -> int:
    """The step in the middle of the reference among those in which most tensors get something new."""
    busy = sum(np.asarray((table.new[:, 1] > table.new[:, 0]) * 1) for table in found.of.values())
    reference = found.group.reference
    middle = graph.tensors[reference].shape[2] / 2
    away = np.abs(found.of[reference].new[:, :2].mean(axis=1) - middle)
    return int(np.where(busy == np.max(busy), away, np.inf).argmin())


def tile_figure(graph: Graph, group: PlannedGroup, found: Tables, step: int) -> "Figure":
    """One step: each tensor of the group with what is needed of it, and what of that is new."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    names = list(found.of)
    columns = min(ACROSS, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(2.3 * columns, 2.6 * rows + 0.5), layout="constrained")
    places = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, name in zip(places, names, strict=False):
        _tensor(axes, graph.tensors[name].shape[2:], found.of[name], step)
        role = "in" if name in group.sources else "out" if name in group.sinks else ""
        axes.set_title(plain(f"{name}{f' ({role})' if role else ''}"), fontsize=8)
    for axes in places[len(names) :]:
        axes.set_visible(False)
    patches = [Patch(color=colour, label=label) for label, colour in (("new", NEW), ("kept", KEPT))]
    figure.legend(handles=patches, loc="outside lower right", ncols=2, frameon=False, fontsize=8)
    return figure


def _tensor(axes: "Axes", shape: Sequence[int], table: Table, step: int) -> None:
    from matplotlib.patches import Rectangle

    height, width = shape
    axes.add_patch(Rectangle((0, 0), width, height, facecolor=TENSOR, edgecolor="#888888", linewidth=0.8))
    for box, colour in ((table.need[step], KEPT), (table.new[step], NEW)):
        top, bottom, left, right = (int(edge) for edge in box)
        if bottom > top and right > left:
            axes.add_patch(Rectangle((left, top), right - left, bottom - top, facecolor=colour, linewidth=0))
    axes.set_xlim(-0.02 * width, 1.02 * width)
    axes.set_ylim(1.02 * height, -0.02 * height)
    axes.set_aspect("equal")
    axes.set_xticks([0, width])
    axes.set_yticks([0, height])
    axes.tick_params(labelsize=7, length=2)
    axes.spines[:].set_visible(False)
