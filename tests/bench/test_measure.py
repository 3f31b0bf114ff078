"""Timing: order, clocks, and that nothing of the measurement stays behind."""

import gc
import os
import time
from collections.abc import Iterator

import numpy as np
import pytest

from polyfuse.bench.measure import measure
from polyfuse.errors import InvalidInput

needs_affinity = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no affinity")


def spin(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


@pytest.fixture(autouse=True)
def nothing_stays_behind() -> Iterator[None]:
    """Every test leaves the affinity and the collector as they were."""
    affinity = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    yield
    assert gc.isenabled()
    if affinity is not None:
        after = os.sched_getaffinity(0)
        os.sched_setaffinity(0, affinity)
        assert after == affinity


def test_times_are_those_of_the_runs() -> None:
    runs = {"short": lambda: spin(0.001), "long": lambda: spin(0.004)}
    timings = measure(runs, repeats=5, min_seconds=0, warmup=0)
    assert list(timings) == ["short", "long"]
    assert 0.001 <= timings["short"].minimum <= timings["short"].median < 0.003
    assert 0.004 <= timings["long"].minimum <= timings["long"].median < 0.006


def test_one_thread_is_timed_by_the_cpu_and_several_by_the_wall() -> None:
    asleep = {"asleep": lambda: time.sleep(0.01)}
    cpu = measure(asleep, repeats=1, min_seconds=0, threads=1)["asleep"]
    wall = measure(asleep, repeats=1, min_seconds=0, threads=2)["asleep"]
    assert (cpu.clock, wall.clock) == ("thread CPU time", "wall time")
    assert cpu.median < 0.005
    assert wall.median >= 0.01


def test_rounds_alternate_and_turn_around() -> None:
    seen: list[str] = []
    measure(
        {name: lambda name=name: seen.append(name) for name in "abc"},  # type: ignore[misc]
        repeats=3,
        min_seconds=0,
        warmup=0,
    )
    assert "".join(seen[3:]) == "abc" + "cba" + "abc"


def test_warmup_calls_come_before_the_first_sample() -> None:
    seen: list[None] = []
    measure({"run": lambda: seen.append(None)}, repeats=2, min_seconds=0, warmup=5)
    assert len(seen) == 5 + 1 + 2


def test_warmup_calls_come_before_every_sample_of_several_calls() -> None:
    seen: list[None] = []
    begun: list[int] = []

    def run() -> None:
        seen.append(None)
        spin(0.0001)

    timing = measure(
        {"run": run}, repeats=4, min_seconds=0.02, warmup=3, progress=lambda _, done, of: begun.append(len(seen))
    )["run"]
    assert timing.calls > 1
    assert np.diff(begun).tolist() == [timing.calls + 3] * 4


def test_sample_lasts_as_long_as_asked() -> None:
    timing = measure({"run": lambda: spin(0.0001)}, repeats=3, min_seconds=0.01)["run"]
    assert timing.calls > 1
    assert timing.median >= 0.0001
    assert timing.calls * timing.median >= 0.005


def test_progress_counts_rounds() -> None:
    seen: list[tuple[int, int]] = []
    measure(
        {"run": lambda: None}, repeats=2, min_seconds=0, progress=lambda _, done, rounds: seen.append((done, rounds))
    )
    assert seen == [(0, 2), (1, 2), (2, 2)]


@needs_affinity
@pytest.mark.parametrize("threads", [1, 2])
def test_only_one_thread_is_pinned(threads: int) -> None:
    cores = 1 if threads == 1 else len(os.sched_getaffinity(0))
    seen: list[int] = []
    runs = {"run": lambda: seen.append(len(os.sched_getaffinity(0)))}
    measure(runs, repeats=2, min_seconds=0, threads=threads)
    assert set(seen) == {cores}


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_error_of_a_run_passes_through(error: type[BaseException]) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(error):
        measure({"run": lambda: None, "fail": fail}, repeats=2, min_seconds=0)


@needs_affinity
def test_system_that_refuses_to_pin_is_measured_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int, cores: object) -> None:
        raise PermissionError

    with monkeypatch.context() as patch:
        patch.setattr(os, "sched_setaffinity", refuse)
        assert measure({"run": lambda: None}, repeats=1, min_seconds=0)["run"].repeats == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"repeats": 0}, "repeats of at least 1, got 0"),
        ({"warmup": -1}, "warmup of at least 0, got -1"),
        ({"threads": 0}, "threads of at least 1, got 0"),
        ({"min_seconds": -0.1}, "min_seconds of 0 or more, got -0.1"),
        ({"min_seconds": float("nan")}, "min_seconds of 0 or more, got nan"),
    ],
)
def test_numbers_out_of_range_are_rejected(options: dict[str, float], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        measure({"run": lambda: None}, **options)  # type: ignore[arg-type]


def test_nothing_to_time_is_rejected() -> None:
    with pytest.raises(InvalidInput, match="at least one run"):
        measure({})
