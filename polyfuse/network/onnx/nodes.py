"""Layers as ONNX nodes.

A `Layer` enters; nodes of which the last makes its output, and the constants that they read other than weights, leave.
"""

from polyfuse.errors import UnsupportedOperator
from polyfuse.network.layer import Layer
from polyfuse.network.onnx.registry import WRITERS
from polyfuse.network.onnx.writing import Parts, activation_nodes
from polyfuse.network.operator import Activate


def layer_nodes(layer: Layer) -> Parts:
    """The nodes of one layer; the last one makes its output.

    Errors: UnsupportedOperator where ONNX has no operator for it.
    """
    output = layer.output.name
    if layer.activation is not None and layer.operator == Activate():
        return activation_nodes(layer.name, layer.activation, layer.inputs[0].name, output)
    write = next((WRITERS[each] for each in type(layer.operator).__mro__ if each in WRITERS), None)
    if write is None:
        raise UnsupportedOperator(
            f"layer {layer.name!r}: no ONNX operator computes a layer of kind {layer.kind!r}; export the layers "
            f"around it, or build it of {', '.join(sorted(each.__name__ for each in WRITERS))} and activations"
        )
    if layer.activation is None:
        return write(layer, output)
    linear = f"{layer.name}/linear"
    nodes, constants = write(layer, linear)
    ending, numbers = activation_nodes(f"{layer.name}/activation", layer.activation, linear, output)
    return [*nodes, *ending], {**constants, **numbers}
