"""Replays the steps of a group element by element, in rings, knowing nothing of relations: an oracle for tables.

Layers are windows of the tests' own: what a point reads follows from kernel, stride and padding by arithmetic.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product

import numpy as np

from polyfuse.network.layer import Layer
from polyfuse.network.operator import Conv, window_of
from polyfuse.plan.tiles.tables import Table, Tables

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
    """The ring of each tensor: in every cell the element that was written last, or "moving" while one is loaded.

    `held` are the cells that a transfer reads or writes while a step computes.
    """

    def __init__(self, found: Tables, windows: Mapping[str, tuple[int, int]]) -> None:
        self.found, self.windows = found, windows
        self.cells: dict[str, dict[Cell, object]] = {name: {} for name in found.of}
        self.held: set[tuple[str, Cell]] = set()

    def cell(self, name: str, step: int, c: int, h: int, w: int) -> Cell:
        """Where an element lies."""
        (rows, columns), table = self.windows[name], self.found.of[name]
        down, right = table.origin[step].tolist()
        return 0, c - int(table.channels[step, 0]), (h + down) % max(1, rows), (w + right) % max(1, columns)

    def written(self, name: str, step: int, boxes: np.ndarray) -> dict[Cell, object]:
        """The elements of a box by their cells, one in each."""
        image, found = int(self.found.image[step]), {}
        rows, columns = self.found.group.graph.tensors[name].shape[2:]
        for c, h, w in inside(self.found.of[name], boxes, step):
            assert h < rows and w < columns, f"step {step}: {name} has no row {h}, column {w}"
            cell = self.cell(name, step, c, h, w)
            assert cell not in found, f"step {step}: two elements of {name} go into one cell"
            found[cell] = (image, c, h, w)
        return found

    def write(self, name: str, step: int, boxes: np.ndarray) -> None:
        """Write all elements of a box, where nothing moves."""
        found = self.written(name, step, boxes)
        assert not any((name, cell) in self.held for cell in found), f"step {step}: {name} is written while it moves"
        self.cells[name].update(found)

    def begin(self, name: str, step: int) -> None:
        """Begin to load what is new in a step."""
        found = self.written(name, step, self.found.of[name].new)
        self.cells[name].update(dict.fromkeys(found, "moving"))
        self.held |= {(name, cell) for cell in found}

    def end(self, name: str, step: int) -> None:
        """It is loaded."""
        self.cells[name].update(self.written(name, step, self.found.of[name].new))

    def check(self, name: str, step: int, c: int, h: int, w: int) -> None:
        """An element is where it is looked for."""
        wanted = (int(self.found.image[step]), c, h, w)
        held = self.cells[name].get(self.cell(name, step, c, h, w))
        assert held == wanted, f"step {step}: {name} holds {held} where {wanted} is read"


def windows_of(found: Tables, *, overlapped: bool) -> dict[str, tuple[int, int]]:
    """The windows that the tables give."""
    group = found.group
    return {
        name: table.window(ahead=overlapped and name in group.inputs, behind=overlapped and name in group.outputs)
        for name, table in found.of.items()
    }


def replay(
    found: Tables,
    *,
    overlapped: bool,
    windows: Mapping[str, tuple[int, int]] | None = None,
    order: Sequence[str] | None = None,
) -> dict[str, int]:
    """Run all steps in rings; how often points of each operation are executed.

    Rings have the windows that the tables give, and operations their order, unless others are given. `overlapped`: what
    the next step loads is under way while a step computes, and what the last one made is stored meanwhile. Checks that
    all that is read is there, and that every output is stored once.
    """
    group = found.group
    outside = {name: set() for name in group.outputs}
    rings = Rings(found, windows or windows_of(found, overlapped=overlapped))
    order = order or [operation.name for operation in group.operations]
    executed = dict.fromkeys(order, 0)
    sums: dict[tuple[str, int, int], set[tuple[int, int]]] = {}
    for name in group.inputs if overlapped else ():
        rings.write(name, 0, found.of[name].new)
    for step in range(found.steps):
        ahead = step + 1 if overlapped else step
        for name in group.inputs if ahead < found.steps else ():
            if overlapped:
                rings.begin(name, ahead)
            else:
                rings.write(name, ahead, found.of[name].new)
        if overlapped:
            store_outputs(found, rings, step - 1, outside, hold=True)
        for name in order:
            run_operation(found, rings, name, step, executed, sums)
        if not overlapped:
            store_outputs(found, rings, step, outside)
        for name in group.inputs if overlapped and ahead < found.steps else ():
            rings.end(name, ahead)
        rings.held = set()
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
        if starts(found, step):
            sums.update({key: set() for key in sums if key[0] == name})
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
            assert len(sums.get((name, image, c), ())) == rows * columns, f"{name} is made before all is added up"
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


def starts(found: Tables, step: int) -> bool:
    """Whether sums start in a step: with another image, or another block of channels, than in the one before."""
    first = found.of[found.group.operations[0].output].channels[:, 0]
    return step == 0 or bool(found.image[step] != found.image[step - 1] or first[step] != first[step - 1])


def store_outputs(
    found: Tables,
    rings: Rings,
    step: int,
    outside: dict[str, set[tuple[int, int, int, int]]],
    *,
    hold: bool = False,
) -> None:
    """Store what of the outputs is fresh in a step; with `hold` that takes as long as the next step computes."""
    for name, stored in outside.items() if step >= 0 else ():
        for c, h, w in inside(found.of[name], found.of[name].fresh, step):
            rings.check(name, step, c, h, w)
            element = (int(found.image[step]), c, h, w)
            assert element not in stored, f"{name} stores {element} twice"
            stored.add(element)
            if hold:
                rings.held.add((name, rings.cell(name, step, c, h, w)))
