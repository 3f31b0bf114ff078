"""A group of a plan as one C function: its steps, with transfers, waits and computations at planned addresses.

    GroupInPlace ──group_function()──> C

Where the machine double-buffers, the loads of the next step and the stores of the last one run while a step computes;
otherwise a step waits for its loads before it computes, and for its stores before the next one begins.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from textwrap import wrap as fold

import numpy as np
from numpy.typing import NDArray

from polyfuse.codegen.scratchpad.compute import ComputeFunction
from polyfuse.plan.addresses import aligned_up
from polyfuse.plan.operations import Graph, Part
from polyfuse.plan.tiles import Tables

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Room:
    """An address and the bytes that are reserved there."""

    address: int
    bytes: int


@dataclass(frozen=True, eq=False)
class GroupInPlace:
    """A group of a plan with all that its C needs.

    functions      of its operations, by name, in order
    numbers        of tensors, among all that the machine knows
    buffers        of the group by name: `ring_<tensor>`, `weights_<operation>`, `scratch`
    pinned         the address of each whole tensor that is on chip while it runs
    preloaded      those that are loaded whole before it starts
    loaded         the inputs that arrive step by step; stored: the outputs that leave step by step
    image_at       where the weights of each operation begin in the tensor of weights
    double_buffer  whether transfers run while a step computes; alignment: of buffers, in bytes
    """

    number: int
    graph: Graph
    functions: Mapping[str, ComputeFunction]
    numbers: Mapping[str, int]
    tables: Tables
    buffers: Mapping[str, Room]
    pinned: Mapping[str, int]
    preloaded: tuple[str, ...]
    loaded: tuple[str, ...]
    stored: tuple[str, ...]
    image_at: Mapping[str, int]
    double_buffer: bool
    alignment: int

    @cached_property
    def tensors(self) -> tuple[str, ...]:
        """What it touches, in order."""
        operations = [function.operation for function in self.functions.values()]
        return tuple(dict.fromkeys(name for o in operations for name in (*o.reads, o.output)))

    @cached_property
    def blocks(self) -> Integers:
        """The block of output channels of each step: (steps, 2), from and to."""
        (first, *_) = self.functions.values()
        return self.tables.of[first.operation.output].channels

    @property
    def has_blocks(self) -> bool:
        """Whether steps work on some of the output channels."""
        return self.tables.tile.channels > 0

    def place(self, tensor: str) -> "Place":
        """Where a tensor is while the group runs: whole, or in a ring."""
        info = self.graph.tensors[tensor]
        images, channels, rows, columns = info.shape
        steps = self.tables.steps
        if tensor in self.pinned:
            skip = -channels * self.tables.image if images > 1 else np.zeros(steps, np.int64)
            return Place(self.pinned[tensor], rows, columns, np.stack([0 * skip, 0 * skip, skip], axis=1))
        table, room = self.tables.of[tensor], self.buffers[f"ring_{tensor}"]
        held = int((table.channels[:, 1] - table.channels[:, 0]).max(initial=0))
        turning = room.bytes // max(1, held * table.across * info.element_bytes)
        rows, columns = (turning, table.across) if table.turning == 0 else (table.across, turning)
        sizes = np.array([[max(1, rows), max(1, columns)]])
        origins = np.concatenate([table.origin % sizes, table.channels[:, :1]], axis=1)
        return Place(room.address, int(sizes[0, 0]), int(sizes[0, 1]), origins)


@dataclass(frozen=True, eq=False)
class Place:
    """An address, the rows and columns that have room there, and the turn, shift and skip of each step."""

    address: int
    rows: int
    columns: int
    origins: Integers

    @property
    def turns(self) -> bool:
        """Whether the origins differ from step to step."""
        return bool((self.origins != self.origins[:1]).any())


def group_function(group: GroupInPlace) -> str:
    """The function of a group."""
    lines = [
        *heading(group),
        f"static void group{group.number}(void)",
        "{",
        f"  enum {{ STEPS = {group.tables.steps} }};",
        *tables_of(group),
        *views(group),
        f"  on_step({group.number}, 0);",
        *preloads(group),
        *(overlapped(group) if group.double_buffer else in_turn(group)),
        "}",
    ]
    return "\n".join(lines)


def heading(group: GroupInPlace) -> list[str]:
    """What a reader wants to know of a group."""
    tile = group.tables.tile
    lines = [f"group {group.number}: {', '.join(group.functions)}"]
    lines.append(f"  tiles of {tile}, {group.tables.steps} steps, weights {tile.weights}")
    for name, room in group.buffers.items():
        tensor = name.removeprefix("ring_")
        kept = f", {' and '.join(tile.places(tensor))}" if name != tensor else ""
        lines.append(f"  {name}: {room.bytes:,} bytes at {room.address:,}{kept}")
    for name in group.tensors:
        if name in group.pinned:
            how = ", loaded first" if name in group.preloaded else ""
            lines.append(f"  {name}: whole at {group.pinned[name]:,}{how}{', stored' if name in group.stored else ''}")
    folded = [piece for line in lines for piece in fold(line, 112, subsequent_indent="    ")]
    return ["/* " + folded[0], *(f" * {line}" for line in folded[1:]), " */"]


def tables_of(group: GroupInPlace) -> list[str]:
    """What differs from step to step: boxes that are made, loaded, stored and taken in; origins, channels, images."""
    tables, lines = group.tables, []
    made = [function.operation.output for function in group.functions.values()]
    for name in (*group.loaded, *made):
        lines += constants("box", f"new_{name}", tables.of[name].new)
    for name in group.stored:
        lines += constants("box", f"fresh_{name}", tables.of[name].fresh)
    for name, function in group.functions.items():
        if function.accumulates:
            lines += constants("box", f"taken_{name}", tables.taken_in[name])
            lines += constants("char", f"moment_{name}", moments(group, function.operation.output))
    for name in group.tensors:
        place = group.place(name)
        origins = place.origins if place.turns else place.origins[:1]
        lines += constants("origin", f"origin_{name}", origins)
    if group.has_blocks:
        for name in group.tensors:
            lines += constants("short", f"channels_{name}", tables.of[name].channels)
        if any(function.weights for function in group.functions.values()):
            lines += constants("short", "block", group.blocks[:, 0] // tables.tile.channels)
            lines += constants("char", "arrives", arrivals(group))
            lines += constants("char", "slot", (np.cumsum(arrivals(group)) - 1) % 2)
    if several_images(group):
        lines += constants("short", "image", tables.image)
    return lines


def several_images(group: GroupInPlace) -> bool:
    """Whether steps go through a batch."""
    return bool((group.tables.image > 0).any())


def arrivals(group: GroupInPlace) -> Integers:
    """For each step, 1 where the block of output channels is another one than before."""
    first = group.blocks[:, 0]
    return np.append(1, first[1:] != first[:-1])


def moments(group: GroupInPlace, output: str) -> Integers:
    """For each step, 1 where sums start, plus 2 where they are done."""
    image, first = group.tables.image, group.blocks[:, 0]
    starts = np.append(True, (image[1:] != image[:-1]) | (first[1:] != first[:-1]))
    done = group.tables.of[output].new
    return np.asarray(starts + 2 * (done[:, 0] < done[:, 1]), np.int64)


def constants(kind: str, name: str, values: Integers) -> list[str]:
    """A table with a row for each step."""
    rows = values.tolist()
    if values.ndim == 1:
        text, inner = ", ".join(map(str, rows)), ""
    else:
        text, inner = ", ".join(f"{{{','.join(map(str, row))}}}" for row in rows), f"[{values.shape[1]}]"
    inner = "" if kind in ("box", "origin") else inner
    body = fold(text, 108, initial_indent="    ", subsequent_indent="    ")
    return [f"  static const {kind} {name}[{len(rows)}]{inner} = {{", *body, "  };"]


def views(group: GroupInPlace) -> list[str]:
    """Where tensors are, and the operands of each operation in parts."""
    lines = []
    for name in group.tensors:
        lines.append(f"  {const(group, name)}view at_{name} = {view_of(group, Part(name, 0, 0))};")
    for name, function in group.functions.items():
        for k, parts in enumerate(function.operation.operands):
            shape = function.operation.layer.inputs[k].concrete_shape
            body = ",".join(f"\n    {text}" for text in (*(view_of(group, part, shape) for part in parts), "{0}"))
            fixed = "const " if all(const(group, part.tensor) for part in parts) else ""
            lines.append(f"  {fixed}view in{k}_{name}[] = {{{body}}};")
    return lines


def const(group: GroupInPlace, tensor: str) -> str:
    """`const` for a view that is the same in every step."""
    return "" if group.place(tensor).turns else "static const "


def view_of(group: GroupInPlace, part: Part, shape: Sequence[int] | None = None) -> str:
    """A view of a tensor, or of it as a part of an operand of some shape."""
    info, place = group.graph.tensors[part.tensor], group.place(part.tensor)
    pitch = place.columns * info.element_bytes
    flat = (0, 0)
    if shape is not None:
        rows, columns = (shape[2], shape[3]) if len(shape) == 4 else (1, 1)
        flat = (rows, columns) if (rows, columns) != info.shape[2:] else flat
    channels = part.channels or info.shape[1]
    numbers = (group.numbers[part.tensor], place.address, part.offset, channels, place.rows, place.columns)
    return f"{{{', '.join(map(str, (*numbers, place.rows * pitch, pitch, *flat, *place.origins[0].tolist())))}}}"


def turned(group: GroupInPlace) -> list[str]:
    """Views that change get the origins of a step."""
    lines = [f"turn(&at_{n}, origin_{n}[step]);" for n in group.tensors if group.place(n).turns]
    for name, function in group.functions.items():
        for k, parts in enumerate(function.operation.operands):
            for p, part in enumerate(parts):
                if group.place(part.tensor).turns:
                    lines.append(f"turn(&in{k}_{name}[{p}], origin_{part.tensor}[step]);")
    return lines


def preloads(group: GroupInPlace) -> list[str]:
    """Before the first step: tensors that are pinned from here on."""
    lines = []
    for name in group.preloaded:
        size = group.graph.tensors[name].bytes
        whole = f"(dma_box){{1, 1, {size}, 0, 0, 0, 0}}"
        lines.append(f"  dma_wait(dma_load({group.pinned[name]}, {group.numbers[name]}, 0, {whole}));")
    return lines


def moved(group: GroupInPlace, name: str, boxes: str, step: str, load: bool) -> str:
    """A transfer of the box of a step."""
    info = group.graph.tensors[name]
    images, channels, rows, columns = info.shape
    origin = f"origin_{name}[{step if group.place(name).turns else 0}]"
    extent = f"(extent){{{rows}, {columns}, {info.element_bytes}}}"
    image = f"image[{step}] * {info.bytes // images}LL" if several_images(group) else "0"
    span = f"channels_{name}[{step}][0], channels_{name}[{step}][1]" if group.has_blocks else f"0, {channels}"
    return f"move_box({int(load)}, &at_{name}, {origin}, {extent}, {image}, {span}, {boxes}_{name}[{step}])"


def loads(group: GroupInPlace, step: str) -> list[str]:
    """The loads of a step; `loading` is the last one."""
    lines = [f"loading = max(loading, {moved(group, name, 'new', step, True)});" for name in group.loaded]
    for name, function in group.functions.items():
        if group.has_blocks and function.weights:
            first, end = (f"channels_{function.operation.output}[{step}][{k}]" for k in (0, 1))
            size = function.block_text(f"({end} - {first})")
            load = weights_load(slot(group, name, step), image_of(group, name, step), size)
            lines += [f"if (arrives[{step}])", f"  loading = {load};"]
    return lines


def stores(group: GroupInPlace, step: str) -> list[str]:
    """The stores of a step; `storing` is the last one."""
    return [f"storing = max(storing, {moved(group, name, 'fresh', step, False)});" for name in group.stored]


def computations(group: GroupInPlace) -> list[str]:
    """The operations of a step, in order, on what is new to them."""
    lines = ["on_image(image[step]);"] if several_images(group) else []
    lines += turned(group)
    for name, function in group.functions.items():
        output = function.operation.output
        operands = [f"in{k}_{name}" for k in range(len(function.operation.operands))]
        arguments = [f"&at_{output}", *operands, *weights(group, name), scratch(group, function)]
        channels = (
            [f"channels_{output}[step][{k}]" for k in (0, 1)] if group.has_blocks else ["0", str(function.channels)]
        )
        box = f"new_{output}[step]"
        condition = f"!is_empty({box})"
        if function.accumulates:
            taken, moment = f"taken_{name}[step]", f"moment_{name}[step]"
            condition = f"{moment} || !is_empty({taken})"
            arguments += [
                *channels,
                "0",
                "1",
                "0",
                "1",
                *(f"{taken}[{k}]" for k in range(4)),
                f"{moment} & FIRST",
                f"{moment} & LAST",
            ]
        else:
            arguments += [*channels, *(f"{box}[{k}]" for k in range(4))]
        lines.append(f"if ({condition})")
        lines += fold(f"{function.name}({', '.join(arguments)});", 104, initial_indent="  ", subsequent_indent="      ")
    return [f"    {line}" for line in lines]


def weights(group: GroupInPlace, name: str) -> list[str]:
    """The arguments that say which weights are where: address, from and to which channel, where they come from."""
    function = group.functions[name]
    if not function.weights:
        return []
    room, at = group.buffers[f"weights_{name}"], group.image_at[name]
    if not group.has_blocks:
        return [str(room.address), "0", str(function.channels), str(at)]
    first, end = (f"channels_{function.operation.output}[step][{k}]" for k in (0, 1))
    return [slot(group, name, "step"), first, end, image_of(group, name, "step")]


def slot(group: GroupInPlace, name: str, step: str) -> str:
    """Where the block of weights of a step is: every other one has the same place, if there are two places."""
    room, largest = group.buffers[f"weights_{name}"], group.functions[name].block_bytes(group.tables.tile.channels)
    places_apart = aligned_up(largest, group.alignment)
    if room.bytes < places_apart + largest:
        return str(room.address)
    return f"{room.address} + slot[{step}] * {places_apart}"


def image_of(group: GroupInPlace, name: str, step: str) -> str:
    """Where the block of weights of a step comes from: blocks follow each other."""
    size = group.functions[name].block_bytes(group.tables.tile.channels)
    return f"{group.image_at[name]} + block[{step}] * {size}LL"


def scratch(group: GroupInPlace, function: ComputeFunction) -> str:
    """Where the accumulators of an operation are; -1 for registers of the unit.

    Sums that last from step to step come first, one after the other; behind them is room for the lines of all others,
    if their elements are narrower than sums.
    """
    room = group.buffers.get("scratch")
    element_bytes = group.graph.tensors[function.operation.output].element_bytes
    if room is None or (element_bytes == 4 and not function.accumulates):
        return "-1"
    address = room.address
    for other in group.functions.values():
        if other is function:
            break
        if other.accumulates:
            address += aligned_up(other.sums_bytes, group.alignment)
    if not function.accumulates:
        address = room.address + sum(
            aligned_up(other.sums_bytes, group.alignment) for other in group.functions.values() if other.accumulates
        )
    return str(address)


def overlapped(group: GroupInPlace) -> list[str]:
    """The steps, with transfers while they compute."""
    return [
        "  unsigned loading = 0, storing = 0;",
        *(f"  {line}" for line in (*resident(group), *loads(group, "0"))),
        "  dma_wait(loading);",
        "  for (int step = 0; step < STEPS; step++) {",
        f"    on_step({group.number}, step);",
        *when("step + 1 < STEPS", loads(group, "step + 1")),
        *when("step > 0", stores(group, "step - 1")),
        *computations(group),
        "    dma_wait(loading);",
        "    dma_wait(storing);",
        "  }",
        *(f"  {line}" for line in stores(group, "STEPS - 1")),
        "  dma_wait(storing);",
    ]


def when(condition: str, lines: Sequence[str]) -> list[str]:
    """Lines under a condition."""
    return [f"    if ({condition}) {{", *(f"      {line}" for line in lines), "    }"] if lines else []


def in_turn(group: GroupInPlace) -> list[str]:
    """The steps of a machine that does one thing at a time."""
    return [
        "  unsigned loading = 0, storing = 0;",
        *(f"  {line}" for line in resident(group)),
        "  for (int step = 0; step < STEPS; step++) {",
        f"    on_step({group.number}, step);",
        *(f"    {line}" for line in loads(group, "step")),
        "    dma_wait(loading);",
        *computations(group),
        *(f"    {line}" for line in stores(group, "step")),
        "    dma_wait(storing);",
        "  }",
    ]


def resident(group: GroupInPlace) -> list[str]:
    """The loads of weights that stay for the whole group."""
    if group.has_blocks:
        return []
    lines = []
    for name, function in group.functions.items():
        if function.weights:
            address, size = group.buffers[f"weights_{name}"].address, function.block_bytes(function.channels)
            lines.append(f"loading = {weights_load(address, str(group.image_at[name]), str(size))};")
    return lines


def weights_load(address: int | str, at: str, size: str) -> str:
    """A transfer of a block of weights."""
    return f"dma_load({address}, 0, {at}, (dma_box){{1, 1, {size}, 0, 0, 0, 0}})"
