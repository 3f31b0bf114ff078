"""Images, or tensors of any rank, in another resolution: the nearest element, or a weighted sum of neighbours.

A tensor of concrete sizes and where each point lies in it enter; a `Layer` leaves, and the weights of its taps.
"""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import partial
from math import floor
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from polyfuse.errors import InvalidInput
from polyfuse.network.dtypes import Array
from polyfuse.network.indexing import check_entries, floored
from polyfuse.network.layer import Layer
from polyfuse.network.layers.copies import gathered
from polyfuse.network.operator import Resize
from polyfuse.network.resampling import Resampling, fraction_of
from polyfuse.network.statements import point_dims, point_statement, window_statement
from polyfuse.network.tensor import Tensor, check_float32

Weights = NDArray[np.float32]
SMALLEST = 2.0**-32
"""No scale is smaller, or larger than its inverse."""


def resize(
    name: str,
    x: Tensor,
    sizes: Sequence[int],
    scales: Sequence[float | Fraction] | None = None,
    how: Resampling = Resampling(),  # noqa: B008  (frozen)
) -> tuple[Layer, Mapping[str, Weights]]:
    """The tensor in other sizes, and the values of the layer's weights (ONNX Resize, Upsample).

    `scales` are those of the sizes unless given; a float is the simplest fraction that it stands for in float32.
    Errors: InvalidInput for sizes and scales that do not fit.
    """
    old, new = x.concrete_shape, tuple(sizes)
    if len(old) != len(new) or min(new) < 1:
        raise InvalidInput(f"layer {name!r}: expected a size of at least 1 for each axis of {x}, got {new}")
    check_entries(name, new)
    given = [Fraction(m, s) for s, m in zip(old, new, strict=True)] if scales is None else scales
    if len(given) != len(old) or not all(SMALLEST < each < 1 / SMALLEST for each in given):
        raise InvalidInput(f"layer {name!r}: expected a positive scale for each axis of {x}, got {list(given)}")
    ratios = [each if isinstance(each, Fraction) else fraction_of(each) for each in given]
    at = [how.positions(s, m, r) for s, m, r in zip(old, new, ratios, strict=True)]
    operator = Resize(new, tuple(map(float, given)), how)
    out = Tensor(f"{name}_out", new, x.dtype)
    if how.mode == "nearest":
        nearest = [how.nearest(points, size) for points, size in zip(at, old, strict=True)]
        reference = itemgetter(np.ix_(*nearest))
        return Layer(name, operator, out, gathered(name, x, out, nearest), (x,), (), reference), {}
    check_float32(name, x)
    axes = [a for a in range(len(old)) if old[a] != new[a] or at[a] != [*range(new[a])]]
    return _interpolated(name, x, out, {a: taps(at[a], old[a], how) for a in axes}, operator)


def taps(at: Sequence[Fraction], size: int, how: Resampling) -> tuple[list[int], Array]:
    """The first element that each point reads along an axis, and the weights of it and those behind it: `[point, tap]`.

    What falls outside of the tensor counts for the element at its border, or not at all where it is excluded.
    Errors: InvalidInput.
    """
    before, count = (0, 2) if how.mode == "linear" else (1, 4)
    whole = [floor(point) for point in at]
    base = np.array(whole) - before
    weights = _weights(np.array([float(point - first) for point, first in zip(at, whole, strict=True)]), how)
    index = base[:, None] + np.arange(count)
    outside = (index < 0) | (index >= size)
    if how.exclude_outside:
        weights = np.where(outside, 0.0, weights)
        return list(base), weights / weights.sum(axis=1, keepdims=True)
    border = np.clip(index, 0, size - 1)
    gathered_weights = np.zeros_like(weights)
    for tap in range(count):
        target = border[:, tap] - base
        if (target < 0).any() or (target >= count).any():
            raise InvalidInput(
                f"resize: expected points that lie near the {size} elements of an axis, got {list(map(float, at))[:8]}"
            )
        np.add.at(gathered_weights, (np.arange(len(at)), target), weights[:, tap])
    return list(base), gathered_weights


def _weights(part: Array, how: Resampling) -> Array:
    """The weights of the neighbours of points that lie so far behind an element: `[point, tap]`."""
    if how.mode == "linear":
        return np.stack([1 - part, part], axis=1)
    a = how.cubic

    def near(d: Array) -> Array:
        return ((a + 2) * d - (a + 3)) * d * d + 1

    def far(d: Array) -> Array:
        return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a

    return np.stack([far(part + 1), near(part), near(1 - part), far(2 - part)], axis=1)


def _interpolated(
    name: str, x: Tensor, out: Tensor, tables: Mapping[int, tuple[list[int], Array]], operator: Resize
) -> tuple[Layer, Mapping[str, Weights]]:
    """The layer that sums neighbours along some axes, and the values of its weights, one tensor for each axis."""
    dims = point_dims(len(out.shape))
    index, reads = list(dims), {}
    weights: dict[Tensor, Weights] = {}
    for k, (axis, (base, values)) in enumerate(tables.items()):
        first = floored(dims[axis], base)
        if first is None:
            raise InvalidInput(f"layer {name!r}: the points along axis {axis} of {x} do not lie evenly")
        index[axis] = f"{first} + k{k}"
        tensor = Tensor(f"{name}_taps{axis}", values.shape)
        weights[tensor] = np.asarray(values, dtype=np.float32)
        reads[f"t{k}"] = (tensor, f"{dims[axis]}, k{k}")
    bounds = {f"k{k}": values.shape[1] for k, (_, values) in enumerate(tables.values())}
    product = " * ".join([*reads, "x"])
    window = {"x": (x, ", ".join(index)), **reads}
    update = window_statement(f"{name}_update", out, bounds, window, "x", f"acc + {product}", macs=1)
    bases = tuple((axis, tuple(base)) for axis, (base, _) in tables.items())
    layer = Layer(
        name,
        operator,
        out,
        (point_statement(f"{name}_init", out, {}, "0.0"), update),
        (x,),
        tuple(weights),
        partial(_summed, bases),
    )
    return layer, {tensor.name: values for tensor, values in weights.items()}


# References: functions of modules with arguments bound, so that networks can be pickled and sent to other processes.


def _summed(bases: Sequence[tuple[int, tuple[int, ...]]], x: Array, *weights: Array) -> Array:
    """Axis by axis: every tap of it, those outside of the tensor left out."""
    for (axis, base), each in zip(bases, weights, strict=True):
        size, first = x.shape[axis], np.asarray(base)
        column = [1] * x.ndim
        column[axis] = len(first)
        total = np.zeros((*x.shape[:axis], len(first), *x.shape[axis + 1 :]))
        for tap in range(each.shape[1]):
            inside = (first + tap >= 0) & (first + tap < size)
            read = np.take(x, np.clip(first + tap, 0, size - 1), axis=axis)
            total += np.where(inside.reshape(column), read * each[:, tap].reshape(column), 0.0)
        x = total
    return x
