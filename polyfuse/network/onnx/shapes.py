"""The shapes of the tensors that enter the imported part of an ONNX graph.

A `ModelProto` and names of its tensors enter; `Tensor`s of known sizes leave. One of rank 0 has the shape (1,).
"""

import subprocess
import sys
from collections.abc import Sequence
from math import prod

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import helper

from polyfuse.errors import InvalidInput
from polyfuse.network.onnx.file import MAX_ELEMENTS
from polyfuse.network.onnx.fixing import MAX_RANK, declared_text, free_sizes, inputs_of, is_free, pasted
from polyfuse.network.onnx.graph import LayerNames
from polyfuse.network.tensor import Tensor

ELEMENTS = {onnx.TensorProto.FLOAT: "float32", onnx.TensorProto.INT8: "int8", onnx.TensorProto.UINT8: "uint8"}
"""The types of elements of tensors that enter."""
WHOLE = frozenset(
    onnx.TensorProto.DataType.Value(name) for name in ("BOOL", "INT16", "INT32", "INT64", "UINT16", "UINT32", "UINT64")
)
"""The types of inputs that are not computed with, but can be fixed to a value."""


class OpenSizes(InvalidInput):
    """Sizes of inputs are not known."""


def entering_tensors(model: onnx.ModelProto, names: Sequence[str], taken: LayerNames) -> dict[str, Tensor]:
    """A tensor of its own name for each of the names, by the model's names.

    Errors: InvalidInput for tensors that are not of float32 or eight bits, and of known and reasonable sizes.
    """
    inputs = inputs_of(model)
    known = {value.name: value for value in (*model.graph.value_info, *model.graph.input)}
    made = {name for node in model.graph.node for name in node.output}
    open_inside = [name for name in names if name in made and (name not in known or is_free(known[name]))]
    _check_inputs([inputs[name] for name in names if name in inputs])
    if open_inside:
        if free := [value for value in inputs.values() if is_free(value)]:
            raise OpenSizes(f"tensor {open_inside[0]!r}: its shape depends on the inputs; {free_sizes(free)}")
        known |= {name: value for name, value in _inferred(model).items() if name in open_inside}
    found = {}
    for name in names:
        if name not in known and name not in made:
            raise InvalidInput(
                f"tensor {name!r}: no node of the model makes it and it is no input; export or download it again"
            )
        if name not in known:
            raise InvalidInput(
                f"tensor {name!r}: its shape is not known; add it to the model's value_info or start elsewhere"
            )
        shape = _shape(name, known[name].type) or (1,)
        found[name] = Tensor(taken.fresh(name), shape, ELEMENTS[known[name].type.tensor_type.elem_type])
    return found


def declared_shape(model: onnx.ModelProto, name: str) -> tuple[int, ...]:
    """The shape of an input, whatever its elements are. Errors: InvalidInput where its sizes are open or too large."""
    value = inputs_of(model)[name]
    if is_free(value):
        raise OpenSizes(_free([value]))
    return _sizes(name, value.type.tensor_type)


def _check_inputs(values: Sequence[onnx.ValueInfoProto]) -> None:
    """Refuse inputs that hold whole numbers, and inputs of open sizes, all of them in one error."""
    if whole := [value for value in values if value.type.tensor_type.elem_type in WHOLE]:
        types = ((value.name, value.type.tensor_type) for value in whole)
        named = onnx.TensorProto.DataType.Name
        held = (f"{name!r} ({named(kind.elem_type).lower()}, {declared_text(kind)})" for name, kind in types)
        options = " ".join(pasted("--fix", value.name, 1) for value in whole)
        raise InvalidInput(
            f"{_inputs(whole)} {', '.join(held)}: expected float32 elements, or int8 or uint8; fix "
            f"{'them' if len(whole) > 1 else 'it'} to a value, such as {options} (in Python "
            f"values={ {value.name: 1 for value in whole} }), one number for all elements or a list such as 480,640"
        )
    if free := [value for value in values if is_free(value)]:
        raise OpenSizes(_free(free))


def _free(values: Sequence[onnx.ValueInfoProto]) -> str:
    shown = (f"{value.name!r} ({declared_text(value.type.tensor_type)})" for value in values)
    have = "have" if len(values) > 1 else "has"
    return f"{_inputs(values)} {', '.join(shown)} {have} open sizes; {free_sizes(values)}"


def _inputs(values: Sequence[onnx.ValueInfoProto]) -> str:
    return "model: its inputs" if len(values) > 1 else "model: its input"


INFER = """
import sys, onnx
model = onnx.ModelProto.FromString(sys.stdin.buffer.read())
sys.stdout.buffer.write(onnx.shape_inference.infer_shapes(model).SerializeToString())
"""
"""Infers the shapes of a model, as a program."""
LONGEST_INFERENCE = 60.0
"""Seconds that it may take."""
LARGEST_VALUE = 1024
"""Constants of more elements are not sizes: their values are not needed."""


def _inferred(model: onnx.ModelProto) -> dict[str, onnx.ValueInfoProto]:
    """The types and shapes of the tensors inside of a model.

    Inference is in a process of its own: it aborts on some models that are damaged.
    """
    command = [sys.executable, "-c", INFER]
    small = without_weights(model).SerializeToString()
    try:
        done = subprocess.run(command, input=small, capture_output=True, timeout=LONGEST_INFERENCE, check=True)
        inferred = onnx.ModelProto.FromString(done.stdout)
    except (subprocess.SubprocessError, DecodeError) as error:
        message = error.stderr if isinstance(error, subprocess.CalledProcessError) else str(error).encode()
        why = (message or b"it was aborted").decode(errors="replace").split()
        raise InvalidInput(f"model: its shapes cannot be inferred ({' '.join(why)[-200:]})") from None
    return {value.name: value for value in inferred.graph.value_info}


def without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with inputs instead of large constants."""
    small = onnx.ModelProto()
    small.CopyFrom(model)
    del small.graph.initializer[:]
    inputs = {value.name for value in model.graph.input}
    for tensor in model.graph.initializer:
        if prod(tensor.dims) <= LARGEST_VALUE:
            small.graph.initializer.append(tensor)
        elif tensor.name not in inputs:
            small.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return small


def _shape(name: str, type_: onnx.TypeProto) -> tuple[int, ...]:
    tensor = type_.tensor_type
    if tensor.elem_type not in ELEMENTS:
        got = onnx.TensorProto.DataType.Name(tensor.elem_type) if tensor.elem_type in _TYPES else "no tensor"
        raise InvalidInput(
            f"tensor {name!r}: expected float32 elements, or int8 or uint8, got {got}; convert the model to float32"
        )
    return _sizes(name, tensor)


def _sizes(name: str, tensor: onnx.TypeProto.Tensor) -> tuple[int, ...]:
    if not tensor.HasField("shape") or len(tensor.shape.dim) > MAX_RANK:
        rank = len(tensor.shape.dim) if tensor.HasField("shape") else "unknown"
        raise InvalidInput(f"tensor {name!r}: expected at most {MAX_RANK} axes, got {rank}")
    shape = tuple(int(dim.dim_value) for dim in tensor.shape.dim)
    if min(shape, default=1) < 1 or prod(shape) > MAX_ELEMENTS:
        raise InvalidInput(
            f"tensor {name!r}: expected sizes of at least 1 and at most {MAX_ELEMENTS:,} elements, got {shape}; of an "
            "input, --shape gives other sizes"
        )
    return shape


_TYPES = frozenset(onnx.TensorProto.DataType.values())
