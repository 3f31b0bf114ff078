"""The constants of an ONNX graph: stored or computed from stored ones, or replaced by seeded random weights.

Nodes in topological order enter; which tensors are constant, and their values on demand, leave.
"""

import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from math import prod
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from polyfuse.errors import InvalidInput, UnsupportedOperator
from polyfuse.network.onnx.file import Constant, check_size, opset_of, tensor_value
from polyfuse.network.onnx.folding import evaluated
from polyfuse.network.onnx.subgraphs import own, reads

RANDOM = frozenset(
    ["Bernoulli", "Multinomial", "RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike"]
)
SHAPES = frozenset(["Shape", "Size"])
"""Operators whose result is constant, whatever they read: all sizes are known."""
ROLES: dict[str, dict[int, str]] = {
    "Conv": {1: "weight", 2: "shift"},
    "ConvTranspose": {1: "deconvolution", 2: "shift"},
    "Gemm": {1: "weight", 2: "shift"},
    "MatMul": {0: "weight", 1: "weight"},
    "InstanceNormalization": {1: "scale", 2: "shift"},
    "BatchNormalization": {1: "scale", 2: "shift", 3: "shift", 4: "scale"},
    "PRelu": {1: "slope"},
    "Add": {0: "shift", 1: "shift"},
    "Sub": {0: "shift", 1: "shift"},
    "Mul": {0: "scale", 1: "scale"},
    "Div": {0: "scale", 1: "scale"},
}
"""The roles of weights, by operator and operand, which decide how random ones are drawn."""


class Constants:
    """The constant tensors of a graph, evaluated when they are asked for.

    The shape of a computed tensor is constant, too: `shape_of` gives it by the tensor's name.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        nodes: Sequence[onnx.NodeProto],
        folder: Path,
        seed: int | None,
        opsets: Mapping[str, int] | None = None,
    ) -> None:
        self.folder = folder
        self.seed = seed
        self.opset = opset_of(model)
        self.opsets = opsets or {}
        self.stored: dict[str, onnx.TensorProto] = {}
        self.sparse: set[str] = set()
        self.makers: dict[str, onnx.NodeProto] = {}
        self.of_shapes: set[str] = set()
        self.store(model.graph)
        for node in nodes:
            self.see(node)
        self.shape_of: Callable[[str], Sequence[int]] = unknown_shape
        self.roles = self._roles(nodes) if seed is not None else {}
        self.values: dict[str, Constant] = {}

    def store(self, graph: onnx.GraphProto) -> None:
        """Know the tensors that a graph stores."""
        self.stored |= {tensor.name: tensor for tensor in graph.initializer if tensor.name}
        self.sparse |= {tensor.values.name for tensor in graph.sparse_initializer} - {""}

    def see(self, node: onnx.NodeProto) -> None:
        """Know what a node makes, if all that it reads is constant, also inside its subgraphs, and nothing random."""
        if _tells_shape(node) or (node.op_type not in RANDOM and all(map(self.known, reads(node)))):
            self.makers |= {name: node for name in node.output if name}
        if self.makes(node) and (_tells_shape(node) or self.of_shapes.intersection(reads(node))):
            self.of_shapes |= set(node.output) - {""}

    def known(self, name: str) -> bool:
        """The tensor is constant."""
        return name in self.stored or name in self.makers or name in self.sparse

    def leading_to(self, names: Iterable[str]) -> list[onnx.NodeProto]:
        """The nodes that make constants among the tensors of those names, and the constants that these need."""
        waiting, found = list(names), set[str]()
        while waiting:
            name = waiting.pop()
            if name in self.makers and name not in self.stored and name not in found:
                found.add(name)
                waiting += self._needed(name)
        return list({id(node): node for name, node in self.makers.items() if name in found}.values())

    def opset_of(self, node: onnx.NodeProto) -> int:
        """The version of ONNX's own operators that a node is of."""
        return self.opsets.get(next(filter(None, node.output), ""), self.opset)

    def makes(self, node: onnx.NodeProto) -> bool:
        """The node makes nothing but constants."""
        return bool(node.output) and self.makers.get(next(filter(None, node.output), "")) is node

    def result(self, name: str) -> Constant:
        """The value of a constant that is an output, in the model's type; a random one where a seed was given."""
        value = self.value(name)
        return self.floats(name, "model") if value.dtype == np.float32 else np.array(value)

    def _roles(self, nodes: Sequence[onnx.NodeProto]) -> dict[str, str]:
        found = {}
        for node in nodes:
            if not self.makes(node):
                for position, role in ROLES.get(node.op_type, {}).items():
                    name = node.input[position] if position < len(node.input) else ""
                    if self.known(name) and name not in self.of_shapes:
                        found[name] = "matrix" if role == "weight" and _is_transposed(node) else role
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

        Errors: UnsupportedOperator where a node that makes it is not one of FOLDED; InvalidInput for bad data.
        """
        waiting = [name]
        while waiting:
            top = waiting[-1]
            missing = [each for each in self._needed(top) if each not in self.values]
            if not missing:
                self._evaluate(waiting.pop())
            waiting += missing
        return self.values[name]

    def _needed(self, name: str) -> list[str]:
        """The constants that a constant is computed from."""
        if name in self.stored or name not in self.makers:
            return []
        return [each for each in reads(self.makers[name]) if self.known(each)]

    def _evaluate(self, name: str) -> None:
        """Stores the value of a constant whose inputs have one."""
        if name in self.stored and name not in self.values:
            self.values[name] = tensor_value(self.stored[name], self.folder)
        elif name in self.makers and name not in self.values:
            node = self.makers[name]
            inputs = [self._argument(node, each) if each else None for each in node.input]
            made = zip(filter(None, node.output), evaluated(node, inputs, self.opset_of(node)), strict=False)
            self.values |= dict(made)
        if name not in self.values:
            raise UnsupportedOperator(f"constant {name!r}: is sparse; store it as a dense tensor")

    def _argument(self, node: onnx.NodeProto, name: str) -> Constant:
        """The value of an input; of a computed one, of which the shape is asked, zeros that take no memory."""
        if _tells_shape(node) and name not in self.values:
            return np.broadcast_to(np.float32(0.0), tuple(self.shape_of(name)))
        return self.values[name]


def unknown_shape(name: str) -> Sequence[int]:
    """Refuse to tell a shape. Errors: UnsupportedOperator."""
    raise UnsupportedOperator(f"tensor {name!r}: its shape is needed before it is made; export with fixed sizes")


def _tells_shape(node: onnx.NodeProto) -> bool:
    return node.op_type in SHAPES and own(node.domain)


def _is_transposed(node: onnx.NodeProto) -> bool:
    """The weight of a node has its inputs in front: a sum runs over the second axis from behind."""
    return node.op_type == "MatMul" or (
        node.op_type == "Gemm" and not any(each.name == "transB" and each.i for each in node.attribute)
    )


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
    added = {"weight": shape[1:], "matrix": shape[-2:-1], "deconvolution": (*shape[:1], *shape[2:])}
    spread = (2.0 / prod(added[role])) ** 0.5 if role in added else 0.25
    return generator.standard_normal(shape, dtype=np.float32) * np.float32(spread)


def with_random_weights(
    model: onnx.ModelProto,
    folder: Path,
    nodes: Sequence[onnx.NodeProto],
    seed: int,
    opsets: Mapping[str, int] | None = None,
) -> onnx.ModelProto:
    """The model with the weights that `load_onnx(..., random_weights=seed)` gives it, to run in other tools.

    `nodes` are the model's nodes in topological order.
    """
    constants = Constants(model, nodes, folder, seed, opsets)
    made = deepcopy(model)
    replaced = {name for name in constants.roles if constants.value(name).size > 1}
    kept = [node for node in made.graph.node if not replaced & set(node.output)]
    stored = [tensor for tensor in made.graph.initializer if tensor.name not in replaced]
    fresh = [numpy_helper.from_array(constants.floats(name, "model"), name) for name in sorted(replaced)]
    del made.graph.node[:], made.graph.initializer[:]
    made.graph.node.extend(kept)
    made.graph.initializer.extend([*stored, *fresh])
    return made
