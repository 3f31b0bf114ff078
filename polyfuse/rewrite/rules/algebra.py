"""Associative, distributive and commutative laws, where they save operations; layers of weights alone."""

from typing import Literal

import numpy as np

from polyfuse.network.activated import with_activation
from polyfuse.network.layer import Layer
from polyfuse.network.layers import pointwise
from polyfuse.network.operator import Arithmetic, Conv
from polyfuse.network.tensor import Tensor
from polyfuse.rewrite.counting import operations
from polyfuse.rewrite.graph import Replacement, RewriteGraph
from polyfuse.rewrite.rule import Condition, Match, Refusal, Rule, only_read_by_root, pattern
from polyfuse.rewrite.rules.forms import SUMS, bias_of, convolution_like, without_activation

MAX_FOLDED_ELEMENTS = 1 << 24
PRODUCT = Arithmetic("mul")


def _parts(match: Match) -> tuple[Layer, Layer]:
    """The left and the right term of the root."""
    left, right = match.root.operands
    return match.graph.makers[left], match.graph.makers[right]


def _shared_factor(match: Match) -> tuple[Tensor, Tensor, Tensor] | None:
    """a, b, c where the root is `a c + b c` or `a c - b c`."""
    first, second = (layer.operands for layer in _parts(match))
    for c in first:
        if c in second:
            return first[1 - first.index(c)], second[1 - second.index(c)], c
    return None


def _sign(layer: Layer) -> Literal["add", "sub"]:
    """Whether a layer adds or subtracts."""
    return "sub" if layer.operator == Arithmetic("sub") else "add"


def _factored(match: Match) -> Replacement:
    found = _shared_factor(match)
    assert found is not None
    a, b, c = found
    names = [match[role].name for role in ("first term", "second term")]
    weights = {tensor for layer in match.matched for tensor in layer.weights}
    constants = [name for name, tensor in (("a", a), ("b", b)) if tensor in weights]
    total = pointwise.arithmetic(names[0], _sign(match.root), a, b, constants=constants)
    product = pointwise.arithmetic(match.root.name, "mul", total.output, c, constants=["b"] if c in weights else [])
    last = with_activation(product, match.root.activation)
    return Replacement.by(total, last)


def _fewer(match: Match) -> tuple[int, int]:
    """Operations before and after."""
    return sum(map(operations, match.matched)), sum(map(operations, _factored(match).layers))


def _factor_saves(match: Match) -> bool:
    before, after = _fewer(match)
    return after < before and _factored(match).tensor.shape == match.root.output.shape


def _made_by_two(graph: RewriteGraph, layer: Layer) -> bool:
    """Both terms are made by layers, and not by the same one."""
    makers = {graph.makers.get(tensor) for tensor in layer.operands}
    return len(makers) == 2 and None not in makers


SHARED_FACTOR = Rule(
    "shared-factor",
    "a c + b c  ->  (a + b) c, and the same with -",
    pattern("sum", SUMS, pattern("first term", PRODUCT), pattern("second term", PRODUCT), form=_made_by_two),
    (
        Condition(
            "both products have a factor in common",
            lambda match: _shared_factor(match) is not None,
            lambda match: Refusal("the products have no factor in common"),
        ),
        without_activation("first term"),
        without_activation("second term"),
        only_read_by_root("first term"),
        only_read_by_root("second term"),
        Condition(
            "it takes fewer operations and makes the same shape",
            _factor_saves,
            lambda match: Refusal("it saves nothing", "{:,} operations before, {:,} after".format(*_fewer(match))),
        ),
    ),
    _factored,
    "where c is infinite and a + b is not, a c + b c may be NaN and (a + b) c infinite",
)


def _same_geometry(match: Match) -> bool:
    first, second = _parts(match)
    return (
        first.operator == second.operator
        and first.inputs == second.inputs
        and first.weights[0].shape == second.weights[0].shape
    )


def _one_convolution(match: Match) -> Replacement:
    first, second = _parts(match)
    sign = -1.0 if _sign(match.root) == "sub" else 1.0
    weight = match.graph.value(first.weights[0]) + sign * match.graph.value(second.weights[0])
    biases = [bias_of(match.graph, layer) for layer in (first, second)]
    none = np.zeros(len(weight))
    bias = (none if biases[0] is None else biases[0]) + sign * (none if biases[1] is None else biases[1])
    kept = None if all(each is None for each in biases) else bias
    return convolution_like(match, first, first.inputs[0], weight, kept, match.root.activation)


SUM_OF_CONVOLUTIONS = Rule(
    "sum-of-convolutions",
    "conv(x, v) + conv(x, w)  ->  conv(x, v + w), and the same with -",
    pattern("sum", SUMS, pattern("first term", Conv), pattern("second term", Conv), form=_made_by_two),
    (
        Condition(
            "both convolve the same tensor with windows of the same geometry",
            _same_geometry,
            lambda match: Refusal(
                "{0.name} reads {0.inputs[0].name}, {1.name} {1.inputs[0].name}, or their windows differ".format(
                    *_parts(match)
                )
            ),
        ),
        without_activation("first term"),
        without_activation("second term"),
        only_read_by_root("first term"),
        only_read_by_root("second term"),
    ),
    _one_convolution,
    "where x is infinite, v x + w x may be NaN and (v + w) x infinite",
)


def _constant(match: Match) -> Replacement:
    """The value, as a weight."""
    layer = match.root
    assert layer.reference is not None
    with np.errstate(all="ignore"):
        value = layer.reference(*(match.graph.value(weight) for weight in layer.weights))
    shape, dtype = layer.output.concrete_shape, layer.output.dtype
    tensor = Tensor(match.fresh(f"{layer.name}_constant"), shape, dtype)
    return Replacement((), {tensor.name: np.asarray(value, dtype=np.float64)}, tensor)


CONSTANT = Rule(
    "constant",
    "f(weights)  ->  a weight",
    pattern("constant", (), form=lambda graph, layer: not layer.inputs),
    (
        Condition(
            "it is no output of the network, and it can be computed here",
            lambda match: match.root.output not in match.graph.outputs and match.root.reference is not None,
            lambda match: Refusal(f"{match.root.output.name} is an output, or has no reference"),
        ),
        Condition(
            f"it has at most {MAX_FOLDED_ELEMENTS:,} elements",
            lambda match: match.root.output.elements <= MAX_FOLDED_ELEMENTS,
            lambda match: Refusal("too large to be kept", f"{match.root.output.elements:,} elements"),
        ),
    ),
    _constant,
)
