"""What the built-in layers compute, in float64 numpy: the reference semantics, written without isl.

Every function takes whole arrays and returns a whole array; images are `[n, c, h, w]`. Padding is (top, left, bottom,
right).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import reduce

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from polyfuse.network.window import Padding, Window

Array = NDArray[np.float64]


def windows(x: Array, window: Window, fill: float) -> Array:
    """The window of each output element: `[n, c, oh, ow, kh, kw]`."""
    top, left, bottom, right = window.padding
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=fill)
    view = sliding_window_view(padded, window.reach, axis=(2, 3))
    (down, across), (rows, columns) = window.stride, window.dilation
    return view[:, :, ::down, ::across, ::rows, ::columns]


def convolution(window: Window, groups: int, x: Array, w: Array, bias: Array | None = None) -> Array:
    """ONNX Conv over two spatial axes, one tap at a time; padding is not read, whatever the weight."""
    batch, channels, *image = x.shape
    stride, dilation, padding = window.stride, window.dilation, window.padding
    sizes = [(image[a] + padding[a] + padding[2 + a] - window.reach[a]) // stride[a] + 1 for a in range(2)]
    out = np.zeros((batch, groups, w.shape[0] // groups, *sizes))
    grouped = x.reshape(batch, groups, channels // groups, *image)
    for kh, kw in np.ndindex(*w.shape[2:]):
        (rows, from_rows), (columns, from_columns) = (
            _tap(image[a], sizes[a], stride[a], k * dilation[a] - padding[a]) for a, k in enumerate((kh, kw))
        )
        read = grouped[:, :, :, from_rows, from_columns]
        tap = w[:, :, kh, kw].reshape(groups, -1, w.shape[1])
        product = tap @ read.reshape(*read.shape[:3], -1)
        out[:, :, :, rows, columns] += product.reshape(*product.shape[:3], *read.shape[3:])
    whole = out.reshape(batch, -1, *sizes)
    return whole if bias is None else whole + bias[None, :, None, None]


def _tap(size: int, positions: int, stride: int, offset: int) -> tuple[slice, slice]:
    """The positions p at which `stride*p + offset` is in the image, and the elements they read."""
    first = max(0, -(offset // stride))
    end = max(first, min(positions, (size - 1 - offset) // stride + 1))
    low = stride * first + offset
    return slice(first, end), slice(low, low + stride * (end - first), stride) if end > first else slice(0, 0)


def max_pool(window: Window, x: Array) -> Array:
    """The largest element of each window; -inf where a window is all padding; NaN stays NaN."""
    view: Array = windows(x, window, -np.inf).max(axis=(4, 5))
    return view


def average_pool(window: Window, counted: Padding, x: Array) -> Array:
    """The mean of each window over the image and the `counted` part of its padding."""
    total = windows(x, window, 0.0).sum(axis=(4, 5))
    top, left, bottom, right = (p - q for p, q in zip(window.padding, counted, strict=True))
    ones = np.ones((1, 1, x.shape[2] + counted[0] + counted[2], x.shape[3] + counted[1] + counted[3]))
    divisor = windows(ones, replace(window, padding=(top, left, bottom, right)), 0.0).sum(axis=(4, 5))
    return np.asarray(total / divisor, dtype=np.float64)


# Pointwise layers: functions of modules with arguments bound, so that networks can be pickled and sent to processes.


def ordered(function: Callable[..., Array], order: Sequence[int], *arrays: Array) -> Array:
    """A function of arrays that come in another order, each of them perhaps several times."""
    return function(*(arrays[k] for k in order))


def scaled(x: Array, scale: Array, shift: Array) -> Array:
    """Scale and shift."""
    return x * scale + shift


def sloped(x: Array, slope: Array) -> Array:
    """PReLU."""
    return np.asarray(np.maximum(x, 0.0) + slope * np.minimum(x, 0.0), dtype=np.float64)


def total(*arrays: Array) -> Array:
    """The sum of arrays, from the first to the last."""
    return reduce(np.add, arrays)


def mean(*arrays: Array) -> Array:
    """The mean of arrays."""
    return total(*arrays) / len(arrays)


def largest(*arrays: Array) -> Array:
    """The largest of arrays, element by element; NaN stays NaN."""
    return reduce(np.maximum, arrays)


def smallest(*arrays: Array) -> Array:
    """The smallest of arrays, element by element; NaN stays NaN."""
    return reduce(np.minimum, arrays)


def sum_square(x: Array, axis: tuple[int, ...]) -> Array:
    """The sum of squares along axes."""
    return np.asarray(np.sum(x * x, axis=axis), dtype=np.float64)


def norm1(x: Array, axis: tuple[int, ...]) -> Array:
    """The sum of magnitudes along axes."""
    return np.asarray(np.sum(np.abs(x), axis=axis), dtype=np.float64)


def norm2(x: Array, axis: tuple[int, ...]) -> Array:
    """The Euclidean norm along axes."""
    return np.sqrt(sum_square(x, axis))
