"""A network for another process: everything of it but the values of its weights."""

import pickle
from dataclasses import dataclass

import numpy as np

from polyfuse.network.dtypes import TYPES
from polyfuse.network.network import Network


@dataclass(frozen=True)
class Parcel:
    """A network without the values of its weights; equal for equal bytes.

    >>> from polyfuse.network.network import Builder
    >>> build = Builder("net")
    >>> network = build.network(build.conv("c", build.input("x", (1, 1, 8, 8)), 2, kernel=3))
    >>> str(Parcel.of(network).network()) == str(network)
    True
    """

    layers: bytes

    @staticmethod
    def of(network: Network) -> "Parcel":
        """The network, packed."""
        return Parcel(pickle.dumps((network.name, network.inputs, network.layers, network.outputs)))

    def network(self) -> Network:
        """The network, whose weights are all 0."""
        name, inputs, layers, outputs = pickle.loads(self.layers)
        weights = {
            tensor.name: np.broadcast_to(np.zeros((), TYPES[tensor.dtype].held), tensor.shape)
            for layer in layers
            for tensor in layer.weights
        }
        return Network(name, inputs, layers, outputs, weights)
