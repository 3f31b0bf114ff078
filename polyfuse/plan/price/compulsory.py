"""A lower bound of the cost of a group in any tile whatever, without enumerating tiles.

    `GroupBounds` + `WeightLoads` ──compulsory()──> `BoundPoint`s

Every index that an output depends on is made or loaded once at least; weights are loaded once. Streamed weights are
loaded in every step in which their operation works, and a step makes no more than a ring holds, so that the bytes of
both multiplied are no less than those of the weights and of the whole tensor multiplied. Where several are streamed and
the rings share some memory, the bytes that they move are fewest where each ring is in proportion to the root of that
product.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import isqrt, prod

import numpy as np

from polyfuse.machines.accelerator import Accelerator
from polyfuse.plan.graph.group import OperationGroup
from polyfuse.plan.graph.operations import Operation
from polyfuse.plan.memory.addresses import aligned_up
from polyfuse.plan.price.bounds import GroupBounds, sums_up
from polyfuse.plan.price.latency import rate_of, step_cycles
from polyfuse.plan.price.objective import asked
from polyfuse.plan.price.weights import WeightLoads
from polyfuse.plan.tiles.axis import Booleans, Composition
from polyfuse.plan.tiles.measures import SUM_BYTES

SIZES = 16
"""Sizes of rings for which the bytes of streamed weights are bounded."""
BoundPoint = tuple[int, int]
"""Bytes of workspace, and the least objective with so many or more, in 1/1024 of its unit."""
Axis = dict[str, tuple[Booleans, int]]


@lru_cache(maxsize=4096)
def needed(group: OperationGroup, axis: int) -> Axis:
    """For each tensor, the indices along an axis that are made or loaded in any tiles, and how many one index reads."""
    composition = Composition(group, axis, np.ones(1, np.int64), frozenset())
    found: Axis = {}
    for name in reversed(list(group.links)):
        some = np.zeros(composition.extent(name), bool)
        window = 1
        links = group.links[name]
        if composition.is_cut(name) or not links or name in group.outputs:
            some[:] = True
        for link in links:
            if group.accumulates(link.reader):
                continue
            read = link.reads[axis]
            at = np.flatnonzero(found[link.reader.output][0])
            begin, end = read.begins(at), read.ends(at + 1)
            for start, stop in zip(begin.tolist(), end.tolist(), strict=True):
                some[max(start, 0) : max(stop, 0)] = True
            window = max(window, int((end - begin).max(initial=1)))
        found[name] = some, window
    return found


@dataclass(frozen=True)
class Least:
    """What a group does at least, wherever its tensors are.

    compute_cycles, work_pj, macs   of its work
    onchip_bytes   that operations read and write on chip
    tensors        the bytes of each that are made or loaded; windows: those of a channel that one index reads
    """

    compute_cycles: dict[str, float]
    work_pj: float
    macs: int
    onchip_bytes: int
    tensors: dict[str, int]
    windows: dict[str, int]


@lru_cache(maxsize=4096)
def least_of(group: OperationGroup, machine: Accelerator) -> Least:
    """What a group does at least."""
    rows, columns = needed(group, 1), needed(group, 2)
    compute: dict[str, float] = {}
    energy, macs, accesses = 0.0, 0, 0
    for operation, work in work_of(group):
        compute[operation.name] = work / rate_of(operation, group.graph, machine)
        energy += work * machine.work_pj(operation.cls, group.graph.tensors[operation.output].dtype)
        macs += work if operation.layer.macs else 0
        accesses += operation.weight_bytes * group.graph.images
    tensors, windows = {}, {}
    for name, links in group.links.items():
        info = group.graph.tensors[name]
        area = int(rows[name][0].sum()) * int(columns[name][0].sum())
        tensors[name] = area * info.shape[1] * info.element_bytes * group.graph.images
        windows[name] = rows[name][1] * columns[name][1] * info.element_bytes
        readers = {link.reader.name for link in links}
        accesses += tensors[name] * ((name in group.makers) + (len(readers) if name not in group.outputs else 0))
    return Least(compute, energy, macs, accesses, tensors, windows)


def compulsory(bounds: GroupBounds, loads: tuple[WeightLoads, ...]) -> tuple[BoundPoint, ...]:
    """The points of every way to load weights."""
    return tuple(point for load in loads for point in points_of(bounds, load))


def points_of(bounds: GroupBounds, load: WeightLoads) -> Iterator[BoundPoint]:
    """The points of one way to load weights."""
    group, unit = bounds.group, bounds.machine.alignment_bytes
    least = least_of(group, bounds.machine)
    fixed = int(load.weights.min())
    if not bounds.machine.accumulator_bytes:
        fixed += aligned_up(sums(bounds, load), unit)
    rings = [least.windows[name] * int(load.deepest[name].min()) for name in bounds.rings]
    smallest = fixed + sum(aligned_up(size, unit) for size in rings)
    whole = sum(least.tensors[name] for name in (*bounds.loaded, *bounds.stored)) + load.kept_bytes
    rounds = group.graph.images if load.blocks.min() > 1 else 1
    whole += rounds * group.operations[0].weight_bytes if load.in_blocks else 0
    for room, streamed in streaming(bounds, load, least.tensors):
        yield max(smallest, fixed + room), price_of(bounds, load, whole + streamed, least)


def sums(bounds: GroupBounds, load: WeightLoads) -> int:
    """The bytes of sums, at least."""
    lasting = passing = 0
    for operation in bounds.group.operations:
        deepest = int(load.deepest[operation.output].min())
        if bounds.group.accumulates(operation):
            lasting += deepest * SUM_BYTES
        elif sums_up(bounds.group, operation):
            passing = max(passing, min(deepest, bounds.machine.lanes) * SUM_BYTES)
    return lasting + passing


def streaming(bounds: GroupBounds, load: WeightLoads, tensors: dict[str, int]) -> Iterator[tuple[int, int]]:
    """Bytes of rings, and the least bytes of streamed weights with so many, or more but less than the next."""
    images, group = bounds.group.graph.images, bounds.group
    weights = {group.graph.operation(name).output: size for name, (size, _, _) in load.streams.items()}
    once = images * sum(weights.values())
    sizes = {name: tensors[name] for name in weights if name in bounds.rings and name in group.makers}
    if not sizes:
        yield 0, once
        return
    coupled = sum(isqrt(weights[name] * size) for name, size in sizes.items()) ** 2
    rooms = sorted({int(each) for each in np.geomspace(64, 64 + sum(sizes.values()), SIZES)})
    for room, larger in zip([0, *rooms], [*rooms, None], strict=True):
        rest = images * sum(size for name, size in weights.items() if name not in sizes)
        yield room, max(once, rest + coupled // larger) if larger is not None else once


def work_of(group: OperationGroup) -> Iterator[tuple[Operation, int]]:
    """The least work of each operation, in all images."""
    axes = needed(group, 1), needed(group, 2)
    for operation in group.operations:
        if group.accumulates(operation):
            parts = (part for operand in operation.operands for part in operand)
            work = sum(part.channels * prod(int(axis[part.tensor][0].sum()) for axis in axes) for part in parts)
        else:
            masks = [axis[operation.output][0] for axis in axes]
            work = sum(
                int(term[0][-1] - term[0][0])
                * prod(int(np.diff(table)[mask].sum()) for table, mask in zip(term[1:], masks, strict=True))
                for term in group.analysis.tables[operation.name].work.terms
            )
        yield operation, work * group.graph.images


def price_of(bounds: GroupBounds, load: WeightLoads, moved: int, least: Least) -> int:
    """The least objective where so many bytes move, in 1/1024 of its unit."""
    machine = bounds.machine
    pieces = bounds.group.graph.images * (len(bounds.loaded) + len(bounds.stored))
    transfers = max(0.0, machine.transfer_cycles(moved - load.kept_bytes, pieces) - load.head)
    images, streams = bounds.group.graph.images, load.streams
    compute = sum(
        max(cycles, images * streams[name][2] - load.head) if name in streams else cycles
        for name, cycles in least.compute_cycles.items()
    )
    half = np.array(transfers / 2)
    cycles = float(step_cycles(machine, np.array(compute), half, half))
    energy = moved * (machine.offchip.pj_per_byte + machine.onchip.pj_per_byte)
    energy += least.onchip_bytes * machine.onchip.pj_per_byte + least.work_pj
    if bounds.objective.goal == "peak":
        return 0
    return asked(bounds.objective.price(load.before + cycles, moved, energy, least.macs))
