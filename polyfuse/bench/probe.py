"""Measure this host.

Enters: how long it may take, and how C is compiled. Leaves: a `Machine`.

What one core does is timed by the CPU time of its thread, what all cores do by the wall clock, as many short samples
of which the best counts: others who use the host can only slow a sample down. docs/use/machine.md says more.
"""

import math
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from polyfuse.bench.measure import measure
from polyfuse.bench.probe_kernels import CHAINS, STOP, STREAMS, ProbeLibrary, ProbeMemory, probe_source
from polyfuse.choices import PROBE_SECONDS
from polyfuse.codegen.build import Options, compile_shared, find_compiler, flags_of
from polyfuse.deploy.host import ROOT, caches, host_facts, memory_bytes, working_cores
from polyfuse.errors import BuildError, InvalidInput
from polyfuse.machines.host import Bandwidth, Level, Machine, Peak
from polyfuse.progress import Progress, silent

WIDTHS = (64, 32, 16)
"""Vector widths that are tried, in bytes; one that does not compile is left out."""

SAMPLE_SECONDS = 0.003
PATIENCE = 1.5
"""Samples of all cores end when they have taken so many times their share: on a busy host cores wait for each other."""

TOGETHER_SECONDS = 0.0005
ALL_CORES_SHARE = 2
"""All cores get so many times as long as one: the wall clock sees everybody else."""

NEARLY = 0.95
"""The widest vectors that reach this share of the best peak are the ones to use."""

ROUNDS = 20_000
CALL_BYTES = 16 << 20
"""A call moves so much, so that calling it costs nothing in comparison."""

LEAST_DRAM_BYTES = 64 << 20
MOST_DRAM_BYTES = 4 << 30
CACHES = 3
DEFAULT_LINE_BYTES = 64
CHASES = 3
LEAST_STEPS, MOST_STEPS = 1 << 12, 1 << 16
PLATEAU = 2.0
"""A load that takes so many times as long as one of the level before is served by the next level."""

FLAT = 1.25
"""The next level begins where times no longer grow by more than this from one size to the next."""

CHASED_BYTES = tuple(round(2 ** (half / 2)) // 512 * 512 for half in range(2 * 12, 2 * 26 + 1))
"""4 KiB to 64 MiB in steps of the square root of two."""

Work = Mapping[str, tuple[Callable[[], None], int]]


@dataclass(frozen=True)
class Capacity:
    """A level of memory before its bandwidth is known."""

    name: str
    capacity_bytes: int
    shared_by_cores: int


def probe(
    seconds: float = PROBE_SECONDS,
    *,
    options: Options | None = None,
    progress: Progress | None = None,
    root: Path = ROOT,
) -> Machine:
    """Measure this host for about so many seconds, more while others use it; `root` is where /proc and /sys are.

    Errors: BuildError without a compiler, or when it accepts no vector width. InvalidInput for `seconds` out of range.
    """
    if not 0 < seconds < math.inf:
        raise InvalidInput(f"probe: expected seconds above 0, got {seconds}; {PROBE_SECONDS:g} is a good number")
    chosen = options or Options()
    report = progress or silent
    compiler = chosen.compiler or find_compiler()
    libraries = _libraries(Options(compiler, flags_of(chosen.flags), chosen.cache), report)
    cpus = working_cores(root)
    capacities = cache_capacities(libraries[0], root, len(cpus))
    capacities.append(Capacity("DRAM", _host_bytes(root, capacities), len(cpus)))
    share = seconds / (1 + (1 + ALL_CORES_SHARE) * len(capacities))
    clock_ghz, peaks = _peaks(libraries, share, report)
    vector_bytes = usable_width(peaks)
    library = next(library for library in libraries if library.vector_bytes == vector_bytes)
    levels = [_level(library, index, capacities, cpus, share, report) for index in range(len(capacities))]
    return Machine(
        name=str(host_facts(root).get("cpu") or platform.machine() or "host"),
        compiler=compiler.version,
        flags=flags_of(chosen.flags),
        cores=len(cpus),
        clock_ghz=_rounded(clock_ghz),
        cache_line_bytes=next(filter(None, (cache.line_bytes for cache in caches(root))), DEFAULT_LINE_BYTES),
        vector_bytes=vector_bytes,
        peaks=tuple(peaks),
        levels=tuple(levels),
    )


def usable_width(peaks: Sequence[Peak]) -> int:
    """The widest vectors that are nearly as fast as the fastest: those the CPU has not are taken apart and slow.

    >>> usable_width([Peak(64, 13.7, 0.1), Peak(32, 117.0, 2.0), Peak(16, 58.0, 2.0)])
    32
    """
    best = max(peak.gflop_per_second for peak in peaks)
    return max(peak.vector_bytes for peak in peaks if peak.gflop_per_second >= NEARLY * best)


def cache_capacities(library: ProbeLibrary, root: Path, cores: int) -> list[Capacity]:
    """The data caches, innermost first: what the system says, else what a chase through memory finds."""
    data = [cache for cache in caches(root) if cache.type in ("Data", "Unified")]
    if not data:
        ends = enumerate(plateau_ends(chase_seconds(library)), 1)
        return [Capacity(f"L{level}", size, cores if level == CACHES else 1) for level, size in ends]
    threads_per_core = min(cache.shared_by_cores or 1 for cache in data)
    found: list[Capacity] = []
    for cache in sorted(data, key=lambda cache: cache.level):
        if not found or cache.bytes > found[-1].capacity_bytes:
            sharing = max(1, (cache.shared_by_cores or 1) // threads_per_core)
            found.append(Capacity(f"L{cache.level}", cache.bytes, sharing))
    return found


def chase_seconds(library: ProbeLibrary, sizes: Sequence[int] = CHASED_BYTES) -> list[tuple[int, float]]:
    """How long a load takes that waits for the one before, in random order over so many bytes: the best of rounds."""
    rounds = [[_chase_seconds(library, size, seed) for size in sizes] for seed in range(CHASES)]
    return [(size, min(times)) for size, times in zip(sizes, zip(*rounds, strict=True), strict=True)]


def _chase_seconds(library: ProbeLibrary, size: int, seed: int) -> float:
    lines = np.random.default_rng(seed).permutation(size // DEFAULT_LINE_BYTES) * (DEFAULT_LINE_BYTES // 8)
    following = np.zeros(size // 8, np.int64)
    following[lines] = np.roll(lines, -1)
    library.chase(following, 0, len(lines))()
    steps = min(max(len(lines), LEAST_STEPS), MOST_STEPS)
    return (
        min(_cpu_seconds(library.chase(following, int(start), steps)) for start in lines[: 2 * steps : steps]) / steps
    )


def plateau_ends(seconds_by_size: Sequence[tuple[int, float]]) -> list[int]:
    """The largest size of each plateau but the last: capacities of caches, from times of loads.

    >>> plateau_ends([(1, 1.0), (2, 1.1), (4, 2.9), (8, 4.0), (16, 4.1), (32, 30.0), (64, 31.0)])
    [2, 16]
    """
    sizes, times = zip(*seconds_by_size, strict=True)
    ends: list[int] = []
    start = 0
    while len(ends) < CACHES:
        risen = next((index for index in range(start, len(times)) if times[index] > PLATEAU * times[start]), None)
        if risen is None:
            break
        ends.append(sizes[risen - 1])
        start = risen
        while start + 1 < len(times) and times[start + 1] > FLAT * times[start]:
            start += 1
    return ends


def working_bytes(index: int, capacities: Sequence[Capacity], cpus: int) -> int:
    """How much memory each of so many cores goes over, so that it stays in a level and not in the one before.

    In a cache half of a core's share; where that is hardly more than the cache before, which then holds other lines, so
    much beyond it. In DRAM four times the share of the last cache.
    """
    level = capacities[index]
    inner = _share(capacities[index - 1], cpus) if index else 0
    if index == len(capacities) - 1:
        most = min(MOST_DRAM_BYTES, level.capacity_bytes // 8) // cpus
        return min(max(4 * inner, LEAST_DRAM_BYTES // cpus), most)
    share = _share(level, cpus)
    return share // 2 if share >= 4 * inner else inner + share // 2


def _share(level: Capacity, cpus: int) -> int:
    return level.capacity_bytes // min(level.shared_by_cores, cpus)


def _libraries(options: Options, report: Progress) -> list[ProbeLibrary]:
    """The probe for every width that compiles."""
    found, refused = [], []
    for done, width in enumerate(WIDTHS):
        report("compiling", done, len(WIDTHS))
        try:
            built = compile_shared(probe_source(width), options)
            found.append(ProbeLibrary(width, built))
        except BuildError as error:
            refused.append(error)
    if not found:
        raise refused[-1]
    return found


def _host_bytes(root: Path, inner: Sequence[Capacity]) -> int:
    """All memory of the host; more than its caches hold, whatever the system says."""
    said = memory_bytes(root)
    if said is None and {"SC_PHYS_PAGES", "SC_PAGE_SIZE"} <= set(os.sysconf_names):
        said = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(said or 0, *(16 * level.capacity_bytes for level in inner), LEAST_DRAM_BYTES)


def _peaks(libraries: Sequence[ProbeLibrary], seconds: float, report: Progress) -> tuple[float, list[Peak]]:
    """The clock in GHz, and the peak at each width."""
    work = {"clock": libraries[0].adds(ROUNDS)}
    for library in libraries:
        work |= {f"{library.vector_bytes} {chains}": library.flops(chains, ROUNDS) for chains in CHAINS}
    rates = _rates(work, seconds, "peak", report)
    clock_ghz = rates["clock"] / 1e9
    peaks = []
    for library in libraries:
        gflop = max(rates[f"{library.vector_bytes} {chains}"] for chains in CHAINS) / 1e9
        lanes = library.vector_bytes // 4
        peaks.append(Peak(library.vector_bytes, _rounded(gflop), _rounded(gflop / (2 * lanes * clock_ghz), 3)))
    return clock_ghz, peaks


def _level(
    library: ProbeLibrary,
    index: int,
    capacities: Sequence[Capacity],
    cpus: Sequence[int],
    seconds: float,
    report: Progress,
) -> Level:
    """One level of memory, with the bandwidths that one core and all cores get."""
    capacity = capacities[index]
    memory = ProbeMemory(working_bytes(index, capacities, 1))
    passes = max(1, CALL_BYTES // memory.size)
    work: Work = {stream: library.stream(stream, memory, passes) for stream in STREAMS}
    one = _rates(work, seconds, capacity.name, report)
    del memory, work
    every = dict(one)
    if len(cpus) > 1:
        report(f"{capacity.name} all", 0, 1)
        size = working_bytes(index, capacities, len(cpus))
        together = _rates_together(library, cpus, size, one, ALL_CORES_SHARE * seconds)
        every = {stream: max(one[stream], together[stream]) for stream in STREAMS}
    return Level(capacity.name, capacity.capacity_bytes, capacity.shared_by_cores, _bandwidth(one), _bandwidth(every))


def _rates(work: Work, seconds: float, what: str, report: Progress) -> dict[str, float]:
    """Amounts per second of CPU time, the best of many samples, on one core."""
    once = sum(max(SAMPLE_SECONDS, _cpu_seconds(call)) for call, _ in work.values())
    timings = measure(
        {name: call for name, (call, _) in work.items()},
        repeats=max(1, int(seconds / once)),
        min_seconds=SAMPLE_SECONDS,
        progress=lambda _, done, rounds: report(what, done, rounds),
    )
    return {name: amount / timings[name].minimum for name, (_, amount) in work.items()}


def _rates_together(
    library: ProbeLibrary, cpus: Sequence[int], least_bytes: int, one: Mapping[str, float], seconds: float
) -> dict[str, float]:
    """Bytes per second of wall time of all cores, the best of many samples, each on memory of its own.

    A sample is so short that all cores are likely to work through it undisturbed: passes over small memory, a piece of
    large memory. It lasts from the first that begins to the last that ends.
    """
    pass_seconds = least_bytes / max(one.values())
    pieces = max(1, round(pass_seconds / TOGETHER_SECONDS))
    passes = max(1, round(TOGETHER_SECONDS / pass_seconds))
    limit = PATIENCE * seconds / len(STREAMS)
    samples = max(2 * pieces, int(seconds / len(STREAMS) / TOGETHER_SECONDS))
    arrived = {stream: np.zeros(1, np.int64) for stream in STREAMS}
    times = {stream: np.zeros((len(cpus), samples, 2)) for stream in STREAMS}

    def stop() -> None:
        for flag in arrived.values():
            flag.fill(STOP)

    def work(thread: int) -> int:
        try:
            _pin(cpus[thread])
            memory = ProbeMemory(least_bytes, pieces)
            for stream in STREAMS:
                run = library.stream_together(stream, memory, passes, len(cpus), arrived[stream], limit)
                run(times[stream][thread])
        except BaseException:
            stop()
            raise
        return memory.size // pieces * passes

    with ThreadPoolExecutor(len(cpus), thread_name_prefix="probe") as pool:
        try:
            moved = sum(pool.map(work, range(len(cpus))))
        except BaseException:
            stop()
            raise
    return {stream: moved / shortest(times[stream]) for stream in STREAMS}


def shortest(times: NDArray[np.float64]) -> float:
    """Seconds of the shortest sample that all threads took; times[thread, sample] = begin, end, or zeros."""
    taken = times[:, (times > 0).all(axis=(0, 2))]
    return float((taken[:, :, 1].max(axis=0) - taken[:, :, 0].min(axis=0)).min(initial=math.inf))


def _pin(cpu: int) -> None:
    """Keep the calling thread on a core, where the system has a way to and allows it."""
    if hasattr(os, "sched_setaffinity"):
        with suppress(OSError):
            os.sched_setaffinity(0, {cpu})


def _cpu_seconds(call: Callable[[], None]) -> float:
    start = time.thread_time()
    call()
    return time.thread_time() - start


def _bandwidth(rates: Mapping[str, float]) -> Bandwidth:
    return Bandwidth(*(_rounded(rates[stream] / 1e9) for stream in STREAMS))


def _rounded(value: float, digits: int = 4) -> float:
    """Measured numbers have no more digits than this.

    >>> _rounded(116.7312)
    116.7
    """
    return float(f"{value:.{digits}g}")
