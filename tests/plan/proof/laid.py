"""Groups in rings of the windows that their tables give: what a plan would make of them."""

from collections.abc import Sequence

from polyfuse.plan.graph.operations import Graph
from polyfuse.plan.memory.addresses import Allocation
from polyfuse.plan.proof.placed import PlacedGroup, ring_place, whole_place
from polyfuse.plan.tiles.tables import Tables


def laid(graph: Graph, found: Tables, *, double_buffer: bool, whole: Sequence[str] = ()) -> PlacedGroup:
    """A group whose inputs are loaded step by step and outputs stored step by step, but for those that are `whole`."""
    group, places = found.group, {}
    for name, table in found.of.items():
        info = graph.tensors[name]
        if name in whole:
            places[name] = whole_place(info, Allocation(0, info.bytes), found.image)
            continue
        rows, columns = table.window(
            ahead=double_buffer and name in group.inputs, behind=double_buffer and name in group.outputs
        )
        held = int((table.channels[:, 1] - table.channels[:, 0]).max(initial=0))
        places[name] = ring_place(info, Allocation(0, rows * columns * held * info.element_bytes), table)
    return PlacedGroup(
        "group",
        graph,
        group.operations,
        found,
        places,
        tuple(name for name in group.inputs if name not in whole),
        group.outputs,
        tuple(name for name in group.outputs if name in whole),
        double_buffer,
    )
