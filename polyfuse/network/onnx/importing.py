"""An import under way: what is built, which tensors exist, and what follows a node that can be fused into its layer.

`Node`s enter in topological order; the functions that convert them take an `Import` and add layers to its builder.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from polyfuse.errors import InvalidInput, UnsupportedOperator
from polyfuse.network import copies
from polyfuse.network.layer import Layer
from polyfuse.network.network import Builder, Values
from polyfuse.network.onnx import attributes
from polyfuse.network.onnx.attributes import Spec
from polyfuse.network.onnx.graph import Graph, Node
from polyfuse.network.operators import Array
from polyfuse.network.tensor import Tensor

Affine = tuple[Array, Array]
"""Scale and shift of each channel."""
MAX_INTEGERS = 1024
"""The most whole numbers that an input which says sizes or axes may have."""


@dataclass(frozen=True)
class Import:
    """What is built, the tensors that exist, by the model's names, and which nodes are done."""

    build: Builder
    graph: Graph
    fuse_activations: bool
    tensors: dict[str, Tensor]
    done: set[Node] = field(default_factory=set)

    @property
    def opset(self) -> int:
        """The version of the operators."""
        return self.graph.constants.opset

    def tensor(self, node: Node, position: int = 0) -> Tensor:
        """The computed tensor that a node reads at a position."""
        name = node.input(position)
        if name not in self.tensors:
            got = "a constant" if self.graph.constants.known(name) else "nothing"
            raise UnsupportedOperator(
                f"{node.label}: expected a computed tensor as input {position} of {node.operator}, got {got}"
            )
        return self.tensors[name]

    def is_constant(self, node: Node, position: int) -> bool:
        """Whether a node reads a constant at a position."""
        return self.graph.constants.known(node.input(position))

    def constant(self, node: Node, position: int) -> Values:
        """The weight that a node reads at a position."""
        name = node.input(position)
        if not self.graph.constants.known(name):
            raise UnsupportedOperator(
                f"{node.label}: expected a constant as input {position} of {node.operator}, got {name or 'nothing'}"
            )
        if node.operator == "Pow" and np.issubdtype(self.graph.constants.value(name).dtype, np.integer):
            value = self.graph.constants.value(name).astype(np.float32)
        else:
            value = self.graph.constants.floats(name, node.label)
        if value.size == 0:
            raise InvalidInput(f"{node.label}: expected elements in the constant {name!r}, got shape {value.shape}")
        return value

    def integers(self, node: Node, position: int) -> tuple[int, ...] | None:
        """The whole numbers that a node reads at a position, which have to be constant; None where it reads nothing."""
        name = node.input(position)
        if not name:
            return None
        if not self.graph.constants.known(name):
            raise UnsupportedOperator(
                f"{node.label}: input {position} of {node.operator}, {name!r}, is computed; expected a constant"
            )
        value = self.graph.constants.value(name)
        if not np.issubdtype(value.dtype, np.integer) or value.size > MAX_INTEGERS:
            raise InvalidInput(
                f"{node.label}: expected at most {MAX_INTEGERS} whole numbers as input {position} of {node.operator}, "
                f"got {value.dtype} of shape {value.shape}"
            )
        return tuple(int(number) for number in value.ravel())

    def listed(self, node: Node, name: str, position: int) -> tuple[int, ...] | None:
        """Whole numbers that older operators have as an attribute and newer ones as an input; None where left out."""
        given = attributes.integers(node, name)
        return given if given is not None else self.integers(node, position)

    def weight(self, name: str, value: Array | Values) -> Tensor:
        """A weight tensor of those values."""
        return self.build.weight(name, value.shape, 1, np.asarray(value, dtype=np.float32))

    def operands(self, node: Node, rank: int | None = None) -> tuple[list[Tensor], list[Tensor]]:
        """All tensors that a node reads, and those of them that are constants; these get axes in front up to a rank."""
        read, constants = [], []
        for position in range(len(node.inputs)):
            if not self.is_constant(node, position):
                read.append(self.tensor(node, position))
                continue
            value = self.constant(node, position)
            more = (1,) * max((rank or 1) - value.ndim, 0)
            ending = "constant" if len(node.inputs) == 2 else f"constant{position}"
            constants.append(self.weight(f"{node.name}_{ending}", value.reshape(more + value.shape)))
            read.append(constants[-1])
        return read, constants

    def rank(self, node: Node) -> int:
        """The largest rank of what a node reads."""
        shapes = (
            self.constant(node, k).shape if self.is_constant(node, k) else self.tensor(node, k).shape
            for k in range(len(node.inputs))
        )
        return max(map(len, shapes))

    def add(self, node: Node, layer: Layer) -> Tensor:
        """Add a layer that makes the first output of a node."""
        return self.name(node, self.build.add(layer))

    def add_all(self, node: Node, layers: Iterable[Layer]) -> Tensor:
        """Add layers of which the last makes the first output of a node."""
        *before, last = layers
        for layer in before:
            self.build.add(layer)
        return self.add(node, last)

    def name(self, node: Node, tensor: Tensor) -> Tensor:
        """The tensor is the first output of a node."""
        self.tensors[node.outputs[0]] = tensor
        return tensor

    def alias(self, node: Node, x: Tensor) -> None:
        """Another name for a tensor; a copy where the network's output would be its input or another output."""
        output = node.outputs[0]
        outputs = [self.tensors.get(name) for name in self.graph.outputs]
        if output in self.graph.outputs and (x in self.build.inputs or x in outputs):
            x = self.build.add(copies.copy(node.name, x))
        self.tensors[output] = x

    def shape_of(self, name: str) -> Sequence[int]:
        """The shape of a tensor that is made by now; one inside of a fused layer has that of the layer's output."""
        while name not in self.tensors:
            reader = next((node for node in self.graph.readers.get(name, ()) if node in self.done), None)
            if reader is None:
                raise UnsupportedOperator(
                    f"tensor {name!r}: its shape is needed before it is made; export with fixed sizes"
                )
            name = reader.outputs[0]
        return self.tensors[name].concrete_shape

    def affines(self, node: Node, rank: int, channels: int) -> tuple[Affine, Node]:
        """Scale and shift of the nodes behind a node that only scale and shift its channels, and the last of them."""
        total: Affine = np.ones(channels), np.zeros(channels)
        while (reader := self.graph.only_reader(node.outputs[0])) is not None:
            step = affine(self, reader, node.outputs[0], rank, channels)
            if step is None:
                break
            total = total[0] * step[0], total[1] * step[0] + step[1]
            self.done.add(reader)
            node = reader
        return total, node

    def activation(self, node: Node) -> tuple[Spec | None, Node]:
        """The activation that is the only reader of a node, and the node that now ends the layer."""
        if not self.fuse_activations:
            return None, node
        gated = self.gate(node.outputs[0])
        if gated is not None:
            return gated
        reader = self.graph.only_reader(node.outputs[0])
        spec = attributes.activation(reader, self.graph.constants) if reader is not None else None
        if reader is None or not spec or reader.inputs[0] != node.outputs[0]:
            return None, node
        self.done.add(reader)
        return spec, reader

    def gate(self, tensor: str) -> tuple[Spec, Node] | None:
        """SiLU and hard swish as two nodes, `x * sigmoid(x)`, where nothing else reads the tensor or the gate."""
        readers = self.graph.readers.get(tensor, ())
        if len(readers) != 2 or tensor in self.graph.outputs:
            return None
        gate, product = sorted(readers, key=lambda node: node.operator == "Mul")
        spec = attributes.activation(gate, self.graph.constants)
        whole = GATES.get(str(spec[0])) if spec else None
        alone = self.graph.only_reader(gate.outputs[0]) is product and product.operator == "Mul"
        if whole is None or not alone or (whole == "hard_swish" and not _is_sixth(spec)):
            return None
        self.done.update((gate, product))
        return (whole,), product


GATES = {"sigmoid": "silu", "hard_sigmoid": "hard_swish"}
"""The activation that the product of a tensor and a gate of it is."""


def _is_sixth(spec: Spec | None) -> bool:
    """`x / 6 + 0.5`, up to the rounding of float32."""
    return spec is not None and bool(np.float32(spec[1]) == np.float32(1 / 6)) and spec[2] == 0.5  # type: ignore[arg-type]


def affine(state: Import, node: Node, tensor: str, rank: int, channels: int) -> Affine | None:
    """Scale and shift of channels that a node applies to a tensor, if that is all it does."""
    if node.operator == "BatchNormalization" and node.inputs[0] == tensor:
        return normalisation(state, node, channels)
    if node.operator not in ("Add", "Sub", "Mul", "Div") or len(node.inputs) != 2:
        return None
    side = node.inputs.index(tensor)
    if not state.is_constant(node, 1 - side) or (node.operator == "Div" and side == 1):
        return None
    value = in_double(state.constant(node, 1 - side))
    shape = (1,) * (rank - value.ndim) + value.shape
    if len(shape) != rank or shape not in ((1, channels, *[1] * (rank - 2)), (1,) * rank):
        return None
    if node.operator == "Div" and not value.all():
        return None
    each = np.broadcast_to(value.ravel(), (channels,))
    one, none = np.ones(channels), np.zeros(channels)
    return {
        "Add": (one, each),
        "Sub": (one, -each) if side == 0 else (-one, each),
        "Mul": (each, none),
        "Div": (1.0 / each if node.operator == "Div" else one, none),
    }[node.operator]


def normalisation(state: Import, node: Node, channels: int) -> Affine:
    """Batch normalisation at inference: `(x - mean) / sqrt(variance + epsilon) * scale + shift`."""
    attributes.check_attributes(node, ["epsilon", "momentum", "spatial", "training_mode"])
    if attributes.flag(node, "training_mode") or not attributes.int_attribute(node, "spatial", 1):
        raise UnsupportedOperator(f"{node.label}: BatchNormalization in training or per element; export for inference")
    scale, shift, mean, variance = (in_double(state.constant(node, k)) for k in range(1, 5))
    if any(value.shape != (channels,) for value in (scale, shift, mean, variance)):
        raise InvalidInput(f"{node.label}: expected scale, shift, mean and variance of {channels} channels")
    epsilon = attributes.float_attribute(node, "epsilon", float(np.float32(1e-5)))
    with np.errstate(all="ignore"):
        factor = scale / np.sqrt(variance + epsilon)
    return factor, shift - mean * factor


def in_double(values: np.ndarray) -> np.ndarray:
    """The values as float64; a signalling NaN of a damaged file stays NaN without a warning."""
    with np.errstate(invalid="ignore"):
        return values.astype(np.float64)
