"""Reductions along any axes, and the layers that softmax is made of.

A tensor of concrete sizes enters; a `Layer`, or several, leave.
"""

from collections.abc import Callable, Sequence
from functools import partial
from math import prod

import numpy as np

from polyfuse.errors import InvalidInput
from polyfuse.network.activated import with_activation
from polyfuse.network.dtypes import Array
from polyfuse.network.layer import Layer
from polyfuse.network.layers.copies import checked_axis, reshape
from polyfuse.network.layers.pointwise import arithmetic
from polyfuse.network.operator import Reduce, Reduction, Variance
from polyfuse.network.statements import point_dims, point_statement, window_statement
from polyfuse.network.tensor import Tensor, check_float32


def _sum_square(x: Array, axis: tuple[int, ...]) -> Array:
    """The sum of squares along axes."""
    return np.asarray(np.sum(x * x, axis=axis), dtype=np.float64)


def _norm1(x: Array, axis: tuple[int, ...]) -> Array:
    """The sum of magnitudes along axes."""
    return np.asarray(np.sum(np.abs(x), axis=axis), dtype=np.float64)


def _norm2(x: Array, axis: tuple[int, ...]) -> Array:
    """The Euclidean norm along axes."""
    return np.sqrt(_sum_square(x, axis))


REDUCTIONS: dict[Reduction, tuple[str, str, str, Callable[..., Array]]] = {
    "sum": ("0.0", "acc + x", "{0}", np.sum),
    "mean": ("0.0", "acc + x", "{0} / {1}", np.mean),
    "max": ("-INFINITY", "maximum(acc, x)", "{0}", np.max),
    "min": ("INFINITY", "minimum(acc, x)", "{0}", np.min),
    "prod": ("1.0", "acc * x", "{0}", np.prod),
    "sum_square": ("0.0", "acc + x * x", "{0}", _sum_square),
    "l1": ("0.0", "acc + fabsf(x)", "{0}", _norm1),
    "l2": ("0.0", "acc + x * x", "sqrtf({0})", _norm2),
}
"""The start, the step, and the end, of the result and the number of elements, as expressions; and in numpy."""


def reduce(name: str, how: Reduction, x: Tensor, axes: Sequence[int], *, keepdims: bool = True) -> Layer:
    """A reduction along axes, one of REDUCTIONS (ONNX ReduceSum, ReduceMean, …).

    Reduced axes keep size 1 or are left out; where that leaves none, the result has one element.
    Errors: InvalidInput for axes that the tensor does not have.
    """
    check_float32(name, x)
    along = _checked_axes(name, how, x, axes)
    start, step, finish, function = REDUCTIONS[how]
    sizes = {f"r{k}": x.concrete_shape[axis] for k, axis in enumerate(along)}
    kept = [1 if a in along else s for a, s in enumerate(x.concrete_shape) if keepdims or a not in along]
    out = Tensor(f"{name}_out", tuple(kept) or (1,))
    index = reduced_index(len(x.shape), along, point_dims(len(out.shape)), keepdims)
    update = window_statement(f"{name}_update", out, sizes, {"x": (x, index)}, "x", step, macs=0)
    last = finish.format("acc", prod(sizes.values()))
    final = [] if last == "acc" else [point_statement(f"{name}_final", out, {}, last)]
    return Layer(
        name,
        Reduce(how, along, keepdims),
        out,
        (point_statement(f"{name}_init", out, {}, start), update, *final),
        (x,),
        (),
        partial(_reduced, function, along, out.concrete_shape),
    )


def _checked_axes(name: str, how: Reduction, x: Tensor, axes: Sequence[int]) -> tuple[int, ...]:
    along = tuple(sorted(checked_axis(name, x, axis) for axis in axes))
    if how not in REDUCTIONS or not along or len(set(along)) != len(along):
        raise InvalidInput(
            f"layer {name!r}: expected one of {', '.join(REDUCTIONS)} along different axes of {x}, got {how} along "
            f"{tuple(axes)}"
        )
    return along


def reduced_index(rank: int, along: Sequence[int], dims: Sequence[str], keepdims: bool) -> str:
    """Which element of a tensor a step of its reduction reads: the k-th reduced axis at `rk`, others at the point."""
    others = iter([d for a, d in enumerate(dims) if a not in along] if keepdims else dims)
    return ", ".join(f"r{along.index(a)}" if a in along else next(others) for a in range(rank))


def variance(name: str, x: Tensor, mean: Tensor, axes: Sequence[int]) -> Layer:
    """The mean of `(x - mean)**2` along axes that keep size 1; `mean` is of the shape of the result.

    Errors: InvalidInput.
    """
    check_float32(name, x, mean)
    along = _checked_axes(name, "mean", x, axes)
    sizes = {f"r{k}": x.concrete_shape[axis] for k, axis in enumerate(along)}
    out = Tensor(f"{name}_out", tuple(1 if a in along else s for a, s in enumerate(x.concrete_shape)))
    if mean.shape != out.shape:
        raise InvalidInput(f"layer {name!r}: expected means of the shape {out.shape}, got {mean}")
    dims = point_dims(len(out.shape))
    reads = {"x": (x, reduced_index(len(x.shape), along, dims, True)), "m": (mean, ", ".join(dims))}
    update = window_statement(f"{name}_update", out, sizes, reads, "x", "acc + (x - m) * (x - m)", macs=0)
    final = point_statement(f"{name}_final", out, {}, f"acc / {prod(sizes.values())}")
    return Layer(
        name,
        Variance(along),
        out,
        (point_statement(f"{name}_init", out, {}, "0.0"), update, final),
        (x, mean),
        (),
        partial(_variance, along),
    )


def _exponentials(name: str, x: Tensor, axes: Sequence[int]) -> tuple[Layer, Layer]:
    """The layers `max` along axes and `exp(x - max)`."""
    largest = reduce(f"{name}_max", "max", x, axes)
    return largest, with_activation(arithmetic(f"{name}_exp", "sub", x, largest.output), "exp")


def softmax(name: str, x: Tensor, axes: Sequence[int]) -> tuple[Layer, ...]:
    """`exp(x - max) / sum of exp(x - max)` along axes: the layers max, exp, sum, and the quotient (ONNX Softmax)."""
    largest, raised = _exponentials(name, x, axes)
    total = reduce(f"{name}_sum", "sum", raised.output, axes)
    return largest, raised, total, arithmetic(name, "div", raised.output, total.output)


def log_softmax(name: str, x: Tensor, axes: Sequence[int]) -> tuple[Layer, ...]:
    """`(x - max) - log(sum of exp(x - max))` along axes: max, sub, exp, sum with its log, and the difference.

    ONNX LogSoftmax.
    """
    largest, raised = _exponentials(name, x, axes)
    shifted = arithmetic(f"{name}_sub", "sub", x, largest.output)
    total = with_activation(reduce(f"{name}_sum", "sum", raised.output, axes), "log")
    return largest, shifted, raised, total, arithmetic(name, "sub", shifted.output, total.output)


def log_sum_exp(name: str, x: Tensor, axes: Sequence[int], keepdims: bool = True) -> tuple[Layer, ...]:
    """`max + log(sum of exp(x - max))` along axes (ONNX ReduceLogSumExp)."""
    largest, raised = _exponentials(name, x, axes)
    total = with_activation(reduce(f"{name}_sum", "sum", raised.output, axes, keepdims=keepdims), "log")
    if keepdims:
        return largest, raised, total, arithmetic(name, "add", largest.output, total.output)
    flat = reshape(f"{name}_log", largest.output, total.output.concrete_shape)
    return largest, raised, total, flat, arithmetic(name, "add", flat.output, total.output)


# References: functions of modules with arguments bound, so that networks can be pickled and sent to other processes.


def _reduced(function: Callable[..., Array], axes: tuple[int, ...], shape: tuple[int, ...], x: Array) -> Array:
    return np.asarray(function(x, axis=axes), dtype=np.float64).reshape(shape)


def _variance(axes: tuple[int, ...], x: Array, mean: Array) -> Array:
    return np.asarray(np.mean((x - mean) ** 2, axis=axes, keepdims=True), dtype=np.float64)
