"""Plans made by hand for tests: groups in order, which tensors stay on chip, and buffers one after the other."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from polyfuse.codegen.scratchpad.compute import compute_function
from polyfuse.codegen.scratchpad.group import GroupInPlace
from polyfuse.codegen.scratchpad.planned import rate_of
from polyfuse.codegen.scratchpad.program import ScratchProgram, program_of, weight_image
from polyfuse.codegen.scratchpad.storing import Storing
from polyfuse.machines.accelerator import Accelerator
from polyfuse.plan.graph.operations import Graph
from polyfuse.plan.memory.addresses import Allocation, aligned_up
from polyfuse.plan.price.costs import block_channels, streamed
from polyfuse.plan.price.options import Option, option_of
from polyfuse.plan.proof.placed import PlacedGroup, placed_weights, ring_place, whole_place
from polyfuse.plan.tiles.tables import Tile, tables

Edit = Callable[[Allocation, Mapping[str, Allocation]], Allocation]
"""A buffer, and all buffers of its group, to another buffer."""


@dataclass(frozen=True, eq=False)
class Placed:
    """A program, what its groups are priced at, and the groups in their places."""

    program: ScratchProgram
    options: tuple[Option, ...]
    groups: tuple[PlacedGroup, ...]

    @property
    def cycles(self) -> float:
        """The latency that the price model gives."""
        return sum(option.cycles for option in self.options)


def placed(
    graph: Graph,
    machine: Accelerator,
    groups: Sequence[tuple[Sequence[str], Tile]],
    pinned: Sequence[str] = (),
    both: Sequence[str] = (),
    dtype: str | None = None,
    edited: Mapping[str, Edit] | None = None,
) -> Placed:
    """The program of groups; tensors of `pinned` stay on chip whole, those of `both` are stored, too.

    `edited` changes buffers by name after they were laid out.
    """
    storing = Storing.of(graph.network, dtype)
    found = [tables(graph, names, tile) for names, tile in groups]
    functions = {}
    blocks = {names[0]: tile.channels for names, tile in groups if tile.channels}
    for each in found:
        for operation in each.group.operations:
            number = graph.operations.index(operation)
            rate = rate_of(operation, graph, each.tile, machine)
            functions[operation.name] = compute_function(
                operation, number, storing, rate, machine.lanes, each.group.accumulates(operation)
            )
        blocks |= {o.name: block_channels(graph, o, machine) for o in streamed(each.group, each.tile, machine)}
    image_at, image = weight_image(graph, storing, functions, blocks)
    whole: dict[str, int] = {}
    start = 0
    for name in pinned:
        whole[name] = start
        start += aligned_up(graph.tensors[name].bytes, machine.alignment_bytes)
    made, options, laid_groups = [], [], []
    for number, each in enumerate(found):
        group = each.group
        names = [operation.name for operation in group.operations]
        sources = {name: "on" if name in whole else "off" for name in group.inputs}
        sinks = {n: "both" if n in both else "on" if n in whole else "off" for n in group.outputs}
        option = option_of(graph, names, each.tile, sources, sinks, machine)  # type: ignore[arg-type]
        options.append(option)
        free, rooms = start, {}
        for name, size in option.workspace.items():
            rooms[name] = Allocation(free, size)
            free += aligned_up(size, machine.alignment_bytes)
        rooms |= {name: edit(rooms[name], rooms) for name, edit in (edited or {}).items() if name in rooms}
        places = {
            name: whole_place(graph.tensors[name], Allocation(whole[name], graph.tensors[name].bytes), each.image)
            if name in whole
            else ring_place(graph.tensors[name], rooms[f"ring_{name}"], each.of[name])
            for name in group.links
        }
        laid = PlacedGroup(
            f"group {number}",
            graph,
            group.operations,
            each,
            places,
            tuple(name for name, source in sources.items() if source == "off"),
            tuple(name for name, sink in sinks.items() if sink != "on"),
            tuple(name for name, sink in sinks.items() if sink != "off"),
            machine.double_buffer,
            placed_weights(f"group {number}", rooms, each, machine),
        )
        laid_groups.append(laid)
        made.append(
            GroupInPlace(
                number=number,
                graph=graph,
                functions={name: functions[name] for name in names},
                machine=machine,
                placed=laid,
                buffers=rooms,
                pinned={name: whole[name] for name in group.links if name in whole},
                preloaded=(),
                image_at=image_at,
            )
        )
    return Placed(program_of(graph, machine, storing, made, image), tuple(options), tuple(laid_groups))
