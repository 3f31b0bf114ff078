"""A network as operations on tensors in memory, which a scratchpad machine loads, computes and stores.

    `Network` ──graph_of()──> `Graph`: one `Operation` for each layer that computes or moves something

Channel concatenations are no operations: their readers read the operands in parts. Nor are reshapes: they are views of
their operands. Images of a batch are computed one by one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod

import islpy as isl

from polyfuse.choices import DTYPE_BYTES
from polyfuse.errors import InvalidInput
from polyfuse.machines.accelerator import OperatorClass
from polyfuse.network.layer import Layer
from polyfuse.network.network import Network
from polyfuse.network.operator import Concat, Conv, ConvTranspose, Quantised, Reshape
from polyfuse.network.tensor import Tensor
from polyfuse.sets.counting import count

Shape = tuple[int, int, int, int]


@dataclass(frozen=True)
class TensorInfo:
    """A tensor as memory holds it: images, channels, rows, columns; the type and bytes of an element."""

    name: str
    shape: Shape
    dtype: str
    element_bytes: int

    @property
    def bytes(self) -> int:
        """The bytes of the whole tensor."""
        return prod(self.shape) * self.element_bytes


@dataclass(frozen=True)
class Part:
    """Channels `offset` to `offset + channels` of an operand, which are all channels of a tensor.

    Where the tensor has another shape than the operand, the part is a view of all of it in row-major order.
    """

    tensor: str
    channels: int
    offset: int


@dataclass(frozen=True, eq=False)
class Operation:
    """One layer as the machine runs it.

    operands      for each of the layer's inputs, the parts that it is read in
    cls           the class of operators, whose rate the machine gives
    weight_bytes  all weights of the layer
    accumulates   a pool over whole images: it adds up rows as they arrive, and is done after the last
    """

    name: str
    layer: Layer
    operands: tuple[tuple[Part, ...], ...]
    output: str
    cls: OperatorClass
    weight_bytes: int
    accumulates: bool

    @cached_property
    def reads(self) -> tuple[str, ...]:
        """The tensors it reads, once each."""
        return tuple(dict.fromkeys(part.tensor for operand in self.operands for part in operand))


@dataclass(frozen=True, eq=False)
class Graph:
    """Operations in an order in which every tensor is made before it is read.

    tensors    inputs of the network and outputs of operations, by name
    inputs     given off-chip; outputs are wanted off-chip in the end
    """

    network: Network
    operations: tuple[Operation, ...]
    tensors: Mapping[str, TensorInfo]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @cached_property
    def by_name(self) -> dict[str, Operation]:
        """The operations by name."""
        return {operation.name: operation for operation in self.operations}

    @cached_property
    def _producers(self) -> dict[str, str]:
        return {operation.output: operation.name for operation in self.operations}

    @cached_property
    def _readers(self) -> dict[str, tuple[str, ...]]:
        return {name: tuple(o.name for o in self.operations if name in o.reads) for name in self.tensors}

    def producer(self, tensor: str) -> str | None:
        """The operation that makes a tensor; None for an input."""
        return self._producers.get(tensor)

    def readers(self, tensor: str) -> tuple[str, ...]:
        """The operations that read a tensor, in order."""
        return self._readers[tensor]

    def operation(self, name: str) -> Operation:
        """The operation of that name.

        Errors: InvalidInput where there is none.
        """
        if name not in self.by_name:
            raise InvalidInput(
                f"network {self.network.name!r}: expected an operation, got {name!r}; concatenations and reshapes are "
                f"none; it has {', '.join(self.by_name)}"
            )
        return self.by_name[name]

    @property
    def images(self) -> int:
        """The images of a batch."""
        return self.tensors[self.operations[0].output].shape[0]

    def __str__(self) -> str:
        return f"{self.network.name}: {len(self.operations)} operations on {len(self.tensors)} tensors"

    __repr__ = __str__


def graph_of(network: Network, dtype: str | None = None) -> Graph:
    """The operations of a network; `dtype` prices it as if its tensors and weights were of another type.

    Weights of one axis, such as biases, keep 4 bytes where the others have one.
    Errors: InvalidInput for an unknown type, symbolic sizes, and layers that read other images of a batch or their own
    output.

    >>> from polyfuse.network.network import Builder
    >>> build = Builder("net")
    >>> x = build.input("x", (1, 2, 8, 8))
    >>> y = build.concat("both", build.conv("a", x, 3, kernel=1), build.conv("b", x, 5, kernel=1))
    >>> graph = graph_of(build.network(build.conv("c", y, 4, kernel=3)), "int8")
    >>> [operation.name for operation in graph.operations], graph.operation("c").operands[0]
    (['a', 'b', 'c'], (Part(tensor='a_out', channels=3, offset=0), Part(tensor='b_out', channels=5, offset=3)))
    """
    if dtype is not None and dtype not in DTYPE_BYTES:
        raise InvalidInput(f"type {dtype!r}: expected one of {', '.join(DTYPE_BYTES)}; choose one of them")
    views: dict[Tensor, tuple[Part, ...]] = {}
    tensors: dict[str, TensorInfo] = {}
    operations = []
    for tensor in network.inputs:
        views[tensor] = whole(tensor)
        tensors[tensor.name] = info(tensor, dtype)
    for layer in network.layers:
        check_images(layer)
        view = viewed(layer, views, tensors) if layer.output not in network.outputs else None
        if view is not None:
            views[layer.output] = view
            continue
        views[layer.output] = whole(layer.output)
        tensors[layer.output.name] = info(layer.output, dtype)
        operands = tuple(views[tensor] for tensor in layer.inputs)
        operations.append(operation_of(layer, operands, dtype))
    read = {name for operation in operations for name in operation.reads}
    return Graph(
        network,
        tuple(operations),
        tensors,
        tuple(tensor.name for tensor in network.inputs if tensor.name in read),
        tuple(tensor.name for tensor in network.outputs),
    )


def image_shape(tensor: Tensor) -> Shape:
    """Images, channels, rows and columns: all axes but the first are channels unless there are four.

    >>> image_shape(Tensor("x", (1, 2, 8, 9))), image_shape(Tensor("x", (1, 10, 3))), image_shape(Tensor("x", (5,)))
    ((1, 2, 8, 9), (1, 30, 1, 1), (1, 5, 1, 1))
    """
    sizes = tensor.concrete_shape
    if len(sizes) == 4:
        return sizes[0], sizes[1], sizes[2], sizes[3]
    images = sizes[0] if len(sizes) > 1 else 1
    return images, prod(sizes) // images, 1, 1


def info(tensor: Tensor, dtype: str | None) -> TensorInfo:
    """A tensor in another type, or in its own: the one that a machine computes with that is stored in as many bytes.

    Errors: InvalidInput for a type of its own that no machine computes with.
    """
    own = tensor.dtype if tensor.dtype in DTYPE_BYTES else {4: "float32", 1: "int8"}.get(tensor.element_bytes)
    if own is None:
        raise InvalidInput(f"tensor {tensor}: no scratchpad machine computes in it; plan the network in float32")
    stored = dtype or own
    return TensorInfo(tensor.name, image_shape(tensor), stored, DTYPE_BYTES.get(stored, tensor.element_bytes))


def whole(tensor: Tensor) -> tuple[Part, ...]:
    """A tensor that is read as it is."""
    return (Part(tensor.name, image_shape(tensor)[1], 0),)


def viewed(
    layer: Layer, views: Mapping[Tensor, tuple[Part, ...]], tensors: Mapping[str, TensorInfo]
) -> tuple[Part, ...] | None:
    """The parts that a layer's output is a view of; None for a layer that is an operation."""
    if layer.weights:
        return None
    match layer.operator:
        case Concat(axis=1) if len(layer.output.shape) == 4:
            return joined(layer, views, tensors)
        case Reshape():
            return reshaped(layer, views[layer.inputs[0]])
    return None


def joined(
    layer: Layer, views: Mapping[Tensor, tuple[Part, ...]], tensors: Mapping[str, TensorInfo]
) -> tuple[Part, ...] | None:
    """The parts of a concatenation; None where one of them is a view of another shape."""
    images, _, rows, columns = image_shape(layer.output)
    parts: list[Part] = []
    offset = 0
    for operand in layer.operands:
        for part in views[operand]:
            if tensors[part.tensor].shape != (images, part.channels, rows, columns):
                return None
            parts.append(Part(part.tensor, part.channels, offset + part.offset))
        offset += image_shape(operand)[1]
    return tuple(parts)


def reshaped(layer: Layer, parts: tuple[Part, ...]) -> tuple[Part, ...] | None:
    """The parts of a reshape: as many elements of each image, as channels of the new shape; None where they are not."""
    before, after = image_shape(layer.inputs[0]), image_shape(layer.output)
    taken, given = prod(before[2:]), prod(after[2:])
    if before[0] != after[0] or any(part.channels * taken % given for part in parts):
        return None
    return tuple(Part(part.tensor, part.channels * taken // given, part.offset * taken // given) for part in parts)


def check_images(layer: Layer) -> None:
    """Refuse a layer whose images are made of other images, or that reads or leaves out elements of its own output.

    Errors: InvalidInput.
    """
    if layer.recurs or layer.made is not None:
        raise InvalidInput(
            f"layer {layer.name!r}: expected a layer that makes every element of {layer.output} and reads none of it; "
            "such layers are fused and run on the host, not planned for a scratchpad"
        )
    images = {image_shape(tensor)[0] for tensor in (layer.output, *layer.inputs)}
    for tensor in layer.inputs if images != {1} else ():
        if len(images) > 1 or not keeps_images(layer.reads(tensor)):
            raise InvalidInput(
                f"layer {layer.name!r}: expected every image of a batch to be made of the same image of {tensor}, got "
                "others; plan one image at a time"
            )


def keeps_images(reads: isl.Map) -> bool:
    """Whether the first index of each element that is read is that of the point: `{ L[n, ..] -> A[n, ..] }`."""
    for kind in (isl.dim_type.in_, isl.dim_type.out):
        reads = reads.project_out(kind, 1, reads.dim(kind) - 1)
    return bool(reads.is_subset(isl.Map.identity(reads.get_space())))


def operation_of(layer: Layer, operands: tuple[tuple[Part, ...], ...], dtype: str | None) -> Operation:
    """The operation that runs a layer."""
    weight_bytes = sum(prod(weight.concrete_shape) * weight_element_bytes(weight, dtype) for weight in layer.weights)
    return Operation(
        layer.name, layer, operands, layer.output.name, class_of(layer), weight_bytes, accumulates_rows(layer)
    )


def weight_element_bytes(weight: Tensor, dtype: str | None) -> int:
    """The bytes of an element of a weight that is stored in its own type or in another."""
    if dtype is None:
        return weight.element_bytes
    return DTYPE_BYTES[dtype] if len(weight.shape) > 1 or dtype != "int8" else 4


def class_of(layer: Layer) -> OperatorClass:
    """The class of a layer, by what its statements do.

    Multiply-accumulates are those of a depthwise convolution (as many groups as channels, and several), of a window, or
    of a product of matrices; other reductions are pools, and what is left is elementwise.
    """
    if layer.macs:
        match layer.operator:
            case Conv(groups=groups) | ConvTranspose(groups=groups) | Quantised(of=Conv(groups=groups)):
                return "depthwise" if groups != 1 and groups == image_shape(layer.inputs[0])[1] else "conv"
        return "matmul"
    reduces = any(len(statement.dims) > layer.rank for statement in layer.statements)
    return "pool" if reduces else "elementwise"


def accumulates_rows(layer: Layer) -> bool:
    """Whether a layer sums up, or takes the largest of, all rows and columns of its one input, channel by channel."""
    if class_of(layer) != "pool" or len(layer.inputs) != 1 or layer.weights:
        return False
    images, channels, rows, columns = image_shape(layer.inputs[0])
    if len(layer.inputs[0].shape) != 4 or rows * columns == 1 or image_shape(layer.output) != (images, channels, 1, 1):
        return False
    reads = layer.reads(layer.inputs[0])
    return bool(reads.is_injective()) and count(reads) == images * channels * rows * columns
