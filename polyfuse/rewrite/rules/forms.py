"""The forms of layers beyond their operator: scales and shifts by weights, and functions that make them anew."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from polyfuse.network.activated import with_activation
from polyfuse.network.activation import Activation
from polyfuse.network.dtypes import Array
from polyfuse.network.layer import Layer
from polyfuse.network.layers import pointwise
from polyfuse.network.layers.convolution import convolution
from polyfuse.network.layers.deconvolution import conv_transpose
from polyfuse.network.layers.normalisation import instance_norm
from polyfuse.network.operator import Affine, Arithmetic, Conv, ConvTranspose, Gemm, InstanceNorm, Reduce
from polyfuse.network.renaming import renamed
from polyfuse.network.tensor import Tensor
from polyfuse.rewrite.graph import Replacement, RewriteGraph
from polyfuse.rewrite.rule import Condition, Match, Refusal, is_one_of

SUMS = (Arithmetic("add"), Arithmetic("sub"))
SCALES = (Affine, *SUMS, Arithmetic("mul"), Arithmetic("div"))
"""Operators that may scale and shift one tensor by weights."""
CONVOLUTIONS = (Conv, ConvTranspose)
TAKES_ACTIVATION = (*CONVOLUTIONS, Gemm, Affine, InstanceNorm, Arithmetic, Reduce)
"""Operators that an activation is moved into."""
TRIED = (-1.0, 1.0, -4.0, 4.0, 0.5)
"""Values that counterexamples are looked for among."""
LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, eq=False)
class Scaling:
    """`x * scale + shift`, and an activation of that; scale and shift have the rank of x and are broadcast."""

    x: Tensor
    scale: Array
    shift: Array
    activation: Activation | None


def scaling(graph: RewriteGraph, layer: Layer) -> Scaling | None:
    """The scaling that a layer is: by weights, of one tensor whose shape it keeps. None for other layers."""
    if not is_one_of(layer, SCALES) or len(layer.inputs) != 1 or layer.inputs[0].shape != layer.output.shape:
        return None
    x, values = layer.inputs[0], _operands(graph, layer)
    one, none = np.ones((1,) * layer.rank), np.zeros((1,) * layer.rank)
    match layer.operator, values:
        case Affine(), [None, scale, shift] if scale is not None and shift is not None:
            pair = scale, shift
        case Arithmetic(how="add"), ([None, b] | [b, None]) if b is not None:
            pair = one, b
        case Arithmetic(how="sub"), [None, b] if b is not None:
            pair = one, -b
        case Arithmetic(how="sub"), [a, None] if a is not None:
            pair = -one, a
        case Arithmetic(how="mul"), ([None, b] | [b, None]) if b is not None:
            pair = b, none
        case Arithmetic(how="div"), [None, b] if b is not None and b.all():
            pair = 1.0 / b, none
        case _:
            return None
    return Scaling(x, *pair, layer.activation)


def _operands(graph: RewriteGraph, layer: Layer) -> list[Array | None]:
    """The operands of a pointwise layer: the values of weights, None for tensors that are computed."""
    return [
        _whole_rank(graph.value(tensor), layer.rank) if tensor in layer.weights else None for tensor in layer.operands
    ]


def per_channel(values: Array, channels: int) -> Array | None:
    """One value for each channel (axis 1), where the values differ along no other axis."""
    flat = values.ravel()
    if values.size and (flat == flat[0]).all():
        return np.full(channels, flat[0])
    return flat if values.shape[:2] == (1, channels) and values.size == channels else None


def applied(activation: Activation | None, value: float) -> float:
    """The value of an activation at a number."""
    return value if activation is None else float(activation(np.array(value)))


def convolution_like(
    match: Match, like: Layer, x: Tensor, weight: Array, bias: Array | None, activation: Activation | None
) -> Replacement:
    """A convolution with the name and the operator of another, and new weights."""
    w = match.weight(like.name, "weight", weight.shape)
    values = {w.name: weight}
    b = None
    if bias is not None:
        b = match.weight(like.name, "bias", bias.shape)
        values[b.name] = bias
    layer = with_activation(_convolved(like, x, w, b), activation)
    return Replacement.by(layer, weights=values)


def _convolved(like: Layer, x: Tensor, w: Tensor, b: Tensor | None) -> Layer:
    match like.operator:
        case Conv(window=window, groups=groups):
            return convolution(like.name, x, w, b, window, groups)
        case ConvTranspose(window=window, groups=groups, output_padding=more):
            return conv_transpose(like.name, x, w, b, window, groups, more)
    raise TypeError(f"layer {like.name!r}: expected a convolution, got {like.operator}")


def groups_of(conv: Layer) -> int:
    """The groups of a convolution."""
    match conv.operator:
        case Conv(groups=groups) | ConvTranspose(groups=groups):
            return groups
    return 1


def renormalised(layer: Layer, scale: Tensor, shift: Tensor, activation: Activation | None) -> Layer:
    """The last layer of an instance normalisation, of the same means and variances, with another scale and shift."""
    x, mean, spread = layer.operands[:3]
    *moments, last = instance_norm(layer.name, x, scale, shift, epsilon=epsilon_of(layer))
    for part, tensor in zip(moments, (mean, spread), strict=True):
        last = renamed(last, part.output, tensor)
    return with_activation(last, activation)


def epsilon_of(norm: Layer) -> float:
    """The number that an instance normalisation adds to variances."""
    assert isinstance(norm.operator, InstanceNorm)
    return norm.operator.epsilon


def bias_of(graph: RewriteGraph, conv: Layer) -> Array | None:
    """The bias of a convolution."""
    return graph.value(conv.weights[1]) if len(conv.weights) > 1 else None


def affine(match: Match, name: str, found: Scaling) -> Replacement:
    """A scaling as one layer."""
    weights = [match.weight(name, "scale", found.scale.shape), match.weight(name, "shift", found.shift.shape)]
    layer = with_activation(pointwise.affine(name, found.x, *weights), found.activation)
    return Replacement.by(layer, weights={weights[0].name: found.scale, weights[1].name: found.shift})


def _whole_rank(values: Array, rank: int) -> Array:
    return values.reshape((1,) * (rank - values.ndim) + values.shape)


def without_activation(role: str) -> Condition:
    """A layer ends in no activation, which would come between it and what follows."""
    return Condition(
        f"the {role} has no activation",
        lambda match: match[role].activation is None,
        lambda match: _activation_between(match, role),
    )


def _activation_between(match: Match, role: str) -> Refusal:
    """Numbers that show that a scaling after an activation is not one before it, or an activation not linear."""
    activation = match[role].activation
    assert activation is not None
    reason = f"{match[role].name} ends in {activation.name}"
    after, before = scaling(match.graph, match.root), scaling(match.graph, match[role])
    if after is not None:
        return Refusal(f"{reason}, and scaling before it is not scaling after it", _not_commuting(activation, after))
    if before is not None:
        return Refusal(f"{reason}, which is not linear", _not_linear(activation, before))
    return Refusal(reason)


def _not_commuting(activation: Activation, found: Scaling) -> str:
    name = activation.name
    for value, scale, shift in _tries(found):
        after, before = scale * applied(activation, value) + shift, applied(activation, scale * value + shift)
        if abs(after - before) > 1e-9 * max(1.0, abs(after)):
            times = f" * {scale:g} + {shift:g}"
            return f"{name}({value:g}){times} = {after:g}, {name}({value:g}{times}) = {before:g}"
    return ""


def _not_linear(activation: Activation, found: Scaling) -> str:
    for value, scale, shift in _tries(found):
        scaled = scale * value + shift
        if abs(applied(activation, scaled) - scaled) > 1e-9 * max(1.0, abs(scaled)):
            text = f"{value:g} * {scale:g} + {shift:g}"
            return f"{activation.name}({text}) = {applied(activation, scaled):g}, {text} = {scaled:g}"
    return ""


def _tries(found: Scaling) -> Iterator[tuple[float, float, float]]:
    """Values, each with some pairs of scale and shift that occur together."""
    scale, shift = np.broadcast_arrays(found.scale, found.shift)
    pairs = dict.fromkeys(zip(scale.ravel()[:64].tolist(), shift.ravel()[:64].tolist(), strict=True))
    return ((value, *pair) for pair in pairs for value in TRIED)
