"""Networks from ONNX models.

The path of an .onnx file and the names of two of its nodes enter; a `Network` leaves.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx

from polyfuse.network.network import Builder, Network
from polyfuse.network.onnx.constants import with_random_weights
from polyfuse.network.onnx.ends import declared_shapes, network_of, passed_through
from polyfuse.network.onnx.file import read_model
from polyfuse.network.onnx.graph import graph_of, sorted_nodes
from polyfuse.network.onnx.importing import Import
from polyfuse.network.onnx.operators import add
from polyfuse.network.onnx.shapes import entering_tensors
from polyfuse.network.tensor import Tensor, safe_name


@dataclass(frozen=True, eq=False)
class Imported:
    """The network of a model, and the tensor of each of the model's values that has one, by the model's names."""

    network: Network
    tensors: Mapping[str, Tensor]


def imported(
    path: str | Path,
    *,
    first: str | None = None,
    last: str | None = None,
    random_weights: int | None = None,
) -> Imported:
    """The network of a model, or of the nodes on the paths from its node `first` to its node `last`.

    Nodes keep their names where isl and C can use them; unnamed ones are n0, n1, … in the order of the computation,
    nodes that only make constants left out. Inputs and outputs are those of the model, in its order; of a part, tensors
    that other nodes make become inputs, those that other nodes read outputs. Each node becomes one layer, or a few;
    nothing is fused. `random_weights` is a seed that replaces all weights.

    Errors: InvalidInput for files, names and shapes that are not usable, UnsupportedOperator for what is not known.
    """
    file = Path(path)
    model = read_model(file)
    graph = graph_of(model, file.parent, first, last, random_weights)
    build = Builder(safe_name(file.stem))
    passed = passed_through(model, graph)
    entering = entering_tensors(model, [name for name in graph.entering if name not in passed], graph.names)
    for tensor in entering.values():
        build.input(tensor.name, tensor.shape, tensor.dtype)
    state = Import(build, graph, dict(entering), entering, declared_shapes(model))
    graph.constants.shape_of = state.shape_of
    for node in graph.nodes:
        add(state, node)
    network = network_of(state, model, whole=first is None and last is None)
    return Imported(network, dict(state.tensors))


def randomised(path: str | Path, seed: int) -> onnx.ModelProto:
    """The model with the weights that `imported(path, random_weights=seed)` gives it, to run it in other tools.

    Errors: those of imported.
    """
    file = Path(path)
    model = read_model(file)
    return with_random_weights(model, file.parent, sorted_nodes(model.graph.node), seed)
