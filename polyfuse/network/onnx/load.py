"""Networks from ONNX models.

The path of an .onnx file and the names of two of its nodes enter; a `Network` leaves.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import onnx

from polyfuse.errors import UnsupportedOperator
from polyfuse.network.network import Builder, Network
from polyfuse.network.onnx.constants import with_random_weights
from polyfuse.network.onnx.ends import network_of, passed_through
from polyfuse.network.onnx.fixing import Fixed
from polyfuse.network.onnx.graph import onnx_graph, sorted_nodes
from polyfuse.network.onnx.importing import Import
from polyfuse.network.onnx.operators import add, check_operators
from polyfuse.network.onnx.resolving import Resolved, Shapes, resolved
from polyfuse.network.onnx.shapes import entering_tensors
from polyfuse.network.onnx.subgraphs import reads
from polyfuse.network.tensor import Tensor, safe_name


@dataclass(frozen=True, eq=False)
class Imported:
    """The network of a model, and the tensor of each of the model's values that has one, by the model's names.

    `resolved` is what was imported: the model of a folder, in operators alone; `seed` is that of its weights, if any.
    """

    network: Network
    tensors: Mapping[str, Tensor]
    resolved: Resolved
    folder: Path
    seed: int | None

    @cached_property
    def model(self) -> onnx.ModelProto:
        """The model for other tools: operators only, fixed sizes and values, and random weights where asked for.

        Errors: UnsupportedOperator where some of its nodes are of another version of ONNX's operators than the others.
        """
        whole = self.resolved
        if whole.opsets:
            raise UnsupportedOperator(
                f"model: a function uses operators of set {min(whole.opsets.values())}, which differ from those of the "
                "model's set, and other tools do not mix them; convert the model to one operator set"
            )
        if self.seed is None:
            return whole.model
        nodes = sorted_nodes(whole.model.graph.node)
        return with_random_weights(whole.model, self.folder, nodes, self.seed)


def imported(
    path: str | Path,
    *,
    first: str | None = None,
    last: str | None = None,
    random_weights: int | None = None,
    fixed: Fixed | None = None,
) -> Imported:
    """The network of a model, or of the nodes on the paths from its node `first` to its node `last`.

    Nodes keep their names where isl and C can use them; unnamed ones are n0, n1, … in the order of the computation,
    nodes that only make constants left out. Inputs and outputs are those of the model, in its order; of a part, tensors
    that other nodes make become inputs, those that other nodes read outputs. Each node becomes one layer, or a few;
    nothing is fused. `random_weights` is a seed that replaces all weights; `fixed` has sizes and values of inputs.

    Errors: InvalidInput for files, names and shapes that are not usable, UnsupportedOperator for what is not known.
    """
    file = Path(path)
    whole = resolved(file, fixed)
    model = whole.model
    graph = onnx_graph(model, file.parent, first, last, random_weights, whole.opsets)
    check_operators(graph, whole.undecided)
    build = Builder(safe_name(file.stem))
    passed = passed_through(model, graph)
    entering = entering_tensors(model, [name for name in graph.entering if name not in passed], graph.names)
    for tensor in entering.values():
        build.input(tensor.name, tensor.shape, tensor.dtype)
    state = Import(build, graph, dict(entering), entering)
    graph.constants.shape_of = shapes_in(state, model)
    for node in graph.nodes:
        add(state, node)
    network = network_of(state, model, whole=first is None and last is None)
    return Imported(network, dict(state.tensors), whole, file.parent, random_weights)


def shapes_in(state: Import, model: onnx.ModelProto) -> Callable[[str], Sequence[int]]:
    """The function that gives the shape of a tensor: of the import, or computed apart for what only leads to shapes."""
    nodes = sorted_nodes(model.graph.node)
    apart = Shapes(model, state.graph.constants, nodes, {name for node in nodes for name in reads(node)})

    def shape_of(name: str) -> Sequence[int]:
        return state.shape_of(name) if name in state.tensors else apart.of(name)

    return shape_of
