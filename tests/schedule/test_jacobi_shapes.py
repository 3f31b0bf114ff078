"""Jacobi in time tiles of every shape, under every border: executions and bytes as enumerated point by point.

Tiles cut the first axis. What a tile executes is enumerated from the stencil and from what the shape says of itself,
without isl; bytes follow from it by following each element from where it is made or loaded to its last reader.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count, product
from pathlib import Path

import pytest

import polyfuse as pf
from polyfuse.network.network import Network
from polyfuse.schedule.shapes import Shape, shaped

KERNELS = Path(__file__).parents[2] / "kernels"
Point = tuple[int, ...]
Tile = list[set[Point]]
"""The points of each step that a tile executes."""


@dataclass(frozen=True)
class Jacobi:
    """Steps of three or five points over a line or a square."""

    size: int
    steps: int
    border: str
    axes: int

    def network(self) -> Network:
        sizes = {"size": str(self.size), "steps": str(self.steps), "border": self.border}
        return pf.load_workload(str(KERNELS / f"jacobi{self.axes}d.py"), parameters=sizes)

    def extent(self, step: int) -> int:
        """Along an axis, after so many steps."""
        return self.size - 2 * step if self.border == "shrinking" else self.size

    @property
    def window(self) -> tuple[int, int]:
        """The first and the last element that one needs along the first axis."""
        return (0, 2) if self.border == "shrinking" else (-1, 1)

    def points(self, step: int, rows: range | None = None) -> set[Point]:
        """Those of a step, in some of its rows."""
        all_rows = range(self.extent(step))
        inside = all_rows if rows is None else [i for i in rows if i in all_rows]
        return set(product(inside, *[all_rows] * (self.axes - 1)))

    def reads(self, point: Point, step: int) -> Iterator[Point]:
        """The elements of the step before that a point of a step averages."""
        last = self.extent(step - 1) - 1
        for axis, move in [(0, 0), *product(range(self.axes), (-1, 1))]:
            centre = [i + (self.border == "shrinking") for i in point]
            centre[axis] += move
            if self.border == "clamped":
                centre[axis] = max(0, min(last, centre[axis]))
            if 0 <= centre[axis] <= last:
                yield tuple(centre)

    def read(self, points: set[Point], step: int) -> set[Point]:
        """All that some points of a step read."""
        return {element for point in points for element in self.reads(point, step)}

    def needed(self, rows: range) -> Tile:
        """What some rows of the last step need, step by step."""
        made = [self.points(self.steps, rows)]
        for step in range(self.steps, 1, -1):
            made.append(self.read(made[-1], step))
        return made[::-1]


def overlapped(jacobi: Jacobi, tile: int) -> list[Tile]:
    """All that the tile's rows of the last step need."""
    return [jacobi.needed(range(t, t + tile)) for t in range(0, jacobi.extent(jacobi.steps), tile)]


def uniform(jacobi: Jacobi, tile: int) -> list[Tile]:
    """As many rows more on either side as there are steps behind, whatever the last step needs."""
    first, last = jacobi.window
    made = []
    for t in range(0, jacobi.extent(jacobi.steps), tile):
        behind = range(jacobi.steps - 1, -1, -1)
        rows = [range(t + n * first, t + tile + n * last) for n in behind]
        made.append([jacobi.points(step, each) for step, each in enumerate(rows, 1)])
    return made


def parallelogram(jacobi: Jacobi, tile: int) -> list[Tile]:
    """What no tile before has made of it."""
    made: list[Tile] = []
    for wanted in overlapped(jacobi, tile):
        made.append([each.difference(*(one[k] for one in made)) for k, each in enumerate(wanted)])
    return made


def split(jacobi: Jacobi, tile: int) -> list[Tile]:
    """Rows whose window lies in the same tile, wherever the image ends; then what is left between two of them."""
    first, last = jacobi.window
    upright: list[Tile] = []
    inverted: list[Tile] = []
    for t in range(-tile, jacobi.size, tile):
        alone, gap = [range(t, t + tile)], [range(t + tile, t + tile)]
        for _ in range(1, jacobi.steps):
            alone.append(range(alone[-1].start - first, alone[-1].stop - last))
            gap.append(range(alone[-1].stop, alone[-1].start + tile))
        upright.append([jacobi.points(step, rows) for step, rows in enumerate(alone, 1)])
        inverted.append([jacobi.points(step, rows) for step, rows in enumerate(gap, 1)])
    return [tile for tile in (*upright, *inverted) if any(tile)]


TILES: dict[Shape, Callable[[Jacobi, int], list[Tile]]] = {
    "overlapped": overlapped,
    "uniform": uniform,
    "parallelogram": parallelogram,
    "split": split,
}


def off_chip_bytes(jacobi: Jacobi, tiles: list[Tile], retained: bool) -> int:
    """What is loaded, by each tile or once where it is retained, and the outputs that are stored."""
    loaded = [jacobi.read(tile[0], 1) for tile in tiles]
    stored = sum(len(tile[-1]) for tile in tiles)
    return 4 * (len(set().union(*loaded)) if retained else sum(map(len, loaded))) + 4 * stored


def most_on_chip_bytes(jacobi: Jacobi, tiles: list[Tile], retained: bool) -> int:
    """Rings of rows of every tensor, as short as they may be if a tile holds all that it uses until it ends."""
    total = 0
    for step in range(jacobi.steps + 1):
        used = []
        for tile in tiles:
            made = tile[step - 1] if step else set()
            used.append(made | (jacobi.read(tile[step], step + 1) if step < jacobi.steps else set()))
        held = used
        if retained:
            held = [set().union(*used[: k + 1]) & set().union(*used[k:]) for k in range(len(tiles))]
        rows = [{point[0] for point in points} for points in held]
        columns = {point[1:] for points in held for point in points}
        ring = next(n for n in count(1) if all(len({row % n for row in each}) == len(each) for each in rows))
        total += 4 * ring * len(columns)
    return total


def layer_by_layer_bytes(jacobi: Jacobi) -> int:
    """What every step reads and makes."""
    made = [jacobi.points(step) for step in range(1, jacobi.steps + 1)]
    return 4 * sum(len(jacobi.read(each, step)) + len(each) for step, each in enumerate(made, 1))


@pytest.mark.parametrize("border", ["zero", "shrinking", "clamped"])
@pytest.mark.parametrize("axes", [1, 2])
def test_executions_and_bytes(axes: int, border: str) -> None:
    rng = random.Random(f"{axes} {border}")
    steps = 3 if axes == 1 else 2
    tile = rng.randint(2 * steps, 9)
    jacobi = Jacobi(rng.randint(2 * tile + 1, 4 * tile), steps, border, axes)
    network = jacobi.network()
    plain = pf.total(map(pf.counts, pf.layer_by_layer(network)))
    every = [jacobi.points(step) for step in range(1, steps + 1)]
    assert (plain.executions, plain.offchip_bytes) == (sum(map(len, every)), layer_by_layer_bytes(jacobi))
    groups = {}
    for shape, enumerated in TILES.items():
        tiles, retained = enumerated(jacobi, tile), shape in ("parallelogram", "split")
        groups[shape] = pf.storage(shaped(network, shape, (tile,)))
        pf.check(groups[shape])
        counts = pf.counts(groups[shape])
        assert counts.executions == sum(len(points) for each in tiles for points in each)
        assert counts.offchip_bytes == off_chip_bytes(jacobi, tiles, retained)
        assert counts.onchip_bytes <= most_on_chip_bytes(jacobi, tiles, retained)
    arrays = pf.random_inputs(network, 1)
    (output,) = network.outputs
    kernel = pf.build(pf.generate(network, [groups[rng.choice(list(TILES))]], kernels="scalar"))
    assert pf.max_relative_error(kernel(**arrays)[output.name], pf.reference(network, arrays)[output.name]) < 1e-5
