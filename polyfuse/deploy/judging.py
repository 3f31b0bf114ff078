"""Which of polyfuse and onnxruntime is wrong where they disagree: both are compared with float64 arithmetic.

    Source + arrays ──exact_values()──> tensors in float64, by the model's names

What float64 arithmetic gives is computed from the layers as they were imported, before any rewriting. Since they may
be imported wrongly, onnx's own evaluator computes the model, too, in float64 where it can; where the two differ there
is no judge.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator

from polyfuse.deploy.source import Source
from polyfuse.errors import InvalidInput
from polyfuse.network.dtypes import Values
from polyfuse.network.reference import max_relative_error
from polyfuse.network.reference import run as reference

Exact = NDArray[np.float64]
AGREE = 1e-5
"""How far two ways to compute in float64 may be apart, relative to the largest element: constants stay float32."""


def exact_values(
    source: Source, model: onnx.ModelProto, inputs: Mapping[str, Values], arrays: Sequence[Values], names: Sequence[str]
) -> dict[str, Exact]:
    """The float64 values of some tensors of a model, by their names in it; those without a judge are left out.

    `inputs` are by the names of the network, `arrays` in the order of the model.
    """
    try:
        original = reference(source.rewritten.original, inputs)
    except InvalidInput:  # a layer of the user's own has no reference
        return {}
    own = source.names
    now = {old: tensor.name for old, tensor in source.rewritten.tensors.items()}
    found = {own[new]: original[old] for old, new in now.items() if old in original and new in own}
    known = {name: found[name] for name in names if name in found}
    evaluated = by_evaluator(model, arrays, list(known))
    return {
        name: value
        for name, value in known.items()
        if name not in evaluated or max_relative_error(value, evaluated[name].reshape(value.shape)) <= AGREE
    }


def by_evaluator(model: onnx.ModelProto, arrays: Sequence[Values], names: Sequence[str]) -> dict[str, Exact]:
    """Tensors of a model by onnx's evaluator, with float32 as float64; nothing where it cannot."""
    wide = widened(model, names)
    stored = {tensor.name for tensor in wide.graph.initializer}
    given = [value.name for value in wide.graph.input if value.name not in stored]
    feed: dict[str, Any] = {
        name: array.astype(np.float64) if array.dtype == np.float32 else array
        for name, array in zip(given, arrays, strict=True)
    }
    try:
        with np.errstate(all="ignore"):
            made = ReferenceEvaluator(wide).run(list(names), feed)
        return {name: np.asarray(value, dtype=np.float64) for name, value in zip(names, made, strict=True)}
    except Exception:  # the evaluator raises anything for what it does not know
        return {}


def widened(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """The model with float64 in the place of float32, and some of its tensors as its outputs."""
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    del wide.graph.output[:], wide.graph.value_info[:]
    wide.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    for value in wide.graph.input:
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = TensorProto.DOUBLE
    for tensor in wide.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and tensor.data_location != TensorProto.EXTERNAL:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name))
    for node in wide.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.DOUBLE
    return wide
