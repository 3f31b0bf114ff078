"""What a group costs in any of several tiles: buffers, off-chip bytes, cycles, energy.

    `OperationGroup` + `Tile` + heights + `Accelerator` ──tiled_group()──> `TiledGroup`
    `TiledGroup`s ──CostTable.of()──> `CostTable` ──cost()──> `Cost`.

Bytes, multiply-accumulates and buffers are exact counts of measures.py; cycles are those of latency.py. A table holds
the steps of all tiles one after the other, so that a cost for inputs and outputs on chip or off chip is a few sums.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np

from polyfuse.errors import InvalidInput
from polyfuse.machines.accelerator import Accelerator
from polyfuse.plan.graph.access import Integers
from polyfuse.plan.graph.channels import channel_axis
from polyfuse.plan.graph.group import OperationGroup
from polyfuse.plan.graph.operations import Graph, Operation
from polyfuse.plan.memory.addresses import aligned_up
from polyfuse.plan.price.latency import (
    ComputeTime,
    OperationTime,
    compute_time,
    idle_factor,
    overlapped,
    rate_of,
    step_cycles,
)
from polyfuse.plan.tiles.axis import Booleans
from polyfuse.plan.tiles.measures import Measures, Numbers, Transfers, forget
from polyfuse.plan.tiles.tables import Tile, grid_of

Source = Literal["on", "off"]
Sink = Literal["on", "off", "both"]
Sources = Mapping[str, Source]
Sinks = Mapping[str, Sink]


def streamed(group: OperationGroup, tile: Tile, machine: Accelerator) -> tuple[Operation, ...]:
    """The operations whose weights are loaded in every step in which they run, in blocks of output channels.

    Late operations run once in an image, in its last step, so that theirs always are. Weights that are a single block
    stay: they take as much memory, and the load would have to wait for the step that uses them. Those of a late
    operation stay where no others are streamed, which they could be loaded behind.
    """
    if tile.channels or machine.weights_in_place:
        return ()
    found, several = [], False
    for operation in group.operations:
        whole = group.graph.tensors[operation.output].shape[1]
        size = channel_bytes(group.graph, operation)
        is_cut = size > 0 and block_channels(group.graph, operation, machine) < whole
        if size and (operation.name in group.late or (is_cut and tile.weights == "streamed")):
            found.append(operation)
            several = several or is_cut or len(found) > 1
    return tuple(found) if several else ()


def channel_bytes(graph: Graph, operation: Operation) -> int:
    """The bytes of the weights of one output channel; 0 where they are not an equal part of all."""
    parts = [channel_axis(operation.layer, weight) is not None for weight in operation.layer.weights]
    return operation.weight_bytes // graph.tensors[operation.output].shape[1] if all(parts) else 0


def block_channels(graph: Graph, operation: Operation, machine: Accelerator) -> int:
    """The output channels of a block of streamed weights: whole lanes whose transfer is not mostly latency."""
    size, channels = channel_bytes(graph, operation), graph.tensors[operation.output].shape[1]
    least = machine.offchip.latency_cycles * machine.offchip.bytes_per_cycle
    lanes = aligned_up(max(1, -(-int(least) // size)), machine.lanes)
    return min(lanes, channels)


@dataclass(frozen=True, eq=False)
class TiledGroup:
    """A group in tiles of several heights, its weights kept, streamed, or in blocks."""

    tile: Tile
    measures: Measures

    @cached_property
    def streams(self) -> tuple[Operation, ...]:
        """The operations whose weights are streamed."""
        return streamed(self.measures.group, self.tile, self.measures.machine)

    @property
    def in_place(self) -> bool:
        """Whether weights stay off chip."""
        return self.measures.machine.weights_in_place

    @cached_property
    def stream_loads(self) -> dict[str, list[float]]:
        """The cycles of the transfers of each block of streamed weights, in each step in which their operation runs."""
        transfer = self.measures.machine.transfer_cycles
        return {o.name: [transfer(size) for _, size in self._blocks(o)] for o in self.streams}

    @cached_property
    def block_weights(self) -> Integers:
        """The bytes of weights of a block of output channels, in each step that uses another one than before."""
        order, group = self.measures.steps.order, self.measures.group
        first = order.busy & (np.diff(order.block, axis=1, prepend=-1) != 0)
        operation = group.operations[0]
        depth = self.measures.steps.of[operation.output].depth
        return np.asarray(first * depth * (channel_bytes(group.graph, operation) if self.in_blocks else 0))

    @property
    def block_cycles(self) -> Numbers:
        """The cycles of their transfers."""
        return self.measures.machine.transfer_cycles(self.block_weights, self.block_weights > 0)

    @property
    def in_blocks(self) -> bool:
        """Whether the weights of a block of output channels are loaded in its first step."""
        return self.tile.channels > 0 and not self.in_place

    @cached_property
    def kept(self) -> tuple[Operation, ...]:
        """The operations whose weights are loaded before the first step."""
        named = {operation.name for operation in self.streams}
        every = self.measures.group.operations if not (self.tile.channels or self.in_place) else ()
        return tuple(o for o in every if o.weight_bytes and o.name not in named)

    @cached_property
    def weight_bytes(self) -> Integers:
        """All bytes of weights that are loaded."""
        total = self.block_weights.sum(axis=1) + sum(operation.weight_bytes for operation in self.kept)
        for operation in self.streams:
            total = total + self.measures.active[operation.name].sum(axis=1) * operation.weight_bytes
        return np.asarray(total)

    @cached_property
    def weights_read(self) -> Integers:
        """The bytes of weights that operations read on chip: all of theirs in each step."""
        total = np.zeros(len(self.measures.steps.heights), np.int64)
        for operation in self.measures.group.operations:
            whole = self.measures.group.graph.tensors[operation.output].shape[1]
            depth = self.measures.steps.of[operation.output].depth
            total = total + (self.measures.active[operation.name] * depth * operation.weight_bytes // whole).sum(axis=1)
        return total

    @cached_property
    def weight_buffers(self) -> dict[str, int]:
        """The bytes of each buffer of weights, by its name."""
        slots = 2 if self.measures.machine.double_buffer else 1
        blocks = {operation: self._blocks(operation)[0][1] for operation in self.streams}
        if self.in_blocks and (operation := self.measures.group.operations[0]).weight_bytes:
            blocks[operation] = self.tile.channels * channel_bytes(self.measures.group.graph, operation)
        sizes = {operation: operation.weight_bytes for operation in self.kept}
        sizes |= {operation: min(operation.weight_bytes, slots * block) for operation, block in blocks.items()}
        return {f"weights_{operation.name}": size for operation, size in sizes.items()}

    @cached_property
    def kept_cycles(self) -> float:
        """Loading the weights that are kept, before the first step."""
        return sum(self.measures.machine.transfer_cycles(operation.weight_bytes) for operation in self.kept)

    @cached_property
    def computing(self) -> ComputeTime:
        """The cycles of computing and of streamed weights in each step."""
        machine, group = self.measures.machine, self.measures.group
        streams, found = self.streams, []
        for operation in group.operations:
            cycles = np.asarray(self.measures.work[operation.name] / rate_of(operation, group.graph, machine))
            if operation.layer.macs and self.tile.channels:
                cycles = cycles * idle_factor(np.array(self.tile.channels), machine)
            blocks = self._blocks(operation) if operation in streams else []
            whole = group.graph.tensors[operation.output].shape[1]
            timed = tuple((channels / whole, machine.transfer_cycles(size)) for channels, size in blocks)
            found.append(OperationTime(cycles, self.measures.active[operation.name], timed))
        return compute_time(machine, found)

    def _blocks(self, operation: Operation) -> list[tuple[int, int]]:
        """The output channels of each block of streamed weights, and its bytes."""
        graph = self.measures.group.graph
        whole, size = graph.tensors[operation.output].shape[1], channel_bytes(graph, operation)
        block = block_channels(graph, operation, self.measures.machine)
        return [(channels, channels * size) for channels in (min(block, whole - k) for k in range(0, whole, block))]


def tiled_group(group: OperationGroup, tile: Tile, heights: Sequence[int], machine: Accelerator) -> TiledGroup:
    """A group in tiles of several heights, which are otherwise as `tile`.

    Errors: InvalidInput for blocks of channels of weights that have no equal part for each.
    """
    for operation in group.operations if tile.channels else ():
        if operation.weight_bytes and not channel_bytes(group.graph, operation):
            raise InvalidInput(
                f"tile of {operation.name!r}: expected weights of the same size for every output channel, got "
                f"{operation.weight_bytes} B for all; take all channels"
            )
    return TiledGroup(tile, Measures(machine, grid_of(group, tile, heights)))


@dataclass(frozen=True, eq=False)
class Cost:
    """The cost of a group in each tile of a table."""

    workspace_bytes: Integers
    load_bytes: Integers
    store_bytes: Integers
    weight_bytes: Integers
    cycles: Numbers
    macs: Integers
    energy_pj: Numbers

    @property
    def offchip_bytes(self) -> Integers:
        """All bytes moved between the memories."""
        return self.load_bytes + self.store_bytes + self.weight_bytes


@dataclass(frozen=True, eq=False)
class TensorTraffic:
    """The transfers of a tensor in all tiles: bytes, and cycles as of `overlapped`; the bytes of rings."""

    bytes: Integers
    during: Numbers
    outside: Numbers
    ring_bytes: Integers


@dataclass(frozen=True, eq=False)
class CostTable:
    """The costs of one group on one machine in many tiles.

    tiles   for each, the tiled group that has it, and the position of its height
    starts  where the steps of each tile begin
    """

    machine: Accelerator
    groups: tuple[TiledGroup, ...]
    tiles: tuple[tuple[TiledGroup, int], ...]
    starts: Integers

    @staticmethod
    def of(groups: Sequence[TiledGroup]) -> "CostTable":
        """The table of a group that is tiled in one way or in several."""
        lengths = np.concatenate([tiled.measures.steps.order.busy.sum(axis=1) for tiled in groups])
        tiles = tuple((tiled, k) for tiled in groups for k in range(len(tiled.measures.steps.heights)))
        return CostTable(groups[0].measures.machine, tuple(groups), tiles, np.cumsum(lengths) - lengths)

    def tile(self, index: int) -> Tile:
        """A tile, with its height."""
        tiled, k = self.tiles[index]
        return replace(tiled.tile, rows=int(tiled.measures.steps.heights[k]))

    def _joined(self, of: Callable[[TiledGroup], Integers]) -> Integers:
        return np.concatenate([of(tiled) for tiled in self.groups])

    def _repeated(self, of: Callable[[TiledGroup], float]) -> Numbers:
        return np.repeat([of(tiled) for tiled in self.groups], [len(t.measures.steps.heights) for t in self.groups])

    def _flat(self, of: Callable[[TiledGroup], Numbers]) -> Numbers:
        return np.concatenate([of(tiled)[tiled.measures.steps.order.busy] for tiled in self.groups])

    def _aligned(self, sizes: Integers) -> Integers:
        alignment = self.machine.alignment_bytes
        return -(-sizes // alignment) * alignment

    @cached_property
    def _traffic(self) -> dict[tuple[str, bool, bool], TensorTraffic]:
        return {}

    def traffic(self, tensor: str, *, loaded: bool, ring: bool = True) -> TensorTraffic:
        """The transfers of an input, or of an output."""
        key = (tensor, loaded, ring)
        if key not in self._traffic:
            each: list[Transfers] = [
                tiled.measures.transfers(tensor, loaded=loaded, ring=ring) for tiled in self.groups
            ]
            busy = [tiled.measures.steps.order.busy for tiled in self.groups]
            cycles = np.concatenate([one.cycles[steps] for one, steps in zip(each, busy, strict=True)])
            moved, rings = (np.concatenate([getattr(one, key) for one in each]) for key in ("bytes", "ring_bytes"))
            self._traffic[key] = TensorTraffic(moved, *overlapped(self.machine, cycles, self.starts, loaded), rings)
        return self._traffic[key]

    @cached_property
    def _inner_rings(self) -> dict[str, Integers]:
        makers = self.groups[0].measures.group.makers
        return {name: np.concatenate([tiled.measures.ring_bytes(name) for tiled in self.groups]) for name in makers}

    def rings(self, sources: Sources, sinks: Sinks) -> dict[str, Integers]:
        """The bytes of the ring of each tensor that is not on chip as a whole."""
        found = {name: self.traffic(name, loaded=True).ring_bytes for name, place in sources.items() if place == "off"}
        for name, sizes in self._inner_rings.items():
            if name not in sinks:
                found[name] = sizes
            elif sinks[name] == "off":
                found[name] = self.traffic(name, loaded=False).ring_bytes
        return found

    @cached_property
    def scratch_bytes(self) -> Integers:
        """The bytes of sums."""
        return self._joined(lambda tiled: tiled.measures.scratch_bytes)

    def can_run(self, sinks: Sinks) -> Booleans:
        """Which tiles can run: their sums fit the accumulators, and nothing is made again while it is stored.

        A tensor that is left on chip as well is stored from where it is whole while the next step computes; in a ring,
        each step has elements of its own.
        """
        sums = self.machine.accumulator_bytes
        found = np.asarray(self.scratch_bytes <= sums if sums else self.scratch_bytes >= 0)
        for name in self.made_again(sinks):
            found = found & ~np.concatenate([tiled.measures.steps.of[name].is_made_again for tiled in self.groups])
        return found

    def made_again(self, sinks: Sinks) -> tuple[str, ...]:
        """The outputs that no tile may make again: those that are stored while steps compute, and left on chip."""
        return tuple(name for name, sink in sinks.items() if sink == "both" and self.machine.double_buffer)

    @cached_property
    def _fixed_bytes(self) -> Integers:
        """The aligned buffers of weights and sums."""
        unit = self.machine.alignment_bytes
        sizes = self._repeated(lambda tiled: sum(aligned_up(size, unit) for size in tiled.weight_buffers.values()))
        weights = sizes.astype(np.int64)
        return weights if self.machine.accumulator_bytes else weights + self._aligned(self.scratch_bytes)

    @cached_property
    def _blocks(self) -> tuple[Numbers, Numbers]:
        """The cycles of the transfers of weights in blocks of channels, as of `overlapped`."""
        return overlapped(self.machine, self._flat(lambda tiled: tiled.block_cycles), self.starts, True)

    @cached_property
    def _compute(self) -> Numbers:
        return self._flat(lambda tiled: tiled.computing.compute)

    @cached_property
    def _weights(self) -> Numbers:
        return self._flat(lambda tiled: tiled.computing.weights + tiled.computing.waits)

    @cached_property
    def _before(self) -> Numbers:
        return np.concatenate([tiled.kept_cycles + tiled.computing.before for tiled in self.groups])

    @cached_property
    def weight_bytes(self) -> Integers:
        """The weights that are loaded."""
        return self._joined(lambda tiled: tiled.weight_bytes)

    @cached_property
    def macs(self) -> Integers:
        """The multiply-accumulates that are executed."""
        return self._joined(lambda tiled: tiled.measures.macs)

    @cached_property
    def _inside_pj(self) -> Numbers:
        """The energy of work and of what it reads and writes on chip."""
        accesses = self._joined(lambda tiled: tiled.measures.onchip_bytes + tiled.weights_read)
        work = np.concatenate([tiled.measures.work_pj for tiled in self.groups])
        return np.asarray(accesses * self.machine.onchip.pj_per_byte + work)

    def cost(self, sources: Sources, sinks: Sinks) -> Cost:
        """The costs of all tiles for inputs that are on or off chip, and outputs that are left on, off or both."""
        loads = [self.traffic(name, loaded=True) for name, source in sources.items() if source == "off"]
        stores = [self.traffic(n, loaded=False, ring=sink == "off") for n, sink in sinks.items() if sink != "on"]
        nothing = np.zeros(len(self.tiles), np.int64)
        loaded = sum((each.bytes for each in loads), nothing)
        stored = sum((each.bytes for each in stores), nothing)
        workspace = sum(map(self._aligned, self.rings(sources, sinks).values()), self._fixed_bytes)
        moved = loaded + stored + self.weight_bytes
        energy = moved * (self.machine.offchip.pj_per_byte + self.machine.onchip.pj_per_byte) + self._inside_pj
        cycles = self._cycles(loads, stores)
        return Cost(workspace, loaded, stored, self.weight_bytes, cycles, self.macs, np.asarray(energy))

    def _cycles(self, loads: Sequence[TensorTraffic], stores: Sequence[TensorTraffic]) -> Numbers:
        """The latency of each tile, from the first transfer to the last."""
        during, outside = self._blocks
        loading = self._weights + sum(each.during for each in loads) + during
        storing = sum((each.during for each in stores), np.zeros_like(during))
        outside = sum(each.outside for each in (*loads, *stores)) + outside
        steps = step_cycles(self.machine, self._compute, loading, storing)
        return np.asarray(self._before + outside + np.add.reduceat(steps, self.starts))

    def forget_steps(self) -> None:
        """Drop the arrays of single tensors in single steps; sums over steps and transfers stay."""
        for tiled in self.groups:
            forget(tiled, tiled.measures, *tiled.measures.steps.of.values())

    def buffers(self, index: int, sources: Sources, sinks: Sinks) -> dict[str, int]:
        """The bytes of each buffer of one tile by its name."""
        tiled, _ = self.tiles[index]
        rings = self.rings(sources, sinks)
        found = {f"ring_{name}": int(sizes[index]) for name, sizes in rings.items()} | tiled.weight_buffers
        if not self.machine.accumulator_bytes:
            found["scratch"] = int(self.scratch_bytes[index])
        return {name: size for name, size in found.items() if size}
