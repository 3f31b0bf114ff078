"""What contenders run: a network, and the ONNX model that it was imported from, or else an export of it.

Workload ──network_and_model()──> Network and its model;  Network + PeerSettings ──model_bytes()──> what a peer reads
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import onnx

from polyfuse.bench.peers.contender import PeerSettings
from polyfuse.loading import Workload
from polyfuse.network.network import Network
from polyfuse.network.onnx.export import onnx_model
from polyfuse.rewrite.rewriting import rewrite


def model_bytes(network: Network, settings: PeerSettings) -> bytes:
    """The model, whose inputs and outputs have the names of the network's."""
    if settings.model is not None:
        return Path(settings.model).read_bytes()
    exported: bytes = onnx_model(replace(network, signature=None)).SerializeToString()
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


def with_ends(network: Network, model: onnx.ModelProto) -> onnx.ModelProto | None:
    """A copy of a model that has the network's inputs and outputs, by their names there, and no others.

    None where an output is an input, no name would be right for both; and where a node reads an input that the network
    does not, such as for its shape.
    """
    ends = network.ends
    names = {each.name: network.inputs[each.tensor].name for each in ends.inputs if each.tensor is not None}
    made = {each.name: network.outputs[each.tensor].name for each in ends.outputs if each.tensor is not None}
    if names.keys() & made.keys():
        return None
    copy = renamed(model, names | made)
    given = {*names.values(), *(tensor.name for tensor in copy.graph.initializer)}
    read = {name for node in copy.graph.node for name in node.input}
    if read & ({value.name for value in copy.graph.input} - given):
        return None
    for listed, known in ((copy.graph.input, given), (copy.graph.output, set(made.values()))):
        kept = {value.name: value for value in listed if value.name in known}
        del listed[:]
        listed.extend(kept.values())
    return copy


def network_and_model(workload: Workload) -> tuple[Network, onnx.ModelProto | None]:
    """A network, and the model that it is; None for a part of one, and for a kernel file.

    Errors: as `Workload.network`.
    """
    if not workload.is_whole_model:
        return workload.network(), None
    found = workload.imported()
    network = rewrite(found.network).network
    return network, with_ends(network, found.model)
