"""Rules of instance normalisation: scales and shifts behind it fold, those before it only where epsilon allows it."""

import numpy as np

from polyfuse.network.activated import with_activation
from polyfuse.network.dtypes import Array
from polyfuse.network.layer import Layer
from polyfuse.network.layers import normalisation
from polyfuse.network.operator import GlobalPool, InstanceNorm, Reduce, Variance
from polyfuse.network.tensor import Tensor
from polyfuse.rewrite.graph import Replacement, RewriteGraph
from polyfuse.rewrite.rule import Condition, Match, Refusal, Rule, only_read_by_root, pattern
from polyfuse.rewrite.rules.forms import epsilon_of, renormalised, scaling, without_activation
from polyfuse.rewrite.rules.scaling import AFTER, BEFORE, by_channels, channel_values, scales

NORM, MEAN, VARIANCE = "normalisation", "mean", "variance"


def _columns(match: Match, name: str, rank: int, gain: Array, offset: Array) -> tuple[list[Tensor], dict[str, Array]]:
    """New weights of a normalisation, one value for each channel."""
    shape = (1, len(gain), *(1,) * (rank - 2))
    weights = [match.weight(name, part, shape) for part in ("scale", "shift")]
    return weights, {w.name: value.reshape(shape) for w, value in zip(weights, (gain, offset), strict=True)}


def _gain_and_offset(match: Match, role: str) -> tuple[Array, Array]:
    """The weights of a normalisation, one value for each channel."""
    layer = match[role]
    channels = layer.output.concrete_shape[1]
    gain, offset = (np.broadcast_to(match.graph.value(w).ravel(), (channels,)) for w in layer.operands[3:])
    return gain, offset


def _after(match: Match) -> Replacement:
    norm, found = match[BEFORE], scaling(match.graph, match[AFTER])
    scale, shift = channel_values(match, AFTER)
    assert found is not None and scale is not None and shift is not None
    gain, offset = _gain_and_offset(match, BEFORE)
    weights, values = _columns(match, norm.name, norm.rank, gain * scale, offset * scale + shift)
    layer = renormalised(norm, weights[0], weights[1], found.activation)
    return Replacement.by(layer, weights=values)


NORM_THEN_SCALING = Rule(
    "instance-norm-then-scaling",
    "IN(x) s + t  ->  IN(x) with gamma s and beta s + t",
    scales(AFTER, pattern(BEFORE, InstanceNorm)),
    (by_channels(AFTER), without_activation(BEFORE), only_read_by_root(BEFORE)),
    _after,
)


def _square(match: Match) -> float | None:
    """The square of the scale before a normalisation, where it is the same for all channels and not zero."""
    scale, _ = channel_values(match, BEFORE)
    if scale is None or not scale.all() or not np.isfinite(scale).all():
        return None
    square = scale**2
    return float(square[0]) if (square == square[0]).all() else None


def _before(match: Match) -> Replacement:
    norm = match[NORM]
    found = scaling(match.graph, match[BEFORE])
    (scale, _), square = channel_values(match, BEFORE), _square(match)
    assert found is not None and scale is not None and square is not None
    gain, offset = _gain_and_offset(match, NORM)
    weights, values = _columns(match, norm.name, norm.rank, gain * np.sign(scale), offset)
    epsilon = epsilon_of(norm) / square
    *moments, last = normalisation.instance_norm(norm.name, found.x, *weights, epsilon=epsilon)
    return Replacement.by(*moments, with_activation(last, norm.activation), weights=values)


def _epsilon_matters(match: Match) -> Refusal:
    """An element one standard deviation above the mean, for the scale farthest from 1, with epsilon as it is."""
    scale, _ = channel_values(match, BEFORE)
    assert scale is not None
    s, epsilon = float(scale[np.argmax(np.abs(np.abs(scale) - 1.0))]), epsilon_of(match[NORM])
    before, after = s / np.sqrt(s**2 + epsilon), np.sign(s) / np.sqrt(1.0 + epsilon)
    return Refusal(
        "the scale divides epsilon: folding it would change epsilon, which has to be asked for",
        f"scale {s:g}, epsilon {epsilon:g}: what is 1 above the mean, with variance 1, becomes {before:.9g}, and "
        f"{after:.9g} with the same epsilon",
    )


def _is_mean(graph: RewriteGraph, layer: Layer) -> bool:
    match layer.operator:
        case Reduce(how="mean") | GlobalPool():
            return True
    return False


_PARTS = pattern(
    NORM,
    InstanceNorm,
    pattern(MEAN, (Reduce, GlobalPool), form=_is_mean),
    pattern(VARIANCE, Variance),
    scales(BEFORE),
)
_ONLY = (
    by_channels(BEFORE),
    without_activation(BEFORE),
    *(only_read_by_root(role) for role in (BEFORE, MEAN, VARIANCE)),
)
SCALING_THEN_NORM = Rule(
    "scaling-then-instance-norm",
    "IN(s x + t)  ->  IN(x) with gamma sign(s), where s is 1 or -1",
    _PARTS,
    (
        *_ONLY,
        Condition(
            "the scale is 1 or -1, so that epsilon stays what it is",
            lambda match: _square(match) == 1.0,
            _epsilon_matters,
        ),
    ),
    _before,
)
SCALING_THEN_NORM_WITH_EPSILON = Rule(
    "scaling-then-instance-norm-with-epsilon",
    "IN(s x + t)  ->  IN(x) with gamma sign(s) and epsilon / s^2",
    _PARTS,
    (
        *_ONLY,
        Condition(
            "the scale is not zero, and its square is the same for all channels",
            lambda match: _square(match) is not None,
            lambda match: Refusal("there is one epsilon for all channels, and none for a scale of zero"),
        ),
    ),
    _before,
)
