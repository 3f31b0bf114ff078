"""Operations as C functions that compute a box of their output from what is on chip.

    Operation + Storing ──compute_function()──> ComputeFunction: the C, and what its callers pass

Every function is derived from the statements of its layer, whatever its kind. It goes line by line: for each row and
channel of the box, the statements run over a line of sums, which is then put into the output. A line is at most so many
columns that what is on the stack stays small: `stack_bytes`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

from polyfuse.codegen.c.elements import Element, accumulator
from polyfuse.codegen.c.text import braces, function, indented
from polyfuse.codegen.scratchpad.lines import statement_lines
from polyfuse.codegen.scratchpad.longsums import is_long
from polyfuse.codegen.scratchpad.reads import Operand, line_length, most_columns, slope_of
from polyfuse.codegen.scratchpad.storing import Storing
from polyfuse.codegen.scratchpad.sweeps import TAKEN, Axes, StatementSweep, combined
from polyfuse.network.layer import Layer, Statement
from polyfuse.network.tensor import Tensor
from polyfuse.plan.graph.channels import channel_axis
from polyfuse.plan.graph.operations import Operation

BOX = ("channel_0", "channel_1", "row_0", "row_1", "box_0", "box_1")


@dataclass(frozen=True)
class WeightArray:
    """A weight as it lies in a block: `channel` is the axis that counts output channels, None where it has none.

    `shape` has that axis first. The elements of a block's channels follow each other.
    """

    tensor: Tensor
    channel: int | None
    shape: tuple[int, ...]
    element_bytes: int

    @property
    def channel_bytes(self) -> int:
        """The bytes of one channel, or of all where no axis counts channels."""
        return prod(self.shape[1:] if self.channel is not None else self.shape) * self.element_bytes

    def order(self) -> tuple[int, ...]:
        """Its axes in the order of `shape`."""
        axes = range(len(self.shape))
        return tuple(axes) if self.channel is None else (self.channel, *(a for a in axes if a != self.channel))


def weight_arrays(layer: Layer, storing: Storing) -> tuple[WeightArray, ...]:
    """The weights of a layer in the order in which a block holds them: the widest elements first."""
    found = []
    for tensor in layer.weights:
        axis = channel_axis(layer, tensor)
        shape = tensor.concrete_shape
        if axis is not None:
            shape = (shape[axis], *(size for a, size in enumerate(shape) if a != axis))
        found.append(WeightArray(tensor, axis, shape, storing.weight_bytes(tensor)))
    return tuple(sorted(found, key=lambda array: -array.element_bytes))


@dataclass(frozen=True, eq=False)
class ComputeFunction:
    """The C of an operation: called with views of the result and the operands, addresses, and a box."""

    operation: Operation
    name: str
    weights: tuple[WeightArray, ...]
    stack_bytes: int
    accumulates: bool
    text: str

    @property
    def channels(self) -> int:
        """The output channels."""
        return Axes(self.operation.layer.output.concrete_shape).sizes[0]

    def block_bytes(self, channels: int) -> int:
        """The bytes of the weights of some output channels."""
        return sum(w.channel_bytes * (channels if w.channel is not None else 1) for w in self.weights)

    def block_text(self, channels: str) -> str:
        """The same as C, for a number of channels that is C."""
        fixed = sum(w.channel_bytes for w in self.weights if w.channel is None)
        varying = sum(w.channel_bytes for w in self.weights if w.channel is not None)
        return combined([(str(fixed), 1), (channels, varying)])


def compute_function(
    operation: Operation, number: int, storing: Storing, rate: float, lanes: int, accumulates: bool
) -> ComputeFunction:
    """The function of an operation, the `number`-th of a graph: it does `rate` in a cycle and sums up `lanes` lines.

    Called with the views of its result and operands; where the block of weights is on chip, which channels it has and
    where it comes from; where accumulators are, or -1 for sums that are done line by line; and the box. One that
    accumulates what arrives is also told which box of its input it takes, of each tensor that is joined in it, and
    whether that is the first and the last one.
    """
    layer = operation.layer
    writer = Writer(
        operation, storing, weight_arrays(layer, storing), Axes(layer.output.concrete_shape), lanes, accumulates
    )
    name = f"op{number}_{layer.name}"
    parameters = ["const view *result", *(f"const view *operand_{k}" for k in range(len(layer.inputs)))]
    if writer.weights:
        parameters += ["int weights", "int weights_at", "long long image", "int weights_0", "int weights_1"]
    parameters += ["int scratch", *(f"int {each}" for each in BOX)]
    if accumulates:
        parameters += [*writer.boxes_taken(), "int first", "int last"]
    body = [*writer.opening(number), *(writer.taking() if accumulates else writer.making())]
    body.append(f"computed({writer.work()}, {rate!r}, {writer.made()});")
    lines = [f"/* {layer.name} ({layer.kind}) */", *function(f"static NOINLINE void {name}", parameters, body)]
    return ComputeFunction(operation, name, writer.weights, writer.stack_bytes, accumulates, "\n".join(lines))


SHARED = {"conv", "depthwise", "matmul"}
"""Classes whose work is counted in multiply-accumulates; pools count what they take in, others what they make."""


@dataclass(frozen=True, eq=False)
class Writer:
    """Writes the parts of a function."""

    operation: Operation
    storing: Storing
    weights: tuple[WeightArray, ...]
    axes: Axes
    lanes: int
    accumulates: bool

    @property
    def layer(self) -> Layer:
        return self.operation.layer

    @property
    def sums(self) -> Element:
        """The type of sums."""
        return accumulator(self.layer.acc_dtype)

    @property
    def kept_lines(self) -> int:
        """Lines of sums that are kept at once."""
        return self.axes.sizes[0] if self.accumulates else min(self.lanes, self.axes.sizes[0])

    def opening(self, number: int) -> list[str]:
        """What comes before the loops: claims, arrays."""
        lines = [f"on_operation({number});"]
        claim = f"claim(result, {', '.join(BOX)});"
        lines += [f"if (last) {claim}" if self.accumulates else claim]
        if self.accumulates:
            room = f"accumulators(scratch, {self.sums.bytes} * (channel_1 - channel_0), {number}, !first)"
            lines += [f"{self.sums.name} *const sums = {room};", "const int column_0 = box_0, column_1 = box_1;"]
        else:
            size = f"{self.sums.bytes} * min({self.kept_lines}, channel_1 - channel_0) * (box_1 - box_0)"
            room = f"accumulators(scratch, {size}, {number}, 0)"
            lines += [f"{self.sums.name} own[{self.columns}];"]
            lines += [f"{self.sums.name} *const sums = scratch < 0 ? 0 : {room};"]
        lines += ["long long counted = 0;"] if self.work() == "counted" else []
        return [*lines, *(self.block_opened() if self.weights else [])]

    def block_opened(self) -> list[str]:
        """Pointers to the weights in their block, one behind the other."""
        sizes = [f"{w.channel_bytes}{'' if w.channel is None else ' * (weights_1 - weights_0)'}" for w in self.weights]
        block = f"read_weights(weights, weights_at, image, {' + '.join(sizes)})"
        lines = [f"const unsigned char *const block = {block};"]
        for k, array in enumerate(self.weights):
            element, at = self.storing.element(array.tensor).loose, " + ".join(sizes[:k]) or "0"
            lines.append(f"const {element} *const weight_{k} = (const {element} *)(block + (long long)WIDE * ({at}));")
        lines += [f"(void)weight_{k};" for k in range(len(self.weights))]
        return lines + (["(void)weights_0, (void)weights_1;"] if all(w.channel is None for w in self.weights) else [])

    @cached_property
    def columns(self) -> int:
        """How many columns are computed at once."""
        return most_columns(self.layer.statements, self.axes)

    @property
    def stack_bytes(self) -> int:
        """The bytes of the lines that are on the stack: of sums, of what is made, of what is read."""
        element = self.storing.element(self.layer.output)
        own = 0 if self.accumulates else self.sums.bytes * self.columns
        made = 0 if element == self.sums else element.bytes * self.columns
        return own + made + max(map(self.lines_bytes, self.layer.statements))

    def lines_bytes(self, statement: Statement) -> int:
        """The bytes of the lines of one statement."""
        reads = [a for a in statement.operands.values() if a.tensor not in self.layer.weights]
        slopes = [0 if self.axes.column is None else slope_of(access, self.axes.column) for access in reads]
        read = [
            line_length(s, self.columns) * self.storing.element(a.tensor).bytes
            for s, a in zip(slopes, reads, strict=True)
        ]
        return sum(read) + (self.sums.bytes * self.columns if is_long(statement, self.sweep(statement, False)) else 0)

    def operands(self, statement: Statement) -> dict[str, Operand]:
        """How the reads of a statement are printed."""
        inputs = self.layer.inputs
        found = {}
        for name, access in statement.operands.items():
            element = self.storing.element(access.tensor)
            if access.tensor in inputs:
                place = Axes(access.tensor.concrete_shape).place
                views = f"operand_{inputs.index(access.tensor)}"
                found[name] = Operand(views, element, True, place)
            else:
                k = next(k for k, array in enumerate(self.weights) if array.tensor == access.tensor)
                found[name] = Operand(f"weight_{k}", element, False, self.weight_place(k))
        return found

    def weight_place(self, k: int) -> Callable[[Sequence[str]], tuple[str]]:
        """The offset of an element of a weight in its array, from its index."""
        array, spread = self.weights[k], self.storing.spread(self.weights[k].tensor)

        def place(index: Sequence[str]) -> tuple[str]:
            ordered = [index[axis] for axis in array.order()]
            if array.channel is not None:
                ordered[0] = f"{ordered[0]} - weights_0"
            strides = [spread * prod(array.shape[a + 1 :]) for a in range(len(array.shape))]
            return (combined(list(zip(ordered, strides, strict=True))),)

        return place

    def statements(self, taken: bool, chosen: Sequence[Statement]) -> list[str]:
        """The loops of some statements over one line."""
        loops = (statement_lines(each, self.operands(each), self.sweep(each, taken)) for each in chosen)
        return [line for lines in loops for line in lines]

    def sweep(self, statement: Statement, taken: bool) -> StatementSweep:
        """How a statement is swept; `taken` where only a box of the input is there."""
        reduces = len(statement.dims) > self.layer.rank
        counts = statement.macs if self.operation.cls in SHARED else int(self.operation.cls == "pool" and reduces)
        box = self.layer.inputs[0] if taken and reduces else None
        return StatementSweep(self.axes, box, counts, self.sums.whole, self.columns)

    def making(self) -> list[str]:
        """Line after line of the box, some columns at once."""
        line = f"(channel - channel_0) % {self.kept_lines} * (box_1 - box_0) + (column_0 - box_0)"
        columns = [
            f"column_1 = min(column_0 + {self.columns}, box_1);",
            f"{self.sums.name} *const sum = sums ? sums + {line} : own;",
            *self.statements(False, self.layer.statements),
            *self.written(),
        ]
        line_by_line = [
            "for (int row = row_0; row < row_1; row++)",
            "  for (int channel = channel_0; channel < channel_1; channel++)",
        ]
        some = braces("for (int column_0 = box_0, column_1; column_0 < box_1; column_0 = column_1)", columns)
        return [*line_by_line, *indented(some, 4)]

    def boxes_taken(self) -> list[str]:
        """The parameters that say what is taken of the input: of a joined one, a box of each tensor in it."""
        tensors = self.operation.reads
        return [f"const box from_{k}" for k in range(len(tensors))] if tensors[1:] else [f"int {e}" for e in TAKEN]

    def box_of_channel(self) -> list[str]:
        """The box that is taken of the tensor that a channel of a joined input is of."""
        tensors, (parts,) = self.operation.reads, self.operation.operands
        if not tensors[1:]:
            return []
        *others, last = [f"from_{tensors.index(part.tensor)}" for part in parts]
        ends = [part.offset + part.channels for part in parts]
        chosen = "".join(f"channel < {end} ? {box} : " for end, box in zip(ends, others, strict=False)) + last
        bounds = ", ".join(f"{each} = taken[{k}]" for k, each in enumerate(TAKEN))
        return [f"const short *const taken = {chosen};", f"const int {bounds};"]

    def taking(self) -> list[str]:
        """The sums of all channels, over a box of the input."""
        kinds = [len(statement.dims) > self.layer.rank for statement in self.layer.statements]
        first, last = kinds.index(True), len(kinds) - 1 - kinds[::-1].index(True)
        before, over, after = (
            self.layer.statements[part] for part in (slice(first), slice(first, last + 1), slice(last + 1, None))
        )
        channel = [
            *self.box_of_channel(),
            f"{self.sums.name} *const sum = sums + (channel - channel_0);",
            *braces("if (first)", self.statements(False, before)),
            *braces("if (taken_0 < taken_1 && taken_2 < taken_3)", self.statements(True, over)),
            *braces("if (last)", [*self.statements(False, after), *self.written()]),
        ]
        channels = braces("for (int channel = channel_0; channel < channel_1; channel++)", channel)
        return ["const int row = 0;", "(void)row;", *channels]

    def written(self) -> list[str]:
        """A line of sums goes into the output."""
        element = self.storing.element(self.layer.output)
        if element == self.sums:
            return ["write_row(result, channel, row, column_0, column_1 - 1, sum);"]
        return [
            f"{element.name} made[{self.columns}];",
            "for (int column = column_0; column < column_1; column++)",
            f"  made[column - column_0] = {element.put.format('sum[column - column_0]')};",
            "write_row(result, channel, row, column_0, column_1 - 1, made);",
        ]

    def made(self) -> str:
        """How many elements are made, as C."""
        size = "(long long)(channel_1 - channel_0) * (row_1 - row_0) * (box_1 - box_0)"
        return f"last ? {size} : 0" if self.accumulates else size

    def work(self) -> str:
        """What is divided by the rate, as C."""
        return "counted" if self.operation.cls in (*SHARED, "pool") else self.made()
