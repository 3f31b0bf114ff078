"""Time several ways to compute one thing, in turns.

Enters: named calls without arguments. Leaves: a `Timing` of each, in seconds per call.
"""

import ctypes
import gc
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from polyfuse.errors import InvalidInput
from polyfuse.progress import Progress, silent

Clock = Literal["thread CPU time", "wall time"]


@dataclass(frozen=True)
class Timing:
    """Seconds per call over `repeats` samples, by the clock named; a sample is `calls` calls in a row."""

    median: float
    minimum: float
    repeats: int
    clock: Clock
    calls: int


def measure(
    runs: Mapping[str, Callable[[], None]],
    *,
    repeats: int = 11,
    min_seconds: float = 0.02,
    warmup: int = 1,
    threads: int = 1,
    progress: Progress | None = None,
) -> dict[str, Timing]:
    """Time every run `repeats` times, one sample of each per round, so that a slow spell of the host hits all alike.

    A sample repeats its call for at least `min_seconds`, after `warmup` calls that are not timed: caches hold what the
    run leaves in them, not what others left. Single calls that last so long have them before the first sample only.
    Every second round goes backwards, so that no run always follows the same other. Runs of one thread are timed by the
    CPU time of the calling thread, which is kept on the core where it is; runs that start `threads` > 1 by the wall
    clock, unpinned, because CPU time adds up over threads. The garbage collector waits meanwhile. `progress("timing",
    done, rounds)` is called before the first round and after each.

    Whatever a run raises, and an interrupt, passes through; the affinity and the collector are as before then, too.
    Errors: InvalidInput for no runs and for numbers out of range.
    """
    _check(runs, repeats, min_seconds, warmup, threads)
    clock: Clock = "thread CPU time" if threads == 1 else "wall time"
    now, report = time.thread_time if threads == 1 else time.perf_counter, progress or silent
    samples: dict[str, list[float]] = {name: [] for name in runs}
    with _collector_off(), _pinned(threads == 1):
        calls = {name: _calls_per_sample(run, min_seconds, warmup) for name, run in runs.items()}
        report("timing", 0, repeats)
        for index in range(repeats):
            order = list(runs)[:: 1 if index % 2 == 0 else -1]
            for name in order:
                if calls[name] > 1:
                    _elapsed(runs[name], warmup, now)
                samples[name].append(_elapsed(runs[name], calls[name], now) / calls[name])
            report("timing", index + 1, repeats)
    return {
        name: Timing(statistics.median(seconds), min(seconds), repeats, clock, calls[name])
        for name, seconds in samples.items()
    }


def _check(runs: Mapping[str, Callable[[], None]], repeats: int, min_seconds: float, warmup: int, threads: int) -> None:
    if not runs:
        raise InvalidInput("measure: expected at least one run, got none; name what to time")
    for name, value, least in (("repeats", repeats, 1), ("warmup", warmup, 0), ("threads", threads, 1)):
        if value < least:
            raise InvalidInput(f"measure: expected {name} of at least {least}, got {value}; raise it")
    if not 0 <= min_seconds < float("inf"):
        raise InvalidInput(f"measure: expected min_seconds of 0 or more, got {min_seconds}; 0 times single calls")


def _elapsed(run: Callable[[], None], calls: int, now: Callable[[], float]) -> float:
    start = now()
    for _ in range(calls):
        run()
    return now() - start


def _calls_per_sample(run: Callable[[], None], min_seconds: float, warmup: int) -> int:
    """How many calls in a row last `min_seconds` on the wall; by that clock because a run may hardly use the CPU."""
    _elapsed(run, warmup, time.perf_counter)
    calls = 1
    while (seconds := _elapsed(run, calls, time.perf_counter)) < min_seconds:
        wanted = calls * min_seconds / max(seconds, 1e-9)
        calls = min(10 * calls, max(calls + 1, round(1.1 * wanted)))
    return calls


@contextmanager
def _collector_off() -> Iterator[None]:
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@contextmanager
def _pinned(wanted: bool) -> Iterator[None]:
    """Keep the calling thread on one core inside the block, where the system has a way to and allows it."""
    if not wanted or not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {current_core(before)})
    except OSError:
        yield
        return
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def current_core(allowed: set[int]) -> int:
    """The core that this thread is on: two measurements at once have been given different ones."""
    try:
        core = int(ctypes.CDLL(None).sched_getcpu())
    except (AttributeError, OSError):
        return max(allowed)
    return core if core in allowed else max(allowed)
