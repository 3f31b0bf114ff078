"""Types of elements: how many bytes they take, how numpy holds them, what they can represent.

Values are computed in float64, in which every element of every type is exact; an array in the type that holds it is
what is stored and moved. numpy has no bfloat16, which is held as its 16 bits.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from polyfuse.errors import InvalidInput
from polyfuse.whole import shown

Array = NDArray[np.float64]
Values = NDArray[Any]
"""The elements of a tensor in the numpy type that holds them."""


@dataclass(frozen=True)
class ElementType:
    """A type of elements: its bytes, the numpy type that holds it, and the whole numbers from `low` to `high`.

    `low` and `high` are None for floating point.
    """

    bytes: int
    held: str
    low: int | None = None
    high: int | None = None


TYPES: dict[str, ElementType] = {
    "float32": ElementType(4, "float32"),
    "float64": ElementType(8, "float64"),
    "float16": ElementType(2, "float16"),
    "bfloat16": ElementType(2, "uint16"),
    "int8": ElementType(1, "int8", -128, 127),
    "uint8": ElementType(1, "uint8", 0, 255),
    "int32": ElementType(4, "int32", -(2**31), 2**31 - 1),
}
"""The types that a tensor may have, by name."""
HALVES = ("float16", "bfloat16")
"""Types that are stored narrower than what is computed with."""
COMPUTED = ("float32", "float64")
"""Types of floats that are computed with as they are stored."""
EIGHT_BITS = ("int8", "uint8")
"""Types of quantised activations."""


def element_type(dtype: str, where: str) -> ElementType:
    """The type of that name.

    Errors: InvalidInput for an unknown name.

    >>> element_type("uint8", "tensor 'x'").high
    255
    """
    if dtype not in TYPES:
        raise InvalidInput(f"{where}: expected a type of elements of {', '.join(TYPES)}, got {dtype!r}")
    return TYPES[dtype]


def is_whole(dtype: str) -> bool:
    """The elements are whole numbers."""
    return TYPES[dtype].low is not None


def bounds(dtype: str) -> tuple[int, int]:
    """The smallest and the largest element of a type of whole numbers.

    >>> bounds("int8")
    (-128, 127)
    """
    found = TYPES[dtype]
    assert found.low is not None and found.high is not None, dtype
    return found.low, found.high


def numbers(values: ArrayLike, where: str) -> Array:
    """Values as an array of real numbers. Errors: InvalidInput that begins with `where`."""
    try:
        array = np.asarray(values)
        if array.dtype.kind not in "SUcMm":
            return array if array.dtype.kind != "O" else array.astype(np.float64)
    except (TypeError, ValueError):
        pass
    raise InvalidInput(f"{where}: expected real numbers, got {shown(values)}")


def encoded(values: ArrayLike, dtype: str, where: str = "values") -> Values:
    """Values as they are stored: rounded to the type, half to even, once from float32 where it is narrower.

    Errors: InvalidInput for values that a type of whole numbers does not have.

    >>> encoded([1.0, 1.00390625, 1.01171875], "bfloat16").tolist()
    [16256, 16256, 16258]
    """
    array = numbers(values, where)
    if is_whole(dtype):
        return _whole(array, dtype, where)
    if dtype == "float64":
        return array.astype(np.float64)
    with np.errstate(all="ignore"):
        single = array.astype(np.float32)
        if dtype != "bfloat16":
            return single.astype(TYPES[dtype].held)
    bits = np.ascontiguousarray(single).view(np.uint32).reshape(single.shape)
    rounded_bits = (bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(single), (bits >> 16) | 0x40, rounded_bits).astype(np.uint16)


def _whole(array: Values, dtype: str, where: str) -> Values:
    low, high = bounds(dtype)
    with np.errstate(invalid="ignore"):
        fits = np.all((array >= low) & (array <= high) & (array == np.trunc(array)))
    if not fits:
        raise InvalidInput(f"{where}: expected whole numbers from {low} to {high} ({dtype}), got others; correct them")
    return array.astype(TYPES[dtype].held)


def decoded(held: ArrayLike, dtype: str) -> Array:
    """The values of stored elements, in float64.

    >>> decoded(np.array([16256, 16257], np.uint16), "bfloat16").tolist()
    [1.0, 1.0078125]
    """
    array = np.asarray(held)
    if dtype == "bfloat16":
        array = np.ascontiguousarray(array.astype(np.uint32) << 16).view(np.float32).reshape(array.shape)
    with np.errstate(invalid="ignore"):
        return np.asarray(array, dtype=np.float64)


def stored(values: ArrayLike, dtype: str, where: str = "values") -> Array:
    """The values that are read again after they were stored as a type; float32 keeps what float64 has.

    float32 is what the reference semantics computes in float64, as the oracle of what is computed in float32.
    Errors: those of encoded.

    >>> stored([0.1, 2.0], "float16").tolist()
    [0.0999755859375, 2.0]
    """
    if dtype == "float32":
        return np.asarray(values, dtype=np.float64)
    return decoded(encoded(values, dtype, where), dtype)
