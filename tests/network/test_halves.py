"""Networks stored in half against onnxruntime, which rounds after every layer with Cast."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from polyfuse.errors import InvalidInput
from polyfuse.network.dtypes import decoded, stored
from polyfuse.network.halves import with_storage
from polyfuse.network.layers.normalisation import instance_norm
from polyfuse.network.layers.reductions import softmax
from polyfuse.network.network import Builder, Network
from polyfuse.network.onnx.export import onnx_model
from polyfuse.network.reference import random_inputs, run
from polyfuse.rewrite.rewriting import rewrite
from tests.network.onnx.models import onnxruntime_run

HALVES = pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
KINDS = {"float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}


def layers_of_a_network() -> Network:
    build = Builder("net")
    y = build.conv("c1", build.input("x", (1, 3, 14, 14)), 16, kernel=3, stride=2, activation="relu6")
    z = build.depthwise("c2", y, kernel=3, padding=1)
    y = build.max_pool("p1", build.arithmetic("sum", "add", y, z), kernel=2)
    return build.network(build.linear("fc", build.global_average_pool("mean", y), 9))


def rounding(model: onnx.ModelProto, dtype: str) -> onnx.ModelProto:
    """The float model with a Cast to half and back after every node."""
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if "/" in node.output[0] or node.op_type == "Reshape":
            nodes.append(node)
            continue
        out = node.output[0]
        node.output[0] = f"{out}/exact"
        nodes += [
            node,
            helper.make_node("Cast", [f"{out}/exact"], [f"{out}/half"], to=KINDS[dtype]),
            helper.make_node("Cast", [f"{out}/half"], [out], to=TensorProto.FLOAT),
        ]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            value = stored(numpy_helper.to_array(tensor), dtype).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    return model


def ulps(values: np.ndarray, dtype: str) -> np.ndarray:
    digits = {"float16": 10, "bfloat16": 7}[dtype]
    return 2.0 ** (np.floor(np.log2(np.maximum(np.abs(values), 2.0**-14))) - digits)


@HALVES
def test_values_are_rounded_after_each_layer(dtype: str) -> None:
    network = layers_of_a_network()
    inputs = {"x": stored(random_inputs(network, 3)["x"], dtype).astype(np.float32)}
    (expected,) = onnxruntime_run(rounding(onnx_model(network), dtype), inputs)
    half = with_storage(network, dtype)
    actual = run(half, inputs)["fc_out"]
    assert np.abs(actual - expected).max() <= (2 * ulps(expected, dtype)).max()
    assert np.mean(actual != expected) <= 0.25
    exact = run(network, inputs)["fc_out"]
    assert np.abs(actual - exact).max() > 0.2 * np.abs(actual - expected).max()
    np.testing.assert_array_equal(actual, stored(actual, dtype))


@HALVES
def test_everything_is_half_and_sums_are_not(dtype: str) -> None:
    half = with_storage(layers_of_a_network(), dtype)
    assert half.dtypes == {dtype}
    assert all(layer.acc_dtype == "float32" for layer in half.layers)
    assert all(value.itemsize == 2 for value in half.weights.values())


def test_long_sums_do_not_overflow_or_stop() -> None:
    """Sums of 65,536 ones and their mean: float16 ends at 65,504, and stops adding ones at 2,048."""
    build = Builder("net")
    x = build.input("x", (1, 1, 256, 256))
    half = with_storage(build.network(build.global_average_pool("mean", x)), "float16")
    assert run(half, {"x": np.ones((1, 1, 256, 256))})["mean_out"].item() == 1.0
    build = Builder("net")
    x = build.input("x", (1, 70_000))
    for layer in softmax("s", x, (1,)):
        y = build.add(layer)
    half = with_storage(build.network(y), "float16")
    values = run(half, {"x": np.zeros((1, 70_000))})
    assert values["s_sum_out"].item() == 70_000 and half.layer("s_sum").output.dtype == "float32"
    assert values["s_out"][0, 0] == stored(1 / 70_000, "float16")


def test_statistics_of_normalisation_stay_wide() -> None:
    build = Builder("net")
    x = build.input("x", (1, 2, 8, 8))
    for layer in instance_norm("n", x, build.weight("s", (1, 2, 1, 1), 1), build.weight("t", (1, 2, 1, 1), 1)):
        y = build.add(layer)
    half = with_storage(build.network(y), "bfloat16")
    assert {layer.output.name: layer.output.dtype for layer in half.layers} == {
        "n_mean_out": "float32",
        "n_var_out": "float32",
        "n_out": "bfloat16",
    }


def test_other_types_are_refused() -> None:
    with pytest.raises(InvalidInput, match="storage 'int8': expected float16, bfloat16 or float64"):
        with_storage(layers_of_a_network(), "int8")


def test_weights_that_a_half_does_not_have_are_refused() -> None:
    build = Builder("net")
    weight = np.full((1, 1, 1, 1), 1e5, np.float32)
    network = build.network(build.conv("c", build.input("x", (1, 1, 2, 2)), 1, kernel=1, weight=weight))
    with pytest.raises(InvalidInput, match=r"'c_weight': 100000\.0 passes what float16 has; store it as bfloat16"):
        with_storage(network, "float16")
    assert decoded(with_storage(network, "bfloat16").weights["c_weight"], "bfloat16").item() == 99_840


def test_networks_in_half_are_not_stored_or_rewritten_again() -> None:
    half = with_storage(layers_of_a_network(), "float16")
    with pytest.raises(InvalidInput, match="storing in bfloat16 needs float32"):
        with_storage(half, "bfloat16")
    with pytest.raises(InvalidInput, match="is stored in float16; rewrite it before with_storage"):
        rewrite(half)
