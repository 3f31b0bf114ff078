"""How the weights of a group come: resident, streamed, or in blocks of channels of every size at once.

`OperationGroup` + machine ──whole_load(), block_load()──> `WeightLoads`, which bounds.py bounds tiles with
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace

import numpy as np

from polyfuse.machines.accelerator import Accelerator
from polyfuse.plan.graph.access import Integers
from polyfuse.plan.graph.group import OperationGroup
from polyfuse.plan.memory.addresses import aligned_up
from polyfuse.plan.price.costs import TiledGroup, channel_bytes
from polyfuse.plan.price.latency import idle_factor
from polyfuse.plan.price.space import blocks_of
from polyfuse.plan.tiles.measures import Measures, Numbers
from polyfuse.plan.tiles.tables import Residence, Tile, grid_of


@dataclass(frozen=True, eq=False)
class WeightLoads:
    """How weights come: resident or streamed, or in blocks of channels; arrays have an entry for each size of block.

    depth, deepest, opening, closing  channels of each tensor: in all blocks, in the largest, the first, the last one
    same      1 where all blocks read the same channels of a tensor, else 0
    turns     in how many blocks a tensor has any channels
    largest   the channels of a block, at most
    blocks, weights, before  how many blocks, bytes of weight buffers, cycles before the first step
    idle      how much longer multiply-accumulates take because lanes are idle
    read      bytes of weights that one step of each block reads on chip
    block     bytes of the weights of a block that is not the last, and of the last: `rest`
    kept_bytes  weights loaded before the first step
    head      cycles of the first block of streamed weights, at least: of those before the first step
    streams   for operations whose weights are streamed: their bytes, cycles of their transfers in a step, and cycles
              that the step takes at least; in the last of all steps, `head` less
    """

    residence: Residence
    channels: Integers
    depth: Mapping[str, Integers]
    deepest: Mapping[str, Integers]
    opening: Mapping[str, Integers]
    closing: Mapping[str, Integers]
    same: Mapping[str, Integers]
    turns: Mapping[str, Integers]
    blocks: Integers
    largest: Integers
    weights: Integers
    idle: Numbers
    read: Mapping[str, Integers]
    block: Integers
    rest: Integers
    before: float
    head: float
    kept_bytes: int
    streams: Mapping[str, tuple[int, float, float]]
    in_blocks: bool

    def part(self, some: slice) -> "WeightLoads":
        """Some of the sizes of blocks."""
        return self._mapped(lambda _, values: values[some])

    def coarse(self) -> "WeightLoads":
        """One entry for all sizes that make as many blocks: the least of each array, the most of `same`, `largest`."""
        starts = np.flatnonzero(np.diff(self.blocks, prepend=-1))
        return self._mapped(
            lambda name, values: (np.maximum if name in ("same", "largest") else np.minimum).reduceat(values, starts)
        )

    def upright(self) -> "WeightLoads":
        """Its arrays with sizes of blocks along the last axis but two."""
        return self._mapped(lambda _, values: values[:, None, None])

    def _mapped(self, change: Callable[[str, Integers], Integers]) -> "WeightLoads":
        changed: dict[str, object] = {}
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, np.ndarray):
                changed[each.name] = change(each.name, value)
            elif each.name in ("depth", "deepest", "opening", "closing", "same", "turns", "read"):
                changed[each.name] = {name: change(each.name, values) for name, values in value.items()}
        return replace(self, **changed)  # type: ignore[arg-type]


def whole_loads(group: OperationGroup, residence: Residence, machine: Accelerator) -> WeightLoads:
    """Weights that are kept, or streamed; all channels at once."""
    rows = group.graph.tensors[group.reference].shape[2]
    tile = Tile(rows, weights=residence)
    tiled = TiledGroup(tile, Measures(machine, grid_of(group, tile, [rows])))
    loads = tiled.stream_loads
    head = min((first for first, *_ in loads.values()), default=0.0) if machine.double_buffer else 0.0
    streams = {
        operation.name: (operation.weight_bytes, sum(each), sum(each[1:]) + head if machine.double_buffer else 0.0)
        for operation, each in zip(tiled.streams, loads.values(), strict=True)
    }
    depth = {name: np.array([group.graph.tensors[name].shape[1]]) for name in group.links}
    size = sum(aligned_up(each, machine.alignment_bytes) for each in tiled.weight_buffers.values())
    kept = sum(operation.weight_bytes for operation in tiled.kept)
    one = np.ones(1, np.int64)
    read = {operation.name: operation.weight_bytes * one for operation in group.operations}
    return WeightLoads(
        residence=residence,
        channels=0 * one,
        depth=depth,
        deepest=depth,
        opening=depth,
        closing=depth,
        same=dict.fromkeys(depth, one),
        turns=dict.fromkeys(depth, one),
        blocks=one,
        largest=0 * one,
        weights=size * one,
        idle=np.ones(1),
        read=read,
        block=0 * one,
        rest=0 * one,
        before=tiled.kept_cycles + head,
        head=head,
        kept_bytes=kept,
        streams=streams,
        in_blocks=False,
    )


def block_loads(group: OperationGroup, machine: Accelerator) -> WeightLoads | None:
    """Weights in blocks of channels of every size; none where there are no blocks."""
    sizes = np.array(blocks_of(group), np.int64)
    if not len(sizes):
        return None
    (operation,) = group.operations
    whole = group.graph.tensors[operation.output].shape[1]
    parts: dict[str, list[tuple[int, ...]]] = {name: [] for name in group.links}
    for size in sizes:
        first = np.arange(0, whole, size)
        stop = np.minimum(first + size, whole)
        for name, found in parts.items():
            depth, same = stop - first, False
            if name != operation.output:
                reads = [link.reads[0] for link in group.links[name]]
                start = np.min([read.begins(first) for read in reads], axis=0)
                end = np.max([read.ends(stop) for read in reads], axis=0)
                depth, same = np.maximum(end - start, 0), bool((start == start[0]).all() and (end == end[0]).all())
            some = int((depth > 0).sum())
            found.append((int(depth.sum()), int(depth.max()), int(depth[0]), int(depth[-1]), int(same), some))
    arrays = {name: np.array(found, np.int64).T for name, found in parts.items()}
    blocks = -(-whole // sizes)
    buffers = np.zeros_like(sizes)
    if operation.weight_bytes and not machine.weights_in_place:
        slots = 2 if machine.double_buffer else 1
        buffers = np.minimum(operation.weight_bytes, slots * sizes * channel_bytes(group.graph, operation))
    unit, size = machine.alignment_bytes, channel_bytes(group.graph, operation)
    each = [{name: values[k] for name, values in arrays.items()} for k in range(6)]
    last = whole - (blocks - 1) * sizes
    read = (blocks - 1) * (sizes * operation.weight_bytes // whole) + last * operation.weight_bytes // whole
    return WeightLoads(
        residence="resident",
        channels=sizes,
        depth=each[0],
        deepest=each[1],
        opening=each[2],
        closing=each[3],
        same=each[4],
        turns=each[5],
        blocks=blocks,
        largest=sizes,
        weights=-(-buffers // unit) * unit,
        idle=idle_factor(sizes, machine),
        read={operation.name: read},
        block=sizes * size,
        rest=last * size,
        before=0.0,
        head=0.0,
        kept_bytes=0,
        streams={},
        in_blocks=not machine.weights_in_place and size > 0,
    )
