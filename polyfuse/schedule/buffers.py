"""Checks that precede value flow: complete flows, and buffers whose cells are numbers; which of them rows can use.

A buffer may have any indices: `legality` follows values through their cells. The row kernels of generated code work on
whole rows, and use buffers of one form, which is that of what `pf.storage` finds by itself:

    copies       a coordinate of the tile each, in front, modulo the window where it is a ring
    uncut axis   the element itself, of which the buffer holds all
    cut axis     element + expression of the tile + number, modulo the window where it is a ring

The axes of the tensor follow one another in their order, and nothing else lies in the array.
"""

from collections.abc import Mapping, Sequence
from functools import reduce

import islpy as isl

from polyfuse.errors import IllegalSchedule, Unbounded
from polyfuse.network.tensor import Tensor
from polyfuse.schedule.cells import Buffer, Index, tile_and_element
from polyfuse.schedule.schedule import Flow, Role, Schedule
from polyfuse.schedule.witness import witness
from polyfuse.sets.spaces import relation_space

LARGEST = 1 << 30
"""The largest magnitude of an index: generated code counts in 32 bits."""


def check_complete(schedule: Schedule) -> None:
    """Every tensor of the group has a flow of its own, or is a weight that is loaded once; no stage comes twice.

    Errors: IllegalSchedule.
    """
    wanted = roles(schedule)
    kept = {weight.name for weight in schedule.preloaded}
    for name, (tensor, role) in wanted.items():
        flow = schedule.flows.get(name)
        if flow is None and not (role == "weight" and name in kept):
            raise IllegalSchedule(f"schedule of {schedule.network.name!r}: nothing says when {tensor} arrives")
        if flow is not None and (flow.tensor, flow.role) != (tensor, role):
            raise IllegalSchedule(f"tensor {name}: expected a flow of {tensor} ({role}), got {flow}")
    if others := ({*schedule.flows} | kept) - {*wanted}:
        raise IllegalSchedule(f"schedule of {schedule.network.name!r}: no layer reads or makes {min(others)}; drop it")
    if len({*schedule.stages}) < len(schedule.stages):
        raise IllegalSchedule(f"schedule of {schedule.network.name!r}: a stage comes twice in a tile; keep one")
    for flow in schedule.flows.values():
        check_inside(schedule, flow)


def roles(schedule: Schedule) -> dict[str, tuple[Tensor, Role]]:
    """The tensors of a group by name, and what they are there."""
    found: dict[str, tuple[Tensor, Role]] = {tensor.name: (tensor, "input") for tensor in schedule.network.inputs}
    for layer in schedule.network.layers:
        found |= {weight.name: (weight, "weight") for weight in layer.weights}
        found[layer.output.name] = (layer.output, "made")
    return found


def check_inside(schedule: Schedule, flow: Flow) -> None:
    """Refuse a flow that computes, loads or stores other elements than those of its tensor, or at other tiles.

    Errors: IllegalSchedule with a witness.
    """
    name, space = flow.tensor.name, relation_space(flow.tensor.box.get_space(), schedule.tiling.space)
    for what, moments in (("computes", flow.executions), ("loads", flow.loads), ("stores", flow.stores)):
        if not moments.get_space().has_equal_tuples(space):
            raise IllegalSchedule(f"tensor {name}: expected a relation {{ {name} -> tile }} that {what} it: {moments}")
        outside = moments.domain().subtract(flow.tensor.box)
        if not outside.is_empty():
            raise IllegalSchedule(f"tensor {name}: some tile {what} {witness(outside)}, which is outside of it")


def check_buffers(schedule: Schedule, buffers: Mapping[str, Buffer]) -> None:
    """Every tensor has a buffer whose indices are whole numbers, and there are no other buffers.

    Errors: IllegalSchedule.
    """
    coordinates = largest_coordinates(schedule)
    tensors = {name: flow.tensor for name, flow in schedule.flows.items()}
    tensors |= {weight.name: weight for weight in schedule.preloaded}
    if others := {*buffers} - {*tensors}:
        raise IllegalSchedule(f"buffer of {min(others)}: no stage of the group uses it; drop it")
    for name, tensor in tensors.items():
        if name not in buffers:
            raise IllegalSchedule(f"tensor {name}: has no buffer; give it one, as pf.storage does")
        if buffers[name].tensor != tensor:
            raise IllegalSchedule(f"buffer of {name}: expected one of {tensor}, got one of {buffers[name].tensor}")
        check_indices(schedule, buffers[name], coordinates)
    for array, sharers in arrays(buffers).items():
        check_array(schedule, array, sharers)


def arrays(buffers: Mapping[str, Buffer]) -> dict[str, tuple[Buffer, ...]]:
    """The buffers that lie in each array, by its name."""
    found: dict[str, tuple[Buffer, ...]] = {}
    for buffer in buffers.values():
        found[buffer.name] = (*found.get(buffer.name, ()), buffer)
    return found


def check_indices(schedule: Schedule, buffer: Buffer, coordinates: list[int]) -> None:
    """The indices of a buffer are whole numbers of 32 bits over tiles and elements.

    Errors: IllegalSchedule that names the index.
    """
    if not buffer.indices:
        raise IllegalSchedule(f"buffer {buffer.name} of {buffer.tensor}: expected at least one index")
    space = tile_and_element(schedule, buffer.tensor)
    largest = [*coordinates, *(size - 1 for size in buffer.tensor.concrete_shape)]
    for k, index in enumerate(buffer.indices):
        where = f"{buffer}: index {k}, {index.origin}"
        if not index.origin.get_domain_space().is_equal(space):
            raise IllegalSchedule(f"{where}: expected an expression over {space}")
        for aff in index.pieces:
            if aff.is_nan() or not aff.get_denominator_val().is_one():
                raise IllegalSchedule(f"{where}: expected whole numbers; round them with floor()")
            if magnitude(aff, largest) > LARGEST:
                raise IllegalSchedule(f"{where}: comes to more than {LARGEST:,}; begin it nearer to the tile")


def magnitude(aff: isl.Aff, largest: Sequence[int]) -> int:
    """What no part of an expression comes above in absolute value, from the largest values of its variables."""
    denominator = aff.get_denominator_val()
    parts = [aff.get_coefficient_val(isl.dim_type.in_, d).mul(isl.Val(largest[d])) for d in range(len(largest))]
    for d in range(aff.dim(isl.dim_type.div)):
        factor, quotient = aff.get_coefficient_val(isl.dim_type.div, d), aff.get_div(d)
        if not factor.is_zero():
            inside = -(-magnitude(quotient, largest) // int(quotient.get_denominator_val().to_python()))
            parts.append(factor.mul(isl.Val(inside + 1)))
    return sum(abs(int(part.mul(denominator).to_python())) for part in (*parts, aff.get_constant_val()))


def check_array(schedule: Schedule, array: str, sharers: Sequence[Buffer]) -> None:
    """What lies in one array has its shape and type; weights that are loaded once lie by themselves, for all tiles.

    Errors: IllegalSchedule.
    """
    first, *others = sharers
    tensors = {*roles(schedule)}
    if first.array is not None and (array in tensors or array.removesuffix("_buffer") in tensors):
        raise IllegalSchedule(f"array {array}: a tensor of the group has that name; call the array otherwise")
    if first.array is not None and not array.isidentifier():
        raise IllegalSchedule(f"array {array!r}: expected a name of letters, digits and _")
    for other in others:
        if (other.shape, other.tensor.dtype) != (first.shape, first.tensor.dtype):
            raise IllegalSchedule(
                f"array {array}: holds {first.tensor} as {list(first.shape)} and {other.tensor} as "
                f"{list(other.shape)}; expected one shape and one type of element"
            )
    kept = [buffer for buffer in sharers if buffer.tensor in schedule.preloaded]
    if kept and len(kept) < len(sharers):
        raise IllegalSchedule(
            f"array {array}: {kept[0].tensor} is loaded once for all tiles, other tensors of the array are not; "
            "give it an array of its own"
        )
    cells: isl.UnionMap | None = None
    for buffer in kept:
        check_kept(schedule, buffer)
        held = isl.UnionMap.from_map(buffer.cell.as_map().intersect_domain(at_first(schedule, buffer.tensor)))
        cells = held if cells is None else cells.union(held)
    if cells is not None and not cells.is_injective():
        twice = cells.apply_range(cells.reverse()).subtract(cells.domain().identity()).domain()
        raise IllegalSchedule(f"array {array}: two elements of weights have the same cell, such as {twice.sample()}")


def check_kept(schedule: Schedule, buffer: Buffer) -> None:
    """A weight that is loaded once has cells inside of its buffer, which are the same in all tiles.

    Errors: IllegalSchedule.
    """
    if any(index.involves(d) for index in buffer.indices for d in range(len(schedule.tiling.dims))):
        raise IllegalSchedule(f"{buffer}: {buffer.tensor} is loaded once for all tiles; drop its copies")
    elements = at_first(schedule, buffer.tensor)
    cell = buffer.cell.as_map().intersect_domain(elements)
    if not elements.is_subset(cell.domain()):
        raise IllegalSchedule(f"{buffer}: an element of {buffer.tensor} has no cell")
    for k in range(len(buffer.indices)):
        check_index(buffer, k, *ends_of(cell.range(), k))


def own_indices(buffer: Buffer, coordinates: int) -> dict[int, tuple[int, ...]]:
    """The axes that have indices of their own, and which: they involve nothing else, and tell all elements apart."""
    found = {}
    rank = coordinates + len(buffer.tensor.shape)
    for axis, size in enumerate(buffer.tensor.concrete_shape):
        mine = [k for k, index in enumerate(buffer.indices) if index.involves(coordinates + axis)]
        others = [d for d in range(rank) if d != coordinates + axis]
        if not any(buffer.indices[k].involves(d) for k in mine for d in others) and (
            size == 1 or tells_apart([buffer.indices[k] for k in mine], coordinates + axis, size)
        ):
            found[axis] = tuple(mine)
    return found


def tells_apart(indices: Sequence[Index], position: int, size: int) -> bool:
    """Whether indices over one variable are different for each of its values from 0."""
    if any(not index.folded and is_step(index.origin, position) for index in indices):
        return True
    line = isl.Set.universe(indices[0].origin.get_domain_space()) if indices else None
    if line is None:
        return False
    for d in range(line.dim(isl.dim_type.set)):
        line = line.fix_val(isl.dim_type.set, d, isl.Val(0)) if d != position else line
    line = line.lower_bound_val(isl.dim_type.set, position, isl.Val(0))
    line = line.upper_bound_val(isl.dim_type.set, position, isl.Val(size - 1))
    values = [isl.Map.from_pw_aff(index.value).intersect_domain(line) for index in indices]
    together = reduce(lambda one, other: one.flat_range_product(other), values)
    return bool(line.is_subset(together.domain()) and together.is_injective())


def is_step(origin: isl.Aff | isl.PwAff, position: int) -> bool:
    """Whether an expression grows or falls by 1 with a variable."""
    if not isinstance(origin, isl.Aff) or origin.dim(isl.dim_type.div):
        return False
    return bool(origin.get_coefficient_val(isl.dim_type.in_, position).abs().is_one())


def check_index(buffer: Buffer, k: int, first: int, last: int) -> None:
    """An index, from its first value to its last, is inside of its buffer. Errors: IllegalSchedule."""
    index = buffer.indices[k]
    if not index.folded and (first < 0 or last >= index.window):
        raise IllegalSchedule(
            f"{buffer}: index {k} of {index.window} is used from {first} to {last}; enlarge it or move its origin"
        )


def ends_of(cells: isl.Set, k: int) -> tuple[int, int]:
    """The first and the last value of a dimension of a set that is not empty."""
    return int(cells.dim_min_val(k).to_python()), int(cells.dim_max_val(k).to_python())


def at_first(schedule: Schedule, tensor: Tensor) -> isl.Set:
    """`{ [tile[0] -> A[a]] }`: the elements of a tensor, at one tile."""
    elements = isl.Set.universe(tile_and_element(schedule, tensor)).unwrap().intersect_range(tensor.box)
    for d in range(len(schedule.tiling.dims)):
        elements = elements.fix_val(isl.dim_type.in_, d, isl.Val(0))
    return elements.wrap()


def cut_axes(schedule: Schedule, name: str) -> frozenset[int]:
    """The axes of a tensor along which row kernels know parts: those that tiles cut, of what is no weight."""
    flow = schedule.flows.get(name)
    return frozenset(schedule.cut_axes(flow) if flow is not None and flow.role != "weight" else ())


def why_no_rows(schedule: Schedule, buffers: Mapping[str, Buffer], name: str) -> str | None:
    """Why row kernels cannot use the buffer of a tensor: its index that is not of their form; None where they can."""
    cut = cut_axes(schedule, name)
    buffer, coordinates = buffers[name].widened(cut), len(schedule.tiling.dims)
    tensor = buffer.tensor
    copies = len(buffer.indices) - len(tensor.shape)
    if copies < 0:
        return f"{buffer}: expected an index for each axis of {tensor}, got {len(buffer.indices)}"
    if len(arrays(buffers)[buffer.name]) > 1:
        return f"{buffer}: {tensor} shares its array; expected one of its own"
    for k, index in enumerate(buffer.indices):
        where, axis, aff = f"{buffer}: index {k}, {index.origin}", k - copies, index.origin
        if not isinstance(aff, isl.Aff) or aff.dim(isl.dim_type.div):
            return f"{where}: expected a sum of multiples of coordinates, elements and 1"
        parts = [
            int(aff.get_coefficient_val(isl.dim_type.in_, d).to_python())
            for d in range(coordinates + len(tensor.shape))
        ]
        constant = int(aff.get_constant_val().to_python())
        wanted = [int(d == coordinates + axis) for d in range(len(parts))]
        if axis < 0:
            if constant or sorted(parts) != [0] * (len(parts) - 1) + [1] or 1 not in parts[:coordinates]:
                return f"{where}: expected a coordinate of the tile, in front of the axes of {tensor}"
        elif parts[coordinates:] != wanted[coordinates:]:
            return f"{where}: expected the element along axis {axis} and what depends on the tile"
        elif axis not in cut and (
            parts != wanted or constant or index.folded or index.window < tensor.concrete_shape[axis]
        ):
            size = tensor.concrete_shape[axis]
            return f"{where}: tiles do not cut axis {axis} of {tensor}; expected the element itself, of {size}"
    return None


def largest_coordinates(schedule: Schedule) -> list[int]:
    """The largest absolute value of each coordinate of a tile at which anything happens. Errors: Unbounded."""
    largest = [0] * len(schedule.tiling.dims)
    for flow in schedule.flows.values():
        for tiles in (flow.executions.range(), flow.loads.range(), flow.stores.range()):
            if tiles.is_empty():
                continue
            if not tiles.is_bounded():
                raise Unbounded(f"tensor {flow.tensor.name}: something happens to it in infinitely many tiles")
            for d in range(len(largest)):
                ends = (tiles.dim_min_val(d), tiles.dim_max_val(d))
                largest[d] = max(largest[d], *(abs(int(end.to_python())) for end in ends))
    return largest
