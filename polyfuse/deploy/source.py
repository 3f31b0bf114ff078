"""What a user wants compiled: a model or a kernel file, rewritten, with the names that the model uses.

path ──read_source()──> Source: a Network, the model it came from, and the names of its tensors there
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
from numpy.typing import ArrayLike

from polyfuse.network.network import Network
from polyfuse.network.onnx.export import exported_names
from polyfuse.network.onnx.fixing import Fixed
from polyfuse.network.onnx.load import Imported, imported
from polyfuse.rewrite.rewriting import Rewritten, rewrite
from polyfuse.rewrite.workload import load_workload


@dataclass(frozen=True, eq=False)
class Source:
    """A network after rewriting; `imported` is what it was read from a model as, None for one that polyfuse built.

    `names` has the model's name of each tensor of the network that has one; a network that was built uses its own, and
    those of its signature for inputs and outputs.
    """

    rewritten: Rewritten
    names: Mapping[str, str]
    imported: Imported | None = None

    @property
    def model(self) -> onnx.ModelProto | None:
        """What the network was imported from, for other tools. Errors: UnsupportedOperator, as `Imported.model`."""
        return self.imported.model if self.imported is not None else None

    @property
    def network(self) -> Network:
        """What is planned and compiled."""
        return self.rewritten.network


def read_source(
    path_or_name: str | Path,
    *,
    parameters: Mapping[str, int | str] | None = None,
    random_weights: int | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    values: Mapping[str, ArrayLike] | None = None,
) -> Source:
    """The network of an .onnx or kernel file, rewritten.

    `parameters` are those of a kernel file, and sizes of a model's named dimensions; `shapes` and `values` are of
    inputs of a model, by name.

    Errors: InvalidInput for files that cannot be used; UnsupportedOperator.
    """
    path = Path(path_or_name)
    if path.suffix != ".onnx" or not path.is_file():
        return source_of(
            load_workload(str(path), parameters=parameters, random_weights=random_weights, shapes=shapes, values=values)
        )
    found = imported(path, random_weights=random_weights, fixed=Fixed.of(shapes, parameters, values))
    rewritten = rewrite(found.network)
    names: dict[str, str] = {}
    for name, tensor in found.tensors.items():
        if tensor.name in rewritten.tensors:
            names.setdefault(rewritten.tensors[tensor.name].name, name)
    network = rewritten.network
    ends = {network.outputs[each.tensor].name: each.name for each in network.ends.outputs if each.tensor is not None}
    return Source(rewritten, names | ends, found)


def source_of(network: Network) -> Source:
    """A network that was built, rewritten."""
    rewritten = rewrite(network)
    made = (*network.inputs, *(layer.output for layer in rewritten.network.layers))
    return Source(rewritten, {tensor.name: tensor.name for tensor in made} | exported_names(rewritten.network))
