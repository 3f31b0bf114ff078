"""What the built-in layers compute, in float64 numpy: the reference semantics, written without isl.

Every function takes whole arrays and returns a whole array; images are `[n, c, h, w]`. Padding is (top, left, bottom,
right).
"""

from collections.abc import Callable, Sequence
from functools import reduce
from math import erf

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Array = NDArray[np.float64]
Pair = tuple[int, int]
Padding = tuple[int, int, int, int]


def windows(x: Array, kernel: Pair, stride: Pair, dilation: Pair, padding: Padding, fill: float) -> Array:
    """The window of each output element: `[n, c, oh, ow, kh, kw]`."""
    top, left, bottom, right = padding
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=fill)
    reach = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True))
    view = sliding_window_view(padded, reach, axis=(2, 3))
    return view[:, :, :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]


def convolution(
    x: Array,
    w: Array,
    bias: Array | None = None,
    *,
    stride: Pair,
    dilation: Pair,
    padding: Padding,
    groups: int,
) -> Array:
    """ONNX Conv over two spatial axes, one tap at a time; padding is not read, whatever the weight."""
    batch, channels, *image = x.shape
    reach = [(k - 1) * d + 1 for k, d in zip(w.shape[2:], dilation, strict=True)]
    sizes = [(image[a] + padding[a] + padding[2 + a] - reach[a]) // stride[a] + 1 for a in range(2)]
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


def max_pool(x: Array, kernel: Pair, stride: Pair, dilation: Pair, padding: Padding) -> Array:
    """The largest element of each window; -inf where a window is all padding; NaN stays NaN."""
    view: Array = windows(x, kernel, stride, dilation, padding, -np.inf).max(axis=(4, 5))
    return view


def average_pool(x: Array, kernel: Pair, stride: Pair, dilation: Pair, padding: Padding, counted: Padding) -> Array:
    """The mean of each window over the image and the `counted` part of its padding."""
    total = windows(x, kernel, stride, dilation, padding, 0.0).sum(axis=(4, 5))
    rest = tuple(p - q for p, q in zip(padding, counted, strict=True))
    ones = np.ones((1, 1, x.shape[2] + counted[0] + counted[2], x.shape[3] + counted[1] + counted[3]))
    divisor = windows(ones, kernel, stride, dilation, (rest[0], rest[1], rest[2], rest[3]), 0.0).sum(axis=(4, 5))
    return np.asarray(total / divisor, dtype=np.float64)


# Pointwise layers: functions of modules with arguments bound, so that networks can be pickled and sent to processes.


def activated(act: Callable[[Array], Array] | None, function: Callable[..., Array], *arrays: Array) -> Array:
    """A function of arrays, and an activation of what it gives."""
    y = function(*arrays)
    return y if act is None else act(y)


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


def _erf(x: Array) -> Array:
    return np.asarray(np.vectorize(erf, otypes=[np.float64])(x), dtype=np.float64)


def _sigmoid(x: Array) -> Array:
    return np.asarray(1.0 / (1.0 + np.exp(-x)), dtype=np.float64)


ACTIVATIONS: dict[str, tuple[str, Callable[..., Array], int]] = {
    "relu": ("maximum({0}, 0)", lambda x: np.maximum(x, 0.0), 0),
    "relu6": ("minimum(maximum({0}, 0), 6)", lambda x: np.clip(x, 0.0, 6.0), 0),
    "clip": ("minimum(maximum({0}, {1}), {2})", np.clip, 2),
    "at_least": ("maximum({0}, {1})", np.maximum, 1),
    "at_most": ("minimum({0}, {1})", np.minimum, 1),
    "leaky_relu": (
        "maximum({0}, 0) + {1} * minimum({0}, 0)",
        lambda x, slope: np.maximum(x, 0.0) + slope * np.minimum(x, 0.0),
        1,
    ),
    "sigmoid": ("1 / (1 + expf(-{0}))", _sigmoid, 0),
    "tanh": ("tanhf({0})", np.tanh, 0),
    "silu": ("{0} / (1 + expf(-{0}))", lambda x: x * _sigmoid(x), 0),
    "hard_sigmoid": (
        "minimum(maximum({1} * {0} + {2}, 0), 1)",
        lambda x, slope, offset: np.clip(slope * x + offset, 0.0, 1.0),
        2,
    ),
    "hard_swish": (
        "{0} * minimum(maximum({0} / 6 + 0.5, 0), 1)",
        lambda x: x * np.clip(x / 6.0 + 0.5, 0.0, 1.0),
        0,
    ),
    "elu": (
        "maximum({0}, 0) + {1} * (expf(minimum({0}, 0)) - 1)",
        lambda x, scale: np.maximum(x, 0.0) + scale * np.expm1(np.minimum(x, 0.0)),
        1,
    ),
    "softplus": (
        "maximum({0}, 0) + log1pf(expf(-fabsf({0})))",
        lambda x: np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x))),
        0,
    ),
    "gelu": ("0.5 * {0} * (1 + erff({0} * 0.7071067811865476))", lambda x: 0.5 * x * (1.0 + _erf(x * 0.5**0.5)), 0),
    "gelu_tanh": (
        "0.5 * {0} * (1 + tanhf(0.7978845608028654 * ({0} + 0.044715 * {0} * {0} * {0})))",
        lambda x: 0.5 * x * (1.0 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3))),
        0,
    ),
    "abs": ("fabsf({0})", np.abs, 0),
    "neg": ("-{0}", np.negative, 0),
    "exp": ("expf({0})", np.exp, 0),
    "sqrt": ("sqrtf({0})", np.sqrt, 0),
    "log": ("logf({0})", np.log, 0),
    "erf": ("erff({0})", _erf, 0),
    "reciprocal": ("1 / {0}", np.reciprocal, 0),
}
"""Each activation: its expression over {0} and its arguments {1}…, its numpy form, how many arguments it takes."""
