"""Mapping types: how the elements of what a layer reads become elements of what it makes.

Enters: a `Layer`. Leaves: one of five `MappingType`s, for each of its inputs and for the whole (Niu et al., DNNFusion,
PLDI 2021, section 3.1). Nothing is looked up by kind: each type is a property of the relation

    R = { A[a] -> T[t] : making element t of the output reads element a of the input }

which follows from the layer's access relations. Weights do not count: they are no data that flows.
"""

from enum import Enum
from math import prod

import islpy as isl

from polyfuse.network.layer import Layer
from polyfuse.network.tensor import Tensor
from polyfuse.sets import operation_limit
from polyfuse.sets.spaces import only_axis

MAX_OPERATIONS = 10_000_000
IN, OUT = isl.dim_type.in_, isl.dim_type.out


class MappingType(Enum):
    """The five types, in the order of complexity; the value is how tables abbreviate it."""

    ONE_TO_ONE = "1-1"
    REORGANIZE = "Reorg"
    SHUFFLE = "Shuf"
    ONE_TO_MANY = "1-M"
    MANY_TO_MANY = "M-M"

    @property
    def complexity(self) -> int:
        """0 for One-to-One to 4 for Many-to-Many."""
        return list(MappingType).index(self)


def mapping_type(layer: Layer) -> MappingType:
    """The type of a layer: that of its most complex input; One-to-One where it reads nothing but weights.

    >>> from polyfuse.network.network import Builder
    >>> build = Builder("two")
    >>> y = build.activation("act", build.conv("conv", build.input("x", (1, 2, 4, 4)), 2, kernel=1), "relu")
    >>> [mapping_type(layer).value for layer in build.network(y).layers]
    ['M-M', '1-1']
    """
    found = [mapping_of(layer, tensor) for tensor in layer.inputs]
    return max(found, key=lambda each: each.complexity, default=MappingType.ONE_TO_ONE)


def mapping_of(layer: Layer, tensor: Tensor) -> MappingType:
    """The type of one input of a layer, by the first of these that holds of its relation R:

    - Many-to-Many: R is not injective, that is, some element of the output reads several of the input. Where each
      element of the input serves one element of the output only (Many-to-One), this is the type, too.
    - One-to-Many: R is injective and not single-valued: some element of the input is read for several of the output.
    - One-to-One: along every axis, the index of the output follows from the index of the input along the same axis
      and grows with it. Elements that are not read, and elements of the output that come from elsewhere, do not matter:
      slices and the parts of a concatenation are One-to-One.
    - Reorganize: elements keep their positions in the row-major order, under other axes.
    - Shuffle: elements change their order.

    An operator whose sizes make it degenerate has the type of what it then does: a window of one element in one channel
    is One-to-One, a transpose that moves axes of size 1 only is Reorganize, a reshape to the same shape One-to-One.

    Errors: InvalidInput for symbolic sizes where the order of elements decides; TooComplex.
    """
    with operation_limit(MAX_OPERATIONS, f"layer {layer.name!r}: mapping type of {tensor.name!r}"):
        relation = layer.reads(tensor).reverse().apply_range(layer.makes)
        if not relation.is_injective():
            return MappingType.MANY_TO_MANY
        if not relation.is_single_valued():
            return MappingType.ONE_TO_MANY
        if _keeps_axes(relation):
            return MappingType.ONE_TO_ONE
        return MappingType.REORGANIZE if _keeps_order(relation, tensor, layer.output) else MappingType.SHUFFLE


def _keeps_axes(relation: isl.Map) -> bool:
    """Each axis of the range is an increasing function of the same axis of the domain."""
    rank = relation.dim(IN)
    return bool(rank == relation.dim(OUT) and all(_increases(_axis(relation, d)) for d in range(rank)))


def _axis(relation: isl.Map, d: int) -> isl.Map:
    """`{ [a_d] -> [t_d] }` of `{ A[a] -> T[t] }`."""
    return only_axis(only_axis(relation, IN, d), OUT, d)


def _increases(axis: isl.Map) -> bool:
    """`{ [a] -> [t] }`: t is a function of a, and of two a the larger one has the larger t."""
    if not axis.is_single_valued():
        return False
    later = isl.Map.lex_lt(axis.get_space().domain())
    moved = axis.reverse().apply_range(later).apply_range(axis)
    return bool(moved.is_subset(isl.Map.lex_lt(axis.get_space().range())))


def _keeps_order(relation: isl.Map, source: Tensor, target: Tensor) -> bool:
    """Every element has the same row-major position in both tensors."""
    positions = [_positions(tensor) for tensor in (source, target)]
    return bool(relation.is_subset(positions[0].apply_range(positions[1].reverse())))


def _positions(tensor: Tensor) -> isl.Map:
    """`{ A[a] -> [row-major position] }`."""
    sizes = tensor.concrete_shape
    position = isl.Aff.zero_on_domain(isl.LocalSpace.from_space(tensor.box.get_space()))
    for d in range(len(sizes)):
        position = position.set_coefficient_val(IN, d, isl.Val(prod(sizes[d + 1 :])))
    return isl.Map.from_aff(position)
