"""From a plan file to a program: which buffers, pins and transfers each group has.

ScratchPlan + Graph ──scratch_program()──> ScratchProgram;  build_scratchpad() builds it, too
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from polyfuse.codegen.build import Options
from polyfuse.codegen.scratchpad.compute import ComputeFunction, compute_function
from polyfuse.codegen.scratchpad.group import GroupInPlace
from polyfuse.codegen.scratchpad.kernel import ScratchKernel, build_program
from polyfuse.codegen.scratchpad.program import ScratchProgram, program_of, weight_image
from polyfuse.codegen.scratchpad.storing import Storing
from polyfuse.codegen.scratchpad.weights import whole_load
from polyfuse.errors import InvalidInput
from polyfuse.machines.accelerator import Accelerator
from polyfuse.plan.graph.operations import Graph, Operation
from polyfuse.plan.memory.addresses import aligned_up
from polyfuse.plan.proof.placed import is_whole, placed_group
from polyfuse.plan.proof.prove import prove_groups
from polyfuse.plan.scratchplan import PlannedGroup, ScratchPlan
from polyfuse.plan.tiles.measures import SUM_BYTES
from polyfuse.plan.tiles.tables import Tables, Tile


def build_scratchpad(
    plan: ScratchPlan, graph: Graph, options: Options | None = None, *, proved: bool = True
) -> ScratchKernel:
    """The plan of a graph as C, compiled with the simulator of its machine; called with the inputs by name.

    Errors: as `scratch_program`; BuildError.

    >>> from polyfuse.network.network import Builder
    >>> from polyfuse.network.reference import random_inputs
    >>> from polyfuse.machines.accelerator import accelerator
    >>> from polyfuse.plan.graph.operations import graph_of
    >>> from polyfuse.plan.planning import plan_for
    >>> build = Builder("two")
    >>> y = build.conv("b", build.conv("a", build.input("x", (1, 8, 16, 16)), 8, kernel=3), 8, kernel=3)
    >>> graph = graph_of(build.network(y), "int8")
    >>> plan = plan_for(graph, accelerator("npu").with_capacity(8192))
    >>> outputs, taken = build_scratchpad(plan, graph)(**random_inputs(graph.network, 0))
    >>> taken.offchip_bytes == plan.totals.offchip_bytes.all
    True
    """
    return build_program(scratch_program(plan, graph, proved=proved), options)


def scratch_program(plan: ScratchPlan, graph: Graph, *, proved: bool = True) -> ScratchProgram:
    """The C of a plan, with the image of its weights.

    What steps do is proved before (`polyfuse.plan.proof.prove`), that buffers do not overlap is left to
    `polyfuse.plan.checking`. With `proved=False` the C does what the plan says, legal or not, and the simulator says
    what is wrong with it.

    Errors: InvalidInput for a plan of other operations, tensors or types, without buffers that it needs, and with sums
    at an address that is no multiple of their size; IllegalSchedule with a witness for steps that go wrong.
    """
    storing = storing_of(plan, graph)
    placed = [placed_group(plan, number, graph) for number in range(len(plan.groups))]
    if proved:
        prove_groups(placed)
    cut = [each.tables for each in placed]
    functions = {f.operation.name: f for each in cut for f in functions_of(each, storing, plan.machine)}
    if missing := sorted(set(graph.by_name) - set(functions)):
        raise InvalidInput(f"plan of {plan.network!r}: expected every operation in a group, {missing[0]!r} is in none")
    blocks = {group.operations[0]: group.tile.channels for group in plan.groups if group.tile.channels}
    blocks |= {weights.operation: weights.block for at in placed for weights in at.weights.values() if weights.block}
    image_at, weights = weight_image(graph, storing, functions, blocks)
    groups = []
    for number, (group, at) in enumerate(zip(plan.groups, placed, strict=True)):
        names = [operation.name for operation in at.operations]
        pinned = {pin.tensor: pin.address for pin in plan.pins if pin.first <= number <= pin.last}
        check_sums(number, group)
        groups.append(
            GroupInPlace(
                number=number,
                graph=graph,
                functions={name: functions[name] for name in names},
                machine=plan.machine,
                placed=at,
                buffers=group.buffers,
                pinned={name: address for name, address in pinned.items() if is_whole(group, name)},
                preloaded=group.fetched,
                image_at=image_at,
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


def check_sums(number: int, group: PlannedGroup) -> None:
    """Refuse a group that has sums where none can be.

    Errors: InvalidInput.
    """
    sums = group.buffers.get("scratch")
    if sums is not None and sums.address % SUM_BYTES:
        raise InvalidInput(
            f"group {number} ({group.names}): expected sums at a multiple of {SUM_BYTES} bytes, got address "
            f"{sums.address}; move them, or give the machine alignment_bytes that is a multiple of {SUM_BYTES}"
        )
