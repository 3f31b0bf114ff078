"""What layers are, beyond their kind: scales and shifts by weights, their activations, and how to make them anew."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyfuse.network import layers as make
from polyfuse.network.deconvolution import conv_transpose
from polyfuse.network.layer import Layer
from polyfuse.network.matrices import gemm
from polyfuse.network.normalisation import instance_norm
from polyfuse.network.operators import ACTIVATIONS
from polyfuse.network.reductions import REDUCTIONS, reduce
from polyfuse.network.statements import Activation
from polyfuse.network.tensor import Tensor
from polyfuse.rewrite.graph import Graph, Replacement, renamed
from polyfuse.rewrite.rule import Condition, Match, Refusal

Array = NDArray[np.float64]
Spec = str | Sequence[object]
SCALES = frozenset(["affine", "add", "sub", "mul", "div"])
"""Kinds that may scale and shift one tensor by weights."""
CONVOLUTIONS: Mapping[str, Callable[..., Layer]] = {"conv": make.convolution, "conv_transpose": conv_transpose}
GEOMETRY = frozenset(["stride", "padding", "dilation", "output_padding", "groups"])
WITH_ACTIVATION = frozenset(
    [*CONVOLUTIONS, "gemm", "affine", "instance_norm", *make.ARITHMETIC, *make.VARIADIC, *REDUCTIONS]
)
"""Kinds that can end in an activation."""
ACTIVATION_KINDS = frozenset(ACTIVATIONS)
TRIED = (-1.0, 1.0, -4.0, 4.0, 0.5)
"""Values that counterexamples are looked for among."""
LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, eq=False)
class Scaling:
    """`x * scale + shift`, and an activation of that; scale and shift have the rank of x and are broadcast."""

    x: Tensor
    scale: Array
    shift: Array
    activation: Spec | None


def scaling(graph: Graph, layer: Layer) -> Scaling | None:
    """The scaling that a layer is: by weights, of one tensor whose shape it keeps. None for other layers."""
    if layer.kind not in SCALES or len(layer.inputs) != 1 or layer.inputs[0].shape != layer.output.shape:
        return None
    x, values = layer.inputs[0], _operands(graph, layer)
    one, none = np.ones((1,) * layer.rank), np.zeros((1,) * layer.rank)
    match layer.kind, values:
        case "affine", [None, scale, shift] if scale is not None and shift is not None:
            pair = scale, shift
        case "add", [None, b] if b is not None:
            pair = one, b
        case "add", [a, None] if a is not None:
            pair = one, a
        case "sub", [None, b] if b is not None:
            pair = one, -b
        case "sub", [a, None] if a is not None:
            pair = -one, a
        case "mul", [None, b] if b is not None:
            pair = b, none
        case "mul", [a, None] if a is not None:
            pair = a, none
        case "div", [None, b] if b is not None and b.all():
            pair = 1.0 / b, none
        case _:
            return None
    return Scaling(x, *pair, activation_of(layer))


def _operands(graph: Graph, layer: Layer) -> list[Array | None]:
    """The operands of a pointwise layer: the values of weights, None for tensors that are computed."""
    return [
        _whole_rank(graph.value(tensor), layer.rank) if tensor in layer.weights else None
        for tensor in operands_of(layer)
    ]


def activation_of(layer: Layer) -> Spec | None:
    """The activation that a layer ends in, or is."""
    spec = layer.attributes.get("activation")
    assert spec is None or isinstance(spec, str | Sequence)
    return spec


def per_channel(values: Array, channels: int) -> Array | None:
    """One value for each channel (axis 1), where the values differ along no other axis."""
    flat = values.ravel()
    if values.size and (flat == flat[0]).all():
        return np.full(channels, flat[0])
    return flat if values.shape[:2] == (1, channels) and values.size == channels else None


def applied(spec: Spec | None, value: float) -> float:
    """The value of an activation at a number."""
    return value if spec is None else float(Activation(spec)(np.array(value)))


def convolution(
    match: Match, like: Layer, x: Tensor, weight: Array, bias: Array | None, activation: Spec | None
) -> Replacement:
    """A convolution with the name and the geometry of another, and new weights."""
    w = match.weight(like.name, "weight", weight.shape)
    values = {w.name: weight}
    b = None
    if bias is not None:
        b = match.weight(like.name, "bias", bias.shape)
        values[b.name] = bias
    layer = CONVOLUTIONS[like.kind](like.name, x, w, b, activation=activation, **geometry(like))
    return Replacement((layer,), values, layer.output)


def geometry(conv: Layer) -> dict[str, Any]:
    """Stride, padding, dilation and groups of a convolution, and what else says where its window is."""
    return {name: value for name, value in conv.attributes.items() if name in GEOMETRY}


def with_activation(layer: Layer, spec: Spec | None) -> Layer:
    """A layer of a kind in WITH_ACTIVATION that ends in an activation instead of none."""
    made = _ending_in(layer, spec)
    known = {name: value for name, value in layer.attributes.items() if name == "dequantised"}
    return replace(made, attributes={**made.attributes, **known}) if known else made


def _ending_in(layer: Layer, spec: Spec | None) -> Layer:
    reads = (*layer.inputs, *layer.weights)
    if layer.kind in CONVOLUTIONS:
        return CONVOLUTIONS[layer.kind](layer.name, *reads, **geometry(layer), activation=spec)
    if layer.kind == "gemm":
        return gemm(layer.name, *reads, activation=spec)
    if layer.kind in REDUCTIONS:
        options: dict[str, Any] = {name: layer.attributes[name] for name in ("axes", "keepdims")}
        return reduce(layer.name, layer.kind, reads[0], **options, activation=spec)
    operands = operands_of(layer)
    if layer.kind == "affine":
        return make.affine(layer.name, *operands, activation=spec)
    if layer.kind == "instance_norm":
        return renormalised(layer, operands[3], operands[4], spec)
    if layer.kind in make.VARIADIC:
        return make.variadic(layer.name, layer.kind, operands, constants=layer.weights, activation=spec)
    constants = [name for name, tensor in zip("ab", operands, strict=True) if tensor in layer.weights]
    return make.arithmetic(layer.name, layer.kind, *operands, constants=constants, activation=spec)


def renormalised(layer: Layer, scale: Tensor, shift: Tensor, spec: Spec | None) -> Layer:
    """The last layer of an instance normalisation, of the same means and variances, with another scale and shift."""
    x, mean, spread = operands_of(layer)[:3]
    epsilon: Any = layer.attributes["epsilon"]
    *moments, last = instance_norm(layer.name, x, scale, shift, epsilon=epsilon, activation=spec)
    for part, tensor in zip(moments, (mean, spread), strict=True):
        last = renamed(last, part.output, tensor)
    return last


def operands_of(layer: Layer) -> tuple[Tensor, ...]:
    """The operands of a pointwise layer, in order."""
    tensors = {tensor.name: tensor for tensor in (*layer.inputs, *layer.weights)}
    names = layer.attributes["operands"]
    assert isinstance(names, tuple)
    return tuple(tensors[name] for name in names)


def bias_of(graph: Graph, conv: Layer) -> Array | None:
    """The bias of a convolution."""
    return graph.value(conv.weights[1]) if len(conv.weights) > 1 else None


def affine(match: Match, name: str, found: Scaling) -> Replacement:
    """A scaling as one layer."""
    weights = [match.weight(name, "scale", found.scale.shape), match.weight(name, "shift", found.shift.shape)]
    layer = make.affine(name, found.x, *weights, activation=found.activation)
    return Replacement((layer,), {weights[0].name: found.scale, weights[1].name: found.shift}, layer.output)


def _whole_rank(values: Array, rank: int) -> Array:
    return values.reshape((1,) * (rank - values.ndim) + values.shape)


def without_activation(role: str) -> Condition:
    """A layer ends in no activation, which would come between it and what follows."""
    return Condition(
        f"the {role} has no activation",
        lambda match: activation_of(match[role]) is None,
        lambda match: _activation_between(match, role),
    )


def _activation_between(match: Match, role: str) -> Refusal:
    """Numbers that show that a scaling after an activation is not one before it, or an activation not linear."""
    spec = activation_of(match[role])
    assert spec is not None
    name = Activation(spec).name
    reason = f"{match[role].name} ends in {name}"
    after, before = scaling(match.graph, match.root), scaling(match.graph, match[role])
    if after is not None:
        return Refusal(f"{reason}, and scaling before it is not scaling after it", _not_commuting(name, spec, after))
    if before is not None:
        return Refusal(f"{reason}, which is not linear", _not_linear(name, spec, before))
    return Refusal(reason)


def _not_commuting(name: str, spec: Spec, found: Scaling) -> str:
    for scale, shift in _pairs(found):
        for value in TRIED:
            after, before = scale * applied(spec, value) + shift, applied(spec, scale * value + shift)
            if abs(after - before) > 1e-9 * max(1.0, abs(after)):
                return (
                    f"{name}({value:g}) * {scale:g} + {shift:g} = {after:g}, "
                    f"{name}({value:g} * {scale:g} + {shift:g}) = {before:g}"
                )
    return ""


def _not_linear(name: str, spec: Spec, found: Scaling) -> str:
    for scale, shift in _pairs(found):
        for value in TRIED:
            scaled = scale * value + shift
            if abs(applied(spec, scaled) - scaled) > 1e-9 * max(1.0, abs(scaled)):
                text = f"{value:g} * {scale:g} + {shift:g}"
                return f"{name}({text}) = {applied(spec, scaled):g}, {text} = {scaled:g}"
    return ""


def _pairs(found: Scaling) -> list[tuple[float, float]]:
    """Some pairs of scale and shift that occur together."""
    scale, shift = np.broadcast_arrays(found.scale, found.shift)
    return list(dict.fromkeys(zip(scale.ravel()[:64].tolist(), shift.ravel()[:64].tolist(), strict=True)))
