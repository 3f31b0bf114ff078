"""The ways to run a network that a tuner chooses from, and what the time model says of each.

Network ──search_space()──> Choice: tile, retention of each tensor, algorithm of each layer ──ranked()──> Prediction
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from polyfuse.choices import Place
from polyfuse.codegen.lower.selection import Interface, Selection, select_kernels
from polyfuse.codegen.lower.work import work_of
from polyfuse.codegen.program import Program, generate
from polyfuse.codegen.rows.winograd import is_suitable
from polyfuse.codegen.target import Target
from polyfuse.cost.seconds import Seconds, seconds
from polyfuse.errors import PolyfuseError
from polyfuse.machines.host import Machine
from polyfuse.network.network import Network
from polyfuse.network.operator import window_of
from polyfuse.progress import Progress
from polyfuse.schedule.groups import fused, layer_by_layer
from polyfuse.schedule.schedule import scheduled
from polyfuse.schedule.storage import Storage, storage
from polyfuse.schedule.strategy import Strategy

ROWS = (1, 2, 4, 8, 16, 32, 64)
"""Rows of a tile that are tried, in addition to divisors of the image's."""
TALL_ROWS = (12, 24, 48)
"""The same where layers compute bands of several rows at once."""
COLUMN_CUTS = (2, 4, 8)
"""Into how many tiles rows are cut."""
STRIP_ROWS = (4, 32)
"""Rows of tiles whose columns are cut as well."""
NARROWEST = 12
"""Tiles of fewer columns are all halo and calls."""
LINE, LONG = 16, 256
"""The columns of a cache line, and of tiles that may be so much longer than others."""
MOST_TENSORS = 4
"""Of so many tensors each is recomputed by itself while the others are kept."""
ON_STRIPS: tuple[tuple[Place, ...], ...] = (("local", "recompute"), ("local", "local"), ("recompute", "recompute"))
UNFUSED = "unfused"


@dataclass(frozen=True)
class Choice:
    """One way to run a network: None for the strategy is layer by layer.

    `algorithms` are those of layers that have a choice, by name: 2, 4 or 6 for Winograd's F(m x m, 3x3), 0 for the
    direct one.
    """

    strategy: Strategy | None = None
    algorithms: Mapping[str, int] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Such as `4x60 local,recompute`, with what differs for single tensors and layers."""
        words = [UNFUSED if self.strategy is None else label_of(self.strategy)]
        tiles = set(self.algorithms.values())
        if len(tiles) > 1:
            return " ".join([*words, *(f"{layer}=F{m}" for layer, m in self.algorithms.items() if m)])
        return " ".join([*words, *(f"F{m}" for m in tiles if m)])

    def groups(self, network: Network, kernels: Selection) -> tuple[Storage, ...]:
        """The scheduled groups, proved legal.

        Errors: InvalidInput for a strategy that does not fit; IllegalSchedule, TooComplex, Unbounded.
        """
        return scheduled_part(network, self.strategy, kernels)

    def program(self, network: Network, target: Target, interface: Interface) -> Program:
        """The program, proved legal. Errors: as `groups` and `selection`."""
        kernels = self.selection(network, target, interface)
        return generate(network, self.groups(network, kernels), kernels=kernels)

    def selection(self, network: Network, target: Target, interface: Interface) -> Selection:
        """The row kernels of the network's layers.

        Errors: InvalidInput for an algorithm that does not suit a layer.
        """
        return select_kernels(network, target, interface, exact=True, winograd=self.algorithms)


def scheduled_part(part: Network, strategy: Strategy | None, selection: Selection) -> tuple[Storage, ...]:
    """A part of a network under a strategy, or layer by layer, proved legal."""
    return layer_by_layer(part, selection.tallest) if strategy is None else fused(part, strategy)


def label_of(strategy: Strategy) -> str:
    """A strategy in a few words: its tile, the places of most tensors, those of others."""
    own = [f"{name}={short(places)}" for name, places in strategy.retention.items()]
    return " ".join(["x".join(map(str, strategy.tile)), short(strategy.others), *own])


def short(places: Sequence[Place]) -> str:
    """The places along the tile's dimensions; one word where all are the same."""
    return places[0] if len(set(places)) == 1 else ",".join(places)


@dataclass(frozen=True)
class Prediction:
    """A choice with what the model says."""

    choice: Choice
    seconds: Seconds


def algorithm_sets(network: Network, target: Target, exact: bool = False) -> list[dict[str, int]]:
    """Ways to choose every layer's algorithm: all direct, Winograd's as its price says, and one tile for all."""
    usual = select_kernels(network, target, exact=exact)
    names = [layer.name for layer in network.layers if is_suitable(layer, usual.kind(layer))]
    direct = dict.fromkeys(names, 0)
    if exact or not names:
        return [direct]
    found = [direct, direct | usual.tiles, *(dict.fromkeys(names, tile) for tile in (4, 6))]
    return [each for k, each in enumerate(found) if each not in found[:k]]


def search_space(network: Network, target: Target, exact: bool = False) -> tuple[Choice, ...]:
    """Every strategy with every set of algorithms; layer by layer first. `exact` keeps to the direct algorithm."""
    found = []
    for algorithms in algorithm_sets(network, target, exact):
        several = any(algorithms.values())
        found += [Choice(None, algorithms)]
        found += [Choice(strategy, algorithms) for strategy in strategies(network, TALL_ROWS if several else ROWS)]
    return tuple({choice.label: choice for choice in found}.values())


def strategies(network: Network, wanted: Sequence[int] = ROWS) -> Iterator[Strategy]:
    """Every tile with recompute, local and global rows; local rows with recomputed or local columns.

    None where the last output is no image.
    """
    if len(network.outputs[-1].shape) != 4:
        return
    *_, height, width = network.outputs[-1].concrete_shape
    lone = network.layers[0].name == network.layers[-1].name
    for rows in row_sizes(height, wanted):
        for place in ("local",) if lone else ("local", "recompute", "global"):
            yield Strategy.named(place, (rows,), "shifted")
        if not lone:
            recomputed = ({name: ("recompute",)} for name in halo_tensors(network))
            yield from (Strategy((rows,), ("local",), each, placement="shifted") for each in recomputed)
        for columns in column_sizes(width) if STRIP_ROWS[0] <= rows <= STRIP_ROWS[1] else ():
            yield from (Strategy((rows, columns), places, placement="shifted") for places in ON_STRIPS)


def halo_tensors(network: Network) -> list[str]:
    """Tensors between layers that a window reads, if they are few and there is more than one."""
    found = []
    for layer in network.layers:
        window = window_of(layer.operator)
        if window is not None and window.kernel != (1, 1):
            found += [x.name for x in layer.inputs if x in network.makers]
    names = list(dict.fromkeys(found))
    return names if 1 < len(names) <= MOST_TENSORS else []


def row_sizes(height: int, wanted: Sequence[int] = ROWS) -> list[int]:
    """What is wanted, and for each the divisor of the height next above it, so that no tile is cut short.

    >>> row_sizes(56)
    [1, 2, 4, 8, 16, 28, 32, 56]
    """
    fitting = [rows for rows in wanted if rows <= height] or [height]
    divisors = [next(d for d in range(rows, height + 1) if height % d == 0) for rows in fitting]
    return sorted({*fitting, *(d for d in divisors if d <= 2 * wanted[-1])})


def column_sizes(width: int) -> list[int]:
    """Rows in a few equal parts; long ones nearly so, so that each begins with a cache line.

    >>> column_sizes(960), column_sizes(30), column_sizes(2042)
    ([120, 240, 480], [15], [256, 512, 1024])
    """
    equal = (-(-width // cut) for cut in COLUMN_CUTS if width // cut >= NARROWEST)
    return sorted({part if part < LONG else -(-part // LINE) * LINE for part in equal})


def predict(
    network: Network, choice: Choice, machine: Machine, target: Target, interface: Interface, threads: int = 1
) -> Prediction:
    """What the model says of a choice; nothing is generated, and legality is not proved yet.

    Errors: InvalidInput, TooComplex, Unbounded.
    """
    kernels = choice.selection(network, target, interface)
    if choice.strategy is None:
        groups = choice.groups(network, kernels)
    else:
        groups = (storage(scheduled(network, choice.strategy)),)
    return Prediction(choice, seconds(work_of(groups, kernels), machine, threads))


def ranked(
    network: Network,
    choices: Sequence[Choice],
    machine: Machine,
    target: Target,
    interface: Interface,
    threads: int = 1,
    progress: Progress | None = None,
) -> list[Prediction]:
    """The predictions of all choices that can be scheduled, the fastest first."""
    found = []
    for k, choice in enumerate(choices):
        if progress is not None:
            progress("predicting", k, len(choices))
        try:
            found.append(predict(network, choice, machine, target, interface, threads))
        except PolyfuseError:
            if choice is choices[0]:
                raise
    return sorted(found, key=lambda prediction: prediction.seconds.total)
