"""What Halide computes: a network as functions of channel, column and row, before anything is scheduled.

A `Network` enters; a `HalideStage` for each layer that is computed on its own leaves, in order. A tensor that is read
beyond the borders of its image is zero there, so that tiles reach over borders without tests where they are read.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from math import prod
from typing import Any

import numpy as np

from polyfuse.errors import UnsupportedOperator
from polyfuse.network.layer import Layer
from polyfuse.network.network import Network
from polyfuse.network.operator import (
    Activate,
    Affine,
    Arithmetic,
    Concat,
    Conv,
    Copy,
    GlobalPool,
    Pool,
    Prelu,
    window_of,
)
from polyfuse.network.tensor import Tensor
from polyfuse.network.window import Window

MOST_WRITTEN_OUT = 32
"""Reductions of so many taps are written as one expression; longer ones are loops over a sum."""

CHANNEL_PADDING = 64
Read = Callable[..., Any]
POINTWISE = (Activate, Affine, Arithmetic, Copy, Prelu)
"""Operators whose one statement computes an element from elements, its activation in it."""


@dataclass(frozen=True)
class HalideStage:
    """A function that is computed: its values, and the sums that are computed for it first, where it has any."""

    name: str
    function: Any
    sums: tuple["HalideSum", ...]
    channels: int
    columns: int
    rows: int


@dataclass(frozen=True)
class HalideSum:
    """A reduction in a loop: the function, and its variables from the innermost loop outwards."""

    function: Any
    loops: tuple[Any, ...]


@dataclass
class HalideStages:
    """The functions of a network.

    `staged` copies every input that is read beyond its borders into the tile first; `plain` says that no other input
    is read beyond its borders, whatever the schedule.
    """

    network: Network
    nchw: bool
    staged: bool
    plain: bool = False
    hl: Any = field(default_factory=lambda: import_module("halide"))

    def __post_init__(self) -> None:
        hl = self.hl
        self.c, self.x, self.y = hl.Var("c"), hl.Var("x"), hl.Var("y")
        self.readers = {
            tensor: self.network.readers(tensor)
            for tensor in (*self.network.inputs, *(layer.output for layer in self.network.layers))
        }
        self.reads: dict[str, Read] = {}
        self.parameters: list[Any] = []
        self.constants: list[np.ndarray[Any, Any]] = []
        self.stages: list[HalideStage] = []
        self.made: dict[str, HalideStage] = {}
        self.pending: dict[str, tuple[HalideSum, ...]] = {}
        for tensor in (*self.network.inputs, *self.network.outputs):
            if len(tensor.shape) != 4 or tensor.shape[0] != 1:
                raise UnsupportedOperator(f"{tensor}: the schedules for Halide take one image [1, c, h, w] at a time")
        for tensor in self.network.inputs:
            self._input(tensor)
        for layer in self.network.layers:
            self._layer(layer)

    def order(self, shape: Sequence[int]) -> tuple[int, int, int]:
        """Sizes of an interface from the innermost dimension outwards."""
        _, channels, rows, columns = shape
        return (columns, rows, channels) if self.nchw else (channels, columns, rows)

    def _input(self, tensor: Tensor) -> None:
        """An image, read as zero beyond its borders where somebody reads there, and as its border elsewhere."""
        hl = self.hl
        image = hl.ImageParam(hl.Float(32), 3, f"{tensor.name}_image")
        constrain(image, self.order(tensor.concrete_shape))
        self.parameters.append(image)
        _, channels, rows, columns = tensor.concrete_shape
        plain = hl.Func(f"{tensor.name}_plain")
        c, x, y = self.c, self.x, self.y
        plain[c, x, y] = image[x, y, c] if self.nchw else image[c, x, y]
        bounds = [(0, channels), (0, columns), (0, rows)]
        padded = self._needs_border(tensor)
        if padded:
            source = hl.BoundaryConditions.constant_exterior(plain, 0.0, bounds)
        else:
            source = plain if self.plain else hl.BoundaryConditions.repeat_edge(plain, bounds)
        if self.staged and (padded or self.nchw):
            copy = hl.Func(f"{tensor.name}_copy")
            copy[c, x, y] = source[c, x, y]
            self.stages.append(HalideStage(f"{tensor.name}_copy", copy, (), channels, columns, rows))
            source = copy
        self.reads[tensor.name] = lambda *index: hl.Expr(source[index])

    def _needs_border(self, tensor: Tensor) -> bool:
        return any(is_padded(reader) for reader in self.readers[tensor])

    def _layer(self, layer: Layer) -> None:
        """The function of a layer; inlined into its only reader where that reads it element by element."""
        hl, output = self.hl, layer.output
        _, channels, rows, columns = output.concrete_shape
        value, sums = self._value(layer)
        if layer.activation is not None and not isinstance(layer.operator, POINTWISE):
            value = evaluated(hl, layer.activation.text("acc"), {"acc": value})
        if self._needs_border(output):
            x, y = self.x, self.y
            inside = (x >= 0) & (x < columns) & (y >= 0) & (y < rows)
            value = hl.select(hl.likely(inside), value, hl.f32(0.0))
        function = hl.Func(layer.name)
        function[self.c, self.x, self.y] = value
        self.reads[output.name] = lambda *index: hl.Expr(function[index])
        readers = self.readers[output]
        if len(readers) == 1 and reads_here(readers[0]) and output not in self.network.outputs:
            self.pending[output.name] = sums
            return
        stage = HalideStage(layer.name, function, sums, channels, columns, rows)
        self.stages.append(stage)
        self.made[output.name] = stage

    def _value(self, layer: Layer) -> tuple[Any, tuple[HalideSum, ...]]:
        """The expression of one element, and the sums it takes."""
        match layer.operator:
            case Conv(window=window, groups=groups):
                return self._convolution(layer, window, groups)
            case Pool() | GlobalPool() as pool:
                return self._pool(layer, pool)
        operands = [tensor.name for tensor in layer.operands]
        sums = tuple(each for name in operands for each in self.pending.get(name, ()))
        return self._pointwise(layer, operands), sums

    def _convolution(self, layer: Layer, window: Window, groups: int) -> tuple[Any, tuple[HalideSum, ...]]:
        hl = self.hl
        weight, *bias = (self.network.weights[tensor.name] for tensor in layer.weights)
        out, inner, taps_y, taps_x = weight.shape
        (sy, sx), (dy, dx), (top, left, _, _) = window.stride, window.dilation, window.padding
        read, c, x, y = self.reads[layer.inputs[0].name], self.c, self.x, self.y
        first = hl.f32(0.0) if not bias else self._vector(bias[0])[c]
        if out == 1 and bias:
            first = hl.f32(float(bias[0][0]))

        def product(k: Any, i: Any, j: Any, factor: Any) -> Any:
            channel = k if groups == 1 else c if inner == 1 and groups == out else c // (out // groups) * inner + k
            return factor * read(channel, x * sx + j * dx - left, y * sy + i * dy - top)

        if inner * taps_y * taps_x <= MOST_WRITTEN_OUT:
            if out == 1:
                factor = {index: hl.f32(float(weight[0][index])) for index in np.ndindex(*weight.shape[1:])}
            else:
                stored = self._vector(weight.reshape(out, -1).T)
                factor = {index: stored[c, n] for n, index in enumerate(np.ndindex(*weight.shape[1:]))}
            total = first
            for (k, i, j), value in factor.items():
                total = total + product(k, i, j, value)
            return total, ()
        r = hl.RDom([(0, inner), (0, taps_x), (0, taps_y)], f"{layer.name}_taps")
        stored = self._vector(weight.transpose(2, 3, 1, 0))
        total = hl.Func(f"{layer.name}_sum")
        total[c, x, y] = first
        total[c, x, y] += product(r[0], r[2], r[1], stored[c, r[0], r[1], r[2]])
        return total[c, x, y], (HalideSum(total, (r[0], r[1], r[2])),)

    def _vector(self, value: np.ndarray[Any, Any]) -> Any:
        """Constants whose last axis is the channel, with zeros for the channels that whole vectors reach beyond."""
        more = -value.shape[-1] % CHANNEL_PADDING
        return self._constant(np.pad(value, [(0, 0)] * (value.ndim - 1) + [(0, more)]))

    def _constant(self, value: np.ndarray[Any, Any]) -> Any:
        """A buffer of constants; compiled code reads the memory of the array, which has to outlive it."""
        array = np.ascontiguousarray(value, np.float32)
        self.constants.append(array)
        return self.hl.Buffer(array)

    def _pool(self, layer: Layer, pool: Pool | GlobalPool) -> tuple[Any, tuple[HalideSum, ...]]:
        hl, window = self.hl, pool.window
        (ky, kx), (sy, sx), (dy, dx) = window.kernel, window.stride, window.dilation
        top, left, _, _ = window.padding
        _, _, rows, columns = layer.inputs[0].concrete_shape
        largest, c, x, y = isinstance(pool, Pool) and pool.how == "max", self.c, self.x, self.y
        reach = layer.output.concrete_shape[2:]
        beyond = any(window.padding) or (reach[0] - 1) * sy + (ky - 1) * dy >= rows
        beyond = beyond or (reach[1] - 1) * sx + (kx - 1) * dx >= columns

        def element(i: Any, j: Any) -> Any:
            column, row = x * sx + j * dx - left, y * sy + i * dy - top
            value = self.reads[layer.inputs[0].name](c, column, row)
            if not beyond:
                return value
            inside = (column >= 0) & (column < columns) & (row >= 0) & (row < rows)
            return hl.select(hl.likely(inside), value, hl.f32(-np.inf if largest else 0.0))

        join = hl.max if largest else lambda p, q: p + q
        sums: tuple[HalideSum, ...] = ()
        if ky * kx <= MOST_WRITTEN_OUT:
            total = element(0, 0)
            for i, j in list(np.ndindex(ky, kx))[1:]:
                total = join(total, element(i, j))
        else:
            r = hl.RDom([(0, kx), (0, ky)], f"{layer.name}_taps")
            function = hl.Func(f"{layer.name}_sum")
            function[c, x, y] = hl.f32(-np.inf if largest else 0.0)
            function[c, x, y] = join(function[c, x, y], element(r[1], r[0]))
            total, sums = function[c, x, y], (HalideSum(function, (r[0], r[1])),)
        return (total if largest else total / self._taps_that_count(layer, pool)), sums

    def _taps_that_count(self, layer: Layer, pool: Pool | GlobalPool) -> Any:
        """How many taps an average is over."""
        hl, window = self.hl, pool.window
        counted = window.padding if isinstance(pool, Pool) and pool.counts_padding else (0, 0, 0, 0)
        if window.dilation != (1, 1):
            raise UnsupportedOperator(f"layer {layer.name!r}: averages of windows with holes have no Halide form here")
        lengths = []
        for d, position in enumerate((self.y, self.x)):
            size = layer.inputs[0].concrete_shape[2 + d]
            start = position * window.stride[d] - window.padding[d]
            end = hl.min(start + window.kernel[d], size + counted[2 + d])
            lengths.append(end - hl.max(start, -counted[d]))
        return hl.cast(hl.Float(32), lengths[0] * lengths[1])

    def _pointwise(self, layer: Layer, operands: Sequence[str]) -> Any:
        if any(len(t.shape) != 4 for t in (*layer.inputs, layer.output)):
            raise UnsupportedOperator(f"layer {layer.name!r}: has no Halide form here, reading other than images")
        shapes = {t.name: t.concrete_shape for t in (*layer.inputs, *layer.weights)}
        values = [self._broadcast(name, shapes[name], layer.output.concrete_shape) for name in operands]
        if layer.operator == Concat(axis=1):
            return self._concat(values, [shapes[name][1] for name in operands])
        if isinstance(layer.operator, POINTWISE):
            (statement,) = layer.statements
            read = [value(self.c, self.x, self.y) for value in values]
            return evaluated(self.hl, statement.expression, dict(zip(statement.operands, read, strict=True)))
        raise UnsupportedOperator(f"layer {layer.name!r}: has no Halide form here, being of kind {layer.kind!r}")

    def _broadcast(self, name: str, shape: Sequence[int], out: Sequence[int]) -> Read:
        """A tensor or a constant, read at an element of the output."""
        sizes = dict(zip("cyx", zip(shape[1:], out[1:], strict=True), strict=True))
        one = [size == 1 and made != 1 for size, made in (sizes["c"], sizes["x"], sizes["y"])]
        if name not in self.network.weights:
            return lambda *index: self.reads[name](*(0 if single else i for i, single in zip(index, one, strict=True)))
        value = self.network.weights[name].reshape(shape)[0].transpose(1, 2, 0)
        stored, (rows, columns, channels) = self._constant(value), value.shape
        last = (channels - 1, columns - 1, rows - 1)
        return lambda *index: stored[tuple(self.hl.clamp(i, 0, end) for i, end in zip(index, last, strict=True))]

    def _concat(self, values: Sequence[Read], channels: Sequence[int]) -> Any:
        c, x, y = self.c, self.x, self.y
        starts = [sum(channels[:k]) for k in range(len(channels))]
        parts = [
            value(self.hl.clamp(c - start, 0, size - 1), x, y)
            for value, start, size in zip(values, starts, channels, strict=True)
        ]
        joined = parts[-1]
        for part, start in zip(reversed(parts[:-1]), reversed(starts[1:]), strict=True):
            joined = self.hl.select(c < start, part, joined)
        return joined

    def output_functions(self) -> list[Any]:
        """The functions that fill the output arrays, in the order of the network's outputs."""
        functions = []
        for tensor in self.network.outputs:
            function = self.made[tensor.name].function
            if self.nchw:
                turned = self.hl.Func(f"{tensor.name}_nchw")
                turned[self.x, self.y, self.c] = function[self.c, self.x, self.y]
                function = turned
            constrain(function.output_buffer(), self.order(tensor.concrete_shape))
            functions.append(function)
        return functions


def constrain(buffer: Any, sizes: Sequence[int]) -> None:
    """Tell Halide the sizes and strides of a dense buffer that begins at zero."""
    for d, size in enumerate(sizes):
        buffer.dim(d).set_bounds(0, size)
        buffer.dim(d).set_stride(prod(sizes[:d]))


def is_padded(layer: Layer) -> bool:
    """Whether a layer reads windows that reach beyond the borders of its image."""
    window = window_of(layer.operator)
    return window is not None and any(window.padding)


def reads_here(layer: Layer) -> bool:
    """Whether a layer reads its inputs element by element, at the place that it makes."""
    return window_of(layer.operator) is None and not isinstance(layer.operator, Concat)


def evaluated(hl: Any, expression: str, values: Mapping[str, Any]) -> Any:
    """The expression of a statement, which is Python too, of expressions of Halide; all of its numbers are float32."""
    functions = {
        "maximum": hl.max,
        "minimum": hl.min,
        "expf": hl.exp,
        "tanhf": hl.tanh,
        "logf": hl.log,
        "sqrtf": hl.sqrt,
        "powf": hl.pow,
        "fabsf": hl.abs,
        "erff": hl.erf,
        "log1pf": lambda x: hl.log(hl.f32(1.0) + x),
        "f32": lambda number: hl.f32(float(number)),
    }
    text = re.sub(r"(?<![\w.])\d[\d.]*(e[-+]?\d+)?", r"f32(\g<0>)", expression)
    return eval(text, {"__builtins__": {}}, {**functions, **values})
