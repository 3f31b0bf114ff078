"""ONNX operators with windows as layers: convolutions and pools."""

import numpy as np

from polyfuse.errors import InvalidInput, UnsupportedOperator
from polyfuse.network import layers
from polyfuse.network.deconvolution import conv_transpose
from polyfuse.network.onnx import attributes
from polyfuse.network.onnx.graph import Node
from polyfuse.network.onnx.importing import Import, in_double
from polyfuse.network.operators import Pair
from polyfuse.network.reductions import reduce


def convolution(state: Import, node: Node) -> None:
    """Conv."""
    x, w = state.tensor(node), in_double(state.constant(node, 1))
    kernel = kernel_of(node, w)
    biased = bool(node.input(2))
    b = bias_of(state, node, len(w))
    stride, dilation = attributes.pair(node, "strides", (1, 1)), attributes.pair(node, "dilations", (1, 1))
    weight = state.weight(f"{node.name}_weight", w)
    bias = state.weight(f"{node.name}_bias", b) if biased or b.any() else None
    layer = layers.convolution(
        node.name,
        x,
        weight,
        bias,
        stride=stride,
        padding=attributes.padding(node, x, kernel, stride, dilation),
        dilation=dilation,
        groups=groups_of(node),
    )
    state.add_knowing(node, layer, {weight: state.dequantised(node, 1), bias: state.dequantised(node, 2)})


def deconvolution(state: Import, node: Node) -> None:
    """ConvTranspose."""
    x, w = state.tensor(node), in_double(state.constant(node, 1))
    kernel, groups = kernel_of(node, w), groups_of(node)
    if len(w) % groups:
        raise InvalidInput(f"{node.label}: expected weights of a multiple of {groups} channels, got shape {w.shape}")
    stride, dilation = attributes.pair(node, "strides", (1, 1)), attributes.pair(node, "dilations", (1, 1))
    channels = w.shape[1] * groups
    biased = bool(node.input(2))
    b = bias_of(state, node, channels)
    padding, more = attributes.spread_padding(node, x, kernel, stride, dilation)
    layer = conv_transpose(
        node.name,
        x,
        state.weight(f"{node.name}_weight", w),
        state.weight(f"{node.name}_bias", b) if biased or b.any() else None,
        stride=stride,
        padding=padding,
        dilation=dilation,
        output_padding=more,
        groups=groups,
    )
    state.add(node, layer)


def kernel_of(node: Node, w: np.ndarray) -> Pair:
    """Rows and columns of the weights of a convolution."""
    if w.ndim != 4:
        raise UnsupportedOperator(f"{node.label}: expected weights of 4 axes (2-D convolution), got shape {w.shape}")
    kernel: Pair = (w.shape[2], w.shape[3])
    if attributes.pair(node, "kernel_shape", kernel) != kernel:
        raise InvalidInput(f"{node.label}: kernel_shape does not agree with weights of shape {w.shape}")
    return kernel


def bias_of(state: Import, node: Node, channels: int) -> np.ndarray:
    """The bias of a convolution; zeros where it has none."""
    b = in_double(state.constant(node, 2)) if node.input(2) else np.zeros(channels)
    if b.shape != (channels,):
        raise InvalidInput(f"{node.label}: expected a bias of {channels} channels, got shape {b.shape}")
    return b


def groups_of(node: Node) -> int:
    """The groups of a convolution."""
    groups = attributes.int_attribute(node, "group", 1)
    if groups < 1:
        raise InvalidInput(f"{node.label}: expected a group of at least 1, got {groups}")
    return groups


def pool(state: Import, node: Node) -> None:
    """MaxPool and AveragePool."""
    largest = node.operator == "MaxPool"
    x, kernel = state.tensor(node), attributes.pair(node, "kernel_shape", None)
    stride, dilation = attributes.pair(node, "strides", (1, 1)), attributes.pair(node, "dilations", (1, 1))
    padding = attributes.padding(node, x, kernel, stride, dilation)
    if dilation != (1, 1) and attributes.auto_pad(node).startswith("SAME"):
        raise UnsupportedOperator(
            f"{node.label}: tools differ in how auto_pad {attributes.auto_pad(node)} pads windows with dilations "
            f"{dilation}; use pads"
        )
    ceil = attributes.flag(node, "ceil_mode")
    if largest:
        layer = layers.max_pool(
            node.name, x, kernel=kernel, stride=stride, padding=padding, dilation=dilation, ceil=ceil
        )
    else:
        layer = layers.average_pool(
            node.name,
            x,
            kernel=kernel,
            stride=stride,
            padding=padding,
            dilation=dilation,
            ceil=ceil,
            count_include_pad=attributes.flag(node, "count_include_pad"),
        )
    state.add(node, layer)


def global_pool(state: Import, node: Node) -> None:
    """GlobalAveragePool and GlobalMaxPool."""
    x = state.tensor(node)
    if node.operator == "GlobalAveragePool" and len(x.shape) == 4:
        state.add(node, layers.global_average_pool(node.name, x))
        return
    if len(x.shape) < 3:
        raise InvalidInput(f"{node.label}: expected a tensor [n, c, ..] with axes behind the channels, got {x}")
    kind = "reduce_mean" if node.operator == "GlobalAveragePool" else "reduce_max"
    state.add(node, reduce(node.name, kind, x, range(2, len(x.shape))))
