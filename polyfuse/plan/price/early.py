"""Prefetch of weights: those that stay for a whole group are loaded while the group before it computes.

    groups of a plan ──best_moments()──> for each, {operation: step of the group before}

The search prices every group by itself. What a group loads before its first step can be hidden behind steps of the
group before that compute for longer than they transfer, as long as both fit on chip. The weights of each operation
are loaded in the step that they lengthen least, the largest first; a step still waits for all its loads.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from polyfuse.machines.accelerator import Accelerator
from polyfuse.plan.graph.group import group_of
from polyfuse.plan.graph.operations import Graph
from polyfuse.plan.price.costs import tiled_group
from polyfuse.plan.price.timeline import GroupTime, group_time
from polyfuse.plan.scratchplan import PlannedGroup

Moments = Mapping[str, int]
"""For operations of a group, the step of the group before in which their weights are prefetched."""


def kept_weights(group: PlannedGroup, graph: Graph, machine: Accelerator) -> dict[str, int]:
    """The bytes of the weights of operations that are loaded before the group's first step, and stay."""
    tile = group.tile
    tiled = tiled_group(group_of(graph, group.operations), tile, [tile.rows], machine)
    return {operation.name: operation.weight_bytes for operation in tiled.kept}


def best_moments(
    groups: Sequence[PlannedGroup], graph: Graph, machine: Accelerator, fits: Callable[[Sequence[Moments]], bool]
) -> tuple[Moments, ...]:
    """For each group the moments that save cycles and fit on chip, those that save most first.

    fits: whether buffers find addresses with such moments.
    """
    found: list[Moments] = [{} for _ in groups]
    if not machine.double_buffer:
        return tuple(found)
    times = [group_time(group, graph, machine) for group in groups]
    wanted = []
    for index in range(1, len(groups)):
        moments, saved = _moments(kept_weights(groups[index], graph, machine), times[index - 1], machine)
        if moments:
            wanted.append((saved, index, moments))
    for _, index, moments in sorted(wanted, key=lambda each: (-each[0], each[1])):
        names = list(moments)
        for count in range(len(names), 0, -1):
            tried = [*found[:index], {name: moments[name] for name in names[:count]}, *found[index + 1 :]]
            if fits(tried):
                found = tried
                break
    return tuple(found)


def _moments(weights: Mapping[str, int], before: GroupTime, machine: Accelerator) -> tuple[Moments, float]:
    """The step of the group before that the weights of each operation lengthen least, and the cycles saved in all."""
    moments: dict[str, int] = {}
    saved, time = 0.0, before
    for name, size in sorted(weights.items(), key=lambda each: (-each[1], each[0])):
        cycles = machine.transfer_cycles(size)
        longer = np.array([time.prefetching(step, cycles).cycles for step in range(time.steps)]) - time.cycles
        step = int(longer.argmin())
        if longer[step] < cycles:
            moments[name] = step
            saved += cycles - longer[step]
            time = time.prefetching(step, cycles)
    return moments, saved
