"""Host time: from exact counts of work to seconds, with few numbers for a machine; Winograd's transforms included.

    Work + Machine ──seconds()──> Seconds

    of each kernel
    compute   vector operations x the cost of their kind  + chunks begun x cost  + calls x cost
    memory    bytes that come from L2, L3 and DRAM, read and written, x cost  + separate runs of bytes x cost
    time      sqrt(compute^2 + memory^2)

One of the two hides behind the other where it is much the smaller; where they are alike, they add up to 1.4 of each.
Where a row comes from follows from the bytes touched since it was last touched (`cost.reuse`): half of a cache's bytes
away it is still there, all of them away it is gone, and in between in proportion. docs/use/model.md has the
reasons and the errors.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from polyfuse.cost.reuse import Touches
from polyfuse.machines.host import Costs, Machine

Floats = NDArray[np.float64]
PLAIN_COST, SCALAR_COST = 1.1, 4.0
"""What a vector operation, and an execution of scalar code, takes in multiply-adds of vectors, as a guess."""
KEPT = 0.5
"""The share of a cache below which everything that was touched is still there."""


@dataclass(frozen=True)
class KernelWork:
    """All executions of one row kernel in a run.

    macs        multiply-accumulates of the layer; taps that meet padding are none
    vectors     operations on whole vectors, empty lanes included; the executions of a scalar kernel
    chunks      chunks of columns that are begun
    threads     whether threads can share the executions
    transforms  operations of Winograd's transforms, which `vectors` leaves out
    again       bytes that calls read again and again, and the bytes that are touched between two reads
    relative_cost  a guess, for kinds that were not fitted: a vector operation in multiply-adds of vectors at their best
    """

    name: str
    kind: str
    calls: int
    macs: int
    vectors: float
    chunks: int
    threads: bool = False
    transforms: float = 0.0
    again: tuple[tuple[int, int], ...] = ()
    relative_cost: float = PLAIN_COST


@dataclass(frozen=True, eq=False)
class Work:
    """The work of one run: its kernels, and the rows that they touch in order of time."""

    kernels: tuple[KernelWork, ...]
    touches: Touches

    @property
    def relative_costs(self) -> dict[str, float]:
        """The kinds of its kernels, with the guess of what a vector operation of each costs."""
        return {kernel.kind: kernel.relative_cost for kernel in self.kernels}

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
    """The time of a run in parts that add up: a kernel's is shared out by the squares of computing and memory."""

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


@dataclass(frozen=True, eq=False)
class Amounts:
    """The amounts that costs are multiplied with.

    compute    `[kernel, cost]`: vectors by kind, chunks and calls
    memory     `[kernel, cost]`: bytes read and written, and runs of bytes, by level
    """

    compute: Floats
    memory: Floats

    def linearised(self, compute_ns: Floats, memory_ns: Floats) -> tuple[Floats, Floats]:
        """The time in nanoseconds as a linear function of the costs, exact at these costs: the factor of each.

        The root of a sum of squares is the sum of its terms, each weighed by its share of the root.
        """
        computing, moving = self.compute @ compute_ns, self.memory @ memory_ns
        root = np.maximum(np.hypot(computing, moving), np.finfo(float).tiny)
        return (computing / root) @ self.compute, (moving / root) @ self.memory


def seconds(work: Work, machine: Machine, threads: int = 1) -> Seconds:
    """The time of a run by the costs in the machine file; those it lacks are guessed from peak and bandwidths.

    With threads, what they can share of the computing is divided by their number, and bandwidths grow as measured.
    """
    guess = guessed_costs(machine, work.relative_costs)
    costs = machine.costs or guess
    compute_ns, memory_ns = (
        np.array([found.get(name, ns) for name, ns in known.items()])
        for known, found in zip(guess.parts, costs.parts, strict=True)
    )
    computing, moving = amounts(work, machine, costs.held_bytes, tuple(guess.compute), threads).linearised(
        compute_ns, memory_ns
    )
    compute = zip(guess.compute, 1e-9 * computing * compute_ns, strict=True)
    memory = zip(guess.memory, 1e-9 * moving * memory_ns, strict=True)
    return Seconds(*({name: float(value) for name, value in part if value} for part in (compute, memory)))


def amounts(
    work: Work, machine: Machine, held: Mapping[str, int], computing: Sequence[str], threads: int = 1
) -> Amounts:
    """What costs are multiplied with: those of computing by name, those of memory in the order of `guessed_costs`."""
    compute = np.zeros((len(work.kernels), len(computing)))
    for row, kernel in zip(compute, work.kernels, strict=True):
        share = threads if kernel.threads else 1
        parts = {kernel.kind: kernel.vectors, "transform": kernel.transforms}
        parts |= {"chunk": kernel.chunks, "call": kernel.calls}
        for name, amount in parts.items():
            row[computing.index(name)] = amount / share
    memory = traffic(work, machine, held)
    if threads > 1 and all(kernel.threads for kernel in work.kernels):
        memory /= np.repeat([gain(machine, level.name, threads) for level in machine.levels[1:]], len(MOVING))
    return Amounts(compute, memory)


def gain(machine: Machine, level: str, threads: int) -> float:
    """How much more of a level so many threads get than one."""
    found = next((each for each in machine.levels if each.name == level), machine.dram)
    most = found.all_cores.copy_gb_per_second / found.one_core.copy_gb_per_second
    return max(1.0, min(threads, most))


def traffic(work: Work, machine: Machine, held: Mapping[str, int]) -> Floats:
    """`[kernel, level x (read, write, run)]`: bytes by the level that they come from, and runs of bytes; L1 is free."""
    touches, kernels = work.touches, np.arange(len(work.kernels))
    again = np.array([each for kernel in work.kernels for each in kernel.again], np.int64).reshape(-1, 2)
    owners = np.concatenate([touches.kernels, np.repeat(kernels, [len(kernel.again) for kernel in work.kernels])])
    away = np.concatenate([touches.away, again[:, 1]])
    nothing = np.zeros(len(again), np.int64)
    moved = (
        np.concatenate([touches.bytes * ~touches.writes, again[:, 0]]),
        np.concatenate([touches.bytes * touches.writes, nothing]),
        np.concatenate([touches.runs, nothing]),
    )
    caches = [missing(away, held.get(level.name, level.capacity_bytes)) for level in machine.caches]
    found = []
    for missed, beyond in pairwise([*caches, np.zeros(len(away))]):
        share = np.maximum(0.0, missed - beyond)
        found += [np.bincount(owners, amount * share, len(kernels)) for amount in moved]
    return np.column_stack(found).astype(np.float64)


def missing(away: NDArray[np.int64], held_bytes: int) -> NDArray[np.float64]:
    """The share of touches at such distances that a cache does not serve.

    >>> missing(np.array([100, 600, 1000]), 800).tolist()
    [0.0, 0.5, 1.0]
    """
    return np.clip((away / held_bytes - KEPT) / (1 - KEPT), 0.0, 1.0)


MOVING = ("read", "write", "run")
CHUNK_CYCLES, CALL_CYCLES, RUN_CYCLES = 30, 60, 30
OVERLAPPED = 0.5
"""The share of a level's time that is not hidden behind computing, as a guess."""


def guessed_costs(machine: Machine, relative: Mapping[str, float]) -> Costs:
    """Costs from what the probe measured, for a machine that was not fitted; the fit starts from them.

    `relative` has the kinds of kernels, and what a vector operation of each takes in multiply-adds at their best.
    """
    vector = 2 * machine.vector_bytes / 4 / machine.peak.gflop_per_second
    cycle = 1 / machine.clock_ghz
    compute = {kind: cost * vector for kind, cost in {**relative, "transform": PLAIN_COST}.items()}
    compute |= {"chunk": CHUNK_CYCLES * cycle, "call": CALL_CYCLES * cycle}
    memory: dict[str, float] = {}
    for level in machine.levels[1:]:
        rates, run = level.one_core, RUN_CYCLES * cycle * (1 if level is machine.dram else 0.2)
        costs = (OVERLAPPED / rates.read_gb_per_second, 2 * OVERLAPPED / rates.write_gb_per_second, run)
        memory |= {f"{level.name} {what}": cost for what, cost in zip(MOVING, costs, strict=True)}
    return Costs(compute, memory, {level.name: level.capacity_bytes for level in machine.caches})
