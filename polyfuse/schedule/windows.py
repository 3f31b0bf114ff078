"""The buffer of a tensor, as small as its liveness allows.

Elements wait in cells. Along an axis of which tiles need different parts, a cell is counted from the tile's own origin
where the tensor is recomputed, and modulo the window of elements that are alive at once where it is retained (a ring),
or where no expression says where a tile begins; along the other axes it is the element itself. Windows are successive
moduli, of the axes or, where that is smaller, of sums and differences of them. Cells are injective on what is alive:
`legality` proves it.

    cell : { [tile[t] -> A[a]] -> buffer[u, c] }

`u` are the coordinates of tiles whose copies of the buffer are alive at once.
Source: Lefebvre and Feautrier, "Automatic storage management for parallel programs", Parallel Computing 24, 1998; the
sums and differences after Darte, Schreiber and Villard, "Lattice-based memory allocation", IEEE Trans. Computers 54,
2005.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod

import islpy as isl

from polyfuse.errors import Unbounded
from polyfuse.network.tensor import Tensor
from polyfuse.schedule.cells import Buffer, Index, tile_and_element, variable
from polyfuse.schedule.retention import in_buffer
from polyfuse.schedule.schedule import Flow, Schedule
from polyfuse.sets.coalescing import coalesced
from polyfuse.sets.spaces import freed

IMAGE = 4
"""The rank of images: row kernels work on them, and on rings along their axes only."""


def whole(schedule: Schedule, tensor: Tensor) -> Buffer:
    """A buffer that holds all of a tensor."""
    space = tile_and_element(schedule, tensor)
    coordinates = len(schedule.tiling.dims)
    shape = tensor.concrete_shape
    return Buffer(tensor, tuple(Index(variable(space, coordinates + d), n, False) for d, n in enumerate(shape)))


def buffer(schedule: Schedule, flow: Flow) -> Buffer:
    """The smallest buffer of one flow, of those along its own axes and along sums and differences of two axes.

    Tile coordinates come first, then the axes of the tensor. Only coordinates along which the tensor is not retained
    may need copies.
    """
    retained = in_buffer(flow.places)
    conflicts = Conflicts.of(schedule, flow, retained, moving_axes(schedule, flow))
    aligned = Buffer(flow.tensor, (*copies(schedule, flow, conflicts), *own_axes(schedule, flow, conflicts)))
    if len(flow.tensor.shape) == IMAGE or len(conflicts.axes) < 2 or lines_up(schedule, flow, conflicts.axes):
        return aligned
    return min((aligned, *skewed(schedule, flow, conflicts)), key=lambda found: prod(found.shape))


def lines_up(schedule: Schedule, flow: Flow, axes: tuple[int, ...]) -> bool:
    """Whether tiles in their own order need parts of each axis that only the coordinates which cut it decide."""
    in_order = isl.Map.identity(schedule.tiling.space.map_from_set()).reset_tuple_id(isl.dim_type.out)
    tiles, dims = flow.need.range(), schedule.tiling.dims
    parts = ((axis, cut(flow.need, (axis,))) for axis in axes)
    others = ((part, [d for d, dim in enumerate(dims) if dim.axis != axis]) for axis, part in parts)
    return bool(schedule.tile_to_time.is_equal(in_order)) and all(
        part.is_equal(freed(part, isl.dim_type.out, rest).intersect_range(tiles)) for part, rest in others
    )


def moving_axes(schedule: Schedule, flow: Flow) -> tuple[int, ...]:
    """The axes of a tensor that tiles cut, and those of which they need different parts."""
    cut_axes = schedule.cut_axes(flow) if flow.role != "weight" else ()
    return tuple(
        axis for axis in range(len(flow.tensor.shape)) if axis in cut_axes or moves(cut(flow.arrivals, (axis,)))
    )


def moves(arrivals: isl.Map) -> bool:
    """Whether `{ [a] -> tile[t] }` is something else than some elements at some tiles."""
    return not arrivals.is_equal(isl.Map.from_domain_and_range(arrivals.domain(), arrivals.range()))


def copies(schedule: Schedule, flow: Flow, conflicts: "Conflicts") -> Iterator[Index]:
    """The coordinates of tiles whose copies of a retained tensor are alive at once."""
    space = tile_and_element(schedule, flow.tensor)
    for position, d in enumerate(conflicts.tiles):
        if conflicts.retained and (window := conflicts.window(position)) > 1:
            yield Index(variable(space, d), window, True)


def own_axes(schedule: Schedule, flow: Flow, conflicts: "Conflicts") -> Iterator[Index]:
    """An index along each axis."""
    space, coordinates = tile_and_element(schedule, flow.tensor), len(schedule.tiling.dims)
    for axis, size in enumerate(flow.tensor.concrete_shape):
        element = variable(space, coordinates + axis)
        yield along(schedule, flow, conflicts, axis) if axis in conflicts.axes else Index(element, size, False)


def along(schedule: Schedule, flow: Flow, conflicts: "Conflicts", axis: int) -> Index:
    """The index along a moving axis: from the tile's origin, or a ring where that is smaller."""
    element = variable(tile_and_element(schedule, flow.tensor), len(schedule.tiling.dims) + axis)
    origins = tile_origins(schedule, flow, axis, conflicts.retained)
    spans = [(element - origin, *conflicts.extremes(element - origin, axis)) for origin in origins]
    local, lowest, highest = min(spans, key=lambda span: span[2] - span[1])
    extent = 1 + highest - lowest
    if not conflicts.retained and len(origins) == 1:
        return Index(local - lowest, extent, False)
    window = conflicts.window(conflicts.axis_position(axis))
    if window < extent and len(origins) > 1:
        return Index(element, window, True)
    return Index(local - lowest, min(window, extent), window < extent)


def skewed(schedule: Schedule, flow: Flow, conflicts: "Conflicts") -> Iterator[Buffer]:
    """Buffers in which the sum or difference of two moving axes, or both as one line, stands for one, and is a ring."""
    space, coordinates = tile_and_element(schedule, flow.tensor), len(schedule.tiling.dims)
    front = tuple(copies(schedule, flow, conflicts))
    for axis in conflicts.axes:
        for other in conflicts.axes:
            factors = ((1, 1), (1, -1), (flow.tensor.concrete_shape[other], 1)) if other != axis else ()
            for one, two in factors:
                sheared = conflicts.sheared(axis, other, (one, two))
                indices = []
                for d, size in enumerate(flow.tensor.concrete_shape):
                    element = variable(space, coordinates + d)
                    if d == axis:
                        element = element.scale_val(isl.Val(one))
                        element = element.set_coefficient_val(isl.dim_type.in_, coordinates + other, isl.Val(two))
                    ring = d in conflicts.axes
                    window = sheared.window(sheared.axis_position(d)) if ring else size
                    indices.append(Index(element, window, ring))
                yield Buffer(flow.tensor, (*front, *indices))


@dataclass(frozen=True, eq=False)
class Conflicts:
    """Pairs of elements, one alive when the other arrives, over the axes that tiles cut: `{ [u, a] -> [u', a'] }`.

    `u` are all coordinates of the tile at which the element arrives that it is not retained along, and `a` the cut
    axes; an element is alive from the tile of its arrival to the last tile, in time, that reads it.
    """

    arrivals: isl.Map
    retained: frozenset[int]
    tiles: tuple[int, ...]
    axes: tuple[int, ...]
    pairs: isl.Map

    @staticmethod
    def of(schedule: Schedule, flow: Flow, retained: frozenset[int], axes: tuple[int, ...]) -> "Conflicts":
        """The conflicts of one flow."""
        tiles = tuple(d for d in range(len(schedule.tiling.dims)) if d not in retained)
        arrive = keyed(cut(flow.arrivals, axes), tiles).apply_range(schedule.tile_to_time)
        need = flow.need.union(flow.arrivals)
        needed = keyed(cut(need, axes), tiles).apply_range(schedule.tile_to_time)
        if not retained:
            return Conflicts(cut(flow.arrivals, axes), retained, tiles, axes, arrive.apply_range(arrive.reverse()))
        space = schedule.tile_to_time.range().get_space()
        alive = arrive.apply_range(isl.Map.lex_le(space)) & needed.apply_range(isl.Map.lex_ge(space))
        return Conflicts(
            cut(flow.arrivals, axes), retained, tiles, axes, coalesced(alive.apply_range(arrive.reverse()))
        )

    def tile_position(self, d: int) -> int:
        """The position of tile coordinate d in a pair."""
        return self.tiles.index(d)

    def axis_position(self, axis: int) -> int:
        """The position of an axis in a pair."""
        return len(self.tiles) + self.axes.index(axis)

    def sheared(self, axis: int, other: int, factors: tuple[int, int]) -> "Conflicts":
        """The conflicts with `factors[0] * a + factors[1] * b` for an axis `a` and another one, `b`."""
        space = self.pairs.get_space().domain()
        change = isl.MultiAff.identity_on_domain_space(space)
        position, beside = self.axis_position(axis), self.axis_position(other)
        aff = change.get_at(position).set_coefficient_val(isl.dim_type.in_, position, isl.Val(factors[0]))
        change = change.set_at(position, aff.set_coefficient_val(isl.dim_type.in_, beside, isl.Val(factors[1])))
        shear = isl.Map.from_multi_aff(change)
        return replace(self, pairs=shear.reverse().apply_range(self.pairs).apply_range(shear))

    def window(self, position: int) -> int:
        """1 + the largest distance along one index between conflicting elements that agree in the indices before it."""
        same = self.pairs
        for d in range(position):
            same = same.equate(isl.dim_type.in_, d, isl.dim_type.out, d)
        if same.is_empty():
            return 1
        distance = same.deltas().project_out(isl.dim_type.set, position + 1, same.dim(isl.dim_type.in_) - position - 1)
        where = f"conflicts of {self.arrivals}"
        highest, lowest = distance.dim_max_val(position), distance.dim_min_val(position)
        return 1 + max(finite(highest, where), -finite(lowest, where))

    def extremes(self, local: isl.Aff, axis: int) -> tuple[int, int]:
        """The smallest and the largest local index of an element that arrives; 0 where none does."""
        if self.arrivals.is_empty():
            return 0, 0
        pairs = self.arrivals.reverse().wrap()
        coordinates = self.arrivals.dim(isl.dim_type.out)
        values = isl.Aff.zero_on_domain(isl.LocalSpace.from_space(pairs.get_space()))
        for d in range(coordinates):
            values = values.set_coefficient_val(isl.dim_type.in_, d, local.get_coefficient_val(isl.dim_type.in_, d))
        values = values.set_coefficient_val(isl.dim_type.in_, coordinates + self.axes.index(axis), isl.Val(1))
        values = values.set_constant_val(local.get_constant_val())
        where = f"elements of {self.arrivals}"
        return finite(pairs.min_val(values), where), finite(pairs.max_val(values), where)


def cut(relation: isl.Map, axes: tuple[int, ...]) -> isl.Map:
    """`{ A[a] -> tile[t] }` with only some axes of the element kept."""
    for d in reversed(range(relation.dim(isl.dim_type.in_))):
        if d not in axes:
            relation = relation.project_out(isl.dim_type.in_, d, 1)
    return coalesced(relation)


def keyed(relation: isl.Map, tiles: tuple[int, ...]) -> isl.Map:
    """`{ [a] -> tile[t] }` to `{ [t_d.., a] -> tile[t] }`: the element together with some coordinates of its tile."""
    relation = relation.insert_dims(isl.dim_type.in_, 0, len(tiles))
    for k, d in enumerate(tiles):
        relation = relation.equate(isl.dim_type.in_, k, isl.dim_type.out, d)
    return relation.reset_tuple_id(isl.dim_type.in_) if relation.has_tuple_id(isl.dim_type.in_) else relation


def tile_origins(schedule: Schedule, flow: Flow, axis: int, retained: frozenset[int]) -> tuple[isl.Aff, ...]:
    """Where a tile may be said to begin along an axis: `{ [tile -> A] }` each, at least one.

    That is where its extended need begins, if one expression says so. Else it is one of those with which its need
    begins or ends at some tiles, or 0.
    """
    if (origin := tile_origin(schedule, flow, axis, retained)) is not None:
        return (origin,)
    elements = part_of_tile(flow.arrivals, axis, retained)
    ends = (elements.lexmin_pw_multi_aff(), elements.lexmax_pw_multi_aff())
    affs = [aff for end in ends for _, aff in end.get_at(0).get_pieces() if not aff.dim(isl.dim_type.div)]
    found = [over_tile_and_element(schedule, flow, aff, retained) for aff in affs]
    zero = isl.Aff.zero_on_domain(isl.LocalSpace.from_space(tile_and_element(schedule, flow.tensor)))
    return (zero, *found)


def tile_origin(schedule: Schedule, flow: Flow, axis: int, retained: frozenset[int]) -> isl.Aff | None:
    """The first element of an axis that a tile needs, as an affine expression of its coordinates: `{ [tile -> A] }`.

    Up to a constant. Taken from the extended need, where borders do not bend it; None where it is not bounded or not
    affine. It may depend only on coordinates along which nothing is retained, since a retained element outlives its
    tile.
    """
    elements = part_of_tile(flow.extended, axis, retained)
    if not is_bounded_per_tile(elements):
        return None
    pieces = elements.lexmin_pw_multi_aff().get_at(0).get_pieces()
    if len(pieces) != 1 or pieces[0][1].dim(isl.dim_type.div):
        return None
    return over_tile_and_element(schedule, flow, pieces[0][1], retained)


def part_of_tile(relation: isl.Map, axis: int, retained: frozenset[int]) -> isl.Map:
    """`{ A[a] -> tile[t] }` to `{ [t] -> [a] }` for one axis and the coordinates along which nothing is retained."""
    for d in sorted(retained, reverse=True):
        relation = relation.project_out(isl.dim_type.out, d, 1)
    return cut(relation, (axis,)).reverse()


def over_tile_and_element(schedule: Schedule, flow: Flow, aff: isl.Aff, retained: frozenset[int]) -> isl.Aff:
    """An expression of the coordinates along which nothing is retained as one over `[tile[t] -> A[a]]`."""
    space = tile_and_element(schedule, flow.tensor)
    origin = isl.Aff.zero_on_domain(isl.LocalSpace.from_space(space))
    free = [d for d in range(len(schedule.tiling.dims)) if d not in retained]
    for k, d in enumerate(free):
        origin = origin.set_coefficient_val(isl.dim_type.in_, d, aff.get_coefficient_val(isl.dim_type.in_, k))
    return origin.set_constant_val(aff.get_constant_val())


def is_bounded_per_tile(elements: isl.Map) -> bool:
    """Whether `{ tile[t] -> [a] }` gives every tile finitely many elements."""
    return bool(elements.reverse().apply_range(elements).deltas().dim_max_val(0).is_int())


def finite(value: isl.Val, where: str) -> int:
    """A finite isl value as a number. Errors: Unbounded."""
    if not value.is_int():
        raise Unbounded(f"{where}: infinitely many elements are alive at once")
    return int(str(value))
