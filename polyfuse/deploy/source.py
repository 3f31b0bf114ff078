"""What a user wants compiled: a model or a kernel file, rewritten, with the names that the model uses.

path ──read_source()──> Source: a Network, the model it came from, and the names of its tensors there
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
from numpy.typing import ArrayLike

from polyfuse.loading import load_workload
from polyfuse.network.network import Network
from polyfuse.network.onnx.export import exported_names
from polyfuse.network.onnx.fixing import Fixed
from polyfuse.network.onnx.load import imported
from polyfuse.rewrite.rewriting import Rewritten, rewrite


@dataclass(frozen=True, eq=False)
class Source:
    """A network after rewriting; `model` is what it was imported from, None for one that polyfuse built.

    `mixed` says that nodes of the model are of several versions of ONNX's operators, which other tools do not run.
    `names` has the model's name of each tensor of the network that has one; a network that was built uses its own, and
    those of its signature for inputs and outputs.
    """

    rewritten: Rewritten
    names: Mapping[str, str]
    model: onnx.ModelProto | None = None
    mixed: bool = False

    @property
    def network(self) -> Network:
        """What is planned and compiled."""
        return self.rewritten.network


def read_source(
    path_or_name: str | Path,
    *,
    first: str | None = None,
    last: str | None = None,
    parameters: Mapping[str, int | str] | None = None,
    random_weights: int | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    values: Mapping[str, ArrayLike] | None = None,
) -> Source:
    """The network of an .onnx or kernel file, or the part of it from `first` to `last`, rewritten.

    `parameters` are those of a kernel file, and sizes of a model's named dimensions; `shapes` and `values` are of
    inputs of a model, by name.

    Errors: InvalidInput for files that cannot be used; UnsupportedOperator.
    """
    path = Path(path_or_name)
    if path.suffix != ".onnx" or not path.is_file() or first is not None or last is not None:
        return source_of(
            load_workload(
                str(path),
                first=first,
                last=last,
                parameters=parameters,
                random_weights=random_weights,
                rewritten=False,
                shapes=shapes,
                values=values,
            )
        )
    found = imported(path, random_weights=random_weights, fixed=Fixed.of(shapes, parameters, values))
    rewritten = rewrite(found.network)
    names: dict[str, str] = {}
    for name, tensor in found.tensors.items():
        if tensor.name in rewritten.tensors:
            names.setdefault(rewritten.tensors[tensor.name].name, name)
    network = rewritten.network
    ends = {network.outputs[each.tensor].name: each.name for each in network.ends.outputs if each.tensor is not None}
    mixed = bool(found.resolved.opsets)
    return Source(rewritten, names | ends, None if mixed else found.model, mixed)


def source_of(network: Network) -> Source:
    """A network that was built, rewritten."""
    rewritten = rewrite(network)
    made = (*network.inputs, *(layer.output for layer in rewritten.network.layers))
    return Source(rewritten, {tensor.name: tensor.name for tensor in made} | exported_names(rewritten.network))
