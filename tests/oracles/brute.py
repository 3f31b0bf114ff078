"""A brute-force oracle of one group: what its tiles need, compute, load and store, element by element.

Enters: the plain data of a network (kinds, attributes, shapes, names) and of a strategy. Leaves: boolean arrays over
(element, tile) and the counts an instrumented run must report. Written from the definitions alone, with numpy only:
nothing here imports isl, polyfuse.schedule or polyfuse.codegen.

A relation of a tensor is a boolean array `[n, h, w, tn, ty, tx]`. Channels are a factor: every channel of an element is
needed wherever one is. Elements out of the image have a place in the arrays as far as elements of the image can depend
on them, which is what `shifted` placement looks at.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Relation = NDArray[np.bool_]
Counts = Counter[tuple[str, str]]
ELEMENT_BYTES = 4
MARGIN = 4
"""How far around the image tiles are asked whether they share elements."""
SPATIAL = (2, 3)
COORDINATE = {0: 3, 2: 4, 3: 5}
"""The axis of a relation that holds the tile coordinate cutting an axis of a tensor."""


@dataclass(frozen=True)
class Window:
    """How one axis of a layer's output reads one axis of an operand: element = stride * point + offset.

    The `positions` points of the image all read the one element of an operand that is broadcast, and no other does.
    """

    stride: int
    offsets: tuple[int, ...]
    broadcast: bool = False
    positions: int = 0


@dataclass(frozen=True)
class Interval:
    """Consecutive numbers."""

    low: int
    high: int

    @property
    def size(self) -> int:
        return self.high - self.low + 1


@dataclass(frozen=True)
class Flow:
    """What happens to one tensor: relations as `[n, h, w, tn, ty, tx]`."""

    need: Relation
    extended: Relation
    arrivals: Relation
    executions: Relation
    loads: Relation
    stored: NDArray[np.bool_]


def window(layer: Any, tensor: Any, axis: int) -> Window:
    """The reads of a layer along one spatial axis."""
    geometry = getattr(layer.operator, "window", None)
    if geometry is not None:
        d = axis - 2
        kernel, dilation, padding = geometry.kernel[d], geometry.dilation[d], geometry.padding[d]
        return Window(geometry.stride[d], tuple(dilation * k - padding for k in range(kernel)))
    positions = layer.output.shape[axis]
    return Window(1, (0,), tensor.shape[axis] == 1 and positions > 1, positions)


def taps(reads: Window, points: Interval, size: int) -> NDArray[np.int_]:
    """For each point and offset whether the element read is inside the image: `[point, offset]`."""
    at = np.arange(points.low, points.high + 1)[:, None] * reads.stride + np.array(reads.offsets)[None, :]
    return ((at >= 0) & (at < size)).astype(int)


def first_true(relation: Relation, axis: int) -> Relation:
    """The first true along an axis."""
    return relation & (np.cumsum(relation, axis=axis) == 1)


def first_along(relation: Relation, kept: Sequence[int]) -> Relation:
    """For every element and the other coordinates, the lexicographically first of the kept coordinates."""
    for k, axis in enumerate(kept):
        relation = relation & first_true(relation.any(axis=tuple(kept[k + 1 :]), keepdims=True), axis)
    return relation


class Brute:
    """A group of layers under a strategy, computed by enumeration."""

    def __init__(self, network: Any, strategy: Any) -> None:
        self.network, self.strategy = network, strategy
        self.reference = network.outputs[-1]
        self.margin = MARGIN if strategy.placement == "shifted" else 0
        self.windows = self._windows()
        self.order = self._order()
        self.tiles = {axis: self._tiles(axis) for axis in COORDINATE}
        self.flows: dict[str, Flow] = {}
        self.shared: dict[str, set[int]] = {}
        for layer in reversed(network.layers):
            self.flows[layer.output.name] = self._made(layer.output)
        for tensor in network.inputs:
            self.flows[tensor.name] = self._input(tensor)

    def _order(self) -> list[int]:
        """The relation axes of the tile coordinates, outermost first."""
        strategy = self.strategy
        ranks = range(len(strategy.tile))
        order = strategy.order
        if order is None:
            every = [strategy.others, *strategy.retention.values()]
            order = sorted(ranks, key=lambda d: any(places[d] != "recompute" for places in every))
        return [3, *(4 + d for d in order)]

    def _windows(self) -> dict[tuple[str, int], Interval]:
        """Of each tensor and axis, the elements on which an element of some image may depend."""
        found: dict[tuple[str, int], Interval] = {}
        for tensor in self.network.inputs:
            found[tensor.name, 0] = Interval(0, tensor.shape[0] - 1)
            for axis in SPATIAL:
                found[tensor.name, axis] = Interval(-self.margin, tensor.shape[axis] - 1 + self.margin)
        for layer in self.network.layers:
            out = layer.output
            found[out.name, 0] = Interval(0, out.shape[0] - 1)
            for axis in SPATIAL:
                low, high = 0, out.shape[axis] - 1
                for tensor in layer.inputs:
                    reads, of = window(layer, tensor, axis), found[tensor.name, axis]
                    if not reads.broadcast:
                        low = min(low, -((reads.offsets[-1] - of.low) // reads.stride))
                        high = max(high, (of.high - reads.offsets[0]) // reads.stride)
                found[out.name, axis] = Interval(low, high)
        return found

    def tile_size(self, tensor: Any, axis: int) -> int | None:
        """Elements of an output that a tile takes along an axis; None where tiles do not cut it."""
        strategy = self.strategy
        if axis in SPATIAL and axis - 2 >= len(strategy.tile):
            return None
        size = 1 if axis == 0 else strategy.tile[axis - 2]
        here, there = tensor.shape[axis], self.reference.shape[axis]
        return size if here == there else -(-size * here // there)

    def _tiles(self, axis: int) -> Interval:
        bounds = []
        for layer in self.network.layers:
            size, of = self.tile_size(layer.output, axis), self.windows[layer.output.name, axis]
            bounds += [0, 0] if size is None else [of.low // size, of.high // size]
        return Interval(min(bounds), max(bounds))

    def nothing(self, tensor: Any) -> Relation:
        """The empty relation of a tensor."""
        elements = [self.windows[tensor.name, axis].size for axis in (0, *SPATIAL)]
        return np.zeros((*elements, *(self.tiles[axis].size for axis in COORDINATE)), bool)

    def image(self, tensor: Any) -> Relation:
        """True for elements inside the image."""
        inside = np.ones((1,) * 6, bool)
        for k, axis in enumerate((0, *SPATIAL)):
            of = self.windows[tensor.name, axis]
            line = np.arange(of.low, of.high + 1)
            mask = (line >= 0) & (line < tensor.shape[axis])
            inside = inside & mask.reshape([-1 if d == k else 1 for d in range(6)])
        return inside

    def partition(self, tensor: Any) -> Relation:
        """The tile that holds each element of an output, in and out of the image."""
        relation = np.ones((1,) * 6, bool)
        for k, axis in enumerate((0, *SPATIAL)):
            size = self.tile_size(tensor, axis)
            of, tiles = self.windows[tensor.name, axis], self.tiles[axis]
            element = np.arange(of.low, of.high + 1)[:, None]
            tile = np.arange(tiles.low, tiles.high + 1)[None, :]
            held = tile == (0 if size is None else element // size) + 0 * element
            shape = [1] * 6
            shape[k], shape[COORDINATE[axis]] = held.shape
            relation = relation & held.reshape(shape)
        return relation

    def pull(self, layer: Any, tensor: Any, points: Relation) -> Relation:
        """The elements of an operand read by points: `{ point -> tile }` to `{ element -> tile }`."""
        if tensor.shape[0] == 1 and layer.output.shape[0] > 1:
            points = points.any(axis=0, keepdims=True)
        for axis in SPATIAL:
            of, out = self.windows[tensor.name, axis], self.windows[layer.output.name, axis]
            points = pull_axis(points, axis - 1, window(layer, tensor, axis), out, of)
        return points

    def readers(self, tensor: Any) -> list[Any]:
        """The layers that read a tensor."""
        return [layer for layer in self.network.layers if tensor.name in {each.name for each in layer.inputs}]

    def kept(self, name: str, *places: str) -> list[int]:
        """The tile coordinates with one of these places, outermost first."""
        of = self.strategy.retention.get(name, self.strategy.others)
        return [axis for axis in self.order[1:] if of[axis - 4] in places and axis in self.shared[name]]

    def _pulled(self, tensor: Any) -> tuple[Relation, Relation]:
        need, extended = self.nothing(tensor), self.nothing(tensor)
        for layer in self.readers(tensor):
            flow = self.flows[layer.output.name]
            made = first_along(flow.extended, self.kept(layer.output.name, "local", "global"))
            need |= self.pull(layer, tensor, flow.executions)
            extended |= self.pull(layer, tensor, made)
        return need & self.image(tensor), extended

    def _arrivals(self, name: str, need: Relation, extended: Relation) -> Relation:
        """When elements enter their buffer: first along what is retained on chip.

        Nothing is retained along coordinates in which no two tiles share an element, of the image or out of it.
        """
        others = {axis: tuple(d for d in (3, 4, 5) if d != axis) for axis in (4, 5)}
        self.shared[name] = {axis for axis, rest in others.items() if (extended.any(axis=rest).sum(axis=3) > 1).any()}
        local = self.kept(name, "local")
        if self.strategy.placement == "first" or not local:
            return first_along(need, local)
        return first_along(extended | need, local) & need.any(axis=tuple(local), keepdims=True)

    def _made(self, tensor: Any) -> Flow:
        need, extended = self._pulled(tensor)
        is_output = tensor.name in {each.name for each in self.network.outputs}
        tile_axes = (3, 4, 5)
        if not need.any():
            extended = self.nothing(tensor) | self.partition(tensor)
            need = extended & self.image(tensor)
        elif is_output:
            holes = ~extended.any(axis=tile_axes, keepdims=True)
            if (holes & self.image(tensor)).any():
                extended = extended | (self.partition(tensor) & holes)
            missing = self.image(tensor) & ~need.any(axis=tile_axes, keepdims=True)
            need = need | first_along(extended & missing, self.order_of_all())
        arrivals = self._arrivals(tensor.name, need, extended)
        executions = first_along(arrivals, self.kept(tensor.name, "local", "global"))
        loads = arrivals & ~executions
        stored = (self.image(tensor) if is_output else loads).any(axis=tile_axes)
        return Flow(need, extended, arrivals, executions, loads, stored)

    def _input(self, tensor: Any) -> Flow:
        need, extended = self._pulled(tensor)
        arrivals = self._arrivals(tensor.name, need, extended)
        nothing = np.zeros_like(arrivals)
        return Flow(need, extended, arrivals, nothing, arrivals, nothing.any(axis=(3, 4, 5)))

    def order_of_all(self) -> list[int]:
        """Every tile coordinate, outermost first."""
        return [*self.order, *(axis for axis in (4, 5) if axis not in self.order)]

    @cached_property
    def counts(self) -> Counts:
        """Executions of every step and bytes read and written of every array, as an instrumented run counts them."""
        total: Counts = Counter()
        for tensor in self.network.inputs:
            self._count_copies(total, tensor)
        for layer in self.network.layers:
            self._count_copies(total, layer.output)
            self._count_layer(total, layer)
            for weight, loaded in self._weight_loads(layer):
                copy(total, "preload" if self.strategy.weights == "once" else "load", weight.name, loaded)
        return +total

    def _count_copies(self, total: Counts, tensor: Any) -> None:
        flow = self.flows[tensor.name]
        copy(total, "load", tensor.name, int(flow.loads.sum()) * tensor.shape[1])
        copy(total, "store", tensor.name, int(flow.stored.sum()) * tensor.shape[1])

    def points(self, layer: Any) -> int:
        """How often points of a layer are executed, channels counted."""
        return int(self.flows[layer.output.name].executions.sum()) * int(layer.output.shape[1])

    def updates(self, layer: Any) -> int:
        """How often a window layer's points read an element inside the image, output and input channels counted."""
        executions = self.flows[layer.output.name].executions.sum(axis=(0, 3, 4, 5))
        rows, columns = (self._taps(layer, axis).sum(axis=1) for axis in SPATIAL)
        inner = layer.weights[0].shape[1] if layer.kind == "conv" else 1
        return int((executions * rows[:, None] * columns[None, :]).sum()) * int(layer.output.shape[1]) * int(inner)

    def _taps(self, layer: Any, axis: int) -> NDArray[np.int_]:
        x = layer.inputs[0]
        return taps(window(layer, x, axis), self.windows[layer.output.name, axis], x.shape[axis])

    def _count_layer(self, total: Counts, layer: Any) -> None:
        points, out = self.points(layer), layer.output.name
        if getattr(layer.operator, "window", None) is None:
            self._count_pointwise(total, layer, points)
            return
        updates, x = self.updates(layer), layer.inputs[0].name
        weights = [weight.name for weight in layer.weights]
        statement(total, out, Counter(weights[1:]), points, False, f"{layer.name}_init")
        statement(total, out, Counter([x, *weights[:1]]), updates, True, f"{layer.name}_update")
        if layer.kind.endswith("average_pool") or layer.activation is not None:
            statement(total, out, {}, points, True, f"{layer.name}_final")

    def _count_pointwise(self, total: Counts, layer: Any, points: int) -> None:
        out = layer.output.name
        if layer.kind != "concat":
            names = [tensor.name for tensor in layer.inputs]
            twice = layer.kind in ("add", "sub", "mul", "div") and len(names) == 1
            statement(total, out, Counter(names * (1 + twice)), points, False, f"{layer.name}_final")
            return
        for k, tensor in enumerate(layer.inputs):
            part = points // layer.output.shape[1] * tensor.shape[1]
            statement(total, out, Counter([tensor.name]), part, False, f"{layer.name}_part{k}")

    def _weight_loads(self, layer: Any) -> list[tuple[Any, int]]:
        """Elements of each weight that are loaded: all of it once, or by each tile those that its points read."""
        if self.strategy.weights == "once" or not layer.weights:
            return [(weight, int(np.prod(weight.shape))) for weight in layer.weights]
        executed = self.flows[layer.output.name].executions.any(axis=0)
        executed = executed.reshape(*executed.shape[:2], -1)
        tiles = int(executed.any(axis=(0, 1)).sum())
        rows, columns = (self._taps(layer, axis) for axis in SPATIAL)
        read = np.einsum("hwt,hk,wl->klt", executed.astype(int), rows.astype(int), columns.astype(int)) > 0
        loads = [(weight, tiles * int(np.prod(weight.shape))) for weight in layer.weights]
        weight, *_ = layer.weights
        return [(weight, int(read.sum()) * int(np.prod(weight.shape[:2]))), *loads[1:]]


def pull_axis(points: Relation, axis: int, reads: Window, out: Interval, of: Interval) -> Relation:
    """`points` with one axis of points replaced by the elements they read."""
    points = np.moveaxis(points, axis, 0)
    result = np.zeros((of.size, *points.shape[1:]), bool)
    if reads.broadcast:
        result[-of.low] = points[-out.low : reads.positions - out.low].any(axis=0)
    else:
        for offset in reads.offsets:
            at = np.arange(out.low, out.high + 1) * reads.stride + offset - of.low
            inside = (at >= 0) & (at < of.size)
            result[at[inside]] |= points[inside]
    return np.moveaxis(result, 0, axis)


def copy(total: Counts, action: str, name: str, elements: int) -> None:
    """Count the copies of elements between off-chip memory and a buffer."""
    source, target = (f"chip_{name}", name) if action == "store" else (name, f"chip_{name}")
    total["executions", f"{action}_{name}"] += elements
    total["read_bytes", source] += ELEMENT_BYTES * elements
    total["write_bytes", target] += ELEMENT_BYTES * elements


def statement(total: Counts, out: str, reads: Mapping[str, int], executions: int, accumulates: bool, name: str) -> None:
    """Count the executions of a statement and the bytes it moves on chip."""
    total["executions", name] += executions
    for operand, times in reads.items():
        total["read_bytes", f"chip_{operand}"] += ELEMENT_BYTES * times * executions
    total["read_bytes", f"chip_{out}"] += ELEMENT_BYTES * executions * accumulates
    total["write_bytes", f"chip_{out}"] += ELEMENT_BYTES * executions


def minimum_ring(brute: Brute, name: str, most: int) -> int:
    """The fewest rows, addressed modulo their number, in which every read of a tensor finds its value; row tiles."""
    return next(height for height in range(1, most + 1) if survives(brute, name, height))


def survives(brute: Brute, name: str, height: int) -> bool:
    """Run the row tiles of one image in order with a dict of `(h mod height, w)`: does every read find its element?"""
    flow = brute.flows[name]
    tensor = next(t for t in (*brute.network.inputs, *(each.output for each in brute.network.layers)) if t.name == name)
    reads = brute.nothing(tensor)
    for layer in brute.readers(tensor):
        reads |= brute.pull(layer, tensor, brute.flows[layer.output.name].executions)
    reads &= brute.image(tensor)
    stores = first_along(flow.executions & flow.stored[..., None, None, None], brute.order_of_all())
    low = brute.windows[name, 2].low
    cells: dict[tuple[int, int], int] = {}
    for tile in range(brute.tiles[2].size):
        written: set[tuple[int, int]] = set()
        for h, w in zip(*np.nonzero(flow.arrivals[0, :, :, 0, tile, 0]), strict=True):
            cell = ((int(h) + low) % height, int(w))
            if cell in written:
                return False
            written.add(cell)
            cells[cell] = int(h)
        for h, w in zip(*np.nonzero((reads | stores)[0, :, :, 0, tile, 0]), strict=True):
            if cells.get(((int(h) + low) % height, int(w))) != h:
                return False
    return True
