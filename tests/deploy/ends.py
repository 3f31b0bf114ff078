"""Models whose inputs, outputs and nodes are called and listed in every way, and what onnxruntime makes of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[Any]
SHAPE = (1, 2, 4, 5)
TYPES = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64, "bool": TensorProto.BOOL}


def made(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Sequence[int] | tuple[str, Sequence[int]]],
    outputs: Sequence[str],
    constants: Mapping[str, Array] | None = None,
) -> onnx.ModelProto:
    """A model; an input is a shape of float32, or a type and a shape. Types of outputs are left to inference."""
    given = [
        helper.make_tensor_value_info(name, TYPES[each[0]] if each and isinstance(each[0], str) else 1, _shape(each))
        for name, each in inputs.items()
    ]
    wanted = [onnx.ValueInfoProto(name=name) for name in outputs]
    stored = [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()]
    graph = helper.make_graph(list(nodes), "g", given, wanted, stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _shape(each: Sequence[Any]) -> Sequence[int]:
    return each[1] if each and isinstance(each[0], str) else each  # type: ignore[no-any-return]


def saved(model: onnx.ModelProto, folder: Path, name: str = "m") -> Path:
    """The file of a model."""
    path = folder / f"{name}.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def session_of(model: onnx.ModelProto) -> Any:
    """onnxruntime on a model, as it is."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def random_arrays(model: onnx.ModelProto, seed: int = 0) -> list[Array]:
    """An array for each input, in the order of onnxruntime."""
    random = np.random.default_rng(seed)
    kinds = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(bool)": np.bool_}
    return [
        np.asarray(4 * random.standard_normal(each.shape), kinds[each.type]) for each in session_of(model).get_inputs()
    ]


def expected(model: onnx.ModelProto, arrays: Sequence[Array]) -> list[Array]:
    """The outputs in onnxruntime, in its order."""
    session = session_of(model)
    feed = dict(zip((each.name for each in session.get_inputs()), arrays, strict=True))
    return [np.asarray(value) for value in session.run(None, feed)]


def same(actual: Array, wanted: Array) -> bool:
    """Type, shape and values."""
    if actual.dtype != wanted.dtype or actual.shape != wanted.shape:
        return False
    return bool(np.allclose(actual, wanted, rtol=1e-4, atol=1e-4, equal_nan=True))


def node(operator: str, inputs: Sequence[str], *outputs: str, **attributes: Any) -> onnx.NodeProto:
    """A node."""
    return helper.make_node(operator, list(inputs), list(outputs), **attributes)


CONSTANT = np.arange(6, dtype=np.float32).reshape(2, 3)
WHOLE = np.int64([3, -4])
RELU = node("Relu", ["x"], "y")
X = {"x": SHAPE}
ENDS: dict[str, onnx.ModelProto] = {
    "swapped": made(
        [node("Neg", ["b"], "nb"), node("Sub", ["nb", "a"], "z"), node("Relu", ["b"], "y")],
        {"a": SHAPE, "unused": ("int64", [3]), "b": SHAPE},
        ["y", "z"],
    ),
    "an input": made([RELU], X, ["x", "y"]),
    "an input behind": made([RELU], X, ["y", "x"]),
    "an input of whole numbers": made([RELU], {"i": ("int64", [3]), **X}, ["y", "i"]),
    "an initializer": made([RELU], X, ["w", "y", "n"], {"w": CONSTANT, "n": WHOLE}),
    "an initializer that is read": made([node("Add", ["x", "w"], "y")], X, ["y", "w"], {"w": CONSTANT[:1, 2:]}),
    "a Constant": made([RELU, node("Constant", [], "c", value_floats=[1.5, 2.5])], X, ["c", "y"]),
    "folded": made(
        [RELU, node("Add", ["w", "w"], "d"), node("Greater", ["d", "w"], "g")], X, ["g", "y", "d"], {"w": CONSTANT}
    ),
    "a Shape": made([node("MaxPool", ["x"], "y", kernel_shape=[2, 2]), node("Shape", ["y"], "s")], X, ["s", "y"]),
    "a Shape of what is not needed else": made(
        [
            *[RELU, node("Transpose", ["y"], "t"), node("Neg", ["t"], "m")],
            *[node("Shape", ["m"], "s"), node("Size", ["m"], "k")],
        ],
        X,
        ["k", "s", "y"],
    ),
    "a Shape of an input that nothing reads": made(
        [RELU, node("Shape", ["b"], "s")], {"b": ("int64", [3, 5]), **X}, ["y", "s"]
    ),
    "listed twice": made([RELU], X, ["y", "y"]),
    "aliased": made([RELU, node("Identity", ["y"], "z"), node("Identity", ["x"], "v")], X, ["z", "y", "v", "x"]),
    "the input alone": made([node("Identity", ["x"], "y")], X, ["x"]),
    "no input is read but one": made([node("Relu", ["c"], "y")], dict.fromkeys("abcd", SHAPE), ["y"]),
    "in the middle": made(
        [node("Relu", ["x"], "a"), node("Neg", ["a"], "b"), node("Exp", ["b"], "c")], X, ["c", "a", "b"]
    ),
}  # fmt: skip
"""Models by what is unusual about their ends."""
NODES = {"Add": 2, "Sub": 2, "Mul": 2, "Relu": 1, "Neg": 1, "Sigmoid": 1, "Identity": 1, "Max": 2}


def random_model(seed: int, names: Sequence[str] | None = None) -> onnx.ModelProto:
    """A few pointwise nodes on some of a few inputs, in random order; outputs are some of all tensors, some twice."""
    random = np.random.default_rng(seed)
    count = int(random.integers(1, 5))
    wished = list(names) if names is not None else [f"{'vtsq'[k % 4]}{k}" for k in range(30)]
    fresh = iter(random.permutation(wished).tolist())
    inputs: dict[str, Any] = {next(fresh): SHAPE for _ in range(count)}
    if random.integers(3) == 0:
        inputs = {next(fresh): ("int64", [2, 3]), **inputs}
    constants = {next(fresh): random.standard_normal((1, 2, 1, 1)).astype(np.float32)}
    floats, whole, nodes = [name for name, each in inputs.items() if each == SHAPE], [], []
    for k in range(int(random.integers(1, 6))):
        operator = str(random.choice(list(NODES)))
        read = [str(random.choice(floats)) for _ in range(NODES[operator])]
        if len(read) == 2 and random.integers(3) == 0:
            read[1] = next(iter(constants))
        called = str(random.choice(["", f"n/{k}", wished[k], f"{wished[0]}_{k}"]))
        nodes.append(node(operator, read, next(fresh), name=called))
        floats.append(nodes[-1].output[0])
    if random.integers(2):
        whole.append(next(fresh))
        nodes.append(node("Shape", [str(random.choice(floats))], whole[0]))
    computed = [each.output[0] for each in nodes if each.op_type != "Shape"]
    listed = [str(random.choice([*inputs, *constants, *computed, *whole])) for _ in range(int(random.integers(0, 4)))]
    listed.insert(int(random.integers(0, len(listed) + 1)), str(random.choice(computed)))
    return made(nodes, inputs, listed, constants)
