"""The ends of an imported model: its inputs and outputs, in its order and by its names, as a network has them.

An `Import` that is done enters; a `Network` with a `Signature` leaves. An output that is an input is copied; one that
is constant, and an input that nothing reads, are known to the signature alone.
"""

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import helper

from polyfuse.errors import InvalidInput
from polyfuse.network.layer import Layer
from polyfuse.network.layers import copies
from polyfuse.network.network import Network
from polyfuse.network.onnx.graph import OnnxGraph
from polyfuse.network.onnx.importing import Import
from polyfuse.network.onnx.shapes import ELEMENTS
from polyfuse.network.signature import Input, Output, Signature
from polyfuse.network.tensor import Tensor


def passed_through(model: onnx.ModelProto, graph: OnnxGraph) -> frozenset[str]:
    """The inputs that are outputs, that no node reads, and whose elements no tensor of a network has."""
    types = {value.name: value.type.tensor_type.elem_type for value in model.graph.input}
    wanted = set(graph.inputs) & set(graph.outputs)
    return frozenset(name for name in wanted if name not in graph.readers and types[name] not in ELEMENTS)


def declared(type_: onnx.TypeProto) -> tuple[str | None, tuple[int | None, ...] | None]:
    """The numpy type and the sizes of a value, each None where it is not known."""
    tensor = type_.tensor_type
    try:
        dtype = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    except (KeyError, TypeError):
        return None, None
    shape = [dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim]
    return None if dtype.hasobject else dtype.name, tuple(shape) if tensor.HasField("shape") else None


def network_of(state: Import, model: onnx.ModelProto, whole: bool) -> Network:
    """The network that was built; of a `whole` model with all that it takes and gives.

    Errors: InvalidInput for outputs that there are not, and where nothing is computed.
    """
    passed = passed_through(model, state.graph)
    if all(state.graph.constants.known(name) or name in passed for name in state.graph.outputs):
        raise InvalidInput(
            "model: nothing computed leads to an output; expected nodes between the inputs and the outputs"
        )
    made = {name: _output(state, name, passed) for name in dict.fromkeys(state.graph.outputs)}
    outputs = [made[name] for name in state.graph.outputs]
    tensors = tuple(dict.fromkeys(each for each in outputs if isinstance(each, Tensor)))
    scalars = {value.name for value in model.graph.output if _is_scalar(value.type)}
    ends = tuple(
        each if isinstance(each, Output) else Output(name, tensors.index(each), scalar=name in scalars)
        for name, each in zip(state.graph.outputs, outputs, strict=True)
    )
    layers = _leading(state.build.layers, tensors)
    read = {tensor for layer in layers for tensor in layer.inputs}
    inputs = tuple(tensor for tensor in state.build.inputs if tensor in read)
    weights = {tensor.name: state.build.weights[tensor.name] for layer in layers for tensor in layer.weights}
    signature = Signature(_inputs(state, model, inputs, whole), ends)
    return Network(state.build.name, inputs, layers, tensors, weights, signature)


def _output(state: Import, name: str, passed: frozenset[str]) -> Tensor | Output:
    """The tensor that is an output; an `Output` where none is."""
    if state.graph.constants.known(name):
        return Output(name, value=state.graph.constants.result(name))
    if name in passed:
        return Output(name, given=state.graph.inputs.index(name))
    if name not in state.tensors:
        raise InvalidInput(f"model: its output {name!r} is made by no node and is no input; correct the model")
    tensor = state.tensors[name]
    if tensor in state.build.inputs:
        return state.build.add(copies.copy(state.graph.names.fresh(f"{name}_output"), tensor))
    return tensor


def _is_scalar(type_: onnx.TypeProto) -> bool:
    """A value is declared to have no axes."""
    return type_.tensor_type.HasField("shape") and not type_.tensor_type.shape.dim


def _leading(layers: Sequence[Layer], outputs: Sequence[Tensor]) -> tuple[Layer, ...]:
    """The layers that lead to the outputs; others make outputs of nodes that nothing reads."""
    wanted, kept = set(outputs), list[Layer]()
    for layer in reversed(layers):
        if layer.output in wanted:
            kept.append(layer)
            wanted |= set(layer.inputs)
    return tuple(reversed(kept))


def _inputs(state: Import, model: onnx.ModelProto, inputs: Sequence[Tensor], whole: bool) -> tuple[Input, ...]:
    """The inputs of the model in its order; of a part, what enters it."""
    positions = {tensor: k for k, tensor in enumerate(inputs)}
    entering = {name: positions[tensor] for name, tensor in state.entering.items() if tensor in positions}
    if not whole:
        return tuple(Input(name, k) for name, k in entering.items())
    types = {value.name: value.type for value in model.graph.input}
    return tuple(
        Input(name, entering[name], scalar=_is_scalar(types[name]))
        if name in entering
        else Input(name, None, *declared(types[name]))
        for name in state.graph.inputs
    )
