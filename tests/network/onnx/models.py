"""Tiny ONNX models and what onnxruntime makes of them: the oracle of the reference semantics and of the importer."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from polyfuse.network.onnx.constants import with_random_weights
from polyfuse.network.onnx.graph import sorted_nodes
from polyfuse.network.onnx.resolving import resolved

Array = NDArray[np.float32]


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Sequence[int | str]],
    outputs: Sequence[str],
    constants: Mapping[str, Array] | None = None,
    opset: int = 20,
) -> onnx.ModelProto:
    """A float32 model; the shapes of its outputs are left to inference."""
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def onnxruntime_run(made: onnx.ModelProto, inputs: Mapping[str, Array]) -> list[Array]:
    """The outputs in onnxruntime, without its graph rewriting."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [np.asarray(value) for value in session.run(None, dict(inputs))]


def values(shape: Sequence[int], seed: int = 0) -> Array:
    """Seeded normal values."""
    return np.random.default_rng(seed).standard_normal(tuple(shape), dtype=np.float32)


def randomised(path: str | Path, seed: int) -> onnx.ModelProto:
    """The model with the weights that `imported(path, random_weights=seed)` gives it, to run it in other tools."""
    file = Path(path)
    whole = resolved(file)
    return with_random_weights(whole.model, file.parent, sorted_nodes(whole.model.graph.node), seed)
