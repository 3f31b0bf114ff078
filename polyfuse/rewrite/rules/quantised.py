"""Rules of quantised graphs: what is dequantized, computed in float32 and quantized again becomes an integer layer.

The integer layer is what is promised from then on: it is what onnxruntime runs for such a graph, with its own order of
roundings. Where results lie halfway between two elements, or within a rounding error of that, the float form may give
the other one; copies, maxima, clips and tables are exact.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from polyfuse.errors import InvalidInput
from polyfuse.network.dtypes import bounds
from polyfuse.network.layer import Layer
from polyfuse.network.layers import copies, pooling
from polyfuse.network.operator import (
    Activate,
    Arithmetic,
    Clamp,
    Concat,
    Conv,
    Copy,
    Dequantize,
    Gather,
    Gemm,
    GlobalPool,
    Matmul,
    Operator,
    Pad,
    Pool,
    Prelu,
    Quantised,
    Quantize,
    Resize,
)
from polyfuse.network.quantised import elements, sums
from polyfuse.network.quantised.scheme import Quantisation, Scales, check_values
from polyfuse.network.renaming import renamed
from polyfuse.network.tensor import Tensor
from polyfuse.network.window import Pair
from polyfuse.rewrite.graph import Replacement, RewriteGraph
from polyfuse.rewrite.rule import Condition, Match, Refusal, Rule, only_read_by_root, pattern
from polyfuse.rewrite.rules.copies import COPIES
from polyfuse.rewrite.rules.dequantised import (
    CLIPS,
    NO_FLOATS,
    PRODUCER,
    QuantisedOperand,
    has_one_scale,
    known,
    limits,
    made_scale,
    operand,
    possible,
    quantised_rule,
    scale_of,
)
from polyfuse.rewrite.rules.forms import SCALES

MOVING = (*COPIES, Pad, Concat, Pool, Gather, Copy, Resize)
"""Operators whose elements are some of those that they read."""
SUM, PRODUCT = Arithmetic("add"), Arithmetic("mul")
CLOSE = 1e-5
"""The largest relative distance of the scale of a bias from the product of the scales of input and weights."""

# Sums of products: convolution, products of matrices.


def _bias_fits(match: Match) -> bool:
    found = known(match)
    if len(found) < 3:
        return True
    x, w, b = (each.scale for each in found)
    units = x.scales.astype(np.float64) * w.scales
    return b.dtype == "int32" and b.zero_point == 0 and bool(np.allclose(b.scales, units, rtol=CLOSE, atol=0.0))


BIAS_FITS = Condition(
    "a bias is int32 in units of the scales of input and weights",
    _bias_fits,
    lambda match: Refusal(f"the bias of {match[PRODUCER].name} has another type or scale"),
)


def _whole_weight(match: Match, part: str, found: QuantisedOperand) -> tuple[Tensor, dict[str, NDArray[Any]]]:
    """The operand as a tensor, with its values where it is a weight."""
    if found.tensor is not None:
        return found.tensor, {}
    assert found.weight is not None
    values = found.weight.values.astype(found.scale.dtype)
    tensor = Tensor(match.fresh(f"{match[PRODUCER].name}_{part}"), values.shape, found.scale.dtype)
    return tensor, {tensor.name: values}


def _sums(match: Match) -> Replacement:
    layer, y = match[PRODUCER], made_scale(match)
    x, w, *rest = known(match)
    ends = limits(layer, y)
    if layer.operator == Matmul():
        (a, values), (b, more) = (_whole_weight(match, part, each) for part, each in (("weight", x), ("constant", w)))
        constants = [tensor for tensor, each in ((a, x), (b, w)) if each.weight is not None]
        made = sums.matmul(layer.name, a, b, constants, scales=(x.scale, w.scale, y), limits=ends)
        return Replacement.by(made[0], weights={**values, **more, **made[1]})
    if x.tensor is None or w.weight is None:
        raise InvalidInput(f"layer {layer.name!r}: expected a computed input and weights that are constant")
    bias = rest[0].weight if rest else None
    check_values(w.weight.values, w.scale, x.scale, None if bias is None else bias.values)
    weight, values = _whole_weight(match, "weight", w)
    b_tensor, more = _whole_weight(match, "bias", rest[0]) if rest else (None, {})
    made = _sums_of(layer, x.tensor, weight, b_tensor, (x.scale, w.scale, y), ends)
    return Replacement.by(made[0], weights={**values, **more, **made[1]})


def _sums_of(
    layer: Layer, x: Tensor, w: Tensor, bias: Tensor | None, scales: Scales, limits: Pair | None
) -> elements.Made:
    """The sums of products that a layer of floats, or one of whole numbers, makes, of whole numbers."""
    match layer.operator:
        case Conv(window=window, groups=groups) | Quantised(of=Conv(window=window, groups=groups)):
            return sums.convolution(layer.name, x, w, bias, window, groups, scales=scales, limits=limits)
    return sums.gemm(layer.name, x, w, bias, scales=scales, limits=limits)


QUANTISED_SUMS = quantised_rule(
    "quantised-sums",
    "quantize(conv(dequantize(x), w))  ->  qlinear_conv(x, w), and gemm, matmul",
    (Conv, Gemm, Matmul),
    (CLIPS, BIAS_FITS),
    _sums,
)


# Sums and products of two tensors, and means.


def _binary(match: Match) -> Replacement:
    layer, y = match[PRODUCER], made_scale(match)
    (a, values), (b, more) = (_whole_weight(match, f"constant{k}", each) for k, each in enumerate(known(match)))
    scales = (*(each.scale for each in known(match)), y)
    constants = [name for name, held in (("a", values), ("b", more)) if held]
    made = _arithmetic(layer.name, layer.operator, (a, b), scales, constants, limits(layer, y))
    return Replacement.by(made, weights={**values, **more})


def _arithmetic(
    name: str,
    of: Operator,
    operands: tuple[Tensor, Tensor],
    scales: Scales,
    constants: Sequence[str],
    limits: Pair | None,
) -> Layer:
    """The sum or the product of whole numbers."""
    how: Literal["add", "mul"] = "add" if of == SUM else "mul"
    return elements.arithmetic(name, how, *operands, scales, constants=constants, limits=limits)


QUANTISED_BINARY = quantised_rule(
    "quantised-arithmetic",
    "quantize(dequantize(a) + dequantize(b))  ->  qlinear_add(a, b), and *",
    (SUM, PRODUCT),
    (CLIPS,),
    _binary,
)


def _means(match: Match) -> Replacement:
    layer, y = match[PRODUCER], made_scale(match)
    (x,) = known(match)
    assert x.tensor is not None
    match layer.operator:
        case Pool(window=window, ceil=ceil, counts_padding=counts):
            if counts and window.grown(x.tensor, layer.output) != window:
                raise InvalidInput(
                    f"layer {layer.name!r}: a mean of integers counts what its windows have beyond the padding"
                )
            made = elements.average_pool(layer.name, x.tensor, window, (x.scale, y), ceil, counts)
        case _:
            made = sums.global_average_pool(layer.name, x.tensor, (x.scale, y))
    return Replacement.by(made)


def _is_average(graph: RewriteGraph, layer: Layer) -> bool:
    match layer.operator:
        case Pool(how="average") | GlobalPool():
            return True
    return False


QUANTISED_MEANS = quantised_rule(
    "quantised-means",
    "quantize(average_pool(dequantize(x)))  ->  qlinear_average_pool(x), and global_average_pool",
    (Pool, GlobalPool),
    (),
    _means,
    _is_average,
)


# What moves elements, or computes each of them from one.


def _is_moving(graph: RewriteGraph, layer: Layer) -> bool:
    """A copy or a maximum, of one tensor or several; interpolation is none."""
    is_average = isinstance(layer.operator, Pool) and layer.operator.how != "max"
    return bool(layer.inputs) and not layer.weights and not is_average


def _moving(match: Match) -> Replacement:
    layer, y = match[PRODUCER], made_scale(match)
    found = known(match)
    tensors = [each.tensor for each in found if each.tensor is not None]
    if isinstance(layer.operator, Concat):
        parts = list(zip(tensors, (each.scale for each in found), strict=True))
        layers, values = elements.concat(layer.name, parts, y, layer.operator.axis)
        return Replacement.by(*layers, weights=values)
    (x,), scale = tensors, found[0].scale
    moved = _moved(layer, x, scale)
    if scale == y:
        return Replacement.by(moved)
    last, values = elements.requantize(match.fresh(f"{layer.name}_scaled"), moved.output, (scale, y))
    return Replacement.by(moved, last, weights=values)


def _moved(layer: Layer, x: Tensor, scale: Quantisation) -> Layer:
    """A layer that moves elements, of whole numbers."""
    match layer.operator:
        case Pool(window=window, ceil=ceil):
            return pooling.max_pool(layer.name, x, window, ceil)
        case Pad() as pad:
            return _padded(layer, pad, x, scale)
    moved = renamed(layer, layer.inputs[0], x)
    return replace(moved, output=Tensor(layer.output.name, layer.output.shape, x.dtype))


def _padded(layer: Layer, pad: Pad, x: Tensor, scale: Quantisation) -> Layer:
    stored = scale.quantised([pad.value])
    if pad.mode == "constant" and float(scale.real(stored)[0]) != np.float32(pad.value):
        raise InvalidInput(f"layer {layer.name!r}: its padding of {pad.value} is between two elements")
    return copies.pad(layer.name, x, pad.before, pad.after, pad.mode, float(stored[0]))


QUANTISED_COPY = quantised_rule(
    "quantised-copy",
    "quantize(copy(dequantize(x)))  ->  copy(x), and max_pool, pad, concat; a table where the scale changes",
    MOVING,
    (),
    _moving,
    _is_moving,
)


def _is_function(graph: RewriteGraph, layer: Layer) -> bool:
    """A function of one element, whose weights are numbers."""
    plain = len(layer.inputs) == 1 and layer.inputs[0].shape == layer.output.shape and len(layer.statements) == 1
    return plain and layer.reference is not None and all(weight.elements == 1 for weight in layer.weights)


def _dequantized_input(match: Match) -> QuantisedOperand | None:
    layer = match[PRODUCER]
    return operand(match.graph, layer, layer.inputs[0])


READS_ONE = Condition(
    "the producer reads what is dequantized from eight bits",
    lambda match: _dequantized_input(match) is not None,
    lambda match: Refusal(f"{match[PRODUCER].name} reads floats that do not come from whole numbers"),
)


def _function(match: Match) -> Replacement:
    layer, y = match[PRODUCER], made_scale(match)
    x = _dequantized_input(match)
    assert x is not None and x.tensor is not None and layer.reference is not None
    reference = layer.reference
    ends = limits(layer, y)
    if layer.operator == Activate() and x.scale == y and ends is not None:
        return Replacement.by(elements.clamp(layer.name, x.tensor, *ends))
    numbers = [match.graph.value(weight) for weight in layer.weights]

    def of(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(reference(values, *numbers)).reshape(values.shape)

    made, entries = elements.function(layer.name, x.tensor, of, (x.scale, y))
    return Replacement.by(made, weights=entries)


QUANTISED_FUNCTION = Rule(
    "quantised-function",
    "quantize(f(dequantize(x)))  ->  table[x], or a clamp where f clips and the scale stays",
    pattern(
        "quantize",
        Quantize,
        pattern(PRODUCER, (Activate, *SCALES, Prelu), form=_is_function),
        form=has_one_scale,
    ),
    (READS_ONE, only_read_by_root(PRODUCER), possible(_function)),
    _function,
    NO_FLOATS,
)


def _limits(layer: Layer) -> Pair:
    """The smallest and the largest element that a layer of whole numbers makes."""
    match layer.operator:
        case Quantised(limits=ends):
            return ends
        case Clamp(low=low, high=high):
            return low, high
    return bounds(layer.output.dtype)


def _clamped(match: Match) -> Replacement:
    """The producer made anew, with the limits that both have together."""
    layer = match[PRODUCER]
    (least, most), (low, high) = _limits(match.root), _limits(layer)
    ends = min(max(low, least), most), min(max(high, least), most)
    assert isinstance(layer.operator, Quantised)
    if layer.operator.of in (SUM, PRODUCT, Matmul()):
        return _clamped_pair(layer, layer.operator, ends)
    w, *rest = layer.weights
    bias = rest[0] if rest and rest[0].dtype == "int32" else None
    made, values = _sums_of(layer, layer.inputs[0], w, bias, layer.operator.scales, ends)
    return Replacement.by(made, weights=values)


def _clamped_pair(layer: Layer, operator: Quantised, ends: Pair) -> Replacement:
    """A layer of two operands made anew with other limits."""
    a, b, *_ = layer.operands
    if operator.of == Matmul():
        made, values = sums.matmul(layer.name, a, b, layer.weights, scales=operator.scales, limits=ends)
        return Replacement.by(made, weights=values)
    constants = [name for name, tensor in (("a", a), ("b", b)) if tensor in layer.weights]
    return Replacement.by(_arithmetic(layer.name, operator.of, (a, b), operator.scales, constants, ends))


def _has_limits(graph: RewriteGraph, layer: Layer) -> bool:
    """An integer layer that can clamp what it makes."""
    match layer.operator:
        case Quantised(of=Conv() | Gemm() | Matmul() | Arithmetic()):
            return True
    return False


CLAMP_INTO_PRODUCER = Rule(
    "clamp-into-producer",
    "clamp(qlinear_conv(x))  ->  qlinear_conv(x) with narrower limits, and of other integer layers",
    pattern("clamp", Clamp, pattern(PRODUCER, Quantised, form=_has_limits)),
    (only_read_by_root(PRODUCER),),
    _clamped,
    NO_FLOATS,
)


def _pair(match: Match) -> Replacement:
    maker, y = match.graph.makers[match.root.inputs[0]], made_scale(match)
    x, scale = maker.inputs[0], scale_of(maker)
    assert scale is not None
    if scale == y and match.root.output not in match.graph.outputs:
        return Replacement((), {}, x)
    made, entries = elements.requantize(match.root.name, x, (scale, y))
    return Replacement.by(made, weights=entries)


def _reads_dequantized(graph: RewriteGraph, layer: Layer) -> bool:
    maker = graph.makers.get(layer.inputs[0]) if layer.inputs else None
    is_dequantized = maker is not None and isinstance(maker.operator, Dequantize)
    return maker is not None and is_dequantized and None not in (scale_of(maker), scale_of(layer))


QUANTISED_PAIR = Rule(
    "quantised-pair",
    "quantize(dequantize(x))  ->  x, or table[x] where the scale changes",
    pattern("quantize", Quantize, form=_reads_dequantized),
    (),
    _pair,
    NO_FLOATS,
)
