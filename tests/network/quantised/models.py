"""Small networks that onnxruntime's quantiser turns into models of integers."""

from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from polyfuse.network.network import Builder, Network
from polyfuse.network.onnx.export import onnx_model

Values = NDArray[Any]


def inverted_residuals() -> Network:
    """The kinds of layers of MobileNetV2, and its classifier."""
    build = Builder("mobile")
    y = build.conv("stem", build.input("x", (1, 3, 24, 24)), 8, kernel=3, stride=2, padding=1, activation="relu6")
    for k, stride in enumerate((1, 2, 1)):
        z = build.conv(f"expand{k}", y, 24, kernel=1, activation="relu6")
        z = build.depthwise(f"depth{k}", z, kernel=3, stride=stride, padding=1, activation="relu6")
        z = build.conv(f"project{k}", z, 8, kernel=1)
        y = build.arithmetic(f"sum{k}", "add", y, z) if stride == 1 else z
    y = build.global_average_pool("mean", y)
    return build.network(build.linear("classes", y, 10))


def branches() -> Network:
    """Branches that are concatenated, pools, a gate, and activations that do not clip."""
    build = Builder("branches")
    y = build.conv("stem", build.input("x", (1, 3, 18, 18)), 8, kernel=3, activation="relu")
    parts = build.conv("left", y, 4, kernel=1, activation="relu"), build.conv("right", y, 6, kernel=3, padding=1)
    y = build.max_pool("largest", build.concat("cat", *parts), kernel=3, stride=2, padding=1)
    smooth = build.average_pool("smooth", y, kernel=3, stride=1, padding=1)
    y = build.arithmetic("gated", "mul", smooth, build.activation("gate", y, "sigmoid"))
    y = build.activation("leaky", build.conv("wide", y, 12, kernel=3, padding=1), ("leaky_relu", 0.1))
    y = build.activation("swish", y, "hard_swish")
    return build.network(build.linear("classes", build.global_average_pool("mean", y), 7))


NETWORKS: dict[str, Callable[[], Network]] = {"mobile": inverted_residuals, "branches": branches}


class Calibration(CalibrationDataReader):  # type: ignore[misc]
    """Seeded inputs."""

    def __init__(self, network: Network) -> None:
        self.inputs: Iterator[dict[str, Values]] = iter([inputs(network, seed) for seed in range(6)])

    def get_next(self) -> dict[str, Values] | None:
        return next(self.inputs, None)


def inputs(network: Network, seed: int) -> dict[str, Values]:
    """Seeded normal values of each float input."""
    generator = np.random.default_rng(seed)
    return {t.name: generator.standard_normal(t.concrete_shape, dtype=np.float32) for t in network.inputs}


@cache
def saturates() -> bool:
    """Whether onnxruntime's products of int8 weights saturate here: they do on x86 processors without VNNI.

    Sums of two products are then limited to 16 bits, which only weights of 7 bits cannot exceed.
    """
    make, helper = onnx.numpy_helper.from_array, onnx.helper
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.UINT8, (4, 64))],
        [helper.make_tensor_value_info("y", onnx.TensorProto.INT32, (4, 64))],
        [make(np.full((64, 64), 127, np.int8), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": np.full((4, 64), 255, np.uint8)})
    return bool((found != 64 * 255 * 127).any())


def quantised(network: Network, folder: Path, form: str, activations: str, by_channel: bool) -> Path:
    """The model of a network, quantised by onnxruntime: `form` is QOperator or QDQ, `activations` QInt8 or QUInt8."""
    source, target = folder / "float.onnx", folder / f"{form}.onnx"
    model = onnx_model(network)
    for node in model.graph.node:
        if node.op_type == "AveragePool":
            without_dilations(node)
    onnx.save(model, source)
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        quantize_static(
            source, target, Calibration(network), quant_format=QuantFormat[form], per_channel=by_channel,
            activation_type=QuantType[activations], weight_type=QuantType.QInt8,
            reduce_range=saturates(),
        )  # fmt: skip
    return target


def without_dilations(node: onnx.NodeProto) -> None:
    """onnxruntime copies this attribute to QLinearAveragePool, which does not have it, and refuses it there."""
    kept = [each for each in node.attribute if each.name != "dilations"]
    del node.attribute[:]
    node.attribute.extend(kept)


def onnxruntime_outputs(path: Path, given: dict[str, Values], optimised: bool) -> list[Values]:
    """What onnxruntime makes of a model, node by node or with what it fuses: of int8, too, as is its default on Arm."""
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_EXTENDED if optimised else levels.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return [np.asarray(value) for value in session.run(None, given)]
