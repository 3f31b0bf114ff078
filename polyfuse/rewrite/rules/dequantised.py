"""The whole numbers that float layers of a quantised graph read and make, and the conditions of the rules about them.

A `Match` of a layer between dequantizing and quantizing ones enters; operands, scales and bounds leave.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from polyfuse.errors import InvalidInput
from polyfuse.network.dtypes import EIGHT_BITS, bounds
from polyfuse.network.layer import Layer
from polyfuse.network.operator import Arithmetic, Concat, Dequantize, Matmul, Quantize
from polyfuse.network.quantised.scheme import Dequantised, Quantisation
from polyfuse.network.tensor import Tensor
from polyfuse.rewrite.graph import Replacement, RewriteGraph
from polyfuse.rewrite.rule import Condition, Match, Refusal, Rule, Wanted, is_one_of, only_read_by_root, pattern

PRODUCER = "producer"
NO_FLOATS = "whole numbers have neither infinities nor NaN, and what is NaN cannot be quantized"


@dataclass(frozen=True, eq=False)
class QuantisedOperand:
    """The whole numbers that a float operand stands for: of a computed tensor, or the values of a weight."""

    scale: Quantisation
    tensor: Tensor | None = None
    weight: Dequantised | None = None


def operand(graph: RewriteGraph, layer: Layer, tensor: Tensor) -> QuantisedOperand | None:
    """The whole numbers behind an operand; None unless it is dequantized from eight bits and unchanged since."""
    if tensor in layer.weights:
        found = layer.dequantised.get(tensor.name)
        if found is None or not np.array_equal(found.reals, graph.value(tensor)):
            return None
        return QuantisedOperand(found.quantisation, weight=found)
    maker = graph.makers.get(tensor)
    if maker is None or not isinstance(maker.operator, Dequantize) or (scale := scale_of(maker)) is None:
        return None
    return QuantisedOperand(scale, maker.inputs[0] if maker.inputs else None)


def scale_of(layer: Layer) -> Quantisation | None:
    """The scale of a layer that quantizes or dequantizes eight bits with one scale."""
    match layer.operator:
        case Quantize(scale=scale) | Dequantize(scale=scale):
            return scale if not scale.is_by_channel and scale.dtype in EIGHT_BITS and layer.inputs else None
    return None


def has_one_scale(graph: RewriteGraph, layer: Layer) -> bool:
    """The layer quantizes or dequantizes eight bits with one scale."""
    return scale_of(layer) is not None


def made_scale(match: Match) -> Quantisation:
    """The scale in which the root quantizes."""
    scale = scale_of(match.root)
    assert scale is not None
    return scale


def operands(match: Match) -> list[QuantisedOperand | None]:
    """The operands of the producer, in its order."""
    layer = match[PRODUCER]
    several = is_one_of(layer, (Matmul, Arithmetic, Concat))
    tensors = layer.operands if several else (*layer.inputs, *layer.weights)
    return [operand(match.graph, layer, tensor) for tensor in tensors]


def known(match: Match) -> list[QuantisedOperand]:
    """The operands of the producer, all of which are whole numbers."""
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
    if layer.activation is None:
        return bounds(scale.dtype)
    clips = layer.activation.clips
    return scale.limits(*clips) if clips is not None else None


CLIPS = Condition(
    "the producer ends in no activation but one that clips",
    lambda match: limits(match[PRODUCER], made_scale(match)) is not None,
    lambda match: Refusal(f"{match[PRODUCER].name} ends in {match[PRODUCER].activation}"),
)


def quantised_rule(
    name: str,
    law: str,
    of: Wanted | Sequence[Wanted],
    conditions: Sequence[Condition],
    replacement: Callable[[Match], Replacement],
    form: Callable[[RewriteGraph, Layer], bool] | None = None,
) -> Rule:
    """A rule whose root quantizes what a producer of some operators makes of dequantized operands."""
    every = (READS_WHOLE_NUMBERS, *conditions, only_read_by_root(PRODUCER), possible(replacement))
    found = pattern("quantize", Quantize, pattern(PRODUCER, of, form=form), form=has_one_scale)
    return Rule(name, law, found, every, replacement, NO_FLOATS)


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
