"""Weights whose channels have zero points of their own, against integer arithmetic, onnxruntime and compiled C."""

import logging
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from polyfuse.codegen.build import Options
from polyfuse.codegen.scratchpad.kernel import build_program
from polyfuse.machines.accelerator import accelerator
from polyfuse.network.instances import interpret
from polyfuse.network.network import Network
from polyfuse.network.onnx.load import imported
from polyfuse.network.quantised import sums
from polyfuse.network.quantised.scheme import Quantisation
from polyfuse.network.reference import run
from polyfuse.network.tensor import Tensor
from polyfuse.plan.graph.operations import graph_of
from polyfuse.plan.tiles.tables import Tile
from polyfuse.rewrite.rewriting import rewrite
from tests.codegen.scratchpad.placing import placed
from tests.network.quantised.models import onnxruntime_outputs
from tests.network.quantised.test_quantiser_opsets import given, quantised

X, Y = Quantisation(0.05, 7, "uint8"), Quantisation(0.4, 100, "uint8")
W = Quantisation((0.01, 0.03, 0.02), (103, 130, 142), "uint8")


def elements(acc: np.ndarray, axis: int) -> np.ndarray:
    """Integer sums as elements of `Y`, one multiplier for each channel along an axis."""
    shape = [-1 if a == axis else 1 for a in range(acc.ndim)]
    factors = ((X.scales * W.scales) / Y.scales).reshape(shape)
    return np.clip(np.rint(acc.astype(np.float32) * factors) + 100, 0, 255)


@pytest.mark.parametrize("kind", ["conv", "gemm", "matmul"])
def test_sums_are_those_of_integer_arithmetic(kind: str) -> None:
    generator = np.random.default_rng(0)
    zeros = np.array(W.zero_point)
    scales = (X, W, Y)
    if kind == "conv":
        x, w = generator.integers(0, 256, (1, 2, 5, 4)), generator.integers(0, 256, (3, 2, 2, 3))
        layer, more = sums.convolution("l", Tensor("x", x.shape, "uint8"), Tensor("w", w.shape, "uint8"), scales=scales)
        acc = np.zeros((1, 3, 4, 2), np.int64)
        for n, c, h, j in np.ndindex(*acc.shape):
            acc[n, c, h, j] = ((x[n, :, h : h + 2, j : j + 3] - 7) * (w[c] - zeros[c])).sum()
    elif kind == "gemm":
        x, w = generator.integers(0, 256, (4, 6)), generator.integers(0, 256, (3, 6))
        layer, more = sums.gemm("l", Tensor("x", x.shape, "uint8"), Tensor("w", w.shape, "uint8"), scales=scales)
        acc = (x - 7) @ (w - zeros[:, None]).T
    else:
        x, w = generator.integers(0, 256, (2, 4, 6)), generator.integers(0, 256, (6, 3))
        b = Tensor("w", w.shape, "uint8")
        layer, more = sums.matmul("l", Tensor("x", x.shape, "uint8"), b, [b], scales=scales)
        acc = (x - 7) @ (w - zeros)
    values = {"x": x, "w": w, **more}
    expected = elements(acc, 1 if kind == "conv" else acc.ndim - 1)
    assert layer.reference is not None
    read = [np.asarray(values[t.name], dtype=np.float64) for t in (*layer.inputs, *layer.weights)]
    np.testing.assert_array_equal(layer.reference(*read), expected)
    np.testing.assert_array_equal(interpret(layer, {name: np.float64(v) for name, v in values.items()}), expected)
    assert len(np.unique(expected)) > 5


@pytest.mark.parametrize("operator", ["QLinearMatMul", "QGemm"])
def test_products_are_what_onnxruntime_computes(operator: str, tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    constants = {
        "xs": np.float32(0.05), "xz": np.uint8(7), "w": generator.integers(0, 256, (6, 3)).astype(np.uint8),
        "ws": W.scales, "wz": np.array(W.zero_point, np.uint8), "ys": np.float32(0.4), "yz": np.uint8(100),
    }  # fmt: skip
    names = ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz"]
    names = names if operator == "QLinearMatMul" else [*names[:6], "", *names[6:]]
    node = helper.make_node(operator, names, ["y"], domain="" if operator == "QLinearMatMul" else "com.microsoft")
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.UINT8, (5, 6))],
        [helper.make_tensor_value_info("y", onnx.TensorProto.UINT8, (5, 3))],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    imports = [helper.make_opsetid("", 13), helper.make_opsetid("com.microsoft", 1)]
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=8), path)
    x = {"x": generator.integers(0, 256, (5, 6)).astype(np.uint8)}
    network = imported(path).network
    np.testing.assert_array_equal(
        run(network, x)[network.outputs[0].name], onnxruntime_outputs(path, x, optimised=False)[0]
    )


def test_a_model_of_the_quantiser_compiled_for_a_scratchpad(tmp_path: Path) -> None:
    logging.disable(logging.WARNING)
    path = quantised(tmp_path, 13, "QOperator", "QUInt8 QUInt8", True)
    network: Network = rewrite(imported(path).network).network
    assert any(name.endswith("_zero") for name in network.weights)
    graph = graph_of(network)
    plan = placed(graph, accelerator("npu"), [((o.name,), Tile(1)) for o in graph.operations])
    outputs, _ = build_program(plan.program, Options(flags=("-std=c11", "-O0")))(**given(9))
    np.testing.assert_array_equal(next(iter(outputs.values())), onnxruntime_outputs(path, given(9), True)[0])
