"""Replays the steps of a group element by element, in rings, knowing nothing of relations: an oracle for tables.

Layers are windows of the tests' own: what a point reads follows from kernel, stride and padding by arithmetic.
"""

from collections.abc import Iterator, Mapping
from itertools import product

import numpy as np

from polyfuse.network.layer import Layer
from polyfuse.network.operator import Conv, window_of
from polyfuse.plan.tiles import Table, Tables

Cell = tuple[int, int, int, int]


def reads(layer: Layer, c: int, h: int, w: int) -> Iterator[tuple[str, int, int, int]]:
    """Operand, channel, row and column of each element that a point of a layer reads."""
    window = window_of(layer.operator)
    if window is None:
        for tensor in layer.inputs:
            rows, columns = tensor.concrete_shape[2:]
            yield tensor.name, c, min(h, rows - 1), min(w, columns - 1)
        return
    (tensor,) = layer.inputs
    channels, rows, columns = tensor.concrete_shape[1:]
    kernel, stride, padding = window.kernel, window.stride, window.padding
    groups = layer.operator.groups if isinstance(layer.operator, Conv) else channels
    made = layer.output.concrete_shape[1]
    group = c // (made // groups)
    for ic, kh, kw in product(range(channels // groups), range(kernel[0]), range(kernel[1])):
        y, x = stride[0] * h + kh - padding[0], stride[1] * w + kw - padding[1]
        if 0 <= y < rows and 0 <= x < columns:
            yield tensor.name, group * (channels // groups) + ic, y, x


def inside(table: Table, boxes: np.ndarray, step: int) -> Iterator[tuple[int, int, int]]:
    """The elements of a box: channel, row, column."""
    r0, r1, c0, c1 = boxes[step].tolist()
    return product(range(*table.channels[step].tolist()), range(r0, r1), range(c0, c1))


class Rings:
    """The ring of each tensor: in every cell the element that was written last."""

    def __init__(self, found: Tables, windows: Mapping[str, tuple[int, int]]) -> None:
        self.found, self.windows = found, windows
        self.cells: dict[str, dict[Cell, tuple[int, int, int, int]]] = {name: {} for name in found.of}

    def cell(self, name: str, step: int, c: int, h: int, w: int) -> Cell:
        """Where an element lies."""
        (rows, columns), table = self.windows[name], self.found.of[name]
        down, right = table.origin[step].tolist()
        return 0, c - int(table.channels[step, 0]), (h + down) % rows, (w + right) % columns

    def write(self, name: str, step: int, boxes: np.ndarray) -> None:
        """Write all elements of a box."""
        image = int(self.found.image[step])
        for c, h, w in inside(self.found.of[name], boxes, step):
            self.cells[name][self.cell(name, step, c, h, w)] = (image, c, h, w)

    def check(self, name: str, step: int, c: int, h: int, w: int) -> None:
        """An element is where it is looked for."""
        wanted = (int(self.found.image[step]), c, h, w)
        held = self.cells[name].get(self.cell(name, step, c, h, w))
        assert held == wanted, f"step {step}: {name} holds {held} where {wanted} is read"


def replay(found: Tables, *, overlapped: bool) -> dict[str, int]:
    """Run all steps in rings of the windows that the tables give; how often points of each operation are executed.

    `overlapped`: what the next step loads is written before a step computes, and what a step stores is read after the
    next one has computed. Checks that all that is read is there, and that every output is stored once.
    """
    group = found.group
    outside = {name: set() for name in group.outputs}
    windows = {
        name: table.window(ahead=overlapped and name in group.inputs, behind=overlapped and name in group.outputs)
        for name, table in found.of.items()
    }
    rings = Rings(found, windows)
    executed = dict.fromkeys((operation.name for operation in group.operations), 0)
    sums: dict[tuple[str, int, int], set[tuple[int, int]]] = {}
    for step in range(found.steps):
        for name in group.inputs:
            if not overlapped or step == 0:
                rings.write(name, step, found.of[name].new)
            if overlapped and step + 1 < found.steps:
                rings.write(name, step + 1, found.of[name].new)
        for operation in group.operations:
            run_operation(found, rings, operation.name, step, executed, sums)
        store_outputs(found, rings, step - 1 if overlapped else step, outside)
    if overlapped:
        store_outputs(found, rings, found.steps - 1, outside)
    for name, stored in outside.items():
        assert len(stored) == np.prod(group.graph.tensors[name].shape), f"{name} is not stored as a whole"
    return executed


def run_operation(
    found: Tables,
    rings: Rings,
    name: str,
    step: int,
    executed: dict[str, int],
    sums: dict[tuple[str, int, int], set[tuple[int, int]]],
) -> None:
    """Compute what an operation makes in a step, or add up what it takes in."""
    operation = found.group.graph.operation(name)
    table, image = found.of[operation.output], int(found.image[step])
    if name in found.taken_in:
        for part in operation.operands[0]:
            for c, h, w in inside(found.of[part.tensor], found.taken_in[name][part.tensor], step):
                channel = part.offset + c
                if not table.channels[step, 0] <= channel < table.channels[step, 1]:
                    continue
                rings.check(part.tensor, step, c, h, w)
                seen = sums.setdefault((name, image, channel), set())
                assert (h, w) not in seen, f"{name} adds up row {h}, column {w} twice"
                seen.add((h, w))
    for c, h, w in inside(table, table.new, step):
        executed[name] += 1
        if name in found.taken_in:
            rows, columns = found.group.graph.tensors[operation.reads[0]].shape[2:]
            assert len(sums[name, image, c]) == rows * columns, f"{name} is made before all is added up"
        else:
            for tensor, *element in reads(operation.layer, c, h, w):
                for part, channel in located(operation, tensor, element[0]):
                    rings.check(part, step, channel, element[1], element[2])
    rings.write(operation.output, step, table.new)


def located(operation: object, tensor: str, channel: int) -> Iterator[tuple[str, int]]:
    """The part of an operand that holds a channel, and the channel in it."""
    position = [each.name for each in operation.layer.inputs].index(tensor)  # type: ignore[attr-defined]
    for part in operation.operands[position]:  # type: ignore[attr-defined]
        if part.offset <= channel < part.offset + part.channels:
            yield part.tensor, channel - part.offset


def store_outputs(found: Tables, rings: Rings, step: int, outside: dict[str, set[tuple[int, int, int, int]]]) -> None:
    """Store what of the outputs is fresh in a step."""
    for name, stored in outside.items() if step >= 0 else ():
        for c, h, w in inside(found.of[name], found.of[name].fresh, step):
            rings.check(name, step, c, h, w)
            element = (int(found.image[step]), c, h, w)
            assert element not in stored, f"{name} stores {element} twice"
            stored.add(element)
