"""Integer layers of single elements and small windows: from and to floats, sums and products, means, tables.

Tensors and their quantisations enter; a `Layer`, and the values of weights that it brings with it, leave. What they
compute is what onnxruntime's CPU provider has, to the bit. The order of roundings differs between its operators: a sum
and a mean are rounded with the zero point in them, a product after it is added, what is quantised before.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyfuse.errors import InvalidInput
from polyfuse.network.dtypes import EIGHT_BITS, Array, Values, bounds
from polyfuse.network.layer import Layer
from polyfuse.network.layers.copies import checked_axis
from polyfuse.network.layers.copies import concat as concatenated
from polyfuse.network.layers.pointwise import pointwise
from polyfuse.network.layers.pooling import means as pooled_means
from polyfuse.network.layers.pooling import pool_output, pool_update, windows
from polyfuse.network.operator import Arithmetic, Clamp, Dequantize, Lookup, Pool, Quantised, Quantize
from polyfuse.network.quantised.scheme import Quantisation, clamped, of_type, one_tensor
from polyfuse.network.quantised.text import less, more, number, rounded, within
from polyfuse.network.single import Singles, fmaf
from polyfuse.network.statements import point_dims, point_statement
from polyfuse.network.tensor import Tensor, check_float32
from polyfuse.network.window import Padding, Window

WeightValues = Mapping[str, Values]
Made = tuple[Layer, WeightValues]
"""A layer, and the values of the weights that it brings with it."""


def quantize(name: str, x: Tensor, scale: Quantisation, axis: int = 1) -> Made:
    """Floats as elements: `clamp(round(x / scale) + zero_point)` (ONNX QuantizeLinear); NaN is refused.

    Errors: InvalidInput where shapes, types or scales do not fit together.

    >>> layer, _ = quantize("q", Tensor("x", (1, 1, 4, 4)), Quantisation(0.5, 3, "uint8"))
    >>> layer.statements[0].expression
    'minimum(maximum(rintf(x / 0.5) + 3, 0), 255)'
    """
    check_float32(name, x)
    if scale.dtype not in EIGHT_BITS:
        raise InvalidInput(f"layer {name!r}: expected a quantisation to {' or '.join(EIGHT_BITS)}, got {scale.dtype}")
    factor, zero, operands, values = _by_channel(name, x, scale, axis)
    shifted = f"rintf(x / {factor}) + zero" if zero is None else more(f"rintf(x / {factor})", zero)
    expression = within(shifted, *bounds(scale.dtype))
    reference = partial(_quantised, scale, axis)
    operator = Quantize(scale, axis % max(len(x.shape), 1))
    made = pointwise(
        name, {"x": x, **operands}, expression, reference, operator=operator, constants=[*operands], dtype=scale.dtype
    )
    return made, values


def dequantize(name: str, x: Tensor, scale: Quantisation, axis: int = 1) -> Made:
    """Elements as the floats that they stand for: `(x - zero_point) * scale` (ONNX DequantizeLinear).

    Errors: InvalidInput where shapes, types or scales do not fit together.
    """
    of_type(name, [("the input", x.dtype, scale)])
    factor, zero, operands, values = _by_channel(name, x, scale, axis)
    expression = f"(x - zero) * {factor}" if zero is None else f"{less('x', zero)} * {factor}"
    reference = partial(_real, scale, axis)
    operator = Dequantize(scale, axis % max(len(x.shape), 1))
    made = pointwise(
        name, {"x": x, **operands}, expression, reference, operator=operator, constants=[*operands], dtype="float32"
    )
    return made, values


def _by_channel(
    name: str, x: Tensor, scale: Quantisation, axis: int
) -> tuple[str, int | None, dict[str, Tensor], dict[str, NDArray[Any]]]:
    """The scale as text, the zero point or None where it is an operand, and the operands of channels, with values."""
    if not scale.is_by_channel:
        return number(scale.scales[0]), scale.zero, {}, {}
    axis = checked_axis(name, x, axis)
    if scale.channels != x.concrete_shape[axis]:
        raise InvalidInput(f"layer {name!r}: {scale.channels} scales do not fit axis {axis} of {x}")
    factors, zeros = scale.along(axis, len(x.shape))
    shape = tuple(scale.channels if a == axis else 1 for a in range(len(x.shape)))
    factor = Tensor(f"{name}_scale", shape)
    operands, values = {"scale": factor}, {factor.name: np.broadcast_to(factors, shape).copy()}
    if len(set(zeros.ravel().tolist())) == 1:
        return "scale", int(zeros.ravel()[0]), operands, values
    zero = Tensor(f"{name}_zero", shape, scale.dtype)
    return "scale", None, {**operands, "zero": zero}, {**values, zero.name: zeros.astype(scale.dtype)}


def add(
    name: str,
    a: Tensor,
    b: Tensor,
    *,
    a_scale: Quantisation,
    b_scale: Quantisation,
    y_scale: Quantisation,
    constants: Sequence[str] = (),
    limits: tuple[int, int] | None = None,
) -> Layer:
    """The sum of two tensors that are broadcast (com.microsoft QLinearAdd).

    `clamp(round(fma(a, ra, fma(b, rb, f))))` with `f = y_zero - fma(a_zero, ra, rb * b_zero)`, where `ra` and `rb` are
    scales divided by that of the result. A sum of floats that is rounded afterwards differs from it where it is a tie.
    `limits` are the elements to which an activation clamps.
    Errors: InvalidInput where shapes, types or scales do not fit together.
    """
    one_tensor(name, a=a_scale, b=b_scale, y=y_scale)
    of_type(name, [("the operand a", a.dtype, a_scale), ("the operand b", b.dtype, b_scale)])
    low, high = limits or bounds(y_scale.dtype)
    order = "ba" if _is_repeated(a, b) else "ab"
    (first, p), (second, q) = sorted([("a", a_scale), ("b", b_scale)], key=lambda each: order.index(each[0]))
    with np.errstate(all="ignore"):
        ratios: tuple[Singles, Singles] = (p.scales / y_scale.scales, q.scales / y_scale.scales)
        fixed: Singles = np.float32(y_scale.zero) - fmaf(p.zero, ratios[0], ratios[1] * np.float32(q.zero))
    inner = f"fmaf({second}, {number(ratios[1][0])}, {number(fixed[0])})"
    text = rounded(f"fmaf({first}, {number(ratios[0][0])}, {inner})", low, high)
    reference = partial(_added, order, ratios, fixed, (low, high))
    operator = Quantised(Arithmetic("add"), (a_scale, b_scale, y_scale), (low, high))
    operands, dtype = {"a": a, "b": b}, y_scale.dtype
    return pointwise(name, operands, text, reference, operator=operator, constants=constants, dtype=dtype)


def _is_repeated(a: Tensor, b: Tensor) -> bool:
    """Whether each element of `a`, and not of `b`, meets several that follow each other: onnxruntime swaps the two."""
    rank = max(len(a.shape), len(b.shape))
    pairs = list(zip(*((*(1,) * (rank - len(t.shape)), *t.concrete_shape) for t in (a, b)), strict=True))
    last = next(((s, t) for s, t in reversed(pairs) if max(s, t) > 1), (1, 1))
    return last[0] == 1 < last[1]


def multiply(
    name: str,
    a: Tensor,
    b: Tensor,
    *,
    a_scale: Quantisation,
    b_scale: Quantisation,
    y_scale: Quantisation,
    constants: Sequence[str] = (),
    limits: tuple[int, int] | None = None,
) -> Layer:
    """The product of two tensors that are broadcast (com.microsoft QLinearMul).

    `clamp(round((a - a_zero) * (b - b_zero) * m + y_zero))` with `m = (a_scale * b_scale) / y_scale`.
    Errors: InvalidInput where shapes, types or scales do not fit together.
    """
    one_tensor(name, a=a_scale, b=b_scale, y=y_scale)
    of_type(name, [("the operand a", a.dtype, a_scale), ("the operand b", b.dtype, b_scale)])
    with np.errstate(all="ignore"):
        factor: Singles = (a_scale.scales * b_scale.scales) / y_scale.scales
    product = f"{less('a', a_scale.zero)} * {less('b', b_scale.zero)} * {number(factor[0])}"
    low, high = limits or bounds(y_scale.dtype)
    text = rounded(more(product, y_scale.zero), low, high)
    zeros = (a_scale.zero, b_scale.zero, y_scale.zero)
    reference = partial(_multiplied, zeros, factor, (low, high))
    operator = Quantised(Arithmetic("mul"), (a_scale, b_scale, y_scale), (low, high))
    operands, dtype = {"a": a, "b": b}, y_scale.dtype
    return pointwise(name, operands, text, reference, operator=operator, constants=constants, dtype=dtype)


def average_pool(
    name: str,
    x: Tensor,
    window: Window,
    ceil: bool = False,
    counts_padding: bool = False,
    *,
    x_scale: Quantisation,
    y_scale: Quantisation,
) -> Layer:
    """The mean of each window (com.microsoft QLinearAveragePool): a float32 sum, in the order of the window.

    `clamp(round(sum / taps / y_scale + y_zero))`. Where padding is counted, so is what windows have beyond it in
    ceil mode, as onnxruntime has it; ONNX's AveragePool does not count that.
    Errors: InvalidInput where shapes, types or scales do not fit together.
    """
    one_tensor(name, x=x_scale, y=y_scale)
    of_type(name, [("the input", x.dtype, x_scale)])
    shape = pool_output(name, x, window, ceil)
    out = Tensor(shape.name, shape.shape, y_scale.dtype)
    grown = window.grown(x, out)
    counted = grown.padding if counts_padding else (0, 0, 0, 0)
    taken = f"acc + {less('x', x_scale.zero)} * {number(x_scale.scales[0])}"
    limits = bounds(y_scale.dtype)
    last = f"acc / ({window.divisor(x, counted)}) / {number(y_scale.scales[0])}"
    statements = (
        point_statement(f"{name}_init", out, {}, "0.0"),
        pool_update(name, x, out, window, taken),
        point_statement(f"{name}_final", out, {}, rounded(more(last, y_scale.zero), *limits)),
    )
    operator = Quantised(Pool("average", window, ceil, counts_padding), (x_scale, y_scale), limits)
    reference = partial(_means, x_scale, y_scale, grown, counted)
    return Layer(name, operator, out, statements, (x,), (), reference, accumulator="float32")


def clamp(name: str, x: Tensor, low: int, high: int) -> Layer:
    """Elements between two bounds: an activation that clips, where its result has the scale of its input.

    Errors: InvalidInput for bounds that the type does not have.
    """
    least, most = bounds(x.dtype)
    if not least <= low <= high <= most:
        raise InvalidInput(f"layer {name!r}: expected bounds from {least} to {most}, got {low} and {high}")
    reference = partial(clamped, low=low, high=high)
    text = f"min(max(x, {low}), {high})"
    return pointwise(name, {"x": x}, text, reference, operator=Clamp(low, high), dtype=x.dtype)


def lookup(name: str, x: Tensor, entries: Sequence[int], dtype: str) -> Made:
    """`table[x]`: any function of elements of eight bits, with an entry for each of the 256, smallest element first.

    Errors: InvalidInput for another number of entries, or entries that the type does not have.
    """
    if x.dtype not in EIGHT_BITS or len(entries) != 256 or dtype not in EIGHT_BITS:
        raise InvalidInput(
            f"layer {name!r}: expected 256 entries for a tensor of eight bits, got {len(entries)} for {x}"
        )
    low, high = bounds(dtype)
    if min(entries) < low or max(entries) > high:
        raise InvalidInput(f"layer {name!r}: expected entries from {low} to {high}, got {min(entries)}, {max(entries)}")
    table = Tensor(f"{name}_table", (256,), dtype)
    out = Tensor(f"{name}_out", x.shape, dtype)
    here = ", ".join(point_dims(len(x.shape)))
    first = bounds(x.dtype)[0]
    expression = f"table[{less('x', first)[1:-1] if first else 'x'}]"
    reads = {"x": (x, here)}
    statement = point_statement(f"{name}_final", out, reads, expression, tables={"table": table})
    reference = partial(_looked_up, first)
    layer = Layer(name, Lookup(), out, (statement,), (x,), (table,), reference)
    return layer, {table.name: np.array(entries, dtype=dtype)}


def function(
    name: str, x: Tensor, of: Callable[[Array], Array], *, x_scale: Quantisation, y_scale: Quantisation
) -> Made:
    """A function of the numbers that elements stand for, as a table: every entry is quantised as `quantize` does.

    Errors: InvalidInput where types or scales do not fit together, and where the function gives NaN.
    """
    one_tensor(name, x=x_scale, y=y_scale)
    of_type(name, [("the input", x.dtype, x_scale)])
    low, high = bounds(x.dtype)
    with np.errstate(all="ignore"):
        found = y_scale.quantised(of(x_scale.real(np.arange(low, high + 1))))
    if np.isnan(found).any():
        raise InvalidInput(f"layer {name!r}: its function is not a number at {int(np.isnan(found).argmax()) + low}")
    return lookup(name, x, [int(entry) for entry in found], y_scale.dtype)


def requantize(name: str, x: Tensor, *, x_scale: Quantisation, y_scale: Quantisation) -> Made:
    """The numbers of a tensor in another scale, by a table."""
    return function(name, x, np.asarray, x_scale=x_scale, y_scale=y_scale)


def concat(
    name: str,
    tensors: Sequence[tuple[Tensor, Quantisation]],
    *,
    y_scale: Quantisation,
    axis: int = 1,
    constants: Sequence[Tensor] = (),
) -> tuple[tuple[Layer, ...], WeightValues]:
    """Concatenation (com.microsoft QLinearConcat): parts of another scale are requantised by NAME_scaledK before.

    Errors: InvalidInput where shapes, types or scales do not fit together.
    """
    layers: list[Layer] = []
    values: dict[str, NDArray[Any]] = {}
    parts = []
    for k, (tensor, scale) in enumerate(tensors):
        of_type(name, [(f"part {k}", tensor.dtype, scale)])
        if scale == y_scale:
            parts.append(tensor)
            continue
        layer, brought = requantize(f"{name}_scaled{k}", tensor, x_scale=scale, y_scale=y_scale)
        layers.append(layer)
        values |= brought
        parts.append(layer.output)
    return (*layers, concatenated(name, parts, axis, constants)), values


# References: functions of modules with arguments bound, so that networks can be pickled and sent to other processes.


def _quantised(scale: Quantisation, axis: int, x: Array, *_: Array) -> Array:
    return scale.quantised(x, axis)


def _real(scale: Quantisation, axis: int, x: Array, *_: Array) -> Array:
    return scale.real(x, axis)


def _added(
    order: str, ratios: tuple[Singles, Singles], fixed: Singles, limits: tuple[int, int], a: Array, b: Array
) -> Array:
    first, second = (a, b) if order == "ab" else (b, a)
    total = fmaf(first, ratios[0], fmaf(second, ratios[1], fixed))
    return clamped(np.rint(total.astype(np.float64)), *limits)


def _multiplied(zeros: tuple[int, int, int], factor: Singles, limits: tuple[int, int], a: Array, b: Array) -> Array:
    product = ((a - zeros[0]) * (b - zeros[1])).astype(np.float32) * factor
    total = product + np.float32(zeros[2])
    return clamped(np.rint(total.astype(np.float64)), *limits)


def _means(x_scale: Quantisation, y_scale: Quantisation, window: Window, counted: Padding, x: Array) -> Array:
    taken = windows(x_scale.real(x), window, 0.0).astype(np.float32)
    total = np.zeros(taken.shape[:4], np.float32)
    for kh, kw in np.ndindex(*taken.shape[4:]):
        total += taken[..., kh, kw]
    ones = np.ones((1, 1, *x.shape[2:]))
    means = pooled_means(window, counted, ones)
    sums = windows(ones, window, 0.0).sum(axis=(4, 5))
    divisor = np.rint(sums / means).astype(np.float32)
    found = total / divisor / y_scale.scales + np.float32(y_scale.zero)
    return clamped(np.rint(found.astype(np.float64)), *bounds(y_scale.dtype))


def _looked_up(first: int, x: Array, table: Array) -> Array:
    return np.asarray(table[x.astype(np.int64) - first], dtype=np.float64)
