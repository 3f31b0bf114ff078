"""Overlapped tiles written down: the non-singular schedule of a tiled convolution as in the paper.

    Conv[i0, i1, i2, i3] -> [t0, i1, t1, i2, i3] : 0 <= t0 < tiles and 0 <= t1 < tilesize + overlap
                                                   and i0 = tilesize * t0 + t1

Elsewhere polyfuse derives such relations from footprints; this form is what a person writes, and is proved to be the
derived one where the overlap is the halo. Source: Jongen et al., "Optimization Through Recomputation in the
Polyhedral Model", IMPACT 2018.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import islpy as isl

from polyfuse.doors import public
from polyfuse.errors import IllegalSchedule, InvalidInput
from polyfuse.network.layer import Layer
from polyfuse.network.tensor import Size, box
from polyfuse.schedule.executions import layer_of
from polyfuse.schedule.schedule import Schedule
from polyfuse.schedule.tiling import TILE
from polyfuse.sets.coalescing import coalesced
from polyfuse.sets.reading import SetLike, as_set
from polyfuse.sets.spaces import coordinates, relation_space


@public
@dataclass(frozen=True)
class Overlap:
    """How one index of a domain is tiled.

    index      position of the index in the domain
    tile_size  how many outputs of the group a tile takes
    overlap    how many instances a tile executes beyond tile_size
    outputs    how many outputs of the group there are (a number or a parameter): tiles = ceil(outputs / tile_size)
    before     how many of the overlapping instances come before the tile's own; padding puts them there
    """

    index: int
    tile_size: int
    overlap: int
    outputs: Size
    before: int = 0

    def __post_init__(self) -> None:
        if self.tile_size < 1 or self.tile_size + self.overlap < 1:
            raise InvalidInput(
                f"overlap of index {self.index}: expected a tile size, and a tile size + overlap, of at least 1, got "
                f"{self.tile_size} and {self.overlap}"
            )


def overlapped(domain: SetLike, tiled: Sequence[Overlap], inside: Sequence[int] | None = None) -> isl.Map:
    """The overlapped schedule of a domain: tile indices first, then the indices inside of a tile.

        { S[i] }   to   { S[i] -> [t.., l..] : 0 <= t < tiles and 0 <= l < tile_size + overlap
                                               and i = tile_size * t + l - before }

    `l` is the index itself where it is not tiled. `inside` lists the indices of the domain in the order in which they
    run inside of a tile, which is the order of the domain where it is not given.

    Errors: InvalidInput for text that isl cannot read, and for an index that is not there or tiled twice.

    >>> Conv = "{ Conv[i0, i1, i2, i3] : 0 <= i0 < 18 and 0 <= i1 < 9 and 0 <= i2, i3 < 3 }"
    >>> S = overlapped(Conv, [Overlap(0, tile_size=8, overlap=2, outputs=16)], inside=(1, 0, 2, 3))
    >>> paper = "Conv[i0,i1,i2,i3] -> [t0,i1,t1,i2,i3] : 0 <= t0 < 2 and 0 <= t1 < 8 + 2 and i0 = 8 t0 + t1"
    >>> S == isl.Map(f"{{ {paper} }}").intersect_domain(isl.Set(Conv))
    True
    """
    domain = as_set(domain, "overlapped", "{ S[i, j] : 0 <= i, j < 16 }")
    rank = domain.dim(isl.dim_type.set)
    inside = tuple(range(rank)) if inside is None else tuple(inside)
    indices = [each.index for each in tiled]
    if sorted(inside) != list(range(rank)) or len(set(indices)) < len(indices) or not set(indices) <= set(inside):
        raise InvalidInput(
            f"overlapped {domain.get_tuple_name()}: expected each of its {rank} indices once inside a tile, and tiled "
            f"at most once; got {inside} inside and {tuple(indices)} tiled"
        )
    tiles = existing_tiles(tiled)
    relation = isl.Map.universe(relation_space(domain.get_space(), tiles.get_space())).intersect_range(tiles)
    relation = relation.add_dims(isl.dim_type.out, rank)
    for position, index in enumerate(inside, start=len(tiled)):
        if index in indices:
            k = indices.index(index)
            relation = local_index(relation, tiled[k], k, position)
        else:
            relation = relation.equate(isl.dim_type.in_, index, isl.dim_type.out, position)
    return relation.intersect_domain(domain)


def existing_tiles(tiled: Sequence[Overlap]) -> isl.Set:
    """`{ tile[t..] : 0 <= tile_size * t < outputs }`."""
    origins = box(TILE, tuple(f"t{k}" for k in range(len(tiled))), tuple(each.outputs for each in tiled))
    tile_to_origin = isl.MultiAff.identity_on_domain_space(origins.get_space())
    for k, each in enumerate(tiled):
        tile_to_origin = tile_to_origin.set_aff(k, tile_to_origin.get_aff(k).scale_val(isl.Val(each.tile_size)))
    return origins.preimage_multi_aff(tile_to_origin)


def local_index(relation: isl.Map, overlap: Overlap, tile: int, local: int) -> isl.Map:
    """The relation where `i = tile_size * t + l - before` and `0 <= l < tile_size + overlap`."""
    space = isl.LocalSpace.from_space(relation.get_space())
    sum_of_parts = isl.Constraint.equality_alloc(space)
    sum_of_parts = sum_of_parts.set_coefficient_val(isl.dim_type.out, tile, isl.Val(overlap.tile_size))
    sum_of_parts = sum_of_parts.set_coefficient_val(isl.dim_type.out, local, isl.Val(1))
    sum_of_parts = sum_of_parts.set_coefficient_val(isl.dim_type.in_, overlap.index, isl.Val(-1))
    relation = relation.add_constraint(sum_of_parts.set_constant_val(isl.Val(-overlap.before)))
    relation = relation.lower_bound_val(isl.dim_type.out, local, isl.Val(0))
    return relation.upper_bound_val(isl.dim_type.out, local, isl.Val(overlap.tile_size + overlap.overlap - 1))


def overlapped_executions(schedule: Schedule, layer: Layer | str, tiled: Sequence[Overlap]) -> isl.Map:
    """`{ L[p] -> tile[t] }`: the executions of a layer's points in overlapped tiles, as a Schedule holds them.

    Coordinates of a tile that cut an axis without an Overlap (images of a batch) are tiled as the schedule has them,
    with no overlap.

    Errors: InvalidInput for an unknown layer, and for an Overlap of an index that the schedule does not tile.
    """
    layer = layer_of(schedule, layer)
    by_index = {each.index: each for each in tiled}
    dims = schedule.tiling.dims
    if unknown := set(by_index) - {dim.axis for dim in dims}:
        raise InvalidInput(
            f"overlap of index {min(unknown)} of layer {layer.name!r}: expected one of the tiled axes "
            f"{tuple(dim.axis for dim in dims)}"
        )
    complete = [by_index.get(dim.axis, Overlap(dim.axis, dim.size, 0, layer.output.shape[dim.axis])) for dim in dims]
    relation = overlapped(layer.points, complete)
    relation = relation.project_out(isl.dim_type.out, len(dims), layer.rank)
    return coalesced(relation.set_tuple_name(isl.dim_type.out, TILE))


def prove_overlap(schedule: Schedule, layer: Layer | str, tiled: Sequence[Overlap]) -> None:
    """Prove, by equality of relations, that overlapped tiles execute exactly what the schedule does.

    Errors: InvalidInput as above; IllegalSchedule with the first tile and point that only one of the two executes
    there: the overlap is too small, or too large.

    >>> from polyfuse.network.network import Builder
    >>> from polyfuse.schedule.schedule import scheduled
    >>> from polyfuse.schedule.strategy import Strategy
    >>> build = Builder("pair")
    >>> x = build.input("x", (1, 1, 20, 20))
    >>> y = build.conv("conv2", build.conv("conv1", x, 1, kernel=3), 1, kernel=3)
    >>> strips = scheduled(build.network(y), Strategy((8,)))
    >>> prove_overlap(strips, "conv1", [Overlap(2, tile_size=8, overlap=2, outputs=16)])
    """
    layer = layer_of(schedule, layer)
    derived, given = schedule.executions(layer), overlapped_executions(schedule, layer, tiled)
    for relation, what in (
        (derived.subtract(given), "is needed there and not executed; the overlap is too small or in the wrong place"),
        (given.subtract(derived), "is executed there and not needed; the overlap is too large or in the wrong place"),
    ):
        if not relation.is_empty():
            first = coordinates(relation.reverse().wrap().flatten().lexmin().sample_point())
            tile, point = tuple(first[: -layer.rank]), tuple(first[-layer.rank :])
            raise IllegalSchedule(f"overlapped {layer.name!r} at tile {tile}: point {point} {what}")
