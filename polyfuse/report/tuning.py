"""What tuning found, as a table for the terminal.

Enters: a `TunedEntry`. Leaves: text.
"""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from polyfuse.bench.tune import TunedGroup
from polyfuse.deploy.tuned import MeasuredChoice, TunedEntry
from polyfuse.report.format import short_seconds
from polyfuse.report.tables import table_of


def print_tuning(entry: TunedEntry, console: Console | None = None) -> None:
    """Print every choice measured, the fastest first; on standard output unless a console is given."""
    out = console or Console()
    key = entry.key
    threads = f"{key.threads} thread{'s' if key.threads > 1 else ''}"
    out.print(Text(f"{entry.workload} on {key.cpu}", style="bold"))
    out.print(Text(f"{key.compiler} {' '.join(key.flags)}; {key.layout}, {threads}", style="dim"))
    out.print(_table(entry))
    best = entry.best
    if best is not None:
        out.print(f"best: {best.label}, {best.ratio:.2f}x the unfused time")


def print_tuned_groups(groups: Sequence[TunedGroup], console: Console | None = None) -> None:
    """Print the fastest choice of each group of a network; on standard output unless a console is given."""
    out = console or Console()
    table = table_of("group", "fastest", ">measured", ">ratio to\nunfused")
    for each in groups:
        best = each.entry.best
        name = each.layers[0] if len(each.layers) == 1 else f"{each.layers[0]} to {each.layers[-1]}"
        if best is not None:
            table.add_row(Text(name), Text(best.label), short_seconds(best.seconds), f"{best.ratio:.3f}")
    out.print(table if groups else "no group has a choice: nothing to tune")


def _table(entry: TunedEntry) -> Table:
    numbers = ("predicted", "measured", "error of\nprediction", "ratio to\nunfused", "samples", "max rel\nerror")
    table = table_of("choice", *(f">{title}" for title in numbers))
    for each in sorted(entry.tried, key=lambda each: (-each.samples, each.ratio)):
        table.add_row(*_cells(each), style="bold" if each is entry.best else "")
    return table


def _cells(each: MeasuredChoice) -> tuple[str, ...]:
    times = (short_seconds(each.predicted_seconds), short_seconds(each.seconds))
    error = f"{each.predicted_seconds / each.seconds - 1:+.1%}"
    return each.label, *times, error, f"{each.ratio:.3f}", str(each.samples), f"{each.max_rel_error:.1e}"
