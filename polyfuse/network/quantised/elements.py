"""Integer layers of single elements and small windows: from and to floats, sums and products, means, tables.

Tensors and their quantisations enter; a `Layer`, and the values of weights that it brings with it, leave. What they
compute is what onnxruntime's CPU provider has, to the bit. The order of roundings differs between its operators: a sum
and a mean are rounded with the zero point in them, a product after it is added, what is quantised before.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

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
from polyfuse.network.quantised.scheme import Quantisation, Scales, check_operands, check_type, clamped
from polyfuse.network.quantised.text import less, more, number, rounded, within
from polyfuse.network.single import Singles, fmaf
from polyfuse.network.statements import point_dims, point_statement
from polyfuse.network.tensor import Tensor, check_float32
from polyfuse.network.window import Padding, Pair, Window

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
    check_type(name, "the input", x, scale)
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


def arithmetic(
    name: str,
    how: Literal["add", "mul"],
    a: Tensor,
    b: Tensor,
    scales: Scales,
    *,
    constants: Sequence[str] = (),
    limits: Pair | None = None,
) -> Layer:
    """The sum or the product of two tensors that are broadcast (com.microsoft QLinearAdd and QLinearMul).

        add   clamp(round(fma(a, ra, fma(b, rb, f))))   with f = y_zero - fma(a_zero, ra, rb * b_zero)
        mul   clamp(round((a - a_zero) * (b - b_zero) * m + y_zero))   with m = (a_scale * b_scale) / y_scale

    `ra` and `rb` are scales divided by that of the result. A sum of floats that is rounded afterwards differs from the
    first where it is a tie. `limits` are the elements to which an activation clamps.
    Errors: InvalidInput where shapes, types or scales do not fit together.
    """
    a_scale, b_scale, y_scale = scales
    check_operands(name, y_scale, a=(a, a_scale), b=(b, b_scale))
    ends = limits or bounds(y_scale.dtype)
    with np.errstate(all="ignore"):
        text, function = _sum("ba" if _is_repeated(a, b) else "ab", scales) if how == "add" else _product(scales)
    expression, reference = rounded(text, *ends), partial(_rounded, function, ends)
    operator, operands = Quantised(Arithmetic(how), scales, ends), {"a": a, "b": b}
    dtype = y_scale.dtype
    return pointwise(name, operands, expression, reference, operator=operator, constants=constants, dtype=dtype)


def _sum(order: str, scales: Scales) -> tuple[str, Callable[..., Singles]]:
    """The sum of two operands before it is rounded, as text and in numpy; the last of the order is added first."""
    (p, q), y = (scales[:2] if order == "ab" else scales[1::-1]), scales[2]
    ratios: tuple[Singles, Singles] = (p.scales / y.scales, q.scales / y.scales)
    fixed: Singles = np.float32(y.zero) - fmaf(p.zero, ratios[0], ratios[1] * np.float32(q.zero))
    inner = f"fmaf({order[1]}, {number(ratios[1][0])}, {number(fixed[0])})"
    return f"fmaf({order[0]}, {number(ratios[0][0])}, {inner})", partial(_added, order, ratios, fixed)


def _product(scales: Scales) -> tuple[str, Callable[..., Singles]]:
    """The product of two operands before it is rounded, as text and in numpy."""
    a, b, y = scales
    factor: Singles = (a.scales * b.scales) / y.scales
    product = f"{less('a', a.zero)} * {less('b', b.zero)} * {number(factor[0])}"
    return more(product, y.zero), partial(_multiplied, (a.zero, b.zero, y.zero), factor)


def _is_repeated(a: Tensor, b: Tensor) -> bool:
    """Whether each element of `a`, and not of `b`, meets several that follow each other: onnxruntime swaps the two."""
    rank = max(len(a.shape), len(b.shape))
    pairs = list(zip(*((*(1,) * (rank - len(t.shape)), *t.concrete_shape) for t in (a, b)), strict=True))
    last = next(((s, t) for s, t in reversed(pairs) if max(s, t) > 1), (1, 1))
    return last[0] == 1 < last[1]


def average_pool(
    name: str,
    x: Tensor,
    window: Window,
    scales: Scales,
    ceil: bool = False,
    counts_padding: bool = False,
) -> Layer:
    """The mean of each window (com.microsoft QLinearAveragePool): a float32 sum, in the order of the window.

    `clamp(round(sum / taps / y_scale + y_zero))`. Where padding is counted, so is what windows have beyond it in
    ceil mode, as onnxruntime has it; ONNX's AveragePool does not count that.
    Errors: InvalidInput where shapes, types or scales do not fit together.
    """
    x_scale, y_scale = scales
    check_operands(name, y_scale, x=(x, x_scale))
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
    operator = Quantised(Pool("average", window, ceil, counts_padding), scales, limits)
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


def function(name: str, x: Tensor, of: Callable[[Array], Array], scales: Scales) -> Made:
    """A function of the numbers that elements stand for, as a table: every entry is quantised as `quantize` does.

    Errors: InvalidInput where types or scales do not fit together, and where the function gives NaN.
    """
    x_scale, y_scale = scales
    check_operands(name, y_scale, x=(x, x_scale))
    low, high = bounds(x.dtype)
    with np.errstate(all="ignore"):
        found = y_scale.quantised(of(x_scale.real(np.arange(low, high + 1))))
    if np.isnan(found).any():
        raise InvalidInput(f"layer {name!r}: its function is not a number at {int(np.isnan(found).argmax()) + low}")
    return lookup(name, x, [int(entry) for entry in found], y_scale.dtype)


def requantize(name: str, x: Tensor, scales: Scales) -> Made:
    """The numbers of a tensor in another scale, by a table."""
    return function(name, x, np.asarray, scales)


def concat(
    name: str, tensors: Sequence[tuple[Tensor, Quantisation]], y_scale: Quantisation, axis: int = 1
) -> tuple[tuple[Layer, ...], WeightValues]:
    """Concatenation (com.microsoft QLinearConcat): parts of another scale are requantised by NAME_scaledK before.

    Errors: InvalidInput where shapes, types or scales do not fit together.
    """
    layers: list[Layer] = []
    values: dict[str, NDArray[Any]] = {}
    parts = []
    for k, (tensor, scale) in enumerate(tensors):
        check_type(name, f"part {k}", tensor, scale)
        if scale == y_scale:
            parts.append(tensor)
            continue
        layer, brought = requantize(f"{name}_scaled{k}", tensor, (scale, y_scale))
        layers.append(layer)
        values |= brought
        parts.append(layer.output)
    return (*layers, concatenated(name, parts, axis)), values


# References: functions of modules with arguments bound, so that networks can be pickled and sent to other processes.


def _quantised(scale: Quantisation, axis: int, x: Array, *_: Array) -> Array:
    return scale.quantised(x, axis)


def _real(scale: Quantisation, axis: int, x: Array, *_: Array) -> Array:
    return scale.real(x, axis)


def _rounded(function: Callable[..., Singles], limits: Pair, a: Array, b: Array) -> Array:
    """Singles, rounded half to even and clamped."""
    return clamped(np.rint(function(a, b).astype(np.float64)), *limits)


def _added(order: str, ratios: tuple[Singles, Singles], fixed: Singles, a: Array, b: Array) -> Singles:
    first, second = (a, b) if order == "ab" else (b, a)
    return fmaf(first, ratios[0], fmaf(second, ratios[1], fixed))


def _multiplied(zeros: tuple[int, int, int], factor: Singles, a: Array, b: Array) -> Singles:
    product: Singles = ((a - zeros[0]) * (b - zeros[1])).astype(np.float32) * factor
    return product + np.float32(zeros[2])


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
