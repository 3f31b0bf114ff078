"""What parts of a network cost as groups, each by its best strategy; equal parts are priced once.

names of layers ──Prices.part()──> Part: a strategy and its price
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_all_start_methods, get_context

import islpy as isl

from polyfuse.codegen.concats import is_placeable
from polyfuse.codegen.leaves import TALLEST, Leaves
from polyfuse.codegen.work import work_of
from polyfuse.errors import PolyfuseError
from polyfuse.network.layer import Layer, Statement
from polyfuse.network.network import Network
from polyfuse.network.tensor import Tensor
from polyfuse.plan.cost import seconds
from polyfuse.plan.machine import Machine
from polyfuse.schedule.groups import layer_by_layer
from polyfuse.schedule.schedule import Strategy, scheduled
from polyfuse.schedule.storage import Storage, storage
from polyfuse.sets.limits import operation_limit

Price = Callable[[Sequence[Storage], Leaves], float]
"""What running some groups costs, one after the other: seconds, or anything that adds up."""
Progress = Callable[[str, int, int], None]
HEIGHTS, ALL_HEIGHTS = (4, 16), (1, 2, 4, 8, 16, 32)
"""The rows of tiles that are priced: of every part, and of those that were chosen."""
TALL_HEIGHTS, ALL_TALL_HEIGHTS = (12, 24), (6, 12, 18, 24, 48)
"""The same where layers compute bands of several rows at once."""
MAX_OPERATIONS = 300_000
"""Parts that take isl more than so many operations in one step of scheduling or pricing are not worth it."""
FEW = 6
"""So few parts are priced sooner than processes start."""


@dataclass(frozen=True)
class Part:
    """Layers that are one group, by name, in order; the strategy of the group, None for row by row and layer by layer.

    `price` is in the unit of the price that chose it.
    """

    layers: tuple[str, ...]
    strategy: Strategy | None
    price: float


def seconds_on(machine: Machine, threads: int = 1) -> Price:
    """The price of a run in seconds, by the time model of a machine."""
    return lambda groups, leaves: seconds(work_of(groups, leaves), machine, threads).total


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
        if self.is_free(alone):
            return Part(names, None, 0.0)
        key = self.signature(alone)
        if key not in self.known:
            self.known[key] = self.best(alone)
        found = self.known[key]
        return None if found is None else Part(names, *found)

    def learn(self, parts: Sequence[tuple[str, ...]], workers: int, tell: Callable[[int, int], None]) -> None:
        """Price parts, several at once in processes of their own where the system can fork them."""
        unknown: dict[tuple[object, ...], tuple[str, ...]] = {}
        for names in parts:
            alone = self.network.select(names)
            if hangs_together(alone) and not self.is_free(alone):
                unknown.setdefault(self.signature(alone), names)
        unknown = {key: names for key, names in unknown.items() if key not in self.known}
        if workers < 2 or len(unknown) < FEW or "fork" not in get_all_start_methods():
            for done, (key, names) in enumerate(unknown.items()):
                tell(done, len(unknown))
                self.known[key] = self.best(self.network.select(names))
            return
        with ProcessPoolExecutor(workers, get_context("fork"), priced_here, (self,)) as pool:
            for done, (key, found) in enumerate(zip(unknown, pool.map(best_of, unknown.values()), strict=True)):
                tell(done, len(unknown))
                self.known[key] = found

    def fusible(self, names: Sequence[str]) -> bool:
        """Whether layers may share a group: where there are row kernels, only layers that have them may.

        Scalar leaves take time for what they compute, not for where it lies.
        """
        return self.leaves.target is None or all(name in self.leaves.kinds for name in names)

    def is_free(self, part: Network) -> bool:
        """Whether the part is one concat that needs no copies."""
        return len(part.layers) == 1 and is_placeable(self.network, part.layers[0], self.leaves)

    def best(self, part: Network) -> tuple[Strategy | None, float] | None:
        """The cheapest strategy; None for a layer by itself, which runs as `layer_by_layer` does.

        Errors: those of a layer that cannot be scheduled even by itself.
        """
        if len(part.layers) == 1:
            return None, self.price(layer_by_layer(part, self.leaves.tallest), self.leaves)
        return self.cheapest(part, HEIGHTS, TALL_HEIGHTS)

    def refined(self, part: Part) -> Part:
        """A part with the best of more strategies; equal parts are the same."""
        alone = self.network.select(part.layers)
        if len(part.layers) == 1:
            return part
        key = "refined", *self.signature(alone)
        if key not in self.known:
            self.known[key] = self.cheapest(alone, ALL_HEIGHTS, ALL_TALL_HEIGHTS)
        found = self.known[key]
        return part if found is None else Part(part.layers, *found)

    def cheapest(
        self, part: Network, heights: Sequence[int], tall: Sequence[int]
    ) -> tuple[Strategy | None, float] | None:
        """The cheapest of the strategies that can be scheduled and priced; None where none can."""
        found = []
        for strategy in strategies(part, tall if any(self.leaves.kind(x) in TALLEST for x in part.layers) else heights):
            try:
                with operation_limit(MAX_OPERATIONS, "the price of a group"):
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
        """A layer without names: its operator, the kernel that computes it, its statements and their relations."""
        if layer.name not in self.texts:
            statements = (text for statement in layer.statements for text in statement_texts(statement))
            weights = (str(weight.shape) for weight in layer.weights)
            self.texts[layer.name] = (repr(layer.operator), str(self.leaves.kind(layer)), *weights, *statements)
        return self.texts[layer.name]


_here: Prices | None = None
"""In a process that prices: what it prices with."""


def priced_here(prices: Prices) -> None:
    """Begin a process that prices: what the network is came with the fork."""
    global _here
    _here = prices


def best_of(names: tuple[str, ...]) -> tuple[Strategy | None, float] | None:
    """The best strategy of a part, in a process that prices."""
    assert _here is not None
    return _here.best(_here.network.select(names))


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


def strategies(part: Network, heights: Sequence[int]) -> Iterator[Strategy]:
    """Tiles of so many rows, or of all that there are, that keep what two of them need."""
    shape = part.layers[-1].output.concrete_shape
    if len(shape) != 4 or part.layers[-1].output not in part.outputs:
        return
    for rows in sorted({min(rows, shape[2]) for rows in heights}):
        yield Strategy.named("local", (rows,), "shifted")
