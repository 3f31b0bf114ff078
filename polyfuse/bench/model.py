"""The error of the time model: `python -m polyfuse.bench.model`.

For every workload the choices of the tuner's search space, thinned out, are predicted and then measured in turns. A
line for each: the mean relative error, what the model would pick without measuring, and its time over the best one's.
With `--tune` the tuner looks for a choice first, which is then measured in the same rounds as the others.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import click
from rich.console import Console
from rich.table import Table

from polyfuse.bench.measure import measure
from polyfuse.bench.tune import Tuner
from polyfuse.codegen.kernel import Kernel, compile_programs
from polyfuse.codegen.lower.selection import Interface
from polyfuse.deploy.settings import Settings
from polyfuse.deploy.space import Choice, ranked, search_space
from polyfuse.errors import PolyfuseError
from polyfuse.files import check_writable, write_atomically
from polyfuse.loading import load_workload
from polyfuse.machines.host import known_machine, read_machine
from polyfuse.network.network import Network
from polyfuse.network.reference import random_inputs
from polyfuse.progress import Progress, silent

WORKLOADS: tuple[tuple[str, dict[str, str]], ...] = (
    ("stencil3", {}),
    ("vgg_pair", {}),
    ("mbv2_block", {"size": "56"}),
    ("mbv2_block", {"size": "224"}),
    ("dwsep", {"pairs": "1"}),
    ("dwsep", {"pairs": "2"}),
    ("sr4", {}),
    ("resnet_block", {}),
)
SAMPLE_SECONDS = 0.02


@dataclass(frozen=True)
class PredictedChoice:
    """One choice, predicted and measured."""

    label: str
    predicted_seconds: float
    seconds: float

    @property
    def error(self) -> float:
        """The relative error."""
        return abs(self.predicted_seconds / self.seconds - 1)


@dataclass(frozen=True)
class PredictedChoices:
    """All choices of one workload; `tuned` is the label of the one that the tuner found, if it was asked."""

    workload: str
    points: tuple[PredictedChoice, ...]
    tuned: str | None = None

    @property
    def mean_error(self) -> float:
        """The mean relative error of the predictions."""
        return sum(point.error for point in self.points) / len(self.points)

    @property
    def bias(self) -> float:
        """The median of predicted over measured."""
        ratios = sorted(point.predicted_seconds / point.seconds for point in self.points)
        return ratios[len(ratios) // 2]

    @property
    def picked(self) -> PredictedChoice:
        """The choice that the model predicts to be the fastest."""
        return min(self.points, key=lambda point: point.predicted_seconds)

    @property
    def best(self) -> PredictedChoice:
        """The choice that was measured to be the fastest."""
        return min(self.points, key=lambda point: point.seconds)

    def over_best(self, label: str) -> float:
        """The time of a choice over that of the best."""
        return next(point.seconds for point in self.points if point.label == label) / self.best.seconds


def thinned(choices: Sequence[Choice], most: int) -> list[Choice]:
    """The first choice, and others at equal distances."""
    step = max(1, -(-(len(choices) - 1) // max(1, most - 1)))
    return [choices[0], *choices[1::step]]


def sweep(
    name: str,
    network: Network,
    settings: Settings,
    *,
    most: int = 40,
    repeats: int = 9,
    tuned: bool = False,
    progress: Progress = silent,
) -> PredictedChoices:
    """Predict and measure the choices of one workload, on one thread; what the tuner finds among them, if `tuned`.

    Errors: BuildError, InvalidInput.
    """
    interface, target, machine = settings.interface, settings.target, settings.machine or known_machine()
    space = search_space(network, target, settings.exact)
    choices, tuned_label = thinned(space, most), None
    if tuned:
        tuned_label = tuned_choice(network, settings, progress)
        choices += [each for each in space if each.label == tuned_label and each not in choices]
    found = ranked(network, choices, machine, target, interface, progress=progress)
    programs, predicted = [], {}
    for prediction in found:
        choice = prediction.choice
        try:
            programs.append((choice.label, choice.program(network, target, interface)))
        except PolyfuseError:
            continue
        predicted[choice.label] = prediction.seconds.total
    progress("compiling", 0, 1)
    built = compile_programs([program for _, program in programs], options=settings.options)
    kernels: dict[str, Kernel] = {}
    first: Kernel | None = None
    for (label, program), library in zip(programs, built, strict=True):
        kernels[label] = Kernel(program, library, sharing=first)
        first = first or kernels[label]
    assert first is not None
    first.set_inputs(random_inputs(network, seed=1))
    runs = {label: kernel.run for label, kernel in kernels.items()}
    timings = measure(
        runs, repeats=repeats, min_seconds=SAMPLE_SECONDS, progress=lambda _, k, of: progress("measuring", k, of)
    )
    points = tuple(PredictedChoice(label, predicted[label], timing.minimum) for label, timing in timings.items())
    return PredictedChoices(name, points, tuned_label)


def tuned_choice(network: Network, settings: Settings, progress: Progress) -> str | None:
    """The label of what the tuner finds, from nothing."""
    with TemporaryDirectory() as folder:
        best = Tuner(settings, path=Path(folder) / "tuned.json", progress=progress).entry(network).best
    return best.label if best is not None else None


def table(sweeps: Sequence[PredictedChoices]) -> Table:
    """A line for each workload."""
    shown = Table(box=None)
    names = ("workload", "picked", "tuned", "best")
    headings = ["workload", "choices", "mean error", "predicted / measured", "picked", "its time / best", "best"]
    tuned = any(each.tuned is not None for each in sweeps)
    for heading in [*headings[:-1], *(["tuned", "its time / best"] if tuned else []), headings[-1]]:
        shown.add_column(heading, justify="left" if heading in names else "right")
    for each in sweeps:
        row = [each.workload, str(len(each.points)), f"{each.mean_error:.1%}", f"{each.bias:.2f}"]
        for label in (each.picked.label, *([each.tuned] if tuned else [])):
            row += [label or "", f"{each.over_best(label):.3f}" if label else ""]
        shown.add_row(*row, each.best.label)
    return shown


@click.command()
@click.option("--only", default="", help="Workloads whose name holds this.")
@click.option("--most", type=click.IntRange(2), default=40, show_default=True, help="Choices for each workload.")
@click.option("--repeats", type=click.IntRange(1), default=9, show_default=True, help="Samples of each choice.")
@click.option("--layout", type=click.Choice(("nchw", "blocked")), default="blocked", show_default=True)
@click.option("--exact-arithmetic", "exact", is_flag=True, help="No Winograd.")
@click.option("--tune", "tuned", is_flag=True, help="Look for the best choice with the tuner, too.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write every point as JSON.")
def main(
    only: str, most: int, repeats: int, layout: Interface, exact: bool, tuned: bool, json_file: Path | None
) -> None:
    """Print the error of the time model on the workloads in kernels/, and what it picks."""
    if json_file is not None:
        check_writable(json_file)
    settings = Settings(interface=layout, exact=exact, machine=read_machine()).ready
    sweeps = []
    for name, parameters in WORKLOADS:
        full = " ".join([name, *(f"{key}={value}" for key, value in parameters.items())])
        if only in full:
            click.echo(full, err=True)
            network = load_workload(name, parameters=parameters)
            sweeps.append(sweep(full, network, settings, most=most, repeats=repeats, tuned=tuned))
    Console(width=180).print(table(sweeps))
    if json_file is not None:
        write_atomically(json_file, (json.dumps([asdict(each) for each in sweeps], indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
