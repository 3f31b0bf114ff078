"""Rules of layers that only move elements: chains become one layer with one read, and computing goes before moving.

Each application is proved on its own: the elements that the new layers read are compared with those that the old ones
read, as relations.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import islpy as isl
import numpy as np

from polyfuse.network.dtypes import Array
from polyfuse.network.layer import Access, Layer, Statement, identity
from polyfuse.network.layers import copies, pointwise
from polyfuse.network.operator import (
    Activate,
    DepthToSpace,
    Expand,
    Operator,
    Reshape,
    Shuffle,
    Slice,
    SpaceToDepth,
    Transpose,
    View,
)
from polyfuse.network.renaming import renamed
from polyfuse.rewrite.graph import Replacement, RewriteGraph
from polyfuse.rewrite.mapping import MappingType, mapping_type
from polyfuse.rewrite.rule import (
    Condition,
    Match,
    Pattern,
    Refusal,
    Rule,
    Wanted,
    is_one_of,
    only_read_by_root,
    pattern,
)
from polyfuse.rewrite.rules.forms import TAKES_ACTIVATION
from polyfuse.sets.coalescing import coalesced
from polyfuse.sets.limits import operation_limit

FIRST, SECOND = "first copy", "second copy"
PERMUTING = (Reshape, Transpose, DepthToSpace, SpaceToDepth, Shuffle)
"""Copies that read every element once."""
COPIES = (*PERMUTING, Slice, Expand, View)
"""Operators of one statement that copies one element to each point."""
MAX_OPERATIONS = 1_000_000


def has_one_input(graph: RewriteGraph, layer: Layer) -> bool:
    """The layer reads one computed tensor."""
    return len(layer.inputs) == 1


def reads_one(graph: RewriteGraph, layer: Layer) -> bool:
    """One statement copies one element of one tensor to each point."""
    return len(layer.statements) == 1 and len(layer.inputs) == 1


def composed(first: Layer, second: Layer) -> isl.Map:
    """`{ second[p] -> A[a] }`: what two copies, one after the other, read of the first one's input."""
    made_by = first.makes.reverse()
    return coalesced(second.reads(first.output).apply_range(made_by).apply_range(first.reads(first.inputs[0])))


def reads_the_same(layer: Layer, like: isl.Map) -> bool:
    """A layer reads, at each point, what a relation from points of any name says."""
    wanted = like.set_tuple_name(isl.dim_type.in_, layer.name)
    return bool(layer.reads(layer.inputs[0]).is_equal(wanted))


def _reads_before(match: Match) -> isl.Map:
    """`{ root[p] -> A[a] }`: what the matched copies read together."""
    return composed(match[FIRST], match[SECOND]) if FIRST in match.layers else match.root.reads(match.root.inputs[0])


def proved(make_layer: Callable[[Match], Layer]) -> Condition:
    """The new layer reads what the matched copies read, checked by isl at each application."""
    return Condition(
        "the access relations before and after are equal",
        lambda match: reads_the_same(make_layer(match), _reads_before(match)),
        lambda match: Refusal("the relations differ"),
    )


def _chain(first: Wanted | Sequence[Wanted], second: Wanted | Sequence[Wanted]) -> Pattern:
    return pattern(SECOND, second, pattern(FIRST, first, form=reads_one), form=reads_one)


def _one_reshape(match: Match) -> Layer:
    return copies.reshape(match.root.name, match[FIRST].inputs[0], match.root.output.concrete_shape)


def _chain_of(kind: type[Operator], law: str, make: Callable[[Match], Layer]) -> Rule:
    """The rule that two copies of a kind are one of it."""
    conditions = (only_read_by_root(FIRST), proved(make))
    name = f"{kind.__name__.lower()}-chain"
    return Rule(name, law, _chain(kind, kind), conditions, lambda match: Replacement.by(make(match)))


RESHAPE_CHAIN = _chain_of(Reshape, "reshape(reshape(x))  ->  reshape(x)", _one_reshape)


def _permutation(layer: Layer) -> tuple[int, ...]:
    assert isinstance(layer.operator, Transpose)
    return layer.operator.order


def _one_transpose(match: Match) -> Layer:
    first, second = _permutation(match[FIRST]), _permutation(match[SECOND])
    return copies.transpose(match.root.name, match[FIRST].inputs[0], [first[axis] for axis in second])


TRANSPOSE_CHAIN = _chain_of(Transpose, "transpose(transpose(x))  ->  transpose(x)", _one_transpose)


def _keeps_order(graph: RewriteGraph, layer: Layer) -> bool:
    """A copy of all elements, not of a part of them, in the order that they had."""
    whole = len(layer.inputs) == 1 and layer.inputs[0].elements == layer.output.elements
    return whole and mapping_type(layer) in (MappingType.REORGANIZE, MappingType.ONE_TO_ONE)


def _as_reshape(match: Match) -> Layer:
    return copies.reshape(match.root.name, match.root.inputs[0], match.root.output.concrete_shape)


COPY_AS_RESHAPE = Rule(
    "copy-as-reshape",
    "a permutation that keeps the row-major order  ->  reshape(x)",
    pattern("permutation", [each for each in PERMUTING if each is not Reshape], form=_keeps_order),
    (proved(_as_reshape),),
    lambda match: Replacement.by(_as_reshape(match)),
)


def changes_nothing(layer: Layer) -> bool:
    """A copy of every element to where it was."""
    x = layer.inputs[0]
    if layer.output.shape != x.shape:
        return False
    everywhere = isl.Map.from_domain_and_range(layer.points, x.box)
    return bool(layer.reads(x).is_equal(identity(layer.points.get_space(), x.box.get_space()) & everywhere))


def one_copy(match: Match) -> Layer:
    """Two copies as one statement, whose read is the composition of theirs."""
    first, second = match[FIRST], match[SECOND]
    (before,), (after,) = first.statements, second.statements
    access = _through(before, after, first)
    (operand,) = after.operands
    statement = Statement(after.name, after.dims, after.domain, {operand: access}, after.expression)
    assert first.reference is not None and second.reference is not None
    permutes = is_one_of(first, PERMUTING) and is_one_of(second, PERMUTING)
    return Layer(
        second.name,
        Shuffle() if permutes else View(),
        second.output,
        (statement,),
        first.inputs,
        (),
        partial(_in_turn, first.reference, second.reference),
    )


def _through(before: Statement, after: Statement, first: Layer) -> Access:
    """The read of a read: both inside of the image and beyond its borders."""
    (outer,), (inner,) = after.operands.values(), before.operands.values()
    point = identity(first.output.box.get_space(), before.domain.get_space())
    relation, extended = (
        coalesced(second.apply_range(point).apply_range(read))
        for second, read in ((outer.relation, inner.relation), (outer.extended, inner.extended))
    )
    return Access(inner.tensor, relation, extended)


def _in_turn(first: Any, second: Any, x: Array) -> Array:
    return np.asarray(second(first(x)), dtype=np.float64)


def _one_element_each(match: Match) -> bool:
    """Each point of the merged copy reads one element, and isl can say which within its limit."""
    with operation_limit(MAX_OPERATIONS, f"merging {match[FIRST].name} and {match[SECOND].name}"):
        layer = one_copy(match)
        (access,) = layer.statements[0].operands.values()
        whole = access.relation.domain().is_equal(layer.statements[0].domain)
        return bool(whole and access.relation.is_single_valued()) and reads_the_same(layer, _reads_before(match))


COPY_CHAIN = Rule(
    "copy-chain",
    "copy(copy(x))  ->  one copy with one read, such as a shuffle of channels",
    _chain(COPIES, COPIES),
    (
        only_read_by_root(FIRST),
        Condition(
            "the access relations before and after are equal, and each point reads one element",
            _one_element_each,
            lambda match: Refusal("the relations differ, or some point reads several elements"),
        ),
    ),
    lambda match: Replacement.by(one_copy(match)),
)


def _producer_takes_it(match: Match) -> bool:
    """The copy's input is made by a layer that an activation goes into."""
    producer = match.graph.makers.get(match[FIRST].inputs[0])
    if producer is None or not is_one_of(producer, TAKES_ACTIVATION) or producer.activation is not None:
        return False
    return list(match.graph.readers(producer.output)) == [match[FIRST]] and producer.output not in match.graph.outputs


def _activation_first(match: Match) -> Replacement:
    copied, activation = match[FIRST], match.root.activation
    assert activation is not None
    active = pointwise.activation(match.root.name, copied.inputs[0], activation)
    moved = renamed(copied, copied.inputs[0], active.output)
    return Replacement.by(active, moved)


ACTIVATION_BEFORE_COPY = Rule(
    "activation-before-copy",
    "f(copy(layer(x)))  ->  copy(f(layer(x)))",
    pattern("activation", Activate, pattern(FIRST, PERMUTING, form=reads_one), form=has_one_input),
    (
        only_read_by_root(FIRST),
        Condition(
            "the layer before the copy ends in no activation, and only the copy reads it",
            _producer_takes_it,
            lambda match: Refusal(f"{match[FIRST].inputs[0].name} is not made by a layer that takes an activation"),
        ),
    ),
    _activation_first,
)
