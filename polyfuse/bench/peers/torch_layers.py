"""Layers as calls of torch, one function for each operator.

A `Layer` enters; a function of all tensors by name leaves. Activations are applied by the caller.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from functools import partial, reduce
from typing import Any

import numpy as np

from polyfuse.errors import UnsupportedOperator
from polyfuse.network.layer import Layer
from polyfuse.network.operator import (
    Activate,
    Affine,
    Arithmetic,
    Concat,
    Conv,
    ConvTranspose,
    Copy,
    DepthToSpace,
    Expand,
    Gather,
    Gemm,
    GlobalPool,
    InstanceNorm,
    LocalResponse,
    Matmul,
    Operator,
    Pad,
    Pool,
    Prelu,
    Reduce,
    Reshape,
    Resize,
    Shuffle,
    Slice,
    SpaceToDepth,
    Transpose,
    Variance,
    View,
)
from polyfuse.network.resampling import Resampling
from polyfuse.network.window import Window

Function = Callable[[dict[str, Any]], Any]


def of_one(layer: Layer, function: Callable[[Any], Any]) -> Function:
    """A function of the layer's input."""
    x = layer.inputs[0].name
    return lambda values: function(values[x])


def of_operands(layer: Layer, function: Callable[..., Any]) -> Function:
    """A function of what the layer's statements read, in the order of its expression."""
    names = [tensor.name for tensor in layer.operands]
    return lambda values: function(*(values[name] for name in names))


def function_of(torch: Any, layer: Layer) -> Function:
    """The function of a layer without its activation.

    Errors: UnsupportedOperator where torch has none, and where its function says something else than the layer.
    """
    make = next((FUNCTIONS[each] for each in type(layer.operator).__mro__ if each in FUNCTIONS), None)
    if make is None:
        raise UnsupportedOperator(f"layer {layer.name!r}: no function of torch computes the kind {layer.kind!r}")
    return make(torch, layer, layer.operator)


def uneven(torch: Any, window: Window, fill: float) -> tuple[Callable[[Any], Any], Any]:
    """What pads a tensor, and the padding that is left for the layer: torch pads both sides alike."""
    top, left, bottom, right = window.padding
    if (top, left) == (bottom, right):
        return lambda x: x, (top, left)
    return lambda x: torch.nn.functional.pad(x, (left, right, top, bottom), value=fill), (0, 0)


def convolution(torch: Any, layer: Layer, made: Conv) -> Function:
    """Convolution; padding that is not the same on both sides is put on before."""
    window = made.window
    pad, padding = uneven(torch, window, 0.0)
    x, (weight, *bias) = layer.inputs[0].name, [tensor.name for tensor in layer.weights]
    conv = torch.nn.functional.conv2d
    return lambda v: conv(
        pad(v[x]), v[weight], v[bias[0]] if bias else None, window.stride, padding, window.dilation, made.groups
    )


def pool(torch: Any, layer: Layer, made: Pool) -> Function:
    """The largest element of each window, or its mean."""
    window, functional = made.window, torch.nn.functional
    if made.how == "max":
        pad, padding = uneven(torch, window, -np.inf)
        return of_one(
            layer,
            lambda x: functional.max_pool2d(pad(x), window.kernel, window.stride, padding, window.dilation, made.ceil),
        )
    if window.dilation != (1, 1):
        raise UnsupportedOperator(f"layer {layer.name!r}: torch averages no windows with holes")
    if window.padding[:2] != window.padding[2:]:
        return uneven_average(torch, layer, made)
    sizes = (window.kernel, window.stride, window.padding[:2], made.ceil, made.counts_padding)
    return of_one(layer, lambda x: functional.avg_pool2d(x, *sizes))


def uneven_average(torch: Any, layer: Layer, made: Pool) -> Function:
    """Sums of padded windows over how many elements count in each."""
    pad, _ = uneven(torch, made.window, 0.0)
    kernel, stride = made.window.kernel, made.window.stride

    def sums(padded: Any) -> Any:
        return torch.nn.functional.avg_pool2d(padded, kernel, stride, 0, made.ceil, divisor_override=1)

    image = torch.ones(1, 1, *layer.inputs[0].concrete_shape[2:])
    counted = sums(torch.ones_like(pad(image)) if made.counts_padding else pad(image))
    return of_one(layer, lambda x: sums(pad(x)) / counted)


def arithmetic(torch: Any, layer: Layer, made: Arithmetic) -> Function:
    """A function of two operands, or of several."""
    names = {"max": "maximum", "min": "minimum", "sum": "add", "mean": "add"}
    join, count = getattr(torch, names.get(made.how, made.how)), len(layer.operands)
    if made.how == "mean":
        return of_operands(layer, lambda *parts: reduce(join, parts) / count)
    return of_operands(layer, lambda *parts: reduce(join, parts))


def prelu(torch: Any, layer: Layer, _: Prelu) -> Function:
    """A slope below zero: torch's own function where there is one of the image or one of each channel."""

    def apply(x: Any, slope: Any) -> Any:
        if slope.numel() == 1 or (slope.dim() > 2 and slope.numel() == slope.shape[-3] == x.shape[1]):
            return torch.nn.functional.prelu(x, slope.reshape(-1))
        return torch.clamp(x, min=0) + slope * torch.clamp(x, max=0)

    return of_operands(layer, apply)


def deconvolution(torch: Any, layer: Layer, conv: ConvTranspose) -> Function:
    """Transposed convolution; uneven padding is cut off from what torch makes."""
    window, more = conv.window, conv.output_padding
    top, left, bottom, right = window.padding
    x, (weight, *bias) = layer.inputs[0].name, [tensor.name for tensor in layer.weights]
    if (top, left) != (bottom, right) or any(m >= s for m, s in zip(more, window.stride, strict=True)):
        raise UnsupportedOperator(f"layer {layer.name!r}: torch spreads with even padding, and less output padding")
    spread = torch.nn.functional.conv_transpose2d
    return lambda v: spread(
        v[x],
        v[weight],
        v[bias[0]] if bias else None,
        window.stride,
        (top, left),
        more,
        conv.groups,
        window.dilation,
    )


def gemm(torch: Any, layer: Layer, _: Gemm) -> Function:
    """A matrix times weights, and a bias."""
    x, (weight, *bias) = layer.inputs[0].name, [tensor.name for tensor in layer.weights]
    if layer.weights[1:] and len(layer.weights[1].shape) > 1:
        return lambda v: v[x] @ v[weight].T + v[bias[0]]
    return lambda v: torch.nn.functional.linear(v[x], v[weight], v[bias[0]] if bias else None)


def matmul(torch: Any, layer: Layer, _: Matmul) -> Function:
    """The product of two tensors."""
    shape = layer.output.concrete_shape
    return of_operands(layer, lambda a, b: torch.matmul(a, b).reshape(shape))


def sliced(_: Any, layer: Layer, made: Slice) -> Function:
    """Slices and parts, as views where torch has them."""
    ranges = [
        range(first, first + step * size, step)
        for first, size, step in zip(made.starts, made.sizes, made.steps, strict=True)
    ]
    backwards = [axis for axis, each in enumerate(ranges) if each.step < 0]
    forwards = [each[::-1] if axis in backwards else each for axis, each in enumerate(ranges)]
    part = tuple(slice(each.start, each[-1] + 1, each.step) for each in forwards)
    return of_one(layer, lambda x: x[part].flip(backwards) if backwards else x[part])


def padded(torch: Any, layer: Layer, padding: Pad) -> Function:
    """Padding of every axis."""
    if padding.mode != "constant":
        raise UnsupportedOperator(
            f"layer {layer.name!r}: torch pads tensors of any rank by a constant, got {padding.mode}"
        )
    pairs = list(zip(padding.before, padding.after, strict=True))[::-1]
    sides = [side for pair in pairs for side in pair]
    return of_one(layer, lambda x: torch.nn.functional.pad(x, sides, value=padding.value))


def depth_and_space(torch: Any, layer: Layer, blocks: DepthToSpace | SpaceToDepth) -> Function:
    """Channels as blocks of rows and columns, and back."""
    n, c, h, w = layer.inputs[0].concrete_shape
    b, mode, shape = blocks.block, blocks.mode, layer.output.concrete_shape
    if isinstance(blocks, SpaceToDepth):
        order = (0, 3, 5, 1, 2, 4) if mode == "DCR" else (0, 1, 3, 5, 2, 4)
        return of_one(layer, lambda x: x.reshape(n, c, h // b, b, w // b, b).permute(order).reshape(shape))
    if mode == "CRD":
        return of_one(layer, lambda x: torch.nn.functional.pixel_shuffle(x, b))
    return of_one(layer, lambda x: x.reshape(n, b, b, c // b**2, h, w).permute(0, 3, 4, 1, 5, 2).reshape(shape))


def resized(torch: Any, layer: Layer, made: Resize) -> Function:
    """Rows and columns in another resolution, where torch's interpolation says the same."""
    how, sizes, old = made.how, layer.output.concrete_shape, layer.inputs[0].concrete_shape
    even = made.scales == tuple(m / s for s, m in zip(old, sizes, strict=True))
    mode, options = "nearest", {}
    if how.mode == "nearest":
        fits = all(is_rounded_down(how, s, m) for s, m in zip(old, sizes, strict=True))
    else:
        mode, options = f"bi{how.mode}", {"align_corners": how.coordinates == "align_corners"}
        fits = how.coordinates in ("align_corners", "half_pixel", "pytorch_half_pixel") and not how.exclude_outside
    if len(sizes) != 4 or sizes[:2] != old[:2] or not even or not fits:
        raise UnsupportedOperator(f"layer {layer.name!r}: torch resizes rows and columns, by other rules than {how}")
    return of_one(layer, lambda x: torch.nn.functional.interpolate(x, size=sizes[2:], mode=mode, **options))


def is_rounded_down(how: Resampling, size: int, made: int) -> bool:
    """Whether the nearest element of point o is `floor(o * size / made)`, which is torch's."""
    nearest = how.nearest(how.positions(size, made, Fraction(made, size)), size)
    return nearest == [point * size // made for point in range(made)]


def reduction(torch: Any, layer: Layer, made: Reduce) -> Function:
    """Reductions along axes."""
    axes, keepdims, shape = made.axes, made.keepdims, layer.output.concrete_shape
    norm = torch.linalg.vector_norm
    known: dict[str, Callable[[Any], Any]] = {
        "sum": lambda x: x.sum(axes, keepdims),
        "mean": lambda x: x.mean(axes, keepdims),
        "max": lambda x: x.amax(axes, keepdims),
        "min": lambda x: x.amin(axes, keepdims),
        "sum_square": lambda x: (x * x).sum(axes, keepdims),
        "l1": lambda x: norm(x, 1, axes, keepdims),
        "l2": lambda x: norm(x, 2, axes, keepdims),
    }
    if made.how not in known:
        raise UnsupportedOperator(f"layer {layer.name!r}: torch has no {layer.kind} along several axes")
    return of_one(layer, lambda x: known[made.how](x).reshape(shape))


def local_response(torch: Any, layer: Layer, made: LocalResponse) -> Function:
    """Normalisation over neighbouring channels."""
    if made.size % 2 == 0:
        raise UnsupportedOperator(f"layer {layer.name!r}: torch's neighbours of an even number are others than ONNX's")
    norm = torch.nn.functional.local_response_norm
    return of_one(layer, lambda x: norm(x, made.size, made.alpha, made.beta, made.bias))


def moved(torch: Any, layer: Layer, _: Operator) -> Function:
    """Several copies in one: a view reshaped, permuted and reshaped where they are that, elements by index else.

    Errors: UnsupportedOperator for a layer without a reference.
    """
    if layer.reference is None:
        raise UnsupportedOperator(f"layer {layer.name!r}: has no reference that says what moves where")
    x, shape = layer.inputs[0], layer.output.concrete_shape
    places = layer.reference(np.arange(x.elements, dtype=np.float64).reshape(x.concrete_shape))
    indices = np.asarray(places).ravel().astype(np.int64)
    sizes, steps = digits(indices)
    order = sorted(range(len(sizes)), key=lambda axis: -steps[axis])
    before = [sizes[axis] for axis in order]
    if steps_of(before) == [steps[axis] for axis in order] and np.prod(before) == x.elements:
        after = [order.index(axis) for axis in range(len(sizes))]
        return of_one(layer, lambda v: v.reshape(before).permute(after).reshape(shape))
    where = torch.from_numpy(indices)
    return of_one(layer, lambda v: v.reshape(-1).index_select(0, where).reshape(shape))


def digits(indices: np.ndarray) -> tuple[list[int], list[int]]:
    """The axes, with their steps, over which indices grow evenly; none where they do not.

    >>> digits(np.arange(12).reshape(2, 3, 2).transpose(1, 0, 2).ravel())
    ([3, 2, 2], [2, 6, 1])
    >>> digits(np.array([0, 3, 1, 2]))
    ([], [])
    """
    sizes: list[int] = []
    steps: list[int] = []
    rest = indices
    while len(rest) > 1:
        step = int(rest[1] - rest[0])
        uneven = np.flatnonzero(rest != rest[0] + step * np.arange(len(rest)))
        size = int(uneven[0]) if len(uneven) else len(rest)
        if len(rest) % size or step <= 0:
            return [], []
        sizes, steps, rest = [size, *sizes], [step, *steps], rest[::size]
    grown = sum((step * axis for step, axis in zip(steps, np.indices(sizes), strict=True)), np.zeros(sizes, np.int64))
    return (sizes, steps) if np.array_equal(grown.ravel() + indices[0], indices) else ([], [])


def steps_of(sizes: Sequence[int]) -> list[int]:
    """The steps of the axes of a tensor in row-major order.

    >>> steps_of([2, 3, 4])
    [12, 4, 1]
    """
    return [math.prod(sizes[axis + 1 :]) for axis in range(len(sizes))]


FUNCTIONS: Mapping[type[Operator], Callable[[Any, Layer, Any], Function]] = {
    Activate: lambda torch, layer, _: of_one(layer, lambda x: x),
    Affine: lambda torch, layer, _: of_operands(layer, lambda x, scale, shift: x * scale + shift),
    Arithmetic: arithmetic,
    Concat: lambda torch, layer, made: of_operands(layer, lambda *parts: torch.cat(parts, made.axis)),
    Conv: convolution,
    ConvTranspose: deconvolution,
    Copy: lambda torch, layer, _: of_one(layer, torch.clone),
    DepthToSpace: depth_and_space,
    Expand: lambda torch, layer, made: of_one(layer, lambda x: x.expand(made.shape)),
    Gather: lambda torch, layer, made: of_one(
        layer, partial(torch.index_select, dim=made.axis, index=torch.tensor(made.indices))
    ),
    Gemm: gemm,
    GlobalPool: lambda torch, layer, _: of_one(layer, lambda x: x.mean((2, 3), keepdim=True)),
    InstanceNorm: lambda torch, layer, made: of_operands(
        layer, lambda x, mean, spread, scale, shift: (x - mean) / torch.sqrt(spread + made.epsilon) * scale + shift
    ),
    LocalResponse: local_response,
    Matmul: matmul,
    Pad: padded,
    Pool: pool,
    Prelu: prelu,
    Reduce: reduction,
    Reshape: lambda torch, layer, made: of_one(layer, lambda x: x.reshape(made.shape)),
    Resize: resized,
    Shuffle: moved,
    Slice: sliced,
    SpaceToDepth: depth_and_space,
    Transpose: lambda torch, layer, made: of_one(layer, lambda x: x.permute(made.order)),
    Variance: lambda torch, layer, made: of_operands(layer, lambda x, mean: (x - mean).square().mean(made.axes, True)),
    View: moved,
}
"""What makes the function of a layer of each operator, from torch, the layer and the operator."""
