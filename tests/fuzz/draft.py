"""An ONNX model that is being drawn: nodes with random attributes, constants and inputs with random names.

A seeded `random.Random` and an operator set enter; a `ModelProto` and the values of its inputs leave.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

Values = NDArray[Any]
WORDS = (
    *("x", "row", "conv_loop", "h/loop", "/model.0/act.1", "in put", "名前", "int", "0", "a-b:c", "%s", "acc", "y'"),
    *("T1_out", "/backbone/stage2/block0/layer_scale/gamma/Mul_1", "l" * 120, "double", "x_scale", "d1", "*/"),
)
"""What tensors and nodes are called, with numbers behind where a name is taken."""
NEWEST = onnx.defs.onnx_opset_version()
SMALL = (1, 2, 3, 4, 5, 7)


@dataclass(frozen=True)
class Value:
    """A tensor of the model: its name, and what it is like; `array` where it is an input or a constant."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    array: Values | None = None


@dataclass
class Draft:
    """What is drawn so far."""

    rng: random.Random
    opset: int
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    inputs: list[Value] = field(default_factory=list)
    constants: list[Value] = field(default_factory=list)
    names: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.numbers = np.random.default_rng(self.rng.randrange(2**32))

    def name(self) -> str:
        """A name that nothing has: a hostile word, or one with a number."""
        word = self.rng.choice(WORDS)
        found = word if word not in self.names else f"{word}{len(self.names)}"
        self.names.add(found)
        return found

    def array(self, shape: Sequence[int], dtype: str = "float32") -> Values:
        """Random elements: normal ones, or any of a type of whole numbers."""
        if dtype == "float32":
            return self.numbers.standard_normal(tuple(shape), dtype=np.float32)
        limits = np.iinfo(dtype)
        low, high = (limits.min, limits.max + 1) if limits.bits == 8 else (-50, 50)
        return self.numbers.integers(low, high, tuple(shape)).astype(dtype)

    def input(self, shape: Sequence[int], dtype: str = "float32") -> Value:
        """An input of the model."""
        self.inputs.append(Value(self.name(), tuple(shape), dtype, self.array(shape, dtype)))
        return self.inputs[-1]

    def constant(self, array: Any, dtype: str | None = None) -> Value:
        """An initializer."""
        stored = np.asarray(array, dtype=dtype)
        self.constants.append(Value(self.name(), stored.shape, str(stored.dtype), stored))
        return self.constants[-1]

    def weight(self, *shape: int) -> Value:
        """An initializer of random elements."""
        return self.constant(self.array(shape))

    def operand(self, *shape: int) -> Value:
        """An initializer, or another input."""
        return self.weight(*shape) if self.rng.random() < 0.6 else self.input(shape)

    def node(
        self, operator: str, reads: Sequence[Value | None], outputs: int = 1, domain: str = "", **attributes: Any
    ) -> list[str]:
        """A node; attributes that are None are left out. The names of what it makes."""
        made = [self.name() for _ in range(outputs)]
        given = {key: value for key, value in attributes.items() if value is not None}
        read = ["" if each is None else each.name for each in reads]
        while read and not read[-1]:
            read.pop()
        self.nodes.append(helper.make_node(operator, read, made, self.name(), domain=domain, **given))
        if self.rng.random() < 0.3:
            self.nodes[-1].name = ""
        return made

    def maybe(self, value: Any, chance: float = 0.5) -> Any:
        """The value, or None."""
        return value if self.rng.random() < chance else None

    def size(self) -> int:
        """A small size."""
        return self.rng.choice(SMALL)

    def shape(self, low: int = 1, high: int = 5) -> tuple[int, ...]:
        """A small shape of some rank."""
        return tuple(self.size() for _ in range(self.rng.randint(low, high)))

    def axis(self, rank: int, below: int = 0) -> int:
        """An axis from either end; up to `below` more at the end."""
        return self.rng.randint(-rank, rank - 1 + below)

    def axes(self, rank: int) -> list[int]:
        """Some different axes, from either end, in any order."""
        chosen = self.rng.sample(range(rank), self.rng.randint(1, rank))
        return [axis - rank * self.rng.randint(0, 1) for axis in chosen]

    def listed(self, operator: str, reads: Sequence[Value | None], since: int, **lists: Any) -> list[str]:
        """A node whose lists are attributes before an operator set and inputs from it on."""
        if self.opset < since:
            return self.node(operator, reads, **lists)
        more = [None if each is None else self.constant(np.array(each, np.int64)) for each in lists.values()]
        return self.node(operator, [*reads, *more])

    def model(self, outputs: Sequence[str]) -> onnx.ModelProto:
        """The model that makes these tensors."""
        graph = helper.make_graph(
            self.nodes,
            "g",
            [
                helper.make_tensor_value_info(
                    each.name, helper.np_dtype_to_tensor_dtype(np.dtype(each.dtype)), each.shape
                )
                for each in self.inputs
            ],
            [onnx.ValueInfoProto(name=name) for name in outputs],
            [numpy_helper.from_array(each.array, each.name) for each in self.constants if each.array is not None],
        )
        imports = [helper.make_opsetid("", self.opset), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=imports, ir_version=8 if self.opset < 21 else 11)
