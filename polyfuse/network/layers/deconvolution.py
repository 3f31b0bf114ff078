"""Transposed convolution, as a sum over the taps that meet an element: the others do not exist.

Tensors enter; a `Layer` leaves.
"""

from functools import partial

import numpy as np

from polyfuse.errors import InvalidInput
from polyfuse.network.dtypes import Array
from polyfuse.network.layer import Layer
from polyfuse.network.layers.convolution import Sums, biased_start, kernel_window
from polyfuse.network.operator import ConvTranspose
from polyfuse.network.statements import window_statement
from polyfuse.network.tensor import Tensor, check_float32
from polyfuse.network.window import Pair, Window


def conv_transpose(
    name: str,
    x: Tensor,
    w: Tensor,
    bias: Tensor | None = None,
    window: Window | None = None,
    groups: int = 1,
    output_padding: Pair = (0, 0),
) -> Layer:
    """Every element of `x[n, ic, h, w]` spread by `w[ic, oc/groups, kh, kw]`, a stride apart (ONNX ConvTranspose).

    Padding is cut off from what that makes; `output_padding` is put at its end. Tap k of row h reads row
    `(h + padding - dilation*k) / stride` where that is whole. The window is that of the weights with stride 1 and no
    padding unless given.
    Errors: InvalidInput where shapes do not fit together.
    """
    channels, per_group, *_ = w.concrete_shape
    operator = ConvTranspose(kernel_window(name, w, window), groups, output_padding)
    stride, dilation, padding = operator.window.stride, operator.window.dilation, operator.window.padding
    check_float32(name, x, w, bias)
    operator.window.check(name, x)
    if groups < 1 or x.shape[1] != channels or channels % groups or min(output_padding) < 0:
        raise InvalidInput(
            f"layer {name!r}: weights {w} in {groups} groups expect {channels} input channels, a multiple of the "
            f"groups, and output padding of at least 0; got input {x} and {output_padding}"
        )
    if bias is not None and bias.shape != (per_group * groups,):
        raise InvalidInput(f"layer {name!r}: expected a bias of shape ({per_group * groups},), got {bias}")
    rows, columns = spread(x, operator)
    out = Tensor(f"{name}_out", (x.shape[0], per_group * groups, rows, columns))
    in_group = channels // groups
    read, made = ("ic", "c") if groups == 1 else (f"{in_group} * floor(c / {per_group}) + ic", f"c mod {per_group}")
    tapped = [f"{d} + {padding[a]} - {dilation[a]} * k{d}" for a, d in enumerate("hw")]
    index = [f"floor(({tap})/{stride[a]})" if stride[a] > 1 else tap for a, tap in enumerate(tapped)]
    whole = [f"({tap}) mod {stride[a]} = 0" for a, tap in enumerate(tapped) if stride[a] > 1]
    update = window_statement(
        f"{name}_update",
        out,
        {"ic": in_group, "kh": w.concrete_shape[2], "kw": w.concrete_shape[3]},
        {"x": (x, f"n, {read}, {', '.join(index)}"), "weight": (w, f"{read}, {made}, kh, kw")},
        "x",
        "acc + weight * x",
        macs=1,
        where=" and ".join(whole) or "true",
    )
    start = biased_start(name, out, bias, "c", "0.0")
    return Sums(operator, out, (start, update), partial(_spread_out, operator, (rows, columns))).layer(name, x, w, bias)


def spread(x: Tensor, operator: ConvTranspose) -> tuple[int, int]:
    """Rows and columns that a transposed convolution makes."""
    window, padding = operator.window, operator.window.padding
    rows, columns = (
        window.stride[a] * (size - 1) + operator.output_padding[a] + window.reach[a] - padding[a] - padding[2 + a]
        for a, size in enumerate(x.concrete_shape[2:])
    )
    return rows, columns


def _spread_out(operator: ConvTranspose, sizes: Pair, x: Array, w: Array, bias: Array | None = None) -> Array:
    """Every tap of the weights, added to where it falls on the uncut image."""
    groups, window = operator.groups, operator.window
    stride, dilation, padding = window.stride, window.dilation, window.padding
    batch, channels, rows, columns = x.shape
    apart = w.reshape(groups, channels // groups, *w.shape[1:])
    uncut = [padding[a] + sizes[a] + padding[2 + a] for a in range(2)]
    out = np.zeros((batch, groups, w.shape[1], *uncut))
    grouped = x.reshape(batch, groups, channels // groups, rows, columns)
    for kh, kw in np.ndindex(*w.shape[2:]):
        top, left = kh * dilation[0], kw * dilation[1]
        added = np.einsum("bgihw,gio->bgohw", grouped, apart[..., kh, kw])
        bottom, right = top + stride[0] * (rows - 1) + 1, left + stride[1] * (columns - 1) + 1
        out[..., top : bottom : stride[0], left : right : stride[1]] += added
    y = out.reshape(batch, -1, *uncut)
    y = y[:, :, padding[0] : padding[0] + sizes[0], padding[1] : padding[1] + sizes[1]]
    return y if bias is None else y + bias[None, :, None, None]
