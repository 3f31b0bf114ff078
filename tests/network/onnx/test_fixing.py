"""Sizes and values of inputs of models that a user gives: by name, in place of what is declared, in Python."""

import itertools
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

import polyfuse as pf
from polyfuse.errors import InvalidInput
from polyfuse.loading import load_onnx, load_workload
from polyfuse.network.network import Network
from polyfuse.network.onnx.fixing import Fixed, pasted
from polyfuse.network.onnx.load import imported
from polyfuse.network.reference import max_relative_error, random_inputs, run
from tests.network.onnx.models import model, onnxruntime_run, values

make = helper.make_node
CLOSE = 1e-5


def saved(made: onnx.ModelProto, folder: Path) -> Path:
    path = folder / "m.onnx"
    path.write_bytes(made.SerializeToString())
    return path


def detector(*shape: int | str) -> onnx.ModelProto:
    """A convolution, upsampled to a size that is computed from the shape of the input."""
    nodes = [
        make("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1], strides=[2, 2]),
        make("Shape", ["x"], ["s"]),
        make("Slice", ["s", "two", "four"], ["hw"]),
        make("Shape", ["c"], ["t"]),
        make("Slice", ["t", "zero", "two"], ["nc"]),
        make("Concat", ["nc", "hw"], ["sizes"], axis=0),
        make("Resize", ["c", "", "", "sizes"], ["y"], mode="nearest"),
    ]
    numbers = {"zero": [0], "two": [2], "four": [4]}
    stored = {name: np.array(each, dtype=np.int64) for name, each in numbers.items()}
    return model(nodes, {"x": shape or ("batch", 3, "height", "width")}, ["y"], {"w": values((2, 3, 3, 3)), **stored})  # type: ignore[dict-item]


def agrees(made: onnx.ModelProto, folder: Path, wanted: tuple[int, ...], **given: Any) -> bool:
    """The model with its sizes and values is what onnxruntime makes of the file itself when it is given them."""
    network = load_onnx(saved(made, folder), **given)
    inputs = random_inputs(network, 3)
    entering = {value.name: value for value in made.graph.input}
    feed: dict[str, Any] = {name: inputs[name] for name in entering if name in inputs}
    for name, value in given.get("values", {}).items():
        feed[name] = np.array(value, helper.tensor_dtype_to_np_dtype(entering[name].type.tensor_type.elem_type))
    (expected,) = onnxruntime_run(made, feed)
    (tensor,) = network.outputs
    actual = run(network, inputs)[tensor.name]
    assert expected.shape == wanted
    return max_relative_error(actual, expected.reshape(actual.shape)) <= CLOSE


def refused(made: onnx.ModelProto, folder: Path, **given: Any) -> str:
    with pytest.raises(InvalidInput) as error:
        load_onnx(saved(made, folder), **given)
    assert "\n" not in str(error.value)
    return str(error.value)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_any_mixture_of_shapes_and_dimensions_gives_those_sizes(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Named, unnamed and declared sizes, by one option or the other, in every combination."""
    sizes = [data.draw(st.integers(1, 3)), 3, data.draw(st.integers(3, 9)), data.draw(st.integers(3, 9))]
    names = ["batch", None, "height", "width"]
    declared: list[int | str | None] = []
    dimensions: dict[str, int] = {}
    for size, name in zip(sizes, names, strict=True):
        kind = data.draw(st.sampled_from(["named", "fixed", "wrong", "open"]))
        if kind == "named" and name is not None:
            declared.append(name)
            if data.draw(st.booleans()):
                dimensions[name] = size
        else:
            declared.append({"wrong": size + 1, "open": None}.get(kind, size))
    by_name = {**dict(zip(declared, sizes, strict=True)), **dimensions}
    resolved = [by_name[d] if isinstance(d, str) and d in dimensions else d for d in declared]
    whole = resolved == sizes
    made = detector(*declared)  # type: ignore[arg-type]
    shapes = {} if whole and data.draw(st.booleans()) else {"x": sizes}
    network = load_onnx(saved(made, tmp_path_factory.mktemp("sizes")), shapes=shapes, dimensions=dimensions)
    assert network.inputs[0].shape == tuple(sizes)
    assert network.outputs[0].shape == (sizes[0], 2, sizes[2], sizes[3])


def test_sizes_by_name_and_by_shape(tmp_path: Path) -> None:
    dimensions = {"batch": 2, "height": 6, "width": 9}
    assert agrees(detector(), tmp_path, (2, 2, 6, 9), dimensions=dimensions)
    assert agrees(detector(), tmp_path, (2, 2, 6, 9), shapes={"x": (2, 3, 6, 9)})
    assert agrees(detector(), tmp_path, (1, 2, 4, 7), shapes={"x": np.array([1, 3, 4, 7])}, dimensions={"batch": 1})
    path = saved(detector(), tmp_path)
    assert load_workload(str(path), parameters={"batch": "1", "height": "6", "width": "5"}).outputs[0].shape[2:] == (
        6,
        5,
    )
    found = pf.load(path, shapes={"x": (1, 3, 6, 5)}, settings=pf.Settings(groups="single"))
    given = values((1, 3, 6, 5))
    result = found(given)
    fixed = imported(path, fixed=Fixed.of({"x": (1, 3, 6, 5)})).model
    (expected,) = onnxruntime_run(fixed, {"x": given})
    assert max_relative_error(np.asarray(result), expected) <= 1e-4


def test_declared_sizes_are_overridden_and_what_was_inferred_of_them_is_dropped(tmp_path: Path) -> None:
    made = onnx.shape_inference.infer_shapes(detector(1, 3, 8, 8))
    assert {value.name for value in made.graph.value_info} >= {"c", "y"} - {"y"}
    wide = load_onnx(saved(made, tmp_path), shapes={"x": (1, 3, 8, 12)})
    assert wide.outputs[0].shape == (1, 2, 8, 12)
    part = load_onnx(saved(made, tmp_path), first="n1", shapes={"x": (1, 3, 8, 12)})
    assert part.inputs[0].shape == (1, 2, 4, 6)
    whole = imported(saved(made, tmp_path), fixed=Fixed.of(shapes={"x": (1, 3, 8, 12)}))
    given = random_inputs(whole.network, 1)
    (expected,) = onnxruntime_run(whole.model, {"x": given["x"]})
    assert expected.shape == (1, 2, 8, 12)


def test_constant_shapes_that_no_longer_fit_name_their_node(tmp_path: Path) -> None:
    nodes = [make("Reshape", ["x", "s"], ["y"], name="head/flat")]
    made = model(nodes, {"x": (1, 4, 4)}, ["y"], {"s": np.array([1, 16])})  # type: ignore[dict-item]
    message = refused(made, tmp_path, shapes={"x": (1, 4, 5)})
    assert "node 'head_flat' ('head/flat'): expected a shape of the 20 elements of x[1, 4, 5], got [1, 16]" in message


def test_a_size_that_one_shape_decides_holds_for_its_name_everywhere(tmp_path: Path) -> None:
    made = model([make("Add", ["a", "b"], ["y"])], {"a": ("n", "?"), "b": ("n", "?")}, ["y"])
    assert load_onnx(saved(made, tmp_path), shapes={"a": (2, 3)}).outputs[0].shape == (2, 3)
    same = model([make("Add", ["a", "b"], ["y"])], {"a": ("?", "?"), "b": ("?", "?")}, ["y"])
    assert "input 'b' (? x ?) has open sizes" in refused(same, tmp_path, shapes={"a": (2, 3)})
    assert load_onnx(saved(same, tmp_path), shapes={"a": (2, 3), "b": (1, 3)}).outputs[0].shape == (2, 3)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"shapes": {"z": (1, 3, 8, 8)}}, "model: has no input 'z'; it has 'x'"),
        ({"shapes": {"batch": (1,)}}, "has no input 'batch'; it has 'x'; 'batch' is a dimension: --set batch=1"),
        ({"shapes": {"x": (1, 3, 8)}}, "expected 4 sizes, for batch x 3 x height x width, got 1x3x8"),
        ({"shapes": {"x": (1, 3, 8, 8, 8)}}, "expected 4 sizes"),
        ({"shapes": {"x": (1, 3, 0, 8)}}, "axis 2: expected a whole number from 1 to 2,147,483,647, got 0"),
        ({"shapes": {"x": (1, 3, -8, 8)}}, "got -8"),
        ({"shapes": {"x": (1, 3, 2**40, 8)}}, "got 1099511627776"),
        ({"shapes": {"x": (2**20, 3, 2**20, 8)}}, "at most 8 axes and 2,147,483,647 elements"),
        ({"shapes": {"x": (1, 3, 8.0, 8)}}, "got 8.0"),
        ({"shapes": {"x": (True, 3, 8, 8)}}, "got True"),
        ({"shapes": {"x": "1x3x8x8"}}, "expected a shape such as (1, 3, 224, 224), got '1x3x8x8'"),
        ({"shapes": {"x": 8}}, "expected a shape such as"),
        ({"shapes": [1, 3, 8, 8]}, "expected a dictionary by name"),
        ({"dimensions": {1: 2}}, "expected a dictionary by name"),
        ({"dimensions": {"bach": 1}}, "no named dimension 'bach'; did you mean 'batch'?"),
        ({"dimensions": {"x": 1}}, "'x' is an input: --shape or --fix"),
        ({"dimensions": {"batch": 0}}, "dimension 'batch': expected a whole number from 1"),
        ({"dimensions": {"batch": 1.5}}, "got 1.5"),
        ({"dimensions": {"batch": "two"}}, "got 'two'"),
        ({"dimensions": {"batch": 2}, "shapes": {"x": (1, 3, 8, 8)}}, "'batch' is 1 in 1x3x8x8 and is set to 2"),
        ({"values": {"z": 1}}, "has no input 'z'"),
        ({"values": {"x": "many"}}, "expected numbers such as 3, 480,640 or true"),
        ({"values": {"x": object()}}, "expected a number or an array of numbers"),
        ({"values": {"x": []}}, "expected a number or an array"),
        ({"values": {"x": [1, 2]}}, "expected one number, or as many as batch x 3 x height x width holds, got 2"),
    ],
)  # fmt: skip
def test_sizes_and_values_that_do_not_fit(given: dict[str, Any], why: str, tmp_path: Path) -> None:
    assert why in refused(detector(), tmp_path, **given)


def test_open_sizes_are_told_as_options_that_work(tmp_path: Path) -> None:
    assert refused(detector(), tmp_path) == (
        "model: its input 'x' (batch x 3 x height x width) has open sizes; give sizes, such as --set batch=1 --set "
        "height=224 --set width=224, or --shape x=1x3x224x224 (in Python dimensions={'batch': 1, 'height': 224, "
        "'width': 224})"
    )
    unnamed = detector(1, 3, None, None)  # type: ignore[arg-type]
    assert "such as --shape x=1x3x224x224 (in Python shapes={'x': (1, 3, 224, 224)})" in refused(unnamed, tmp_path)
    unnamed.graph.input[0].type.tensor_type.ClearField("shape")
    assert "such as --shape x=1x3x224x224" in refused(unnamed, tmp_path)
    two = model([make("Add", ["a b", "c=d"], ["y"])], {"a b": ("n", 2), "c=d": ("m x", 2)}, ["y"])
    assert "--set n=1 --set 'm x=1', or --shape 'a b=1x2' --shape c=d=1x2 (in" in refused(two, tmp_path)
    assert "its inputs 'a b' (n x 2), 'c=d' (m x x 2) have open sizes" in refused(two, tmp_path)
    inside = [make("Relu", ["x"], ["a"]), make("Abs", ["a"], ["y"], name="mid")]
    assert "tensor 'a': its shape depends on the inputs; give sizes, such as --set n=1" in refused(
        model(inside, {"x": ("n",)}, ["y"]), tmp_path, first="mid"
    )


def reshaped(kind: int = TensorProto.INT64, shape: tuple[int | str, ...] = (2,)) -> onnx.ModelProto:
    made = model([make("Reshape", ["x", "s"], ["y"])], {"x": (2, 6)}, ["y"])
    made.graph.input.append(helper.make_tensor_value_info("s", kind, shape))
    return made


def test_whole_numbers_that_are_fixed_are_no_inputs(tmp_path: Path) -> None:
    message = refused(reshaped(), tmp_path)
    assert (
        "input 's' (int64, 2): expected float32 elements, or int8 or uint8; fix it to a value, such as --fix s=1"
        in message
    )
    for value in ("3,4", [3, 4], np.array([3, 4], np.int32), (3.0, 4.0)):
        network = load_onnx(saved(reshaped(shape=("rank",)), tmp_path), values={"s": value})
        assert [tensor.name for tensor in network.inputs] == ["x"] and network.outputs[0].shape == (3, 4)
    assert agrees(reshaped(), tmp_path, (4, 3), values={"s": [4, 3]})
    assert "node 'n0': expected a shape of the 12 elements" in refused(reshaped(), tmp_path, values={"s": 5})
    assert "expected numbers that int64 has, got 2.5" in refused(reshaped(), tmp_path, values={"s": 2.5})
    assert "expected numbers that int64 has" in refused(reshaped(), tmp_path, values={"s": "1e30"})
    assert "expected one number, or as many as 2 holds, got 3" in refused(reshaped(), tmp_path, values={"s": "1,2,3"})


@pytest.mark.parametrize("kind", [TensorProto.INT32, TensorProto.INT64, TensorProto.FLOAT, TensorProto.BOOL])
@pytest.mark.parametrize("shape", [(), (1,)])
def test_single_numbers_are_folded(kind: int, shape: tuple[int, ...], tmp_path: Path) -> None:
    """Of rank 0 and of one axis; what is computed of them is constant, a branch that they decide is taken."""
    nodes = [
        make("Cast", ["n"], ["f"], to=TensorProto.FLOAT),
        make("Cast", ["n"], ["b"], to=TensorProto.BOOL),
        make("Reshape", ["b", "none"], ["condition"]),
        make("If", ["condition"], ["z"], then_branch=graph("Exp"), else_branch=graph("Neg")),
        make("Add", ["z", "f"], ["y"]),
    ]
    made = model(nodes, {"x": (2, 3)}, ["y"], {"none": np.zeros(0, np.int64)})  # type: ignore[dict-item]
    made.graph.input.append(helper.make_tensor_value_info("n", kind, shape))
    number = np.zeros(shape) + 1
    assert agrees(made, tmp_path, (2, 3), values={"n": number})
    assert agrees(made, tmp_path, (2, 3), values={"n": number * 0})
    assert load_onnx(saved(made, tmp_path), values={"n": "1"}).layers[0].name.endswith("Exp")


def graph(operator: str) -> onnx.GraphProto:
    end = helper.make_tensor_value_info("r", TensorProto.FLOAT, None)
    return helper.make_graph([make(operator, ["x"], ["r"])], operator, [], [end])


def test_a_value_fills_a_shape_that_is_given(tmp_path: Path) -> None:
    made = model([make("Add", ["x", "m"], ["y"])], {"x": (2, 6), "m": ("n", 6)}, ["y"])
    network = load_onnx(saved(made, tmp_path), dimensions={"n": 2}, values={"m": 0.5})
    given = random_inputs(network, 1)
    np.testing.assert_allclose(run(network, given)[network.outputs[0].name], given["x"] + 0.5, rtol=1e-6)
    rows = load_onnx(saved(made, tmp_path), values={"m": np.arange(12).reshape(2, 6)})
    np.testing.assert_allclose(
        run(rows, given)[rows.outputs[0].name], given["x"] + np.arange(12).reshape(2, 6), rtol=1e-6
    )


def test_networks_and_kernel_files_have_no_sizes_to_give(tmp_path: Path) -> None:
    network: Network = load_onnx(saved(detector(1, 3, 8, 8), tmp_path))
    for sizes in ({"shapes": {"x": (1, 3, 8, 8)}}, {"dimensions": {"batch": 1}}, {"values": {"x": 1}}):
        with pytest.raises(InvalidInput, match="for model files"):
            pf.load(network, **sizes)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="shapes and values of inputs are for ONNX models"):
        load_workload("kernels/sr4.py", shapes={"x": (1,)})


def test_names_of_options_are_quoted_for_a_shell() -> None:
    for name, value in itertools.product(("x", "a b", "a'b", "$x", "x:0", "a/b"), ("1x3", 1)):
        option, text = pasted("--shape", name, value).split(" ", 1)
        assert option == "--shape" and shlex.split(text) == [f"{name}={value}"]
