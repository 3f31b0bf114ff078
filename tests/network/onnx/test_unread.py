"""What a node has and polyfuse does not do is refused in one line: outputs, inputs, training, older and newer forms."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from polyfuse.errors import PolyfuseError
from polyfuse.network.onnx.load import imported
from polyfuse.network.reference import run
from tests.network.onnx.models import model, onnxruntime_run, values

SHAPE = (2, 4, 6, 5)
CHANNELS = {name: np.abs(values((4,), k)) + np.float32(0.5) for k, name in enumerate("stmv")}
ELEMENTS = {f"{name}8": np.broadcast_to(v[:, None, None], SHAPE[1:]).copy() for name, v in CHANNELS.items()}
NUMBERS: dict[str, np.ndarray] = {
    **CHANNELS,
    **ELEMENTS,
    "half": np.array(0.5, np.float32),
    "yes": np.array(True),
    "no": np.array(False),
    "scale": np.array(0.1, np.float32),
    "zero": np.array(3, np.int8),
    "unsigned": np.array(3, np.uint8),
    "sizes": np.array([2, 4, 3, 3]),
    "region": values((8,)),
}


def read(made: onnx.ModelProto, folder: Path) -> np.ndarray:
    """What polyfuse makes of the model: its first output."""
    path = folder / "m.onnx"
    path.write_bytes(made.SerializeToString())
    found = imported(path)
    return run(found.network, {"x": values(SHAPE)})[found.tensors[made.graph.output[0].name].name]


def node(operator: str, reads: str, makes: Sequence[str] = ("y",), **attributes: Any) -> onnx.NodeProto:
    """A node; `_` stands for what is left out."""
    return helper.make_node(operator, [n if n != "_" else "" for n in reads.split()], makes, **attributes)


def contributed(operator: str, reads: str, **attributes: Any) -> onnx.NodeProto:
    """A node of onnxruntime's own domain, whose schemas ONNX does not have."""
    return node(operator, reads, domain="com.microsoft", **attributes)


def with_numbers(nodes: Sequence[onnx.NodeProto], opset: int, output: str = "y") -> onnx.ModelProto:
    """The nodes as a model, with those of the constants that they read."""
    named = {name for each in nodes for name in each.input}
    return model(nodes, {"x": SHAPE}, [output], {n: v for n, v in NUMBERS.items() if n in named}, opset)


TRAINED = [("y", "a", "b", "c", "d"), ("y", "a", "b"), ("y", "", "", "", "d"), ("y", "", "", "", ""), ("y", "a")]


@pytest.mark.parametrize("opset", range(7, 14))
@pytest.mark.parametrize("outputs", TRAINED)
def test_batch_normalisation_with_more_outputs_is_training(outputs, opset, tmp_path):  # type: ignore[no-untyped-def]
    made = with_numbers([node("BatchNormalization", "x s t m v", outputs)], opset)
    with pytest.raises(PolyfuseError, match=f"in training, with {len(outputs)} outputs, is not supported"):
        read(made, tmp_path)


@pytest.mark.parametrize("opset", [7, 9, 13, 14, 20])
def test_batch_normalisation_with_one_output_is_inference(opset: int, tmp_path: Path) -> None:
    made = with_numbers([node("BatchNormalization", "x s t m v", momentum=0.5)], opset)
    expected = onnxruntime_run(made, {"x": values(SHAPE)})[0]
    np.testing.assert_allclose(read(made, tmp_path), expected, rtol=1e-4, atol=1e-5)


PAIRS = "scale zero scale zero"
REFUSED = [
    (node("BatchNormalization", "x s t m v", ["y", "a", "b"], training_mode=1), 14, "in training"),
    (node("BatchNormalization", "x s t m v", ["y"], training_mode=1), 15, "in training"),
    (node("BatchNormalization", "x s t m v", ["y", "a", "b", "c", "d"]), 15, "expected 1 to 3 outputs"),
    (node("BatchNormalization", "x s8 t8 m8 v8", spatial=0), 8, "per element"),
    (node("BatchNormalization", "x s t m v", is_test=1), 7, "has the attribute 'is_test'; supported: epsilon"),
    (node("BatchNormalization", "x s t m v", spatial=1), 9, "has the attribute 'spatial'"),
    (node("Dropout", "x half yes"), 13, "Dropout in training"),
    (node("Dropout", "x", ["y"], ratio=0.5), 12, "of operator set 12 has the attribute 'ratio'; supported: seed"),
    (node("Dropout", "x", ["d", "y"]), 10, "its output 'y' is used"),
    (node("MaxPool", "x", ["d", "y"], kernel_shape=[2, 2]), 12, "its output 'y' is used"),
    (node("MaxPool", "x", ["y"], kernel_shape=[2, 2], dilations=[2, 2]), 8, "has the attribute 'dilations'"),
    (node("MaxPool", "x", ["y"], kernel_shape=[2, 2], dilations=[2, 1], auto_pad="SAME_UPPER"), 12, "use pads"),
    (node("Conv", "x w", pads=[1, 1, 0, 0], auto_pad="VALID"), 12, "but auto_pad is VALID; leave one of them out"),
    (node("Relu", "x s"), 14, "expected 1 inputs of Relu"),
    (node("Relu", "x", ["y", "z"]), 14, "expected 1 outputs of Relu"),
    (node("Relu", "x", alpha=0.5), 14, "of operator set 14 has the attribute 'alpha'; supported: none"),
    (node("Squeeze", "x", axes=[0]), 13, "of operator set 13 has the attribute 'axes'"),
    (node("Clip", "x", min=0.0), 11, "of operator set 11 has the attribute 'min'"),
    (node("QuantizeLinear", "x scale", output_dtype=TensorProto.INT4), 21, "asks for INT4 in its output"),
    (node("QuantizeLinear", "x scale", precision=TensorProto.FLOAT16), 23, "asks for FLOAT16 in the division"),
    (node("QuantizeLinear", "x scale unsigned", output_dtype=TensorProto.INT8), 21, "is int8, its zero point uint8"),
    (node("QuantizeLinear", "x scale zero", block_size=2), 21, "scales of blocks"),
    (node("QuantizeLinear", "x s", axis=4), 21, "expected an axis of x"),
    (node("QuantizeLinear", "x s", axis=-5), 21, "expected an axis of x"),
    (node("QuantizeLinear", "x s", axis=0), 21, "4 scales do not fit axis 0"),
    (node("Resize", "x region _ sizes", coordinate_transformation_mode="tf_crop_and_resize"), 13, "tf_crop_and_resize"),
    (node("Resize", "x _ _ sizes", antialias=1), 18, "antialias is not supported"),
    (node("Softmax", "x", axis=4), 13, "expected an axis of x"),
    (contributed("QLinearSigmoid", f"x {PAIRS}", alpha=0.5), 13, "has the attribute 'alpha'; supported: none"),
    (contributed("QLinearSigmoid", f"x {PAIRS} half"), 13, "has 'half' as input 5, which is not supported"),
    (contributed("QLinearAveragePool", f"x {PAIRS}", kernel_shape=[2, 2], other=1), 13, "attribute 'other'"),
    (contributed("QuantizeLinear", "x scale", other=1), 13, "com.microsoft.QuantizeLinear has the attribute 'other'"),
    (node("LayerNormalization", "x s", ["y", "mean"]), 17, "LayerNormalization"),
]  # fmt: skip


@pytest.mark.parametrize(("refused", "opset", "why"), REFUSED)
def test_nodes_that_are_refused(refused: onnx.NodeProto, opset: int, why: str, tmp_path: Path) -> None:
    NUMBERS["w"] = values((4, 4, 3, 3))
    made = with_numbers([refused], opset)
    if refused.op_type.startswith("QLinear"):
        made.graph.input[0].type.tensor_type.elem_type = TensorProto.INT8
    with pytest.raises(PolyfuseError) as error:
        read(made, tmp_path)
    assert why in str(error.value) and "\n" not in str(error.value)


def test_an_attribute_that_is_given_twice_is_refused(tmp_path: Path) -> None:
    twice = node("Softmax", "x", axis=1)
    twice.attribute.append(helper.make_attribute("axis", 2))
    with pytest.raises(PolyfuseError, match="expected the attribute 'axis' once, got it 2 times"):
        read(with_numbers([twice], 13), tmp_path)


def test_outputs_that_nothing_reads_are_no_matter(tmp_path: Path) -> None:
    for each, opset in (
        (node("MaxPool", "x", ["y", "unread"], kernel_shape=[2, 2], storage_order=1), 12),
        (node("Dropout", "x half no", ["y", "unread"], seed=3), 13),
        (node("Dropout", "x", ["y", "unread"], ratio=0.3), 7),
    ):
        made = with_numbers([each], opset)
        np.testing.assert_array_equal(read(made, tmp_path), onnxruntime_run(made, {"x": values(SHAPE)})[0])


@pytest.mark.parametrize("opset", [21, 23, 25])
@pytest.mark.parametrize("wanted", [None, TensorProto.INT8, TensorProto.UINT8])
def test_the_type_that_is_quantised_to(wanted: int | None, opset: int, tmp_path: Path) -> None:
    given = {} if wanted is None else {"output_dtype": wanted}
    kind = wanted or TensorProto.UINT8
    graph = with_numbers([node("QuantizeLinear", "x scale", **given)], opset)
    graph.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", kind, SHAPE))
    graph.ir_version = 10
    expected = onnxruntime_run(graph, {"x": values(SHAPE)})[0]
    found = read(graph, tmp_path)
    np.testing.assert_array_equal(found, expected)
    assert (found.min() < 0) == (kind == TensorProto.INT8)
