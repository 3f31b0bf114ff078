"""Means of integers where windows reach beyond the padding: onnxruntime's operator counts that, ONNX's does not."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from polyfuse.network.onnx.load import imported
from polyfuse.network.reference import run
from polyfuse.rewrite.rewriting import rewrite
from tests.network.quantised.models import onnxruntime_outputs

X = {"x": np.random.default_rng(0).integers(0, 256, (1, 2, 9, 8)).astype(np.uint8)}
SCALES = {"s": np.float32(0.05), "z": np.uint8(121), "t": np.float32(0.08), "u": np.uint8(124)}


def saved(nodes: list[onnx.NodeProto], folder: Path) -> Path:
    """A model of integers with these nodes."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.UINT8, X["x"].shape)],
        [onnx.ValueInfoProto(name="y")],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in SCALES.items()],
    )
    imports = [helper.make_opsetid("", 13), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=8), folder / "m.onnx")
    return folder / "m.onnx"


@pytest.mark.parametrize("counts", [0, 1])
@pytest.mark.parametrize("ceil", [0, 1])
@pytest.mark.parametrize(("kernel", "strides", "pads"), [((2, 1), (2, 1), (0,) * 4), ((3, 3), (2, 3), (1, 0, 1, 1))])
def test_means_are_what_onnxruntime_computes(kernel, strides, pads, ceil, counts, tmp_path):  # type: ignore[no-untyped-def]
    window = {"kernel_shape": kernel, "strides": strides, "pads": pads, "ceil_mode": ceil, "count_include_pad": counts}
    node = helper.make_node("QLinearAveragePool", ["x", "s", "z", "t", "u"], ["y"], domain="com.microsoft", **window)
    path = saved([node], tmp_path)
    network = imported(path).network
    found = run(network, X)[network.outputs[0].name]
    np.testing.assert_array_equal(found, onnxruntime_outputs(path, X, optimised=False)[0])


@pytest.mark.parametrize("counts", [0, 1])
def test_a_mean_between_scales_stays_float_where_the_two_differ(counts: int, tmp_path: Path) -> None:
    window = {"kernel_shape": [2, 1], "strides": [2, 1], "ceil_mode": 1, "count_include_pad": counts}
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "s", "z"], ["a"]),
        helper.make_node("AveragePool", ["a"], ["b"], **window),
        helper.make_node("QuantizeLinear", ["b", "t", "u"], ["y"]),
    ]
    path = saved(nodes, tmp_path)
    network = rewrite(imported(path).network).network
    kinds = [layer.kind for layer in network.layers]
    assert ("qlinear_average_pool" in kinds) == (not counts)
    found = run(network, X)[network.outputs[0].name]
    np.testing.assert_array_equal(found, onnxruntime_outputs(path, X, optimised=not counts)[0])
