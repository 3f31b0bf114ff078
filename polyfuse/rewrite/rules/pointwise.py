"""Rules of pointwise layers: activations into their producers, activations written out, layers that change nothing."""

from dataclasses import replace

import numpy as np

from polyfuse.network.activated import with_activation
from polyfuse.network.activation import Activation
from polyfuse.network.layer import Layer
from polyfuse.network.layers import pointwise
from polyfuse.network.operator import Activate, Arithmetic, Copy
from polyfuse.rewrite.graph import Replacement, RewriteGraph
from polyfuse.rewrite.rule import Condition, Match, Refusal, Rule, is_one_of, only_read_by_root, pattern
from polyfuse.rewrite.rules.copies import COPIES, changes_nothing, has_one_input, reads_one
from polyfuse.rewrite.rules.forms import SCALES, TAKES_ACTIVATION, Scaling, affine, scaling, without_activation

PRODUCER = "producer"
PRODUCT = Arithmetic("mul")


ACTIVATION_INTO_PRODUCER = Rule(
    "activation-into-producer",
    "f(layer(x))  ->  (f after layer)(x)",
    pattern("activation", Activate, pattern(PRODUCER, TAKES_ACTIVATION), form=has_one_input),
    (without_activation(PRODUCER), only_read_by_root(PRODUCER)),
    lambda match: Replacement.by(with_activation(match[PRODUCER], match.root.activation)),
)


def _gated(match: Match) -> bool:
    """The product is of x and the gate of the same x."""
    gate = match["gate"]
    return set(match.root.inputs) == {gate.output, gate.inputs[0]} and match.root.activation is None


GATE_OF_X = Condition(
    "both factors come from the same tensor, and no activation follows",
    _gated,
    lambda match: Refusal(f"{match.root.name} multiplies other tensors than {match['gate'].name} and what it reads"),
)


def _is_sigmoid(graph: RewriteGraph, layer: Layer) -> bool:
    return layer.activation == Activation("sigmoid") and len(layer.inputs) == 1


SILU = Rule(
    "silu",
    "x * sigmoid(x)  ->  silu(x)",
    pattern("product", PRODUCT, pattern("gate", Activate, form=_is_sigmoid)),
    (GATE_OF_X, only_read_by_root("gate")),
    lambda match: Replacement.by(pointwise.activation(match.root.name, match["gate"].inputs[0], "silu")),
)


def _hard_gate(graph: RewriteGraph, layer: Layer) -> float | None:
    """k, where a layer is `clip(k x / 6 + k / 2, 0, k)`: k times the gate of hard_swish."""
    match layer.activation:
        case Activation("hard_sigmoid", (slope, 0.5)) if np.float32(slope) == np.float32(1 / 6):
            if layer.operator == Activate() and len(layer.inputs) == 1:
                return 1.0
    clips, found = layer.activation.clips if layer.activation is not None else None, scaling(graph, layer)
    if clips is None or found is None or clips[0] != 0.0 or not 0.0 < clips[1] < np.inf:
        return None
    k = clips[1]
    exact = (np.float32(found.scale) == np.float32(k / 6)).all() and (found.shift == k / 2).all()
    return k if exact else None


def _hard_swish(match: Match) -> Replacement:
    gate, root = match["gate"], match.root
    k = _hard_gate(match.graph, gate)
    assert k is not None
    swish = pointwise.activation(match.fresh(gate.name), gate.inputs[0], "hard_swish")
    if k == 1.0:
        return Replacement.by(pointwise.activation(root.name, gate.inputs[0], "hard_swish"))
    shape = (1,) * root.rank
    last = affine(match, root.name, Scaling(swish.output, np.full(shape, k), np.zeros(shape), None))
    return replace(last, layers=(swish, *last.layers))


HARD_SWISH = Rule(
    "hard-swish",
    "x * clip(k x / 6 + k / 2, 0, k)  ->  k * hard_swish(x)",
    pattern(
        "product",
        PRODUCT,
        pattern("gate", (*SCALES, Activate), form=lambda graph, layer: _hard_gate(graph, layer) is not None),
    ),
    (GATE_OF_X, only_read_by_root("gate")),
    _hard_swish,
)


def _changes_nothing(graph: RewriteGraph, layer: Layer) -> bool:
    """A copy that keeps every element where it was, or a scaling by one and a shift by nothing."""
    if layer.operator == Copy():
        return True
    if is_one_of(layer, COPIES):
        return reads_one(graph, layer) and changes_nothing(layer)
    found = scaling(graph, layer)
    return found is not None and layer.activation is None and bool((found.scale == 1).all() and not found.shift.any())


def _removable(match: Match) -> bool:
    root, outputs = match.root, match.graph.outputs
    x = root.inputs[0]
    return root.output not in outputs or (x in match.graph.makers and x not in outputs)


IDENTITY = Rule(
    "identity",
    "x, 1 * x + 0  ->  x",
    pattern("identity", (*SCALES, *COPIES, Copy), form=_changes_nothing),
    (
        Condition(
            "it is no output that would become an input of the network or another output",
            _removable,
            lambda match: Refusal(f"{match.root.output.name} is an output, and {match.root.inputs[0].name} may not be"),
        ),
    ),
    lambda match: Replacement((), {}, match.root.inputs[0]),
)
