"""Storage: the on-chip buffer of every tensor of a group, sized from liveness.

Elements wait in cells. Along the axes that tiles cut, a cell is counted from the tile's own origin where the tensor is
recomputed, and modulo the window of elements that are alive at once where it is retained (a ring); along the other
axes it is the element itself. Cells are injective on what is alive: `legality` proves it.

    cell : { [tile[t] -> A[a]] -> buffer[u, c] }

`u` are the coordinates of tiles whose copies of the buffer are alive at once; `Buffer.windows` are successive moduli.
Source: Lefebvre and Feautrier, "Automatic storage management for parallel programs", Parallel Computing 24, 1998.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod

import islpy as isl

from polyfuse.doors import public
from polyfuse.errors import InvalidInput, Unbounded
from polyfuse.network.tensor import Tensor
from polyfuse.schedule.retention import in_buffer
from polyfuse.schedule.schedule import Flow, Schedule
from polyfuse.sets.coalescing import coalesced
from polyfuse.sets.limits import operation_limit
from polyfuse.sets.spaces import relation_space
from polyfuse.text import columns, html_table
from polyfuse.whole import shown
from polyfuse.whole import whole as whole_number

LARGEST_WINDOW = 1 << 30
"""Generated code counts in 32 bits."""


@dataclass(frozen=True, eq=False)
class Index:
    """One index of a cell: `origin mod window`; no modulo where `folded` is False.

    `origin` is any expression over `[tile[t] -> A[a]]`, such as `a - 4t`; one in pieces is an isl.PwAff.

    Errors: InvalidInput for a window that is no whole number from 1 to LARGEST_WINDOW.
    """

    origin: isl.Aff | isl.PwAff
    window: int
    folded: bool

    def __post_init__(self) -> None:
        if not isinstance(self.origin, isl.Aff | isl.PwAff) or not isinstance(self.folded, bool):
            raise InvalidInput(
                "index of a buffer: expected an isl.Aff or isl.PwAff as its origin and folded True or False, got "
                f"{shown(self.origin)} and {shown(self.folded)}"
            )
        window = whole_number(self.window, "index of a buffer: window", 1, LARGEST_WINDOW)
        object.__setattr__(self, "window", window)

    @property
    def pieces(self) -> tuple[isl.Aff, ...]:
        """The expressions of the origin, without their domains."""
        return (self.origin,) if isinstance(self.origin, isl.Aff) else tuple(aff for _, aff in self.origin.get_pieces())

    @property
    def affine(self) -> isl.Aff:
        """The origin where it is one expression, as those of rows are."""
        assert isinstance(self.origin, isl.Aff), f"{self.origin}: in pieces"
        return self.origin

    @property
    def unfolded(self) -> isl.PwAff:
        """`{ [tile[t] -> A[a]] -> [c] }`: the index without its modulo."""
        return isl.PwAff.from_aff(self.origin) if isinstance(self.origin, isl.Aff) else self.origin

    @property
    def value(self) -> isl.PwAff:
        """`{ [tile[t] -> A[a]] -> [c] }`: the index, modulo its window where it is a ring."""
        return self.unfolded.mod_val(isl.Val(self.window)) if self.folded else self.unfolded

    def involves(self, position: int) -> bool:
        """Whether a variable of `[tile[t] -> A[a]]` has a part in the index."""
        return bool(self.origin.involves_dims(isl.dim_type.in_, position, 1))


@dataclass(frozen=True, eq=False)
class Buffer:
    """The on-chip cells of one tensor, row-major.

    Buffers of one `array`, which then has a name, share their cells: they have one shape and one type of element.
    """

    tensor: Tensor
    indices: tuple[Index, ...]
    array: str | None = None

    @property
    def name(self) -> str:
        """The name of the array: as given, or that of the tensor's own."""
        return f"{self.tensor.name}_buffer" if self.array is None else self.array

    @property
    def shape(self) -> tuple[int, ...]:
        """The window of every index."""
        return tuple(index.window for index in self.indices)

    @property
    def bytes(self) -> int:
        """The size of the buffer."""
        return prod(self.shape) * self.tensor.element_bytes

    @property
    def widened(self) -> "Buffer":
        """The buffer with no ring along rows: they are as wide as the image then, as row kernels have them."""
        if not self.indices or not self.indices[-1].folded:
            return self
        space = self.indices[-1].origin.get_domain_space()
        column = variable(space, space.dim(isl.dim_type.set) - 1)
        return replace(self, indices=(*self.indices[:-1], Index(column, self.tensor.concrete_shape[-1], False)))

    @property
    def forms(self) -> tuple["Buffer", ...]:
        """The buffer as it is, and widened where that may not be as legal: where its ring begins with the tile."""
        last = self.indices[-1]
        tiles = last.origin.dim(isl.dim_type.in_) - len(self.tensor.shape)
        moves = last.origin.involves_dims(isl.dim_type.in_, 0, tiles)
        return (self, self.widened) if last.folded and moves else (self,)

    @property
    def cell(self) -> isl.PwMultiAff:
        """`{ [tile[t] -> A[a]] -> buffer[c] }`."""
        space = self.indices[0].origin.get_domain_space()
        range_ = isl.Space.set_alloc(isl.DEFAULT_CONTEXT, 0, len(self.indices))
        space = space.map_from_domain_and_range(range_.set_tuple_name(isl.dim_type.set, self.name))
        result = isl.PwMultiAff.from_multi_aff(isl.MultiAff.zero(space))
        for k, index in enumerate(self.indices):
            result = result.set_pw_aff(k, index.value)
        return result

    def __str__(self) -> str:
        sizes = ", ".join(f"{i.window}{' (ring)' if i.folded else ''}" for i in self.indices)
        return f"{self.name}[{sizes}]"

    __repr__ = __str__


@public
@dataclass(frozen=True, eq=False)
class Storage:
    """The buffers of a group: one for every tensor with stages, one for every weight kept on chip."""

    schedule: Schedule
    buffers: Mapping[str, Buffer]

    @property
    def onchip_bytes(self) -> int:
        """The bytes of all buffers together; those of one array count once."""
        return sum({buffer.name: buffer.bytes for buffer in self.buffers.values()}.values())

    def __str__(self) -> str:
        lines = columns([(str(buffer), buffer.bytes) for buffer in self.buffers.values()], indent=2)
        head = f"{self.schedule.network.name}: tile {self.schedule.tiling}, {self.onchip_bytes:,} B on chip"
        return "\n".join([head, *lines])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows = [(buffer, f"{buffer.bytes:,}") for buffer in self.buffers.values()]
        return html_table(str(self).splitlines()[0], ("buffer", "bytes"), rows)


def storage(schedule: Schedule) -> Storage:
    """Size the buffers of a schedule; concrete sizes only.

    Errors: Unbounded where infinitely many elements are alive at once, TooComplex above isl's operation limit.
    """
    buffers = {}
    for name, flow in schedule.flows.items():
        with operation_limit(what=f"buffer of {name!r}"):
            buffers[name] = buffer(schedule, flow)
    for weight in schedule.preloaded:
        buffers[weight.name] = whole(schedule, weight)
    return Storage(schedule, buffers)


def whole(schedule: Schedule, tensor: Tensor) -> Buffer:
    """A buffer that holds all of a tensor."""
    space = tile_and_element(schedule, tensor)
    coordinates = len(schedule.tiling.dims)
    shape = tensor.concrete_shape
    return Buffer(tensor, tuple(Index(variable(space, coordinates + d), n, False) for d, n in enumerate(shape)))


def buffer(schedule: Schedule, flow: Flow) -> Buffer:
    """The buffer of one flow: tile coordinates first, then the axes of the tensor.

    Only coordinates along which the tensor is not retained may need copies, and only axes that tiles cut are folded.
    """
    space = tile_and_element(schedule, flow.tensor)
    dims = schedule.tiling.dims
    retained = in_buffer(flow.places)
    conflicts = Conflicts.of(schedule, flow, retained)
    indices = []
    for d in range(len(dims)):
        if d not in retained and retained:
            window = conflicts.window(conflicts.tile_position(d))
            if window > 1:
                indices.append(Index(variable(space, d), window, True))
    for axis, size in enumerate(flow.tensor.concrete_shape):
        element = variable(space, len(dims) + axis)
        if axis not in conflicts.axes:
            indices.append(Index(element, size, False))
            continue
        origin = tile_origin(schedule, flow, axis, retained)
        local = element if origin is None else element - origin
        lowest, highest = conflicts.extremes(local, axis)
        local, extent = local - lowest, 1 + highest - lowest
        window = conflicts.window(conflicts.axis_position(axis)) if retained else extent
        indices.append(Index(local, min(window, extent), window < extent))
    return Buffer(flow.tensor, tuple(indices))


def tile_and_element(schedule: Schedule, tensor: Tensor) -> isl.Space:
    """`[tile[t] -> A[a]]`."""
    return relation_space(schedule.tiling.space, tensor.box.get_space()).wrap()


def variable(space: isl.Space, position: int) -> isl.Aff:
    """One dimension of a set space, as an expression."""
    return isl.Aff.var_on_domain(isl.LocalSpace.from_space(space), isl.dim_type.set, position)


@dataclass(frozen=True, eq=False)
class Conflicts:
    """Pairs of elements, one alive when the other arrives, over the axes that tiles cut: `{ [u, a] -> [u', a'] }`.

    `u` are all coordinates of the tile at which the element arrives that it is not retained along, and `a` the cut
    axes; an element is alive from the tile of its arrival to the last tile, in time, that reads it.
    """

    arrivals: isl.Map
    tiles: tuple[int, ...]
    axes: tuple[int, ...]
    pairs: isl.Map

    @staticmethod
    def of(schedule: Schedule, flow: Flow, retained: frozenset[int]) -> "Conflicts":
        """The conflicts of one flow."""
        axes = schedule.cut_axes(flow)
        tiles = tuple(d for d in range(len(schedule.tiling.dims)) if d not in retained)
        if flow.role == "weight":
            axes = ()
        arrive = keyed(cut(flow.arrivals, axes), tiles).apply_range(schedule.tile_to_time)
        need = flow.need.union(flow.arrivals)
        needed = keyed(cut(need, axes), tiles).apply_range(schedule.tile_to_time)
        if not retained:
            return Conflicts(cut(flow.arrivals, axes), tiles, axes, arrive.apply_range(arrive.reverse()))
        space = schedule.tile_to_time.range().get_space()
        alive = arrive.apply_range(isl.Map.lex_le(space)) & needed.apply_range(isl.Map.lex_ge(space))
        return Conflicts(cut(flow.arrivals, axes), tiles, axes, coalesced(alive.apply_range(arrive.reverse())))

    def tile_position(self, d: int) -> int:
        """The position of tile coordinate d in a pair."""
        return self.tiles.index(d)

    def axis_position(self, axis: int) -> int:
        """The position of an axis in a pair."""
        return len(self.tiles) + self.axes.index(axis)

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


def tile_origin(schedule: Schedule, flow: Flow, axis: int, retained: frozenset[int]) -> isl.Aff | None:
    """The first element of an axis that a tile needs, as an affine expression of its coordinates: `{ [tile -> A] }`.

    Up to a constant. Taken from the extended need, where borders do not bend it; None where it is not bounded or not
    affine. It may depend only on coordinates along which nothing is retained, since a retained element outlives its
    tile.
    """
    relation = flow.extended
    for d in sorted(retained, reverse=True):
        relation = relation.project_out(isl.dim_type.out, d, 1)
    elements = cut(relation, (axis,)).reverse()
    if not is_bounded_per_tile(elements):
        return None
    pieces = elements.lexmin_pw_multi_aff().get_at(0).get_pieces()
    if len(pieces) != 1 or pieces[0][1].dim(isl.dim_type.div):
        return None
    aff = pieces[0][1]
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
