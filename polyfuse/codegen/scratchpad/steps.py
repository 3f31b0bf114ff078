"""A group of a plan as one C function: its steps, with transfers, waits and computations at planned addresses.

    GroupInPlace ──group_function()──> C

Where the machine double-buffers, the loads of the next step and the stores of the last one run while a step computes;
otherwise a step waits for its loads before it computes, and for its stores before the next one begins.
"""

from collections.abc import Sequence

import numpy as np

from polyfuse.codegen.c.text import braces, comment, fold, words
from polyfuse.codegen.c.text import function as c_function
from polyfuse.codegen.scratchpad.compute import ComputeFunction
from polyfuse.codegen.scratchpad.group import GroupInPlace, Integers
from polyfuse.codegen.scratchpad.weights import (
    block_loads,
    blockwise,
    channels_of,
    constants,
    resident,
    scratch,
    second_block,
    streams,
    weights,
)
from polyfuse.plan.graph.operations import Part
from polyfuse.plan.proof.placed import arrivals, slots

EACH_STEP = "for (int step = 0; step < STEPS; step++)"
VIEW_BYTES = 52
"""Of a `view` in scratchpad.h, whose fields are thirteen int."""


def group_function(group: GroupInPlace) -> str:
    """The function of a group."""
    body = [
        *views(group),
        f"on_step({group.number}, 0);",
        *preloads(group),
        *streams(group),
        "unsigned loading = 0, storing = 0;",
        *(overlapped(group) if group.placed.double_buffer else in_turn(group)),
    ]
    mentioned = words(body)
    tables = (line for name, table in tables_of(group).items() if name in mentioned for line in table)
    lines = [f"enum {{ STEPS = {group.tables.steps} }};", *tables, *body]
    return "\n".join([*heading(group), *c_function(f"static void group{group.number}", ("void",), lines)])


def heading(group: GroupInPlace) -> list[str]:
    """What a reader wants to know of a group."""
    tile = group.tables.tile
    lines = [f"group {group.number}: {', '.join(group.functions)}"]
    lines.append(f"  tiles of {tile}, {group.tables.steps} steps, weights {tile.weights}")
    for name, room in group.buffers.items():
        tensor = name.removeprefix("ring_")
        kept = f", {' and '.join(tile.retention_of(tensor))}" if name != tensor else ""
        lines.append(f"  {name}: {room.bytes:,} bytes at {room.address:,}{kept}")
    for name in group.tensors:
        if name in group.pinned:
            how = ", loaded first" if name in group.preloaded else ""
            how += ", stored" if name in group.placed.stored else ""
            lines.append(f"  {name}: whole at {group.pinned[name]:,}{how}")
    return comment(lines)


def tables_of(group: GroupInPlace) -> dict[str, list[str]]:
    """What differs from step to step: boxes that are made, loaded, stored and taken in; origins, channels, images.

    By name, each as C: a group may need fewer.
    """
    tables = group.tables
    lines: dict[str, list[str]] = {}
    made = [function.operation.output for function in group.functions.values() if not function.accumulates]
    for name in (*group.placed.loaded, *made):
        lines[f"new_{name}"] = constants("box", f"new_{name}", tables.of[name].new)
    for name in group.placed.stored:
        lines[f"fresh_{name}"] = constants("box", f"fresh_{name}", tables.of[name].fresh)
    for name, function in group.functions.items():
        if function.accumulates:
            for array, boxes in zip(boxes_taken(function), tables.taken_in[name].values(), strict=True):
                lines[array] = constants("box", array, boxes)
            lines[f"moment_{name}"] = constants("char", f"moment_{name}", moments(group, function.operation.output))
    for name in group.tensors:
        place = group.place(name)
        if place.turns or name in group.placed.loaded or name in group.placed.stored:
            lines[f"origin_{name}"] = constants(
                "origin", f"origin_{name}", place.origins if place.turns else place.origins[:1]
            )
    if group.has_blocks:
        for name in group.tensors:
            lines[f"channels_{name}"] = constants("short", f"channels_{name}", tables.of[name].channels)
        if any(function.weights for function in group.functions.values()):
            lines["block"] = constants("short", "block", group.blocks[:, 0] // tables.tile.channels)
            lines["arrives"] = constants("char", "arrives", arrivals(tables))
            lines["slot"] = constants("char", "slot", slots(tables))
    if several_images(group):
        lines["image"] = constants("short", "image", tables.image)
    return lines


def boxes_taken(function: ComputeFunction) -> list[str]:
    """The arrays of what an operation takes in step by step: one for each tensor of a joined input."""
    name, tensors = function.operation.name, function.operation.reads
    return [f"taken_{k}_{name}" for k in range(len(tensors))] if tensors[1:] else [f"taken_{name}"]


def several_images(group: GroupInPlace) -> bool:
    """Whether steps go through a batch."""
    return bool((group.tables.image > 0).any())


def moments(group: GroupInPlace, output: str) -> Integers:
    """For each step, 1 where sums start, plus 2 where they are done."""
    done = group.tables.of[output].new
    return np.asarray(group.placed.starts + 2 * (done[:, 0] < done[:, 1]), np.int64)


def views(group: GroupInPlace) -> list[str]:
    """Where tensors are, and the operands of each operation in parts."""
    lines = []
    for name in (*group.placed.loaded, *(function.operation.output for function in group.functions.values())):
        lines.append(f"{const(group, name)}view at_{name} = {view_of(group, Part(name, 0, 0))};")
    for name, function in group.functions.items():
        for k, parts in enumerate(function.operation.operands):
            shape = function.operation.layer.inputs[k].concrete_shape
            fixed = "const " if all(const(group, part.tensor) for part in parts) else ""
            lines.append(f"{fixed}view in{k}_{name}[] = {{")
            lines += [*(f"  {view_of(group, part, shape)}," for part in parts), "  {0}};"]
    return lines


def views_bytes(group: GroupInPlace) -> int:
    """The bytes of the views that change from step to step: the others are constants."""
    ends = (*group.placed.loaded, *(function.operation.output for function in group.functions.values()))
    count = sum(not const(group, name) for name in ends)
    for function in group.functions.values():
        for parts in function.operation.operands:
            count += len(parts) + 1 if any(not const(group, part.tensor) for part in parts) else 0
    return VIEW_BYTES * count


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
    made = [function.operation.output for function in group.functions.values()]
    lines = [f"turn(&at_{n}, origin_{n}[step]);" for n in made if group.place(n).turns]
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
        lines.append(f"dma_wait(dma_load({group.pinned[name]}, {group.numbers[name]}, 0, {whole}));")
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
    lines = [f"loading = max(loading, {moved(group, name, 'new', step, True)});" for name in group.placed.loaded]
    return [*lines, *block_loads(group, step)]


def stores(group: GroupInPlace, step: str) -> list[str]:
    """The stores of a step; `storing` is the last one."""
    return [f"storing = max(storing, {moved(group, name, 'fresh', step, False)});" for name in group.placed.stored]


def computations(group: GroupInPlace) -> list[str]:
    """The operations of a step, in order, on what is new to them."""
    lines = ["on_image(image[step]);"] if several_images(group) else []
    lines += turned(group)
    for name, function in group.functions.items():
        call = fold(f"{function.name}({', '.join(arguments(group, name))});", width=100)
        runs = f"!is_empty(new_{function.operation.output}[step])"
        if function.accumulates:
            boxes = (f"!is_empty({array}[step])" for array in boxes_taken(function))
            runs = " || ".join([f"moment_{name}[step]", *boxes])
        lines += braces(f"if ({runs})", blockwise(group, name, call))
    return lines


def arguments(group: GroupInPlace, name: str) -> list[str]:
    """What an operation is called with."""
    function = group.functions[name]
    output = function.operation.output
    operands = [f"in{k}_{name}" for k in range(len(function.operation.operands))]
    passed = [f"&at_{output}", *operands, *weights(group, name), scratch(group, function), *channels_of(group, name)]
    if not function.accumulates:
        return [*passed, *(f"new_{output}[step][{k}]" for k in range(4))]
    arrays = boxes_taken(function)
    taken = [f"{array}[step]" for array in arrays] if arrays[1:] else [f"{arrays[0]}[step][{k}]" for k in range(4)]
    return [*passed, "0", "1", "0", "1", *taken, f"moment_{name}[step] & FIRST", f"moment_{name}[step] & LAST"]


def overlapped(group: GroupInPlace) -> list[str]:
    """The steps, with transfers while they compute."""
    following = ((step, load) for step, loads in group.following.items() for load in loads)
    step = [
        f"on_step({group.number}, step);",
        *second_block(group),
        *when("step + 1 < STEPS", loads(group, "step + 1")),
        *(f"if (step == {step}) loading = {load};" for step, load in following),
        *when("step > 0", stores(group, "step - 1")),
        *computations(group),
        "dma_wait(loading);",
        "dma_wait(storing);",
    ]
    first, last = [*resident(group), *loads(group, "0")], stores(group, "STEPS - 1")
    return [*first, "dma_wait(loading);", *braces(EACH_STEP, step), *last, "dma_wait(storing);"]


def when(condition: str, lines: Sequence[str]) -> list[str]:
    """Lines under a condition."""
    return braces(f"if ({condition})", lines) if lines else []


def in_turn(group: GroupInPlace) -> list[str]:
    """The steps of a machine that does one thing at a time."""
    step = [
        f"on_step({group.number}, step);",
        *loads(group, "step"),
        "dma_wait(loading);",
        *computations(group),
        *stores(group, "step"),
        "dma_wait(storing);",
    ]
    return [*resident(group), *braces(EACH_STEP, step)]
