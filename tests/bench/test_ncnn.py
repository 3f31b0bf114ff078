"""ncnn through pnnx: what is given to pnnx means the same, and whole models run and are right where both are there."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from onnxruntime import InferenceSession

from polyfuse.bench.peers.contender import PEERS, how_to_install, peers_named
from polyfuse.bench.peers.models import network_and_model
from polyfuse.bench.peers.ncnn_net import BATCH, pool_parameters, readable, with_pools
from polyfuse.bench.peers.race import MOST_ERROR, RaceRules, race
from polyfuse.bench.peers.results import PeerRow
from polyfuse.errors import UnsupportedOperator
from polyfuse.loading import Workload
from polyfuse.network.network import Builder, Network
from tests.machines.example import example as machine
from tests.network.layers.test_whole_layers import LAYERS
from tests.network.onnx.test_export import of_layers

(NCNN,) = peers_named("ncnn")
needs_ncnn = pytest.mark.skipif(not NCNN.installed, reason=how_to_install([NCNN]))


def weight(name: str, *shape: int) -> onnx.TensorProto:
    values = np.random.default_rng(len(name)).standard_normal(shape).astype(np.float32) / 2
    return onnx.numpy_helper.from_array(values, name)


def old_model(opset: int = 9, form: int = 3) -> onnx.ModelProto:
    """A classifier as old exporters wrote it: weights among the inputs, Softmax of an opset before 13."""
    weights = [weight("w", 12, 3, 3, 3), weight("slope", 12, 1, 1), weight("v", 10, 12), weight("b", 10)]
    shape = onnx.numpy_helper.from_array(np.array([1, 12]), "shape")
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("PRelu", ["c", "slope"], ["p"]),
        helper.make_node("AveragePool", ["p"], ["a"], kernel_shape=[7, 7], pads=[0, 0, 1, 1]),
        helper.make_node("Reshape", ["a", "shape"], ["f"]),
        helper.make_node("Gemm", ["f", "v", "b"], ["g"], transB=1),
        helper.make_node("Softmax", ["g"], ["y"]),
    ]
    every = [*weights, shape]
    inputs = [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in every]
    inputs.insert(2, helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 3, 12, 12]))
    graph = helper.make_graph(
        nodes, "old", inputs, [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 10])], every
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = form
    return model


def softmax_of_images() -> onnx.ModelProto:
    """Before opset 13, Softmax of axis 1 is over channels, rows and columns at once."""
    value = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 3, 4, 5]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Softmax", ["x"], ["y"], axis=1)], "images", value[:1], value[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 9)], ir_version=7)


def newest_average() -> onnx.ModelProto:
    value = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1, 2, 6, s]) for n, s in (("x", 7), ("y", 5))]
    node = helper.make_node("AveragePool", ["x"], ["y"], kernel_shape=[1, 3], dilations=[1, 1])
    graph = helper.make_graph([node], "average", value[:1], value[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


@pytest.mark.parametrize("make", [old_model, softmax_of_images, newest_average])
def test_what_pnnx_reads_means_the_same(make: Callable[[], onnx.ModelProto]) -> None:
    before, after = make(), readable(make())
    onnx.checker.check_model(after)
    assert after.opset_import[0].version >= 13 and after.ir_version >= 8
    assert [value.name for value in after.graph.input] == ["x"]
    assert not [a.name for node in after.graph.node for a in node.attribute if a.name == "dilations"]
    shape = [d.dim_value for d in after.graph.input[0].type.tensor_type.shape.dim]
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    told, got = (InferenceSession(m.SerializeToString()).run(None, {"x": x})[0] for m in (before, after))
    assert np.allclose(told, got, rtol=1e-6, atol=1e-7)


def test_pools_of_pnnx_become_those_of_ncnn() -> None:
    graph = (
        "pnnx.Input x 0 1 0\nAveragePool a 1 1 0 1 count_include_pad=1 ceil_mode=1 kernel_shape=(3,2) strides=(2,1)\n"
    )
    net = "7767517\n2 2\nInput in0 0 1 in0\nAveragePool a 1 1 in0 out0\n"
    pool = "Pooling a 1 1 in0 out0 0=1 1=2 11=3 2=1 12=2 3=0 13=0 14=0 15=0 5=0 6=1"
    assert with_pools(net, graph).splitlines() == [*net.splitlines()[:3], pool]
    with pytest.raises(UnsupportedOperator, match="layer 'a': ncnn averages no windows with holes"):
        pool_parameters(["AveragePool", "a", "1", "1", "0", "1", "kernel_shape=(3,2)", "dilations=(2,2)"])


def test_the_axis_of_images_is_read_from_the_script() -> None:
    script = """
            ex.input("in0", ncnn.Mat(in0.numpy(), batch_index=0).clone())
            ex.input("in1", ncnn.Mat(in1.numpy(), batch_index=233).clone())
            out.append(torch.from_numpy(out0.numpy(batch_index=1)))
    """
    assert BATCH.findall(script) == [("in0", "0"), ("in1", "233"), ("out0", "1")]


def raced(network: Network, model: onnx.ModelProto | None = None) -> PeerRow:
    (row,) = race(network, [NCNN], machine(), RaceRules(repeats=1, min_seconds=0.0), model=model).rows
    return row


@needs_ncnn
def test_an_old_model_runs_in_ncnn(tmp_path: Path) -> None:
    path = tmp_path / "old.onnx"
    onnx.save(old_model(), path)
    row = raced(*network_and_model(Workload(str(path))))
    assert (row.state, row.message) == ("timed", "")
    assert row.version and row.detail.startswith("converted by pnnx 20")
    assert row.max_rel_error is not None and row.max_rel_error <= MOST_ERROR / 10


def crossed() -> Network:
    build = Builder("crossed")
    x, y = build.input("x", (1, 4, 6, 6)), build.input("y", (1, 4, 6, 6))
    p = build.conv("p", y, 3, kernel=1)
    q = build.conv("q", x, 3, kernel=1)
    return build.network(q, p, build.arithmetic("less", "sub", p, q))


def classes() -> Network:
    build = Builder("classes")
    x = build.conv("a", build.input("x", (1, 3, 9, 9)), 8, kernel=3, activation="silu")
    x = build.conv_transpose("b", x, 8, kernel=2, stride=2)
    return build.network(build.global_average_pool("mean", x))


def two_images() -> Network:
    build = Builder("images")
    x = build.input("x", (2, 3, 9, 9))
    return build.network(build.max_pool("b", build.conv("a", x, 8, kernel=3, activation="relu"), kernel=2))


def with_an_unused_input() -> onnx.ModelProto:
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Relu", ["c"], ["y"])]
    shapes = {"spare": [1, 2], "x": [1, 3, 8, 8], "y": [1, 5, 8, 8]}
    spare, x, y = (helper.make_tensor_value_info(k, onnx.TensorProto.FLOAT, v) for k, v in shapes.items())
    graph = helper.make_graph(nodes, "spare", [spare, x], [y], [weight("w", 5, 3, 1, 1)])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@needs_ncnn
def test_an_input_that_nothing_reads_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "spare.onnx"
    onnx.save(with_an_unused_input(), path)
    row = raced(*network_and_model(Workload(str(path))))
    assert (row.state, row.message) == ("timed", "")


@needs_ncnn
@pytest.mark.parametrize("make", [crossed, classes, two_images])
def test_inputs_and_outputs_go_by_name_and_images_are_kept_apart(make: Callable[[], Network]) -> None:
    row = raced(make())
    assert (row.state, row.message) == ("timed", "")
    assert row.max_rel_error is not None and row.max_rel_error <= MOST_ERROR / 10


@needs_ncnn
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mean of three", "UnsupportedOperator: ncnn has no layer Mean, which pnnx left in the net"),
        ("lrn of an even size", "RuntimeError: pnnx wrote no net (status -"),
    ],
)
def test_what_ncnn_cannot_compute_is_one_line(name: str, message: str) -> None:
    row = raced(of_layers(LAYERS[name]()))
    assert row.state == "failed" and row.message.startswith(message) and "\n" not in row.message


def test_ncnn_without_pnnx_is_missing_and_says_what_to_install() -> None:
    assert NCNN in PEERS and NCNN.packages == ("ncnn", "pnnx")
    alone = replace(NCNN, packages=("numpy", "no_such_package_at_all"))
    assert not alone.installed
    (row,) = race(crossed(), [alone], machine(), RaceRules(repeats=1)).rows
    assert (row.state, row.message) == ("missing", "not installed; pip install numpy no_such_package_at_all")
