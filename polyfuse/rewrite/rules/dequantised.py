"""What float layers of a quantised graph read and make as whole numbers, and the conditions of the rules about that.

A `Match` of a layer between dequantizing and quantizing ones enters; operands, scales and bounds leave.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from polyfuse.errors import InvalidInput
from polyfuse.network.dtypes import EIGHT_BITS, bounds
from polyfuse.network.layer import Layer
from polyfuse.network.quantised.scheme import Dequantised, Quantisation
from polyfuse.network.tensor import Tensor
from polyfuse.rewrite.graph import Graph, Replacement
from polyfuse.rewrite.rule import Condition, Instance, Match, Refusal, Rule, only_read_by_root, pattern
from polyfuse.rewrite.rules.forms import activation_of, operands_of

PRODUCER = "producer"
NO_FLOATS = "whole numbers have neither infinities nor NaN, and what is NaN cannot be quantized"


@dataclass(frozen=True, eq=False)
class Operand:
    """The whole numbers that a float operand stands for: of a computed tensor, or the values of a weight."""

    scale: Quantisation
    tensor: Tensor | None = None
    weight: Dequantised | None = None


def operand(graph: Graph, layer: Layer, tensor: Tensor) -> Operand | None:
    """What a layer reads as whole numbers; None for what is not dequantized from eight bits, or was changed since."""
    if tensor in layer.weights:
        recorded = layer.attributes.get("dequantised")
        found = recorded.get(tensor.name) if isinstance(recorded, Mapping) else None
        if not isinstance(found, Dequantised) or not np.array_equal(found.reals, graph.value(tensor)):
            return None
        return Operand(found.quantisation, weight=found)
    maker = graph.makers.get(tensor)
    scale = None if maker is None or maker.kind != "dequantize" else scale_of(maker)
    return None if maker is None or scale is None else Operand(scale, maker.inputs[0] if maker.inputs else None)


def scale_of(layer: Layer) -> Quantisation | None:
    """The scale of a layer that quantizes or dequantizes eight bits with one scale."""
    scale = layer.attributes["scale"]
    assert isinstance(scale, Quantisation)
    return scale if not scale.is_by_channel and scale.dtype in EIGHT_BITS and layer.inputs else None


def has_one_scale(graph: Graph, layer: Layer) -> bool:
    """The layer quantizes or dequantizes eight bits with one scale."""
    return scale_of(layer) is not None


def made_scale(match: Match) -> Quantisation:
    """The scale in which the root quantizes."""
    scale = scale_of(match.root)
    assert scale is not None
    return scale


def operands(match: Match) -> list[Operand | None]:
    """What the producer reads, in its order."""
    layer = match[PRODUCER]
    tensors = operands_of(layer) if "operands" in layer.attributes else (*layer.inputs, *layer.weights)
    return [operand(match.graph, layer, tensor) for tensor in tensors]


def known(match: Match) -> list[Operand]:
    """The same where all of them are whole numbers."""
    found = [each for each in operands(match) if each is not None]
    assert len(found) == len(operands(match))
    return found


READS_WHOLE_NUMBERS = Condition(
    "all that the producer reads is dequantized from eight bits, or a weight that is",
    lambda match: all(each is not None for each in operands(match)),
    lambda match: Refusal(f"{match[PRODUCER].name} reads floats that do not come from whole numbers"),
)


def limits(layer: Layer, scale: Quantisation) -> tuple[int, int] | None:
    """The elements that an activation clips to, all of them where there is none; None for other activations."""
    match activation_of(layer):
        case None:
            return bounds(scale.dtype)
        case "relu" | ("relu",):
            return scale.limits(low=0.0)
        case "relu6" | ("relu6",):
            return scale.limits(0.0, 6.0)
        case ("clip", float() | int() as low, float() | int() as high):
            return scale.limits(low, high)
        case ("at_least", float() | int() as low):
            return scale.limits(low=low)
        case ("at_most", float() | int() as high):
            return scale.limits(high=high)
    return None


CLIPS = Condition(
    "the producer ends in no activation but one that clips",
    lambda match: limits(match[PRODUCER], made_scale(match)) is not None,
    lambda match: Refusal(f"{match[PRODUCER].name} ends in {activation_of(match[PRODUCER])}"),
)


def quantised_rule(
    name: str,
    law: str,
    kinds: str | frozenset[str],
    conditions: Sequence[Condition],
    replacement: Callable[[Match], Replacement],
    instances: tuple[Callable[[], Instance], ...],
    form: Callable[[Graph, Layer], bool] | None = None,
    unproved: str = "",
) -> Rule:
    """A rule whose root quantizes what a producer of some kinds makes of dequantized operands."""
    every = (READS_WHOLE_NUMBERS, *conditions, only_read_by_root(PRODUCER), possible(replacement))
    return Rule(
        name,
        law,
        pattern("quantize", "quantize", pattern(PRODUCER, kinds, form=form), form=has_one_scale),
        every,
        replacement,
        instances,
        NO_FLOATS,
        unproved,
    )


def possible(replacement: Callable[[Match], Replacement]) -> Condition:
    """The integer layer accepts types, scales and sums."""

    def why_not(match: Match) -> str:
        try:
            replacement(match)
        except InvalidInput as error:
            return str(error)
        return ""

    return Condition(
        "types, scales and sums are those of an integer layer",
        lambda match: not why_not(match),
        lambda match: Refusal(why_not(match)),
    )
