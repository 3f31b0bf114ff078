"""Rows, weights and biases in the order that row kernels read them, in numpy.

    weights       as the kind of the kernel packs them: `Kind.packed`
    bias          [block][V], zeros where there is none; a stencil's as it is; slopes lie behind it, [block][V]
    blocked row   [block][column][V], channels that fill up the last block are 0

Output channels are filled up with zeros to whole blocks; input channels that do not exist take no room.
"""

import numpy as np
from numpy.typing import NDArray

from polyfuse.codegen.rows.kernel import RowKernel
from polyfuse.codegen.rows.shape import Floats, filled
from polyfuse.errors import InvalidInput


def packed_weights(kernel: RowKernel, weights: NDArray[np.floating]) -> Floats:
    """Weights `[out channel, in channel of its group, kernel row, tap]` as the kernel reads them, flat.

    Errors: InvalidInput when they have another shape.
    """
    shape = kernel.shape
    expected = shape.kind.weights_shape(shape)
    if weights.shape != expected:
        raise InvalidInput(f"row kernel {shape.name!r}: expected weights of shape {expected}, got {weights.shape}")
    return shape.kind.packed(shape, kernel.tuning, kernel.floats, np.asarray(weights, dtype=np.float32))


def packed_bias(
    kernel: RowKernel, bias: NDArray[np.floating] | None, slopes: NDArray[np.floating] | None = None
) -> Floats:
    """The bias `[out channel]` filled up to whole blocks, zeros for None; and slopes behind it, if there are any."""
    if slopes is not None:
        return np.concatenate([packed_bias(kernel, bias), packed_bias(kernel, slopes)])
    channels = kernel.shape.out_channels
    values = np.zeros(channels) if bias is None else bias
    if values.shape != (channels,):
        raise InvalidInput(f"row kernel {kernel.name!r}: expected a bias of shape ({channels},), got {values.shape}")
    return filled(np.asarray(values, dtype=np.float32), kernel.floats)
