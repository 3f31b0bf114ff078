"""What tuning found, as a table for the terminal.

Enters: an `Entry`. Leaves: text.
"""

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from polyfuse.bench.tuned import Entry, Tried
from polyfuse.report.format import short_seconds


def print_tuning(entry: Entry, console: Console | None = None) -> None:
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


def _table(entry: Entry) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("choice")
    for title in ("predicted", "measured", "error of\nprediction", "ratio to\nunfused", "samples", "max rel\nerror"):
        table.add_column(title, justify="right")
    for each in sorted(entry.tried, key=lambda each: (-each.samples, each.ratio)):
        table.add_row(*_cells(each), style="bold" if each is entry.best else "")
    return table


def _cells(each: Tried) -> tuple[str, ...]:
    times = (short_seconds(each.predicted_seconds), short_seconds(each.seconds))
    error = f"{each.predicted_seconds / each.seconds - 1:+.1%}"
    return each.label, *times, error, f"{each.ratio:.3f}", str(each.samples), f"{each.max_rel_error:.1e}"
