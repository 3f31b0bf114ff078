"""What parts of a network cost as groups, each by its best strategy; equal parts are priced once.

names of layers ──Prices.part()──> PricedGroup: a strategy and its price
"""

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing import current_process, get_all_start_methods, get_context
from typing import TypeVar

import islpy as isl

from polyfuse.codegen.lower.concats import is_placeable
from polyfuse.codegen.lower.selection import Selection
from polyfuse.codegen.lower.work import work_of
from polyfuse.cost.seconds import seconds
from polyfuse.deploy.space import label_of, strategies
from polyfuse.errors import PolyfuseError
from polyfuse.machines.host import Machine
from polyfuse.network.layer import Layer, Statement
from polyfuse.network.network import Network
from polyfuse.network.tensor import Tensor
from polyfuse.schedule.groups import fused, layer_by_layer
from polyfuse.schedule.schedule import scheduled
from polyfuse.schedule.storage import Storage, storage
from polyfuse.schedule.strategy import Strategy
from polyfuse.sets.limits import operation_limit

A = TypeVar("A")
B = TypeVar("B")
Price = Callable[[Sequence[Storage], Selection], float]
"""What running some groups costs, one after the other: seconds, or anything that adds up."""
HEIGHTS, ALL_HEIGHTS = (4, 16), (1, 2, 4, 8, 16, 32)
"""The rows of tiles that are priced: of every part, and of those that were chosen."""
TALL_HEIGHTS, ALL_TALL_HEIGHTS = (12, 24), (6, 12, 18, 24, 48)
"""The same where layers compute bands of several rows at once."""
GAIN = 0.98
"""Rows that are kept local are left for a strategy whose price is at most this share: nearer ones are alike."""
MAX_OPERATIONS = 300_000
"""Parts that take isl more than so many operations in one step of scheduling or pricing are not worth it."""
FEW = 6
"""Fewer parts than this are priced sooner than processes start."""


@dataclass(frozen=True)
class PricedGroup:
    """Layers that are one group, by name, in order; the strategy of the group, None for row by row and layer by layer.

    `price` is in the unit of the price that chose it; `looked_at` holds other strategies that were tried at the same
    height with theirs: infinite where one could not be scheduled.
    """

    layers: tuple[str, ...]
    strategy: Strategy | None
    price: float
    looked_at: tuple[tuple[Strategy, float], ...] = ()


def seconds_on(machine: Machine, threads: int = 1) -> Price:
    """The price of a run in seconds, by the time model of a machine."""
    return lambda groups, selection: seconds(work_of(groups, selection), machine, threads).total


@dataclass
class Prices:
    """The best strategy and the price of every part that was asked for; equal parts are priced once."""

    network: Network
    selection: Selection
    price: Price
    known: dict[tuple[object, ...], tuple[Strategy | None, float] | None] = field(default_factory=dict)
    texts: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def part(self, names: tuple[str, ...]) -> PricedGroup | None:
        """The part of these layers; None where they do not hang together or cannot be one group."""
        alone = self.network.select(names)
        if not hangs_together(alone):
            return None
        if self.is_free(alone):
            return PricedGroup(names, None, 0.0)
        key = self.signature(alone)
        if key not in self.known:
            self.known[key] = self.best(names)
        found = self.known[key]
        return None if found is None else PricedGroup(names, *found)

    def learn(self, parts: Sequence[tuple[str, ...]], workers: int, tell: Callable[[int, int], None]) -> None:
        """Price parts, several at once in processes of their own where the system can fork them."""
        unknown: dict[tuple[object, ...], tuple[str, ...]] = {}
        for names in parts:
            alone = self.network.select(names)
            if hangs_together(alone) and not self.is_free(alone):
                unknown.setdefault(self.signature(alone), names)
        unknown = {key: names for key, names in unknown.items() if key not in self.known}
        found = self.each(Prices.best, list(unknown.values()), workers, tell)
        self.known |= dict(zip(unknown, found, strict=True))

    def each(
        self, find: Callable[["Prices", A], B], wanted: Sequence[A], workers: int, tell: Callable[[int, int], None]
    ) -> Iterator[B]:
        """What is found for each, several at once in processes of their own where this one may fork some."""
        alone = current_process().daemon or "fork" not in get_all_start_methods()
        if workers < 2 or len(wanted) < FEW or alone:
            for done, each in enumerate(wanted):
                tell(done, len(wanted))
                yield find(self, each)
            return
        with ProcessPoolExecutor(workers, get_context("fork"), priced_here, (self,)) as pool:
            for done, found in enumerate(pool.map(partial(here, find), wanted)):
                tell(done, len(wanted))
                yield found

    def fusible(self, names: Sequence[str]) -> bool:
        """Whether layers may share a group: where there are row kernels, only layers that have them may.

        The time of scalar code depends on what it computes, not on where values lie.
        """
        return not self.selection.target.has_rows or all(name in self.selection.kinds for name in names)

    def is_free(self, part: Network) -> bool:
        """Whether the part is one concat that needs no copies."""
        return len(part.layers) == 1 and is_placeable(self.network, part.layers[0], self.selection)

    def best(self, names: tuple[str, ...]) -> tuple[Strategy | None, float] | None:
        """The cheapest strategy of some layers; None for one by itself, which runs as `layer_by_layer` does.

        Errors: those of a layer that cannot be scheduled even by itself.
        """
        part = self.network.select(names)
        if len(part.layers) == 1:
            return None, self.price(layer_by_layer(part, self.selection.tallest), self.selection)
        return self.cheapest(part, HEIGHTS, TALL_HEIGHTS)

    def refined(
        self, parts: Sequence[PricedGroup], workers: int = 1, tell: Callable[[int, int], None] = lambda done, of: None
    ) -> tuple[PricedGroup, ...]:
        """Parts with the best of more strategies: more heights kept local, then all places and columns at that height.

        Equal parts are the same.
        """
        alone = {part.layers: self.network.select(part.layers) for part in parts if len(part.layers) > 1}
        keys = {layers: self.signature(network) for layers, network in alone.items()}
        first = {keys[part.layers]: part for part in reversed(parts) if part.layers in keys}
        found = dict(zip(first, self.each(Prices.widest, list(first.values()), workers, tell), strict=True))

        def own(part: PricedGroup) -> PricedGroup:
            known = found[keys[part.layers]]
            return renamed(known, self.network.select(known.layers), alone[part.layers])

        return tuple(own(part) if part.layers in keys else part for part in parts)

    def widest(self, part: PricedGroup) -> PricedGroup:
        """The best strategy of a part, with what was looked at; the part where it has none."""
        alone = self.network.select(part.layers)
        best = self.cheapest(alone, ALL_HEIGHTS, ALL_TALL_HEIGHTS)
        if best is None:
            return part
        usual, height = label_of(best[0]), best[0].tile[:1]
        others = [strategy for strategy in strategies(alone, height) if strategy.tile[:1] == height]
        looked_at = [(each, self.priced(alone, each)) for each in others if label_of(each) != usual]
        worth = [pair for pair in sorted(looked_at, key=lambda pair: pair[1]) if pair[1] <= GAIN * best[1]]
        chosen = next((pair for pair in worth if is_legal(alone, pair[0])), best)
        return PricedGroup(part.layers, *chosen, tuple(pair for pair in (best, *looked_at) if pair is not chosen))

    def priced(self, part: Network, strategy: Strategy) -> float:
        """The price of a part under a strategy; infinite where it cannot be scheduled."""
        try:
            with operation_limit(MAX_OPERATIONS, "the price of a group"):
                return self.price((storage(scheduled(part, strategy)),), self.selection)
        except PolyfuseError:
            return math.inf

    def cheapest(self, part: Network, heights: Sequence[int], tall: Sequence[int]) -> tuple[Strategy, float] | None:
        """The cheapest of the strategies that can be scheduled and priced; None where none can."""
        wanted = tall if any(kind and kind.tall > 1 for kind in map(self.selection.kind, part.layers)) else heights
        found = [(strategy, self.priced(part, strategy)) for strategy in kept_rows(part, wanted)]
        return min((each for each in found if each[1] < math.inf), key=lambda each: each[1], default=None)

    def signature(self, part: Network) -> tuple[object, ...]:
        """All that a price depends on, without names: equal for equal groups."""
        number: dict[Tensor, int] = {}
        for tensor in (*part.inputs, *(layer.output for layer in part.layers)):
            number[tensor] = len(number)
        layers = tuple((*self.text(layer), *(number[tensor] for tensor in layer.inputs)) for layer in part.layers)
        layouts = tuple((t.shape, self.selection.layout(t, True), self.selection.layout(t, False)) for t in number)
        return layers, layouts, tuple(number[tensor] for tensor in part.outputs)

    def text(self, layer: Layer) -> tuple[str, ...]:
        """A layer without names: its operator, the kernel that computes it, its statements and their relations."""
        if layer.name not in self.texts:
            statements = (text for statement in layer.statements for text in statement_texts(statement))
            weights = (str(weight.shape) for weight in layer.weights)
            self.texts[layer.name] = (repr(layer.operator), str(self.selection.kind(layer)), *weights, *statements)
        return self.texts[layer.name]


_here: Prices | None = None
"""In a process that prices: what it prices with."""


def priced_here(prices: Prices) -> None:
    """Begin a process that prices: the fork brought the network along."""
    global _here
    _here = prices


def here(find: Callable[[Prices, A], B], wanted: A) -> B:
    """What is found, in a process that prices."""
    assert _here is not None
    return find(_here, wanted)


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


def is_legal(part: Network, strategy: Strategy) -> bool:
    """Whether a strategy of a part is proved legal, within the limits of isl."""
    try:
        fused(part, strategy)
    except PolyfuseError:
        return False
    return True


def renamed(found: PricedGroup, of: Network, part: Network) -> PricedGroup:
    """What was found for a part, for an equal one: its layers, and its names of tensors."""
    names = {old.output.name: new.output.name for old, new in zip(of.layers, part.layers, strict=True)}

    def own(strategy: Strategy) -> Strategy:
        return replace(strategy, retention={names[tensor]: places for tensor, places in strategy.retention.items()})

    layers, strategy = tuple(layer.name for layer in part.layers), found.strategy
    looked_at = tuple((own(each), price) for each, price in found.looked_at)
    return replace(found, layers=layers, strategy=strategy and own(strategy), looked_at=looked_at)


def kept_rows(part: Network, heights: Sequence[int]) -> Iterator[Strategy]:
    """Tiles of so many rows, or of all that there are, that keep what two of them need."""
    shape = part.layers[-1].output.concrete_shape
    if len(shape) != 4 or part.layers[-1].output not in part.outputs:
        return
    for rows in sorted({min(rows, shape[2]) for rows in heights}):
        yield Strategy.named("local", (rows,), "shifted")
