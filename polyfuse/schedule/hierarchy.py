"""Tiles inside of tiles, each in a memory of its own: what every memory holds, and what moves between them.

    Network + { memory: Strategy }, the outermost first ──hierarchy()──> Hierarchy: a group, bytes of every memory

The strategy of a memory says which tiles it holds and what happens to values that two of them share: `local` ones wait
in that memory, `global` ones in the next larger one (off chip for the outermost), and others are computed again, or
fetched again from where they wait. Inputs enter each memory but the innermost by a layer that copies them, so that
legality, counts and C are those of any group. Outputs pass through all memories and wait in none; weights are loaded
once, into the innermost.

With the capacities of a machine's levels, memories have the names of levels, and what does not fit is refused.

Published counterparts: depth-first schedules with a memory for each kind of data (DeFiNES, HPCA 2023, section 3), and
intermediates retained at chosen levels (LoopTree, section 4).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from polyfuse.choices import AXES, MEMORIES, Axis, Place
from polyfuse.doors import public
from polyfuse.errors import DoesNotFit, InvalidInput
from polyfuse.network.layers.copies import copy
from polyfuse.network.network import Network
from polyfuse.network.renaming import renamed
from polyfuse.network.tensor import Tensor
from polyfuse.schedule.counts import Counts, counts
from polyfuse.schedule.groups import fused
from polyfuse.schedule.schedule import check_names
from polyfuse.schedule.storage import Storage
from polyfuse.schedule.strategy import Strategy
from polyfuse.sets.counting import count
from polyfuse.text import columns, html_table
from polyfuse.whole import whole

Copies = Mapping[str, Mapping[str, Tensor]]
HEAD = ("memory", "tile", "bytes", "read from above", "written to above")


@public
@dataclass(frozen=True, eq=False)
class Hierarchy:
    """A group whose tiles lie inside of tiles, and the memories that hold them, the outermost first.

    group       the tiles of all memories, proved legal; its buffers are the innermost memory
    above       for each other memory, the network in its tiles alone, proved legal: the buffers of what waits in it
    counted     what the group executes and moves, copies of inputs among it
    copies      for each memory but the innermost, what the inputs are called in it, by their names
    places      for each memory but the innermost, the place of the group that it is
    capacities  the bytes that each memory has, where they were given

    `executions` are those of the network's own layers, `recomputed` those beyond the first of each point.
    """

    strategies: Mapping[str, Strategy]
    group: Storage
    above: Mapping[str, Storage]
    counted: Counts
    copies: Mapping[str, Mapping[str, Tensor]]
    executions: int
    recomputed: int
    places: Mapping[str, Place]
    capacities: Mapping[str, int]

    @property
    def bytes(self) -> dict[str, int]:
        """What each memory must hold at once; what passes through one on its way to another has no room in it."""
        waiting = {memory: self.waits(memory) for memory in self.above}
        found = {m: sum(self.above[m].buffers[name].bytes for name in names) for m, names in waiting.items()}
        *farther, _ = self.copies.values()
        passing = {tensor.name for tensor in self.group.schedule.network.inputs}
        passing |= {tensor.name for copies in farther for tensor in copies.values()}
        buffers = self.group.buffers.items()
        return {**found, self.innermost: sum(buffer.bytes for name, buffer in buffers if name not in passing)}

    @property
    def innermost(self) -> str:
        """The memory of the buffers."""
        return list(self.strategies)[-1]

    def waits(self, memory: str) -> tuple[str, ...]:
        """The tensors of which some value waits in a memory between the buffers and off-chip memory.

        Errors: InvalidInput for a memory that is none of those.
        """
        if memory not in self.above:
            raise InvalidInput(f"memory {memory!r}: expected one of {', '.join(map(repr, self.above))}")
        flows = self.group.schedule.flows.items()
        return tuple(
            n for n, f in flows if self.places[memory] in f.places and f.role == "made" and not f.loads.is_empty()
        )

    @property
    def traffic(self) -> dict[str, tuple[int, int]]:
        """For each memory, the bytes that it reads from the memory above it, and those that it writes to it."""
        reads, writes = self.counted.offchip_read_bytes, self.counted.offchip_write_bytes
        found = {}
        for memory in self.strategies:
            found[memory] = (reads, writes)
            if memory in self.above:
                loaded, stored = self.counted.other_bytes.get(self.places[memory], (0, 0))
                reads, writes = reads + loaded, writes + stored - self._filled(memory)
        return found

    def _filled(self, memory: str) -> int:
        """The bytes that come into a memory from above: copies that are stored."""
        copies, steps = self.copies[memory].values(), self.counted.steps
        return sum(steps.get(f"store_{tensor.name}", 0) * tensor.element_bytes for tensor in copies)

    def rows(self) -> list[tuple[object, ...]]:
        """A row for each memory: its name, its tile, its bytes, its capacity where that is known, and what it moves."""
        tiles = {memory: "x".join(map(str, strategy.tile)) or "whole" for memory, strategy in self.strategies.items()}
        capacities = {memory: (capacity,) for memory, capacity in self.capacities.items()}
        held, traffic = self.bytes, self.traffic
        return [(m, tiles[m], held[m], *capacities.get(m, ()), *traffic[m]) for m in self.strategies]

    def __str__(self) -> str:
        return "\n".join([self.title, *columns([self.head, *self.rows()], indent=2)])

    __repr__ = __str__

    @property
    def head(self) -> tuple[str, ...]:
        """What the columns of rows are called."""
        return (*HEAD[:3], "capacity", *HEAD[3:]) if self.capacities else HEAD

    @property
    def title(self) -> str:
        """The network, and what is executed."""
        return f"{self.group.schedule.network.name}: {self.executions:,} executions ({self.recomputed:,} recomputed)"

    def _repr_html_(self) -> str:
        return html_table(self.title, self.head, self.rows())


def hierarchy(
    network: Network, strategies: Mapping[str, Strategy], *, capacities: Mapping[str, int] | None = None
) -> Hierarchy:
    """Schedule a network in tiles inside of tiles, prove it, size the memories and count what moves.

    `strategies` has a strategy for each memory, the outermost first: some of l4, l3, l2, and last the innermost, by any
    other name. An axis that several cut has smaller tiles in inner memories.

    With `capacities`, the bytes of each level of a machine from the nearest (`Machine.capacities`, or any), memories
    are some of these levels, the outermost first, and what does not fit into its level is refused. Weights count in
    the innermost.

    Errors: InvalidInput for memories in another order, too few or no levels of the machine, and strategies that do not
    fit together; DoesNotFit for a level that is too small; IllegalSchedule, TooComplex.

    >>> from polyfuse.network.network import Builder
    >>> build = Builder("pair")
    >>> x = build.input("x", (1, 1, 20, 20))
    >>> net = build.network(build.conv("conv2", build.conv("conv1", x, 1, kernel=3), 1, kernel=3))
    >>> print(hierarchy(net, {"l2": Strategy((8, 8)), "l1": Strategy((2, 4), ("local", "recompute"))}))
    pair: 736 executions (156 recomputed)
      memory  tile  bytes  read from above  written to above
      l2      8x8     576            2,384             1,024
      l1      2x4     400            3,152             1,024
    >>> levels = {"registers": 128, "L1": 32768, "L2": 524288}
    >>> print(hierarchy(net, {"L2": Strategy((8, 8)), "L1": Strategy((2, 4))}, capacities=levels))
    pair: 1,024 executions (444 recomputed)
      memory  tile  bytes  capacity  read from above  written to above
      L2      8x8     576   524,288            2,384             1,024
      L1      2x4     400    32,768            6,224             1,024
    """
    places = check_memories(strategies, capacities)
    for strategy in strategies.values():
        check_names(network, strategy)
    *above, _ = strategies
    placed = {places.get(memory, "buffers"): strategy for memory, strategy in strategies.items()}
    complete, copies = with_copies(network, list(places.values()))
    group = fused(complete, nested(complete, placed, copies))[0]
    stored = {memory: fused(complete, strategy_above(complete, placed, copies, places[memory]))[0] for memory in above}
    copied = {memory: copies[places[memory]] for memory in above}
    made = [group.schedule.flows[layer.output.name].executions for layer in network.layers]
    executions, points = (sum(map(count, sets)) for sets in ([m.wrap() for m in made], [m.domain() for m in made]))
    known = {memory: capacities[memory] for memory in strategies} if capacities else {}
    moved = counts(group)
    found = Hierarchy(dict(strategies), group, stored, moved, copied, executions, executions - points, places, known)
    for memory, capacity in known.items():
        if (needed := found.bytes[memory]) > capacity:
            raise DoesNotFit(
                f"hierarchy: level {memory!r} needs {needed:,} B and has {capacity:,} B; "
                "make its tiles smaller or keep less in it"
            )
    return found


def check_memories(strategies: Mapping[str, Strategy], capacities: Mapping[str, int] | None) -> dict[str, Place]:
    """The place of each memory but the innermost, if all are in order. Errors: InvalidInput."""
    names = list(strategies)
    got = f"hierarchy of {', '.join(map(repr, names)) or 'no memories'}"
    if capacities is None:
        known = [memory for memory in reversed(MEMORIES) if memory in names[:-1]]
        if len(names) < 2 or names[:-1] != known or names[-1] in MEMORIES:
            raise InvalidInput(
                f"{got}: expected some of {', '.join(reversed(MEMORIES))} in this order and an innermost memory of "
                "another name, such as 'l1'"
            )
        places = dict(zip(known, known, strict=True))
    else:
        if not isinstance(capacities, Mapping):
            kind = type(capacities).__name__
            raise InvalidInput(f"hierarchy: expected capacities by level, such as Machine.capacities, got {kind}")
        levels = list(capacities)[: len(MEMORIES) + 1]
        for level, capacity in capacities.items():
            whole(capacity, f"capacity of {level!r}", 1)
        if len(names) < 2 or names != [level for level in reversed(levels) if level in names]:
            raise InvalidInput(
                f"{got}: expected two or more levels of the machine, the outermost first: some of "
                f"{', '.join(reversed(levels)) or 'none'}"
            )
        places = {name: MEMORIES[levels.index(name) - 1] for name in names[:-1]}
    placements = {strategy.placement for strategy in strategies.values()}
    weights = {strategy.weights for strategy in strategies.values()}
    if len(placements) > 1 or weights != {"once"}:
        raise InvalidInput(
            "hierarchy: expected one placement in all memories and weights that are loaded once, got placements "
            f"{', '.join(sorted(placements))} and weights {', '.join(sorted(weights))}"
        )
    return places


def with_copies(network: Network, memories: list[str]) -> tuple[Network, Copies]:
    """The network with a layer for each input and memory, the outermost first, that copies the input into it."""
    layers, copying = list(network.layers), []
    copies: dict[str, dict[str, Tensor]] = {memory: {} for memory in memories}
    for tensor in network.inputs:
        read = tensor
        for memory in memories:
            copying.append(copy(f"{tensor.name}_in_{memory}", read))
            read = copies[memory][tensor.name] = copying[-1].output
        layers = [renamed(layer, tensor, read) for layer in layers]
    return replace(network, layers=(*copying, *layers)), copies


def axes_of(network: Network, strategy: Strategy) -> tuple[Axis, ...]:
    """The axes that a strategy cuts, all by name or number."""
    if strategy.axes:
        return strategy.axes
    return AXES[2 : 2 + len(strategy.tile)] if len(network.outputs[-1].shape) == 4 else tuple(range(len(strategy.tile)))


def nested(whole: Network, strategies: Mapping[str, Strategy], copies: Copies) -> Strategy:
    """The strategies of all memories as one, of tiles inside of tiles."""
    every = list(strategies.values())
    retention = {layer.output.name: places_of_made(strategies, layer.output.name) for layer in whole.layers}
    for memory, inputs in copies.items():
        retention |= {tensor.name: places_of_copy(strategies, name, memory) for name, tensor in inputs.items()}
    starts = [sum(len(each.tile) for each in every[:k]) for k in range(len(every))]
    order = tuple(start + d for start, each in zip(starts, every, strict=True) for d in each.running_order())
    tile = tuple(size for each in every for size in each.tile)
    axes = tuple(axis for each in every for axis in axes_of(whole, each))
    return Strategy(tile, ("recompute",) * len(tile), retention, every[0].placement, order, "once", axes)


def places_of_copy(strategies: Mapping[str, Strategy], name: str, memory: str) -> tuple[Place, ...]:
    """The places of an input's copy in a memory, along the coordinates of all tiles.

    It waits there while the tile of that memory lasts, and for the next where the strategy keeps it; or in the buffer,
    where the next strategy is that of the innermost memory and keeps the input.
    """
    memories = list(strategies)
    at = memories.index(memory)
    places: list[Place] = []
    for k, strategy in enumerate(strategies.values()):
        for place in strategy.places(name):
            if k < at or (k == at and place != "local"):
                places.append("recompute")
            else:
                places.append("local" if place == "local" and k == at + 1 == len(memories) - 1 else memory)
    return tuple(places)


def places_of_made(strategies: Mapping[str, Strategy], name: str) -> tuple[Place, ...]:
    """The places of what a layer makes, along the coordinates of all tiles.

    What waits in an outer memory is fetched from there by inner tiles that do not keep it.
    """
    *above, _ = strategies
    places: list[Place] = []
    for here, beyond, strategy in zip([*above, "local"], ["global", *above], strategies.values(), strict=True):
        waits = next((place for place in reversed(places) if place in MEMORIES), "recompute")
        places += [{"local": here, "global": beyond}.get(place, waits) for place in strategy.places(name)]
    return tuple(places)


def strategy_above(whole: Network, strategies: Mapping[str, Strategy], copies: Copies, memory: str) -> Strategy:
    """The tiles of one memory and of those above it: their buffers hold what waits in that memory."""
    names = list(strategies)
    outer = {name: strategies[name] for name in names[: names.index(memory) + 1]}
    found = nested(whole, {**outer, "buffers": Strategy()}, {name: copies[name] for name in outer})
    held = {
        name: tuple("local" if place == memory else place for place in places)
        for name, places in found.retention.items()
    }
    return replace(found, retention=held, placement="first")
