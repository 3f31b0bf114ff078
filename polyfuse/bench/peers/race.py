"""Compare polyfuse with its peers: each contender in a process of its own, taking turns on the same cores.

Network + contenders ──race()──> PeerComparison

Whatever a contender does, the others go on: a crash, a hang and a wrong result are one line in its row.
"""

import os
import pickle
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import onnx
from numpy.typing import NDArray

from polyfuse.bench.measure import current_core
from polyfuse.bench.peers.bounds import bandwidth_of, compulsory_bytes, direct_flops, level_for, peak_of
from polyfuse.bench.peers.contender import Contender, PeerSettings, how_to_install
from polyfuse.bench.peers.process import PeerError, Worker, worker_command
from polyfuse.bench.peers.results import PeerComparison, PeerRow
from polyfuse.choices import SEARCH_SECONDS, RaceLayout
from polyfuse.deploy.host import working_cores
from polyfuse.errors import InvalidInput
from polyfuse.machines.host import Machine
from polyfuse.network.network import Network, require_float32
from polyfuse.network.reference import expected_outputs, max_relative_error, random_inputs
from polyfuse.progress import Progress, silent

MOST_ERROR = 1e-4
"""A larger relative error is a wrong result: half precision makes 1e-3, large Winograd tiles some 1e-5."""

MALLOC = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
    "MALLOC_TOP_PAD_": str(64 << 20),
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}
"""Memory that was freed is used again without page faults, in huge pages where the system has them, for everybody."""

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "HL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
MOST_CALLS = 10_000
START_SECONDS = 600.0
RUN_SECONDS = 60.0
PATIENCE = 50.0
"""A sample may take so many times as long as expected before its process is given up."""


@dataclass(frozen=True)
class RaceRules:
    """What holds for all contenders of a race.

    repeats       rounds; every second one goes backwards
    min_seconds   of one sample, which is as many runs in a row as that takes
    start_seconds a contender may take to prepare, and `search_seconds` more to try schedules
    run_seconds   a sample may take at least; slow networks get more
    """

    threads: int = 1
    interface: RaceLayout = "preferred"
    repeats: int = 11
    min_seconds: float = 0.05
    search_seconds: float = SEARCH_SECONDS
    start_seconds: float = START_SECONDS
    run_seconds: float = RUN_SECONDS
    seed: int = 0

    @property
    def clock(self) -> str:
        """CPU time adds up over threads, so several are timed by the wall clock."""
        return "CPU time" if self.threads == 1 else "wall time"


MODEL = "model.onnx"
Command = Callable[[Contender, Sequence[int]], Sequence[str]]


def race(
    network: Network,
    contenders: Sequence[Contender],
    machine: Machine,
    rules: RaceRules | None = None,
    *,
    model: onnx.ModelProto | None = None,
    progress: Progress | None = None,
    command: Command | None = None,
) -> PeerComparison:
    """Prepare, check and time all contenders on seeded inputs; `command` starts the process of one.

    `model` is what peers that read ONNX run, with the network's names for inputs and outputs; else they run an export.

    Errors: InvalidInput for a network that cannot be sent to other processes, or rules that make no sense. An
    interrupt passes through; no process and no file is left then either.
    """
    chosen, report = rules or RaceRules(), progress or silent
    check_rules(chosen, contenders)
    require_float32(network, "a comparison with peers")
    start = command or (lambda contender, cores: worker_command(cores))
    with folder_of(network, model, chosen.seed, report) as (folder, expected), ExitStack() as processes:
        rows: dict[str, PeerRow] = {}
        entrants: dict[str, Entrant] = {}
        cores = cores_for(chosen.threads)
        for number, contender in enumerate(contenders):
            report(contender.name, number, len(contenders))
            row = PeerRow(contender.name, "timed", version=contender.version)
            if not contender.installed:
                message = f"not installed; {how_to_install([contender])}"
                rows[contender.name] = replace(row, state="missing", message=message)
                continue
            log = folder / f"log-{number}.txt"
            worker = Worker(start(contender, cores), environment(chosen.threads, folder), log)
            processes.callback(worker.close)
            entrant = Entrant(contender, worker, chosen, folder, number)
            rows[contender.name] = entrant.prepared(row, expected)
            if rows[contender.name].state == "timed":
                entrants[contender.name] = entrant
        rows |= timed(entrants, rows, chosen, report)
    return comparison(network, machine, chosen, tuple(rows.values()))


def comparison(network: Network, machine: Machine, rules: RaceRules, rows: tuple[PeerRow, ...]) -> PeerComparison:
    """The rows with what the network costs and the machine can do."""
    size = compulsory_bytes(network)
    level = level_for(machine, size)
    return PeerComparison(
        workload=network.name,
        threads=rules.threads,
        interface=rules.interface,
        clock=rules.clock,
        flops=direct_flops(network),
        compulsory_bytes=size,
        peak_gflop_per_second=peak_of(machine, rules.threads),
        bandwidth_gb_per_second=bandwidth_of(level, machine, rules.threads),
        level=level.name,
        rows=rows,
    )


@dataclass
class Entrant:
    """A contender with its process: prepared, calibrated, timed."""

    contender: Contender
    worker: Worker
    rules: RaceRules
    folder: Path
    number: int
    calls: int = 1
    call_seconds: float = 0.0

    def prepared(self, row: PeerRow, expected: Mapping[str, NDArray[np.float64]]) -> PeerRow:
        """The row once the contender is ready, with its error; or why it is not."""
        rules = self.rules
        file = self.folder / MODEL
        model = str(file) if file.exists() else None
        settings = PeerSettings(rules.threads, rules.interface, rules.search_seconds, self.contender.options, model)
        question = {
            "do": "prepare",
            "module": self.contender.module,
            "folder": str(self.folder),
            "number": self.number,
            "settings": asdict(settings),
        }
        try:
            answer = self.worker.ask(question, rules.start_seconds + rules.search_seconds)
            self.call_seconds = first_seconds(answer)
            error = self.error(expected)
            if not error <= MOST_ERROR:
                self.worker.close()
                reason = f"wrong result: relative error {error:.1e}, more than {MOST_ERROR:.0e}"
                return replace(row, state="wrong", message=reason, max_rel_error=error)
            self.calibrate()
        except PeerError as problem:
            return replace(row, state="failed", message=str(problem))
        layout, detail = (str(answer.get(key, ""))[:200] for key in ("layout", "detail"))
        return replace(row, layout=layout, detail=detail, max_rel_error=error)

    def error(self, expected: Mapping[str, NDArray[np.float64]]) -> float:
        """The largest error of the outputs that the contender left.

        Errors: PeerError where there are none.
        """
        try:
            with (self.folder / f"outputs-{self.number}.npz").open("rb") as file:
                stored = np.load(file, allow_pickle=False)
                found = {name: np.asarray(stored[name]) for name in stored}
        except (OSError, ValueError, EOFError, TypeError, BadZipFile) as error:
            raise PeerError(f"left no outputs ({type(error).__name__})") from None
        if set(found) != set(expected):
            raise PeerError(f"left the outputs {', '.join(sorted(found)) or 'none'}, not {', '.join(sorted(expected))}")
        return max(max_relative_error(found[name], value) for name, value in expected.items())

    def calibrate(self) -> None:
        """Find how many runs in a row last as long as a sample should."""
        least = self.rules.min_seconds
        while True:
            _, wall = self.sample()
            self.call_seconds = wall
            if wall * self.calls >= least or self.calls >= MOST_CALLS:
                return
            wanted = int(1.1 * least / max(wall, 1e-9)) + 1
            self.calls = min(MOST_CALLS, 10 * self.calls, max(self.calls + 1, wanted))

    def sample(self) -> tuple[float, float]:
        """CPU and wall seconds of one run, the mean of a sample."""
        limit = max(self.rules.run_seconds, PATIENCE * self.calls * self.call_seconds)
        answer = self.worker.ask({"do": "run", "calls": self.calls}, limit)
        seconds = [answer.get(key) for key in ("cpu_seconds", "wall_seconds")]
        cpu, wall = (value if isinstance(value, int | float) else -1.0 for value in seconds)
        if not (0 <= cpu < float("inf") and 0 < wall < float("inf")):
            raise PeerError(f"answered times that are none: {seconds}")
        return cpu / self.calls, wall / self.calls


def first_seconds(answer: Mapping[str, object]) -> float:
    """How long the first run took; nothing where it was not said."""
    seconds = answer.get("first_seconds")
    return float(seconds) if isinstance(seconds, int | float) and 0 <= seconds < float("inf") else 0.0


def timed(
    entrants: Mapping[str, Entrant], rows: Mapping[str, PeerRow], rules: RaceRules, report: Progress
) -> dict[str, PeerRow]:
    """The rows of those who are ready, with their times: one sample of each in a round, forwards and backwards."""
    samples: dict[str, list[tuple[float, float]]] = {name: [] for name in entrants}
    failed: dict[str, PeerRow] = {}
    for index in range(rules.repeats):
        report("timing", index, rules.repeats)
        for name in list(samples)[:: 1 if index % 2 == 0 else -1]:
            try:
                samples[name].append(entrants[name].sample())
            except PeerError as problem:
                failed[name] = replace(rows[name], state="failed", message=str(problem))
                del samples[name]
    found = dict(failed)
    for name, pairs in samples.items():
        cpu, wall = zip(*pairs, strict=True)
        found[name] = replace(
            rows[name],
            cpu_seconds=statistics.median(cpu),
            wall_seconds=statistics.median(wall),
            cpu_seconds_min=min(cpu),
            wall_seconds_min=min(wall),
            calls=entrants[name].calls,
            rounds=rules.repeats,
        )
    return found


@contextmanager
def folder_of(
    network: Network, model: onnx.ModelProto | None, seed: int, report: Progress
) -> Iterator[tuple[Path, dict[str, NDArray[np.float64]]]]:
    """A folder with a network and its inputs, for as long as it is needed, and the outputs of the reference."""
    report("reference", 0, 1)
    inputs = random_inputs(network, seed)
    expected = expected_outputs(network, inputs)
    data = pickled(network)
    with tempfile.TemporaryDirectory(prefix="polyfuse-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (folder / "network.pickle").write_bytes(data)
        if model is not None:
            (folder / MODEL).write_bytes(model.SerializeToString())
        arrays: dict[str, Any] = dict(inputs)
        np.savez(folder / "inputs.npz", **arrays)
        yield folder, expected


def pickled(network: Network) -> bytes:
    """A network to send to other processes, without what its layers have worked out of themselves.

    References that cannot be sent, as those of one's own layers, are left out.

    Errors: InvalidInput.
    """
    failure: Exception | None = None
    for changes in ({}, {"reference": None}):
        copies = tuple(replace(layer, **changes) for layer in network.layers)  # type: ignore[arg-type]
        try:
            return pickle.dumps(replace(network, layers=copies))
        except (pickle.PicklingError, TypeError, AttributeError) as error:
            failure = error
    raise InvalidInput(
        f"network {network.name!r}: cannot be sent to other processes ({failure}); build it of plain layers"
    )


def environment(threads: int, folder: Path) -> dict[str, str]:
    """The variables of every process alike: allocator, threads, and a place for what a library writes."""
    own = {name: str(threads) for name in THREAD_VARIABLES}
    inherited = {name: value for name, value in os.environ.items() if name not in ("KMP_AFFINITY", "GOMP_CPU_AFFINITY")}
    compiled = {"TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"), "TORCHINDUCTOR_COMPILE_THREADS": "1"}
    compiled["TMPDIR"] = str(folder)
    return {**inherited, **MALLOC, **own, **compiled}


def shared_settings(rules: RaceRules, root: Path = Path("/")) -> dict[str, str]:
    """What was the same for all contenders, for the report: allocator, threads, state of transparent huge pages."""
    pages = root / "sys/kernel/mm/transparent_hugepage/enabled"
    try:
        state = pages.read_text(encoding="utf-8").partition("[")[2].partition("]")[0]
    except OSError:
        state = ""
    return {**MALLOC, "threads": str(rules.threads), "transparent_hugepage": state or "unknown"}


def cores_for(threads: int) -> list[int]:
    """The cores that every contender stays on; none, which is all, where there are not enough."""
    cores = working_cores()
    if threads > len(cores):
        return []
    here = current_core(set(cores))
    return sorted([here, *(core for core in cores if core != here)][:threads])


def check_rules(rules: RaceRules, contenders: Sequence[Contender]) -> None:
    """Refuse numbers out of range and names given twice."""
    for name, least in (("threads", 1), ("repeats", 1)):
        if getattr(rules, name) < least:
            raise InvalidInput(f"race: expected {name} of at least {least}, got {getattr(rules, name)}; raise it")
    names = [contender.name for contender in contenders]
    if not names or len(set(names)) != len(names):
        raise InvalidInput(f"race: expected contenders of different names, got {', '.join(names) or 'none'}")
