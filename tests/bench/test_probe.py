"""The probe: its C does what is counted, its numbers hang together, and nothing is assumed of the host.

Times are compared only where no neighbour and no CPU can turn the relation round.
"""

import math
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from polyfuse.bench import probe as probe_module
from polyfuse.bench.probe import (
    CHAINS,
    MOST_DRAM_BYTES,
    STREAMS,
    WIDTHS,
    Capacity,
    cache_capacities,
    chase_seconds,
    plateau_ends,
    probe,
    shortest,
    usable_width,
    working_bytes,
)
from polyfuse.bench.probe_kernels import ADDS, PAGE_BYTES, STOP, ProbeLibrary, ProbeMemory, probe_source
from polyfuse.codegen.build import WARNINGS, Options, compile_shared
from polyfuse.errors import BuildError, InvalidInput
from polyfuse.machines.host import Machine, Peak

KIB, MIB = 1 << 10, 1 << 20
TINY_SECONDS = 0.05
CACHE = "sys/devices/system/cpu/cpu0/cache"


@pytest.fixture(scope="module")
def machine() -> Machine:
    """This host, hardly measured."""
    return probe(TINY_SECONDS)


@pytest.fixture(scope="module", params=WIDTHS)
def library(request: pytest.FixtureRequest) -> ProbeLibrary:
    """The probe at each width, which has to compile without warnings here."""
    return ProbeLibrary(request.param, compile_shared(probe_source(request.param), Options().with_flags(*WARNINGS)))


def words(memory: ProbeMemory) -> NDArray[np.int32]:
    """What is in a memory, as the kernels see it."""
    start = memory.address - memory._array.ctypes.data
    return memory._array[start : start + memory.size].view(np.int32)


def write_caches(root: Path, *caches: tuple[int, str, str, str]) -> None:
    for index, entries in enumerate(caches):
        folder = root / CACHE / f"index{index}"
        folder.mkdir(parents=True)
        for name, entry in zip(("level", "type", "size", "shared_cpu_list"), entries, strict=True):
            (folder / name).write_text(f"{entry}\n")


# The C


@pytest.mark.parametrize("chains", CHAINS)
def test_chains_tend_to_one_and_count_their_operations(library: ProbeLibrary, chains: int) -> None:
    assert library._function(f"fma_{chains}")(100, 0.5) == chains
    assert library._function(f"fma_{chains}")(1, 0.5) == sum((0.5 + i) * 0.5 + 0.5 for i in range(chains))
    assert library.flops(chains, 100)[1] == 100 * chains * 2 * library.vector_bytes // 4


def test_additions_are_as_many_as_counted(library: ProbeLibrary) -> None:
    assert library._function("adds")(10, 3) == 3 * 10 * ADDS == 3 * library.adds(10)[1]


def test_reads_see_all_memory(library: ProbeLibrary) -> None:
    memory = ProbeMemory(3 * PAGE_BYTES)
    words(memory)[:] = np.random.default_rng(0).integers(1 << 30, size=len(words(memory)))
    first_lanes = words(memory).reshape(-1, library.vector_bytes // 4)[:, 0]
    read = library._function("read")
    assert read(*library._places("read", memory), 1) == np.bitwise_xor.reduce(first_lanes)
    assert read(*library._places("read", memory), 2) == 0


def test_writes_fill_all_memory_and_nothing_beside_it(library: ProbeLibrary) -> None:
    memory = ProbeMemory(3 * PAGE_BYTES)
    call, moved = library.stream("write", memory, 5)
    call()
    assert (words(memory) == memory.size // library.vector_bytes).all()
    start = memory.address - memory._array.ctypes.data
    assert (memory._array[:start] == 1).all() and (memory._array[start + memory.size :] == 1).all()
    assert moved == 5 * memory.size


def test_copies_read_one_half_and_write_the_other(library: ProbeLibrary) -> None:
    memory = ProbeMemory(2 * PAGE_BYTES)
    before = np.random.default_rng(0).integers(1 << 30, size=len(words(memory)), dtype=np.int32)
    words(memory)[:] = before
    call, moved = library.stream("copy", memory, 1)
    call()
    half = len(before) // 2
    assert (words(memory) == np.concatenate([before[:half], before[:half]])).all()
    assert moved == memory.size


@pytest.mark.parametrize("samples", [1, 2, 3])
def test_samples_together_go_over_one_piece_after_the_other(library: ProbeLibrary, samples: int) -> None:
    memory = ProbeMemory(3 * PAGE_BYTES, pieces=3)
    words(memory)[:] = 0
    arrived, times = np.zeros(1, np.int64), np.zeros((samples, 2))
    assert library.stream_together("write", memory, 1, 1, arrived, 60)(times)
    assert (words(memory) != 0).sum() == samples * PAGE_BYTES // 4
    assert arrived[0] == samples
    assert (np.diff(times.ravel()) >= 0).all() and times[0, 0] > 0
    arrived[0] = STOP
    assert not library.stream_together("write", memory, 1, 1, arrived, 60)(times)


def test_samples_together_end_when_time_is_up(library: ProbeLibrary) -> None:
    arrived, times = np.zeros(1, np.int64), np.zeros((9, 2))
    assert not library.stream_together("read", ProbeMemory(1), 1, 1, arrived, 0)(times)
    assert arrived[0] == STOP
    assert [bool(sample.all()) for sample in times] == [True] + 8 * [False]


def test_the_shortest_sample_is_from_the_first_begin_to_the_last_end() -> None:
    first, second = [[1.0, 2.0], [5.0, 5.5], [0, 0]], [[1.5, 2.5], [5.2, 6.0], [7.0, 7.1]]
    assert shortest(np.array([first, second])) == 1.0
    assert shortest(np.zeros((2, 3, 2))) == math.inf


def test_a_chase_visits_what_the_indices_say(library: ProbeLibrary) -> None:
    following = np.array([2, 0, 3, 1], np.int64)
    chase = library._function("chase")
    assert [chase(following.ctypes.data, 2, steps) for steps in range(5)] == [2, 3, 1, 0, 2]


# The machine


def test_numbers_of_this_host_hang_together(machine: Machine) -> None:
    assert 0 < len(machine.peaks) <= len(WIDTHS)
    assert machine.vector_bytes in WIDTHS
    assert machine.peak.gflop_per_second > 0
    assert 1 <= machine.cores <= (os.cpu_count() or 1)
    assert machine.dram.name == "DRAM"
    assert machine.levels[0].one_core.read_gb_per_second >= machine.dram.one_core.read_gb_per_second / 2
    for inner, outer in pairwise(machine.levels):
        assert inner.capacity_bytes < outer.capacity_bytes
    for level in machine.levels:
        for stream in STREAMS:
            key = f"{stream}_gb_per_second"
            assert getattr(level.all_cores, key) >= getattr(level.one_core, key) > 0
    assert Machine.from_toml(machine.to_toml()) == machine


def test_numbers_are_rounded_to_what_is_known(machine: Machine) -> None:
    for peak in machine.peaks:
        assert peak.gflop_per_second == float(f"{peak.gflop_per_second:.4g}")


def test_widths_that_do_not_compile_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def source(width: int) -> str:
        return '#error "no such vectors"\n' if width == 64 else probe_source(width)

    monkeypatch.setattr(probe_module, "probe_source", source)
    found = probe(TINY_SECONDS)
    assert [peak.vector_bytes for peak in found.peaks] == [32, 16]
    assert found.vector_bytes < 64


def test_a_compiler_that_takes_no_width_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe_module, "probe_source", lambda width: '#error "no vectors"\n')
    with pytest.raises(BuildError, match="no vectors") as caught:
        probe(TINY_SECONDS)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("rates", "width"),
    [
        ({64: 288.0, 32: 144.0, 16: 72.0}, 64),
        ({64: 117.1, 32: 117.3, 16: 58.0}, 64),
        ({64: 13.7, 32: 116.5, 16: 58.4}, 32),
        ({64: 9.0, 32: 20.0, 16: 58.0}, 16),
        ({16: 58.0}, 16),
    ],
)
def test_the_width_to_use_is_the_widest_at_full_speed(rates: dict[int, float], width: int) -> None:
    assert usable_width([Peak(vector, rate, 1.0) for vector, rate in rates.items()]) == width


@pytest.mark.parametrize("seconds", [0, -1, math.inf, math.nan])
def test_no_time_is_refused(seconds: float) -> None:
    with pytest.raises(InvalidInput, match="expected seconds above 0"):
        probe(seconds)


def test_progress_names_what_is_measured() -> None:
    told: list[tuple[str, int, int]] = []
    probe(TINY_SECONDS, progress=lambda what, done, of: told.append((what, done, of)))
    named = list(dict.fromkeys(what for what, _, _ in told))
    assert named[:3] == ["compiling", "peak", "L1"] or named[2] == "DRAM"
    assert all(0 <= done <= of for _, done, of in told)


def test_all_cores_stop_when_one_of_them_fails() -> None:
    """In a process of its own: what waits forever cannot be interrupted."""
    script = """
from polyfuse.bench import probe as module
library = module._libraries(module.Options(), lambda *given: None)[-1]
honest = module._pin
def pin(cpu):
    if cpu == 1:
        raise MemoryError("no room")
    honest(0)
module._pin = pin
try:
    module._rates_together(library, [0, 1, 0], 1 << 16, dict.fromkeys(module.STREAMS, 1e9), 0.1)
except MemoryError as error:
    print(error)
"""
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (finished.stdout, finished.stderr) == ("no room\n", "")


# Capacities


def test_capacities_are_those_of_the_system(tmp_path: Path, library: ProbeLibrary) -> None:
    write_caches(
        tmp_path,
        (1, "Data", "48K", "0,64"),
        (1, "Instruction", "64K", "0,64"),
        (2, "Unified", "2048K", "0,64"),
        (3, "Unified", "32M", "0-7,64-71"),
        (4, "Unified", "16M", "0-127"),
    )
    assert cache_capacities(library, tmp_path, 64) == [
        Capacity("L1", 48 * KIB, 1),
        Capacity("L2", 2 * MIB, 1),
        Capacity("L3", 32 * MIB, 8),
    ]


def test_capacities_are_measured_where_the_system_says_nothing(
    tmp_path: Path, library: ProbeLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = [(4 * KIB, 1.0), (32 * KIB, 1.2), (64 * KIB, 4.0), (1 * MIB, 4.1), (2 * MIB, 15.0), (4 * MIB, 90.0)]
    monkeypatch.setattr(probe_module, "chase_seconds", lambda library: times)
    assert cache_capacities(library, tmp_path, 8) == [
        Capacity("L1", 32 * KIB, 1),
        Capacity("L2", 1 * MIB, 1),
    ]


@pytest.mark.parametrize(
    ("times", "ends"),
    [
        ([1, 1, 1, 1, 1], []),
        ([1, 1, 4, 4, 4], [1]),
        ([1, 1, 3, 3, 9, 9, 50, 50], [1, 3, 5]),
        ([1, 1.9, 2.1, 3, 4, 4, 9], [1, 5]),
        ([5, 1, 1, 1], []),
        ([1, 4, 16, 64, 256], [0]),
        ([1, 1, 4, 4, 16, 16, 64, 64, 256, 256], [1, 3, 5]),
    ],
)
def test_plateaus_of_load_times_are_levels(times: list[float], ends: list[int]) -> None:
    assert plateau_ends(list(enumerate(times))) == ends


def test_chases_take_time(library: ProbeLibrary) -> None:
    sizes = (4 * KIB, 64 * KIB)
    found = chase_seconds(library, sizes)
    assert tuple(size for size, _ in found) == sizes
    assert all(0 < seconds < 1e-3 for _, seconds in found)


@pytest.mark.parametrize("cpus", [1, 2, 64])
@pytest.mark.parametrize(
    "capacities",
    [
        [
            Capacity("L1", 32 * KIB, 1),
            Capacity("L2", MIB, 1),
            Capacity("L3", 32 * MIB, 8),
            Capacity("DRAM", 1 << 34, 64),
        ],
        [Capacity("L1", 64 * KIB, 1), Capacity("L2", 16 * MIB, 4), Capacity("DRAM", 1 << 33, 8)],
        [
            Capacity("L1", 48 * KIB, 1),
            Capacity("L2", 2 * MIB, 1),
            Capacity("L3", 3 * MIB, 1),
            Capacity("DRAM", 1 << 36, 2),
        ],
        [Capacity("DRAM", 1 << 30, 1)],
    ],
)
def test_what_is_gone_over_fits_its_level_and_not_the_one_before(capacities: list[Capacity], cpus: int) -> None:
    sizes = [working_bytes(index, capacities, cpus) for index in range(len(capacities))]
    shares = [level.capacity_bytes // min(level.shared_by_cores, cpus) for level in capacities]
    for size, share, inner in zip(sizes, shares, [0, *shares], strict=False):
        assert inner < size <= share + inner
    assert cpus * sizes[-1] <= min(MOST_DRAM_BYTES, capacities[-1].capacity_bytes // 8)
