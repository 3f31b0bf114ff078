"""Layers that only move channels: which channel of which operand each one copies.

Layer ──channel_sources()──> ((operand, channel), ...), one for each channel made
"""

from functools import lru_cache
from math import prod

import islpy as isl

from polyfuse.network.layer import Layer, Statement
from polyfuse.sets.counting import count
from polyfuse.sets.points import points

Source = tuple[int, int]
"""The number of an operand, and a channel of it."""
MOST_OPERANDS = 2


@lru_cache(maxsize=1024)
def channel_sources(layer: Layer) -> tuple[Source, ...] | None:
    """The source of every channel of a layer, such as a shuffle or a concatenation of images; None for other layers."""
    alike = all(t.shape[0] == layer.output.shape[0] and t.shape[2:] == layer.output.shape[2:] for t in layer.inputs)
    if layer.rank != 4 or layer.weights or not alike or not 1 <= len(layer.inputs) <= MOST_OPERANDS:
        return None
    found: dict[int, Source] = {}
    for statement in layer.statements:
        pairs = copied_channels(statement)
        if pairs is None:
            return None
        (access,) = statement.operands.values()
        operand = layer.inputs.index(access.tensor)
        found |= {made: (operand, read) for made, read in pairs}
    channels = layer.output.concrete_shape[1]
    return tuple(found[c] for c in range(channels)) if len(found) == channels else None


def copied_channels(statement: Statement) -> list[tuple[int, int]] | None:
    """Which channels a statement copies whole images of, `{ S[n, c, h, w] -> A[n, c', h, w] }` as pairs; else None."""
    if len(statement.operands) != 1 or statement.expression.strip() not in statement.operands:
        return None
    (access,) = statement.operands.values()
    same = access.relation
    for axis in (0, 2, 3):
        same = same.equate(isl.dim_type.in_, axis, isl.dim_type.out, axis)
    if not same.is_equal(access.relation):
        return None
    both = access.relation.wrap().flatten()
    for first, end in ((6, 8), (2, 5), (0, 1)):
        both = both.project_out(isl.dim_type.set, first, end - first)
    pairs = [(int(made), int(read)) for made, read in points(both)]
    batch, _, *image = access.tensor.concrete_shape
    whole = count(access.relation.wrap()) == len(pairs) * batch * prod(image)
    return pairs if whole and len(dict(pairs)) == len(pairs) else None
