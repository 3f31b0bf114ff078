"""What row kernels compute, element by element in float64 numpy, written without polyfuse."""

from collections.abc import Callable
from itertools import product

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def _taps(x: Array, kernel: tuple[int, int], stride: int, dilation: int, padding: tuple[int, int, int, int]):
    """For each output position and tap inside the image: (row, column), (kernel row, tap), the channels there."""
    top, left, bottom, right = padding
    sizes = [
        (x.shape[1 + a] + before + after - (kernel[a] - 1) * dilation - 1) // stride + 1
        for a, (before, after) in enumerate(((top, bottom), (left, right)))
    ]
    for oh, ow, kh, kw in product(range(sizes[0]), range(sizes[1]), range(kernel[0]), range(kernel[1])):
        h, w = stride * oh + dilation * kh - top, stride * ow + dilation * kw - left
        inside = 0 <= h < x.shape[1] and 0 <= w < x.shape[2]
        yield (oh, ow), (kh, kw), x[:, h, w] if inside else None


def _sizes(x: Array, kernel: tuple[int, int], stride: int, dilation: int, padding: tuple[int, int, int, int]):
    *_, (position, _, _) = _taps(x, kernel, stride, dilation, padding)
    return position[0] + 1, position[1] + 1


def convolution(
    x: Array, w: Array, bias: Array, stride: int, dilation: int, padding: tuple[int, int, int, int], groups: int
) -> Array:
    """`x[c, h, w]`, `w[oc, c / groups, kh, kw]` to `[oc, oh, ow]`; depthwise is groups = c."""
    kernel = (w.shape[2], w.shape[3])
    out = np.empty((w.shape[0], *_sizes(x, kernel, stride, dilation, padding)))
    out[:] = bias[:, None, None]
    for (oh, ow), (kh, kw), column in _taps(x, kernel, stride, dilation, padding):
        if column is not None:
            grouped = column.reshape(groups, -1)
            per_group = w[:, :, kh, kw].reshape(groups, -1, w.shape[1])
            out[:, oh, ow] += np.einsum("goc,gc->go", per_group, grouped).reshape(-1)
    return out


def pool(
    x: Array, kind: str, kernel: tuple[int, int], stride: int, padding: tuple[int, int, int, int], count_pad: bool
) -> Array:
    """The largest element (NaN wins) or the mean of each window, padding left out or counted as zeros."""
    shape = (x.shape[0], *_sizes(x, kernel, stride, 1, padding))
    out = np.full(shape, -np.inf if kind == "max_pool" else 0.0)
    count = np.zeros(shape[1:])
    for (oh, ow), _, column in _taps(x, kernel, stride, 1, padding):
        if column is not None:
            new = np.maximum(out[:, oh, ow], column) if kind == "max_pool" else out[:, oh, ow] + column
            out[:, oh, ow] = new
        count[oh, ow] += column is not None or count_pad
    return out if kind == "max_pool" else out / count


def normalised(x: Array, size: float, alpha: float, beta: float, bias: float) -> Array:
    """LRN: each element over a power of the sum of squares of `size` channels around it."""
    out = np.empty_like(x)
    for c in range(len(x)):
        low = c - (int(size) - 1) // 2
        near = x[max(0, low) : low + int(size)]
        out[c] = x[c] / (bias + alpha / size * (near * near).sum(axis=0)) ** beta
    return out


ACTIVATIONS: dict[object, Callable[[Array], Array]] = {
    None: lambda t: t,
    "relu": lambda t: np.maximum(t, 0),
    "relu6": lambda t: np.minimum(np.maximum(t, 0), 6),
    ("clip", -0.5, 0.75): lambda t: np.minimum(np.maximum(t, -0.5), 0.75),
    ("at_least", 0.25): lambda t: np.maximum(t, 0.25),
    ("at_most", 0.25): lambda t: np.minimum(t, 0.25),
    ("leaky_relu", 0.1): lambda t: np.maximum(t, 0) + 0.1 * np.minimum(t, 0),
    ("hard_sigmoid", 0.2, 0.5): lambda t: np.minimum(np.maximum(0.2 * t + 0.5, 0), 1),
    "hard_swish": lambda t: t * np.minimum(np.maximum(t / 6 + 0.5, 0), 1),
    "neg": lambda t: -t,
    "sigmoid": lambda t: 1 / (1 + np.exp(-t)),
    "tanh": np.tanh,
    "silu": lambda t: t / (1 + np.exp(-t)),
    "exp": np.exp,
    ("elu", 0.7): lambda t: np.where(t < 0, 0.7 * np.expm1(t), t),
    "gelu_tanh": lambda t: 0.5 * t * (1 + np.tanh(np.sqrt(2 / np.pi) * (t + 0.044715 * t**3))),
    "softplus": lambda t: np.maximum(t, 0) + np.log1p(np.exp(-np.abs(t))),
    "sqrt": np.sqrt,
}
