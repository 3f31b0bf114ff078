"""Draws docs/learn/pictures/*.svg from polyfuse's own sets: `python docs/learn/pictures.py` writes them all again.

Schedules enter; their relations are enumerated, point by point, into coloured cells; SVG files leave. Nothing is placed
by hand. The SVG holds a digest of what was drawn, so that a test can tell whether a file is still what the sets say.
"""

import hashlib
import io
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from islpy import Map
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

import polyfuse as pf
from polyfuse.schedule.interpreter import points, values
from polyfuse.schedule.schedule import Flow

FOLDER = Path(__file__).parent / "pictures"
STYLE = {"svg.hashsalt": "polyfuse", "svg.fonttype": "none", "font.family": "DejaVu Sans", "font.size": 9}
INCH_PER_CELL = 0.115

# Okabe and Ito's colours, which people tell apart whatever colours they see; in order of darkness where order matters.
BLUE, SKY, GREEN, YELLOW, ORANGE, RED, PURPLE = (
    *("#0072B2", "#9AD0F5", "#009E73", "#F0E442"),
    *("#E69F00", "#D55E00", "#CC79A7"),
)
WHITE, LIGHT, DARK, INK = "#FFFFFF", "#DDDDDD", "#999999", "#222222"

Cell = tuple[int, int]
Tile = tuple[int, ...]


@dataclass(frozen=True)
class Box:
    """A rectangle of cells: `row`, `column` of its first cell, its size, how it is painted, what is written in it."""

    row: int
    column: int
    rows: int
    columns: int
    fill: str = "none"
    edge: str = "none"
    hatch: str = ""
    text: str = ""


@dataclass(frozen=True)
class Panel:
    """One image of `rows` x `columns` cells; the first column shown has the number `first_column`."""

    title: str
    rows: int
    columns: int
    boxes: tuple[Box, ...]
    below: str = ""
    beside: str = ""
    first_column: int = 0
    text_size: float = 7.0


@dataclass(frozen=True)
class Picture:
    """Panels in rows, and what the colours mean: (fill, edge, hatch, words)."""

    panels: tuple[tuple[Panel, ...], ...]
    legend: tuple[tuple[str, str, str, str], ...]
    cell_inches: float = INCH_PER_CELL

    @property
    def digest(self) -> str:
        """Of all that is drawn."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:16]


# What the sets say ----------------------------------------------------------------------------------------------------


def two_convs() -> pf.Network:
    """The worked example: 20x20 through two 3x3 convolutions to 16x16."""
    build = pf.Builder("two_convs")
    x = build.input("x", (1, 1, 20, 20))
    return build.network(build.conv("conv2", build.conv("conv1", x, 1, kernel=3), 1, kernel=3))


def three_convs() -> pf.Network:
    """Three convolutions over rows: 26 rows to 20."""
    build = pf.Builder("three_convs")
    x = build.input("x", (1, 1, 26, 1))
    for k in (1, 2, 3):
        x = build.conv(f"conv{k}", x, 1, kernel=(3, 1))
    return build.network(x)


def by_tile(relation: Map) -> dict[Tile, set[Cell]]:
    """`{ A[n, c, h, w] -> tile[t] }` as the (row, column) of the elements of each tile, the tiles in running order."""
    found: dict[Tile, set[Cell]] = defaultdict(set)
    for _, _, row, column, *tile in points(relation.wrap().flatten()).tolist():
        found[tuple(tile)].add((row, column))
    return dict(sorted(found.items()))


def boxes_of(cells: Mapping[Cell, tuple[str, str]]) -> tuple[Box, ...]:
    """Cells with their fill and hatch, gathered into few rectangles of the same look."""
    rest = dict(sorted(cells.items()))
    boxes = []
    while rest:
        (row, column), look = next(iter(rest.items()))
        columns = 1
        while rest.get((row, column + columns)) == look:
            columns += 1
        rows = 1
        while all(rest.get((row + rows, column + c)) == look for c in range(columns)):
            rows += 1
        for r in range(rows):
            for c in range(columns):
                del rest[row + r, column + c]
        boxes.append(Box(row, column, rows, columns, look[0], hatch=look[1]))
    return tuple(boxes)


def around(cells: Iterable[Cell], edge: str) -> Box:
    """The outline of some cells, which fill their bounding box."""
    taken = set(cells)
    rows, columns = [row for row, _ in taken], [column for _, column in taken]
    height, width = max(rows) - min(rows) + 1, max(columns) - min(columns) + 1
    assert height * width == len(taken), "these cells are not a rectangle"
    return Box(min(rows), min(columns), height, width, edge=edge)


def halos() -> Picture:
    """What each of four tiles needs of every tensor, and by how many tiles an element is needed."""
    group = pf.scheduled(two_convs(), pf.Strategy.named("recompute", (8, 8)))
    edges = dict(zip(by_tile(group.flows["conv2_out"].need), (BLUE, RED, GREEN, PURPLE), strict=True))
    shades = {1: WHITE, 2: LIGHT, 4: DARK}
    panels = []
    for flow in group.in_order:
        need = by_tile(flow.need)
        often = Counter(cell for cells in need.values() for cell in cells)
        outlines = tuple(around(cells, edges[tile]) for tile, cells in need.items())
        size = {len(cells) for cells in need.values()}
        rows, columns = flow.tensor.concrete_shape[2:]
        shaded = boxes_of({cell: (shades[n], "") for cell, n in often.items()})
        below = f"{max(size)} elements a tile"
        panels.append(Panel(f"{flow.tensor.name} {rows}x{columns}", rows, columns, shaded + outlines, below))
    legend = [("none", edge, "", f"tile ty={tile[1]}, tx={tile[2]}") for tile, edge in edges.items()]
    legend += [(shade, INK, "", f"needed by {n} tile{'s' if n > 1 else ''}") for n, shade in shades.items()]
    return Picture((tuple(panels),), tuple(legend))


STRATEGIES = (
    ("recompute", pf.Strategy.named("recompute", (8, 8))),
    ("local", pf.Strategy.named("local", (8, 8))),
    ("global", pf.Strategy.named("global", (8, 8))),
    ("mixed: local rows,\nrecomputed columns", pf.Strategy((8, 8), ("local", "recompute"))),
)
MADE, AGAIN, KEPT, LOADED = BLUE, RED, SKY, YELLOW


def strategies() -> Picture:
    """Where each tile has the elements of conv1_out from that it needs, under each strategy."""
    rows = tuple(strategy_row(name, strategy) for name, strategy in STRATEGIES)
    legend = (
        (MADE, INK, "", "computed"),
        (AGAIN, INK, "", "computed again"),
        (KEPT, INK, "", "still on chip"),
        (LOADED, INK, "", "loaded from off-chip"),
        (WHITE, INK, "//////", "then stored off-chip"),
    )
    return Picture(rows, legend)


def strategy_row(name: str, strategy: pf.Strategy) -> tuple[Panel, ...]:
    """One panel for each tile, in running order."""
    group = pf.scheduled(two_convs(), strategy)
    flow = group.flows["conv1_out"]
    first = by_tile(flow.executions.lexmin())
    need, made, loads, stores = (by_tile(m) for m in (flow.need, flow.executions, flow.loads, flow.stores))
    names = [dim.name for dim in group.tiling.dims]
    total = sum(map(len, made.values()))
    panels = []
    for k, (tile, needed) in enumerate(need.items(), 1):
        own, loaded, stored = (moments.get(tile, set()) for moments in (made, loads, stores))
        looks = {}
        told: Counter[str] = Counter()
        for cell in needed | own:
            new = cell in first.get(tile, set())
            word, fill = ("computed", MADE) if new else ("again", AGAIN) if cell in own else ("kept", KEPT)
            if cell in loaded:
                word, fill = "loaded", LOADED
            looks[cell] = (fill, "//////" if cell in stored else "")
            told[word] += 1
        where = ", ".join(f"{n}={t}" for n, t in zip(names[1:], tile[1:], strict=True))
        below = ", ".join(f"{n} {word}" for word, n in told.items())
        beside = f"{name}\n\n{total} executions\n{sum(map(len, loads.values()))} loads\n"
        beside += f"{sum(map(len, stores.values()))} stores"
        title = f"{k}. tile {where}"
        panels.append(Panel(title, 18, 18, boxes_of(looks), below, beside if k == 1 else ""))
    return tuple(panels)


def placement() -> Picture:
    """Which tile computes which element of conv1_out where it is retained along rows and columns."""
    panels = []
    for name in ("first", "shifted"):
        group = pf.scheduled(two_convs(), pf.Strategy.named("local", (8, 8), "first" if name == "first" else "shifted"))
        made = by_tile(group.flows["conv1_out"].executions)
        boxes = []
        for tile, cells in made.items():
            outline = around(cells, INK)
            fill = (SKY, WHITE)[sum(tile) % 2]
            words = f"{tile[1]},{tile[2]}"
            boxes.append(Box(outline.row, outline.column, outline.rows, outline.columns, fill, INK, "", words))
        sizes = ", ".join(map(str, sorted({len(cells) for cells in made.values()}, reverse=True)))
        below = f"{len(made)} tiles (ty,tx) make {sizes} elements"
        panels.append(Panel(f"placement {name}", 18, 18, tuple(boxes), below))
    return Picture((tuple(panels),), (), cell_inches=0.16)


def rings() -> Picture:
    """Which row is in which cell of a ring, tile after tile, for both placements."""
    network = three_convs()
    groups = {
        "first": pf.storage(pf.scheduled(network, pf.Strategy((4,), ("local",), placement="first"))),
        "shifted": pf.storage(pf.scheduled(network, pf.Strategy((4,), ("local",), placement="shifted"))),
    }
    tiles = range(
        min(tile[1] for g in groups.values() for f in g.schedule.flows.values() for tile in by_tile(f.arrivals)),
        max(tile[1] for g in groups.values() for f in g.schedule.flows.values() for tile in by_tile(f.arrivals)) + 1,
    )
    rows = tuple(
        tuple(ring_panel(name, group, tensor, tiles) for name, group in groups.items())
        for tensor in ("x", "conv1_out", "conv2_out")
    )
    legend = ((BLUE, INK, "", "arrives in this tile"), (SKY, INK, "", "kept from an earlier tile, still needed"))
    return Picture(rows, legend, cell_inches=0.24)


def ring_panel(name: str, group: pf.Storage, tensor: str, tiles: range) -> Panel:
    """The rows of one tensor in the cells of its ring: a column for each tile."""
    flow: Flow = group.schedule.flows[tensor]
    buffer = group.buffers[tensor]
    arrivals = by_tile(flow.arrivals)
    since = {row: tile[1] for tile, cells in arrivals.items() for row, _ in cells}
    until = {row: tile[1] for tile, cells in by_tile(flow.need).items() for row, _ in cells}
    cell_of = buffer.cell.as_map()
    boxes = []
    for row, arrival in sorted(since.items()):
        cell = int(values(cell_of, np.array([[0, arrival, 0, 0, row, 0]]))[0, 2])
        for tile in range(arrival, max(arrival, until[row]) + 1):
            fill = BLUE if tile == arrival else SKY
            boxes.append(Box(cell, tile - tiles.start, 1, 1, fill, WHITE, "", str(row)))
    window = buffer.shape[2]
    title = f"{tensor}, {name}: {window} rows"
    return Panel(title, window, len(tiles), tuple(boxes), "tile ty", "cell", tiles.start, 7.5)


PICTURES: dict[str, Callable[[], Picture]] = {
    "halos": halos,
    "strategies": strategies,
    "placement": placement,
    "rings": rings,
}


# How it is drawn ------------------------------------------------------------------------------------------------------


def figure_of(picture: Picture) -> Figure:
    """The panels side by side, all cells of one size, the legend below."""
    inch = picture.cell_inches
    heights = [max(panel.rows for panel in row) * inch for row in picture.panels]
    widths = [max(row[k].columns for row in picture.panels) * inch for k in range(len(picture.panels[0]))]
    strategy_words = any("\n" in row[0].beside for row in picture.panels)
    left, between, above, under = (1.6 if strategy_words else 0.55), 0.6, 0.3, 0.45
    wide = 5 if len(picture.panels[0]) > 3 else 4
    legend = 0.22 * -(-len(picture.legend) // wide) + (0.1 if picture.legend else 0)
    width = left + sum(widths) + between * (len(widths) - 1) + 0.25
    height = sum(heights) + (above + under) * len(heights) + legend
    figure = Figure(figsize=(width, height))
    top = height
    for row, tall in zip(picture.panels, heights, strict=True):
        x = left
        for panel, across in zip(row, widths, strict=True):
            size = (panel.columns * inch / width, panel.rows * inch / height)
            axes = figure.add_axes((x / width, (top - above - panel.rows * inch) / height, *size))
            draw(axes, panel)
            x += across + between
        top -= tall + above + under
    if picture.legend:
        patches = [
            Patch(facecolor=fill, edgecolor=edge, hatch=hatch, label=text, linewidth=1.2 if fill == "none" else 0.6)
            for fill, edge, hatch, text in picture.legend
        ]
        figure.legend(handles=patches, loc="lower center", ncols=min(wide, len(patches)), frameon=False, fontsize=8)
    return figure


def draw(axes: Axes, panel: Panel) -> None:
    """One panel: boxes, then thin lines between cells, then outlines and words."""
    for box in panel.boxes:
        if box.fill != "none":
            width = 0.7 if box.edge != "none" else 0
            look = {"facecolor": box.fill, "edgecolor": WHITE if box.hatch else box.edge, "hatch": box.hatch or None}
            face = Rectangle((box.column, box.row), box.columns, box.rows, linewidth=width, clip_on=False, **look)
            axes.add_patch(face)
    grid(axes, panel)
    for k, box in enumerate(box for box in panel.boxes if box.fill == "none"):
        inset = 0.15 + 0.15 * k
        corner, size = (box.column + inset, box.row + inset), (box.columns - 2 * inset, box.rows - 2 * inset)
        axes.add_patch(Rectangle(corner, *size, fill=False, edgecolor=box.edge, linewidth=1.4))
    for box in panel.boxes:
        if box.text:
            colour = WHITE if box.fill == BLUE else INK
            middle = (box.column + box.columns / 2, box.row + box.rows / 2)
            axes.text(*middle, box.text, ha="center", va="center", fontsize=panel.text_size, color=colour)
    axes.set_xlim(0, panel.columns)
    axes.set_ylim(panel.rows, 0)
    axes.set_title(panel.title, fontsize=8.5, pad=4)
    axes.set_xlabel(panel.below, fontsize=7.5, labelpad=2)
    ticks(axes, panel)


def ticks(axes: Axes, panel: Panel) -> None:
    """Numbers of rows and columns: of every cell where words are in cells, else at multiples of eight."""
    every = panel.beside == "cell"
    rows = range(panel.rows) if every else range(0, panel.rows, 8)
    columns = range(panel.columns) if every else range(0, panel.columns, 8)
    axes.set_yticks([row + 0.5 for row in rows], [str(row) for row in rows], fontsize=6.5)
    axes.set_xticks([c + 0.5 for c in columns], [str(c + panel.first_column) for c in columns], fontsize=6.5)
    axes.tick_params(length=0, pad=2)
    if every:
        axes.set_ylabel(panel.beside, fontsize=7.5, labelpad=2)
    elif panel.beside:
        axes.text(-3.0, panel.rows / 2, panel.beside, ha="right", va="center", fontsize=8, linespacing=1.25)


def grid(axes: Axes, panel: Panel) -> None:
    """Lines between cells, as one path."""
    xs: list[float] = []
    ys: list[float] = []
    for row in range(1, panel.rows):
        xs += [0, panel.columns, np.nan]
        ys += [row, row, np.nan]
    for column in range(1, panel.columns):
        xs += [column, column, np.nan]
        ys += [0, panel.rows, np.nan]
    axes.plot(xs, ys, color=INK, linewidth=0.25, alpha=0.35)
    for side in axes.spines.values():
        side.set_linewidth(0.6)


def svg(picture: Picture) -> str:
    """The SVG text, the same each time for one matplotlib."""
    text = io.StringIO()
    with matplotlib.rc_context(STYLE):
        description = f"drawn by docs/learn/pictures.py, data {picture.digest}"
        figure_of(picture).savefig(text, format="svg", metadata={"Date": None, "Description": description})
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n"


def main(folder: Path = FOLDER) -> None:
    """Write every picture."""
    folder.mkdir(exist_ok=True)
    for name, make in PICTURES.items():
        (folder / f"{name}.svg").write_text(svg(make()), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
