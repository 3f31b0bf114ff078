"""What the built-in layers compute, in float64 numpy: the reference semantics, written without isl.

Every function takes whole arrays `[n, c, h, w]` and returns a whole array. Padding is (top, left, bottom, right).
"""

from collections.abc import Callable
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
    x: Array, w: Array, bias: Array | None, stride: Pair, dilation: Pair, padding: Padding, groups: int
) -> Array:
    """ONNX Conv over two spatial axes."""
    view = windows(x, (w.shape[2], w.shape[3]), stride, dilation, padding, 0.0)
    per_group = [
        np.einsum("nchwij,ocij->nohw", v, u, optimize=True)
        for v, u in zip(np.split(view, groups, axis=1), np.split(w, groups, axis=0), strict=True)
    ]
    out = np.concatenate(per_group, axis=1)
    return out if bias is None else out + bias[None, :, None, None]


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


def _sigmoid(x: Array) -> Array:
    return np.asarray(1.0 / (1.0 + np.exp(-x)), dtype=np.float64)


ACTIVATIONS: dict[str, tuple[str, Callable[..., Array], int]] = {
    "relu": ("maximum({0}, 0)", lambda x: np.maximum(x, 0.0), 0),
    "relu6": ("minimum(maximum({0}, 0), 6)", lambda x: np.clip(x, 0.0, 6.0), 0),
    "clip": ("minimum(maximum({0}, {1}), {2})", np.clip, 2),
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
    "abs": ("fabsf({0})", np.abs, 0),
    "neg": ("-{0}", np.negative, 0),
    "exp": ("expf({0})", np.exp, 0),
    "sqrt": ("sqrtf({0})", np.sqrt, 0),
}
"""Each activation: its expression over {0} and its arguments {1}…, its numpy form, how many arguments it takes."""


def _erf(x: Array) -> Array:
    return np.vectorize(erf, otypes=[np.float64])(x)
