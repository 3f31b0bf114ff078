"""Weights that have a part for each output channel: the part that a block of output channels loads."""

from functools import lru_cache

import islpy as isl

from polyfuse.network.layer import Layer
from polyfuse.network.tensor import Tensor


@lru_cache(maxsize=4096)
def channel_axis(layer: Layer, weight: Tensor) -> int | None:
    """The axis of a weight along which every read is at the output channel of its point; None where there is none.

    Output channels are axis 1 of images, and of the output of a product of matrices; other outputs have none.

    >>> from polyfuse.network.layers.convolution import convolution
    >>> x, w = Tensor("x", (1, 3, 8, 8)), Tensor("w", (5, 3, 3, 3))
    >>> channel_axis(convolution("conv", x, w), w)
    0
    """
    if layer.rank not in (2, 4):
        return None
    reads = [
        (access.relation, name in statement.tables)
        for statement in layer.statements
        for name, access in statement.operands.items()
        if access.tensor == weight
    ]
    for axis, size in enumerate(weight.concrete_shape):
        if size == layer.output.concrete_shape[1] and not any(
            is_table or not read <= read.equate(isl.dim_type.in_, 1, isl.dim_type.out, axis) for read, is_table in reads
        ):
            return axis
    return None
