"""Quantisation of tensors or channels: `real = scale * (stored - zero_point)`.

Scales and zero points enter, checked; `Quantisation`s and what integer layers need of them leave. All arithmetic is in
float32, as onnxruntime's CPU provider has it.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from polyfuse.errors import InvalidInput
from polyfuse.network.dtypes import EIGHT_BITS, Array, bounds, element_type, is_whole
from polyfuse.network.single import Singles
from polyfuse.network.tensor import Tensor
from polyfuse.sets.points import Integers

SMALLEST = float(np.finfo(np.float32).tiny)
"""The smallest scale: smaller ones have fewer digits."""


@dataclass(frozen=True)
class Quantisation:
    """`real = scale * (stored - zero_point)` for elements of a type of whole numbers.

    Scale and zero point are numbers, or one number for each channel.
    Errors: InvalidInput for scales that are not positive and finite, and for zero points that the type does not have.

    >>> Quantisation(0.5, 3, "uint8").real([3, 5]).tolist()
    [0.0, 1.0]
    """

    scale: float | tuple[float, ...]
    zero_point: int | tuple[int, ...] = 0
    dtype: str = "int8"

    def __post_init__(self) -> None:
        element_type(self.dtype, "quantisation")
        if not is_whole(self.dtype):
            raise InvalidInput(f"quantisation: expected a type of whole numbers, got {self.dtype}")
        with np.errstate(all="ignore"):
            scales = np.atleast_1d(np.asarray(self.scale, dtype=np.float32))
        low, high = bounds(self.dtype)
        if not scales.size or not np.all((scales >= SMALLEST) & np.isfinite(scales)):
            bad = next((float(s) for s in scales if not (s >= SMALLEST and np.isfinite(s))), "none")
            raise InvalidInput(f"quantisation: expected scales that are positive and finite in float32, got {bad}")
        zeros = np.atleast_1d(np.asarray(self.zero_point))
        if not np.issubdtype(zeros.dtype, np.integer) or np.any((zeros < low) | (zeros > high)):
            raise InvalidInput(f"quantisation: expected zero points from {low} to {high}, got {self.zero_point}")
        if self.is_by_channel and {scales.size, zeros.size} - {1, self.channels}:
            raise InvalidInput(f"quantisation: {scales.size} scales and {zeros.size} zero points do not fit together")

    @property
    def is_by_channel(self) -> bool:
        """Whether each channel has a scale or a zero point of its own."""
        return isinstance(self.scale, tuple) or isinstance(self.zero_point, tuple)

    @property
    def channels(self) -> int:
        """The number of channels; 1 for a whole tensor."""
        return max(len(each) for each in (self.scale, self.zero_point, (0,)) if isinstance(each, tuple))

    @cached_property
    def scales(self) -> Singles:
        """The scales in float32, one for each channel, or one."""
        return np.atleast_1d(np.asarray(self.scale, dtype=np.float32))

    @property
    def zeros(self) -> Integers:
        """The zero points: of each channel where they differ, or one."""
        found = np.atleast_1d(np.asarray(self.zero_point, dtype=np.int64))
        return found if len(set(found.tolist())) > 1 else found[:1]

    @property
    def zero(self) -> int:
        """The one zero point.

        Errors: InvalidInput where channels differ in it.
        """
        if len(self.zeros) > 1:
            raise InvalidInput(
                f"quantisation: expected one zero point for all channels, got {sorted(set(self.zeros.tolist()))}"
            )
        return int(self.zeros[0])

    @property
    def span(self) -> int:
        """The largest magnitude of an element without its zero point."""
        low, high = bounds(self.dtype)
        return int(max(self.zeros.max() - low, high - self.zeros.min()))

    def along(self, axis: int, rank: int) -> tuple[Singles, Integers]:
        """Scales and zero points in a shape that is broadcast along an axis of a tensor; -1 is its last one.

        Errors: InvalidInput where there is one for each channel and no such axis.
        """
        if self.is_by_channel and not -rank <= axis < rank:
            raise InvalidInput(f"quantisation: expected an axis from {-rank} to {rank - 1}, got {axis}")
        shape = [-1 if self.is_by_channel and a == axis % rank else 1 for a in range(rank)] or [-1]
        zeros = np.atleast_1d(np.asarray(self.zero_point, dtype=np.int64))
        return self.scales.reshape(shape), zeros.reshape(shape)

    def real(self, values: ArrayLike, axis: int = 1) -> Array:
        """The numbers that elements stand for, in float32."""
        stored = np.asarray(values, dtype=np.int64)
        scales, zeros = self.along(axis, stored.ndim)
        found = (stored - zeros).astype(np.float32) * scales
        return found.astype(np.float64).reshape(stored.shape)

    def quantised(self, values: ArrayLike, axis: int = 1) -> Array:
        """The elements that numbers are rounded to, half to even, clamped to the type (ONNX QuantizeLinear).

        >>> Quantisation(2.0, 1, "uint8").quantised([-9.0, 1.0, 3.0, 5.0]).tolist()
        [0.0, 1.0, 3.0, 3.0]
        """
        with np.errstate(all="ignore"):
            reals = np.asarray(values).astype(np.float32)
            scales, zeros = self.along(axis, reals.ndim)
            rounded = np.rint(reals / scales).astype(np.float64) + zeros
        return clamped(rounded.reshape(reals.shape), *bounds(self.dtype))

    def limits(self, low: float = -np.inf, high: float = np.inf) -> tuple[int, int]:
        """The elements from the one for `low` to the one for `high`: what an activation leaves of the type.

        >>> Quantisation(0.5, -128).limits(0.0, 6.0)
        (-128, -116)
        """
        ends = self.quantised([low, high], axis=0) if self.channels == 1 else np.array(bounds(self.dtype))
        return int(ends[0]), int(ends[1])


Scales = tuple[Quantisation, ...]
"""The quantisations of a layer: of its operands in order, then of its result."""


def clamped(values: Array, low: int, high: int) -> Array:
    """Values between two bounds; NaN stays, and is refused where it is stored."""
    return np.clip(values, low, high).astype(np.float64)


@dataclass(frozen=True, eq=False)
class Dequantised:
    """The source of float weights: whole numbers, and their quantisation along an axis."""

    values: Integers
    quantisation: Quantisation
    axis: int

    @cached_property
    def reals(self) -> Array:
        """The float weights."""
        return self.quantisation.real(self.values, self.axis)

    def reshaped(self, shape: tuple[int, ...]) -> "Dequantised":
        """The values with axes of one element put in front."""
        return Dequantised(self.values.reshape(shape), self.quantisation, self.axis + len(shape) - self.values.ndim)

    def transposed(self) -> "Dequantised":
        """The transposed matrix."""
        return Dequantised(self.values.T, self.quantisation, 1 - self.axis % 2)


def quantisation_of(factors: NDArray[np.generic], zeros: NDArray[np.generic]) -> Quantisation:
    """The quantisation of scales and zero points as models have them: one zero point where channels do not differ.

    Errors: those of Quantisation.
    """
    points = [int(point) for point in zeros.ravel().tolist()]
    numbers = tuple(float(factor) for factor in factors.ravel().tolist())
    zero = points[0] if len(set(points)) == 1 else tuple(points)
    return Quantisation(numbers[0] if factors.size == 1 else numbers, zero, str(zeros.dtype))


def multipliers(x: Quantisation, w: Quantisation, y: Quantisation) -> Singles:
    """The factors of sums of products before they are rounded: `(x_scale * w_scale) / y_scale`.

    Errors: InvalidInput where one of them is not finite.
    """
    with np.errstate(all="ignore"):
        found: Singles = (x.scales * w.scales) / y.scales
    if not np.isfinite(found).all():
        raise InvalidInput(f"quantisation: scales {x.scale}, {w.scale} and {y.scale} give no finite multiplier")
    return found


def checked_sum(name: str, terms: int, *factors: Quantisation) -> None:
    """Refuse sums of products that may pass the largest int32.

    Errors: InvalidInput.
    """
    largest = terms
    for factor in factors:
        largest *= factor.span
    if largest >= 2**31:
        raise InvalidInput(
            f"layer {name!r}: a sum of {terms:,} products may reach {largest:,}, expected less than 2**31 in int32"
        )


def check_values(w: ArrayLike, w_scale: Quantisation, x_scale: Quantisation, bias: ArrayLike | None) -> None:
    """Refuse weights, of which the first axis is that of channels, whose sums and bias may pass the largest int32.

    Errors: InvalidInput.
    """
    stored = np.asarray(w, dtype=np.int64)
    weights = np.abs(stored - w_scale.along(0, stored.ndim)[1])
    largest = weights.reshape(len(weights), -1).sum(axis=1) * x_scale.span
    if bias is not None:
        largest = largest + np.abs(np.asarray(bias, dtype=np.int64))
    if largest.max(initial=0) >= 2**31:
        raise InvalidInput(
            f"quantisation: channel {int(largest.argmax())} of the weights may reach {int(largest.max()):,} with its "
            "bias, expected less than 2**31 in int32; quantise the weights with a larger scale"
        )


def check_operands(name: str, y: Quantisation, **operands: tuple[Tensor, Quantisation]) -> None:
    """Refuse operands and results that are not of eight bits, with one scale for the whole tensor.

    Errors: InvalidInput, also for operands of another type than their quantisation.
    """
    for role, each in (*((role, scale) for role, (_, scale) in operands.items()), ("y", y)):
        if each.is_by_channel or each.dtype not in EIGHT_BITS:
            raise InvalidInput(
                f"layer {name!r}: expected one scale and zero point of {' or '.join(EIGHT_BITS)} for {role}, got {each}"
            )
    for role, (tensor, scale) in operands.items():
        check_type(name, f"the operand {role}", tensor, scale)


def check_type(name: str, role: str, tensor: Tensor, scale: Quantisation) -> None:
    """Refuse a tensor whose type is not that of its quantisation.

    Errors: InvalidInput.
    """
    if tensor.dtype != scale.dtype:
        raise InvalidInput(f"layer {name!r}: expected {role} of {scale.dtype}, as its quantisation, got {tensor.dtype}")
