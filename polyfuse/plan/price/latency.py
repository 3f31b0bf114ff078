"""Scratchpad time: the cycles of transfers, operations and steps; docs/use/accelerators.md has it in words.

    work / rate_of()        cycles that an operation computes, idle_factor() times as many where lanes are idle
    transfer_cycles()       cycles of a transfer (`Accelerator`)
    compute_time()          cycles of the operations of a step, and how they wait for weights that are streamed
    overlapped()            in which step a transfer runs, and what of it no step hides
    step_cycles()           cycles that a step takes

The search (costs.py), the timeline and the prefetch of weights (early.py) add these up; bounds.py calls `step_cycles`
with sums over steps, which is never above the sum of its results. The simulator in codegen/scratchpad/ uses none of it.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from polyfuse.machines.accelerator import Accelerator
from polyfuse.plan.graph.access import Integers
from polyfuse.plan.graph.operations import Graph, Operation
from polyfuse.plan.tiles.axis import Booleans

Numbers = NDArray[np.float64]


def rate_of(operation: Operation, graph: Graph, machine: Accelerator) -> float:
    """The work that an operation does in a cycle with no lane idle.

    Errors: InvalidInput where the machine does not compute with the type.
    """
    return machine.rate(operation.cls, graph.tensors[operation.output].dtype)


def idle_factor(channels: Integers, machine: Accelerator) -> Numbers:
    """How many times as long multiply-accumulates take in blocks of output channels that leave lanes idle."""
    return np.asarray(-(-channels // machine.lanes) * machine.lanes / channels)


def overlapped(machine: Accelerator, cycles: Numbers, starts: Integers, loaded: bool) -> tuple[Numbers, Numbers]:
    """Cycles of transfers by the step that they run with, and cycles before the first step or after the last one.

    With double buffering, what a step needs is loaded during the step before and what it makes is stored during the
    step after. The steps of several tiles follow each other; `starts` are the first ones.
    """
    if not machine.double_buffer:
        return cycles, np.zeros(len(starts))
    ends = np.append(starts[1:], len(cycles)) - 1
    during = np.append(cycles[1:], 0.0) if loaded else np.append(0.0, cycles[:-1])
    during[ends if loaded else starts] = 0.0
    return during, cycles[starts if loaded else ends]


def step_cycles(machine: Accelerator, compute: Numbers, loads: Numbers, stores: Numbers) -> Numbers:
    """Cycles of a step, or at least those of many steps by their sums: of computing, and of transfers that run with it.

    >>> from polyfuse.machines.accelerator import accelerator
    >>> each = np.array([100.0, 10.0]), np.array([30.0, 30.0]), np.array([20.0, 20.0])
    >>> step_cycles(accelerator("npu"), *each).tolist(), step_cycles(accelerator("mcu-320k"), *each).tolist()
    ([100.0, 50.0], [150.0, 60.0])
    """
    if not machine.double_buffer:
        return np.asarray(compute + loads + stores)
    return np.maximum(compute, np.maximum(loads, stores) if machine.dma_engines == 2 else loads + stores)


@dataclass(frozen=True, eq=False)
class OperationTime:
    """An operation in each step; arrays have shape (tiles, steps).

    cycles   of its work
    runs     whether it runs
    blocks   of its weights, where they are streamed: the part of the work of each, and the cycles of its transfer
    """

    cycles: Numbers
    runs: Booleans
    blocks: tuple[tuple[float, float], ...]


@dataclass(frozen=True, eq=False)
class ComputeTime:
    """The cycles of the operations of each step; arrays have shape (tiles, steps).

    compute  from the first operation to the end of the last one
    weights  of transfers of streamed weights that run with the step; before: (tiles,), with no step, of the first block
    waits    of computing that follows all other transfers of the step, without those of `weights`
    """

    before: Numbers
    compute: Numbers
    weights: Numbers
    waits: Numbers


def compute_time(machine: Accelerator, operations: Sequence[OperationTime]) -> ComputeTime:
    """The operations of a group in each step, one after the other.

    With double buffering, an operation with a block of streamed weights takes the longer of its work and the transfer
    of the next block, of its own or of the next operation that runs. That transfer comes after the other ones of the
    step, but for the second block where the group's first operation is streamed. So of all cycles, those from there on
    follow the other transfers: `weights` and `waits` are their sum. `step_cycles` takes both for loads.

    >>> from polyfuse.machines.accelerator import accelerator
    >>> runs = np.array([[True, True]])
    >>> time = compute_time(accelerator("npu"), [OperationTime(90.0 * runs, runs, ((0.5, 30.0), (0.5, 60.0)))])
    >>> time.before.tolist(), time.compute.tolist(), time.weights.tolist(), time.waits.tolist()
    ([30.0], [[105.0, 105.0]], [[90.0, 60.0]], [[0.0, 0.0]])
    """
    none = np.zeros(operations[0].cycles.shape)
    if not machine.double_buffer:
        compute = sum((each.cycles for each in operations), none)
        loads = (np.where(each.runs, sum(load for _, load in each.blocks), 0.0) for each in operations)
        return ComputeTime(none[:, 0], compute, sum(loads, none), none)
    needed, following = _following(operations)
    compute, free, sooner, weights = none, none, none, none
    begun, delayed = none > 0, none > 0
    for number, (each, behind) in enumerate(zip(operations, following, strict=True)):
        cycles = each.cycles
        if each.blocks:
            shares, transfers = zip(*each.blocks, strict=True)
            work, ahead = each.cycles * shares[-1], 2 if number == 0 else 1
            pairs = [*zip(shares, transfers[1:], strict=False), (shares[-1], behind)]
            cycles = np.maximum(work, behind)
            for (share, load), count in Counter(pairs[:-1]).items():
                cycles = cycles + count * np.maximum(each.cycles * share, load)
            spare = sum(np.maximum(each.cycles * share - load, 0.0) for share, load in pairs[:ahead])
            first = each.runs & ~begun
            begun, delayed = begun | first, delayed | (first & ((behind > 0) | (len(transfers) > ahead)))
            free, sooner = np.where(first, compute + spare, free), np.where(first, sum(transfers[1:ahead]), sooner)
            weights, cycles = weights + each.runs * sum(transfers), np.where(each.runs, cycles, 0.0)
        compute = compute + cycles
    weights = weights + np.where(begun, needed[:, 1:] - needed[:, :-1], 0.0)
    return ComputeTime(needed[:, 0], compute, weights, np.where(delayed, compute - free, sooner) - weights)


def _following(operations: Sequence[OperationTime]) -> tuple[Numbers, list[Numbers]]:
    """The cycles of the transfers of first blocks of streamed weights; 0 where there is none.

    (tiles, steps + 1): of the one that is needed first from a step on; and for each operation, in each step, of the one
    that comes while it works with its last block.
    """
    tiles, steps = operations[0].runs.shape
    streamed = [(each, each.blocks[0][1] if each.blocks else 0.0) for each in operations]
    first = np.zeros((tiles, steps + 1))
    for each, load in reversed(streamed):
        if load:
            first[:, :-1][each.runs] = load
    at = np.where(first > 0, np.arange(steps + 1), steps)
    needed = np.take_along_axis(first, np.minimum.accumulate(at[:, ::-1], axis=1)[:, ::-1], axis=1)
    behind, found = needed[:, 1:], []
    for each, load in reversed(streamed):
        found.append(behind)
        behind = np.where(each.runs, load, behind) if load else behind
    return needed, found[::-1]
