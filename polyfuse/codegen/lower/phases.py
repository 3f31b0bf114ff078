"""Transposed convolutions as ordinary ones: the outputs that the same taps reach are a phase.

    Layer ──phases()──> (Phase, ...)      one for other layers

A transposed convolution with stride s makes output `s q + i` of taps `k = k0 + s m`, where `k0 = (i + padding) mod s`,
from inputs `q + (i + padding - k0) / s - m`: along q that is a convolution with stride 1, its taps in reverse.
"""

from dataclasses import dataclass
from itertools import product

import islpy as isl
import numpy as np
from numpy.typing import NDArray

from polyfuse.codegen.lower.selection import window_or_point
from polyfuse.network.layer import Layer
from polyfuse.network.operator import ConvTranspose
from polyfuse.network.window import Pair, Window

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Phase:
    """Outputs of a layer from `first` on, `apart` from each other, as (row, column); their window, and its taps.

    `taps` are the rows and the columns of the layer's weights in the order of the window; none where the weights are
    the window's as they are.
    """

    window: Window
    first: Pair = (0, 0)
    apart: Pair = (1, 1)
    taps: tuple[tuple[int, ...], tuple[int, ...]] | None = None

    @property
    def label(self) -> str:
        """What tells the phases of a layer apart in names."""
        return f"__{self.first[0]}_{self.first[1]}" if self.taps is not None else ""

    def moments(self, moments: isl.Map) -> isl.Map:
        """`{ A[n, c, h, w] -> tile }` of a layer's outputs as those of the phase, numbered along rows and columns."""
        if self.apart == (1, 1):
            return moments
        space = moments.domain().get_space()
        places = isl.MultiAff.identity_on_domain_space(space)
        for axis in range(2):
            place = places.get_at(2 + axis).scale_val(isl.Val(self.apart[axis]))
            places = places.set_at(2 + axis, place.add_constant_val(isl.Val(self.first[axis])))
        return moments.preimage_domain_multi_aff(places)

    def place(self, number: isl.PwAff, axis: int) -> isl.PwAff:
        """The row or column of the layer's output that has a number in the phase."""
        return number.scale_val(isl.Val(self.apart[axis])).add_constant_val(isl.Val(self.first[axis]))

    def weights(self, values: Floats) -> Floats:
        """The weights `[out channel, in channel, kernel row, tap]` of the phase, from the layer's."""
        if self.taps is None:
            return values
        rows, columns = (list(taps) for taps in self.taps)
        return np.ascontiguousarray(values.transpose(1, 0, 2, 3)[:, :, rows][..., columns])


def phases(layer: Layer) -> tuple[Phase, ...]:
    """The phases of a layer; one for all that is no transposed convolution."""
    if not isinstance(layer.operator, ConvTranspose):
        return (Phase(window_or_point(layer)),)
    whole = layer.operator.window
    found = []
    for first in product(*map(range, whole.stride)):
        axes = [axis_of(whole.kernel[a], whole.stride[a], whole.padding[a], first[a]) for a in range(2)]
        (row_taps, top), (column_taps, left) = axes
        window = Window((len(row_taps), len(column_taps)), padding=(top, left, 0, 0))
        found.append(Phase(window, (first[0], first[1]), whole.stride, (row_taps, column_taps)))
    return tuple(found)


def axis_of(kernel: int, stride: int, padding: int, first: int) -> tuple[tuple[int, ...], int]:
    """The taps of a phase along one axis, the last one first, and how far its windows begin before its outputs.

    >>> axis_of(9, 2, 4, 0), axis_of(9, 2, 4, 1)
    (((8, 6, 4, 2, 0), 2), ((7, 5, 3, 1), 1))
    """
    lowest = (first + padding) % stride
    taps = range(lowest, kernel, stride)
    return tuple(taps[::-1]), len(taps) - 1 - (first + padding - lowest) // stride
