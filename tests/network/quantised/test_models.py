"""Models that onnxruntime's quantiser made, imported and rewritten, against onnxruntime, to the bit."""

import logging
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from polyfuse.loading import load_workload
from polyfuse.network.network import Network
from polyfuse.network.onnx.load import imported
from polyfuse.network.reference import run
from polyfuse.rewrite.rewriting import rewrite
from tests.network.quantised.models import NETWORKS, inputs, onnxruntime_outputs, quantised

FORMS = pytest.mark.parametrize("form", ["QOperator", "QDQ"])
TYPES = pytest.mark.parametrize("activations", ["QInt8", "QUInt8"])
SEEDS = range(100, 106)


@pytest.fixture(autouse=True)
def _quiet() -> None:
    logging.disable(logging.WARNING)


@FORMS
@TYPES
def test_mobilenet_v2_is_what_onnxruntime_runs(form: str, activations: str, tmp_path: Path) -> None:
    parameters = {"size": "64", "width": "0.35", "classes": "100"}
    path = quantised(load_workload("mobilenet_v2", parameters=parameters), tmp_path, form, activations, True)
    network = rewrite(imported(path).network).network
    kinds = Counter(layer.kind for layer in network.layers)
    assert kinds["qlinear_conv"] == 52 and kinds["qlinear_add"] == 10 and kinds["qlinear_gemm"] == 1
    (expected,) = onnxruntime_outputs(path, inputs(network, 9), optimised=True)
    np.testing.assert_array_equal(outputs(network, 9)[0], expected)


def outputs(network: Network, seed: int) -> list[np.ndarray]:
    values = run(network, inputs(network, seed))
    return [values[tensor.name] for tensor in network.outputs]


@FORMS
@TYPES
@pytest.mark.parametrize("by_channel", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_rewritten_models_are_what_onnxruntime_runs(form, activations, by_channel, name, tmp_path):  # type: ignore[no-untyped-def]
    """Of QDQ models this is what onnxruntime fuses, which is its default."""
    path = quantised(NETWORKS[name](), tmp_path, form, activations, by_channel)
    network = rewrite(imported(path).network).network
    for seed in SEEDS:
        expected = onnxruntime_outputs(path, inputs(network, seed), optimised=True)
        for actual, wanted in zip(outputs(network, seed), expected, strict=True):
            np.testing.assert_array_equal(actual, wanted)
            assert len(set(wanted.ravel().tolist())) > 3


@FORMS
@TYPES
def test_everything_but_the_ends_becomes_integer(form: str, activations: str, tmp_path: Path) -> None:
    path = quantised(NETWORKS["mobile"](), tmp_path, form, activations, True)
    network = rewrite(imported(path).network).network
    kinds = Counter(layer.kind for layer in network.layers)
    assert kinds["quantize"] == kinds["dequantize"] == 1
    floats = [layer.name for layer in network.layers if layer.output.dtype == "float32"]
    assert floats == [network.layers[-1].name]
    kept = sum(w.element_bytes * w.elements for layer in network.layers for w in layer.weights if w.dtype == "int8")
    assert kept == sum(value.nbytes for value in network.weights.values() if value.dtype == np.int8) > 0


@pytest.mark.parametrize("name", NETWORKS)
def test_models_that_are_not_rewritten_are_what_onnxruntime_computes_node_by_node(name: str, tmp_path: Path) -> None:
    path = quantised(NETWORKS[name](), tmp_path, "QDQ", "QInt8", True)
    network = imported(path).network
    differing = total = 0
    for seed in SEEDS:
        expected = onnxruntime_outputs(path, inputs(network, seed), optimised=False)
        for actual, wanted in zip(outputs(network, seed), expected, strict=True):
            step = np.diff(np.unique(np.concatenate([actual.ravel(), wanted.ravel()]))).min()
            assert np.abs(actual - wanted).max() <= 2.01 * step
            differing += int((actual != wanted).sum())
            total += wanted.size
    assert differing <= total // 10


def test_a_rule_says_why_a_layer_stays_float(tmp_path: Path) -> None:
    from onnx import helper, numpy_helper, save

    from tests.network.onnx.models import model

    scale, zero = np.float32(0.1), np.int8(0)
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("Conv", ["d", "w"], ["c"], name="conv"),
        helper.make_node("QuantizeLinear", ["c", "s", "z"], ["y"]),
    ]
    made = model(nodes, {"x": (1, 1, 4, 4)}, ["y"], {"w": np.ones((1, 1, 1, 1), np.float32)})
    made.graph.output[0].type.tensor_type.elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(np.int8))
    made.graph.initializer.extend(
        [numpy_helper.from_array(np.asarray(scale), "s"), numpy_helper.from_array(np.asarray(zero), "z")]
    )
    save(made, tmp_path / "m.onnx")
    found = rewrite(imported(tmp_path / "m.onnx").network)
    (miss,) = [each for each in found.near_misses if each.rule == "quantised-sums"]
    assert "conv reads floats that do not come from whole numbers" in miss.reason
