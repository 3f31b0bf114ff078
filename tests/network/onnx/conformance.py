"""ONNX's own test cases for single operators, run through the importer; and the table of docs/use/operators.md.

Every tensor of numbers that a layer may compute with is an input; weights, sizes, axes and bounds are constants, as
exporters write them. `python -m tests.network.onnx.conformance` writes the table again.
"""

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from polyfuse.errors import PolyfuseError
from polyfuse.network.instances import interpret
from polyfuse.network.layer import Layer
from polyfuse.network.network import Network
from polyfuse.network.onnx.constants import Constants
from polyfuse.network.onnx.load import imported
from polyfuse.network.onnx.registry import CONVERTERS
from polyfuse.network.reference import max_relative_error, run
from tests.network.onnx.models import onnxruntime_run

PAGE = Path(__file__).parents[3] / "docs" / "use" / "operators.md"
MAX_INSTANCES = 3_000
"""Layers of at most so many instances are also run instance by instance."""

WEIGHTS: dict[str, Sequence[int]] = {
    "BatchNormalization": (1, 2, 3, 4),
    "Clip": (1, 2),
    "Conv": (1, 2),
    "ConvTranspose": (1, 2),
    "Dropout": (1, 2),
    "InstanceNormalization": (1, 2),
    "PRelu": (1,),
    "Pad": (1, 2, 3),
    "Resize": (1, 2, 3),
    "Upsample": (1,),
}
"""The float inputs of an operator that have to be constant."""
QUANTISED: dict[str, Sequence[Sequence[int]]] = {
    "DequantizeLinear": [(0,)],
    "QLinearConv": [(0,)],
    "QLinearMatMul": [(0, 3), (0,)],
    "QuantizeLinear": [(0,)],
}
"""The inputs of a quantised operator that are computed, one way and another; all others are constant."""
MAY_BE_WEIGHTS: dict[str, Sequence[int]] = {"Gemm": (1, 2), "MatMul": (1,)}
"""The inputs that are tried as inputs and as constants."""
FOLDED = ("Constant", "ConstantOfShape", "Shape", "Size")
"""The operators that make constants: their cases are evaluated, and there is no layer."""
OPERATORS = sorted({name for name in (*CONVERTERS, *FOLDED) if "." not in name} - {"Cast"})
"""The operators whose cases are run; a Cast of what is computed is only taken to the type that it has."""
REASONS = {
    r"expected float32 elements": "elements of other types",
    r"constant '\w+' is \w+ of shape .*; quantise to eight bits": "quantised to another type than eight bits",
    r"output_dtype asks for": "quantised to another type than eight bits",
    r"scales of blocks": "scales of blocks",
    r"2-D (windows|convolution)": "windows over other axes than rows and columns",
    r"its output '\w+' is used": "a second output is used",
    r"sizes of at least 1|that leaves elements": "tensors without elements",
    r"antialias is not supported": "antialias",
    r"points lie as 'tf_crop_and_resize'": "tf_crop_and_resize",
    r"(Dropout|BatchNormalization) in training": "training",
}
"""Why cases are refused: what the message says, and how the table says it."""
LIKE_ONNXRUNTIME = ("resize_downsample_scales_cubic_align_corners", "resize_downsample_scales_linear_align_corners")
"""Cases whose result is onnxruntime's instead: it measures between the corners of whole elements."""


@dataclass(frozen=True)
class Case:
    """One of ONNX's cases: a model of a single operator, and what it makes of what."""

    name: str
    operator: str
    model: onnx.ModelProto
    inputs: tuple[np.ndarray, ...]
    outputs: tuple[np.ndarray, ...]
    relative: float
    absolute: float


@cache
def cases() -> tuple[Case, ...]:
    """The cases of the operators that are run, sorted; those of operators as functions of others left out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        collected = collect_testcases(None)
    found = {each.name.removeprefix("test_"): case for each in collected if (case := _case(each)) is not None}
    return tuple(found[name] for name in sorted(found))


def _case(each: Any) -> Case | None:
    nodes = each.model.graph.node
    if len(nodes) != 1 or nodes[0].op_type not in OPERATORS or nodes[0].domain or "_expanded" in each.name:
        return None
    inputs, outputs = each.data_sets[0]
    name = each.name.removeprefix("test_")
    arrays = tuple(tuple(_single(np.asarray(_array(value))) for value in values) for values in (inputs, outputs))
    return Case(name, nodes[0].op_type, _single_model(each.model), *arrays, each.rtol, each.atol)


def _single(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float32) if array.dtype == np.float64 else array


def _single_model(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with float32 where it has float64, which polyfuse does not have."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    for value in (*made.graph.input, *made.graph.output):
        if value.type.tensor_type.elem_type == TensorProto.DOUBLE:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    return made


def _array(value: Any) -> Any:
    return numpy_helper.to_array(value) if isinstance(value, TensorProto) else value


def with_constants(case: Case, weights: Sequence[int]) -> onnx.ModelProto:
    """The model with some of its inputs as initialisers, and all that are not float32 where one is."""
    floats = case.operator in FOLDED or any(array.dtype == np.float32 for array in case.inputs)
    made = onnx.ModelProto()
    made.CopyFrom(case.model)
    read = list(made.graph.node[0].input)
    positions = {name: k for k, name in reversed(list(enumerate(read)))}
    computed = []
    for value, array in zip(case.model.graph.input, case.inputs, strict=True):
        if positions[value.name] not in weights and (not floats or array.dtype == np.float32):
            computed.append(value)
        else:
            made.graph.initializer.append(numpy_helper.from_array(array, value.name))
    del made.graph.input[:]
    made.graph.input.extend(computed)
    return made


def with_inputs(case: Case, positions: Sequence[int]) -> onnx.ModelProto:
    """The model with all of its inputs as initialisers but those at some positions."""
    made = onnx.ModelProto()
    made.CopyFrom(case.model)
    wanted = {made.graph.node[0].input[position] for position in positions}
    del made.graph.input[:]
    for value, array in zip(case.model.graph.input, case.inputs, strict=True):
        if value.name in wanted:
            made.graph.input.append(value)
        else:
            made.graph.initializer.append(numpy_helper.from_array(array, value.name))
    return made


def trials(case: Case) -> Iterator[onnx.ModelProto]:
    """The models to import for a case."""
    if case.operator in QUANTISED:
        yield from (with_inputs(case, positions) for positions in QUANTISED[case.operator])
        return
    always = WEIGHTS.get(case.operator, ())
    yield with_constants(case, always)
    if case.operator in MAY_BE_WEIGHTS:
        yield with_constants(case, [*always, *MAY_BE_WEIGHTS[case.operator]])


def refusal(case: Case) -> str | None:
    """Why a case is not imported; None where it is, and gives what ONNX says.

    Errors: AssertionError where it gives something else, by the reference or instance by instance.
    """
    if case.operator in FOLDED:
        check_folded(case)
        return None
    for model in trials(case):
        try:
            with TemporaryDirectory() as folder:
                path = Path(folder) / "case.onnx"
                path.write_bytes(model.SerializeToString())
                network = imported(path).network
        except PolyfuseError as error:
            assert "\n" not in str(error)
            return str(error)
        check(case, model, network)
    return None


def check_folded(case: Case) -> None:
    """The constant that the node makes is what the case says."""
    constants = Constants(case.model, case.model.graph.node, Path(), None)
    shapes = {value.name: array.shape for value, array in zip(case.model.graph.input, case.inputs, strict=True)}
    constants.shape_of = shapes.__getitem__
    if case.operator == "ConstantOfShape":
        constants = Constants(with_constants(case, [0]), case.model.graph.node, Path(), None)
    np.testing.assert_array_equal(constants.value(case.model.graph.output[0].name), case.outputs[0])


def check(case: Case, model: onnx.ModelProto, network: Network) -> None:
    """The network makes what the case says, as close as ONNX asks."""
    names = [value.name for value in case.model.graph.input]
    given = {value.name: case.inputs[names.index(value.name)] for value in model.graph.input}
    read = {name for node in model.graph.node for name in node.input}
    arrays = [array.reshape(array.shape or (1,)) for name, array in given.items() if name in read]
    values = run(network, dict(zip((tensor.name for tensor in network.inputs), arrays, strict=True)))
    outputs: Sequence[np.ndarray] = case.outputs
    if case.name in LIKE_ONNXRUNTIME:
        outputs = onnxruntime_run(model, {name: given[name] for name in given if name in read})
    for tensor, expected in zip(network.outputs, outputs, strict=True):
        actual = values[tensor.name]
        assert actual.shape == (expected.shape or (1,)), (case.name, actual.shape, expected.shape)
        np.testing.assert_allclose(
            actual.reshape(expected.shape), expected, rtol=case.relative, atol=case.absolute, err_msg=case.name
        )
    weights = {name: np.asarray(value, dtype=np.float64) for name, value in network.weights.items()}
    for layer in network.layers:
        check_instances(layer, {**values, **weights})


def check_instances(layer: Layer, values: Mapping[str, np.ndarray]) -> None:
    """A small layer gives the same, instance by instance."""
    if sum(int(str(statement.domain.count_val())) for statement in layer.statements) <= MAX_INSTANCES:
        given = {tensor.name: values[tensor.name] for tensor in (*layer.inputs, *layer.weights)}
        with np.errstate(all="ignore"):
            assert max_relative_error(interpret(layer, given), values[layer.output.name]) <= 1e-9, layer


def reason(message: str) -> str | None:
    """How the table says why a case is refused; None for a message that it does not know."""
    return next((text for pattern, text in REASONS.items() if re.search(pattern, message)), None)


def table() -> str:
    """A line for each operator: how many cases pass, and why others are refused."""
    lines = ["| operator | cases | pass | refused, and why |", "|---|---|---|---|"]
    total = [0, 0]
    for operator in OPERATORS:
        found = [reason(message) if message else "" for message in map(refusal, cases_of(operator))]
        why = [f"{found.count(each)} {each}" for each in sorted(set(found) - {""}, key=str)]
        total = [total[0] + len(found), total[1] + found.count("")]
        lines.append(f"| {operator} | {len(found)} | {found.count('')} | {'; '.join(why)} |")
    return "\n".join([*lines, f"| all | {total[0]} | {total[1]} | |"])


def cases_of(operator: str) -> list[Case]:
    """The cases of one operator."""
    return [case for case in cases() if case.operator == operator]


def written(page: str) -> str:
    """The page with the table of the installed version of ONNX."""
    text = f"Cases of onnx {onnx.__version__}:\n\n{table()}\n"
    head, _ = page.split("Cases of onnx ")
    return head + text


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
