"""What contenders run: a network, and the ONNX model that it was imported from, or else an export of it.

name or path ──workload_of()──> Network and its model;  Network + Settings ──model_bytes()──> what a peer reads
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import onnx
from numpy.typing import ArrayLike

from polyfuse.bench.peers.contender import Settings
from polyfuse.loading import load_workload
from polyfuse.network.network import Network
from polyfuse.network.onnx.export import onnx_model
from polyfuse.network.onnx.fixing import Fixed
from polyfuse.network.onnx.load import imported
from polyfuse.rewrite.rewriting import rewrite


def model_bytes(network: Network, settings: Settings) -> bytes:
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


def workload_of(
    name: str,
    *,
    first: str | None = None,
    last: str | None = None,
    parameters: Mapping[str, int | str] | None = None,
    random_weights: int | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    values: Mapping[str, ArrayLike] | None = None,
) -> tuple[Network, onnx.ModelProto | None]:
    """A network, and the model that it is; None for a part of one, and for a kernel file.

    Errors: those of `load_workload`.
    """
    path = Path(name)
    if path.suffix == ".onnx" and path.is_file() and first is None and last is None:
        found = imported(path, random_weights=random_weights, fixed=Fixed.of(shapes, parameters, values))
        network = rewrite(found.network).network
        return network, with_ends(network, found.model)
    network = load_workload(
        name,
        first=first,
        last=last,
        parameters=parameters,
        random_weights=random_weights,
        shapes=shapes,
        values=values,
    )
    return network, None
