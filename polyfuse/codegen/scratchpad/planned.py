"""From a plan file to a program: which buffers, pins and transfers each group has.

ScratchPlan + Graph ──scratch_program()──> ScratchProgram;  build_scratchpad() builds it, too
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from polyfuse.codegen.build import Options
from polyfuse.codegen.scratchpad.compute import ComputeFunction, compute_function
from polyfuse.codegen.scratchpad.group import GroupInPlace, Room
from polyfuse.codegen.scratchpad.kernel import ScratchKernel, build_program
from polyfuse.codegen.scratchpad.program import ScratchProgram, program_of, tensor_numbers, weight_image
from polyfuse.codegen.scratchpad.storing import Storing
from polyfuse.codegen.scratchpad.weights import whole_load
from polyfuse.errors import InvalidInput
from polyfuse.plan.accelerator import Accelerator
from polyfuse.plan.addresses import aligned_up
from polyfuse.plan.measures import SUM_BYTES
from polyfuse.plan.operations import Graph, Operation
from polyfuse.plan.pricing import block_channels, streamed
from polyfuse.plan.scratchplan import PlannedGroup, ScratchPlan
from polyfuse.plan.tiles import Tables, Tile, tables


def build_scratchpad(plan: ScratchPlan, graph: Graph, options: Options | None = None) -> ScratchKernel:
    """The plan of a graph as C, compiled with the simulator of its machine; called with the inputs by name.

    It does what the plan says, legal or not: `polyfuse.plan.checking` says beforehand what the simulator would find.
    Errors: InvalidInput for a plan of other operations, tensors or types, or without buffers that it needs; BuildError.

    >>> from polyfuse.network.network import Builder
    >>> from polyfuse.network.reference import random_inputs
    >>> from polyfuse.plan.accelerator import accelerator
    >>> from polyfuse.plan.operations import graph_of
    >>> from polyfuse.plan.planning import plan_for
    >>> build = Builder("two")
    >>> y = build.conv("b", build.conv("a", build.input("x", (1, 8, 16, 16)), 8, kernel=3), 8, kernel=3)
    >>> graph = graph_of(build.network(y), "int8")
    >>> plan = plan_for(graph, accelerator("npu").with_capacity(8192))
    >>> outputs, taken = build_scratchpad(plan, graph)(**random_inputs(graph.network, 0))
    >>> taken.offchip_bytes == plan.totals.offchip_bytes.all
    True
    """
    return build_program(scratch_program(plan, graph), options)


def scratch_program(plan: ScratchPlan, graph: Graph) -> ScratchProgram:
    """The C of a plan, with the image of its weights.

    Errors: InvalidInput for a plan of other operations, tensors or types, without buffers that it needs, and with
    sums at an address that is no multiple of their size.
    """
    storing = storing_of(plan, graph)
    cut = [tables(graph, group.operations, group.tile.tile) for group in plan.groups]
    functions = {f.operation.name: f for each in cut for f in functions_of(each, storing, plan.machine)}
    if missing := sorted(set(graph.by_name) - set(functions)):
        raise InvalidInput(f"plan of {plan.network!r}: expected every operation in a group, {missing[0]!r} is in none")
    blocks = {group.operations[0]: group.tile.channels for group in plan.groups if group.tile.channels}
    for each in cut:
        blocks |= streams_of(each, plan.machine)
    image_at, weights = weight_image(graph, storing, functions, blocks)
    groups = []
    for number, (group, each) in enumerate(zip(plan.groups, cut, strict=True)):
        names = [operation.name for operation in each.group.operations]
        pinned = {pin.tensor: pin.address for pin in plan.pins if pin.first <= number <= pin.last}
        check_buffers(number, group, each, functions, pinned, plan.machine.weights_in_place)
        groups.append(
            GroupInPlace(
                number=number,
                graph=graph,
                functions={name: functions[name] for name in names},
                numbers=tensor_numbers(graph),
                tables=each,
                buffers={name: Room(buffer.address, buffer.bytes) for name, buffer in group.buffers.items()},
                pinned={name: address for name, address in pinned.items() if is_whole(group, name)},
                preloaded=group.fetched,
                loaded=tuple(name for name, source in group.sources.items() if source == "off"),
                stored=tuple(name for name, sink in group.sinks.items() if sink != "on"),
                image_at=image_at,
                double_buffer=plan.machine.double_buffer,
                in_place=plan.machine.weights_in_place,
                streams=streams_of(each, plan.machine),
                arena_bytes=plan.machine.capacity_bytes,
                unit_bytes=plan.machine.accumulator_bytes,
                early=frozenset(group.early),
            )
        )
    early = [loads_in(group.early, each) for group, each in zip(plan.groups, groups, strict=True)]
    with_next = [replace(each, following=loads) for each, loads in zip(groups, (*early[1:], {}), strict=True)]
    return program_of(graph, plan.machine, storing, with_next, weights)


def loads_in(early: Mapping[str, int], group: GroupInPlace) -> dict[int, tuple[str, ...]]:
    """The transfers of weights that arrive early, for each step of the group before in which some start."""
    found: dict[int, tuple[str, ...]] = {}
    for name, step in early.items():
        found[step] = (*found.get(step, ()), whole_load(group, name))
    return found


def storing_of(plan: ScratchPlan, graph: Graph) -> Storing:
    """How a plan stores elements: in the types of the network, or priced as another one."""
    (first, *_) = graph.operations
    own, priced = first.layer.output.element_bytes, graph.tensors[first.output].element_bytes
    return Storing.of(graph.network, plan.dtype if own != priced else None)


def functions_of(cut: Tables, storing: Storing, machine: Accelerator) -> Iterator[ComputeFunction]:
    """The functions of the operations of a group."""
    graph = cut.group.graph
    for operation in cut.group.operations:
        number, rate = graph.operations.index(operation), rate_of(operation, graph, cut.tile, machine)
        yield compute_function(operation, number, storing, rate, machine.lanes, cut.group.accumulates(operation))


def rate_of(operation: Operation, graph: Graph, tile: Tile, machine: Accelerator) -> float:
    """What an operation does in a cycle; blocks of output channels that do not fill the lanes leave some idle."""
    rate = machine.rate(operation.cls, graph.tensors[operation.output].dtype)
    if not tile.channels or not operation.layer.macs:
        return rate
    return rate * tile.channels / aligned_up(tile.channels, machine.lanes)


def streams_of(cut: Tables, machine: Accelerator) -> dict[str, int]:
    """The operations of a group whose weights are streamed, and the output channels of their blocks."""
    group = cut.group
    if machine.weights_in_place:
        return {}
    return {
        operation.name: block_channels(group.graph, operation, machine)
        for operation in group.operations
        if streamed(group, cut.tile, operation, machine)
    }


def is_whole(group: PlannedGroup, tensor: str) -> bool:
    """Whether a group reads or makes a tensor where it is pinned."""
    return group.sources.get(tensor) == "on" or group.sinks.get(tensor) in ("on", "both")


def check_buffers(
    number: int,
    group: PlannedGroup,
    cut: Tables,
    functions: Mapping[str, ComputeFunction],
    pinned: Mapping[str, int],
    in_place: bool,
) -> None:
    """Refuse a group that lacks a pin or a buffer, has names that are not its own, or sums where none can be.

    Errors: InvalidInput.
    """
    where = f"group {number} ({group.names})"
    for what, given, wanted in (
        ("sources", group.sources, cut.group.inputs),
        ("sinks", group.sinks, cut.group.outputs),
    ):
        if set(given) != set(wanted):
            raise InvalidInput(f"{where}: expected {what} of {', '.join(wanted)}, got {', '.join(given)}; correct them")
    whole = {name for name in cut.of if is_whole(group, name)}
    if unpinned := sorted((whole | set(group.fetched)) - set(pinned)):
        raise InvalidInput(f"{where}: expected a pin of {unpinned[0]!r}, there is none; add it, or leave it off chip")
    wanted_buffers = [f"ring_{name}" for name in cut.of if name not in whole]
    if not in_place:
        wanted_buffers += [f"weights_{o.name}" for o in cut.group.operations if functions[o.name].weights]
    if lacking := [name for name in wanted_buffers if name not in group.buffers]:
        raise InvalidInput(f"{where}: expected a buffer {lacking[0]!r}, got {', '.join(group.buffers)}; add it")
    sums = group.buffers.get("scratch")
    if sums is not None and sums.address % SUM_BYTES:
        raise InvalidInput(
            f"{where}: expected sums at a multiple of {SUM_BYTES} bytes, got address {sums.address}; "
            f"move them, or give the machine alignment_bytes that is a multiple of {SUM_BYTES}"
        )
