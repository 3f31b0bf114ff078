"""Scratchpad time: the cycles of transfers, operations and steps; docs/use/accelerators.md has it in words.

    work / rate_of()        cycles that an operation computes, idle_factor() times as many where lanes are idle
    transfer_cycles()       cycles of a transfer (`Accelerator`)
    overlapped()            in which step a transfer runs, and what of it no step hides
    step_cycles()           cycles that a step takes

The search (costs.py), the timeline and the prefetch of weights (early.py) add these up; bounds.py calls `step_cycles`
with sums over steps, which is never above the sum of its results. The simulator in codegen/scratchpad/ uses none of it.
"""

import numpy as np
from numpy.typing import NDArray

from polyfuse.machines.accelerator import Accelerator
from polyfuse.plan.graph.access import Integers
from polyfuse.plan.graph.operations import Graph, Operation

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
