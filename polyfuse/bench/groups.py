"""Where the time of a network goes: `python -m polyfuse.bench.groups MODEL` prints each group and its floor.

The program that `polyfuse.load` runs is compiled once more with a clock read between its groups. The floor of a group
is its multiply-accumulates at the peak in the machine file; Winograd's algorithm may pass it, activations made of `exp`
and weights that come from memory are not in it.
"""

import os
import re
import statistics
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import click
from rich.console import Console
from rich.table import Table

from polyfuse.codegen.kernel import Kernel, rebuild
from polyfuse.codegen.lower.group import LoweredGroup
from polyfuse.codegen.program import Program
from polyfuse.deploy.model import plan_of, program_of
from polyfuse.deploy.settings import Settings
from polyfuse.deploy.source import read_source
from polyfuse.loading import Workload
from polyfuse.machines.host import known_machine
from polyfuse.network.reference import random_inputs
from polyfuse.schedule.counts import macs_of

CLOCK = """\
#include <time.h>
double polyfuse_seconds[{groups}];
static double seconds_now(void) {{
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec + 1e-9 * now.tv_nsec;
}}
"""


def timed_source(program: Program) -> str:
    """The C of a program, with the seconds of every group of the last run in `polyfuse_seconds`."""
    source = program.source
    start = source.index("void polyfuse_run(")
    run = re.sub(
        r"^  group(\d+)\((.*)\);$",
        r"  { const double began = seconds_now(); group\1(\2); polyfuse_seconds[\1] = seconds_now() - began; }",
        source[start:],
        flags=re.MULTILINE,
    )
    clock = CLOCK.format(groups=len(program.groups))
    return f"#define _POSIX_C_SOURCE 199309L\n{source[:start]}{clock}{run}"


def timed(program: Program, folder: Path) -> Kernel:
    """The program with clocks, compiled. Errors: BuildError."""
    path = folder / "timed.c"
    path.write_text(timed_source(program), encoding="utf-8")
    return rebuild(program, path)


def seconds_of_groups(kernel: Kernel, repeats: int) -> list[float]:
    """For each group the median seconds of so many runs, after a few that are not counted."""
    groups = len(kernel.program.groups)
    values = kernel.exported("polyfuse_seconds", groups)
    samples: list[list[float]] = []
    for index in range(repeats + 3):
        kernel.run()
        if index >= 3:
            samples.append(list(values))
    return [statistics.median(sample[k] for sample in samples) for k in range(groups)]


def lines(groups: Sequence[LoweredGroup], seconds: Sequence[float], gflop_per_second: float) -> list[tuple[str, ...]]:
    """Each group: its layers, its microseconds, its floor, and the share of that."""
    found: list[tuple[str, ...]] = []
    for group, time in zip(groups, seconds, strict=True):
        network = group.storage.schedule.network
        floor = 2 * macs_of(network.layers) / (1e9 * gflop_per_second)
        kinds = ", ".join(layer.kind for layer in network.layers)
        shape = "x".join(map(str, network.layers[-1].output.concrete_shape[1:]))
        share = f"{floor / time:.0%}" if floor else ""
        found.append((network.layers[0].name, kinds, shape, f"{1e6 * time:.1f}", f"{1e6 * floor:.1f}", share))
    return found


@click.command()
@click.argument("model")
@click.option("--random-weights", type=int, metavar="SEED", help="Give a model seeded random weights.")
@click.option("--repeats", type=click.IntRange(min=1), default=31, show_default=True, help="Runs of the network.")
def main(model: str, random_weights: int | None, repeats: int) -> None:
    """Print the time of every group of a planned MODEL, and its floor; one thread, on the last core."""
    settings = Settings().ready
    network = read_source(Workload(model, random_weights=random_weights)).network
    program = program_of(network, plan_of(network, settings), settings)
    with TemporaryDirectory() as folder:
        kernel = timed(program, Path(folder))
        kernel.set_inputs(random_inputs(program.network, seed=1))
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
        seconds = seconds_of_groups(kernel, repeats)
    table = Table("first layer", "layers", "makes", "µs", "floor", "share", title=f"groups of {program.network.name}")
    for line in lines(program.groups, seconds, known_machine().peak.gflop_per_second):
        table.add_row(*line)
    floor = 2 * macs_of(program.network.layers) / (1e9 * known_machine().peak.gflop_per_second)
    total = sum(seconds)
    table.add_section()
    table.add_row("all", "", "", f"{1e6 * total:.1f}", f"{1e6 * floor:.1f}", f"{floor / total:.0%}")
    Console().print(table)


if __name__ == "__main__":
    main()
