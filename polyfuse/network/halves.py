"""Networks whose tensors are of another type of floats: float16 or bfloat16, computed in float32, or float64.

A float32 `Network` enters; one of the same layers leaves, whose tensors and weights are of the other type.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from polyfuse.errors import InvalidInput
from polyfuse.network.dtypes import HALVES, Values, encoded, stored
from polyfuse.network.layer import Layer, Statement
from polyfuse.network.network import Network, require_float32
from polyfuse.network.operator import Reduce, Reduction, Variance
from polyfuse.network.tensor import Tensor

SUMS: frozenset[Reduction] = frozenset(["sum", "mean", "sum_square", "l1", "l2", "prod"])
"""Reductions whose results stay float32: they pass what float16 has, or are what others are divided by."""


def with_storage(network: Network, dtype: str) -> Network:
    """The network with tensors and weights of another type: in half, or in float64.

    What is stored in half is computed in float32 and rounded once when it is stored. A sum is never in half: `acc` is
    float32 until the last statement of a layer, and reductions along axes (sums, means, variances: what softmax and
    normalisation divide by) keep float32 results. Weights are rounded here, half to even; those that a half does not
    have as a finite number are refused. What is float64 is computed in float64, of the weights as they are.

    Errors: InvalidInput for another type than float16, bfloat16 or float64, networks that are not float32, weights that
    are too large.

    >>> from polyfuse.network.network import Builder
    >>> build = Builder("net")
    >>> net = build.network(build.conv("conv", build.input("x", (1, 1, 4, 4)), 2, kernel=3))
    >>> half = with_storage(net, "float16").layers[0]
    >>> print(half.output, half.acc_dtype)
    conv_out[1, 2, 2, 2] float16 float32
    """
    if dtype not in (*HALVES, "float64"):
        raise InvalidInput(f"storage {dtype!r}: expected {', '.join(HALVES)} or float64")
    require_float32(network, f"storing in {dtype}")
    wide = {layer.output for layer in network.layers if _is_sum(layer)} if dtype in HALVES else set()
    read = [*network.inputs, *(t for layer in network.layers for t in (layer.output, *layer.weights))]
    narrow = {tensor: tensor if tensor in wide else replace(tensor, dtype=dtype) for tensor in read}
    return Network(
        network.name,
        tuple(narrow[tensor] for tensor in network.inputs),
        tuple(_stored(layer, narrow, "float32" if dtype in HALVES else dtype) for layer in network.layers),
        tuple(narrow[tensor] for tensor in network.outputs),
        {name: _encoded(name, value, dtype) for name, value in network.weights.items()},
        network.signature,
    )


def _is_sum(layer: Layer) -> bool:
    match layer.operator:
        case Reduce(how=how):
            return how in SUMS
        case Variance():
            return True
    return False


def _stored(layer: Layer, narrow: Mapping[Tensor, Tensor], accumulator: str) -> Layer:
    """The layer on tensors of other types."""
    return replace(
        layer,
        output=narrow[layer.output],
        statements=tuple(_reading(statement, narrow) for statement in layer.statements),
        inputs=tuple(narrow[tensor] for tensor in layer.inputs),
        weights=tuple(narrow[tensor] for tensor in layer.weights),
        accumulator=accumulator,
    )


def _reading(statement: Statement, narrow: Mapping[Tensor, Tensor]) -> Statement:
    operands = {name: replace(read, tensor=narrow[read.tensor]) for name, read in statement.operands.items()}
    return replace(statement, operands=operands)


def _encoded(name: str, value: Values, dtype: str) -> Values:
    lost = np.isfinite(value) & ~np.isfinite(stored(value, dtype))
    if lost.any():
        raise InvalidInput(f"weight {name!r}: {float(value[lost][0])!r} passes what {dtype} has; store it as bfloat16")
    return encoded(value, dtype)
