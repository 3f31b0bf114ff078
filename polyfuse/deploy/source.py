"""What a user wants compiled: a model or a kernel file, rewritten, with the names that the model uses.

Workload ──read_source()──> Source: a Network, the model it came from, and the names of its tensors there
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx

from polyfuse.loading import Workload
from polyfuse.network.network import Network
from polyfuse.network.onnx.export import exported_names
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


def read_source(workload: Workload | str | Path) -> Source:
    """A workload, or the one that a path or a name is, rewritten.

    Errors: as `Workload.network`.
    """
    asked = workload if isinstance(workload, Workload) else Workload(str(workload))
    if not asked.is_whole_model:
        return source_of(asked.network(rewritten=False))
    found = asked.imported()
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
