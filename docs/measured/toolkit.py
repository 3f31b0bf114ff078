"""How long the toolkit itself takes: `python docs/measured/toolkit.py` prints the CPU time of every stage.

Chains of 3x3 convolutions, 2-D tiles, concrete sizes; each stage as a user runs it, nothing cached. The time of the
lowering is that of every layer's schedule, which code generation does not need. Before that, how long a fresh
interpreter takes to import polyfuse and to print its help, against the import of numpy and islpy, which polyfuse needs.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from statistics import median
from typing import TypeVar

import click
from rich.console import Console
from rich.table import Table

from polyfuse.choices import Place
from polyfuse.codegen.program import generate
from polyfuse.network.network import Builder, Network
from polyfuse.schedule.counts import counts
from polyfuse.schedule.legality import check
from polyfuse.schedule.lower import lower
from polyfuse.schedule.retention import Placement
from polyfuse.schedule.schedule import scheduled
from polyfuse.schedule.storage import storage
from polyfuse.schedule.strategy import Strategy

Result = TypeVar("Result")
STARTS = {
    "import numpy, islpy": ("-c", "import numpy, islpy"),
    "import polyfuse": ("-c", "import polyfuse"),
    "polyfuse --help": ("-m", "polyfuse", "--help"),
    "polyfuse plan --help": ("-m", "polyfuse", "plan", "--help"),
}
"""What a fresh interpreter is started for; the first is what the others are compared with."""
STAGES = ("build", "schedule", "storage", "legality", "lower", "count", "generate")
STRATEGIES: dict[str, tuple[tuple[Place, ...], Placement]] = {
    "recompute": (("recompute", "recompute"), "first"),
    "local first": (("local", "local"), "first"),
    "local shifted": (("local", "local"), "shifted"),
    "global": (("global", "global"), "first"),
    "rows local": (("local", "recompute"), "shifted"),
    "columns local": (("recompute", "local"), "shifted"),
}


def chain(layers: int, rows: int = 540, columns: int = 960, channels: int = 16) -> Network:
    """A chain of 3x3 convolutions with padding 1 and ReLU."""
    build = Builder("chain")
    x = build.input("x", (1, channels, rows, columns))
    for k in range(layers):
        x = build.conv(f"conv{k + 1}", x, channels, kernel=3, padding=1, activation="relu")
    return build.network(x)


def stage_seconds(layers: int, tile: tuple[int, ...], places: tuple[Place, ...], placement: Placement) -> list[float]:
    """The CPU seconds of every stage, in the order of STAGES."""
    seconds: list[float] = []

    def timed(run: Callable[[], Result]) -> Result:
        start = time.thread_time()
        result = run()
        seconds.append(time.thread_time() - start)
        return result

    network = timed(lambda: chain(layers))
    group_schedule = timed(lambda: scheduled(network, Strategy(tile, places, placement=placement)))
    group = timed(lambda: storage(group_schedule))
    timed(lambda: check(group))
    timed(lambda: [lower(group_schedule.executions(layer)) for layer in network.layers])
    timed(lambda: counts(group))
    timed(lambda: generate(network, [group], kernels="scalar"))
    return seconds


def start_seconds(repeats: int) -> dict[str, float]:
    """The median seconds of every start, of several that are taken in turns."""
    seconds: dict[str, list[float]] = {name: [] for name in STARTS}
    for _ in range(repeats):
        for name, words in STARTS.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
            seconds[name].append(time.perf_counter() - start)
    return {name: median(each) for name, each in seconds.items()}


def rows(layers: Iterable[int], tile: tuple[int, ...]) -> Iterator[tuple[str, ...]]:
    """For each length of a chain and each strategy: both, the seconds of every stage, and their sum."""
    for count in layers:
        for name, (places, placement) in STRATEGIES.items():
            seconds = stage_seconds(count, tile, places, placement)
            yield str(count), name, *(f"{s:.2f}" for s in [*seconds, sum(seconds)])


@click.command()
@click.option("--layers", multiple=True, type=click.IntRange(1), default=(4, 10), help="Length of a chain.")
@click.option("--tile", nargs=2, type=click.IntRange(1), default=(60, 240), help="Rows and columns of a tile.")
@click.option("--starts", type=click.IntRange(1), default=15, show_default=True, help="Start each interpreter N times.")
def main(layers: tuple[int, ...], tile: tuple[int, int], starts: int) -> None:
    """Print how long polyfuse takes to start, and the CPU seconds of every stage for chains of convolutions."""
    found = start_seconds(starts)
    base = next(iter(found.values()))
    for name, seconds in found.items():
        click.echo(f"{name:<21} {seconds:.3f} s, {seconds / base:.2f} times {next(iter(found))}")
    table = Table(title=f"CPU seconds, 2-D tiles {tile[0]}x{tile[1]} of 540x960", box=None, padding=(0, 1, 0, 0))
    for heading in ("layers", "strategy", *STAGES, "total"):
        table.add_column(heading, justify="left" if heading == "strategy" else "right", no_wrap=True)
    for row in rows(layers, tile):
        table.add_row(*row)
    Console().print(table)


if __name__ == "__main__":
    main()
