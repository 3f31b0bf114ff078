"""Halide: a network compiled under many schedules; the fastest is kept.

Inputs and outputs have their channels innermost, or are [c, h, w] planes where all contenders take these.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyfuse.bench.peers.contender import PeerSettings, Prepared, Values
from polyfuse.bench.peers.halide_schedules import HalideSchedule, Scheduler, first_plans, refinements
from polyfuse.bench.peers.halide_stages import HalideStages, is_padded
from polyfuse.codegen.kernel import aligned_copy
from polyfuse.network.network import Network

SAMPLE_SECONDS = 0.05
MOST_SAMPLES = 15
FINALISTS = 5
ROUNDS_OF_REFINEMENT = 2


@dataclass(frozen=True)
class TimedSchedule:
    """A plan that was compiled and timed."""

    plan: HalideSchedule
    run: Callable[[], object]
    seconds: float


def prepare(network: Network, inputs: Values, settings: PeerSettings) -> Prepared:
    """The best schedule found within `search_seconds`: first kinds and tiles, then innermost loops of the best."""
    nchw = settings.interface == "nchw"
    given = [aligned_copy(interface(inputs[tensor.name][0], nchw)) for tensor in network.inputs]
    shapes = [tensor.concrete_shape[1:] for tensor in network.outputs]
    made = [aligned_copy(interface(np.zeros(shape, np.float32), nchw)) for shape in shapes]
    search = Search(network, [*given, *made], settings, time.monotonic() + settings.search_seconds)
    search.all()
    best = search.winner or search.best()
    names = [tensor.name for tensor in network.outputs]
    return Prepared(
        best.run,
        lambda: {
            name: (value if nchw else value.transpose(2, 0, 1))[np.newaxis]
            for name, value in zip(names, made, strict=True)
        },
        "nchw" if nchw else "channels last",
        f"{best.plan}; best of {len(search.tried)}",
    )


class Search:
    """Compiles and times plans until the time is over."""

    def __init__(
        self, network: Network, arrays: list[NDArray[np.float32]], settings: PeerSettings, deadline: float
    ) -> None:
        self.network, self.settings, self.deadline = network, settings, deadline
        self.hl: Any = import_module("halide")
        self.buffers = [self.hl.Buffer(array) for array in arrays]
        self.clock = time.process_time if settings.threads == 1 else time.perf_counter
        self.tried: list[TimedSchedule] = []
        self.winner: TimedSchedule | None = None
        self.seen: set[HalideSchedule] = set()
        self.refused: list[str] = []

    def all(self) -> None:
        """Try the table, then variations of the best until none is better."""
        *_, rows, columns = self.network.outputs[-1].concrete_shape
        nchw = self.settings.interface == "nchw"
        padded = any(map(is_padded, self.network.layers))
        for plan in first_plans(rows, columns, fusible=len(self.network.outputs) == 1, padded=padded):
            self.attempt(replace(plan, staged=nchw))
        for _ in range(ROUNDS_OF_REFINEMENT):
            best = self.best().plan
            for plan in refinements(best):
                self.attempt(plan)
            if self.best().plan == best:
                break
        finalists = sorted(self.tried, key=lambda tried: tried.seconds)[:FINALISTS]
        times = [[seconds_of(each.run, self.clock) for each in finalists] for _ in range(3)]
        self.winner = min(zip(map(min, zip(*times, strict=True)), finalists, strict=True), key=lambda pair: pair[0])[1]

    def attempt(self, plan: HalideSchedule) -> None:
        """Compile and time one plan, unless it was seen or the time is over; the first is always tried."""
        if plan in self.seen or (self.tried and time.monotonic() > self.deadline):
            return
        self.seen.add(plan)
        try:
            run = self.compiled(plan)
            self.tried.append(TimedSchedule(plan, run, seconds_of(run, self.clock)))
        except (RuntimeError, self.hl.HalideError) as error:
            self.refused.append(f"{plan}: {error}")

    def compiled(self, plan: HalideSchedule) -> Callable[[], object]:
        """The call of a plan."""
        target = self.hl.get_host_target()
        stages = HalideStages(self.network, self.settings.interface == "nchw", plan.staged, plan.inward, self.hl)
        lanes = target.natural_vector_size(self.hl.Float(32))
        functions = Scheduler(stages, plan, self.settings.threads, lanes).apply()
        call = self.hl.Pipeline(functions).compile_to_callable(stages.parameters, target)
        return partial(call_keeping, call, self.buffers, stages.constants)

    def best(self) -> TimedSchedule:
        """The fastest so far."""
        if not self.tried:
            raise RuntimeError(f"no schedule works; {self.refused[0] if self.refused else 'none was tried'}")
        return min(self.tried, key=lambda tried: tried.seconds)


def call_keeping(call: Callable[..., object], buffers: Sequence[Any], constants: Sequence[object]) -> object:
    """Call compiled code on its buffers; its constants stay in memory as long as the call can be made."""
    return call(*buffers)


def seconds_of(run: Callable[[], object], clock: Callable[[], float]) -> float:
    """The shortest of a few runs, after one that is not timed: others who use the host can only make a run longer."""
    run()
    samples: list[float] = []
    while len(samples) < MOST_SAMPLES and (len(samples) < 3 or sum(samples) < SAMPLE_SECONDS):
        start = clock()
        run()
        samples.append(clock() - start)
    return min(samples)


def interface(value: NDArray[np.float32], nchw: bool) -> NDArray[np.float32]:
    """[c, h, w] as it lies at the interface."""
    return value if nchw else value.transpose(1, 2, 0)
