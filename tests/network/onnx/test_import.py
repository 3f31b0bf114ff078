"""ONNX models imported and run by the reference semantics, against onnxruntime."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from polyfuse.errors import UnsupportedOperator
from polyfuse.loading import load_onnx
from polyfuse.network.network import Network
from polyfuse.network.operator import Conv
from polyfuse.network.reference import max_relative_error, random_inputs, run
from polyfuse.network.window import Window
from tests.network.onnx.models import Array, model, onnxruntime_run, randomised, values

CLOSE = 1e-5
LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
SHAPE = (2, 4, 9, 11)
make = helper.make_node


def agree(made: onnx.ModelProto, net: Network) -> bool:
    """The imported network and the model in onnxruntime give the same outputs."""
    given = random_inputs(net, 7)
    names = [value.name for value in made.graph.input]
    expected = onnxruntime_run(made, dict(zip(names, given.values(), strict=True)))
    actual = run(net, given)
    assert len(expected) == len(net.outputs)
    return all(max_relative_error(actual[t.name], e) <= CLOSE for t, e in zip(net.outputs, expected, strict=True))


def saved(made: onnx.ModelProto, folder: Path) -> Path:
    path = folder / "m.onnx"
    path.write_bytes(made.SerializeToString())
    return path


def imported(made: onnx.ModelProto, folder: Path, **options: Any) -> Network:
    return load_onnx(saved(made, folder), **options)


W = values((6, 4, 3, 2), 1)
GROUPED = values((8, 2, 3, 3), 1)
DEPTHWISE = values((8, 1, 3, 3), 1)
B6, B8 = values((6,), 2), values((8,), 2)
CHANNEL = np.abs(values((4, 1, 1), 3)) + 0.5
NORMAL = {"s": values((4,), 4), "t": values((4,), 5), "m": values((4,), 6), "v": np.abs(values((4,), 7)) + 0.1}
LOW, HIGH = np.float32(-0.5), np.float32(0.75)


@pytest.mark.parametrize("pad", ["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize(
    "node",
    [
        make("Conv", ["x", "w", "b"], ["y"], strides=[2, 3], dilations=[1, 2]),
        make("Conv", ["x", "w"], ["y"], kernel_shape=[3, 2]),
        make("Conv", ["x", "g", "c"], ["y"], group=2, strides=[2, 2]),
        make("Conv", ["x", "d", "c"], ["y"], group=4),
        make("MaxPool", ["x"], ["y"], kernel_shape=[3, 2], strides=[2, 1]),
        make("MaxPool", ["x"], ["y"], kernel_shape=[2, 3]),
        make("AveragePool", ["x"], ["y"], kernel_shape=[3, 2], strides=[2, 2]),
        make("AveragePool", ["x"], ["y"], kernel_shape=[3, 2], strides=[2, 2], count_include_pad=1),
    ],
    ids=lambda node: node.op_type,
)
def test_windows_with_every_kind_of_padding(node: onnx.NodeProto, pad: str, tmp_path: Path) -> None:
    node = onnx.NodeProto.FromString(node.SerializeToString())
    if pad == "NOTSET":
        node.attribute.append(helper.make_attribute("pads", [1, 0, 1, 1]))
    else:
        node.attribute.append(helper.make_attribute("auto_pad", pad))
    wide = node.op_type == "Conv" and any(a.name == "dilations" for a in node.attribute)
    if wide and pad.startswith("SAME"):
        node.attribute.remove(next(a for a in node.attribute if a.name == "dilations"))
    stored = {"w": W, "b": B6, "g": GROUPED, "d": DEPTHWISE, "c": B8}
    made = model([node], {"x": SHAPE}, ["y"], {k: v for k, v in stored.items() if k in node.input})
    assert agree(made, imported(made, tmp_path))


@pytest.mark.parametrize(
    ("nodes", "constants"),
    [
        ([make("GlobalAveragePool", ["x"], ["y"])], {}),
        ([make("MaxPool", ["x"], ["y"], kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1, pads=[1, 0, 0, 1])], {}),
        ([make("AveragePool", ["x"], ["y"], kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)], {}),
        ([make("Add", ["x", "k"], ["y"])], {"k": CHANNEL}),
        ([make("Sub", ["k", "x"], ["y"])], {"k": CHANNEL}),
        ([make("Mul", ["x", "k"], ["y"])], {"k": values(SHAPE, 9)}),
        ([make("Div", ["x", "k"], ["y"])], {"k": np.float32(6.0)}),
        ([make("Div", ["k", "x"], ["y"])], {"k": CHANNEL}),
        ([make("Add", ["x", "x"], ["y"])], {}),
        ([make("Sum", ["x", "x"], ["y"])], {}),
        ([make("LeakyRelu", ["x"], ["y"])], {}),
        ([make("LeakyRelu", ["x"], ["y"], alpha=0.3)], {}),
        ([make("Elu", ["x"], ["y"], alpha=0.7)], {}),
        ([make("HardSigmoid", ["x"], ["y"])], {}),
        ([make("HardSigmoid", ["x"], ["y"], alpha=0.3, beta=0.4)], {}),
        ([make("Gelu", ["x"], ["y"])], {}),
        ([make("Gelu", ["x"], ["y"], approximate="tanh")], {}),
        ([make("Clip", ["x", "lo", "hi"], ["y"])], {"lo": LOW, "hi": HIGH}),
        ([make("Clip", ["x", "lo"], ["y"])], {"lo": LOW}),
        ([make("Clip", ["x", "", "hi"], ["y"])], {"hi": HIGH}),
        ([make("Clip", ["x"], ["y"])], {}),
        ([make("PRelu", ["x", "k"], ["y"])], {"k": CHANNEL}),
        ([make("Identity", ["x"], ["z"]), make("Dropout", ["z"], ["y"])], {}),
        ([make("Concat", ["x", "z", "x"], ["y"], axis=-3), make("Relu", ["x"], ["z"])][::-1], {}),
        ([make("BatchNormalization", ["x", "s", "t", "m", "v"], ["y"], epsilon=1e-3)], NORMAL),
        *(
            ([make(operator, ["x"], ["y"])], {})
            for operator in ("Relu", "Sigmoid", "Tanh", "HardSwish", "Softplus", "Abs", "Neg", "Exp", "Identity")
        ),
        ([make("Abs", ["x"], ["z"]), make("Sqrt", ["z"], ["y"])], {}),
    ],
    ids=lambda value: "-".join(node.op_type for node in value) if isinstance(value, list) else "",
)
def test_operators(nodes: list[onnx.NodeProto], constants: dict[str, Array], tmp_path: Path) -> None:
    made = model(nodes, {"x": SHAPE}, ["y"], constants)
    assert agree(made, imported(made, tmp_path))


SIZES = {"sizes": np.array([2, 4, 13, 7], dtype=np.int64), "scales": np.float32([1, 1, 2.0, 0.75])}


@pytest.mark.parametrize("given", ["sizes", "scales"])
@pytest.mark.parametrize("rounding", ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
@pytest.mark.parametrize("where", ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"])
def test_nearest_elements(where: str, rounding: str, given: str, tmp_path: Path) -> None:
    inputs = ["x", "", "scales"] if given == "scales" else ["x", "", "", "sizes"]
    options = {"coordinate_transformation_mode": where, "nearest_mode": rounding}
    node = make("Resize", inputs, ["y"], mode="nearest", **options)
    made = model([node], {"x": SHAPE}, ["y"], {given: SIZES[given]})
    assert agree(made, imported(made, tmp_path))


@pytest.mark.parametrize("given", ["sizes", "scales"])
@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("where", ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"])
def test_interpolation(where: str, mode: str, given: str, tmp_path: Path) -> None:
    inputs = ["x", "", "scales"] if given == "scales" else ["x", "", "", "sizes"]
    node = make("Resize", inputs, ["y"], mode=mode, coordinate_transformation_mode=where)
    made = model([node], {"x": SHAPE}, ["y"], {given: SIZES[given]})
    assert agree(made, imported(made, tmp_path))


@pytest.mark.parametrize("opset", [9, 10])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_resizing_of_old_operator_sets(mode: str, opset: int, tmp_path: Path) -> None:
    node = make("Upsample" if opset == 9 else "Resize", ["x", "scales"], ["y"], mode=mode)
    scales = np.float32([1, 1, 2, 3])
    made = model([node], {"x": SHAPE}, ["y"], {"scales": scales}, opset=opset)
    assert agree(made, imported(made, tmp_path))


SPREAD = values((4, 3, 3, 2), 1)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"strides": [2, 3]},
        {"strides": [2, 3], "pads": [1, 0, 2, 1], "output_padding": [1, 2]},
        {"strides": [3, 2], "dilations": [2, 1], "pads": [1, 1, 1, 1]},
        {"strides": [2, 2], "auto_pad": "SAME_UPPER"},
        {"strides": [2, 2], "auto_pad": "SAME_LOWER"},
        {"strides": [2, 3], "auto_pad": "VALID"},
        {"strides": [2, 2], "output_shape": [18, 21]},
        {"strides": [2, 2], "output_shape": [17, 22], "auto_pad": "SAME_UPPER"},
        {"strides": [4, 3]},
    ],
    ids=str,
)
@pytest.mark.parametrize("group", [1, 2])
def test_transposed_convolution(options: dict[str, Any], group: int, tmp_path: Path) -> None:
    channels = 3 * group
    nodes = [
        make("ConvTranspose", ["x", "w", "b"], ["a"], group=group, **options),
        make("Mul", ["a", "k"], ["m"]),
        make("Relu", ["m"], ["y"]),
    ]
    scale = np.abs(values((channels, 1, 1), 4)) + 0.5
    made = model(nodes, {"x": SHAPE}, ["y"], {"w": SPREAD, "b": values((channels,), 2), "k": scale})
    net = imported(made, tmp_path)
    assert [layer.kind for layer in net.layers] == ["conv_transpose"] and agree(made, net)


def test_clip_of_opset_6_has_attributes(tmp_path: Path) -> None:
    for attributes in ({"min": -0.5, "max": 0.5}, {"min": 0.0}, {"max": 0.25}, {}):
        made = model([make("Clip", ["x"], ["y"], **attributes)], {"x": SHAPE}, ["y"], opset=10)
        assert agree(made, imported(made, tmp_path))


def whole(*numbers: int) -> Array:
    """Constants that say sizes, axes or positions."""
    return np.array(numbers, dtype=np.int64)  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("nodes", "constants"),
    [
        ([make("Sum", ["x", "k", "x"], ["y"])], {"k": CHANNEL}),
        ([make("Mean", ["x", "k"], ["y"])], {"k": CHANNEL}),
        ([make("Max", ["x", "k"], ["z"]), make("Min", ["z", "x", "k"], ["y"])], {"k": CHANNEL}),
        ([make("Pow", ["x", "k"], ["y"])], {"k": np.float32(2.0)}),
        ([make("Abs", ["x"], ["z"]), make("Pow", ["z", "k"], ["y"])], {"k": CHANNEL}),
        ([make("Abs", ["x"], ["z"]), make("Log", ["z"], ["a"]), make("Reciprocal", ["a"], ["y"])], {}),
        ([make("Add", ["x", "k"], ["y"])], {"k": values((3, 1, 4, 1, 1))}),
        ([make("Reshape", ["x", "s"], ["y"])], {"s": whole(0, -1, 11)}),
        ([make("Flatten", ["x"], ["y"], axis=-2)], {}),
        (
            [make("Unsqueeze", ["x", "a"], ["z"]), make("Squeeze", ["z", "b"], ["y"])],
            {"a": whole(0, -1), "b": whole(0)},
        ),
        ([make("Transpose", ["x"], ["y"])], {}),
        ([make("Transpose", ["x"], ["y"], perm=[0, 2, 3, 1])], {}),
        (
            [make("Slice", ["x", "s", "e", "a", "t"], ["y"])],
            {"s": whole(-2, 100), "e": whole(-100, 1), "a": whole(2, -1), "t": whole(-3, -2)},
        ),
        (
            [make("Split", ["x"], ["z", "a", "b"], axis=-1, num_outputs=3), make("Concat", ["b", "z"], ["y"], axis=3)],
            {},
        ),
        ([make("Split", ["x", "s"], ["a", "y"], axis=1)], {"s": whole(1, 3)}),
        ([make("Concat", ["x", "k"], ["y"], axis=0)], {"k": values((1, *SHAPE[1:]))}),
        ([make("Pad", ["x", "p", "v"], ["y"])], {"p": whole(0, 1, 2, 0, 0, 0, -1, 3), "v": np.float32(0.5)}),
        ([make("Pad", ["x", "p", "", "a"], ["y"], mode="edge")], {"p": whole(2, 0, 1, 1), "a": whole(-2, 3)}),
        (
            [
                make("Flatten", ["x"], ["f"], axis=1),
                make("Gemm", ["f", "w", "b"], ["g"]),
                make("BatchNormalization", ["g", "s", "t", "m", "v"], ["n"]),
                make("Relu", ["n"], ["y"]),
            ],
            {"w": values((396, 4)), "b": values((4,), 1), **NORMAL},
        ),
        (
            [
                make("Reshape", ["x", "q"], ["f"]),
                make("BatchNormalization", ["f", "s", "t", "m", "v"], ["n"]),
                make("Mul", ["n", "k"], ["y"]),
            ],
            {"q": whole(2, 4, 99), "k": values((4, 1)), **NORMAL},
        ),
        ([make("Gather", ["x", "i"], ["y"], axis=-1)], {"i": np.int64(-2)}),
        ([make("Gather", ["x", "i"], ["y"], axis=1)], {"i": np.array([[3, 0, 1], [-1, 2, 2]])}),
        ([make("Expand", ["x", "s"], ["y"])], {"s": whole(3, 1, 1, 1, 11)}),
        ([make("DepthToSpace", ["x"], ["y"], blocksize=2, mode="CRD")], {}),
        ([make("ReduceMean", ["x", "a"], ["y"], keepdims=0)], {"a": whole(1, -1)}),
        ([make("ReduceMax", ["x"], ["y"])], {}),
        ([make("ReduceLogSumExp", ["x", "a"], ["y"])], {"a": whole(1)}),
        ([make("Softmax", ["x"], ["z"], axis=1), make("LogSoftmax", ["z"], ["y"])], {}),
        ([make("LRN", ["x"], ["y"], size=3, alpha=0.5, bias=1.5)], {}),
        ([make("InstanceNormalization", ["x", "s", "t"], ["z"], epsilon=0.1), make("Relu", ["z"], ["y"])], NORMAL),
        ([make("MatMul", ["x", "k"], ["y"])], {"k": values((11, 5))}),
        ([make("Transpose", ["x"], ["z"], perm=[0, 1, 3, 2]), make("MatMul", ["x", "z"], ["y"])], {}),
        (
            [make("Flatten", ["x"], ["z"]), make("Gemm", ["z", "w", "b"], ["y"], alpha=0.5, beta=2.0)],
            {"w": values((396, 5)), "b": values((5,), 1)},
        ),
        (
            [
                make("Flatten", ["x"], ["z"], axis=2),
                make("Gemm", ["z", "z"], ["g"], transB=1, alpha=0.5),
                make("Gemm", ["z", "z", "g"], ["t"], transB=1, beta=2.0),
                make("Gemm", ["z", "t", "k"], ["y"], transA=1),
            ],
            {"k": values((8,))},
        ),
        ([make("GlobalMaxPool", ["x"], ["z"]), make("Mul", ["x", "z"], ["y"])], {}),
    ],
    ids=lambda value: "-".join(node.op_type for node in value) if isinstance(value, list) else "",
)  # fmt: skip
def test_operators_of_any_rank(nodes: list[onnx.NodeProto], constants: dict[str, Array], tmp_path: Path) -> None:
    made = model(nodes, {"x": SHAPE}, ["y"], constants)
    assert agree(made, imported(made, tmp_path))


def test_arithmetic_on_shapes_is_folded(tmp_path: Path) -> None:
    """What exporters write for `x.view(x.shape[0], -1)` and `interpolate(x, scale_factor=2)`."""
    nodes = [
        make("Conv", ["x", "w"], ["a"]),
        make("Relu", ["a"], ["r"]),
        make("Shape", ["a"], ["shape"]),
        make("Slice", ["shape", "zero", "two", "zero"], ["front"]),
        make("Slice", ["shape", "two", "four", "zero"], ["image"]),
        make("Cast", ["image"], ["float"], to=1),
        make("Mul", ["float", "k"], ["twice"]),
        make("Floor", ["twice"], ["floor"]),
        make("Cast", ["floor"], ["size"], to=7),
        make("Concat", ["front", "size"], ["sizes"], axis=0),
        make("Resize", ["r", "", "", "sizes"], ["up"], mode="nearest"),
        make("Shape", ["up"], ["after"]),
        make("Gather", ["after", "first"], ["batch"]),
        make("Unsqueeze", ["batch", "zero"], ["rows"]),
        make("Concat", ["rows", "rest"], ["flat"], axis=0),
        make("Reshape", ["up", "flat"], ["y"]),
    ]
    numbers = {"zero": whole(0), "two": whole(2), "four": whole(4), "rest": whole(-1)}
    constants = {"w": W, "k": np.float32(2.0), "first": np.int64(0), **numbers}
    made = model(nodes, {"x": SHAPE}, ["y"], constants)
    net = imported(made, tmp_path)
    assert [layer.kind for layer in net.layers] == ["conv", "resize", "reshape"] and agree(made, net)


def test_constants_that_depend_on_shapes_are_not_random(tmp_path: Path) -> None:
    nodes = [
        make("Shape", ["x"], ["shape"]),
        make("Cast", ["shape"], ["float"], to=1),
        make("Reshape", ["float", "column"], ["k"]),
        make("Mul", ["x", "k"], ["y"]),
    ]
    made = model(nodes, {"x": SHAPE}, ["y"], {"column": whole(1, 4, 1, 1)})
    assert agree(made, imported(made, tmp_path, random_weights=3))
    assert randomised(saved(made, tmp_path), 3) == made


@pytest.mark.parametrize("rewritten", [True, False])
def test_gated_activations(rewritten: bool, tmp_path: Path) -> None:
    nodes = [
        make("Conv", ["x", "w"], ["a"]),
        make("Sigmoid", ["a"], ["g"]),
        make("Mul", ["a", "g"], ["b"]),
        make("MaxPool", ["b"], ["p"], kernel_shape=[2, 2]),
        make("HardSigmoid", ["p"], ["h"], alpha=1 / 6, beta=0.5),
        make("Mul", ["h", "p"], ["y"]),
    ]
    made = model(nodes, {"x": SHAPE}, ["y"], {"w": W})
    net = imported(made, tmp_path, rewritten=rewritten)
    apart = ["conv", "sigmoid", "mul", "max_pool", "hard_sigmoid", "mul"]
    assert [layer.kind for layer in net.layers] == (["conv", "max_pool", "hard_swish"] if rewritten else apart)
    assert agree(made, net)
    nodes = [*nodes[:2], make("Mul", ["a", "g"], ["b"]), make("Add", ["b", "g"], ["y"])]
    other = model(nodes, {"x": SHAPE}, ["y"], {"w": W})
    assert agree(other, imported(other, tmp_path, rewritten=rewritten))


def test_a_part_of_a_reshaped_tensor_is_no_reshape(tmp_path: Path) -> None:
    nodes = [
        make("Flatten", ["x"], ["f"]),
        make("Reshape", ["f", "s"], ["r"]),
        make("Split", ["r"], ["y", "rest"], axis=0, num_outputs=2),
    ]
    made = model(nodes, {"x": (1, 4, 9, 11)}, ["y"], {"s": whole(4, 1, 99)})
    assert agree(made, imported(made, tmp_path))


def test_weights_of_products_are_random_too(tmp_path: Path) -> None:
    nodes = [
        make("Flatten", ["x"], ["f"]),
        make("Gemm", ["f", "v", "b"], ["g"], transB=1),
        make("Relu", ["g"], ["r"]),
        make("MatMul", ["r", "w"], ["y"]),
    ]
    ones = {"v": np.ones((50, 396), np.float32), "b": np.ones(50, np.float32), "w": np.ones((50, 40), np.float32)}
    made = model(nodes, {"x": SHAPE}, ["y"], ones)
    net = imported(made, tmp_path, random_weights=3)
    assert agree(randomised(saved(made, tmp_path), 3), net)
    assert 0.3 < run(net, random_inputs(net, 1))[net.outputs[0].name].std() < 3.0


def test_normalisation_scales_and_activation_fold_into_the_convolution(tmp_path: Path) -> None:
    nodes = [
        make("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]),
        make("BatchNormalization", ["a", "s", "t", "m", "v"], ["b"]),
        make("Mul", ["k", "b"], ["c"]),
        make("Sub", ["k", "c"], ["d"]),
        make("Div", ["d", "k"], ["e"]),
        make("Clip", ["e", "lo", "hi"], ["y"]),
    ]
    constants = {"w": values((4, 4, 3, 3)), "k": CHANNEL, "lo": LOW, "hi": HIGH, **NORMAL}
    made = model(nodes, {"x": SHAPE}, ["y"], constants)
    net = imported(made, tmp_path)
    assert [layer.name for layer in net.layers] == ["n0"] and agree(made, net)
    apart = imported(made, tmp_path, rewritten=False)
    assert [layer.kind for layer in apart.layers] == ["conv", "affine", "mul", "sub", "div", "clip"] and agree(
        made, apart
    )


def test_normalisation_folds_into_a_bias(tmp_path: Path) -> None:
    nodes = [
        make("Conv", ["x", "w", "t"], ["a"], pads=[1, 1, 1, 1]),
        make("BatchNormalization", ["a", "s", "t", "m", "v"], ["y"]),
    ]
    made = model(nodes, {"x": SHAPE}, ["y"], {"w": values((4, 4, 3, 3)), **NORMAL})
    net = imported(made, tmp_path)
    assert [layer.kind for layer in net.layers] == ["conv"] and agree(made, net)


def test_normalisation_alone_is_one_pointwise_layer(tmp_path: Path) -> None:
    nodes = [
        make("BatchNormalization", ["x", "s", "t", "m", "v"], ["b"]),
        make("Mul", ["b", "k"], ["c"]),
        make("Add", ["c", "k"], ["d"]),
        make("LeakyRelu", ["d"], ["y"], alpha=0.2),
    ]
    made = model(nodes, {"x": SHAPE}, ["y"], {"k": CHANNEL, **NORMAL})
    net = imported(made, tmp_path)
    assert [layer.kind for layer in net.layers] == ["affine"] and agree(made, net)


def test_what_others_read_is_not_fused(tmp_path: Path) -> None:
    nodes = [
        make("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]),
        make("Relu", ["a"], ["b"]),
        make("Add", ["a", "b"], ["c"]),
        make("Relu", ["c"], ["y"]),
    ]
    made = model(nodes, {"x": SHAPE}, ["y", "c"], {"w": values((4, 4, 3, 3))})
    net = imported(made, tmp_path)
    assert [layer.kind for layer in net.layers] == ["conv", "relu", "add", "relu"]
    assert [t.name for t in net.outputs] == ["n3_out", "n2_out"]
    assert agree(made, net)


def test_nodes_in_any_order_and_constant_nodes(tmp_path: Path) -> None:
    weight = onnx.numpy_helper.from_array(values((4, 4, 1, 1)), "value")
    column = onnx.numpy_helper.from_array(np.array([4, 1, 1], dtype=np.int64))
    nodes = [
        make("Relu", ["a"], ["y"], name="last node"),
        make("Conv", ["x", "w", "b"], ["a"], name="int"),
        make("Constant", [], ["w"], value=weight),
        make("ConstantOfShape", ["shape"], ["b4"], value=onnx.numpy_helper.from_array(np.float32([0.5]))),
        make("Squeeze", ["b4", "axes"], ["b"]),
        make("Constant", [], ["axes"], value_ints=[1, 2]),
        make("Constant", [], ["shape"], value=column),
    ]
    made = model(nodes, {"x": SHAPE}, ["y"])
    net = imported(made, tmp_path, first="int", last="last node")
    assert [layer.name for layer in net.layers] == ["t_int"]
    order = [nodes[k] for k in (2, 6, 5, 3, 4, 1, 0)]
    assert agree(model(order, {"x": SHAPE}, ["y"]), net)


def test_names_that_clash_after_mapping_are_told_apart(tmp_path: Path) -> None:
    nodes = [
        make("Relu", ["a/b"], ["a.b"], name="a"),
        make("Neg", ["a.b"], ["c"], name="a_out"),
        make("Abs", ["c"], ["y"], name="a"),
        make("Exp", ["y"], ["z"], name="a_out_final"),
    ]
    made = model(nodes, {"a/b": SHAPE}, ["z"])
    net = imported(made, tmp_path)
    assert [layer.name for layer in net.layers] == ["a", "a_out_2", "a_2", "a_out_final"]
    for node in made.graph.node:
        node.name = ""
    assert agree(made, net)


def test_external_data_in_the_folder_is_read(tmp_path: Path) -> None:
    made = model([make("Conv", ["x", "w"], ["y"])], {"x": SHAPE}, ["y"], {"w": W})
    outside = onnx.ModelProto.FromString(made.SerializeToString())
    onnx.save_model(
        outside,
        tmp_path / "m.onnx",
        save_as_external_data=True,
        location="m.bin",
        size_threshold=0,
        convert_attribute=True,
    )
    assert (tmp_path / "m.bin").stat().st_size >= W.nbytes
    assert agree(made, load_onnx(tmp_path / "m.onnx"))


def extracted(name: str, entering: list[str], leaving: list[str]) -> onnx.ModelProto:
    """A part of a real model with seeded random weights, cut by ONNX's own tool."""
    whole = onnx.shape_inference.infer_shapes(randomised(LIGHT / name, 3))
    return onnx.utils.Extractor(whole).extract_model(entering, leaving)


@pytest.mark.parametrize(
    ("name", "first", "last", "entering", "leaving", "kinds"),
    [
        ("light_vgg19", "n0", "n4", "data_0", "r4", "conv conv max_pool"),
        ("light_resnet50", "n3", "n15", "r2", "r15", "max_pool conv conv conv conv add"),
        ("light_squeezenet", "n2", "n9", "r1", "r9", "max_pool conv conv conv concat"),
        ("light_inception_v1", "n9", "n23", "r8", "r23", "max_pool conv conv conv conv conv max_pool conv concat"),
        ("light_densenet121", "n0", "n22", "data_0", "r22", "conv max_pool affine conv conv concat"),
    ],
)
def test_parts_of_real_models(name: str, first: str, last: str, entering: str, leaving: str, kinds: str) -> None:
    net = load_onnx(LIGHT / f"{name}.onnx", first=first, last=last, random_weights=3)
    assert [layer.kind for layer in net.layers] == kinds.split()
    assert agree(extracted(f"{name}.onnx", [entering], [leaving]), net)


def test_random_weights_keep_activations_near_one_and_follow_the_seed() -> None:
    path = LIGHT / "light_vgg19.onnx"
    nets = [load_onnx(path, first="n0", last="n4", random_weights=seed) for seed in (3, 3, 4)]
    same, again, other = (net.weights["n2_weight"] for net in nets)
    assert np.array_equal(same, again) and not np.array_equal(same, other)
    assert same.std() == pytest.approx((2 / 576) ** 0.5, rel=0.05)
    constant = load_onnx(path, first="n0", last="n4").weights["n2_weight"]
    assert np.all(constant == np.float32(0.02))


@pytest.mark.parametrize("operator", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER"])
def test_pools_that_would_have_negative_padding_are_refused(operator: str, mode: str, tmp_path: Path) -> None:
    """onnxruntime refuses most of them, crops others; ONNX's evaluator crops. A convolution has no padding then."""

    def saved_as(node: onnx.NodeProto, *weights: onnx.TensorProto) -> Path:
        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, *size]) for name, size in
                (("x", (9, 8)), ("y", (3, 4)))]  # fmt: skip
        graph = helper.make_graph([node], "g", ends[:1], ends[1:], weights)
        onnx.save(
            helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8), tmp_path / "m.onnx"
        )
        return tmp_path / "m.onnx"

    form = {"auto_pad": mode, "kernel_shape": [1, 2], "strides": [3, 2]}
    with pytest.raises(UnsupportedOperator, match="stride of 3 is larger than a window of 1, and tools differ"):
        load_onnx(saved_as(helper.make_node(operator, ["x"], ["y"], **form)))
    weight = numpy_helper.from_array(np.ones((1, 1, 1, 2), np.float32), "w")
    network = load_onnx(saved_as(helper.make_node("Conv", ["x", "w"], ["y"], **form), weight))
    assert network.layers[0].operator == Conv(Window((1, 2), (3, 2)))


@pytest.mark.parametrize("axes", [[1, 0], [0, 1], [3, 0], [-1, 0], [-4, -3], [2, -1]])
@pytest.mark.parametrize("opset", [7, 11, 13])
def test_axes_of_size_1_are_put_into_constants_in_any_order(axes: list[int], opset: int, tmp_path: Path) -> None:
    if opset < 11 and min(axes) < 0:
        return
    row = np.arange(6, dtype=np.float32).reshape(2, 3)
    names = ["row", "axes"] if opset >= 13 else ["row"]
    nodes = [
        make("Unsqueeze", names, ["wide"], **({} if opset >= 13 else {"axes": axes})),
        make("Add", ["x", "wide"], ["y"]),
    ]
    given = [numpy_helper.from_array(row, "row")]
    given += [numpy_helper.from_array(np.array(axes), "axes")] if opset >= 13 else []
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    ends[1].type.tensor_type.ClearField("shape")
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], given)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    (found,) = onnxruntime_run(made, {"x": np.zeros(1, np.float32)})
    net = imported(made, tmp_path)
    assert np.array_equal(run(net, {"x": np.zeros(1)})[net.outputs[0].name], found)
