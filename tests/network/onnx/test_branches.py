"""Branches, functions, gaps and missing operators of models: what is taken, put in, left out and named."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from polyfuse.deploy.plan import Host, Plan
from polyfuse.deploy.settings import Settings
from polyfuse.deploy.source import read_source
from polyfuse.deploy.verify import verify
from polyfuse.errors import InvalidInput, PolyfuseError, UnsupportedOperator
from polyfuse.network.onnx.constants import Constants
from polyfuse.network.onnx.load import Imported, imported
from polyfuse.network.onnx.resolving import resolved
from polyfuse.network.reference import max_relative_error, random_inputs, run
from tests.network.onnx.models import model, onnxruntime_run, values

make = helper.make_node
SHAPE = (1, 2, 4, 4)


def graph(nodes: list[onnx.NodeProto], outputs: list[str], **stored: Any) -> onnx.GraphProto:
    """A branch."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in stored.items()]
    return helper.make_graph(nodes, "branch", [], ends, tensors)


def choice(condition: str, outputs: list[str], then: onnx.GraphProto, other: onnx.GraphProto) -> onnx.NodeProto:
    return make("If", [condition], outputs, then_branch=then, else_branch=other)


def read(made: onnx.ModelProto, folder: Path, **given: Any) -> Imported:
    path = folder / "m.onnx"
    path.write_bytes(made.SerializeToString())
    return imported(path, **given)


def by_evaluator(made: onnx.ModelProto, feed: dict[str, Any]) -> list[Any]:
    """The outputs by onnx's own evaluator."""
    return list(ReferenceEvaluator(made).run(None, feed))


def agrees(
    made: onnx.ModelProto,
    folder: Path,
    oracle: Callable[[onnx.ModelProto, dict[str, Any]], Sequence[Any]] = onnxruntime_run,
) -> bool:
    """Each output is what another tool makes of the model as it was: with its branches and functions."""
    found = read(made, folder)
    given = random_inputs(found.network, 5)
    feed = {value.name: given[found.tensors[value.name].name] for value in made.graph.input}
    expected = oracle(made, feed)
    actual = run(found.network, given)
    pairs = [(actual[found.tensors[v.name].name], e) for v, e in zip(made.graph.output, expected, strict=True)]
    return all(max_relative_error(a, np.asarray(e).reshape(a.shape)) <= 1e-5 for a, e in pairs)


def refused(made: onnx.ModelProto, folder: Path, kind: type[PolyfuseError] = UnsupportedOperator) -> str:
    with pytest.raises(kind) as error:
        read(made, folder)
    assert "\n" not in str(error.value)
    return str(error.value)


TRUE, FALSE = np.array(True), np.array(False)
ADDED = graph([make("Relu", ["a"], ["t"]), make("Add", ["t", "k"], ["r"])], ["r"], k=np.float32(2))
NEGATED = graph([make("Neg", ["a"], ["t"])], ["t"])


@pytest.mark.parametrize("known", [TRUE, FALSE])
def test_the_branch_of_a_constant_condition_is_taken(known: np.ndarray, tmp_path: Path) -> None:
    nodes = [make("Abs", ["x"], ["a"]), choice("c", ["b"], ADDED, NEGATED), make("Exp", ["b"], ["y"])]
    assert agrees(model(nodes, {"x": SHAPE}, ["y"], {"c": known}), tmp_path)


@pytest.mark.parametrize("size", [1, 2])
def test_a_condition_may_depend_on_the_shape_of_what_is_computed(size: int, tmp_path: Path) -> None:
    nodes = [
        make("Conv", ["x", "w"], ["a"]),
        make("Shape", ["a"], ["s"]),
        make("Gather", ["s", "zero"], ["g"]),
        make("Equal", ["g", "one"], ["c"]),
        choice("c", ["b"], ADDED, NEGATED),
        make("Exp", ["b"], ["y"]),
    ]
    stored = {"zero": np.int64(0), "one": np.int64(1), "w": values((2, 2, 3, 3))}
    assert agrees(model(nodes, {"x": (size, 2, 4, 4)}, ["y"], stored), tmp_path)  # type: ignore[arg-type]


def test_the_shape_of_a_branch_decides_the_next(tmp_path: Path) -> None:
    """Chains of conditions on shapes behind branches, and the shape of a tensor that is used for nothing else."""
    nodes = [make("Relu", ["x"], ["b0"])]
    for k in range(6):
        halved = graph([make("MaxPool", [f"b{k}"], ["t"], kernel_shape=[2, 2], strides=[2, 2])], ["t"])
        nodes += [
            make("MaxPool", [f"b{k}"], [f"p{k}"], kernel_shape=[1, 2]),
            make("Shape", [f"p{k}"], [f"s{k}"], start=3, end=4),
            make("Greater", [f"s{k}", "three"], [f"c{k}"]),
            choice(f"c{k}", [f"b{k + 1}"], halved, graph([make("Abs", [f"b{k}"], ["t"])], ["t"])),
        ]
    made = model(nodes, {"x": (1, 2, 16, 16)}, ["b6"], {"three": np.array([3])})  # type: ignore[dict-item]
    assert agrees(made, tmp_path) and read(made, tmp_path).network.outputs[0].shape == (1, 2, 4, 4)


def test_branches_inside_branches_that_capture_and_shadow_nothing(tmp_path: Path) -> None:
    """Several outputs, one of them captured, one stored; the same names in every branch."""
    nested = [choice("d", ["s"], NEGATED, ADDED), make("Mul", ["s", "x"], ["u"])]
    inner = graph(nested, ["u", "a", "kept"], kept=values(SHAPE, 1))
    other = graph([make("Sub", ["a", "x"], ["t"])], ["t", "t", "x"])
    for first, second in ((TRUE, TRUE), (TRUE, FALSE), (FALSE, TRUE)):
        nodes = [
            make("Abs", ["x"], ["a"]),
            choice("c", ["b0", "b1", "b2"], inner, other),
            choice("c", ["b3", "", "b4"], inner, other),
            make("Sum", ["b0", "b1", "b2", "b3"], ["y"]),
            make("Add", ["b4", "x"], ["z"]),
        ]
        made = model(nodes, {"x": SHAPE}, ["y", "z"], {"c": first, "d": second})
        assert agrees(made, tmp_path, by_evaluator)


def test_a_computed_condition_is_refused_and_is_no_constant(tmp_path: Path) -> None:
    nodes = [
        make("ReduceMax", ["x"], ["m"], keepdims=0),
        make("Greater", ["m", "zero"], ["c"]),
        make("Abs", ["x"], ["a"]),
        make("If", ["c"], ["b"], name="pick", then_branch=ADDED, else_branch=NEGATED),
        make("Exp", ["b"], ["y"]),
    ]
    message = refused(model(nodes, {"x": SHAPE}, ["y"], {"zero": np.float32(0)}), tmp_path)
    assert "If (node 'pick': its condition 'c' is computed)" in message and "Greater (node 'n1')" in message


@pytest.mark.parametrize("operator", ["If", "Loop", "Scan", "Custom"])
def test_what_captures_computed_tensors_is_never_constant(operator: str, tmp_path: Path) -> None:
    """All inputs are constant, and a graph inside reads what is computed: as branch, as body, however deep."""
    body = graph([choice("c", ["t"], NEGATED, NEGATED)], ["t"])
    names = ("then_branch", "else_branch") if operator == "If" else ("body",)
    attributes: dict[str, Any] = dict.fromkeys(names, body)
    inner = make(operator, ["c"], ["b"], domain="my" if operator == "Custom" else "", **attributes)
    nodes = [make("Abs", ["x"], ["a"]), inner, make("Exp", ["b"], ["y"])]
    made = model(nodes, {"x": SHAPE}, ["y"], {"c": TRUE})
    constants = Constants(made, nodes, tmp_path, None)
    assert not constants.known("a") and not constants.known("b") and not constants.known("y")
    if operator == "If":
        assert agrees(made, tmp_path)
    else:
        assert f"{operator} (node 'n1')" in refused(made, tmp_path)


def test_nodes_are_sorted_by_what_their_branches_capture(tmp_path: Path) -> None:
    nodes = [choice("c", ["b"], ADDED, NEGATED), make("Exp", ["b"], ["y"]), make("Abs", ["x"], ["a"])]
    made = model(nodes, {"x": SHAPE}, ["y"], {"c": TRUE})
    ordered = model([nodes[2], *nodes[:2]], {"x": SHAPE}, ["y"], {"c": TRUE})
    assert agrees(ordered, tmp_path)
    networks = [read(each, tmp_path).network for each in (made, ordered)]
    given = random_inputs(networks[0], 1)
    left, right = (run(network, given)[network.outputs[0].name] for network in networks)
    assert np.array_equal(left, right)


def function(
    name: str, inputs: list[str], outputs: list[str], nodes: list[onnx.NodeProto], opset: int = 20, **more: Any
) -> onnx.FunctionProto:
    return helper.make_function(
        "my", name, inputs, outputs, nodes, [helper.make_opsetid("", opset), helper.make_opsetid("my", 1)], **more
    )


def referring(node: onnx.NodeProto, name: str, kind: int, refers: str | None = None) -> onnx.NodeProto:
    node.attribute.append(onnx.AttributeProto(name=name, ref_attr_name=refers or name, type=kind))
    return node


def with_functions(made: onnx.ModelProto, *functions: onnx.FunctionProto) -> onnx.ModelProto:
    made.functions.extend(functions)
    made.opset_import.append(helper.make_opsetid("my", 1))
    return made


def block() -> onnx.FunctionProto:
    leaky = referring(make("LeakyRelu", ["u"], ["t"]), "alpha", onnx.AttributeProto.FLOAT)
    nodes = [leaky, make("Clip", ["t", "", "v"], ["o"]), make("Exp", ["u"], ["p"])]
    return function("Block", ["u", "v"], ["o", "p"], nodes, attribute_protos=[helper.make_attribute("alpha", 0.25)])


def test_functions_are_put_where_they_are_called(tmp_path: Path) -> None:
    """Nested, with attributes of the call and defaults, inputs and outputs left out, and inner names used twice."""
    calls = [
        referring(make("Block", ["u"], ["t", ""], domain="my"), "alpha", onnx.AttributeProto.FLOAT, "slope"),
        make("Block", ["t", "v"], ["o", "t2"], domain="my"),
        make("Add", ["t2", "u"], ["q"]),
    ]
    outer = function("Outer", ["u", "v"], ["o", "q"], calls, attributes=["slope"])
    nodes = [
        make("Block", ["x", "k"], ["t", "p"], domain="my", name="first", alpha=0.5),
        make("Outer", ["t", "k"], ["o", "q"], domain="my", slope=0.125),
        make("Outer", ["t"], ["o2", ""], domain="my", slope=2.0),
        make("Sum", ["o", "p", "q", "o2"], ["y"]),
    ]
    made = with_functions(model(nodes, {"x": SHAPE}, ["y"], {"k": np.float32(0.5)}), outer, block())
    assert agrees(made, tmp_path)
    nodes[0].input[1] = "x"
    computed = with_functions(model(nodes, {"x": SHAPE}, ["y"], {"k": np.float32(0.5)}), outer, block())
    assert "node 'first_Clip'" in refused(computed, tmp_path)


def test_a_result_that_is_given_is_copied(tmp_path: Path) -> None:
    same = function("Same", ["u", "v"], ["v", "o"], [make("Exp", ["u"], ["o"])])
    nodes = [make("Same", ["x", "x"], ["a", "b"], domain="my"), make("Sub", ["a", "b"], ["y"])]
    assert agrees(with_functions(model(nodes, {"x": SHAPE}, ["y"]), same), tmp_path, by_evaluator)


def test_functions_of_a_branch_and_branches_of_a_function(tmp_path: Path) -> None:
    picks = function(
        "Pick",
        ["u", "c"],
        ["o"],
        [choice("c", ["o"], graph([make("Exp", ["u"], ["t"])], ["t"]), graph([make("Neg", ["u"], ["t"])], ["t"]))],
    )
    called = graph([make("Pick", ["x", "d"], ["t"], domain="my")], ["t"])
    nodes = [
        make("Abs", ["x"], ["a"]),
        choice("c", ["a1"], called, NEGATED),
        make("Pick", ["a1", "c"], ["b"], domain="my"),
        make("Pick", ["b", "d"], ["y"], domain="my"),
    ]
    for second in (TRUE, FALSE):
        assert agrees(with_functions(model(nodes, {"x": SHAPE}, ["y"], {"c": TRUE, "d": second}), picks), tmp_path)


def test_overloads_are_told_apart(tmp_path: Path) -> None:
    """One name, two functions. onnx's evaluator knows no overloads: the model without them is what they agree with."""
    both = [
        function("F", ["u"], ["o"], [make(operator, ["u"], ["o"])], overload=operator) for operator in ("Exp", "Neg")
    ]
    nodes = [make("F", ["x"], ["a"], domain="my", overload="Neg"), make("F", ["a"], ["y"], domain="my", overload="Exp")]
    found = read(with_functions(model(nodes, {"x": SHAPE}, ["y"]), *both), tmp_path).network
    given = random_inputs(found, 1)
    np.testing.assert_allclose(run(found, given)[found.outputs[0].name], np.exp(-given["x"]), rtol=1e-6)


@pytest.mark.parametrize("opset", [11, 12, 13, 18])
def test_functions_of_another_operator_set(opset: int, tmp_path: Path) -> None:
    """Softmax runs over all axes from one on before 13, and over one axis from 13 on: each as its own set says."""
    soft = function("Soft", ["u"], ["o"], [make("Softmax", ["u"], ["o"], axis=1)], opset)
    nodes = [make("Soft", ["x"], ["a"], domain="my"), make("Softmax", ["a"], ["y"], axis=1)]
    found = read(with_functions(model(nodes, {"x": SHAPE}, ["y"]), soft), tmp_path)
    given = random_inputs(found.network, 1)
    powers = np.exp(given["x"])
    inner = np.exp(powers / powers.sum(axis=(1, 2, 3) if opset < 13 else 1, keepdims=True))
    actual = run(found.network, given)[found.network.outputs[0].name]
    np.testing.assert_allclose(actual, inner / inner.sum(axis=1, keepdims=True), rtol=1e-5)
    if opset < 13:
        with pytest.raises(UnsupportedOperator, match=f"operators of set {opset}"):
            _ = found.model
        source = read_source(tmp_path / "m.onnx")
        with pytest.raises(InvalidInput, match="convert the model to one operator set"):
            verify(source, Plan("m", Host(4), "nchw", "exact", {}), Settings())
    else:
        assert max_relative_error(actual, onnxruntime_run(found.model, {"x": given["x"]})[0]) <= 1e-5


def test_functions_that_are_not_usable(tmp_path: Path) -> None:
    def calling(*functions: onnx.FunctionProto, outputs: list[str] | None = None) -> str:
        nodes = [make("F", ["x"], outputs or ["y"], domain="my")]
        return refused(with_functions(model(nodes, {"x": SHAPE}, ["y"]), *functions), tmp_path, PolyfuseError)

    itself = function("F", ["u"], ["o"], [make("F", ["u"], ["o"], domain="my")])
    assert "function 'my.F': calls itself" in calling(itself)
    there = function("F", ["u"], ["o"], [make("G", ["u"], ["o"], domain="my")])
    back = function("G", ["u"], ["o"], [make("F", ["u"], ["o"], domain="my")])
    assert "calls itself" in calling(there, back)
    assert "reads 'z', which it neither gets nor makes" in calling(
        function("F", ["u"], ["o"], [make("Exp", ["z"], ["o"])])
    )
    assert "makes 1 outputs, got 1 and 2" in calling(
        function("F", ["u"], ["o"], [make("Exp", ["u"], ["o"])]), outputs=["y", "z"]
    )
    assert "operator set 7 or later, got 6" in calling(function("F", ["u"], ["o"], [make("Exp", ["u"], ["o"])], 6))
    assert "operators Missing (node 'F_Missing'" in calling(
        function("F", ["u"], ["o"], [make("Missing", ["u"], ["t"]), make("Other", ["t"], ["o"])])
    )
    levels = [
        function("F", ["u"], ["o"], [make("L0", ["u"], ["t"], domain="my"), make("L0", ["t"], ["o"], domain="my")])
    ]
    for k in range(30):
        inner = [make(f"L{k + 1}", ["u"], ["t"], domain="my"), make(f"L{k + 1}", ["t"], ["o"], domain="my")]
        levels.append(function(f"L{k}", ["u"], ["o"], inner))
    levels.append(function("L30", ["u"], ["o"], [make("Exp", ["u"], ["o"])]))
    assert "hold more than" in calling(*levels)


def drawn(chance: random.Random, depth: int, known: list[str]) -> list[onnx.NodeProto]:
    """Some nodes, branches and calls that read what is known; branches beside each other have the same names inside."""
    nodes: list[onnx.NodeProto] = []
    for k in range(chance.randrange(1, 4)):
        name, pick = f"d{depth}_{k}", chance.random()
        if depth and pick < 0.4:
            inner = [drawn(chance, depth - 1, known) for _ in range(2)]
            branches = [graph(each, [each[-1].output[0]]) for each in inner]
            nodes.append(choice(chance.choice(["c", "d"]), [name], *branches))
        elif pick < 0.6:
            nodes.append(make("Block", [chance.choice(known)], [name, ""], domain="my", alpha=chance.random()))
        elif pick < 0.8:
            nodes.append(make("Add", [chance.choice(known), chance.choice(known)], [name]))
        else:
            nodes.append(make(chance.choice(["Relu", "Neg", "Abs", "Tanh"]), [chance.choice(known)], [name]))
        known = [*known, name]
    return nodes


@pytest.mark.parametrize("seed", range(40))
def test_random_branches_and_calls_agree_with_onnxruntime(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    nodes = [make("Abs", ["x"], ["x0"]), *drawn(chance, 3, ["x", "x0"])]
    stored = {"c": np.array(chance.random() < 0.5), "d": np.array(chance.random() < 0.5)}
    last = make("Sum", ["x0", *(node.output[0] for node in nodes)], ["y"])
    assert agrees(with_functions(model([*nodes, last], {"x": SHAPE}, ["y"], stored), block()), tmp_path)


def test_gaps_are_no_tensors(tmp_path: Path) -> None:
    """An output that is left out is not what an input that is left out reads, wherever both are."""
    nodes = [
        make("Dropout", ["x", "", ""], ["a", ""]),
        make("Clip", ["a", "", "hi"], ["b"]),
        make("MaxPool", ["b"], ["c", ""], kernel_shape=[2, 2]),
        make("BatchNormalization", ["c", "s", "s", "s", "s"], ["d"], epsilon=0.1),
        make("Split", ["d"], ["", "e"], axis=1, num_outputs=2),
        make("Resize", ["e", "", "", "to"], ["y"], mode="nearest"),
    ]
    stored = {"hi": np.float32(0.5), "s": np.float32([0.5, 1.5]), "to": np.array([1, 1, 6, 6])}
    made = model(nodes, {"x": SHAPE}, ["y"], stored, opset=18)  # type: ignore[arg-type]
    found = read(made, tmp_path)
    assert [layer.kind for layer in found.network.layers] and found.network.outputs[0].shape == (1, 1, 6, 6)
    assert [tensor.name for tensor in found.network.outputs] == [found.tensors["y"].name]
    given = random_inputs(found.network, 5)
    (expected,) = onnxruntime_run(found.model, {"x": given[found.tensors["x"].name]})
    assert max_relative_error(run(found.network, given)[found.network.outputs[0].name], expected) <= 1e-5


def test_all_missing_operators_are_named_at_once(tmp_path: Path) -> None:
    nodes = [
        make("Einsum", ["x"], ["a"], equation="abcd->abcd", name="first"),
        make("Zzz", ["a"], ["b"], domain="custom.domain"),
        make("Zzz", ["b"], ["c"], domain="custom.domain"),
        make("Selu", ["k"], ["kk"]),
        make("Add", ["c", "kk"], ["d"]),
        make("Loop", ["", "t", "d"], ["y"], body=graph([make("Exp", ["d"], ["o"])], ["o"])),
    ]
    message = refused(model(nodes, {"x": SHAPE}, ["y"], {"k": np.float32(1), "t": TRUE}), tmp_path)
    assert message.startswith(
        "model: the operators Einsum (node 'first'), Loop (node 'n4'), Selu of constants (node 'kk'), "
        "custom.domain.Zzz (2 nodes, the first is node 'n1') are not supported; export the model with operators that "
        "docs/use/operators.md lists"
    )
    assert "--from" not in message and "first and a last node" not in message


def test_what_is_resolved_is_a_model_that_checks(tmp_path: Path) -> None:
    nodes = [make("Abs", ["x"], ["a"]), choice("c", ["b"], ADDED, NEGATED), make("Block", ["b"], ["y"], domain="my")]
    made = with_functions(model(nodes, {"x": SHAPE}, ["y"], {"c": TRUE}), block())
    made.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, SHAPE))
    (tmp_path / "m.onnx").write_bytes(made.SerializeToString())
    found = resolved(tmp_path / "m.onnx")
    onnx.checker.check_model(found.model, full_check=True)
    assert {node.op_type for node in found.model.graph.node} == {"Abs", "Relu", "Add", "LeakyRelu", "Clip", "Exp"}
    assert not found.opsets and not found.undecided


def test_branches_that_are_not_usable(tmp_path: Path) -> None:
    few = choice("c", ["b0", "b1"], NEGATED, NEGATED)
    made = model([make("Abs", ["x"], ["a"]), few, make("Add", ["b0", "b1"], ["y"])], {"x": SHAPE}, ["y"], {"c": TRUE})
    assert "has 0 inputs and 1 outputs, expected none and 2" in refused(made, tmp_path, InvalidInput)
    none = [make("If", ["c"], ["b"]), make("Add", ["x", "b"], ["y"])]
    assert "If of constants (node 'b'" in refused(model(none, {"x": SHAPE}, ["y"], {"c": TRUE}), tmp_path)
    several = choice("c", ["y"], NEGATED, NEGATED)
    made = model([make("Abs", ["x"], ["a"]), several], {"x": SHAPE}, ["y"], {"c": np.array([True, False])})
    assert "its condition 'c' is no single value" in refused(made, tmp_path)
