"""No attribute is known and unread: every attribute that ONNX gives the operators of the table, in every operator set.

Some value of it changes what a node makes, as onnxruntime or ONNX's evaluator has it, or is refused in one line; or it
is listed as without effect, with a reason, and changes nothing. A new attribute of a newer ONNX fails until it is here.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from polyfuse.errors import PolyfuseError
from polyfuse.network.onnx.attributes import WITHOUT_EFFECT
from polyfuse.network.onnx.folding import FOLDED
from polyfuse.network.onnx.load import imported
from polyfuse.network.onnx.registry import CONVERTERS
from polyfuse.network.reference import run
from tests.network.onnx.models import onnxruntime_run

NEWEST = onnx.defs.onnx_opset_version()
Arrays = Sequence[np.ndarray | None]


def floats(*shape: int) -> np.ndarray:
    """Seeded numbers."""
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def whole(*values: int) -> np.ndarray:
    """Sizes, axes or positions."""
    return np.array(values, np.int64)


@dataclass(frozen=True)
class Base:
    """A node that is valid: what it reads, the first being computed, and the attributes that it needs."""

    reads: Arrays
    needs: Mapping[str, Any] = field(default_factory=dict)
    outputs: int = 1
    last: int = 0
    """Which output is the model's."""


IMAGE = floats(1, 4, 6, 7)
SCALE, ZERO = np.float32(0.1), np.int8(3)


def base(operator: str, opset: int, attribute: str) -> Base:
    """The node of an operator to which an attribute is given."""
    c = np.abs(floats(4)) + np.float32(0.5)
    match operator:
        case "AveragePool" | "MaxPool":
            pads = {} if attribute in ("auto_pad", "kernel_shape") else {"pads": [1, 0, 1, 1], "strides": [2, 2]}
            return Base([IMAGE], {"kernel_shape": [3, 2], **({} if attribute == "pads" else pads)})
        case "BatchNormalization":
            channels = [floats(4), floats(4), floats(4), c]
            if attribute == "spatial":
                channels = [np.broadcast_to(v[:, None, None], (4, 6, 7)).copy() for v in channels]
            return Base([IMAGE, *channels], outputs=3 if attribute == "training_mode" else 1)
        case "Clip" | "Dropout" | "HardSigmoid" | "LeakyRelu" | "Elu" | "Gelu" | "Softmax" | "LogSoftmax" | "Flatten":
            return Base([floats(2, 3, 4)])
        case "Cast":
            return Base([floats(2, 3)], {"to": TensorProto.FLOAT})
        case "Concat":
            return Base([floats(2, 3, 4), floats(2, 3, 4)], {"axis": 0})
        case "Conv":
            return Base([IMAGE, floats(4, 4 if attribute != "group" else 2, 3, 2)])
        case "ConvTranspose":
            return Base([IMAGE, floats(4, 3, 3, 2)], {"strides": [2, 2]})
        case "DepthToSpace":
            return Base([floats(1, 16, 2, 3)], {"blocksize": 2})
        case "SpaceToDepth":
            return Base([floats(1, 4, 4, 8)], {"blocksize": 2})
        case "DequantizeLinear" | "QuantizeLinear":
            x = floats(4, 4, 4) if operator == "QuantizeLinear" else np.arange(64, dtype=np.int8).reshape(4, 4, 4)
            scale = np.array([0.1, 0.2, 0.3, 0.4], np.float32) if attribute in ("axis", "block_size") else SCALE
            zero = None if attribute == "output_dtype" else np.full(np.shape(scale), ZERO)
            return Base([x, scale, zero])
        case "Gather":
            return Base([floats(3, 4, 5), whole(2, 0)])
        case "GatherElements":
            return Base([floats(3, 3), np.array([[1, 0, 2], [0, 2, 1]])])
        case "Gemm":
            return Base([floats(4, 4), floats(4, 4) + 1, floats(4)])
        case "InstanceNormalization":
            return Base([IMAGE, c, floats(4)])
        case "LRN":
            return Base([IMAGE], {"size": 3})
        case "Mod":
            return Base([whole(-2, -1, 0, 1, 2, 3), whole(-3, -3, -3, -3, -3, -3)])
        case "Pad":
            pads = [0, 1, 1, 0, 2, 1]
            return Base([floats(2, 3, 4)], {"pads": pads}) if opset < 11 else Base([floats(2, 3, 4), whole(*pads)])
        case "QLinearConv":
            w = (floats(4, 4 if attribute != "group" else 2, 3, 2) * 20).astype(np.int8)
            x = (IMAGE * 30).astype(np.int8)
            return Base([x, SCALE, ZERO, w, SCALE, np.int8(0), np.float32(0.5), np.int8(-4)])
        case "Range":
            return Base([np.float32(0), np.float32(4), np.float32(0.5)])
        case "Reshape":
            return Base([floats(2, 3, 4), whole(4, -1, 1) if attribute != "allowzero" else whole(0, 4, 3)])
        case "Resize":
            return _resize(opset, attribute)
        case "Shape":
            return Base([floats(2, 3, 4)])
        case "Slice":
            return Base([floats(5, 5)], {"starts": [1], "ends": [3], "axes": [0]})
        case "Split":
            given: dict[str, Any] = {"num_outputs": 2} if opset >= 18 else {}
            return Base([floats(4, 4, 4)], given, outputs=2, last=1)
        case "Squeeze":
            return Base([floats(1, 3, 1)], {"axes": [0]})
        case "Transpose":
            return Base([floats(2, 3, 4)])
        case "Unsqueeze":
            return Base([floats(2, 3)], {"axes": [0]})
        case "Upsample":
            scales = [1.0, 1.0, 2.0, 3.0]
            return Base([IMAGE], {"scales": scales}) if opset < 9 else Base([IMAGE, np.float32(scales)])
        case "ConstantOfShape":
            return Base([whole(2, 3)])
        case "Constant":
            return Base([], {"value": numpy_helper.from_array(floats(3))} if opset < 11 or attribute == "value" else {})
    assert operator.startswith("Reduce"), f"no node of {operator} is known here"
    x = np.abs(floats(2, 3, 4)) + np.float32(0.1)
    return Base([x], {"axes": [1]} if attribute == "keepdims" and opset < 13 else {})


def _resize(opset: int, attribute: str) -> Base:
    if opset == 10:
        return Base([IMAGE, np.float32([1, 1, 2, 3])])
    needs: dict[str, Any] = {"mode": "cubic"} if attribute in ("cubic_coeff_a", "exclude_outside") else {}
    if attribute == "coordinate_transformation_mode":
        needs = {"mode": "linear"}
    if attribute == "antialias":
        needs = {"mode": "linear"}
    roi = np.float32([]) if opset < 13 else None
    none = np.float32([]) if opset < 13 else None
    if attribute in ("axes", "keep_aspect_ratio_policy"):
        return Base([floats(6, 6), roi, none, whole(9, 3)], needs)
    return Base([floats(6, 6), roi, none, whole(9, 4)], needs)


SPARSE = helper.make_sparse_tensor(numpy_helper.from_array(floats(1)), numpy_helper.from_array(whole(1)), [3])
VALUES: dict[str, dict[str, Sequence[Any]]] = {
    "AveragePool": {"auto_pad": ["SAME_UPPER", "SAME_LOWER", "VALID"], "ceil_mode": [1], "count_include_pad": [1]},
    "BatchNormalization": {"epsilon": [0.5], "momentum": [0.1], "spatial": [0], "training_mode": [1]},
    "Cast": {"to": [TensorProto.INT32], "saturate": [0], "round_mode": ["up"]},
    "Clip": {"max": [0.2], "min": [-0.1]},
    "Concat": {"axis": [1, -1]},
    "Constant": {
        "value": [numpy_helper.from_array(floats(3) + 1)], "value_float": [2.5], "value_floats": [[1.0, 2.0]],
        "value_int": [3], "value_ints": [[4, 5]], "value_string": ["a"], "value_strings": [["a", "b"]],
        "sparse_value": [SPARSE],
    },
    "ConstantOfShape": {"value": [numpy_helper.from_array(np.array([7], np.int64))]},
    "Conv": {"auto_pad": ["SAME_UPPER", "SAME_LOWER"], "group": [2], "kernel_shape": [[2, 2]], "pads": [[1, 0, 2, 1]]},
    "ConvTranspose": {
        "auto_pad": ["SAME_UPPER", "SAME_LOWER"], "group": [2], "kernel_shape": [[2, 2]], "output_padding": [[1, 0]],
        "output_shape": [[14, 14]], "pads": [[1, 0, 1, 1]],
    },
    "DepthToSpace": {"blocksize": [4], "mode": ["CRD"]},
    "DequantizeLinear": {"axis": [0, -1], "block_size": [2], "output_dtype": [TensorProto.FLOAT16]},
    "Dropout": {"ratio": [0.9], "seed": [7]},
    "Elu": {"alpha": [0.3]},
    "Flatten": {"axis": [0, 2, -1]},
    "Gather": {"axis": [1, -1]},
    "GatherElements": {"axis": [1, -1]},
    "Gelu": {"approximate": ["tanh"]},
    "Gemm": {"alpha": [0.5], "beta": [0.5], "transA": [1], "transB": [1]},
    "HardSigmoid": {"alpha": [0.4], "beta": [0.1]},
    "InstanceNormalization": {"epsilon": [0.5]},
    "LRN": {"alpha": [0.5], "beta": [0.1], "bias": [3.0], "size": [1]},
    "LeakyRelu": {"alpha": [0.3]},
    "MaxPool": {"auto_pad": ["SAME_UPPER", "SAME_LOWER"], "ceil_mode": [1], "storage_order": [1]},
    "Mod": {"fmod": [1]},
    "Pad": {"mode": ["reflect", "edge", "wrap"], "pads": [[1, 0, 0, 0, 0, 0]], "value": [1.5]},
    "QLinearConv": {"auto_pad": ["SAME_UPPER"], "group": [2], "kernel_shape": [[2, 2]], "pads": [[1, 0, 2, 1]]},
    "QuantizeLinear": {
        "axis": [0, -1], "block_size": [2], "output_dtype": [TensorProto.INT8, TensorProto.INT16],
        "precision": [TensorProto.FLOAT16], "saturate": [0],
    },
    "Range": {"stash_type": [TensorProto.FLOAT]},
    "Reshape": {"allowzero": [1]},
    "Resize": {
        "antialias": [1], "axes": [[1, 0], [-1, -2]], "cubic_coeff_a": [-0.5], "exclude_outside": [1],
        "coordinate_transformation_mode": ["align_corners", "asymmetric", "pytorch_half_pixel", "half_pixel_symmetric"],
        "extrapolation_value": [3.0], "keep_aspect_ratio_policy": ["not_larger", "not_smaller"], "mode": ["linear"],
        "nearest_mode": ["floor", "ceil", "round_prefer_ceil"],
    },
    "Shape": {"start": [1, -1], "end": [1, -1]},
    "Slice": {"axes": [[1]], "ends": [[4]], "starts": [[0]]},
    "Softmax": {"axis": [0, -3]},
    "SpaceToDepth": {"blocksize": [4], "mode": ["CRD"]},
    "Split": {"axis": [1, -1], "num_outputs": [3], "split": [[1, 3]]},
    "Squeeze": {"axes": [[2], [-1]]},
    "Transpose": {"perm": [[1, 0, 2]]},
    "Unsqueeze": {"axes": [[1], [-1]]},
    "Upsample": {"mode": ["linear"], "scales": [[1.0, 1.0, 1.0, 2.0]]},
}  # fmt: skip
VALUES["LogSoftmax"] = VALUES["Softmax"]
for name in ("AveragePool", "MaxPool", "Conv", "ConvTranspose", "QLinearConv"):
    VALUES[name] = {
        "dilations": [[2, 1]],
        "kernel_shape": [[2, 2]],
        "pads": [[1, 1, 1, 0]],
        "strides": [[1, 3]],
        **VALUES[name],
    }
for name in {*CONVERTERS, *FOLDED}:
    if name.startswith("Reduce"):
        VALUES[name] = {"axes": [[0], [-1]], "keepdims": [0], "noop_with_empty_axes": [1]}
LISTED = {("Range", "stash_type"): "it says in what type halves are added up, which are refused"}
"""Attributes of nodes that only make constants, and why they cannot matter."""
OWN = sorted(name for name in {*CONVERTERS, *FOLDED} if "." not in name)


def cases() -> list[tuple[str, int, str]]:
    """Every attribute of every operator, in every operator set with a definition of its own."""
    found = []
    for operator in OWN:
        versions = {}
        for opset in range(7, NEWEST + 1):
            try:
                schema = onnx.defs.get_schema(operator, opset)
            except onnx.defs.SchemaError:
                continue
            if not schema.deprecated:
                versions[schema.since_version] = opset
        for opset in versions.values():
            found += [(operator, opset, name) for name in sorted(onnx.defs.get_schema(operator, opset).attributes)]
    return found


def model(operator: str, opset: int, start: Base, attributes: Mapping[str, Any]) -> onnx.ModelProto:
    """The node as a model: its first input is one, or, where it is folded, a constant whose result is added to one."""
    folds = operator not in CONVERTERS
    names = [f"i{k}" if array is not None else "" for k, array in enumerate(start.reads)]
    while names and not names[-1]:
        names.pop()
    made = [f"o{k}" for k in range(start.outputs)]
    node = helper.make_node(operator, names, made, **{**start.needs, **attributes})
    stored = {name: array for name, array in zip(names, start.reads, strict=False) if array is not None}
    nodes, output, inputs = [node], made[start.last], {}
    if folds:
        nodes += [
            helper.make_node("Cast", [output], ["f"], to=TensorProto.FLOAT),
            helper.make_node("Add", ["x", "f"], ["y"]),
        ]
        output, inputs = "y", {"x": np.float32([0.5])}
    else:
        inputs = {"i0": np.asarray(stored.pop("i0"))}
    graph = helper.make_graph(
        nodes,
        "g",
        [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
            for n, a in inputs.items()
        ],
        [onnx.ValueInfoProto(name=output)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in stored.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8 if opset < 21 else 11)


def given(start: Base, made: onnx.ModelProto) -> dict[str, np.ndarray]:
    """The values of its inputs."""
    return {v.name: np.float32([0.5]) if v.name == "x" else np.asarray(start.reads[0]) for v in made.graph.input}


def expected(start: Base, made: onnx.ModelProto) -> list[np.ndarray]:
    """What onnxruntime makes, and what ONNX's evaluator does: of each, where it runs the model."""
    found = []
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        for function in (lambda: onnxruntime_run(made, given(start, made)), lambda: _evaluated(start, made)):
            try:
                found.append(np.asarray(function()[0]))
            except Exception:  # both raise anything for what they do not have
                continue
    return found


def _evaluated(start: Base, made: onnx.ModelProto) -> list[np.ndarray]:
    return list(ReferenceEvaluator(made).run(None, given(start, made)))


def made_of(start: Base, made: onnx.ModelProto, folder: Path) -> np.ndarray | str:
    """What polyfuse makes, in the type that it has; or why it refuses the model."""
    path = folder / "m.onnx"
    path.write_bytes(made.SerializeToString())
    try:
        found = imported(path)
        names = {found.tensors[name].name: array for name, array in given(start, made).items()}
        tensor = found.tensors[made.graph.output[0].name]
        value = run(found.network, names)[tensor.name]
        return value.astype(tensor.dtype)
    except PolyfuseError as error:
        assert "\n" not in str(error)
        return str(error)


def same(a: np.ndarray | str, b: np.ndarray | str) -> bool:
    """Equal, or as close as float32 allows."""
    if isinstance(a, str) or isinstance(b, str) or a.shape != (b.shape or (1,)) or a.dtype != b.dtype:
        return False
    return bool(np.allclose(a, b.reshape(a.shape), rtol=1e-5, atol=1e-5))


@pytest.mark.parametrize(("operator", "opset", "attribute"), cases())
def test_an_attribute_has_its_effect_or_is_refused_or_is_listed(operator, opset, attribute, tmp_path):  # type: ignore[no-untyped-def]
    start = base(operator, opset, attribute)
    plain = made_of(start, model(operator, opset, start, {}), tmp_path)
    effects = []
    for value in VALUES[operator][attribute]:
        changed = model(operator, opset, start, {attribute: value})
        found = made_of(start, changed, tmp_path)
        if isinstance(found, str):
            effects.append(True)
            continue
        wanted = expected(start, changed)
        assert any(same(found, each) for each in wanted), (value, found, wanted)
        effects.append(not same(found, plain))
    listed = attribute in WITHOUT_EFFECT.get(operator, {}) or (operator, attribute) in LISTED
    assert any(effects) != listed, f"{attribute} changes nothing, and is not listed" if not listed else "is listed"


def test_what_is_without_effect_is_said_why_and_exists() -> None:
    for operator, attributes in WITHOUT_EFFECT.items():
        for attribute, why in attributes.items():
            assert len(why) > 20
            assert attribute.startswith("input ") or (operator, attribute) in {(o, a) for o, _, a in cases()}
