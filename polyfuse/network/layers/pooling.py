"""Pooling as sets and relations: the largest element of each window, or its mean.

Sizes of tensors enter, as numbers or parameters; a `Layer` leaves. Images are `[n, c, h, w]`.
"""

from dataclasses import replace
from functools import partial

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from polyfuse.errors import InvalidInput
from polyfuse.network.dtypes import Array, bounds, is_whole
from polyfuse.network.layer import Layer, Statement
from polyfuse.network.operator import GlobalPool, Pool
from polyfuse.network.statements import point_statement, window_statement
from polyfuse.network.tensor import Tensor, check_float32
from polyfuse.network.window import Padding, Window


def pool_output(name: str, x: Tensor, window: Window, ceil: bool = False) -> Tensor:
    """The output of pooling a tensor, of the same type.

    Errors: InvalidInput where shapes do not fit together.
    """
    window.check(name, x)
    if any(window.padding[d] >= window.reach[d % 2] for d in range(4)):
        raise InvalidInput(
            f"layer {name!r}: expected padding smaller than the window {window.kernel}, got {window.padding}"
        )
    return Tensor(f"{name}_out", (x.shape[0], x.shape[1], *window.outputs(x, ceil)), x.dtype)


def pool_update(name: str, x: Tensor, out: Tensor, window: Window, expression: str) -> Statement:
    """The statement that takes in the elements of a window."""
    sizes, reads = {"kh": window.kernel[0], "kw": window.kernel[1]}, {"x": (x, f"n, c, {window.index}")}
    return window_statement(f"{name}_update", out, sizes, reads, "x", expression, macs=0)


def max_pool(name: str, x: Tensor, window: Window, ceil: bool = False) -> Layer:
    """The largest element of each window, of any type (ONNX MaxPool); padding is never the largest."""
    out = pool_output(name, x, window, ceil)
    start, larger = "-INFINITY", "maximum(acc, x)"
    if is_whole(x.dtype):
        start, larger = str(bounds(x.dtype)[0]), "max(acc, x)"
    statements = (point_statement(f"{name}_init", out, {}, start), pool_update(name, x, out, window, larger))
    reference = partial(_largest, window.grown(x, out))
    return Layer(name, Pool("max", window, ceil), out, statements, (x,), (), reference)


def average_pool(name: str, x: Tensor, window: Window, ceil: bool = False, counts_padding: bool = False) -> Layer:
    """The mean of each window (ONNX AveragePool): over the image, or over the image and its padding."""
    check_float32(name, x)
    out = pool_output(name, x, window, ceil)
    counted = window.padding if counts_padding else (0, 0, 0, 0)
    statements = (
        point_statement(f"{name}_init", out, {}, "0.0"),
        pool_update(name, x, out, window, "acc + x"),
        point_statement(f"{name}_final", out, {}, f"acc / ({window.divisor(x, counted)})"),
    )
    reference = partial(means, window.grown(x, out), counted)
    return Layer(name, Pool("average", window, ceil, counts_padding), out, statements, (x,), (), reference)


def global_average_pool(name: str, x: Tensor) -> Layer:
    """The mean of each channel (ONNX GlobalAveragePool)."""
    rows, columns = x.concrete_shape[2:]
    window = Window((rows, columns))
    return replace(average_pool(name, x, window), operator=GlobalPool(window))


# References: functions of modules with arguments bound, so that networks can be pickled and sent to other processes.


def windows(x: Array, window: Window, fill: float) -> Array:
    """The window of each output element: `[n, c, oh, ow, kh, kw]`."""
    top, left, bottom, right = window.padding
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=fill)
    view = sliding_window_view(padded, window.reach, axis=(2, 3))
    (down, across), (rows, columns) = window.stride, window.dilation
    return view[:, :, ::down, ::across, ::rows, ::columns]


def _largest(window: Window, x: Array) -> Array:
    """The largest element of each window; -inf where a window is all padding; NaN stays NaN."""
    view: Array = windows(x, window, -np.inf).max(axis=(4, 5))
    return view


def means(window: Window, counted: Padding, x: Array) -> Array:
    """The mean of each window over the image and the `counted` part of its padding."""
    total = windows(x, window, 0.0).sum(axis=(4, 5))
    top, left, bottom, right = (p - q for p, q in zip(window.padding, counted, strict=True))
    ones = np.ones((1, 1, x.shape[2] + counted[0] + counted[2], x.shape[3] + counted[1] + counted[3]))
    divisor = windows(ones, replace(window, padding=(top, left, bottom, right)), 0.0).sum(axis=(4, 5))
    return np.asarray(total / divisor, dtype=np.float64)
