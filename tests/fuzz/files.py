"""`python -m tests.fuzz.files [--models N] [--texts N] [--seed S]`: mutated files of every kind.

Each file is read in a process that has a limit of time and of memory. It is either used, or refused with one line of a
`PolyfuseError`; a traceback, a crash and a hang are failures. Exits with 1 where there was one; each is printed with
the kind and the number that make it again.
"""

import argparse
import contextlib
import io
import multiprocessing
import os
import random
import resource
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import click
import onnx
import pytest
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from polyfuse.cli import main as polyfuse
from polyfuse.codegen.compiler import find_compiler
from polyfuse.codegen.target import probe
from polyfuse.deploy.plan import planned, program, read_plan
from polyfuse.errors import PolyfuseError
from polyfuse.loading import load_onnx
from polyfuse.machines.accelerator import accelerator
from polyfuse.plan.planning import plan_for
from tests import effort
from tests.fuzz.mutate_onnx import convolutions, drawn, operator_models, whole_models
from tests.fuzz.mutate_text import mutated_json, mutated_toml

LONGEST = 20.0
"""Seconds of work that a file may take."""
PATIENCE = 6
"""How many times as long it may take in all, where the host is busy."""
MEMORY_BYTES = 6 << 30
LONGEST_MESSAGE = 10_000
SCOP = Path(__file__).parents[1] / "network" / "scop" / "data" / "two_convs.jscop"
TEXTS = ("plan", "scratchpad plan", "machine", "accelerator", "scop")

Outcome = Literal["used", "refused", "failed"]


@dataclass(frozen=True)
class Case:
    """A file: its kind, and the number that makes it."""

    kind: str
    number: int


@dataclass(frozen=True)
class Result:
    """What came of a file; `message` is the last line of a refusal, or all of a failure."""

    case: Case
    outcome: Outcome
    message: str
    seconds: float


@dataclass
class Report:
    """What came of many files."""

    counts: Counter[tuple[str, Outcome]] = field(default_factory=Counter)
    failures: list[Result] = field(default_factory=list)
    slowest: float = 0.0

    def add(self, result: Result) -> None:
        """Count a file."""
        self.counts[result.case.kind, result.outcome] += 1
        self.slowest = max(self.slowest, result.seconds)
        if result.outcome == "failed":
            self.failures.append(result)


@cache
def small_model() -> Path:
    """The model of the plans, in a folder of this process."""
    path = Path(tempfile.mkdtemp()) / "small.onnx"
    made = convolutions()
    made.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    path.write_bytes(made.SerializeToString())
    return path


@cache
def whole_text(kind: str) -> str:
    """The whole file of a kind."""
    if kind == "plan":
        return planned(load_onnx(small_model()), probe(find_compiler(), ()), None).to_json()
    if kind == "scratchpad plan":
        return plan_for(load_onnx(small_model()), accelerator("npu"), dtype="int8").to_json()
    if kind == "scop":
        return SCOP.read_text()
    name = {"machine": "typical.toml", "accelerator": "npu.toml"}[kind]
    return resources.files("polyfuse.machines").joinpath("files", name).read_text(encoding="utf-8")


def command(*arguments: str | Path) -> None:
    """Run a command of polyfuse in this process, its output thrown away."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            polyfuse(list(map(str, arguments)), standalone_mode=False)
        except click.ClickException as error:
            raise PolyfuseError(" ".join(error.format_message().split())) from error


def given_of(content: bytes, chance: random.Random) -> dict[str, Any]:
    """Sizes of the named dimensions of a model, and values of its inputs of whole numbers."""
    try:
        made = onnx.ModelProto.FromString(content)
    except DecodeError:
        return {}
    tensors = {value.name: value.type.tensor_type for value in made.graph.input}
    names = {dim.dim_param: 1 for tensor in tensors.values() for dim in tensor.shape.dim if dim.dim_param}
    values = {name: [2, -1] for name, tensor in tensors.items() if tensor.elem_type == onnx.TensorProto.INT64}
    if names and chance.random() < 0.2:
        names[chance.choice(list(names))] = chance.choice((2, 3, 2**31 - 1))
    return {"dimensions": names, "values": values} if chance.random() < 0.95 else {}


def use_model(path: Path, chance: random.Random) -> None:
    """Import a model, sometimes a part of it, with other sizes, or explained as a command does."""
    given = given_of(path.read_bytes(), chance)
    said = [f"--set={name}={size}" for name, size in given.get("dimensions", {}).items() if name]
    said += [f"--fix={name}=2,-1" for name in given.get("values", {}) if name]
    match chance.randrange(9):
        case 0:
            command("explain", path, *said)
        case 4:
            command("plan", path, "--no-baselines", "--longest", "2", *said)
        case 5:
            network = load_onnx(path, **given)
            target = probe(find_compiler(), ())
            program(network, planned(network, target, None), target)
        case 1:
            load_onnx(path, random_weights=1, **given)
        case 2:
            load_onnx(path, shapes={"x": chance.choice(((1, 2, 8, 8), (2, 2, 4, 4), (1, 3, 5)))}, **given)
        case 3:
            load_onnx(path, first=chance.choice(("c1", "n2")), last=chance.choice(("n5", "c2")), **given)
        case _:
            load_onnx(path, **given)


def use_text(kind: str, path: Path, chance: random.Random) -> None:
    """Do with a file what commands do with one of its kind."""
    if kind == "plan":
        network = load_onnx(small_model())
        program(network, read_plan(path), probe(find_compiler(), ()))
    elif kind == "scratchpad plan":
        if chance.random() < 0.5:
            command("plan", small_model(), "--plan", path)
        else:
            command("explain", path, "--model", small_model(), "--tensor", chance.choice(("c1_out", "none")))
    elif kind == "machine":
        command("machine", path)
    elif kind == "accelerator":
        command("plan", small_model(), "--machine", path, "--no-baselines")
    elif chance.random() < 0.4:
        command("import-scop", SCOP, "--check", path)
    else:
        command("import-scop", path, *(("--tile", "4x4", "--strategy", "recompute") if chance.random() < 0.3 else ()))


def use(case: Case, folder: Path) -> None:
    """Make a file and use it. Errors: PolyfuseError where it is refused."""
    chance = random.Random(f"{case.kind} {case.number}")
    if case.kind in ("model", "operator"):
        path = folder / "m.onnx"
        path.write_bytes(drawn(case.number, whole_models() if case.kind == "model" else operator_models()))
        use_model(path, chance)
        return
    names = {"scop": "f.jscop", "machine": "m.toml", "accelerator": "a.toml"}
    path = folder / names.get(case.kind, "p.json")
    mutated = mutated_toml if path.suffix == ".toml" else mutated_json
    path.write_bytes(mutated(whole_text(case.kind), chance))
    use_text(case.kind, path, chance)


def outcome_of(case: Case, folder: Path) -> tuple[Outcome, str]:
    """What comes of a file, in this process."""
    try:
        use(case, folder)
    except PolyfuseError as error:
        text = str(error)
        fine = "\n" not in text and 0 < len(text) <= LONGEST_MESSAGE
        return ("refused", text) if fine else ("failed", f"expected one line of a message, got {text!r:.900}")
    except BaseException:
        return "failed", traceback.format_exc(limit=-12)[-6000:]
    return "used", ""


def work(pipe: Connection, memory_bytes: int, kinds: frozenset[str]) -> None:
    """A process that makes the whole files of some kinds, then uses files as it is asked to, until asked for none."""
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("ignore")
    effort.use(pytest.MonkeyPatch(), effort.SMALL)
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    with tempfile.TemporaryDirectory() as folder:
        os.environ["POLYFUSE_CACHE"] = folder
        prepare(kinds)
        pipe.send(None)
        while (case := pipe.recv()) is not None:
            pipe.send(outcome_of(case, Path(folder)))


def prepare(kinds: frozenset[str]) -> None:
    """Make the whole files of some kinds, which takes some seconds once."""
    for kind in kinds:
        if kind == "operator":
            operator_models()
        elif kind != "model":
            whole_text(kind)


def cpu_seconds(pid: int | None) -> float:
    """How long a process has worked."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Worker:
    """A process for files of some kinds, started again where it dies or hangs."""

    def __init__(self, kinds: Collection[str]) -> None:
        self.kinds = frozenset(kinds)
        self.start()

    def start(self) -> None:
        """Start the process and wait until it is ready."""
        context = multiprocessing.get_context("spawn")
        self.pipe, there = context.Pipe()
        self.process = context.Process(target=work, args=(there, MEMORY_BYTES, self.kinds), daemon=True)
        self.process.start()
        there.close()
        self.pipe.recv()

    def run(self, case: Case) -> Result:
        """What comes of a file."""
        started = time.monotonic()
        try:
            self.pipe.send(case)
            if self.answers(started):
                outcome, message = self.pipe.recv()
                return Result(case, outcome, message, time.monotonic() - started)
            message = f"hangs: more than {LONGEST:.0f} s"
        except (EOFError, OSError):
            self.process.join()
            message = f"crashes: the process ended with {self.process.exitcode}"
        self.process.kill()
        self.process.join()
        self.start()
        return Result(case, "failed", message, time.monotonic() - started)

    def answers(self, started: float) -> bool:
        """The process answers before it has worked too long, or waited; a busy host does not count against it."""
        worked = cpu_seconds(self.process.pid)
        while not self.pipe.poll(min(1.0, LONGEST)):
            over = time.monotonic() - started
            if over > PATIENCE * LONGEST or (over >= LONGEST and cpu_seconds(self.process.pid) - worked >= LONGEST):
                return False
        return True

    def stop(self) -> None:
        """End the process."""
        self.pipe.send(None)
        self.process.join()


def results(cases: Sequence[Case]) -> Iterator[Result]:
    """What comes of files, one after another in one process."""
    worker = Worker({case.kind for case in cases})
    for case in cases:
        yield worker.run(case)
    worker.stop()


def cases_of(models: int, texts: int, seed: int, operators: int = 0) -> list[Case]:
    """So many models, of which so many are of a single operator, and so many other files, of each kind as many."""
    first = seed * 1_000_000
    found = [Case(TEXTS[k % len(TEXTS)], first + k) for k in range(texts)]
    return found + [Case("operator" if k < operators else "model", first + k) for k in range(models)]


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.files", description=__doc__)
    parser.add_argument("--models", type=int, default=10_000)
    parser.add_argument("--texts", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    started = time.monotonic()
    report = Report()
    for result in results(cases_of(options.models, options.texts, options.seed, options.models // 3)):
        report.add(result)
        if result.outcome == "failed":
            print(f"{result.case}:\n{result.message}\n", flush=True)
        if (done := sum(report.counts.values())) % 500 == 0:
            print(f"{done} files, {len(report.failures)} failures, {time.monotonic() - started:.0f} s", flush=True)
    for (kind, outcome), count in sorted(report.counts.items()):
        print(f"{kind}: {count} {outcome}")
    seconds = time.monotonic() - started
    print(f"{len(report.failures)} failures in {seconds:.0f} s, the slowest file took {report.slowest:.1f} s")
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
