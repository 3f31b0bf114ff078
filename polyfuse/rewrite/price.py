"""A price of groups that needs no machine: the bytes they move off-chip.

Enters: a `Network` and the bytes of on-chip memory that a group may use. Leaves: a `Price`.
"""

from polyfuse.errors import PolyfuseError, TooComplex
from polyfuse.network.layer import Layer
from polyfuse.network.network import Network
from polyfuse.rewrite.beyond import Price
from polyfuse.schedule.counts import Counts, counts
from polyfuse.schedule.schedule import Strategy, scheduled
from polyfuse.schedule.storage import storage
from polyfuse.sets import operation_limit

MAX_OPERATIONS = 200_000
"""What isl may spend on the price of a group; of more than that, planning would be all there is."""


def offchip_price(network: Network, onchip_bytes: int) -> Price:
    """The bytes that a group reads and writes off-chip when it runs row by row and keeps the rows it needs again.

    Counted exactly from the group's schedule. A group whose weights and rings pass `onchip_bytes` costs what its layers
    cost one by one; so does one that has no such schedule, or that is too complex for isl, or holds one that is.
    """
    layers = {layer.name: layer for layer in network.layers}
    complex_groups: list[frozenset[str]] = []

    def price(names: frozenset[str]) -> float:
        group = [layer for name, layer in layers.items() if name in names]
        apart = float(sum(_alone(layer) for layer in group))
        if len(group) == 1 or _weight_bytes(group) > onchip_bytes or any(each <= names for each in complex_groups):
            return apart
        try:
            found = _by_rows(network.select(names))
        except TooComplex:
            complex_groups.append(names)
            return apart
        except PolyfuseError:
            return apart
        return min(apart, float(found.offchip_bytes)) if found.onchip_bytes <= onchip_bytes else apart

    return price


def _alone(layer: Layer) -> int:
    """The bytes of a layer that runs alone: everything it reads and makes, once."""
    tensors = (*layer.inputs, *layer.weights, layer.output)
    return sum(tensor.elements * tensor.element_bytes for tensor in tensors)


def _weight_bytes(group: list[Layer]) -> int:
    return sum(tensor.elements * tensor.element_bytes for layer in group for tensor in layer.weights)


def _by_rows(group: Network) -> Counts:
    """The counts of a group in tiles of one row. Errors: PolyfuseError where it cannot run so."""
    with operation_limit(MAX_OPERATIONS, "the price of a group"):
        return counts(storage(scheduled(group, Strategy((1,), others=("local",), placement="shifted"))))
