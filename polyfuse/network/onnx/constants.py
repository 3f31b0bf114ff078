"""The constants of an ONNX graph: stored or computed from stored ones, or replaced by seeded random weights.

Nodes in topological order enter; which tensors are constant, and their values on demand, leave.
"""

import zlib
from collections.abc import Callable, Mapping, Sequence
from math import prod
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from polyfuse.errors import InvalidInput, UnsupportedOperator
from polyfuse.network.onnx.file import Constant, check_size, tensor_value

RANDOM = frozenset(
    ["Bernoulli", "Multinomial", "RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike"]
)
ROLES: dict[str, dict[int, str]] = {
    "Conv": {1: "weight", 2: "shift"},
    "BatchNormalization": {1: "scale", 2: "shift", 3: "shift", 4: "scale"},
    "PRelu": {1: "slope"},
    "Add": {0: "shift", 1: "shift"},
    "Sub": {0: "shift", 1: "shift"},
    "Mul": {0: "scale", 1: "scale"},
    "Div": {0: "scale", 1: "scale"},
}
"""What random weights stand for, by operator and operand."""


class Constants:
    """The constant tensors of a graph, evaluated when they are asked for."""

    def __init__(self, graph: onnx.GraphProto, nodes: Sequence[onnx.NodeProto], folder: Path, seed: int | None) -> None:
        self.folder = folder
        self.seed = seed
        self.stored = {tensor.name: tensor for tensor in graph.initializer}
        self.sparse = {tensor.values.name for tensor in graph.sparse_initializer}
        self.makers: dict[str, onnx.NodeProto] = {}
        for node in nodes:
            if node.op_type not in RANDOM and all(self.known(name) for name in node.input if name):
                self.makers |= {name: node for name in node.output if name}
        self.roles = self._roles(nodes) if seed is not None else {}
        self.values: dict[str, Constant] = {}

    def known(self, name: str) -> bool:
        """The tensor is constant."""
        return name in self.stored or name in self.makers or name in self.sparse

    def makes(self, node: onnx.NodeProto) -> bool:
        """The node makes nothing but constants."""
        return bool(node.output) and self.makers.get(next(filter(None, node.output), "")) is node

    def _roles(self, nodes: Sequence[onnx.NodeProto]) -> dict[str, str]:
        found = {}
        for node in nodes:
            if not self.makes(node):
                for position, role in ROLES.get(node.op_type, {}).items():
                    if position < len(node.input) and self.known(node.input[position]):
                        found[node.input[position]] = role
        return found

    def floats(self, name: str, where: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        """The value of a constant weight in float32; a random one where a seed was given.

        Errors: InvalidInput where its elements are of another type.
        """
        value = self.value(name)
        if value.dtype != np.float32:
            raise InvalidInput(f"{where}: constant {name!r} is {value.dtype}, expected float32; convert the model")
        if name in self.roles and value.size > 1:
            return random_weight(name, value.shape, self.roles[name], self.seed or 0)
        return np.asarray(value, dtype=np.float32)

    def value(self, name: str) -> Constant:
        """The value of a constant as the model has it.

        Errors: UnsupportedOperator where a node that makes it is not one of FOLD; InvalidInput for bad data.
        """
        waiting = [name]
        while waiting:
            top = waiting[-1]
            inputs = [] if top in self.stored or top not in self.makers else self.makers[top].input
            missing = [each for each in inputs if each and each not in self.values]
            if not missing:
                self._evaluate(waiting.pop())
            waiting += missing
        return self.values[name]

    def _evaluate(self, name: str) -> None:
        """Stores the value of a constant whose inputs have one."""
        if name in self.stored and name not in self.values:
            self.values[name] = tensor_value(self.stored[name], self.folder)
        elif name in self.makers and self.makers[name].output[0] not in self.values:
            self.values[self.makers[name].output[0]] = self._fold(self.makers[name])
        if name not in self.values:
            raise UnsupportedOperator(f"constant {name!r}: is sparse or a second output; store it as a dense tensor")

    def _fold(self, node: onnx.NodeProto) -> Constant:
        if node.op_type not in FOLD or node.domain not in ("", "ai.onnx"):
            raise UnsupportedOperator(
                f"constant {node.output[0]!r}: made by the operator {node.op_type!r}; only {', '.join(sorted(FOLD))} "
                "are evaluated at import; fold the model's constants first, e.g. with onnxsim"
            )
        arguments = [self.values[name] for name in node.input if name]
        try:
            attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
            value = np.asarray(FOLD[node.op_type](arguments, attributes))
        except (ValueError, TypeError, IndexError, KeyError, OverflowError) as error:
            why = " ".join(str(error).split())
            raise InvalidInput(f"constant {node.output[0]!r}: cannot evaluate its {node.op_type!r} ({why})") from None
        return value


def random_weight(
    name: str, shape: tuple[int, ...], role: str, seed: int
) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Seeded values of a weight, which depend on its name and shape: activations behind a ReLU stay near 1."""
    check_size(f"constant {name!r}", shape)
    generator = np.random.default_rng([seed, zlib.crc32(name.encode())])
    if role == "scale":
        return generator.uniform(0.5, 1.5, shape).astype(np.float32)
    if role == "slope":
        return generator.uniform(0.0, 0.5, shape).astype(np.float32)
    spread = (2.0 / prod(shape[1:])) ** 0.5 if role == "weight" else 0.25
    return generator.standard_normal(shape, dtype=np.float32) * np.float32(spread)


def with_random_weights(
    model: onnx.ModelProto, folder: Path, nodes: Sequence[onnx.NodeProto], seed: int
) -> onnx.ModelProto:
    """The model with the weights that `load_onnx(..., random_weights=seed)` gives it, to run in other tools.

    `nodes` are the model's nodes in topological order.
    """
    constants = Constants(model.graph, nodes, folder, seed)
    made = onnx.ModelProto()
    made.CopyFrom(model)
    replaced = {name for name in constants.roles if constants.value(name).size > 1}
    kept = [node for node in made.graph.node if not replaced & set(node.output)]
    stored = [tensor for tensor in made.graph.initializer if tensor.name not in replaced]
    fresh = [numpy_helper.from_array(constants.floats(name, "model"), name) for name in sorted(replaced)]
    del made.graph.node[:], made.graph.initializer[:]
    made.graph.node.extend(kept)
    made.graph.initializer.extend([*stored, *fresh])
    return made


Arguments = Sequence[Constant]
Attributes = Mapping[str, object]


def _constant(_: Arguments, attributes: Attributes) -> object:
    for name in ("value_float", "value_floats"):
        if name in attributes:
            return np.asarray(attributes[name], dtype=np.float32)
    for name in ("value_int", "value_ints"):
        if name in attributes:
            return np.asarray(attributes[name], dtype=np.int64)
    value = attributes["value"]
    if not isinstance(value, onnx.TensorProto):
        raise TypeError("its value is no tensor")
    return tensor_value(value, None)


def _constant_of_shape(arguments: Arguments, attributes: Attributes) -> object:
    shape = tuple(int(size) for size in arguments[0].ravel())
    check_size("ConstantOfShape", shape)
    value = attributes.get("value")
    fill = tensor_value(value, None) if isinstance(value, onnx.TensorProto) else np.zeros(1, dtype=np.float32)
    return np.broadcast_to(fill.reshape(()), shape)


def _axes(arguments: Arguments, attributes: Attributes) -> tuple[int, ...] | None:
    axes = attributes.get("axes", arguments[1] if len(arguments) > 1 else None)
    return None if axes is None else tuple(int(axis) for axis in np.asarray(axes).ravel())


def _reshape(arguments: Arguments, attributes: Attributes) -> object:
    sizes = [int(size) for size in arguments[1].ravel()]
    kept = [
        arguments[0].shape[d] if size == 0 and not attributes.get("allowzero") else size for d, size in enumerate(sizes)
    ]
    return arguments[0].reshape(kept)


FOLD: dict[str, Callable[[Arguments, Attributes], object]] = {
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Identity": lambda arguments, _: arguments[0],
    "Reshape": _reshape,
    "Squeeze": lambda arguments, attributes: np.squeeze(arguments[0], _axes(arguments, attributes)),
    "Transpose": lambda arguments, attributes: np.transpose(arguments[0], attributes.get("perm")),  # type: ignore[call-overload]
    "Unsqueeze": lambda arguments, attributes: np.expand_dims(arguments[0], _axes(arguments, attributes) or ()),
}
"""The operators that are evaluated on constants at import."""
