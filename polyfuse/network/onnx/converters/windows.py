"""ONNX operators with windows as layers: convolutions and pools."""

from collections.abc import Sequence

import numpy as np

from polyfuse.errors import InvalidInput, UnsupportedOperator
from polyfuse.network.layer import Layer
from polyfuse.network.layers import pooling
from polyfuse.network.layers.convolution import convolution as conv
from polyfuse.network.layers.deconvolution import conv_transpose
from polyfuse.network.layers.reductions import reduce
from polyfuse.network.onnx import attributes
from polyfuse.network.onnx.graph import Node
from polyfuse.network.onnx.importing import Import, in_double
from polyfuse.network.onnx.writing import Parts, Writers, of_weights, single
from polyfuse.network.operator import Conv, ConvTranspose, GlobalPool, Pool, Reduction
from polyfuse.network.tensor import Tensor
from polyfuse.network.window import Pair, Window


def convolution(state: Import, node: Node) -> None:
    """Conv."""
    x, w = state.tensor(node), in_double(state.constant(node, 1))
    kernel = kernel_of(node, w)
    weight, bias = state.weight(f"{node.name}_weight", w), bias_of(state, node, len(w))
    layer = conv(node.name, x, weight, bias, attributes.window(node, x, kernel), groups_of(node))
    state.add_knowing(node, layer, {weight: state.dequantised(node, 1), bias: state.dequantised(node, 2)})


def deconvolution(state: Import, node: Node) -> None:
    """ConvTranspose."""
    x, w = state.tensor(node), in_double(state.constant(node, 1))
    kernel, groups = kernel_of(node, w), groups_of(node)
    if len(w) % groups:
        raise InvalidInput(f"{node.label}: expected weights of a multiple of {groups} channels, got shape {w.shape}")
    window, more = attributes.spread_window(node, x, kernel)
    weight, bias = state.weight(f"{node.name}_weight", w), bias_of(state, node, w.shape[1] * groups)
    state.add(node, conv_transpose(node.name, x, weight, bias, window, groups, more))


def kernel_of(node: Node, w: np.ndarray) -> Pair:
    """Rows and columns of the weights of a convolution."""
    if w.ndim != 4:
        raise UnsupportedOperator(f"{node.label}: expected weights of 4 axes (2-D convolution), got shape {w.shape}")
    kernel: Pair = (w.shape[2], w.shape[3])
    if attributes.pair(node, "kernel_shape", kernel) != kernel:
        raise InvalidInput(f"{node.label}: kernel_shape does not agree with weights of shape {w.shape}")
    return kernel


def bias_of(state: Import, node: Node, channels: int) -> Tensor | None:
    """The bias of a convolution, as a weight; None where it has none."""
    if not node.input(2):
        return None
    b = in_double(state.constant(node, 2))
    if b.shape != (channels,):
        raise InvalidInput(f"{node.label}: expected a bias of {channels} channels, got shape {b.shape}")
    return state.weight(f"{node.name}_bias", b)


def groups_of(node: Node) -> int:
    """The groups of a convolution."""
    groups = attributes.attribute(node, "group", 1)
    if groups < 1:
        raise InvalidInput(f"{node.label}: expected a group of at least 1, got {groups}")
    return groups


def pool(state: Import, node: Node) -> None:
    """MaxPool and AveragePool."""
    x = state.tensor(node)
    window = attributes.window(node, x)
    if window.dilation != (1, 1) and attributes.auto_pad(node).startswith("SAME"):
        raise UnsupportedOperator(
            f"{node.label}: tools differ in how auto_pad {attributes.auto_pad(node)} pads windows with dilations "
            f"{window.dilation}; use pads"
        )
    ceil = attributes.flag(node, "ceil_mode")
    if node.operator == "MaxPool":
        layer = pooling.max_pool(node.name, x, window, ceil)
    else:
        layer = pooling.average_pool(node.name, x, window, ceil, attributes.flag(node, "count_include_pad"))
    state.add(node, layer)


def global_pool(state: Import, node: Node) -> None:
    """GlobalAveragePool and GlobalMaxPool."""
    x = state.tensor(node)
    if node.operator == "GlobalAveragePool" and len(x.shape) == 4:
        state.add(node, pooling.global_average_pool(node.name, x))
        return
    if len(x.shape) < 3:
        raise InvalidInput(f"{node.label}: expected a tensor [n, c, ..] with axes behind the channels, got {x}")
    how: Reduction = "mean" if node.operator == "GlobalAveragePool" else "max"
    state.add(node, reduce(node.name, how, x, range(2, len(x.shape))))


READS = {
    **dict.fromkeys(["MaxPool", "AveragePool"], pool),
    **dict.fromkeys(["GlobalAveragePool", "GlobalMaxPool"], global_pool),
    "Conv": convolution,
    "ConvTranspose": deconvolution,
}


def _geometry(window: Window) -> dict[str, Sequence[int]]:
    """The attributes that convolutions and pools share."""
    shape, strides = window.kernel, window.stride
    return {"kernel_shape": shape, "strides": strides, "dilations": window.dilation, "pads": window.padding}


def _conv(made: Conv, layer: Layer, y: str) -> Parts:
    return of_weights("Conv", layer, y, **_geometry(made.window), group=made.groups)


def _conv_transpose(made: ConvTranspose, layer: Layer, y: str) -> Parts:
    more = {"group": made.groups, "output_padding": made.output_padding}
    return of_weights("ConvTranspose", layer, y, **_geometry(made.window), **more)


def _pool(made: Pool, layer: Layer, y: str) -> Parts:
    geometry = {**_geometry(made.window), "ceil_mode": int(made.ceil)}
    if made.how == "max":
        return single("MaxPool", layer, y, **geometry)
    return single("AveragePool", layer, y, **geometry, count_include_pad=int(made.counts_padding))


WRITES: Writers = {
    Conv: _conv,
    ConvTranspose: _conv_transpose,
    Pool: _pool,
    GlobalPool: lambda _, layer, y: single("GlobalAveragePool", layer, y),
}
