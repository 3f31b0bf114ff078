"""Models that are not usable: one line each, saying what and what to do."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from polyfuse.errors import InvalidInput, PolyfuseError, UnsupportedOperator
from polyfuse.loading import load_onnx
from tests.network.onnx.models import model, values

SHAPE = (1, 4, 8, 8)
W = values((4, 4, 3, 3))
make = helper.make_node


def relu(**changes: Any) -> onnx.ModelProto:
    return model([make("Relu", ["x"], ["y"], name="act")], changes.pop("inputs", {"x": SHAPE}), ["y"], **changes)


def node(operator: str, inputs: str = "x", outputs: str = "y", **attributes: Any) -> onnx.ModelProto:
    constants = {
        "w": W,
        "b": values((4,)),
        "s": np.float32(1.0),
        "short": values((3,)),
        "double": np.zeros((4, 4, 1, 1)),
    }
    names = inputs.split()
    used = {name: value for name, value in constants.items() if name in names}
    return model([make(operator, names, outputs.split(), **attributes)], {"x": SHAPE}, ["y"], used)


def sized(operator: str, what: str, numbers: list[int]) -> onnx.ModelProto:
    """An operator that is told sizes, axes or positions by a constant."""
    inputs = {"Resize": ["x", "", "", what], "Slice": ["x", what, what]}.get(operator, ["x", what])
    stored = {what: np.array(numbers, dtype=np.int64)}
    return model([make(operator, inputs, ["y"])], {"x": SHAPE}, ["y"], stored)  # type: ignore[arg-type]


def large(operator: str, *inputs: np.ndarray) -> onnx.ModelProto:
    """An operator on constants, of which the result is added to x."""
    names = [f"k{k}" for k in range(len(inputs))]
    nodes = [make(operator, names, ["r"]), make("Add", ["x", "r"], ["y"])]
    return model(nodes, {"x": SHAPE}, ["y"], dict(zip(names, inputs, strict=True)))


def refused(made: onnx.ModelProto | bytes, folder: Path, **options: Any) -> str:
    path = folder / "m.onnx"
    path.write_bytes(made if isinstance(made, bytes) else made.SerializeToString())
    with pytest.raises((InvalidInput, UnsupportedOperator)) as error:
        load_onnx(path, **options)
    assert "\n" not in str(error.value) and len(str(error.value)) < 700
    return str(error.value)


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (node("Einsum"), "model: the operator Einsum (node 'n0') is not supported"),
        (node("Relu", domain="com.microsoft"), "the operator com.microsoft.Relu"),
        (node("Conv", "x w b", pads=[1, 1]), "four whole numbers for pads"),
        (node("Conv", "x w b", strides=[1, 1, 1]), "two whole numbers for strides"),
        (node("Conv", "x w b", strides="a"), "expected the attribute strides"),
        (node("Conv", "x w b", strides=[0, 1], auto_pad="SAME_UPPER"), "strides of at least 1"),
        (node("Conv", "x w b", strides=[0, 1]), "stride and dilation of at least 1"),
        (node("Conv", "x w b", pads=[-1, 0, 0, 0]), "padding of at least 0"),
        (node("Conv", "x w b", group=2), "expect 8 input channels"),
        (node("Conv", "x w b", group=0), "a group of at least 1"),
        (node("Conv", "x w b", kernel_shape=[2, 2]), "kernel_shape does not agree"),
        (node("Conv", "x w b", auto_pad="MOST"), "auto_pad is 'MOST'"),
        (node("Conv", "x w b", dilations=[9, 9]), "a window of 19 does not fit"),
        (node("Conv", "x w short"), "a bias of 4 channels"),
        (node("Conv", "x b"), "weights of 4 axes"),
        (node("Conv", "x x"), "expected a constant as input 1 of Conv, got x"),
        (node("Conv", "w w"), "nothing computed leads to an output"),
        (node("Conv", "x double"), "float64, expected float32"),
        (node("Conv", "x w b", colour=1), "the attribute 'colour'"),
        (node("MaxPool"), "two whole numbers for kernel_shape"),
        (node("MaxPool", kernel_shape=[2, 2], pads=[2, 0, 0, 0]), "padding smaller than the window"),
        (node("Concat", "x x", axis=4), "expected an axis of x[1, 4, 8, 8], from -4 to 3, got 4"),
        (node("Concat", "x short", axis=1), "differ only along axis 1"),
        (node("Add", "x short"), "cannot broadcast"),
        (node("Sum", "x x short"), "cannot broadcast"),
        (node("Add", "x x x"), "expected 2 inputs of Add in operator set 20, got 3"),
        (large("Expand", np.ones(1, np.float32), np.array([2**14, 2**15])), "expected at most 268,435,456 elements"),
        (large("Tile", np.ones(9, np.float32), np.array([2**40])), "expected at most 268,435,456 elements"),
        (large("Range", np.int64(0), np.int64(2**60), np.int64(1)), "expected at most 268,435,456 elements"),
        (large("Add", np.ones((2**15, 1), np.float32), np.ones(2**14, np.float32)), "at most 268,435,456 elements"),
        (large("Gather", np.ones((2, 2**14), np.float32), np.zeros(2**14, np.int64)), "at most 268,435,456 elements"),
        (sized("Resize", "sizes", [1, 4, 8, 2**40]), "axes of at most 16,384 elements"),
        (sized("Expand", "shape", [2**24, 4, 8, 8]), "expected at most 2,147,483,647 elements"),
        (sized("Pad", "pads", [0, 0, 0, 0, 0, 0, 0, 2**40]), "expected at most 2,147,483,647 elements"),
        (sized("Reshape", "shape", [-1, 7]), "expected a shape of the 256 elements of x[1, 4, 8, 8], got [0, 7]"),
        (sized("Slice", "starts", [9]), "that leaves elements"),
        (sized("Squeeze", "axes", [1]), "axes of size 1"),
        (sized("Unsqueeze", "axes", [0, 0]), "expected different axes from -6 to 5"),
        (sized("ReduceSum", "axes", [4]), "expected an axis of x[1, 4, 8, 8], from -4 to 3, got 4"),
        (node("Split", outputs="y z", axis=3, num_outputs=9), "expected as many outputs as num_outputs says, 9, got 2"),
        (node("Transpose", perm=[0, 1, 2, 2]), "expected a permutation of the 4 axes"),
        (node("Reshape", "x x"), "input 1 of Reshape, 'x', is computed; expected a constant"),
        (node("Reshape", "x b"), "whole numbers as input 1 of Reshape, got float32"),
        (node("Gemm", "x w"), "expected a matrix as input 0 of Gemm"),
        (node("MatMul", "x b"), "expected operands [.., i, k] and [.., k, j]"),
        (node("Softmax", axis=4), "expected an axis of x[1, 4, 8, 8], from -4 to 3, got 4"),
        (node("LRN", size=0), "expected a size of at least 1"),
        (node("InstanceNormalization", "x b short"), "a scale and a shift for each channel"),
        (node("ConvTranspose", "x w b", group=3), "expected weights of a multiple of 3 channels"),
        (node("ConvTranspose", "x w", strides=[4, 4], auto_pad="SAME_UPPER"), "tools differ in where they begin"),
        (node("DepthToSpace", blocksize=3), "a block whose square divides 4 channels"),
        (node("Cast", to=7), "Cast of a computed tensor to another type"),
        (node("Gelu", approximate="sine"), "approximate is b'sine'"),
        (node("Clip", "x b"), "expected one float32 for the bound 'b'"),
        (node("Clip", "x x"), "the bound 'x' of Clip is computed"),
        (node("BatchNormalization", "x b b short b"), "of 4 channels"),
        (node("BatchNormalization", "x b b b b", training_mode=1), "export for inference"),
        (node("Relu", ""), "nothing computed leads to an output"),
        (model([make("MaxPool", ["", "x"], ["y"], kernel_shape=[2, 2])], {"x": SHAPE}, ["y"]), "expected an input and"),
        (relu(inputs={"x": (1,) * 9}), "expected at most 8 axes, got 9"),
        (relu(inputs={"x": ("batch", 4, 8, 8)}), "its input 'x' (batch x 4 x 8 x 8) has open sizes"),
        (relu(inputs={"x": (1, 0, 8, 8)}), "sizes of at least 1"),
        (relu(inputs={"x": (1, 2**20, 2**20, 2**20)}), "2,147,483,647 elements"),
        (relu(opset=6), "operator set 7 or later, got 6"),
    ],
)  # fmt: skip
def test_models_that_are_refused(made: onnx.ModelProto, why: str, tmp_path: Path) -> None:
    assert why in refused(made, tmp_path)


def test_second_outputs_are_refused(tmp_path: Path) -> None:
    pool = make("MaxPool", ["x"], ["y", "indices"], kernel_shape=[2, 2])
    made = model([pool], {"x": SHAPE}, ["y"])
    made.graph.output.append(helper.make_tensor_value_info("indices", TensorProto.INT64, None))
    assert "its output 'indices' is used" in refused(made, tmp_path)
    drop = make("Dropout", ["x", "s", "t"], ["y"])
    training = model([drop], {"x": SHAPE}, ["y"], {"s": np.float32(0.5), "t": np.array(True)}, opset=13)
    assert "Dropout in training" in refused(training, tmp_path)


def test_names_that_are_not_there_get_near_matches(tmp_path: Path) -> None:
    nodes = [make("Relu", ["x"], ["a"], name="block/conv1"), make("Relu", ["a"], ["y"], name="block/conv2")]
    made = model(nodes, {"x": SHAPE}, ["y"])
    assert "did you mean 'block/conv1'" in refused(made, tmp_path, first="blok/conv1")
    assert "it has 'block_conv1', 'block/conv1'" in refused(made, tmp_path, last="zzz")
    assert "no path leads from node 'block/conv2' to 'block/conv1'" in refused(
        made, tmp_path, first="block/conv2", last="block/conv1"
    )
    nodes[1].name = "block/conv1"
    assert "2 nodes are called 'block/conv1'" in refused(
        model(nodes, {"x": SHAPE}, ["y"]), tmp_path, first="block/conv1"
    )


def test_what_is_left_out_does_no_harm(tmp_path: Path) -> None:
    nodes = [
        make("Selu", ["x"], ["a"]),
        make("Relu", ["a"], ["b"], name="mid"),
        make("Selu", ["b"], ["y"]),
    ]
    path = tmp_path / "m.onnx"
    path.write_bytes(model(nodes, {"x": SHAPE}, ["y"]).SerializeToString())
    net = load_onnx(path, first="mid", last="mid")
    assert [layer.name for layer in net.layers] == ["mid"] and net.inputs[0].shape == SHAPE
    assert "n0" in refused(model(nodes, {"x": SHAPE}, ["y"]), tmp_path)


def test_models_that_shape_inference_aborts_on(tmp_path: Path) -> None:
    """A slice backwards of no elements fails an assertion of onnx 1.23, which ends the process."""
    stored = {"s": np.array([0]), "e": np.array([1]), "a": np.array([1]), "t": np.array([-1])}
    stored["k"] = np.zeros((1, 0), np.int64)
    backwards, add = make("Slice", ["k", "s", "e", "a", "t"], ["z"]), make("Add", ["x", "z"], ["w"])
    made = model([backwards, add, make("Relu", ["w"], ["y"], name="mid")], {"x": (1, 1)}, ["y"], stored)  # type: ignore
    message = refused(made, tmp_path, first="mid")
    assert "its shapes cannot be inferred" in message or "sizes of at least 1" in message


def test_graphs_that_are_no_dag(tmp_path: Path) -> None:
    cycle = model([make("Add", ["x", "b"], ["a"], name="one"), make("Relu", ["a"], ["b"])], {"x": SHAPE}, ["b"])
    assert "node 'one': is on or behind a cycle" in refused(cycle, tmp_path)
    twice = model([make("Relu", ["x"], ["y"]), make("Abs", ["x"], ["y"])], {"x": SHAPE}, ["y"])
    assert "tensor 'y': two nodes make it" in refused(twice, tmp_path)
    nowhere = model([make("Relu", ["z"], ["y"])], {"x": SHAPE}, ["y"])
    assert "tensor 'z': no node of the model makes it and it is no input" in refused(nowhere, tmp_path)


def test_files_that_are_not_models(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no such file"):
        load_onnx(tmp_path / "none.onnx")
    with pytest.raises(InvalidInput, match="no such file"):
        load_onnx(tmp_path)
    whole = model([make("Conv", ["x", "w"], ["y"])], {"x": SHAPE}, ["y"], {"w": W}).SerializeToString()
    assert "truncated" in refused(whole[: len(whole) // 2], tmp_path)
    assert "not an ONNX model" in refused(b"<html>not found</html>", tmp_path)
    assert "holds no ONNX graph" in refused(b"", tmp_path)


def conv_with(stored: TensorProto) -> onnx.ModelProto:
    made = model([make("Conv", ["x", "w"], ["y"])], {"x": SHAPE}, ["y"])
    made.graph.initializer.append(stored)
    return made


def external(location: str, **entries: int) -> onnx.ModelProto:
    stored = TensorProto(name="w", dims=W.shape, data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **entries}.items():
        stored.external_data.add(key=key, value=str(value))
    return conv_with(stored)


def test_external_data_stays_in_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(W.tobytes())
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    for location in ("../secret.bin", str(tmp_path / "secret.bin"), "link.bin", ""):
        assert "outside of the model's folder" in refused(external(location), folder)
    (folder / "short.bin").write_bytes(W.tobytes()[:-4])
    assert "expected 576 bytes at 0" in refused(external("short.bin"), folder)
    assert "expected 576 bytes at 4" in refused(external("short.bin", offset=4), folder)
    assert "cannot be read" in refused(external("none.bin"), folder)
    assert "cannot be read" in refused(external("short.bin", offset="x"), folder)  # type: ignore[arg-type]


def test_sizes_are_checked_before_anything_is_allocated(tmp_path: Path) -> None:
    huge = TensorProto(name="w", dims=(2**20, 2**20, 3, 3), data_type=TensorProto.FLOAT)
    assert "expected at most 268,435,456 elements" in refused(conv_with(huge), tmp_path)
    wrong = TensorProto(name="w", dims=(4, 4, 3, 3), data_type=TensorProto.FLOAT, raw_data=b"1234")
    assert "does not fit its shape" in refused(conv_with(wrong), tmp_path)
    negative = TensorProto(name="w", dims=(4, -4, 3, 3), data_type=TensorProto.FLOAT)
    assert "expected at most" in refused(conv_with(negative), tmp_path)
    shape = numpy_helper.from_array(np.array([2**31, 2**31, 3, 3], dtype=np.int64), "shape")
    nodes = [make("ConstantOfShape", ["shape"], ["w"]), make("Conv", ["x", "w"], ["y"])]
    made = model(nodes, {"x": SHAPE}, ["y"])
    made.graph.initializer.append(shape)
    assert "expected at most" in refused(made, tmp_path)


def test_constants_that_cannot_be_evaluated(tmp_path: Path) -> None:
    nodes = [make("Selu", ["v"], ["w"]), make("Conv", ["x", "w"], ["y"])]
    assert "model: the operator Selu of constants (node 'w') is not supported" in refused(
        model(nodes, {"x": SHAPE}, ["y"], {"v": W}), tmp_path
    )
    nodes = [make("Reshape", ["v", "s"], ["w"]), make("Conv", ["x", "w"], ["y"])]
    stored = {"v": W, "s": np.array([5, 5], dtype=np.int64)}
    assert "cannot evaluate its 'Reshape'" in refused(model(nodes, {"x": SHAPE}, ["y"], stored), tmp_path)


def some_model() -> bytes:
    nodes = [make("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]), make("MaxPool", ["a"], ["y"], kernel_shape=[2, 2])]
    return bytes(model(nodes, {"x": (1, 1, 4, 4)}, ["y"], {"w": values((1, 1, 3, 3))}).SerializeToString())


def moving_model() -> bytes:
    """Sizes, axes and positions as constants, computed ones among them."""
    numbers = {"s": [1, -1], "q": [1, 2, 2, 2], "p": [0, 0, 1, 0, 0, 0, 0, 1], "i": [1], "e": [4], "z": [1, 1, 2, 2]}
    nodes = [
        make("Pad", ["x", "p"], ["a"]),
        make("Slice", ["a", "i", "e", "e2"], ["b"]),
        make("Shape", ["b"], ["n"]),
        make("Gather", ["n", "i"], ["m"]),
        make("Tile", ["i", "m"], ["t"]),
        make("ConstantOfShape", ["t"], ["k"]),
        make("Add", ["b", "k"], ["c"]),
        make("Resize", ["c", "", "", "z"], ["d"]),
        make("Reshape", ["d", "s"], ["f"]),
        make("Gemm", ["f", "w", "v"], ["g"], transB=1),
        make("Softmax", ["g"], ["h"]),
        make("Reshape", ["h", "q"], ["r"]),
        make("Split", ["r"], ["u", "o"], axis=1, num_outputs=2),
        make("Expand", ["u", "q"], ["y"]),
    ]
    constants = {name: np.array(value, dtype=np.int64) for name, value in numbers.items()}
    constants["e2"] = np.array([2], dtype=np.int64)
    weights = {"w": values((8, 4)), "v": values((8,))}
    return bytes(model(nodes, {"x": (1, 1, 4, 4)}, ["y"], {**constants, **weights}).SerializeToString())


MODELS = [some_model(), moving_model()]


def test_the_models_that_are_damaged_are_whole(tmp_path: Path) -> None:
    for content in MODELS:
        (tmp_path / "m.onnx").write_bytes(content)
        assert load_onnx(tmp_path / "m.onnx").layers


@settings(max_examples=600, deadline=None)
@given(st.sampled_from(MODELS), st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=2))
def test_damaged_files_give_our_errors_only(
    tmp_path_factory: pytest.TempPathFactory, whole: bytes, changes: list[tuple[int, int]]
) -> None:
    content = bytearray(whole)
    for at, byte in changes:
        content[at % len(content)] = byte
    path = tmp_path_factory.getbasetemp() / "damaged.onnx"
    path.write_bytes(bytes(content))
    attempt: Callable[[], object] = lambda: load_onnx(path)  # noqa: E731
    try:
        attempt()
    except PolyfuseError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize("shape", [(1, 4, 8), (1, 4), (1, 4, 8, 8, 8)])
@pytest.mark.parametrize("operator", ["Conv", "MaxPool", "AveragePool"])
def test_windows_over_what_is_no_image_are_refused_whatever_the_padding(
    operator: str, shape: tuple[int, ...], mode: str, tmp_path: Path
) -> None:
    inputs, more = (["x", "w"], {}) if operator == "Conv" else (["x"], {"kernel_shape": [3, 3]})
    made = model([make(operator, inputs, ["y"], auto_pad=mode, **more)], {"x": shape}, ["y"], {"w": W})
    onnx.save(made, tmp_path / "m.onnx")
    with pytest.raises(PolyfuseError, match="n, c, h, w"):
        load_onnx(tmp_path / "m.onnx")
