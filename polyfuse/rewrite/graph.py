"""A network while it is rewritten: the same layers and weights, replaced a few at a time.

A `Network` enters; a `Network` leaves; between them there is a `RewriteGraph` for every replacement. Weights that rules
compute stay float64 until the end, so that a chain of foldings is rounded once.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyfuse.errors import PolyfuseError
from polyfuse.network.dtypes import TYPES, decoded, encoded
from polyfuse.network.layer import Layer
from polyfuse.network.network import Network
from polyfuse.network.operator import Dequantize
from polyfuse.network.renaming import renamed
from polyfuse.network.signature import Signature
from polyfuse.network.tensor import Tensor

Weights = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Replacement:
    """Layers in the place of others, the values of their new weights, and the tensor that now has the root's value."""

    layers: tuple[Layer, ...]
    weights: Weights
    tensor: Tensor

    @staticmethod
    def by(*layers: Layer, weights: Weights | None = None) -> "Replacement":
        """Layers of which the last makes the value of the root."""
        return Replacement(layers, weights or {}, layers[-1].output)


@dataclass(frozen=True, eq=False)
class RewriteGraph:
    """Layers in topological order, as in a `Network`, and which tensor of the original each of its tensors equals.

    `tensors` says, for every tensor of the original network whose value still exists, which tensor has it now. Inputs
    and outputs keep their positions, so that the signature stays what it is.
    """

    name: str
    inputs: tuple[Tensor, ...]
    layers: tuple[Layer, ...]
    outputs: tuple[Tensor, ...]
    weights: Weights
    tensors: Mapping[str, Tensor]
    signature: Signature | None

    @cached_property
    def makers(self) -> Mapping[Tensor, Layer]:
        """The layer that makes each tensor."""
        return {layer.output: layer for layer in self.layers}

    @cached_property
    def by_name(self) -> Mapping[str, Layer]:
        """The layers by their names."""
        return {layer.name: layer for layer in self.layers}

    @cached_property
    def _readers(self) -> Mapping[Tensor, list[Layer]]:
        found: dict[Tensor, list[Layer]] = defaultdict(list)
        for layer in self.layers:
            for tensor in (*layer.inputs, *layer.weights):
                found[tensor].append(layer)
        return found

    def readers(self, tensor: Tensor) -> Sequence[Layer]:
        """The layers that read a tensor."""
        return self._readers.get(tensor, ())

    def names_without(self, removed: Sequence[Layer]) -> frozenset[str]:
        """The names that are taken once some layers, and the weights that only they read, are gone."""
        kept = [layer for layer in self.layers if layer not in removed]
        names = {tensor.name for tensor in self.inputs}
        for layer in kept:
            names |= {layer.name, layer.output.name, *(statement.name for statement in layer.statements)}
            names |= {tensor.name for tensor in layer.weights}
        return frozenset(names)

    def value(self, weight: Tensor) -> NDArray[np.float64]:
        """The value of a weight."""
        return decoded(self.weights[weight.name], weight.dtype)

    def replaced(self, removed: Sequence[Layer], root: Layer, new: Replacement) -> "RewriteGraph":
        """The graph with new layers for the removed ones, as early as possible; readers of the root read `new.tensor`.

        Dequantizing layers that nothing reads any more are removed, too.
        """
        gone, at = set(removed), self._insertion(removed, new.layers)
        if clash := set(new.weights) & self.names_without(removed):
            raise PolyfuseError(
                f"weight {min(clash)!r}: has a name that is taken; this is a polyfuse bug, please report it"
            )
        is_weight = new.tensor.name in new.weights
        before, after = (
            [renamed(layer, root.output, new.tensor, is_weight) for layer in part if layer not in gone]
            for part in (self.layers[:at], self.layers[at:])
        )
        layers, unread = self._read((*before, *new.layers, *after), removed, new.tensor)
        vanished = {layer.output for layer in removed if layer is not root} | unread
        tensors = {
            name: new.tensor if now == root.output else now for name, now in self.tensors.items() if now not in vanished
        }
        outputs = tuple(new.tensor if tensor == root.output else tensor for tensor in self.outputs)
        used = {tensor.name for layer in layers for tensor in layer.weights}
        weights = {name: value for name, value in {**self.weights, **new.weights}.items() if name in used}
        return replace(self, layers=layers, outputs=outputs, weights=weights, tensors=tensors)

    def _read(
        self, layers: Sequence[Layer], removed: Sequence[Layer], kept: Tensor
    ) -> tuple[tuple[Layer, ...], set[Tensor]]:
        """The layers without those that only dequantize for removed ones, and what these made."""
        read = {tensor for layer in layers for tensor in layer.inputs} | {*self.outputs, kept}
        before = {tensor for layer in removed for tensor in layer.inputs} - read
        unread = {t for t in before if t in self.makers and isinstance(self.makers[t].operator, Dequantize)}
        return tuple(layer for layer in layers if layer.output not in unread), unread

    def _insertion(self, removed: Sequence[Layer], new: Sequence[Layer]) -> int:
        """The position of new layers: that of the first removed one, or the one after all that they read."""
        read = {tensor for layer in new for tensor in layer.inputs}
        first = min(self.layers.index(layer) for layer in removed)
        return max([first, *(k + 1 for k, layer in enumerate(self.layers) if layer.output in read)])

    def network(self) -> Network:
        """The network; weights are rounded to their types here."""
        tensors = {tensor.name: tensor for layer in self.layers for tensor in layer.weights}
        weights = {name: _held(value, tensors[name]) for name, value in self.weights.items() if name in tensors}
        return Network(self.name, self.inputs, self.layers, self.outputs, weights, self.signature)


def _held(value: NDArray[Any], tensor: Tensor) -> NDArray[Any]:
    """The value of a weight in the numpy type that holds it."""
    if value.dtype == TYPES[tensor.dtype].held:
        return np.ascontiguousarray(value)
    return np.ascontiguousarray(encoded(value, tensor.dtype, f"weight {tensor}"))


def rewrite_graph(network: Network) -> RewriteGraph:
    """A network, ready to be rewritten."""
    made = (*network.inputs, *(layer.output for layer in network.layers))
    tensors = {tensor.name: tensor for tensor in made}
    ends = network.inputs, network.layers, network.outputs
    return RewriteGraph(network.name, *ends, network.weights, tensors, network.signature)
