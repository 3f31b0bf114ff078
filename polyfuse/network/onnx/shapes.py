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
from polyfuse.network.onnx.graph import Names
from polyfuse.network.tensor import Tensor

MAX_RANK = 8
"""The most axes of a tensor that enters."""


ELEMENTS = {onnx.TensorProto.FLOAT: "float32", onnx.TensorProto.INT8: "int8", onnx.TensorProto.UINT8: "uint8"}
"""The types of elements of tensors that enter."""


def entering_tensors(model: onnx.ModelProto, names: Sequence[str], taken: Names) -> dict[str, Tensor]:
    """A tensor of its own name for each of the names, by the model's names.

    Errors: InvalidInput for tensors that are not of float32 or eight bits, and of known and reasonable sizes.
    """
    known = {value.name: value.type for value in (*model.graph.value_info, *model.graph.input)}
    made = {name for node in model.graph.node for name in node.output}
    if any(name not in known for name in names) and all(name in known or name in made for name in names):
        known = _inferred(model) | known
    found = {}
    for name in names:
        if name not in known:
            raise InvalidInput(
                f"tensor {name!r}: its shape is not known; add it to the model's value_info or start elsewhere"
            )
        shape = _shape(name, known[name]) or (1,)
        found[name] = Tensor(taken.fresh(name), shape, ELEMENTS[known[name].tensor_type.elem_type])
    return found


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


def _inferred(model: onnx.ModelProto) -> dict[str, onnx.TypeProto]:
    """The types of the tensors inside of a model.

    Inference is in a process of its own: it aborts on some models that are damaged.
    """
    command = [sys.executable, "-c", INFER]
    small = without_weights(model).SerializeToString()
    try:
        done = subprocess.run(command, input=small, capture_output=True, timeout=LONGEST_INFERENCE, check=True)
        inferred = onnx.ModelProto.FromString(done.stdout)
    except (subprocess.SubprocessError, DecodeError) as error:
        told = error.stderr if isinstance(error, subprocess.CalledProcessError) else str(error).encode()
        why = (told or b"it was aborted").decode(errors="replace").split()
        raise InvalidInput(f"model: its shapes cannot be inferred ({' '.join(why)[-200:]})") from None
    return {value.name: value.type for value in inferred.graph.value_info}


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
    if not tensor.HasField("shape") or len(tensor.shape.dim) > MAX_RANK:
        rank = len(tensor.shape.dim) if tensor.HasField("shape") else "unknown"
        raise InvalidInput(f"tensor {name!r}: expected at most {MAX_RANK} axes, got {rank}")
    for axis, dim in enumerate(tensor.shape.dim):
        if not dim.HasField("dim_value"):
            called = f" ({dim.dim_param!r})" if dim.dim_param else ""
            raise InvalidInput(
                f"tensor {name!r}: axis {axis}{called} has no fixed size; fix it with python -m onnxruntime.tools."
                f"make_dynamic_shape_fixed --input_name {name!r} --input_shape 1,3,224,224 (your sizes)"
            )
    shape = tuple(int(dim.dim_value) for dim in tensor.shape.dim)
    if min(shape, default=1) < 1 or prod(shape) > MAX_ELEMENTS:
        raise InvalidInput(f"tensor {name!r}: expected sizes of at least 1 and {MAX_ELEMENTS:,} elements, got {shape}")
    return shape


_TYPES = frozenset(onnx.TensorProto.DataType.values())
