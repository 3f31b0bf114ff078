"""Which layers of a network to fuse: groups of least predicted time, by dynamic programming over an order of layers.

    Network + Leaves + Price ──grouped()──> Grouping ──groups()──> (Storage, ...), proved legal

Layers are put into an order in which chains stay together. Every run of neighbours in it that hang together is a
group that could be: nothing outside lies between its layers, so what is left can still be run. Its price is that of
its best strategy; the best way to cut the order into groups follows from the best ways to cut its beginnings. Equal
groups are priced once. What this does not see: groups of layers that are not neighbours in the order.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import islpy as isl

from polyfuse.codegen.concats import is_placeable
from polyfuse.codegen.leaves import Leaves
from polyfuse.codegen.work import work_of
from polyfuse.errors import PolyfuseError
from polyfuse.network.layer import Layer, Statement
from polyfuse.network.network import Network
from polyfuse.network.tensor import Tensor
from polyfuse.plan.cost import seconds
from polyfuse.plan.machine import Machine
from polyfuse.schedule.groups import fused, layer_by_layer
from polyfuse.schedule.schedule import Strategy, scheduled
from polyfuse.schedule.storage import Storage, storage

Price = Callable[[Sequence[Storage], Leaves], float]
"""What running some groups costs, one after the other: seconds, or anything that adds up."""
Progress = Callable[[str, int, int], None]
LONGEST = 8
"""The most layers of a group, unless the caller says otherwise."""
SLACK = 1.03
"""How much dearer than the best way to cut it a part may be for larger parts with it in them to be looked at."""
HEIGHTS = (1, 2, 4, 8, 16)
"""The rows of tiles that are priced."""
TALL_HEIGHTS = (6, 12, 24)
"""The same where layers compute bands of several rows at once."""


@dataclass(frozen=True)
class Part:
    """Layers that are one group, by name, in order; the strategy of the group, None for row by row and layer by layer.

    `price` is in the unit of the price that chose it.
    """

    layers: tuple[str, ...]
    strategy: Strategy | None
    price: float


@dataclass(frozen=True, eq=False)
class Grouping:
    """The network, in the order in which its layers run, and its groups."""

    network: Network
    parts: tuple[Part, ...]

    @property
    def price(self) -> float:
        """Of all groups."""
        return sum(part.price for part in self.parts)

    def groups(self, leaves: Leaves) -> tuple[Storage, ...]:
        """The groups, scheduled and proved legal."""
        found: list[Storage] = []
        for part in self.parts:
            alone = self.network.select(part.layers)
            found.extend(scheduled_part(alone, part.strategy, leaves))
        return tuple(found)


def scheduled_part(part: Network, strategy: Strategy | None, leaves: Leaves) -> tuple[Storage, ...]:
    """A part of a network under a strategy, proved legal."""
    return layer_by_layer(part, leaves.tallest) if strategy is None else fused(part, strategy)


def seconds_on(machine: Machine, threads: int = 1) -> Price:
    """The price of a run in seconds, by the time model of a machine."""
    return lambda groups, leaves: seconds(work_of(groups, leaves), machine, threads).total


def ungrouped(network: Network) -> Grouping:
    """Every layer a group of its own; nothing is priced."""
    ordered = in_chains(network)
    return Grouping(ordered, tuple(Part((layer.name,), None, 0.0) for layer in ordered.layers))


def grouped(
    network: Network, leaves: Leaves, price: Price, *, longest: int = LONGEST, progress: Progress | None = None
) -> Grouping:
    """The cheapest way to cut a network into groups of at most `longest` neighbours.

    A part is priced only while what it is without its first layer, and without its last, is worth growing: at most
    SLACK times as dear as the best way to cut it.
    Errors: InvalidInput, TooComplex and Unbounded where a layer cannot be scheduled even by itself.
    """
    ordered = in_chains(network)
    names = [layer.name for layer in ordered.layers]
    prices = Prices(ordered, leaves, price)
    best: dict[tuple[int, int], Cut] = {}
    growing: set[tuple[int, int]] = set()
    whole = [Cut(0.0, ())]
    for end in range(1, len(names) + 1):
        if progress is not None:
            progress("grouping", end - 1, len(names))
        for start in starts(end, longest):
            single = end == start + 1
            worth = single or {(start, end - 1), (start + 1, end)} <= growing
            part = prices.part(tuple(names[start:end])) if worth else None
            cuts = [best[start, middle] + best[middle, end] for middle in range(start + 1, end)]
            cuts += [Cut(part.price, (part,))] if part is not None else []
            best[start, end] = min(cuts, key=lambda cut: cut.price)
            if worth and (part is None or part.price <= SLACK * best[start, end].price):
                growing.add((start, end))
        whole.append(min((whole[start] + best[start, end] for start in starts(end, longest)), key=lambda c: c.price))
    return Grouping(ordered, whole[-1].parts)


@dataclass(frozen=True)
class Cut:
    """A run of layers, cut into parts."""

    price: float
    parts: tuple[Part, ...]

    def __add__(self, other: "Cut") -> "Cut":
        return Cut(self.price + other.price, self.parts + other.parts)


def starts(end: int, longest: int) -> range:
    """Where a part that ends somewhere can begin, the shortest part first."""
    return range(end - 1, max(-1, end - 1 - longest), -1)


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


@dataclass
class Prices:
    """The best strategy and the price of every part that was asked for; equal parts are priced once."""

    network: Network
    leaves: Leaves
    price: Price
    known: dict[tuple[object, ...], tuple[Strategy | None, float] | None] = field(default_factory=dict)
    texts: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def part(self, names: tuple[str, ...]) -> Part | None:
        """The part of these layers; None where they do not hang together or cannot be one group."""
        alone = self.network.select(names)
        if not hangs_together(alone):
            return None
        key = self.signature(alone)
        if key not in self.known:
            self.known[key] = self.best(alone)
        found = self.known[key]
        return None if found is None else Part(names, *found)

    def best(self, part: Network) -> tuple[Strategy | None, float] | None:
        """The cheapest strategy; None for a layer by itself, which runs as `layer_by_layer` does.

        A concat without copies costs nothing. Errors: those of a layer that cannot be scheduled even by itself.
        """
        if len(part.layers) == 1 and is_placeable(self.network, part.layers[0], self.leaves):
            return None, 0.0
        if len(part.layers) == 1:
            return None, self.price(layer_by_layer(part, self.leaves.tallest), self.leaves)
        found = []
        for strategy in strategies(part, self.leaves):
            try:
                groups = (storage(scheduled(part, strategy)),)
                found.append((strategy, self.price(groups, self.leaves)))
            except PolyfuseError:
                continue
        return min(found, key=lambda each: each[1], default=None)

    def signature(self, part: Network) -> tuple[object, ...]:
        """All that a price depends on, without names: equal for equal groups."""
        number: dict[Tensor, int] = {}
        for tensor in (*part.inputs, *(layer.output for layer in part.layers)):
            number[tensor] = len(number)
        layers = tuple(
            (*self.text(layer), *(number[tensor] for tensor in layer.inputs), self.leaves.tiles.get(layer.name, 0))
            for layer in part.layers
        )
        layouts = tuple((t.shape, self.leaves.layout(t, True), self.leaves.layout(t, False)) for t in number)
        return layers, layouts, tuple(number[tensor] for tensor in part.outputs)

    def text(self, layer: Layer) -> tuple[str, ...]:
        """A layer without names: its kind, the kernel that computes it, its statements and their relations."""
        if layer.name not in self.texts:
            statements = (text for statement in layer.statements for text in statement_texts(statement))
            weights = (str(weight.shape) for weight in layer.weights)
            self.texts[layer.name] = (layer.kind, str(self.leaves.kind(layer)), *weights, *statements)
        return self.texts[layer.name]


def statement_texts(statement: Statement) -> Iterator[str]:
    """A statement without names."""
    yield statement.expression
    yield str(statement.domain.reset_tuple_id())
    for operand, access in statement.operands.items():
        relation = access.relation.reset_tuple_id(isl.dim_type.in_).reset_tuple_id(isl.dim_type.out)
        yield f"{operand}: {relation}"


def hangs_together(part: Network) -> bool:
    """Whether every layer is joined to the others by tensors that one of them makes and another reads."""
    joined = {part.layers[0].name}
    while True:
        tensors = {t for layer in part.layers if layer.name in joined for t in (layer.output, *layer.inputs)}
        made = tensors & part.makers.keys()
        more = {layer.name for layer in part.layers if made & {layer.output, *layer.inputs}}
        if more <= joined:
            return len(joined) == len(part.layers)
        joined |= more


def strategies(part: Network, leaves: Leaves) -> Iterator[Strategy]:
    """Tiles of rows that keep what two of them need; tall ones where a layer computes several rows at once."""
    shape = part.layers[-1].output.concrete_shape
    if len(shape) != 4 or part.layers[-1].output not in part.outputs:
        return
    tall = any(leaves.tallest(layer) > 1 for layer in part.layers)
    for rows in sorted({min(rows, shape[2]) for rows in (TALL_HEIGHTS if tall else HEIGHTS)}):
        yield Strategy.named("local", (rows,), "shifted")


def summary(grouping: Grouping) -> Mapping[int, int]:
    """How many groups have how many layers."""
    sizes = [len(part.layers) for part in grouping.parts]
    return {size: sizes.count(size) for size in sorted(set(sizes))}
