"""Integer layers that add up products: convolution, products of matrices, means of whole channels.

    acc = bias;   acc = acc + (weight - w_zero) * (x - x_zero);   out = clamp(round(acc * multiplier)) + y_zero

Tensors of whole numbers and their quantisations enter; a `Layer` and the values of weights that it brings with it
leave. `acc` is int32. What they compute is what onnxruntime's CPU provider has for QLinearConv, QLinearMatMul, QGemm
and QLinearGlobalAveragePool, to the bit: the multiplier is `(x_scale * w_scale) / y_scale` in float32, and halves are
rounded to even.
"""

from collections.abc import Callable, Collection
from dataclasses import replace
from functools import partial
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyfuse.errors import InvalidInput
from polyfuse.network.dtypes import Array, bounds
from polyfuse.network.layer import Layer
from polyfuse.network.layers.convolution import SumForm, Sums, convolution_sums
from polyfuse.network.layers.matrices import gemm_sums, matmul_sums
from polyfuse.network.layers.pointwise import ordered
from polyfuse.network.layers.pooling import pool_output, pool_update
from polyfuse.network.operator import GlobalPool, Matmul, Quantised
from polyfuse.network.quantised.elements import Made
from polyfuse.network.quantised.scheme import (
    Quantisation,
    Scales,
    check_operands,
    check_type,
    checked_sum,
    clamped,
    multipliers,
)
from polyfuse.network.quantised.text import less, number, requantised
from polyfuse.network.single import Singles
from polyfuse.network.statements import point_dims, point_statement
from polyfuse.network.tensor import Tensor
from polyfuse.network.window import Pair, Window


def convolution(
    name: str,
    x: Tensor,
    w: Tensor,
    bias: Tensor | None = None,
    window: Window | None = None,
    groups: int = 1,
    *,
    scales: Scales,
    limits: Pair | None = None,
) -> Made:
    """Convolution of integers (ONNX QLinearConv); padding stands for zero.

    `scales` are those of input, weights and output; that of weights is of the whole weight or of each output channel.
    `bias` is int32, in units of `x_scale * w_scale`; `limits` are the elements to which an activation clamps.
    Errors: InvalidInput where shapes, types or scales do not fit together.

    >>> x, w = Tensor("x", (1, 1, 4, 4), "uint8"), Tensor("w", (1, 1, 3, 3), "int8")
    >>> scales = (Quantisation(0.5, 3, "uint8"), Quantisation(0.25), Quantisation(2.0))
    >>> layer, _ = convolution("conv", x, w, scales=scales)
    >>> [statement.expression for statement in layer.statements][1:]
    ['acc + weight * (x - 3)', 'rintf(minimum(maximum(acc * 0.0625, -128), 127))']
    """
    make = partial(convolution_sums, given=window, groups=groups)
    return _weighted(name, make, x, w, bias, scales, "c", limits)


def gemm(
    name: str, x: Tensor, w: Tensor, bias: Tensor | None = None, *, scales: Scales, limits: Pair | None = None
) -> Made:
    """`out[n, m] = sum over k of x[n, k] * w[m, k], + bias[m]`, of integers (ONNX QLinearMatMul, QGemm).

    The scale of weights is of the whole weight or of each row of it. The rest is as for `convolution`.
    Errors: InvalidInput where shapes, types or scales do not fit together.
    """
    return _weighted(name, gemm_sums, x, w, bias, scales, "d1", limits)


def _weighted(
    name: str,
    make: Callable[..., Sums],
    x: Tensor,
    w: Tensor,
    bias: Tensor | None,
    scales: Scales,
    channel: str,
    limits: Pair | None,
) -> Made:
    """The layer of sums of products of an input and weights, whose first axis is that of a point's `channel`."""
    x_scale, w_scale, y_scale = scales
    check_operands(name, y_scale, x=(x, x_scale))
    _check_weight(name, w, bias, w_scale, w.concrete_shape[0])
    checked_sum(name, prod(w.concrete_shape[1:]), x_scale, w_scale)
    factor, zeros = _without_zero(name, "weight", w_scale)
    update = f"acc + {factor} * {less('x', x_scale.zero)}"
    sums = make(name, x, w, bias, form=SumForm(y_scale.dtype, update, "0", zeros))
    return _requantised(name, sums, (x,), (w, bias, *zeros.values()), scales, channel, limits)


def matmul(
    name: str,
    a: Tensor,
    b: Tensor,
    constants: Collection[Tensor] = (),
    *,
    scales: Scales,
    limits: Pair | None = None,
) -> Made:
    """`out[…, i, j] = sum over k of a[…, i, k] * b[…, k, j]`, of integers (ONNX QLinearMatMul).

    The scale of `b` is of the whole operand or of each column; `constants` are the operands that are weights.
    Errors: InvalidInput where shapes, types or scales do not fit together.
    """
    a_scale, b_scale, y_scale = scales
    check_operands(name, y_scale, a=(a, a_scale))
    _check_weight(name, b, None, b_scale, b.concrete_shape[-1] if len(b.shape) > 1 else 1)
    checked_sum(name, a.concrete_shape[-1], a_scale, b_scale)
    factor, zeros = _without_zero(name, "b", b_scale)
    update = f"acc + {less('a', a_scale.zero)} * {factor}"
    sums = matmul_sums(name, a, b, SumForm(y_scale.dtype, update, "0", zeros))
    column = point_dims(len(sums.out.shape))[-1]
    inputs = tuple(dict.fromkeys(t for t in (a, b) if t not in constants))
    weights = tuple(dict.fromkeys(t for t in (a, b) if t in constants))
    brought = (*weights, *zeros.values())
    layer, values = _requantised(name, sums, inputs, brought, scales, column, limits)
    read = [*inputs, *weights]
    order = [*map(read.index, (a, b)), *range(len(read), len(read) + len(values))]
    assert layer.reference is not None
    return replace(layer, reference=partial(ordered, layer.reference, order)), values


def global_average_pool(name: str, x: Tensor, scales: Scales) -> Layer:
    """The mean of each channel (com.microsoft QLinearGlobalAveragePool).

    The sum is an integer; it is multiplied by `x_scale / (y_scale * elements)`.
    Errors: InvalidInput where shapes, types or scales do not fit together.
    """
    x_scale, y_scale = scales
    check_operands(name, y_scale, x=(x, x_scale))
    if len(x.shape) != 4:
        raise InvalidInput(f"layer {name!r}: expected an input [n, c, h, w], got {x}")
    window = Window((x.concrete_shape[2], x.concrete_shape[3]))
    size = prod(window.kernel)
    checked_sum(name, size, x_scale)
    out = Tensor(f"{name}_out", pool_output(name, x, window).shape, y_scale.dtype)
    update = pool_update(name, x, out, window, f"acc + {less('x', x_scale.zero)}")
    with np.errstate(all="ignore"):
        factor = x_scale.scales / (y_scale.scales * np.float32(size))
    low, high = bounds(y_scale.dtype)
    last = requantised("acc", number(factor[0]), y_scale, low, high)
    return Layer(
        name,
        Quantised(GlobalPool(window), scales, (low, high)),
        out,
        (point_statement(f"{name}_init", out, {}, "0"), update, point_statement(f"{name}_final", out, {}, last)),
        (x,),
        (),
        partial(_mean, x_scale, y_scale, factor),
        accumulator="int32",
    )


def _without_zero(name: str, operand: str, scale: Quantisation) -> tuple[str, dict[str, Tensor]]:
    """A weight without its zero point, as text, and the operand that has the zero points where channels differ."""
    if len(scale.zeros) == 1:
        return less(operand, scale.zero), {}
    return f"({operand} - zero)", {"zero": Tensor(f"{name}_zero", scale.zeros.shape, scale.dtype)}


def _check_weight(name: str, w: Tensor, bias: Tensor | None, w_scale: Quantisation, channels: int) -> None:
    """The weight has the type and the channels of its quantisation; the bias is int32."""
    check_type(name, "weights", w, w_scale)
    if w_scale.channels not in (1, channels):
        raise InvalidInput(f"layer {name!r}: expected 1 or {channels} scales of weights, got {w_scale.channels}")
    if bias is not None and bias.dtype != "int32":
        raise InvalidInput(f"layer {name!r}: expected a bias of int32, got {bias}")


def _requantised(
    name: str,
    sums: Sums,
    inputs: tuple[Tensor, ...],
    weights: tuple[Tensor | None, ...],
    scales: Scales,
    channel: str,
    limits: Pair | None,
) -> Made:
    """The layer whose last statement makes elements of sums; the multipliers of channels are a weight."""
    x, w, y = scales
    factors = multipliers(x, w, y)
    low, high = limits or bounds(y.dtype)
    if not bounds(y.dtype)[0] <= low <= high <= bounds(y.dtype)[1]:
        raise InvalidInput(f"layer {name!r}: expected limits in {bounds(y.dtype)}, got {(low, high)}")
    reads, multiplier = {}, number(factors[0])
    values: dict[str, NDArray[Any]] = {f"{name}_zero": w.zeros.astype(w.dtype)} if len(w.zeros) > 1 else {}
    is_matmul = sums.operator == Matmul()
    weight = None if is_matmul else weights[0]
    zeros = w.zeros if weight is None else w.zeros.reshape(-1, *[1] * (len(weight.shape) - 1))
    if factors.size > 1:
        tensor = Tensor(f"{name}_multiplier", factors.shape)
        values, reads, multiplier = {**values, tensor.name: factors}, {"multiplier": (tensor, channel)}, "multiplier"
        weights = (*weights, tensor)
    last = point_statement(f"{name}_final", sums.out, reads, requantised("acc", multiplier, y, low, high))
    axis = point_dims(len(sums.out.shape)).index(channel)
    has_bias = not is_matmul and weights[1] is not None
    layer = Layer(
        name,
        Quantised(sums.operator, scales, (low, high)),
        sums.out,
        (*sums.statements, last),
        inputs,
        tuple(tensor for tensor in weights if tensor is not None),
        partial(_sums, sums.computed, (x.zero, zeros), has_bias, axis, factors, (low - y.zero, high - y.zero), y.zero),
        accumulator="int32",
    )
    return layer, values


# References: functions of modules with arguments bound, so that networks can be pickled and sent to other processes.


def _sums(
    computed: Callable[..., Array],
    zeros: tuple[int, NDArray[Any]],
    has_bias: bool,
    axis: int,
    factors: Singles,
    limits: Pair,
    zero: int,
    a: Array,
    b: Array,
    *rest: Array,
) -> Array:
    """Sums of products, exact in float64, and the elements that they become; a weight of multipliers is `factors`."""
    bias = rest[:1] if has_bias else ()
    acc = computed(a - zeros[0], b - zeros[1], *bias)
    shape = [-1 if d == axis else 1 for d in range(acc.ndim)] if factors.size > 1 else [1] * acc.ndim
    return elements(acc, factors.reshape(shape), limits, zero)


def elements(acc: Array, factors: Singles, limits: Pair, zero: int) -> Array:
    """Integer sums, scaled in float32, clamped, rounded half to even, and shifted by a zero point.

    Errors: InvalidInput for sums that int32 does not have.
    """
    if np.abs(acc).max(initial=0.0) >= 2**31:
        raise InvalidInput("quantisation: a sum passes int32; scale the bias, or give the layer fewer inputs")
    with np.errstate(all="ignore"):
        scaled = acc.astype(np.float32) * factors
    return np.rint(clamped(scaled.astype(np.float64), *limits)) + zero


def _mean(x_scale: Quantisation, y_scale: Quantisation, factor: Singles, x: Array) -> Array:
    low, high = bounds(y_scale.dtype)
    acc = (x - x_scale.zero).sum(axis=(2, 3), keepdims=True)
    return elements(acc, factor, (low - y_scale.zero, high - y_scale.zero), y_scale.zero)
