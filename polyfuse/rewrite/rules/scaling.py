"""Rules that fold scales and shifts by weights, batch normalisation among them, into convolutions and each other."""

from math import prod

import numpy as np

from polyfuse.network.dtypes import Array
from polyfuse.network.layer import Layer
from polyfuse.network.operator import Conv, window_of
from polyfuse.rewrite.graph import Replacement
from polyfuse.rewrite.rule import Condition, Match, Pattern, Refusal, Rule, only_read_by_root, pattern
from polyfuse.rewrite.rules.forms import (
    CONVOLUTIONS,
    LARGEST,
    SCALES,
    Scaling,
    affine,
    bias_of,
    convolution_like,
    groups_of,
    per_channel,
    scaling,
    without_activation,
)

BEFORE, AFTER = "layer before", "layer after"


def _scaled(match: Match, role: str) -> Scaling:
    found = scaling(match.graph, match[role])
    assert found is not None
    return found


def channel_values(match: Match, role: str) -> tuple[Array | None, Array | None]:
    """Scale and shift of each channel, where they are the same all over the image."""
    found = _scaled(match, role)
    channels = found.x.concrete_shape[1] if len(found.x.shape) > 1 else 1
    return per_channel(found.scale, channels), per_channel(found.shift, channels)


def scales(role: str, *reads: Pattern) -> Pattern:
    """A layer that scales and shifts one tensor by weights, and does no more than end in an activation."""
    return pattern(role, SCALES, *reads, form=lambda graph, layer: scaling(graph, layer) is not None)


def by_channels(role: str) -> Condition:
    """Scale and shift depend on nothing but the channel."""
    return Condition(
        f"scale and shift of the {role} depend on the channel only",
        lambda match: all(values is not None for values in channel_values(match, role)),
        lambda match: _differs_over_image(_scaled(match, role)),
    )


def _differs_over_image(found: Scaling) -> Refusal:
    for name, values in (("scale", found.scale), ("shift", found.shift)):
        whole = np.broadcast_to(values, found.x.concrete_shape)
        first = whole[:1, :, *(slice(0, 1),) * (whole.ndim - 2)] if whole.ndim > 1 else whole[:1]
        different = np.argwhere(whole != first)
        if len(different):
            at = tuple(map(int, different[0]))
            origin = (0, at[1], *(0,) * (len(at) - 2)) if len(at) > 1 else (0,)
            return Refusal(
                "weights of a convolution are the same all over the image",
                f"the {name} is {whole[origin]:g} at {list(origin)} and {whole[at]:g} at {list(at)}",
            )
    return Refusal("weights of a convolution are the same all over the image")


def finite_products(role: str, conv: str) -> Condition:
    """No folded weight leaves the range of float32, so that nothing becomes infinite that was not."""

    def largest(match: Match) -> float:
        found = _scaled(match, role)
        weights = max(float(np.abs(match.graph.value(w)).max()) for w in match[conv].weights)
        taps = match.graph.value(match[conv].weights[0])[0].size if match[conv] is match.root else 1
        factors = float(np.abs(found.scale).max()) + float(np.abs(found.shift).max())
        with np.errstate(over="ignore", invalid="ignore"):
            return (1.0 + weights) * (1.0 + factors) * taps

    return Condition(
        "folded weights are finite in float32",
        lambda match: largest(match) <= LARGEST,
        lambda match: Refusal(
            "a folded weight may be infinite or NaN",
            f"weights times scale and shift reach {largest(match):.3g}, and float32 ends at {LARGEST:.3g}",
        ),
    )


def _into_conv_before(match: Match) -> Replacement:
    conv, found = match[BEFORE], _scaled(match, AFTER)
    scale, shift = channel_values(match, AFTER)
    assert scale is not None and shift is not None
    weight, bias = match.graph.value(conv.weights[0]), bias_of(match.graph, conv)
    moved = (0.0 if bias is None else bias * scale) + shift
    kept = moved if bias is not None or moved.any() else None
    return convolution_like(match, conv, conv.inputs[0], _by_output(conv, weight, scale), kept, found.activation)


def _by_output(conv: Layer, weight: Array, scale: Array) -> Array:
    """Weights times a scale of each output channel: of `[oc, ic/groups, ..]`, transposed `[ic, oc/groups, ..]`."""
    if isinstance(conv.operator, Conv):
        return weight * scale[:, None, None, None]
    groups = groups_of(conv)
    apart = weight.reshape(groups, -1, *weight.shape[1:]) * scale.reshape(groups, 1, -1, 1, 1)
    return apart.reshape(weight.shape)


INTO_CONV_BEFORE = Rule(
    "scaling-into-conv-before",
    "s * (sum w x + b) + t  ->  sum (s w) x + (s b + t)",
    scales(AFTER, pattern(BEFORE, CONVOLUTIONS)),
    (
        by_channels(AFTER),
        without_activation(BEFORE),
        only_read_by_root(BEFORE),
        finite_products(AFTER, BEFORE),
    ),
    _into_conv_before,
)


def _unpadded(match: Match) -> bool:
    _, shift = channel_values(match, BEFORE)
    window = window_of(match[AFTER].operator)
    return window is None or not any(window.padding) or (shift is not None and not shift.any())


def _border(match: Match) -> Refusal:
    """The shift at a corner, where the window reads padding: what the layer makes of x = 0, and what folding would."""
    conv, (_, shift) = match[AFTER], channel_values(match, BEFORE)
    assert conv.reference is not None and shift is not None
    weights = [match.graph.value(w) for w in conv.weights]
    shape = conv.inputs[0].concrete_shape
    before = np.broadcast_to(shift.reshape(1, -1, 1, 1), shape)
    truth = conv.reference(before, *weights)
    folded = conv.reference(np.zeros(shape), weights[0], _moved_bias(match))
    at = tuple(map(int, np.unravel_index(np.argmax(np.abs(truth - folded)), truth.shape)))
    return Refusal(
        "padding adds zeros behind the shift, not the shift",
        f"with x = 0 the element {list(at)} of {conv.output.name} is {truth[at]:.6g}, folded it would be "
        f"{folded[at]:.6g}",
    )


def _moved_bias(match: Match) -> Array:
    """The bias of a convolution that takes the shift before it in."""
    conv, (_, shift) = match[AFTER], channel_values(match, BEFORE)
    assert shift is not None
    weight, bias = match.graph.value(conv.weights[0]), bias_of(match.graph, conv)
    moved = np.einsum("oikl,oi->o", weight, _of_groups(shift, conv, weight))
    return np.asarray(moved + (0.0 if bias is None else bias))


def _of_groups(values: Array, conv: Layer, weight: Array) -> Array:
    """`[oc, ic of the group]` of values of the input channels."""
    groups = groups_of(conv)
    return np.repeat(values.reshape(groups, -1), len(weight) // groups, axis=0)


def _into_conv_after(match: Match) -> Replacement:
    conv, found = match[AFTER], _scaled(match, BEFORE)
    scale, shift = channel_values(match, BEFORE)
    assert scale is not None and shift is not None
    weight = match.graph.value(conv.weights[0])
    scaled = weight * _of_groups(scale, conv, weight)[:, :, None, None]
    bias = _moved_bias(match) if len(conv.weights) > 1 or shift.any() else None
    return convolution_like(match, conv, found.x, scaled, bias, conv.activation)


INTO_CONV_AFTER = Rule(
    "scaling-into-conv-after",
    "sum w (s x + t) + b  ->  sum (w s) x + (b + sum w t)",
    pattern(AFTER, Conv, scales(BEFORE)),
    (
        without_activation(BEFORE),
        by_channels(BEFORE),
        Condition("there is no padding, or no shift", _unpadded, _border),
        only_read_by_root(BEFORE),
        finite_products(BEFORE, AFTER),
    ),
    _into_conv_after,
)


def _chain(match: Match) -> Replacement:
    first, second = _scaled(match, BEFORE), _scaled(match, AFTER)
    scale = first.scale * second.scale
    shift = first.shift * second.scale + second.shift
    return affine(match, match[BEFORE].name, Scaling(first.x, scale, shift, second.activation))


def _products(match: Match) -> tuple[int, int]:
    """The elements of the weights together and apart."""
    first, second = _scaled(match, BEFORE), _scaled(match, AFTER)
    shapes = [values.shape for values in (first.scale, first.shift, second.scale, second.shift)]
    return prod(np.broadcast_shapes(*shapes)), max(map(prod, shapes))


SCALING_CHAIN = Rule(
    "scaling-chain",
    "u * (s x + t) + v  ->  (u s) x + (u t + v)",
    scales(AFTER, scales(BEFORE)),
    (
        without_activation(BEFORE),
        only_read_by_root(BEFORE),
        Condition(
            "weights of both together are no larger than those of one",
            lambda match: _products(match)[0] <= _products(match)[1],
            lambda match: Refusal("weights would grow", "{:,} elements, not {:,}".format(*_products(match))),
        ),
    ),
    _chain,
    "the same while u s is finite in float32",
)
