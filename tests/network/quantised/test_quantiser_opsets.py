"""Models that onnxruntime's quantiser makes of operator sets 10 to 21, read as they are, against onnxruntime.

All of them are exact, node by node and rewritten to integer layers.
"""

from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from polyfuse.errors import InvalidInput
from polyfuse.network.network import Network
from polyfuse.network.onnx.load import imported
from polyfuse.network.quantised import elements
from polyfuse.network.quantised.scheme import Quantisation
from polyfuse.network.reference import run
from polyfuse.network.tensor import Tensor
from polyfuse.rewrite.rewriting import rewrite
from tests.network.quantised.models import onnxruntime_outputs, saturates

SHAPE = (1, 3, 16, 16)
SHAPES = {"w1": (8, 3, 3, 3), "b1": (8,), "w2": (8, 1, 3, 3), "b2": (8,), "w3": (8, 8, 1, 1), "w4": (5, 8), "b4": (5,)}
BY_CHANNEL = 13
"""The operator set that scales of channels came with; before, onnxruntime refuses what its quantiser writes."""


def float_model(opset: int) -> onnx.ModelProto:
    """Convolutions, a sum, a gate, pools and products of matrices, in what every one of the operator sets has."""
    generator = np.random.default_rng(0)
    weights = {name: (generator.standard_normal(s) * 0.3).astype(np.float32) for name, s in SHAPES.items()}
    weights |= {"w5": generator.standard_normal((5, 6)).astype(np.float32)}
    weights |= {"low": np.array(0, np.float32), "high": np.array(6, np.float32)}
    weights |= {name: np.array([value]) for name, value in {"start": 4, "end": 12, "axis": 1}.items()}
    make = helper.make_node
    clip = make("Clip", ["c"], ["d"], min=0.0, max=6.0) if opset < 11 else make("Clip", ["c", "low", "high"], ["d"])
    nodes = [
        make("Conv", ["x", "w1", "b1"], ["a"], "first", pads=[1] * 4, strides=[2, 2]),
        make("Relu", ["a"], ["b"], "positive"),
        make("Conv", ["b", "w2", "b2"], ["c"], "depthwise", pads=[1] * 4, group=8),
        clip,
        make("Conv", ["d", "w3"], ["e"], "pointwise"),
        make("Add", ["b", "e"], ["f"], "sum"),
        make("MaxPool", ["f"], ["g"], "largest", kernel_shape=[2, 2], strides=[2, 2]),
        make("Concat", ["g", "g"], ["h"], "both", axis=-3),
        make("Slice", ["h", "start", "end", "axis"], ["i"], "middle"),
        make("Sigmoid", ["i"], ["j"], "gate"),
        make("Mul", ["i", "j"], ["k"], "gated"),
        make("GlobalAveragePool", ["k"], ["l"], "mean"),
        make("Flatten", ["l"], ["m"], "flat"),
        make("Gemm", ["m", "w4", "b4"], ["n"], "full", transB=1),
        make("MatMul", ["n", "w5"], ["y"], "last"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, SHAPE)],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, (1, 6))],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8 if opset < 21 else 10)


class Calibration(CalibrationDataReader):  # type: ignore[misc]
    """Seeded inputs."""

    def __init__(self) -> None:
        self.inputs = iter([given(seed) for seed in range(4)])

    def get_next(self) -> dict[str, Any] | None:
        return next(self.inputs, None)


def given(seed: int) -> dict[str, np.ndarray]:
    """A seeded input."""
    return {"x": np.random.default_rng(seed).standard_normal(SHAPE).astype(np.float32)}


def quantised(folder: Path, opset: int, form: str, types: str, by_channel: bool, **extra: bool) -> Path:
    """The model quantised: `types` are those of activations and weights."""
    source, target = folder / "float.onnx", folder / "quantised.onnx"
    onnx.save(float_model(opset), source)
    activations, weights = types.split()
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        quantize_static(
            source, target, Calibration(), quant_format=QuantFormat[form], per_channel=by_channel,
            activation_type=QuantType[activations], weight_type=QuantType[weights], extra_options=extra,
            reduce_range=saturates(),
        )  # fmt: skip
    return target


def output(network: Network, seed: int) -> np.ndarray:
    """What the reference makes."""
    return run(network, given(seed))[network.outputs[0].name]


TYPES = ["QInt8 QInt8", "QUInt8 QInt8", "QUInt8 QUInt8"]
EXTRA: list[dict[str, bool]] = [
    {"AddQDQPairToWeight": True},
    {"UseQDQContribOps": True},
    {"DedicatedQDQPair": True, "WeightSymmetric": False},
    {"ActivationSymmetric": True},
]
FORMS = ("QDQ", "QOperator")
CASES: list[tuple[int, str, str, bool, dict[str, bool]]] = [
    *((opset, FORMS[k % 2], TYPES[1], k > 1, {}) for opset in range(10, 22) for k in range(opset % 2, 4)),
    *((13, FORMS[k % 2], types, k > 1, {}) for types in TYPES for k in range(4)),
    *((opset, FORMS[0], TYPES[0], opset > 12, extra) for opset in (10, 17, 21) for extra in EXTRA),
]


@pytest.mark.parametrize(("opset", "form", "types", "by_channel", "extra"), CASES)
def test_quantised_models_are_what_onnxruntime_runs(opset, form, types, by_channel, extra, tmp_path):  # type: ignore[no-untyped-def]
    path = quantised(tmp_path, opset, form, types, by_channel, **extra)
    network = imported(path).network
    forms: list[tuple[Network, bool]] = [(network, False), (rewrite(network).network, True)]
    if by_channel and form == "QDQ" and opset < BY_CHANNEL:
        path = quantised(tmp_path, BY_CHANNEL, form, types, by_channel, **extra)
    for each, optimised in forms:
        for seed in (8, 9):
            expected = onnxruntime_outputs(path, given(seed), optimised)[0]
            np.testing.assert_array_equal(output(each, seed).astype(np.float32), expected)
            assert len(set(expected.ravel().tolist())) > 3
    kinds = [layer.kind for layer in forms[1][0].layers]
    assert kinds.count("qlinear_conv") > 1 or types == "QUInt8 QUInt8"


def per_channel(operator: str, axis: int, opset: int) -> Callable[[int], onnx.ModelProto]:
    """A model of QuantizeLinear or DequantizeLinear with a scale for each channel along an axis."""

    def made(rank: int) -> onnx.ModelProto:
        shape = tuple(range(2, 2 + rank))
        channels = shape[axis]
        scale = np.linspace(0.02, 0.11, channels, dtype=np.float32)
        zero = np.arange(channels).astype(np.int8)
        kinds = (onnx.TensorProto.FLOAT, onnx.TensorProto.INT8)
        source, target = kinds if operator == "QuantizeLinear" else kinds[::-1]
        graph = helper.make_graph(
            [helper.make_node(operator, ["x", "s", "z"], ["y"], axis=axis)],
            "g",
            [helper.make_tensor_value_info("x", source, shape)],
            [helper.make_tensor_value_info("y", target, shape)],
            [numpy_helper.from_array(scale, "s"), numpy_helper.from_array(zero, "z")],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)

    return made


@pytest.mark.parametrize("opset", [13, 19])
@pytest.mark.parametrize("operator", ["QuantizeLinear", "DequantizeLinear"])
@pytest.mark.parametrize("rank", [1, 2, 3, 4])
def test_axes_of_channels_may_be_counted_from_the_end(operator: str, rank: int, opset: int, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    for axis in range(-rank, rank):
        made = per_channel(operator, axis, opset)(rank)
        path.write_bytes(made.SerializeToString())
        network = imported(path).network
        x = np.random.default_rng(0).standard_normal(tuple(range(2, 2 + rank))).astype(np.float32)
        x = x if operator == "QuantizeLinear" else np.clip(x * 50, -128, 127).astype(np.int8)
        found = run(network, {"x": x})[network.outputs[0].name]
        np.testing.assert_array_equal(found, onnxruntime_outputs(path, {"x": x}, False)[0])


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_an_axis_from_the_end_is_that_axis_for_layers_and_scales(dtype: str) -> None:
    x = np.arange(24).reshape(2, 3, 4)
    make = elements.quantize if dtype == "float32" else elements.dequantize
    for axis, size in enumerate(x.shape):
        scale = Quantisation(tuple(0.5 * (k + 1) for k in range(size)), tuple(range(size)))
        made = [make("l", Tensor("x", x.shape, dtype), scale, each) for each in (axis, axis - 3)]
        first, second = (layer.reference(x, *values.values()) for layer, values in made if layer.reference is not None)
        np.testing.assert_array_equal(first, second)
        assert [layer.operator.axis for layer, _ in made] == [axis, axis]
        with pytest.raises(InvalidInput, match="expected an axis from -3 to 2, got 3"):
            scale.real(x, 3)
