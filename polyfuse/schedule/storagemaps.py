"""Storage as one chooses: maps from the elements of tensors to cells, as text or as relations of isl.

    { A[a] -> array[c] }  or  { [tile[t] -> A[a]] -> array[c] }   by tensor  ──chosen()──> Buffers

Nothing is believed: `legality` judges the result like any other storage.
"""

from collections.abc import Mapping, Sequence

import islpy as isl

from polyfuse.errors import InvalidInput
from polyfuse.network.tensor import Tensor
from polyfuse.schedule.cells import LARGEST_WINDOW, Buffer, Index, tile_and_element
from polyfuse.schedule.schedule import Schedule
from polyfuse.sets.reading import MapLike, as_map
from polyfuse.sets.spaces import unnamed
from polyfuse.whole import shown
from polyfuse.whole import whole as whole_number

DIVISION, IN, OUT, SET = isl.dim_type.div, isl.dim_type.in_, isl.dim_type.out, isl.dim_type.set
Shapes = Mapping[str, Sequence[int]]


def chosen(schedule: Schedule, maps: Mapping[str, MapLike], shapes: Shapes | None = None) -> dict[str, Buffer]:
    """The buffers of the tensors that `maps` names. Arrays are as large as what is used of them, or as `shapes` says.

    Errors: InvalidInput that names the tensor or the array.
    """
    tensors = {name: flow.tensor for name, flow in schedule.flows.items()}
    tensors |= {weight.name: weight for weight in schedule.preloaded}
    cells: dict[str, isl.PwMultiAff] = {}
    for name, given in maps.items():
        if name not in tensors:
            raise InvalidInput(f"storage map of {name!r}: no such tensor; the group has {', '.join(tensors)}")
        cells[name] = cell_of(schedule, tensors[name], given)
    sizes: dict[str, tuple[int, ...]] = {}
    for name, cell in cells.items():
        array = array_of(cell, tensors[name])
        used = used_sizes(cell.as_map().intersect_domain(accessed(schedule, tensors[name])).range(), name)
        if array in sizes and len(sizes[array]) != len(used):
            raise InvalidInput(f"array {array}: {name} has {len(used)} indices there, others have {len(sizes[array])}")
        sizes[array] = tuple(max(pair) for pair in zip(sizes.get(array, used), used, strict=True))
    sizes |= shapes_of(shapes or {}, sizes)
    return {
        name: buffer_of(tensors[name], cell, sizes[array_of(cell, tensors[name])], accessed(schedule, tensors[name]))
        for name, cell in cells.items()
    }


def cell_of(schedule: Schedule, tensor: Tensor, given: MapLike) -> isl.PwMultiAff:
    """`{ [tile[t] -> A[a]] -> array[c] }`. Errors: InvalidInput."""
    space = tile_and_element(schedule, tensor)
    elements, where = isl.Set.universe(space).unwrap(), f"storage map of {tensor.name!r}"
    point = f"{tensor.name}[{', '.join(f'a{d}' for d in range(len(tensor.shape)))}]"
    tile = f"tile[{', '.join(dim.name for dim in schedule.tiling.dims)}]"
    form = f"{{ {point} -> array[a0 mod 4, ...] }} or {{ [{tile} -> {point}] -> array[...] }}"
    relation = unnamed(as_map(given, where, form), (OUT,))
    if relation.dim(isl.dim_type.param):
        raise InvalidInput(f"{where}: {relation} has parameters; expected numbers")
    own = relation.get_space().domain()
    if not relation.dim(OUT) or not (own.is_equal(space) or own.is_equal(elements.get_space().range())):
        raise InvalidInput(f"{where}: expected {form}, got {relation}")
    every = (
        elements.range_map() if own.is_equal(elements.get_space().range()) else isl.Map.identity(space.map_from_set())
    )
    relation = every.apply_range(relation)
    if not relation.is_single_valued():
        relation = relation.intersect_domain(accessed(schedule, tensor))
    if not relation.is_single_valued():
        several = relation.subtract(relation.lexmin()).domain().unwrap().range()
        raise InvalidInput(f"{where}: {several.sample_point()} has several cells; give it one")
    cell = isl.PwMultiAff.from_map(relation)
    if tensor in schedule.preloaded and any(cell.involves_dims(IN, d, 1) for d in range(len(schedule.tiling.dims))):
        raise InvalidInput(f"{where}: it is loaded once for all tiles; expected cells that do not depend on the tile")
    return cell


def array_of(cell: isl.PwMultiAff, tensor: Tensor) -> str:
    """The name of the array."""
    return str(cell.get_tuple_name(OUT)) if cell.has_tuple_name(OUT) else f"{tensor.name}_buffer"


def accessed(schedule: Schedule, tensor: Tensor) -> isl.Set:
    """`{ [tile[t] -> A[a]] }`: the elements that each tile writes to the buffer of a tensor or reads there."""
    flow = schedule.flows.get(tensor.name)
    if flow is None:
        return isl.Set.universe(tile_and_element(schedule, tensor)).unwrap().intersect_range(tensor.box).wrap()
    moments = flow.need.union(flow.arrivals).union(flow.executions).union(flow.loads).union(flow.stores)
    return moments.reverse().wrap()


def used_sizes(cells: isl.Set, name: str) -> tuple[int, ...]:
    """One more than the largest value of each index. Errors: InvalidInput for cells without end, or too many."""
    if cells.is_empty():
        return (1,) * cells.dim(SET)
    sizes = []
    for k in range(cells.dim(SET)):
        last = cells.dim_max_val(k)
        if not last.is_int() or last.gt(isl.Val(LARGEST_WINDOW - 1)):
            raise InvalidInput(
                f"storage map of {name!r}: index {k} comes to {last}; expected less than {LARGEST_WINDOW:,}"
            )
        sizes.append(max(1, int(last.to_python()) + 1))
    return tuple(sizes)


def shapes_of(shapes: Shapes, used: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """The shapes that the user says, of arrays that there are. Errors: InvalidInput."""
    found = {}
    for array, shape in shapes.items():
        where = f"shape of array {array!r}"
        if array not in used:
            raise InvalidInput(f"{where}: no such array; the storage maps have {', '.join(used) or 'none'}")
        if isinstance(shape, str) or not isinstance(shape, Sequence) or len(shape) != len(used[array]):
            raise InvalidInput(f"{where}: expected {len(used[array])} sizes, got {shown(shape)}")
        found[array] = tuple(whole_number(size, f"{where}: a size", 1, LARGEST_WINDOW) for size in shape)
    return found


def buffer_of(tensor: Tensor, cell: isl.PwMultiAff, shape: tuple[int, ...], used: isl.Set) -> Buffer:
    """A buffer with a cell for each element that is used."""
    array = str(cell.get_tuple_name(OUT)) if cell.has_tuple_name(OUT) else None
    return Buffer(tensor, tuple(index_of(cell.get_at(k), size, used) for k, size in enumerate(shape)), array)


def index_of(value: isl.PwAff, window: int, used: isl.Set) -> Index:
    """An index of a cell, as a ring where it is one of the size of the array: C wraps rings without a division.

    >>> index_of(isl.PwAff("{ A[i] -> [(i + 2) mod 6] }"), 6, isl.Set("{ A[i] : 0 <= i < 9 }"))
    Index(origin=Aff("{ A[i] -> [(2 + i)] }"), window=6, folded=True)
    """
    aff = next((aff for where, aff in value.get_pieces() if used.is_subset(where)), None)
    if aff is None:
        return Index(value, window, False)
    for d in range(aff.dim(DIVISION)):
        if aff.get_coefficient_val(DIVISION, d).eq(isl.Val(-window)):
            inside = aff + aff.get_div(d).floor().scale_val(isl.Val(window))
            ring = isl.PwAff.from_aff(inside.mod_val(isl.Val(window)))
            if ring.is_equal(isl.PwAff.from_aff(aff)):
                return Index(inside, window, True)
    return Index(aff, window, False)
