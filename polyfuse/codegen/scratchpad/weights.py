"""Where the weights and sums of operations are while a group runs, and when they arrive.

Weights stay for the whole group; or, where steps work on blocks of output channels, come with each block; or they are
streamed: loaded again in every step, block by block, the next one while one computes.
"""

from collections.abc import Sequence

import numpy as np

from polyfuse.codegen.c.text import braces, fold
from polyfuse.codegen.scratchpad.compute import ComputeFunction
from polyfuse.codegen.scratchpad.group import GroupInPlace, Integers
from polyfuse.codegen.scratchpad.runtime import unit_at
from polyfuse.errors import InvalidInput
from polyfuse.plan.memory.addresses import Allocation
from polyfuse.plan.tiles.measures import SUM_BYTES


def constants(kind: str, name: str, values: Integers) -> list[str]:
    """A table with a row for each step."""
    rows = values.tolist()
    if values.ndim == 1:
        text, inner = ", ".join(map(str, rows)), ""
    else:
        text, inner = ", ".join(f"{{{','.join(map(str, row))}}}" for row in rows), f"[{values.shape[1]}]"
    inner = "" if kind in ("box", "origin") else inner
    return [f"static const {kind} {name}[{len(rows)}]{inner} = {{", *fold(text, "  ", "  ", 106), "};"]


def channels_of(group: GroupInPlace, name: str) -> list[str]:
    """The output channels that one call of an operation makes, from and to, as C."""
    function = group.functions[name]
    if name in group.streams:
        return ["channel", "channel_1"]
    if group.has_blocks:
        return [f"channels_{function.operation.output}[step][{k}]" for k in (0, 1)]
    return ["0", str(function.channels)]


def weights(group: GroupInPlace, name: str) -> list[str]:
    """The arguments that say which weights are where: the buffer, how far in, where they come from, which channels."""
    function = group.functions[name]
    if not function.weights:
        return []
    address = -1 if group.machine.weights_in_place else group.buffers[f"weights_{name}"].address
    image, channels = group.image_at[name], channels_of(group, name)
    if name in group.streams:
        return [str(address), "at", f"{image} + channel * {function.block_bytes(1)}LL", *channels]
    if group.has_blocks:
        return [str(address), slot(group, name, "step"), image_of(group, name, "step"), *channels]
    return [str(address), "0", str(image), *channels]


def slot(group: GroupInPlace, name: str, step: str) -> str:
    """How far into its buffer the block of weights of a step is: every other one is in the second half, if any."""
    largest = group.functions[name].block_bytes(group.tables.tile.channels)
    return f"slot[{step}] * {largest}" if group.placed.double_buffer else "0"


def image_of(group: GroupInPlace, name: str, step: str) -> str:
    """Where the block of weights of a step comes from: blocks follow each other."""
    size = group.functions[name].block_bytes(group.tables.tile.channels)
    return f"{group.image_at[name]} + block[{step}] * {size}LL"


def block_loads(group: GroupInPlace, step: str) -> list[str]:
    """The load of the weights of a block of output channels, in its first step."""
    lines = []
    for name, function in group.functions.items():
        if group.has_blocks and function.weights and not group.machine.weights_in_place:
            first, end = (f"channels_{function.operation.output}[{step}][{k}]" for k in (0, 1))
            address = f"{group.buffers[f'weights_{name}'].address} + {slot(group, name, step)}"
            load = weights_load(address, image_of(group, name, step), function.block_text(f"({end} - {first})"))
            lines += [f"if (arrives[{step}])", f"  loading = {load};"]
    return lines


def blockwise(group: GroupInPlace, name: str, call: Sequence[str]) -> list[str]:
    """A call for every block of weights, where they are streamed."""
    if name not in group.streams:
        return list(call)
    channels, block = group.functions[name].channels, group.streams[name].block
    body = [
        f"channel_1 = min(channel + {block}, {channels});",
        f"const int at = next_block(&blocks, {int(group.placed.double_buffer)});",
        *call,
        *(["dma_wait(blocks.ticket[0]);"] if group.placed.double_buffer else []),
    ]
    return braces(f"for (int channel = 0, channel_1; channel < {channels}; channel = channel_1)", body)


def streams(group: GroupInPlace) -> list[str]:
    """The blocks of weights that are loaded again in every step, in the order in which they are needed."""
    if not group.streams:
        return []
    runs = sorted((step, k) for k, each in enumerate(group.streams.values()) for step in np.unique(each.steps))
    rows = []
    for name, each in group.streams.items():
        size, image = group.functions[name].block_bytes(1), group.image_at[name]
        numbers = (each.place.address, each.channels, each.block, size, each.slots, 0, image)
        rows.append(f"{{{', '.join(map(str, numbers))}}}")
    return [
        *constants("short", "runs", np.array([k for _, k in runs] or [0], np.int64)),
        f"weights_of streamed[] = {{{', '.join(rows)}}};",
        f"stream blocks = {{.of = streamed, .order = runs, .runs = {len(runs)}}};",
        *(["start_block(&blocks);", "dma_wait(blocks.ticket[0]);"] if group.placed.double_buffer else []),
    ]


def second_block(group: GroupInPlace) -> list[str]:
    """What starts the second block of weights in a step that begins with the first one, before other transfers."""
    (first, *_) = group.functions
    output = group.functions[first].operation.output
    return [f"if (!is_empty(new_{output}[step])) start_block(&blocks);"] if first in group.streams else []


def resident(group: GroupInPlace) -> list[str]:
    """The loads of weights that stay for the whole group and are not there yet."""
    if group.has_blocks or group.machine.weights_in_place:
        return []
    every = (name for name, function in group.functions.items() if function.weights and name not in group.streams)
    return [f"loading = {whole_load(group, name)};" for name in every if name not in group.early]


def whole_load(group: GroupInPlace, name: str) -> str:
    """The transfer of all weights of an operation."""
    function, address = group.functions[name], group.buffers[f"weights_{name}"].address
    return weights_load(str(address), str(group.image_at[name]), str(function.block_bytes(function.channels)))


def weights_load(address: str, at: str, size: str) -> str:
    """A transfer of a block of weights."""
    return f"dma_load({address}, 0, {at}, (dma_box){{1, 1, {size}, 0, 0, 0, 0}})"


def scratch(group: GroupInPlace, function: ComputeFunction) -> str:
    """Where the sums of an operation are: in the arena, or in the unit's own memory behind it; -1 for neither.

    Sums that last from step to step come first, one after the other; behind them is room for lines of sums of all
    others, if their elements are narrower than sums. What is elementwise has no sums.
    Errors: InvalidInput for sums that last and have no room.
    """
    room, operation = group.buffers.get("scratch"), function.operation
    if group.machine.accumulator_bytes:
        room = Allocation(unit_at(group.machine), group.machine.accumulator_bytes)
    if room is None and function.accumulates:
        raise InvalidInput(
            f"group {group.number}: expected a buffer 'scratch' for sums of {operation.name!r}, found none; add it"
        )
    narrow = group.graph.tensors[operation.output].element_bytes < SUM_BYTES
    if room is None or not (function.accumulates or (narrow and operation.cls != "elementwise")):
        return "-1"
    lasting = [other for other in group.functions.values() if other.accumulates]
    before = lasting[: lasting.index(function)] if function.accumulates else lasting
    return str(room.address + sum(sums_bytes(group, other) for other in before))


def sums_bytes(group: GroupInPlace, function: ComputeFunction) -> int:
    """The bytes of the sums of an operation that accumulates: one for each channel of a block."""
    channels = group.tables.of[function.operation.output].channels
    return SUM_BYTES * int((channels[:, 1] - channels[:, 0]).max(initial=0))
