"""The ONNX model that a peer runs: the one that a network was imported from, or the network, exported."""

from collections.abc import Mapping
from pathlib import Path

import onnx

from polyfuse.bench.peers.contender import Settings
from polyfuse.network.network import Network
from polyfuse.network.onnx.export import onnx_model


def model_bytes(network: Network, settings: Settings) -> bytes:
    """The model, whose inputs and outputs have the names of the network's."""
    if settings.model is not None:
        return Path(settings.model).read_bytes()
    exported: bytes = onnx_model(network).SerializeToString()
    return exported


def renamed(model: onnx.ModelProto, names: Mapping[str, str]) -> onnx.ModelProto:
    """A copy of a model in which some values have other names; a name that is in use already changes too.

    Values of bodies of control flow are left alone: models with such are not imported.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    used = {name for node in graph.node for name in (*node.input, *node.output)}
    apart = {name: f"{name}_before" for name in set(names.values()) & used - names.keys()}
    known = {**apart, **names}
    for node in graph.node:
        node.input[:] = [known.get(name, name) for name in node.input]
        node.output[:] = [known.get(name, name) for name in node.output]
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        value.name = known.get(value.name, value.name)
    return copy
