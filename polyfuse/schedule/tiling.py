"""Tiles of a group's outputs, and what they pull.

A tile is a point of `tile[t]`, its coordinates in the order in which tiles run. The outputs of a group are
partitioned into tiles; what a tile needs of every earlier tensor follows by composing access relations backwards.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import islpy as isl

from polyfuse.choices import AXES, Axis
from polyfuse.errors import InvalidInput, Unbounded
from polyfuse.network.network import Network
from polyfuse.network.tensor import Tensor
from polyfuse.sets.closure import closed
from polyfuse.sets.coalescing import coalesced
from polyfuse.sets.limits import operation_limit
from polyfuse.sets.spaces import only_axis, relation_space, tidied
from polyfuse.text import tile_label
from polyfuse.whole import is_whole_number

TILE = "tile"


@dataclass(frozen=True)
class TileDim:
    """One coordinate of a tile: the tensor axis it cuts and how many elements of an output a tile takes of it.

    Of a schedule that was given the size is 0, and the axis -1: its tiles hold what its times say.
    """

    axis: int
    size: int
    name: str


COORDINATES = ("tn", "tc", "ty", "tx")
"""The names of the coordinates of a tile that cut the axes of images."""


@dataclass(frozen=True)
class Tiling:
    """The coordinates of a tile in running order.

    `axes` are the axes that `sizes` cut, as they were asked for; `positions` are their coordinates.

    >>> print(Tiling.of((72, 60), rank=4))
    72x60
    >>> [dim.name for dim in Tiling.of((72, 60), rank=4, order=(1, 0)).dims]
    ['tn', 'tx', 'ty']
    >>> print(Tiling.of((16, 8), rank=4, axes=("c", "h")))
    c=16,h=8
    """

    dims: tuple[TileDim, ...]
    sizes: tuple[int, ...]
    positions: tuple[int, ...]
    axes: tuple[Axis, ...] = ()
    given: bool = False

    @staticmethod
    def of_times(count: int, positions: tuple[int, ...]) -> "Tiling":
        """The first `count` dimensions of times that are given; places are said for those at some positions."""
        dims = tuple(TileDim(-1, 0, f"t{d}") for d in range(count))
        return Tiling(dims, (0,) * len(positions), positions, given=True)

    @staticmethod
    def of(
        sizes: tuple[int, ...], rank: int, order: tuple[int, ...] | None = None, axes: tuple[Axis, ...] = ()
    ) -> "Tiling":
        """Tiles along the `axes`, by name or number; along none: of `rows`, `rows x columns` or the first axes.

        With no sizes a tile is a whole image. Images of a batch come one by one unless the tiles cut their axis.
        `order` lists positions in `sizes`, the outermost loop first.
        Errors: InvalidInput.
        """
        cut = cut_axes(sizes, rank, axes)
        if any(not is_whole_number(size) or size < 1 for size in sizes):
            raise InvalidInput(f"tile {tile_label(sizes, axes)}: expected whole sizes of at least 1")
        order = tuple(range(len(sizes))) if order is None else order
        if sorted(order) != list(range(len(sizes))):
            raise InvalidInput(f"tile order {order}: expected each of {tuple(range(len(sizes)))} once")
        images = (TileDim(0, 1, COORDINATES[0]),) if rank == 4 and 0 not in cut else ()
        names = [COORDINATES[axis] if rank == 4 else f"t{axis}" for axis in cut]
        for k, axis in enumerate(cut):
            if axis in cut[:k]:
                outer = max(j for j in range(k) if cut[j] == axis)
                if not (order.index(outer) < order.index(k) and sizes[k] <= sizes[outer]):
                    raise InvalidInput(
                        f"tile {tile_label(sizes, axes)}: expected smaller tiles inside of larger ones where an axis "
                        f"comes twice, got {sizes[k]} inside of {sizes[outer]}"
                    )
                names[k] += "i" * cut[:k].count(axis)
        dims = images + tuple(TileDim(cut[k], sizes[k], names[k]) for k in order)
        return Tiling(dims, sizes, tuple(len(images) + order.index(k) for k in range(len(sizes))), axes)

    @property
    def space(self) -> isl.Space:
        """The space `tile[t]`."""
        space = isl.Space.set_alloc(isl.DEFAULT_CONTEXT, 0, len(self.dims))
        return space.set_tuple_name(isl.dim_type.set, TILE)

    def tiles_of(self, output: Tensor, reference: Tensor) -> isl.Map:
        """`{ A[a] -> tile[t] : size_d t_d <= a_axis(d) < size_d (t_d + 1) }`, for elements in and out of the image.

        Sizes count elements of `reference`; an output of another resolution is cut in proportion, and one that has no
        such axis is made in the first tile along it. Tiles that were given hold nothing by themselves.
        """
        space = relation_space(output.box.get_space(), self.space)
        relation = isl.Map.universe(space) if not self.given else isl.Map.empty(space)
        local = isl.LocalSpace.from_space(relation.get_space())
        for d, dim in enumerate(() if self.given else self.dims):
            if dim.axis >= len(output.shape):
                relation = relation.fix_val(isl.dim_type.out, d, isl.Val(0))
                continue
            size = scaled(dim.size, output, reference, dim.axis)
            for sign, constant in ((1, 0), (-1, size - 1)):
                bound = isl.Constraint.inequality_alloc(local)
                bound = bound.set_coefficient_val(isl.dim_type.in_, dim.axis, isl.Val(sign))
                bound = bound.set_coefficient_val(isl.dim_type.out, d, isl.Val(-sign * size))
                relation = relation.add_constraint(bound.set_constant_val(isl.Val(constant)))
        return relation

    def __str__(self) -> str:
        if self.given:
            return f"[{', '.join(dim.name for dim in self.dims)}]"
        return tile_label(self.sizes, self.axes, "whole")


def cut_axes(sizes: tuple[int, ...], rank: int, axes: tuple[Axis, ...]) -> tuple[int, ...]:
    """The numbers of the axes of an output that the sizes cut: rows and columns of images, else the first ones.

    Errors: InvalidInput for too many sizes, and for axes that there are not.
    """
    if not axes:
        usual = tuple(range(2, 4)) if rank == 4 else tuple(range(rank))
        if len(sizes) > len(usual):
            raise InvalidInput(
                f"tile {tile_label(sizes)}: expected at most {len(usual)} sizes, "
                f"{'rows or rows x columns' if rank == 4 else 'one for each axis'}; name other axes with `axes`"
            )
        return usual[: len(sizes)]
    known: dict[Axis, int] = {axis: axis for axis in range(rank)}
    if rank == 4:
        known |= {name: axis for axis, name in enumerate(AXES)}
    for axis in axes:
        if axis not in known:
            raise InvalidInput(f"axis {axis!r} of tiles: expected one of {', '.join(map(str, known))}")
    return tuple(known[axis] for axis in axes)


def scaled(size: int, output: Tensor, reference: Tensor, axis: int) -> int:
    """A tile size of `reference` in elements of `output`, rounded up. Errors: InvalidInput."""
    here, there = output.shape[axis], reference.shape[axis]
    if here == there:
        return size
    if isinstance(here, int) and isinstance(there, int):
        return -(-size * here // there)
    raise InvalidInput(f"outputs {output} and {reference}: expected the same symbolic size along axis {axis}")


def footprints(network: Network, regions: Mapping[Tensor, isl.Set], *, exact: bool = True) -> dict[Tensor, isl.Set]:
    """The footprint of a region of the outputs in every tensor: `{ A[a] }` each, with the parameters of the regions.

    With a tile's origin and size as parameters this is a symbolic footprint. `exact=False` takes the box hull at every
    step: larger by at most the holes that strides leave, and cheap where those have parameters.

    Errors: TooComplex above isl's operation limit.

    >>> from polyfuse.network.network import Builder
    >>> build = Builder("pair")
    >>> x = build.input("x", (1, 1, 20, 20))
    >>> y = build.conv("conv2", build.conv("conv1", x, 1, kernel=3), 1, kernel=3)
    >>> tile = isl.Set("{ conv2_out[0, 0, h, w] : 0 <= h < 8 and 0 <= w < 8 }")
    >>> [int(str(region.count_val())) for region in footprints(build.network(y), {y: tile}).values()]
    [64, 100, 144]
    """
    with operation_limit(what=f"footprints of network {network.name!r}"):
        needed = {tensor: tidied(region) & tensor.box for tensor, region in regions.items()}
        for layer in reversed(network.layers):
            if layer.output not in needed:
                continue
            if layer.recurs:
                own = layer.makes.reverse().apply_range(layer.reads(layer.output))
                needed[layer.output] = closed(
                    isl.Map.from_range(needed[layer.output]).reverse(), own.reverse()
                ).domain()
            points = needed[layer.output].apply(layer.makes.reverse())
            for tensor in layer.inputs:
                read = coalesced(points.apply(layer.reads(tensor)))
                region = coalesced(needed[tensor].union(read)) if tensor in needed else read
                needed[tensor] = region if exact else box_hull(region) & tensor.box
    return needed


def box_hull(region: isl.Set) -> isl.Set:
    """The smallest product of intervals (with bounds in the parameters) that holds the region.

    >>> print(box_hull(isl.Set("{ A[i, j] : 0 <= i < 9 and i mod 4 = 0 and 0 <= j <= i }")))
    { A[i, i1] : 0 <= i <= 8 and 0 <= i1 <= 8 }

    Errors: Unbounded where the region has no such product.
    """
    if not region.is_bounded():
        raise Unbounded(
            f"box hull of {region.get_tuple_name()}: expected a bounded region; intersect it with the image"
        )
    rank = region.dim(isl.dim_type.set)
    hull = isl.Set.universe(region.get_space())
    for d in range(rank):
        axis = only_axis(region, isl.dim_type.set, d)
        between = at_least(axis.lexmin()) & at_most(axis.lexmax())
        interval = between.insert_dims(isl.dim_type.set, 0, d).add_dims(isl.dim_type.set, rank - d - 1)
        hull = hull & interval.set_tuple_name(region.get_tuple_name())
    return coalesced(hull)


def at_least(values: isl.Set) -> isl.Set:
    """Every `[i]` that some value does not exceed."""
    return values.apply(isl.Map.lex_le(values.get_space()))


def at_most(values: isl.Set) -> isl.Set:
    """Every `[i]` that does not exceed some value."""
    return values.apply(isl.Map.lex_ge(values.get_space()))
