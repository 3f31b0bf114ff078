"""Layers that read other tensors than they did. A `Layer` enters; one that differs in what it reads leaves."""

from dataclasses import replace
from functools import partial

import islpy as isl

from polyfuse.network.layer import Access, Layer, Statement
from polyfuse.network.layers.pointwise import ordered
from polyfuse.network.tensor import Tensor

OUT = isl.dim_type.out


def renamed(layer: Layer, old: Tensor, new: Tensor, is_weight: bool = False) -> Layer:
    """The layer, reading one tensor in the place of another of the same shape, which may be a weight.

    >>> from polyfuse.network.network import Builder
    >>> build = Builder("sum")
    >>> a, b = build.input("a", (1, 1, 2, 2)), build.input("b", (1, 1, 2, 2))
    >>> layer = build.network(build.arithmetic("sum", "add", a, b)).layers[0]
    >>> print(renamed(layer, b, a))
    sum (add): a[1, 1, 2, 2] -> sum_out[1, 1, 2, 2]
    """
    if old not in (*layer.inputs, *layer.weights):
        return layer
    moved = {tensor: new if tensor == old else tensor for tensor in (*layer.inputs, *layer.weights)}
    inputs = dict.fromkeys(moved[t] for t in layer.inputs if not (is_weight and t == old))
    weights = dict.fromkeys([*(moved[t] for t in layer.weights), *([new] if is_weight else [])])
    read = [*inputs, *weights]
    order = [read.index(tensor) for tensor in moved.values()]
    return replace(
        layer,
        statements=tuple(_reading(statement, old, new) for statement in layer.statements),
        inputs=tuple(inputs),
        weights=tuple(weights),
        reference=None if layer.reference is None else partial(ordered, layer.reference, order),
    )


def _reading(statement: Statement, old: Tensor, new: Tensor) -> Statement:
    operands = {
        operand: Access(
            new, access.relation.set_tuple_name(OUT, new.name), access.extended.set_tuple_name(OUT, new.name)
        )
        if access.tensor == old
        else access
        for operand, access in statement.operands.items()
    }
    return replace(statement, operands=operands)
