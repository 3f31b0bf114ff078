"""The timeline of a plan: loads, computation and stores of every step of its groups, and the bytes of each tensor.

    ScratchPlan + Graph ──timeline()──> (GroupTime, ...), one for each group

The cycles are those of latency.py; they add up to the figures of the plan.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from polyfuse.machines.accelerator import Accelerator
from polyfuse.plan.graph.group import group_of
from polyfuse.plan.graph.operations import Graph
from polyfuse.plan.price.costs import tiled_group
from polyfuse.plan.price.latency import overlapped, step_cycles
from polyfuse.plan.scratchplan import PlannedGroup, ScratchPlan

Cycles = NDArray[np.float64]
Lane = Literal["load", "compute", "store"]


@dataclass(frozen=True, eq=False)
class GroupTime:
    """One group: the cycles of its steps, and the bytes that it moves.

    start    cycles from the start of the plan
    before   cycles of loads before the first step: tensors that are fetched whole, weights
    load     (steps,): of feature maps and blocks of weights that a step needs
    weights  (steps,): of weights that are streamed meanwhile, or prefetched for the next group
    waits    (steps,): of computing with streamed weights that waits for all transfers of the step
    compute, store   (steps,)
    loaded, stored   bytes by tensor; `weight_bytes`: all weights that are loaded
    """

    start: float
    before: float
    load: Cycles
    weights: Cycles
    waits: Cycles
    compute: Cycles
    store: Cycles
    loaded: Mapping[str, int]
    stored: Mapping[str, int]
    weight_bytes: int
    machine: Accelerator

    @property
    def steps(self) -> int:
        """How many steps there are."""
        return len(self.compute)

    def prefetching(self, step: int, cycles: float) -> "GroupTime":
        """The same with more weights prefetched while a step runs."""
        weights = self.weights.copy()
        weights[step] += cycles
        return replace(self, weights=weights)

    @property
    def cycles(self) -> float:
        """From the first transfer to the last."""
        return float(self.first + self.lasting.sum() + self.storing[1])

    @property
    def end(self) -> float:
        """Cycles from the start of the plan."""
        return self.start + self.cycles

    @property
    def compute_cycles(self) -> float:
        """How long the unit computes."""
        return float(self.compute.sum())

    @property
    def dma_cycles(self) -> float:
        """How long the busier DMA engine moves something."""
        loads = self.before + float((self.load + self.weights).sum())
        stores = float(self.store.sum())
        return loads + stores if self.machine.dma_engines == 1 else max(loads, stores)

    @property
    def bound(self) -> Literal["dma", "compute"]:
        """Which of both is busy for longer."""
        return "dma" if self.dma_cycles > self.compute_cycles else "compute"

    @property
    def first(self) -> float:
        """Cycles from the start of the group to its first step."""
        return self.before + self.loading[1]

    @cached_property
    def loading(self) -> tuple[Cycles, float]:
        """(steps,): cycles of the loads that run with each step; and those of the loads before the first one."""
        during, (before,) = overlapped(self.machine, self.load, np.zeros(1, np.int64), True)
        return self.weights + during, float(before)

    @cached_property
    def storing(self) -> tuple[Cycles, float]:
        """(steps,): cycles of the stores that run with each step; and those of the stores after the last one."""
        during, (after,) = overlapped(self.machine, self.store, np.zeros(1, np.int64), False)
        return during, float(after)

    @cached_property
    def lasting(self) -> Cycles:
        """(steps,): how long each step takes."""
        return step_cycles(self.machine, self.compute, self.loading[0] + self.waits, self.storing[0])

    @cached_property
    def spans(self) -> dict[Lane, NDArray[np.float64]]:
        """For loads, computation and stores, arrays of (start, cycles), counted from the start of the plan."""
        begin = self.start + self.first + np.append(0.0, np.cumsum(self.lasting)[:-1])
        (loads, _), (stores, last) = self.loading, self.storing
        computing = begin if self.machine.double_buffer else begin + loads
        storing = begin if self.machine.dma_engines == 2 else begin + loads
        storing = storing if self.machine.double_buffer else computing + self.compute
        return {
            "load": _spans([self.start, self.first], begin, loads),
            "compute": _spans([self.start, 0.0], computing, self.compute),
            "store": _spans([self.end - last, last], storing, stores),
        }


def timeline(plan: ScratchPlan, graph: Graph) -> tuple[GroupTime, ...]:
    """The groups of a plan in time. Errors: InvalidInput for tiles that groups cannot be cut in."""
    times = timed(plan.groups, graph, plan.machine)
    starts = accumulate((each.cycles for each in times), initial=0.0)
    return tuple(replace(each, start=start) for each, start in zip(times, starts, strict=False))


def timed(groups: Sequence[PlannedGroup], graph: Graph, machine: Accelerator) -> tuple[GroupTime, ...]:
    """Groups that run one after the other, each as if it began at 0, with prefetched weights."""
    times = [group_time(group, graph, machine) for group in groups]
    for index, group in enumerate(groups):
        for name, step in group.early.items():
            cycles = machine.transfer_cycles(graph.operation(name).weight_bytes)
            times[index] = replace(times[index], before=times[index].before - cycles)
            times[index - 1] = times[index - 1].prefetching(step, cycles)
    return tuple(times)


def group_time(group: PlannedGroup, graph: Graph, machine: Accelerator) -> GroupTime:
    """One group, as if it were alone, without prefetch."""
    tile = group.tile
    tiled = tiled_group(group_of(graph, group.operations), tile, [tile.rows], machine)
    measures = tiled.measures
    computing = tiled.computing
    loads = {n: measures.transfers(n, loaded=True) for n, source in group.sources.items() if source == "off"}
    stores = {
        n: measures.transfers(n, loaded=False, ring=sink == "off") for n, sink in group.sinks.items() if sink != "on"
    }
    fetched = {name: graph.tensors[name].bytes for name in group.fetched}
    none = np.zeros(tiled.block_cycles.shape[1])
    return GroupTime(
        0.0,
        float(computing.before[0]) + tiled.kept_cycles + sum(map(machine.transfer_cycles, fetched.values())),
        tiled.block_cycles[0] + sum((each.cycles[0] for each in loads.values()), none),
        computing.weights[0],
        computing.waits[0],
        computing.compute[0],
        sum((each.cycles[0] for each in stores.values()), none),
        {**fetched, **{name: int(each.bytes[0]) for name, each in loads.items()}},
        {name: int(each.bytes[0]) for name, each in stores.items()},
        int(tiled.weight_bytes[0]),
        machine,
    )


def _spans(outside: list[float], start: Cycles, cycles: Cycles) -> NDArray[np.float64]:
    spans = np.concatenate([[outside], np.stack([start, cycles], axis=1)])
    return np.asarray(spans[spans[:, 1] > 0])
