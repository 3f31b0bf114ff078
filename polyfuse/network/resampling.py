"""The positions of points of a resized tensor in the original one, as ONNX's operator Resize defines them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor

import numpy as np

from polyfuse.errors import InvalidInput

HALF = Fraction(1, 2)
COORDINATES: dict[str, Callable[[int, int, int, Fraction], Fraction]] = {
    "half_pixel": lambda o, size, made, scale: (o + HALF) / scale - HALF,
    "pytorch_half_pixel": lambda o, size, made, scale: (o + HALF) / scale - HALF if made > 1 else Fraction(0),
    "align_corners": lambda o, size, made, scale: Fraction(o * (size - 1), max(made - 1, 1)),
    "asymmetric": lambda o, size, made, scale: o / scale,
    "half_pixel_symmetric": lambda o, size, made, scale: size * HALF - made * HALF / scale + (o + HALF) / scale - HALF,
    "tf_half_pixel_for_nn": lambda o, size, made, scale: (o + HALF) / scale,
}
"""The position of point o of `made` along an axis among the `size` elements of the tensor, by ONNX's names."""
ROUNDINGS: dict[str, Callable[[Fraction], int]] = {
    "round_prefer_floor": lambda at: ceil(at - HALF),
    "round_prefer_ceil": lambda at: floor(at + HALF),
    "floor": floor,
    "ceil": ceil,
}
"""The index of the nearest element, by ONNX's names."""


def fraction_of(scale: float) -> Fraction:
    """The simplest fraction that a scale in float32 stands for: of all those that are rounded to it.

    So what is said by a scale of 0.7 is what is said by sizes 7 and 10, and a tie between two elements stays one.

    >>> fraction_of(0.7), fraction_of(19 / 14), fraction_of(2.0)
    (Fraction(7, 10), Fraction(19, 14), Fraction(2, 1))
    """
    middle = np.float32(scale)
    below, above = (Fraction(float(np.nextafter(middle, np.float32(end)))) for end in (0.0, np.inf))
    exact = Fraction(float(middle))
    return _simplest((below + exact) / 2, (exact + above) / 2)


def _simplest(low: Fraction, high: Fraction) -> Fraction:
    """The fraction with the smallest denominator between two others, both included."""
    if ceil(low) <= high:
        return Fraction(ceil(low))
    whole = floor(low)
    return whole + 1 / _simplest(1 / (high - whole), 1 / (low - whole))


@dataclass(frozen=True)
class Resampling:
    """A way to resize a tensor: `nearest`, `linear` or `cubic`, and ONNX's attributes of these names."""

    mode: str = "nearest"
    coordinates: str = "half_pixel"
    rounding: str = "round_prefer_floor"
    cubic: float = -0.75
    exclude_outside: bool = False

    def __post_init__(self) -> None:
        words = (self.mode, ("nearest", "linear", "cubic")), (self.coordinates, COORDINATES), (self.rounding, ROUNDINGS)
        for word, known in words:
            if word not in known:
                raise InvalidInput(f"resize: expected one of {', '.join(known)}, got {word!r}")

    def positions(self, size: int, made: int, scale: Fraction) -> list[Fraction]:
        """The positions of the points along an axis, exactly."""
        return [COORDINATES[self.coordinates](point, size, made, scale) for point in range(made)]

    def nearest(self, at: Sequence[Fraction], size: int) -> list[int]:
        """The nearest elements to points along an axis."""
        return [min(max(ROUNDINGS[self.rounding](point), 0), size - 1) for point in at]
