"""Plans made by hand for tests: groups in order, which tensors stay on chip, and buffers one after the other."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from polyfuse.codegen.scratchpad.compute import compute_function
from polyfuse.codegen.scratchpad.program import ScratchProgram, program_of, tensor_numbers, weight_image
from polyfuse.codegen.scratchpad.steps import GroupInPlace, Room
from polyfuse.codegen.scratchpad.storing import Storing
from polyfuse.plan.accelerator import Accelerator
from polyfuse.plan.addresses import aligned_up
from polyfuse.plan.operations import Graph
from polyfuse.plan.tiles import Tile, tables

Edit = Callable[[Room, Mapping[str, Room]], Room]
"""A buffer, and all buffers of its group, to another buffer."""


def placed(
    graph: Graph,
    machine: Accelerator,
    groups: Sequence[tuple[Sequence[str], Tile]],
    pinned: Sequence[str] = (),
    both: Sequence[str] = (),
    dtype: str | None = None,
    edited: Mapping[str, Edit] | None = None,
) -> ScratchProgram:
    """The program of groups; tensors of `pinned` stay on chip whole, those of `both` are stored, too.

    `edited` changes buffers by name after they were laid out.
    """
    storing = Storing.of(graph.network, dtype)
    found = [tables(graph, names, tile) for names, tile in groups]
    functions = {}
    for each in found:
        for operation in each.group.operations:
            number = graph.operations.index(operation)
            rate = machine.rate(operation.cls, graph.tensors[operation.output].dtype)
            functions[operation.name] = compute_function(
                operation, number, storing, rate, machine.lanes, each.group.accumulates(operation)
            )
    blocks = {names[0]: tile.channels for names, tile in groups if tile.channels}
    image_at, image = weight_image(graph, storing, functions, blocks)
    free = 0
    whole: dict[str, int] = {}
    for name in pinned:
        whole[name] = free
        free += aligned_up(graph.tensors[name].bytes, machine.alignment_bytes)
    start, made = free, []
    for number, each in enumerate(found):
        free, rooms = start, {}
        group = each.group
        loaded = tuple(name for name in group.inputs if name not in whole)
        stored = tuple(name for name in group.outputs if name not in whole or name in both)
        sizes = {}
        for name in each.of:
            if name not in whole:
                info = graph.tensors[name]
                window = each.of[name].window(
                    ahead=machine.double_buffer and name in loaded, behind=machine.double_buffer and name in stored
                )
                channels = int(np.diff(each.of[name].channels, axis=1).max())
                sizes[f"ring_{name}"] = channels * window[0] * window[1] * info.element_bytes
        for operation in group.operations:
            function = functions[operation.name]
            if function.weights:
                block = function.block_bytes(each.tile.channels or function.channels)
                several = machine.double_buffer and 0 < each.tile.channels < function.channels
                sizes[f"weights_{operation.name}"] = block + several * aligned_up(block, machine.alignment_bytes)
        lasting = [functions[o.name].sums_bytes for o in group.operations if functions[o.name].accumulates]
        lines = [functions[o.name].sums_bytes for o in group.operations if not functions[o.name].accumulates]
        sizes["scratch"] = sum(aligned_up(size, machine.alignment_bytes) for size in lasting) + max(lines, default=0)
        for name, size in sizes.items():
            rooms[name] = Room(free, size)
            free += aligned_up(size, machine.alignment_bytes)
        rooms |= {name: edit(rooms[name], rooms) for name, edit in (edited or {}).items() if name in rooms}
        names = [o.name for o in group.operations]
        touched = {n for o in group.operations for n in (*o.reads, o.output)}
        made.append(
            GroupInPlace(
                number=number,
                graph=graph,
                functions={name: functions[name] for name in names},
                numbers=tensor_numbers(graph),
                tables=each,
                buffers=rooms,
                pinned={name: at for name, at in whole.items() if name in touched},
                preloaded=(),
                loaded=loaded,
                stored=stored,
                image_at=image_at,
                double_buffer=machine.double_buffer,
                alignment=machine.alignment_bytes,
            )
        )
    return program_of(graph, machine, storing, made, image)
