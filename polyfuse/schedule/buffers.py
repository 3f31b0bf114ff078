"""Checks that precede value flow: complete flows, and buffers of the form that is judged.

`legality` follows values along the axes that tiles cut and along those of which some stage takes only a part, and
generated code works on whole rows. Both are right for buffers of one form:

    copies       a coordinate of the tile each, in front, modulo the window where it is a ring
    uncut axis   the element itself, of which the buffer holds all
    cut axis     element + expression of the tile + number, modulo the window where it is a ring

The axes of the tensor follow one another in their order.

`pf.storage` makes no others. Edited storage of another form is refused here, whether or not it would be right; of this
form, windows, rings, offsets and copies may be anything, and `legality` decides.
"""

from collections.abc import Mapping

import islpy as isl

from polyfuse.errors import IllegalSchedule, Unbounded
from polyfuse.network.tensor import Tensor
from polyfuse.schedule.schedule import Flow, Role, Schedule
from polyfuse.schedule.storage import Buffer, Index, tile_and_element
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
    """Every tensor has a buffer of the form that is judged, and there are no other buffers.

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
        if (flow := schedule.flows.get(name)) is None and len(buffers[name].indices) > len(tensor.shape):
            raise IllegalSchedule(f"{buffers[name]}: {tensor} is loaded once for all tiles; drop its copies")
        cut = {dim.axis for dim in schedule.tiling.dims} if flow is not None and flow.role != "weight" else set()
        check_form(schedule, buffers[name], cut, coordinates)


def check_form(schedule: Schedule, buffer: Buffer, cut: set[int], coordinates: list[int]) -> None:
    """The indices of a buffer are copies and then axes, of which only those that are `cut` may be rings or begin later.

    Errors: IllegalSchedule that names the index.
    """
    tensor, rank = buffer.tensor, len(buffer.tensor.shape)
    if len(buffer.indices) < rank:
        raise IllegalSchedule(f"{buffer}: expected an index for each axis of {tensor}, got {len(buffer.indices)}")
    space, copies = tile_and_element(schedule, tensor), len(buffer.indices) - rank
    largest = [*coordinates, *(size - 1 for size in tensor.concrete_shape)]
    for k, index in enumerate(buffer.indices):
        where = f"{buffer}: index {k}, {index.origin}"
        if not index.origin.get_domain_space().is_equal(space):
            raise IllegalSchedule(f"{where}: expected an expression over {space}")
        factors, constant = numbers_of(index, where)
        if abs(constant) + sum(abs(a * b) for a, b in zip(factors, largest, strict=True)) > LARGEST:
            raise IllegalSchedule(f"{where}: comes to more than {LARGEST:,}; begin it nearer to the tile")
        axis = k - copies
        wanted = [int(d == len(coordinates) + axis) for d in range(len(factors))]
        if axis < 0:
            if constant or sorted(factors) != [0] * (len(factors) - 1) + [1] or 1 not in factors[: len(coordinates)]:
                raise IllegalSchedule(f"{where}: expected a coordinate of the tile, in front of the axes of {tensor}")
        elif factors[len(coordinates) :] != wanted[len(coordinates) :]:
            raise IllegalSchedule(f"{where}: expected the element along axis {axis} and what depends on the tile")
        elif axis not in cut and (
            factors != wanted or constant or index.folded or index.window < tensor.concrete_shape[axis]
        ):
            raise IllegalSchedule(
                f"{where}: tiles do not cut axis {axis} of {tensor}; expected the element itself in an index of "
                f"{tensor.concrete_shape[axis]} that is no ring"
            )


def numbers_of(index: Index, where: str) -> tuple[list[int], int]:
    """The factors of the variables of an index, and its constant.

    Errors: IllegalSchedule where it is no sum of whole multiples.
    """
    origin = index.origin
    if origin.is_nan() or origin.dim(isl.dim_type.div) or not origin.get_denominator_val().is_one():
        raise IllegalSchedule(f"{where}: expected a sum of whole multiples of coordinates, elements and 1")
    factors = [
        int(origin.get_coefficient_val(isl.dim_type.in_, d).to_python()) for d in range(origin.dim(isl.dim_type.in_))
    ]
    return factors, int(origin.get_constant_val().to_python())


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
