"""Rules that make convolutions and pools of matrix products and reductions, which have row kernels."""

from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyfuse.network.activated import with_activation
from polyfuse.network.dtypes import Array
from polyfuse.network.layer import Layer
from polyfuse.network.layers import copies, pooling
from polyfuse.network.layers.convolution import convolution
from polyfuse.network.operator import Gemm, Reduce
from polyfuse.network.tensor import Tensor
from polyfuse.rewrite.graph import Replacement, RewriteGraph
from polyfuse.rewrite.rule import Condition, Match, Refusal, Rule, only_read_by_root, pattern
from polyfuse.rewrite.rules.copies import PERMUTING, reads_one
from polyfuse.rewrite.rules.forms import bias_of

FLATTEN = "flattening copy"


def _from_image(graph: RewriteGraph, layer: Layer) -> bool:
    return reads_one(graph, layer) and len(layer.inputs[0].shape) == 4 and len(layer.output.shape) == 2


def _source_columns(match: Match) -> NDArray[np.int64] | None:
    """The element of an image that each column of the flattened images is; None where images are mixed."""
    copied = match[FLATTEN]
    shape = copied.inputs[0].concrete_shape
    images, size = shape[0], prod(shape[1:])
    assert copied.reference is not None
    table = copied.reference(np.arange(images * size, dtype=np.float64).reshape(shape)).astype(np.int64)
    if table.shape != (images, size):
        return None
    columns: NDArray[np.int64] = table - size * np.arange(images)[:, None]
    whole = np.array_equal(np.sort(columns[0]), np.arange(size))
    return columns[0] if whole and (columns == columns[0]).all() else None


def _bias(match: Match) -> Array | None:
    """One value for each column of the product, where there is a bias; of another shape where it is no such bias."""
    bias = bias_of(match.graph, match.root)
    if bias is None:
        return None
    columns = match.root.output.concrete_shape[1]
    by_column = bias.size == 1 or (bias.size == columns and bias.shape[-1] == columns)
    return np.broadcast_to(bias.ravel(), (columns,)) if by_column else bias


def _row_bias(match: Match) -> bool:
    bias = _bias(match)
    return bias is None or bias.shape == (match.root.output.concrete_shape[1],)


def _convolved(match: Match) -> Replacement:
    columns = _source_columns(match)
    assert columns is not None
    flat = match.graph.weights[match.root.weights[0].name]
    weight = flat if np.array_equal(columns, np.arange(len(columns))) else flat[:, np.argsort(columns)]
    return _convolution(match, match[FLATTEN].inputs[0], weight)


def _convolution(match: Match, x: Tensor, flat: NDArray[Any]) -> Replacement:
    """A matrix product as a convolution of images, each a row, and a reshape to what the product makes."""
    root = match.root
    name = match.fresh(f"{root.name}_conv")
    w = match.weight(name, "weight", (len(flat), *x.concrete_shape[1:]))
    values: dict[str, NDArray[Any]] = {w.name: flat.reshape(w.concrete_shape)}
    b, bias = None, _bias(match)
    if bias is not None:
        b = match.weight(name, "bias", bias.shape)
        values[b.name] = bias
    conv = with_activation(convolution(name, x, w, b), root.activation)
    last = copies.reshape(root.name, conv.output, root.output.concrete_shape)
    return Replacement.by(conv, last, weights=values)


ROW_BIAS = Condition(
    "the bias is one for each column",
    _row_bias,
    lambda match: Refusal(f"the bias of {match.root.name} has the shape {match.root.weights[1].shape}"),
)
OF_FLOATS = Condition(
    "its weights are not dequantized: as a matrix product it may become one of whole numbers",
    lambda match: not match.root.dequantised,
    lambda match: Refusal(f"the weights of {match.root.name} are dequantized"),
)
FLATTENED_PRODUCT = Rule(
    "flattened-product",
    "gemm(flatten(x))  ->  reshape(conv(x)) with a window as large as the image",
    pattern("product", Gemm, pattern(FLATTEN, PERMUTING, form=_from_image)),
    (
        only_read_by_root(FLATTEN),
        Condition(
            "each image is a row of its own, with its elements in the same order",
            lambda match: _source_columns(match) is not None,
            lambda match: Refusal(f"{match[FLATTEN].name} puts elements of several images into one row"),
        ),
        ROW_BIAS,
        OF_FLOATS,
    ),
    _convolved,
)


def _with_pixels(match: Match) -> Replacement:
    root, x = match.root, match.root.inputs[0]
    images = copies.reshape(match.fresh(f"{root.name}_images"), x, (*x.concrete_shape, 1, 1))
    found = _convolution(match, images.output, match.graph.weights[root.weights[0].name])
    return replace(found, layers=(images, *found.layers))


PRODUCT_OF_ROWS = Rule(
    "product-of-rows",
    "gemm(x)  ->  reshape(conv(reshape(x))) with rows as images of one element a channel",
    pattern("product", Gemm),
    (ROW_BIAS, OF_FLOATS),
    _with_pixels,
)


def _over_image(graph: RewriteGraph, layer: Layer) -> bool:
    """The mean of rows and columns of an image."""
    match layer.operator:
        case Reduce(how="mean", axes=(2, 3)):
            return len(layer.inputs) == 1 and len(layer.inputs[0].shape) == 4
    return False


def _pooled(match: Match) -> Replacement:
    root = match.root
    if len(root.output.shape) == 4:
        return Replacement.by(pooling.global_average_pool(root.name, root.inputs[0]))
    pool = pooling.global_average_pool(match.fresh(f"{root.name}_pool"), root.inputs[0])
    last = copies.reshape(root.name, pool.output, root.output.concrete_shape)
    return Replacement.by(pool, last)


MEAN_OF_IMAGE = Rule(
    "mean-of-image",
    "the mean over rows and columns  ->  global average pooling",
    pattern("mean", Reduce, form=_over_image),
    (
        Condition(
            "no activation follows in the same layer",
            lambda match: match.root.activation is None,
            lambda match: Refusal(f"{match.root.name} ends in an activation, and pooling cannot"),
        ),
    ),
    _pooled,
)
