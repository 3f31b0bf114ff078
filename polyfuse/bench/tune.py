"""Find the fastest way to run a network on this host: `polyfuse tune`.

    Network + Machine ──tune()──> TunedEntry in the file of `deploy.tuned`, measured choices and the best of them

The model ranks all choices; the best of every kind are compiled in parallel, checked and measured in turns with the
unfused program, a few at a time, then the neighbours of the best one; the best of all are measured again, more often.
What is measured is written at once, so an interrupt loses the few that are being measured, and the next run goes on
behind them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from polyfuse.bench.compare import error_of
from polyfuse.bench.measure import measure
from polyfuse.choices import MEASURED
from polyfuse.codegen.build import Options
from polyfuse.codegen.kernel import Kernel, compile_programs
from polyfuse.codegen.lower.selection import Interface
from polyfuse.codegen.program import Program
from polyfuse.codegen.rows.winograd import is_3x3
from polyfuse.codegen.target import Target
from polyfuse.deploy.model import plan_of
from polyfuse.deploy.settings import Settings
from polyfuse.deploy.space import Choice, Prediction, ranked, search_space
from polyfuse.deploy.tuned import FILE, MeasuredChoice, TunedEntry, key_of, tried
from polyfuse.deploy.tuning import INSIDE
from polyfuse.errors import IllegalSchedule, PolyfuseError, TooComplex, Unbounded
from polyfuse.files import check_writable, make_folder
from polyfuse.machines.host import Machine, known_machine
from polyfuse.network.dtypes import Values
from polyfuse.network.network import Network
from polyfuse.network.reference import expected_outputs, random_inputs
from polyfuse.progress import Progress, silent

AT_ONCE = 4
"""Choices that are measured in the same rounds, together with the unfused one."""
FINALISTS = 3
STEPS = 3
"""How often neighbours of the best choice are measured, with fewer and with more rows."""
SAMPLES, FINAL_SAMPLES = 7, 21
SAMPLE_SECONDS = 0.02
FROM_EACH_KIND = 2
"""Choices of one kind of retention that come first: what the model gets wrong, it gets wrong for a kind."""
WITHIN = 1.25
"""Kinds whose best choice is predicted to take more than so many times the best of all are not measured first."""
MOST_ERROR = 1e-5


@dataclass(frozen=True, eq=False)
class Task:
    """A network that is tuned, how its code is built, and what goes in and must come out."""

    network: Network
    settings: Settings
    target: Target
    inputs: dict[str, Values]
    expected: dict[str, np.ndarray]

    @staticmethod
    def of(network: Network, settings: Settings, target: Target) -> "Task":
        """With random inputs, and the outputs of the reference."""
        inputs = random_inputs(network, seed=1)
        return Task(network, settings, target, inputs, expected_outputs(network, inputs))

    def program(self, choice: Choice) -> Program:
        """The program of a choice, proved legal."""
        return choice.program(self.network, self.target, self.settings.interface)


@dataclass(frozen=True)
class TunedGroup:
    """A group of a plan, and what was measured of it."""

    layers: tuple[str, ...]
    entry: TunedEntry


@dataclass(frozen=True)
class Tuner:
    """How networks are tuned.

    settings   how code is built, with the compiler found, and the machine whose time model ranks the choices
    measured   how many choices are measured, the unfused one apart
    path       the tuned file; None for the user's
    """

    settings: Settings
    measured: int = MEASURED
    path: Path | None = None
    progress: Progress = silent

    def entry(self, network: Network, workload: str | None = None) -> TunedEntry:
        """Measure the choices that the model ranks best, and keep what was found under the name `workload`.

        Errors: as `tune`.
        """
        settings, file = self.settings, FILE.at(self.path)
        if self.path is None:
            make_folder(file.path.parent)
        check_writable(file.path)
        key = key_of(network, settings)
        entry = file.find(key) or TunedEntry(key, workload or network.name, ())
        target = settings.target
        space, machine = search_space(network, target, settings.exact), settings.machine or known_machine()
        predictions = ranked(network, space, machine, target, settings.interface, settings.threads, self.progress)
        task = Task.of(network, settings, target)
        known = {each.label for each in entry.tried}
        missing = [each for each in promising(predictions, self.measured) if each.choice.label not in known]
        unfused = first_unfused(predictions)
        if missing:
            again = tuple(replace(each, samples=min(each.samples, SAMPLES)) for each in entry.tried)
            entry = replace(entry, tried=again)
        for first in range(0, len(missing), AT_ONCE):
            batch = missing[first : first + AT_ONCE]
            self.progress("measuring", first, len(missing))
            entry = self.kept(entry, timed(task, [unfused, *batch], SAMPLES))
        return self.with_final(task, entry, predictions)

    def groups(self, network: Network, workload: str | None = None) -> tuple[TunedGroup, ...]:
        """Tune every group of a network's plan that has a choice, as a network of its own; keep what was found.

        `polyfuse compile` and `run` take what was found for each. An interrupted run goes on where it stopped.
        Errors: as `tune`, and those of planning.
        """
        plan = plan_of(network, replace(self.settings, untuned=True), self.progress)
        wanted = [group for group in plan.groups if group.tile is not None or has_choice(network, group.layers)]
        found = []
        for k, group in enumerate(wanted):

            def progress(what: str, done: int, of: int, k: int = k) -> None:
                self.progress(f"group {k + 1} of {len(wanted)}: {what}", done, of)

            tuner = replace(self, settings=replace(self.settings, interface=INSIDE), progress=progress)
            name = f"{workload or network.name}: {group.layers[0]} to {group.layers[-1]}"
            found.append(TunedGroup(group.layers, tuner.entry(network.select(group.layers), name)))
        return tuple(found)

    def with_final(self, task: Task, entry: TunedEntry, predictions: Sequence[Prediction]) -> TunedEntry:
        """Measure the neighbours of the best choice, then the best of all together; unless that was done before."""
        unfused = first_unfused(predictions)
        if any(each.samples == FINAL_SAMPLES for each in entry.tried):
            return entry
        for step in range(STEPS):
            best = final_predictions(entry, predictions)[:1]
            known = {each.label for each in entry.tried}
            near = [each for one in best for each in neighbours(one, predictions) if each.choice.label not in known]
            if not near:
                break
            self.progress("measuring neighbours of the best", step, STEPS)
            entry = self.kept(entry, timed(task, [unfused, *best, *near], SAMPLES))
        if final := final_predictions(entry, predictions):
            self.progress("measuring the best again", 0, 1)
            entry = self.kept(entry, timed(task, [unfused, *final], FINAL_SAMPLES))
        return entry

    def kept(self, entry: TunedEntry, found: Sequence[MeasuredChoice]) -> TunedEntry:
        """The entry with measurements added, written to the file."""
        entry = entry.with_tried(found)
        FILE.at(self.path).add(entry)
        return entry


def tune(
    network: Network,
    machine: Machine,
    *,
    workload: str | None = None,
    measured: int = MEASURED,
    interface: Interface = "nchw",
    threads: int = 1,
    exact: bool = False,
    path: Path | None = None,
    options: Options | None = None,
    progress: Progress | None = None,
) -> TunedEntry:
    """Measure the choices that the model ranks best, `measured` of them and the unfused one, and keep what was found.

    `exact` keeps to the direct algorithm; what is found is kept apart.

    Errors: BuildError; InvalidInput for a tuned file that holds something else or cannot be written; PolyfuseError for
    wrong results.
    """
    settings = Settings(
        interface=interface, threads=threads, exact=exact, machine=machine, options=options or Options()
    ).ready
    return Tuner(settings, measured, path, progress or silent).entry(network, workload)


def has_choice(network: Network, layers: tuple[str, ...]) -> bool:
    """Whether a layer may be computed by several algorithms."""
    return any(is_3x3(layer) for layer in network.layers if layer.name in layers)


def final_predictions(entry: TunedEntry, predictions: Sequence[Prediction]) -> list[Prediction]:
    """The fused choices that compete at last, the best one first."""
    by_label = {each.choice.label: each for each in predictions if each.choice.strategy is not None}
    return [by_label[each.label] for each in finalists([each for each in entry.tried if each.label in by_label])]


def neighbours(best: Prediction, predictions: Sequence[Prediction]) -> list[Prediction]:
    """The choices that differ from a given one by the next smaller and the next larger number of rows only."""

    def columns(each: Prediction) -> tuple[object, ...]:
        strategy = each.choice.strategy
        return (*kind_of(each.choice), strategy is None, strategy.tile[1:] if strategy is not None else ())

    alike = [each for each in predictions if columns(each) == columns(best)]
    ordered = sorted(alike, key=lambda each: each.choice.strategy.tile[:1] if each.choice.strategy is not None else ())
    place = ordered.index(best)
    return [*ordered[max(0, place - 1) : place], *ordered[place + 1 : place + 2]]


def finalists(measured: Sequence[MeasuredChoice]) -> list[MeasuredChoice]:
    """The best few by their ratio to the unfused program and by their time: a disturbed round spoils one of them."""
    by_ratio = sorted(measured, key=lambda each: each.ratio)[:FINALISTS]
    by_seconds = sorted(measured, key=lambda each: each.seconds)[:FINALISTS]
    return list({each.label: each for each in (*by_ratio, *by_seconds)}.values())


def first_unfused(predictions: Sequence[Prediction]) -> Prediction:
    """The layer by layer choice with which others are compared: the fastest by the model."""
    return next(each for each in predictions if each.choice.strategy is None)


def promising(predictions: Sequence[Prediction], count: int) -> list[Prediction]:
    """The unfused choice, the best few of every kind that is not far behind, then whatever is fastest; `count` in all.

    `predictions` are in order, the fastest first.
    """
    fused = [each for each in predictions if each.choice.strategy is not None]
    unfused = [first_unfused(predictions)]
    if not fused:
        return unfused
    limit = WITHIN * fused[0].seconds.total
    kinds: dict[tuple[object, ...], int] = {}
    first: list[Prediction] = []
    rest: list[Prediction] = []
    for each in fused:
        kind = kind_of(each.choice)
        kinds[kind] = kinds.get(kind, 0) + 1
        early = kinds[kind] <= FROM_EACH_KIND and each.seconds.total <= limit
        (first if early else rest).append(each)
    return [*unfused, *first, *rest][: count + len(unfused)]


def kind_of(choice: Choice) -> tuple[object, ...]:
    """Everything of a choice but tile sizes: places, tensors with places of their own, algorithms."""
    strategy = choice.strategy
    places = () if strategy is None else (strategy.others, tuple(strategy.retention))
    return (*places, tuple(choice.algorithms.items()))


def timed(task: Task, predictions: Sequence[Prediction], samples: int) -> list[MeasuredChoice]:
    """Compile some choices, the unfused one first, check each, and time them in turns.

    Choices that cannot be scheduled after all are left out; the first must be.
    """
    programs: list[tuple[Prediction, Program]] = []
    for each in predictions:
        try:
            programs.append((each, task.program(each.choice)))
        except (TooComplex, Unbounded, IllegalSchedule):
            if not programs:
                raise
    settings = task.settings
    built = compile_programs([each for _, each in programs], threads=settings.threads, options=settings.options)
    kernels: dict[str, Kernel] = {}
    errors: dict[str, float] = {}
    first: Kernel | None = None
    for (each, program), library in zip(programs, built, strict=True):
        kernel = Kernel(program, library, settings.threads_of(program), sharing=first)
        first = first or kernel
        kernels[each.choice.label] = kernel
        errors[each.choice.label] = checked(task, each.choice, kernel)
    runs = {label: kernel.run for label, kernel in kernels.items()}
    timings = measure(runs, repeats=samples, min_seconds=SAMPLE_SECONDS, threads=settings.threads)
    seconds = {label: timing.minimum for label, timing in timings.items()}
    unfused = seconds[programs[0][0].choice.label]
    found = []
    for each, _ in programs:
        label = each.choice.label
        total = each.seconds.total
        found.append(tried(each.choice, total, seconds[label], unfused, samples, errors[label]))
    return found


def checked(task: Task, choice: Choice, kernel: Kernel) -> float:
    """The error of a kernel's outputs on memory full of NaN.

    Errors: PolyfuseError where it is more than rounding.
    """
    error = error_of(kernel, task.inputs, task.expected)
    most = MOST_ERROR + kernel.program.error_bound
    if not error <= most:
        raise PolyfuseError(
            f"{task.network.name}, {choice.label}: values differ from the reference by {error:.1e}, more than "
            f"{most:.1e}; this is a polyfuse bug, please report it"
        )
    return error
