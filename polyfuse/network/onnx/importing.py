"""An import under way: what is built and which tensors exist.

`Node`s enter in topological order; the functions that convert them take an `Import` and add layers to its builder.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyfuse.errors import InvalidInput, UnsupportedOperator
from polyfuse.network.dtypes import Array, Values
from polyfuse.network.layer import Layer
from polyfuse.network.layers import copies
from polyfuse.network.network import Builder
from polyfuse.network.onnx import attributes
from polyfuse.network.onnx.constants import unknown_shape
from polyfuse.network.onnx.file import MAX_ELEMENTS
from polyfuse.network.onnx.graph import Node, OnnxGraph
from polyfuse.network.quantised.scheme import Dequantised, quantisation_of
from polyfuse.network.tensor import Tensor

ANY_TYPE = (
    "Clip Concat DepthToSpace DequantizeLinear Dropout Expand Flatten Gather Identity MaxPool Pad QGemm QLinearAdd "
    "QLinearAveragePool QLinearConcat QLinearConv QLinearGlobalAveragePool QLinearLeakyRelu QLinearMatMul QLinearMul "
    "QLinearSigmoid Relu Reshape Resize Slice SpaceToDepth Split Squeeze Transpose Unsqueeze"
)
OF_ANY_TYPE = frozenset(ANY_TYPE.split())
"""Operators that read tensors of other types than float32."""
WHOLE = ("int8", "uint8", "int32")
"""Types of constants of integer layers."""
MAX_INTEGERS = 1024
"""The most whole numbers that an input which says sizes or axes may have."""


@dataclass(frozen=True)
class Import:
    """What is built, and the tensors that exist, by the model's names.

    entering   those of the tensors that enter; version: of the operators of the node that is converted, where that is
               not the model's
    """

    build: Builder
    graph: OnnxGraph
    tensors: dict[str, Tensor]
    entering: Mapping[str, Tensor]
    version: int | None = None

    @property
    def opset(self) -> int:
        """The version of the operators of the node that is converted."""
        return self.graph.constants.opset if self.version is None else self.version

    def tensor(self, node: Node, position: int = 0) -> Tensor:
        """The computed tensor that a node reads at a position.

        Errors: UnsupportedOperator where it is constant; InvalidInput where it is not float32 and has to be.
        """
        name = node.input(position)
        if name not in self.tensors:
            got = "a constant" if self.graph.constants.known(name) else "nothing"
            raise UnsupportedOperator(
                f"{node.label}: expected a computed tensor as input {position} of {node.operator}, got {got}"
            )
        found = self.tensors[name]
        if found.dtype != "float32" and node.operator.removeprefix("com.microsoft.") not in OF_ANY_TYPE:
            raise InvalidInput(
                f"{node.label}: expected float32 elements as input {position} of {node.operator}, got {found}; "
                "dequantize them"
            )
        return found

    def is_constant(self, node: Node, position: int) -> bool:
        """Whether a node reads a constant at a position."""
        return self.graph.constants.known(node.input(position))

    def _constant_name(self, node: Node, position: int) -> str:
        """The name of the constant that a node reads at a position.

        Errors: UnsupportedOperator where it is computed.
        """
        name = node.input(position)
        if not self.graph.constants.known(name):
            raise UnsupportedOperator(
                f"{node.label}: expected a constant as input {position} of {node.operator}, got {name or 'nothing'}"
            )
        return name

    def constant(self, node: Node, position: int) -> Values:
        """The weight that a node reads at a position. Errors: InvalidInput."""
        name = self._constant_name(node, position)
        if node.operator == "Pow" and np.issubdtype(self.graph.constants.value(name).dtype, np.integer):
            value = self.graph.constants.value(name).astype(np.float32)
        else:
            value = self.graph.constants.floats(name, node.label)
        if value.size == 0:
            raise InvalidInput(f"{node.label}: expected elements in the constant {name!r}, got shape {value.shape}")
        return value

    def whole(self, node: Node, position: int, dtypes: Sequence[str] = WHOLE) -> NDArray[np.generic]:
        """The constant of one of some types that a node reads at a position, as it is stored.

        Errors: UnsupportedOperator for what is computed, InvalidInput for elements of other types.
        """
        name = self._constant_name(node, position)
        value = self.graph.constants.value(name)
        if str(value.dtype) not in dtypes or value.size == 0:
            raise InvalidInput(
                f"{node.label}: constant {name!r} is {value.dtype} of shape {value.shape}, expected "
                f"{' or '.join(dtypes)}; quantise to eight bits, with scales in float32"
            )
        return value

    def dequantised(self, node: Node, position: int) -> Dequantised | None:
        """The whole numbers that a DequantizeLinear makes a float constant of a node of; None where it does not."""
        constants = self.graph.constants
        maker = constants.makers.get(node.input(position))
        if maker is None or maker.op_type != "DequantizeLinear":
            return None
        made = Node(node.name, maker)
        values, factors = constants.value(made.input(0)), constants.value(made.input(1))
        zeros = constants.value(made.input(2)) if made.input(2) else np.zeros(1, values.dtype)
        plain = str(values.dtype) in WHOLE and zeros.dtype == values.dtype and factors.dtype == np.float32
        if not plain or factors.ndim > 1 or not values.size or attributes.attribute(made, "block_size", 0):
            return None
        axis = attributes.attribute(made, "axis", 1)
        try:
            scale = quantisation_of(factors, zeros)
        except InvalidInput:
            return None
        return Dequantised(values.astype(np.int64), scale, axis % max(values.ndim, 1))

    def integers(self, node: Node, position: int) -> tuple[int, ...] | None:
        """The whole numbers that a node reads at a position, which have to be constant; None where it reads nothing.

        Errors: InvalidInput, UnsupportedOperator.
        """
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
        return tuple(value.ravel().tolist())

    def listed(self, node: Node, name: str, position: int) -> tuple[int, ...] | None:
        """Whole numbers that older operators have as an attribute and newer ones as an input; None where left out."""
        given = attributes.integers(node, name)
        return given if given is not None else self.integers(node, position)

    def weight(self, name: str, value: Array | Values) -> Tensor:
        """A weight tensor of those values."""
        return self.build.weight(name, value.shape, 1, np.asarray(value, dtype=np.float32))

    def whole_weight(self, name: str, value: NDArray[np.generic]) -> Tensor:
        """A weight tensor of those whole numbers, in their type."""
        return self.build.constant(name, value, str(value.dtype))

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

    def add(self, node: Node, *layers: Layer, values: Mapping[str, NDArray[Any]] | None = None) -> Tensor:
        """Add layers of which the last makes the first output of a node, and the values of weights they bring along.

        Errors: InvalidInput where it has more elements than a network may have.
        """
        *before, last = layers
        for layer in before:
            self.build.add(layer)
        if last.output.elements > MAX_ELEMENTS:
            raise InvalidInput(f"{node.label}: expected at most {MAX_ELEMENTS:,} elements, makes {last.output}")
        self.tensors[node.outputs[0]] = self.build.add(last, values)
        return last.output

    def add_knowing(self, node: Node, layer: Layer, known: Mapping[Tensor | None, Dequantised | None]) -> Tensor:
        """Add a layer that makes the first output of a node, some of whose weights are dequantised whole numbers."""
        pairs = ((tensor, each) for tensor, each in known.items() if tensor is not None and each is not None)
        found = {tensor.name: each.reshaped(tensor.concrete_shape) for tensor, each in pairs}
        if found:
            layer = replace(layer, dequantised=found)
        return self.add(node, layer)

    def alias(self, node: Node, x: Tensor) -> None:
        """Another name for a tensor; a copy where the network's output would be its input or another output."""
        output = node.outputs[0]
        outputs = [self.tensors.get(name) for name in self.graph.outputs]
        if output in self.graph.outputs and (x in self.build.inputs or x in outputs):
            x = self.build.add(copies.copy(node.name, x))
        self.tensors[output] = x

    def shape_of(self, name: str) -> Sequence[int]:
        """The shape of a tensor that is made by now. Errors: UnsupportedOperator."""
        return self.tensors[name].concrete_shape if name in self.tensors else unknown_shape(name)


def normalisation(state: Import, node: Node, channels: int) -> tuple[Array, Array]:
    """Scale and shift of each channel of `(x - mean) / sqrt(variance + epsilon) * scale + shift`, at inference.

    Errors: InvalidInput, UnsupportedOperator.
    """
    trains = len(node.outputs) > 1 if state.opset < 14 else attributes.flag(node, "training_mode")
    if trains or not attributes.attribute(node, "spatial", 1):
        how = f"in training, with {len(node.outputs)} outputs," if trains else "per element"
        raise UnsupportedOperator(f"{node.label}: BatchNormalization {how} is not supported; export for inference")
    scale, shift, mean, variance = (in_double(state.constant(node, k)) for k in range(1, 5))
    if any(value.shape != (channels,) for value in (scale, shift, mean, variance)):
        raise InvalidInput(f"{node.label}: expected scale, shift, mean and variance of {channels} channels")
    epsilon = attributes.attribute(node, "epsilon", float(np.float32(1e-5)))
    with np.errstate(all="ignore"):
        factor = scale / np.sqrt(variance + epsilon)
    return factor, shift - mean * factor


def in_double(values: np.ndarray) -> np.ndarray:
    """The values as float64; a signalling NaN of a damaged file stays NaN without a warning."""
    with np.errstate(invalid="ignore"):
        return values.astype(np.float64)
