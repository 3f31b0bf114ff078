"""Convolution as sets and relations: sums of products of a window and weights.

Sizes of tensors enter, as numbers or parameters; a `Layer` leaves. Images are `[n, c, h, w]`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from polyfuse.errors import InvalidInput
from polyfuse.network.dtypes import Array
from polyfuse.network.layer import Layer, Statement
from polyfuse.network.operator import Conv, Operator
from polyfuse.network.statements import point_statement, window_statement
from polyfuse.network.tensor import Tensor, check_float32
from polyfuse.network.window import Window


def _check_channels(name: str, x: Tensor, w: Tensor, bias: Tensor | None, groups: int) -> None:
    out_channels, in_group = w.concrete_shape[:2]
    if groups < 1 or x.shape[1] != in_group * groups or out_channels % groups:
        raise InvalidInput(
            f"layer {name!r}: {groups} groups of weights {w} expect {in_group * groups} input channels and a multiple "
            f"of {groups} output channels, got input {x}"
        )
    if bias is not None and bias.shape != (out_channels,):
        raise InvalidInput(f"layer {name!r}: expected a bias of shape ({out_channels},), got {bias}")


def _channel_read(out_channels: int, in_group: int, groups: int) -> str:
    """The input channel that output channel `c` reads at step `ic` of its group, as isl text."""
    per_group = out_channels // groups
    if groups == 1:
        return "ic"
    group = "c" if per_group == 1 else f"floor(c / {per_group})"
    return group if in_group == 1 else f"{in_group} * {group} + ic"


def convolution(
    name: str, x: Tensor, w: Tensor, bias: Tensor | None = None, window: Window | None = None, groups: int = 1
) -> Layer:
    """Convolution `x[n, ic, h, w] * w[oc, ic/groups, kh, kw] + bias[oc]`; depthwise is `groups = ic` (ONNX Conv).

    The window is that of the weights with stride 1 and no padding unless given.
    Errors: InvalidInput where shapes do not fit together.
    """
    check_float32(name, x, w, bias)
    return convolution_sums(name, x, w, bias, window, groups).layer(name, x, w, bias)


@dataclass(frozen=True, eq=False)
class SumForm:
    """How sums of products are written: the type of the output, the update, and what a sum without a bias starts from.

    `more` are further operands of the update, with an element for each channel, or column, of the output.
    """

    dtype: str = "float32"
    update: str = "acc + weight * x"
    zero: str = "0.0"
    more: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Sums:
    """The sums of products that a layer makes of its output: two statements, and in numpy."""

    operator: Operator
    out: Tensor
    statements: tuple[Statement, Statement]
    computed: Callable[..., Array]

    def layer(self, name: str, x: Tensor, w: Tensor, bias: Tensor | None) -> Layer:
        """The layer that makes these sums, of an input, weights and perhaps a bias."""
        weights = (w,) if bias is None else (w, bias)
        return Layer(name, self.operator, self.out, self.statements, (x,), weights, self.computed)


def biased_start(name: str, out: Tensor, bias: Tensor | None, index: str, zero: str) -> Statement:
    """The statement that starts each point at an element of the bias, or at zero where there is none."""
    if bias is None:
        return point_statement(f"{name}_init", out, {}, zero)
    return point_statement(f"{name}_init", out, {"bias": (bias, index)}, "bias")


def convolution_sums(
    name: str,
    x: Tensor,
    w: Tensor,
    bias: Tensor | None,
    given: Window | None,
    groups: int,
    form: SumForm = SumForm(),
) -> Sums:
    """What a convolution adds to its bias, or to zero, at each point of its output.

    Errors: InvalidInput where shapes do not fit together.
    """
    out_channels, in_group, *_ = w.concrete_shape
    window = kernel_window(name, w, given)
    window.check(name, x)
    _check_channels(name, x, w, bias, groups)
    out = Tensor(f"{name}_out", (x.shape[0], out_channels, *window.outputs(x)), form.dtype)
    operands = {
        "x": (x, f"n, {_channel_read(out_channels, in_group, groups)}, {window.index}"),
        "weight": (w, "c, ic, kh, kw"),
        **{operand: (tensor, "c") for operand, tensor in form.more.items()},
    }
    sizes = {"ic": in_group, "kh": window.kernel[0], "kw": window.kernel[1]}
    taken = window_statement(f"{name}_update", out, sizes, operands, "x", form.update, macs=1)
    start = biased_start(name, out, bias, "c", form.zero)
    computed = partial(_convolved, window, groups)
    return Sums(Conv(window, groups), out, (start, taken), computed)


def kernel_window(name: str, w: Tensor, given: Window | None) -> Window:
    """The window of weights `[.., .., kh, kw]`: the one given, whose kernel has to be theirs, or a plain one.

    Errors: InvalidInput.
    """
    *_, rows, columns = w.concrete_shape
    if given is not None and given.kernel != (rows, columns):
        raise InvalidInput(f"layer {name!r}: expected a window of the {rows}x{columns} weights {w}, got {given.kernel}")
    return given or Window((rows, columns))


# References: functions of modules with arguments bound, so that networks can be pickled and sent to other processes.


def _convolved(window: Window, groups: int, x: Array, w: Array, bias: Array | None = None) -> Array:
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
