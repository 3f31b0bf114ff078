"""Steps: everything a group executes, as sets of executions with their times and their accesses.

A schedule says at which tiles an instance runs; paired with the tile, every execution is an instance of its own, and
the schedule of executions is singular. Counting, code generation and the interpreter all start from this list.

    conv1_update   executions  { conv1_update[t, p, r] }     one for each tile t at which point p is executed
                   time        { conv1_update[t, p, r] -> [tile time, stage, order inside the stage] }

Where times inside of tiles are given, they are the order inside of the stage. An instance that they execute again in
one tile is split into copies, each a step of its own: conv1_update, conv1_update__1, ….
"""

from collections.abc import Iterator
from dataclasses import dataclass

import islpy as isl

from polyfuse.choices import BUFFER, OFF_CHIP
from polyfuse.errors import InvalidInput, TooComplex
from polyfuse.network.layer import Layer, Statement
from polyfuse.network.tensor import Tensor, distinct_name
from polyfuse.schedule.retention import stored_in
from polyfuse.schedule.schedule import Action, Flow, Schedule
from polyfuse.sets.coalescing import coalesced
from polyfuse.sets.limits import operation_limit

Memory = str
"""`chip`, the buffer of a tensor; `offchip`; or another one in which a place retains values."""
REDUCTION_DIMS = 4
"""The most reduction indices a statement may have."""
MOST_INSIDE = 64
"""The most times at which an instance may run in one tile."""


@dataclass(frozen=True, eq=False)
class Touch:
    """One access of a step: which element of a tensor, on chip or off. `element` is `{ step[t, i] -> [tile -> A] }`."""

    operand: str
    tensor: Tensor
    memory: Memory
    writes: bool
    element: isl.Map

    @property
    def array(self) -> str:
        """The name of the array in C and in counts: the tensor's, or that of its on-chip buffer."""
        return chip_name(self.tensor) if self.memory == BUFFER else self.tensor.name


@dataclass(frozen=True, eq=False)
class Step:
    """One statement of the generated code.

    `dims` names the indices behind the tile coordinates; `statement` is None for a copy between on chip and off.
    """

    name: str
    action: Action
    layer: Layer | None
    statement: Statement | None
    dims: tuple[str, ...]
    executions: isl.Set
    time: isl.Map
    touches: tuple[Touch, ...]


def chip_name(tensor: Tensor, array: str | None = None) -> str:
    """The name in C of a tensor's on-chip buffer, or of the array that it lies in."""
    return f"chip_{tensor.name if array is None else array}"


def steps(schedule: Schedule) -> tuple[Step, ...]:
    """Every step of the tiles of a group, in the order of its stages.

    Errors: InvalidInput for a statement with too many reduction indices, TooComplex above isl's operation limit.
    """
    found: list[Step] = []
    makers = schedule.network.makers
    for stage in schedule.stages:
        flow = schedule.flows[stage.tensor.name]
        position = schedule.stage(stage.action, stage.tensor)
        assert position is not None
        with operation_limit(what=f"steps of stage '{stage}'"):
            if stage.action == "make":
                found.extend(layer_steps(schedule, makers[stage.tensor], position))
            else:
                moments = flow.loads if stage.action == "load" else flow.stores
                found.append(copy_step(schedule, flow, stage.action, moments, position))
    return tuple(found)


def preload_steps(schedule: Schedule) -> tuple[Step, ...]:
    """The loads of weights that stay on chip; they run before the first tile and belong to none."""
    found = []
    for weight in schedule.preloaded:
        name = f"preload_{weight.name}"
        executions = weight.box.set_tuple_name(name)
        element = executions.identity().set_tuple_name(isl.dim_type.out, weight.name)
        anywhere = nowhere_tile(schedule, element)
        touches = (Touch("x", weight, "offchip", False, anywhere), Touch("acc", weight, "chip", True, anywhere))
        dims = tuple(f"a{d}" for d in range(len(weight.shape)))
        time = executions.identity().reset_tuple_id(isl.dim_type.out)
        found.append(Step(name, "load", None, None, dims, executions, time, touches))
    return tuple(found)


def nowhere_tile(schedule: Schedule, element: isl.Map) -> isl.Map:
    """`{ S[i] -> A[a] }` to `{ S[i] -> [tile[0] -> A[a]] }`: weights kept on chip have the same cells in every tile."""
    tile = isl.Set.universe(schedule.tiling.space)
    for d in range(len(schedule.tiling.dims)):
        tile = tile.fix_val(isl.dim_type.set, d, isl.Val(0))
    return isl.Map.from_domain_and_range(element.domain(), tile).range_product(element)


def layer_steps(schedule: Schedule, layer: Layer, stage: int) -> Iterator[Step]:
    """The statements of a layer, at every tile at which its points are executed."""
    tiles_of_points = schedule.executions(layer)
    for k, statement in enumerate(layer.statements):
        if statement.name in schedule.times:
            for name, inside in copies_inside(schedule, statement.name):
                executions = inside.domain().set_tuple_name(name)
                time = given_time(schedule, inside.set_tuple_name(isl.dim_type.in_, name), stage)
                yield layer_step(schedule, layer, statement, executions, time)
            continue
        points = layer.instances_of_points(statement).reverse().intersect_domain(statement.domain)
        executions = flat_executions(points.apply_range(tiles_of_points), statement.name)
        check_reductions(layer, statement)
        time = step_time(schedule, executions, stage, layer.rank, k, layer.recurs)
        yield layer_step(schedule, layer, statement, executions, time)


def layer_step(schedule: Schedule, layer: Layer, statement: Statement, executions: isl.Set, time: isl.Map) -> Step:
    """The executions of a statement with what they read and write."""
    points = layer.instances_of_points(statement).reverse().intersect_domain(statement.domain)
    touches = [
        Touch(operand, access.tensor, "chip", False, touched(executions, schedule, access.relation))
        for operand, access in statement.operands.items()
    ]
    out = touched(executions, schedule, points.apply_range(layer.makes))
    if statement.accumulates:
        touches.append(Touch("acc", layer.output, "chip", False, out))
    touches.append(Touch("acc", layer.output, "chip", True, out))
    name = str(executions.get_tuple_name())
    return Step(name, "make", layer, statement, statement.dims, executions, time, tuple(touches))


def copies_inside(schedule: Schedule, statement: str) -> Iterator[tuple[str, isl.Map]]:
    """The singular copies of a statement's given times, `{ [t, p, r] -> [time] }`, and a name for each.

    Errors: TooComplex above MOST_INSIDE copies.
    """
    rest, number = inside_tile(schedule.times[statement], len(schedule.tiling.dims)), 0
    while number == 0 or not rest.is_empty():
        if number > MOST_INSIDE:
            raise TooComplex(f"statement {statement}: an instance runs more than {MOST_INSIDE} times in one tile")
        first = rest if rest.is_single_valued() else coalesced(rest.lexmin())
        yield (statement if number == 0 else f"{statement}__{number}"), first
        rest, number = coalesced(rest.subtract(first)), number + 1


def inside_tile(times: isl.Map, coordinates: int) -> isl.Map:
    """`{ S[i] -> [t, time] }` to `{ [t, i] -> [time] }`."""
    plain = times.reset_tuple_id(isl.dim_type.in_) if times.has_tuple_id(isl.dim_type.in_) else times
    return plain.move_dims(isl.dim_type.in_, 0, isl.dim_type.out, 0, coordinates)


def given_time(schedule: Schedule, inside: isl.Map, stage: int) -> isl.Map:
    """`{ step[t, i] -> [time] }` to `{ step[t, i] -> [tile time, stage, time] }`, with zeros behind."""
    dims = inside.dim(isl.dim_type.in_) - len(schedule.tiling.dims)
    order = schedule.tile_to_time.reset_tuple_id(isl.dim_type.in_).add_dims(isl.dim_type.in_, dims)
    coordinates, length = order.dim(isl.dim_type.out), inside.dim(isl.dim_type.out)
    time = order.set_tuple_name(isl.dim_type.in_, inside.get_tuple_name(isl.dim_type.in_))
    time = time.add_dims(isl.dim_type.out, 1).fix_val(isl.dim_type.out, coordinates, isl.Val(stage))
    time = time.flat_range_product(inside)
    width = coordinates + 1 + length_inside(schedule)
    for d in range(coordinates + 1 + length, width):
        time = time.add_dims(isl.dim_type.out, 1).fix_val(isl.dim_type.out, d, isl.Val(0))
    return time


def check_reductions(layer: Layer, statement: Statement) -> None:
    """Refuse a statement whose reduction indices do not fit into a time: its executions would have equal times.

    Errors: InvalidInput.
    """
    reductions = len(statement.dims) - layer.rank
    if reductions > REDUCTION_DIMS:
        raise InvalidInput(
            f"layer {layer.name!r}: statement {statement.name} reduces over {reductions} indices, expected at most "
            f"{REDUCTION_DIMS}; split the layer"
        )


def copy_step(schedule: Schedule, flow: Flow, action: Action, moments: isl.Map, stage: int) -> Step:
    """The copy of one tensor between off-chip memory, or the memory that retains it, and its buffer."""
    tensor, name = flow.tensor, f"{action}_{flow.tensor.name}"
    executions = flat_executions(moments, name)
    element = touched(executions, schedule, isl.Map.identity(tensor.box.get_space().map_from_set()))
    given = flow.role != "made" or tensor in schedule.network.outputs
    far = OFF_CHIP if given else stored_in(flow.places) or OFF_CHIP
    source, target = (far, BUFFER) if action == "load" else (BUFFER, far)
    touches = (Touch("x", tensor, source, False, element), Touch("acc", tensor, target, True, element))
    dims = tuple(f"a{d}" for d in range(len(tensor.shape)))
    time = step_time(schedule, executions, stage, len(tensor.shape), 0)
    return Step(name, action, None, None, dims, executions, time, touches)


def flat_executions(moments: isl.Map, name: str) -> isl.Set:
    """`{ S[i] -> tile[t] }` to `{ name[t, i] }`."""
    return coalesced(moments.reverse().wrap().flatten().set_tuple_name(name))


def touched(executions: isl.Set, schedule: Schedule, element: isl.Map) -> isl.Map:
    """`{ S[i] -> A[a] }` to `{ step[t, i] -> [tile[t] -> A[a]] }` on the executions."""
    same_tile = isl.Map.identity(schedule.tiling.space.map_from_set())
    pairs = same_tile.product(element).flatten_domain()
    return pairs.set_tuple_name(isl.dim_type.in_, executions.get_tuple_name()).intersect_domain(executions)


def step_time(schedule: Schedule, executions: isl.Set, stage: int, rank: int, k: int, recurs: bool = False) -> isl.Map:
    """`{ step[t, p, r] -> [tile time, stage, p (rows first), k, r, last p] }`, padded to REDUCTION_DIMS.

    Rows run outside of channels and the last axis of the image innermost, so that the innermost loop has stride one.
    `p` is padded to the largest rank of the group, so that the times of all its steps can be compared. The points of a
    layer that `recurs` run in lexicographic order: `[tile time, stage, p, k, r]`, as long as the other.
    """
    coordinates = len(schedule.tiling.dims)
    time = schedule.tile_to_time.reset_tuple_id(isl.dim_type.in_)
    time = time.add_dims(isl.dim_type.in_, executions.dim(isl.dim_type.set) - coordinates)
    point = [coordinates + d for d in (range(rank) if recurs or rank != 4 else (0, 2, 1, 3))]
    reduction = range(coordinates + rank, time.dim(isl.dim_type.in_))
    padding = [None] * (point_dims(schedule) - rank), [None] * (REDUCTION_DIMS - len(reduction))
    outer: list[int | None] = [*point[:-1], *padding[0]]
    last = point[-1]
    order = [*outer, last, -1, *reduction, *padding[1]] if recurs else [*outer, -1, *reduction, *padding[1], last]
    fixed = time.dim(isl.dim_type.out)
    time = time.add_dims(isl.dim_type.out, 1 + len(order)).fix_val(isl.dim_type.out, fixed, isl.Val(stage))
    for position, d in enumerate(order, fixed + 1):
        if d is None or d < 0:
            time = time.fix_val(isl.dim_type.out, position, isl.Val(0 if d is None else k))
        else:
            time = time.equate(isl.dim_type.out, position, isl.dim_type.in_, d)
    return time.set_tuple_name(isl.dim_type.in_, executions.get_tuple_name()).intersect_domain(executions)


def point_dims(schedule: Schedule) -> int:
    """The number of indices of a point in a time: the largest rank of the group's tensors.

    Times that were given may be longer; others have zeros there.
    """
    lengths = (times.dim(isl.dim_type.out) - len(schedule.tiling.dims) for times in schedule.times.values())
    return max(
        max(lengths, default=0) - 1 - REDUCTION_DIMS, *(len(flow.tensor.shape) for flow in schedule.flows.values())
    )


def length_inside(schedule: Schedule) -> int:
    """The dimensions of a time behind those of the tile and the stage."""
    return point_dims(schedule) + 1 + REDUCTION_DIMS


def time_names(schedule: Schedule) -> tuple[str, ...]:
    """A name for each dimension of a time: what the generated loops are called, none like a tensor of the group."""
    rank = point_dims(schedule)
    tile_times = schedule.tile_to_time.dim(isl.dim_type.out)
    tiles = tuple(dim.name for dim in schedule.tiling.dims)
    tiles = tiles if len(tiles) == tile_times else tuple(f"t{d}" for d in range(tile_times))
    points = ("n", "h", "c", "w") if rank == 4 else tuple(f"i{d}" for d in range(rank))
    names = (*tiles, "stage", *points[:-1], "step", *(f"r{d}" for d in range(REDUCTION_DIMS)), points[-1])
    if schedule.times:
        names = (*tiles, "stage", *(f"t{len(tiles) + d}" for d in range(length_inside(schedule))))
    tensors = {*schedule.flows, *(weight.name for layer in schedule.network.layers for weight in layer.weights)}
    return tuple(distinct_name(f"{name}_loop", tensors) if name in tensors else name for name in names)
