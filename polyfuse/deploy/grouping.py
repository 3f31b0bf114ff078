"""Which layers of a network to fuse: groups of least predicted time, by dynamic programming over an order of layers.

    Network + Selection + Price ──grouped()──> Grouping ──groups()──> (Storage, ...), proved legal

Layers are put into an order in which chains stay together. Every run of neighbours in it that hang together is a
group that could be: nothing outside lies between its layers, so what is left can still be run. Its price is that of
its best strategy; the best way to cut the order into groups follows from the best ways to cut its beginnings. Equal
groups are priced once. What this does not see: groups of layers that are not neighbours in the order.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from polyfuse.choices import LONGEST
from polyfuse.codegen.lower.selection import Selection
from polyfuse.deploy.prices import Price, PricedGroup, Prices
from polyfuse.deploy.space import scheduled_part
from polyfuse.network.layer import Layer
from polyfuse.network.network import Network
from polyfuse.progress import Progress, silent
from polyfuse.schedule.storage import Storage

SLACK = 1.03
"""A part that costs more than so many times the best way to cut it is not tried inside larger parts."""


@dataclass(frozen=True, eq=False)
class Grouping:
    """The network, in the order in which its layers run, and its groups."""

    network: Network
    parts: tuple[PricedGroup, ...]

    @property
    def price(self) -> float:
        """The price of all groups together."""
        return sum(part.price for part in self.parts)

    def groups(self, selection: Selection) -> tuple[Storage, ...]:
        """The groups, scheduled and proved legal."""
        found: list[Storage] = []
        for part in self.parts:
            alone = self.network.select(part.layers)
            found.extend(scheduled_part(alone, part.strategy, selection))
        return tuple(found)


def ungrouped(network: Network) -> Grouping:
    """Every layer a group of its own; nothing is priced."""
    ordered = in_chains(network)
    return Grouping(ordered, tuple(PricedGroup((layer.name,), None, 0.0) for layer in ordered.layers))


def grouped(
    network: Network,
    selection: Selection,
    price: Price,
    *,
    longest: int = LONGEST,
    slack: float = SLACK,
    workers: int = 1,
    progress: Progress | None = None,
) -> Grouping:
    """The cheapest way to cut a network into groups of at most `longest` neighbours.

    A part is priced only while what it is without its first layer, and without its last, is worth growing: at most
    `slack` times as dear as the best way to cut it; a very large slack prices all. Up to `workers` processes price
    parts of one length at once.
    Errors: InvalidInput, TooComplex and Unbounded where a layer cannot be scheduled even by itself.
    """
    tell = progress or silent
    ordered = in_chains(network)
    names = tuple(layer.name for layer in ordered.layers)
    prices = Prices(ordered, selection, price)
    best: dict[tuple[int, int], Partition] = {}
    growing: set[tuple[int, int]] = set()
    for length in range(1, min(longest, len(names)) + 1):
        runs = [(start, start + length) for start in range(len(names) - length + 1)]
        worth = {(i, j) for i, j in runs if length == 1 or {(i, j - 1), (i + 1, j)} <= growing}
        worth = {(i, j) for i, j in worth if length == 1 or prices.fusible(names[i:j])}
        prices.learn([names[i:j] for i, j in runs if (i, j) in worth], workers, partial(tell, f"groups of {length}"))
        for i, j in runs:
            part = prices.part(names[i:j]) if (i, j) in worth else None
            cuts = [best[i, k] + best[k, j] for k in range(i + 1, j)]
            cuts += [Partition(part.price, (part,))] if part else []
            best[i, j] = min(cuts, key=lambda cut: cut.price)
            if (i, j) in worth and (part is None or part.price <= slack * best[i, j].price):
                growing.add((i, j))
    whole = [Partition(0.0, ())]
    for j in range(1, len(names) + 1):
        whole.append(min((whole[i] + best[i, j] for i in range(max(0, j - longest), j)), key=lambda cut: cut.price))
    return Grouping(ordered, prices.refined(whole[-1].parts, workers, partial(tell, "tiles of groups")))


@dataclass(frozen=True)
class Partition:
    """A run of layers, cut into parts."""

    price: float
    parts: tuple[PricedGroup, ...]

    def __add__(self, other: "Partition") -> "Partition":
        return Partition(self.price + other.price, self.parts + other.parts)


def in_chains(network: Network) -> Network:
    """The same network with its layers in an order that follows each chain to its end before the next begins."""
    waiting = list(network.layers)
    made = set(network.inputs)
    order: list[Layer] = []
    while waiting:
        ready = [layer for layer in waiting if made.issuperset(layer.inputs)]
        last = order[-1].output if order else None
        chosen = next((layer for layer in ready if last in layer.inputs), None) or latest_fed(ready, order)
        order.append(chosen)
        waiting.remove(chosen)
        made.add(chosen.output)
    return replace(network, layers=tuple(order))


def latest_fed(ready: Sequence[Layer], order: Sequence[Layer]) -> Layer:
    """The layer whose inputs were made last; the first of several."""
    position = {layer.output: k for k, layer in enumerate(order)}
    return max(ready, key=lambda layer: max((position.get(tensor, -1) for tensor in layer.inputs), default=-1))
