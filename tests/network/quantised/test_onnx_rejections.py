"""Quantised ONNX models that are refused, each with one line that says where and why."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from polyfuse.errors import InvalidInput, UnsupportedOperator
from polyfuse.network.onnx.load import imported
from tests.network.quantised.onnx_operators import Given, model

X = np.zeros((1, 2, 5, 5), np.int8)
F = X.astype(np.float32)
W = np.ones((3, 2, 3, 3), np.int8)
ONE, NONE = np.float32(0.5), np.int8(0)


def conv(**changes: Any) -> onnx.ModelProto:
    """A QLinearConv with some of its inputs changed; a value that is no constant is (value, False)."""
    values: dict[str, Any] = {
        "x": (X, False), "x_scale": ONE, "x_zero": NONE, "w": W, "w_scale": ONE, "w_zero": NONE, "y_scale": ONE,
        "y_zero": NONE, **changes,
    }  # fmt: skip
    given: list[Given] = [
        (name, np.asarray(value[0]), value[1]) if isinstance(value, tuple) else (name, np.asarray(value), True)
        for name, value in values.items()
    ]
    return model("QLinearConv", given, "int8")


def other(operator: str, *values: Any, dtype: str = "int8", **attributes: Any) -> onnx.ModelProto:
    given: list[Given] = [
        (f"i{k}", None if value is None else np.asarray(value), k > 0) for k, value in enumerate(values)
    ]
    return model(operator, given, dtype, **attributes)


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (conv(w_scale=np.float32([0.1, 0.0, 0.1])), "scales that are positive and finite in float32, got 0.0"),
        (conv(x_scale=np.float32(np.nan)), "positive and finite in float32, got nan"),
        (conv(y_scale=np.float32(np.inf)), "positive and finite in float32, got inf"),
        (conv(x_scale=np.float32(-1)), "positive and finite in float32, got -1.0"),
        (conv(x_scale=np.float16(1)), "constant 'x_scale' is float16 of shape (), expected float32"),
        (conv(x_scale=(ONE, False)), "expected a constant as input 1 of QLinearConv, got x_scale"),
        (conv(w=(W, False)), "expected a constant as input 3 of QLinearConv, got w"),
        (conv(w_scale=np.float32([1, 1])), "expected 1 or 3 scales of weights, got 2"),
        (conv(x_scale=np.float32([1, 1])), "expected one scale and zero point of int8 or uint8 for x"),
        (conv(x_zero=np.uint8(0)), "expected the operand x of uint8, as its quantisation, got int8"),
        (conv(w=np.ones((3, 2, 3), np.int8)), "expected weights of 4 axes"),
        (conv(b=np.float32([1, 2, 3])), "constant 'b' is float32 of shape (3,), expected int8 or uint8 or int32"),
        (conv(b=np.int8([1, 2, 3])), "expected a bias of int32"),
        (conv(b=np.int32([0, 2**31 - 1, 0])), "channel 1 of the weights may reach 2,147,485,951 with its bias"),
        (conv(x_scale=np.float32(1e30), w_scale=np.float32(1e30)), "give no finite multiplier"),
        (other("QLinearAdd", X, ONE, NONE, X, ONE, NONE, np.float32(0), NONE), "positive and finite"),
        (other("QLinearAveragePool", X, ONE, NONE, ONE, NONE, kernel_shape=[2, 2], channels_last=1), "channels_last"),
        (other("QLinearGlobalAveragePool", X, ONE, NONE, ONE, NONE, channels_last=1), "channels_last"),
        (other("QLinearSoftmax", X, ONE, NONE, ONE, NONE, opset=13), "QLinearSoftmax (node 'n0') is not supported"),
        (other("QGemm", X[0, 0], ONE, NONE, W[0, 0], ONE, NONE, None, ONE, NONE, alpha=2.0), "QGemm with an alpha"),
        (other("QGemm", X[0, 0], ONE, NONE, W[0, 0], ONE, NONE, alpha=1.0), "without a scale of its result"),
        (other("QuantizeLinear", F, np.float32([1, 1]), np.int8([0, 0]), axis=2), "2 scales do not fit"),
        (other("QuantizeLinear", F, ONE, np.int16(0), dtype="int16"), "is int16 of shape ()"),
        (other("DequantizeLinear", X, np.float32(1e-45), NONE, dtype="float32"), "positive and finite"),
        (other("QLinearConcat", ONE, NONE, X, ONE, axis=1), "a tensor and a scale for each part"),
    ],
)  # fmt: skip
def test_models_are_refused_in_one_line(made: onnx.ModelProto, why: str, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(made.SerializeToString())
    with pytest.raises((InvalidInput, UnsupportedOperator)) as error:
        imported(path)
    assert why in str(error.value)
    assert "\n" not in str(error.value) and len(str(error.value)) < 1500
    assert "n0" in str(error.value)
