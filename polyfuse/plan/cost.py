"""A time model: from exact counts of work to seconds, with few numbers for a machine.

    Work + Machine ──seconds()──> Seconds

    compute   vector operations of each kind of row kernel x their cost  + chunks begun x cost  + calls x cost
    memory    bytes that come from L2, L3 and DRAM, read and written, x cost  + separate runs of bytes x cost

Both add up: what overlaps is in the fitted costs. Where a row comes from is told by the bytes touched since it was last
touched (`plan.reuse`): half of a cache's bytes away it is still there, all of them away it is gone, and in between in
proportion. docs/model.md has the reasons and the errors.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from polyfuse.plan.machine import Costs, Machine
from polyfuse.plan.reuse import Touches

KEPT = 0.5
"""The share of a cache below which everything that was touched is still there."""


@dataclass(frozen=True)
class KernelWork:
    """All executions of one row kernel in a run.

    macs      multiply-accumulates of the layer; taps that meet padding are none
    vectors   operations on whole vectors, empty lanes included; of a scalar leaf its executions
    chunks    chunks of columns that are begun
    threads   whether threads can share the executions
    """

    name: str
    kind: str
    calls: int
    macs: int
    vectors: float
    chunks: int
    threads: bool = False


@dataclass(frozen=True, eq=False)
class Work:
    """What one run does: its kernels, and the rows that they touch in order of time."""

    kernels: tuple[KernelWork, ...]
    touches: Touches

    @property
    def macs(self) -> int:
        """Multiply-accumulates executed."""
        return sum(kernel.macs for kernel in self.kernels)

    @property
    def calls(self) -> int:
        """Row kernels called."""
        return sum(kernel.calls for kernel in self.kernels)


@dataclass(frozen=True)
class Seconds:
    """What a run takes, in parts that add up."""

    compute: Mapping[str, float]
    memory: Mapping[str, float]

    @property
    def total(self) -> float:
        """All of it."""
        return sum(self.compute.values()) + sum(self.memory.values())

    def __str__(self) -> str:
        parts = {**self.compute, **self.memory}
        shown = ", ".join(f"{name} {1e3 * value:.3g}" for name, value in parts.items() if value)
        return f"{1e3 * self.total:.4g} ms ({shown})"


def seconds(work: Work, machine: Machine, threads: int = 1) -> Seconds:
    """What a run takes, by the costs in the machine file; what it has none for is guessed from peak and bandwidths.

    With threads, what they can share of the computing is divided by their number, and bandwidths grow as measured.
    """
    guess = guessed_costs(machine)
    costs = machine.costs or guess
    amounts = features(work, machine, costs.held_bytes, threads)
    known = {**guess.compute, **costs.compute}
    compute = {name: amounts[name] * ns * 1e-9 for name, ns in known.items() if name in amounts}
    memory = {name: amounts[name] * ns * 1e-9 for name, ns in costs.memory.items() if name in amounts}
    return Seconds(compute, memory)


def features(work: Work, machine: Machine, held: Mapping[str, int], threads: int = 1) -> dict[str, float]:
    """The amounts that costs are multiplied with: `direct` and other kinds in vectors, `L3 read` and so on in bytes."""
    amounts: dict[str, float] = {}

    def add(name: str, amount: float) -> None:
        amounts[name] = amounts.get(name, 0.0) + amount

    for kernel in work.kernels:
        share = threads if kernel.threads else 1
        add(kernel.kind, kernel.vectors / share)
        add("chunk", kernel.chunks / share)
        add("call", kernel.calls / share)
    sharing = threads > 1 and all(kernel.threads for kernel in work.kernels)
    for name, amount in traffic(work.touches, machine, held).items():
        add(name, amount / (gain(machine, name.split()[0], threads) if sharing else 1))
    return amounts


def gain(machine: Machine, level: str, threads: int) -> float:
    """How much more of a level so many threads get than one."""
    found = next((each for each in machine.levels if each.name == level), machine.dram)
    most = found.all_cores.copy_gb_per_second / found.one_core.copy_gb_per_second
    return max(1.0, min(threads, most))


def traffic(touches: Touches, machine: Machine, held: Mapping[str, int]) -> dict[str, float]:
    """Bytes by the level that they come from, and separate runs of bytes; L1 is free."""
    away = touches.away
    missed = [missing(away, held.get(level.name, level.capacity_bytes)) for level in machine.caches]
    found: dict[str, float] = {}
    for index, level in enumerate(machine.levels[1:], 1):
        beyond = missed[index] if index < len(missed) else np.zeros(len(away))
        share = np.maximum(0.0, missed[index - 1] - beyond)
        moved = touches.bytes * share
        found[f"{level.name} read"] = float(moved[~touches.writes].sum())
        found[f"{level.name} write"] = float(moved[touches.writes].sum())
        found[f"{level.name} run"] = float((touches.runs * share).sum())
    return found


def missing(away: NDArray[np.int64], held_bytes: int) -> NDArray[np.float64]:
    """The share of touches at such distances that a cache does not serve.

    >>> missing(np.array([100, 600, 1000]), 800).tolist()
    [0.0, 0.5, 1.0]
    """
    return np.clip((away / held_bytes - KEPT) / (1 - KEPT), 0.0, 1.0)


GUESSED_KINDS = {"stencil": 0.9, "max_pool": 1.5, "scalar": 4.0}
"""How many times as long as a multiply-add, at best, a vector operation of these kinds takes; others 1.1 times."""
KINDS = (
    *("direct", "grouped", "few_channels", "depthwise", "stencil", "max_pool", "average_pool", "add", "mul"),
    *("apply", "lrn", "gather", "to_blocked", "to_planar", "winograd", "scalar"),
)
CHUNK_CYCLES, CALL_CYCLES, RUN_CYCLES = 30, 60, 30
OVERLAPPED = 0.5
"""The share of a level's time that is not hidden behind computing, as a guess."""


def guessed_costs(machine: Machine) -> Costs:
    """Costs from what the probe measured, for a machine that was not fitted; the fit starts from them."""
    vector = 2 * machine.vector_bytes / 4 / machine.peak.gflop_per_second
    cycle = 1 / machine.clock_ghz
    compute = {kind: GUESSED_KINDS.get(kind, 1.1) * vector for kind in KINDS}
    compute |= {"chunk": CHUNK_CYCLES * cycle, "call": CALL_CYCLES * cycle}
    memory = {}
    for level in machine.levels[1:]:
        rates = level.one_core
        memory[f"{level.name} read"] = OVERLAPPED / rates.read_gb_per_second
        memory[f"{level.name} write"] = 2 * OVERLAPPED / rates.write_gb_per_second
        memory[f"{level.name} run"] = RUN_CYCLES * cycle * (1 if level is machine.dram else 0.2)
    return Costs(compute, memory, {level.name: level.capacity_bytes for level in machine.caches})
