"""Options of `polyfuse compare`."""

import click

from polyfuse.choices import KERNELS_NAMES, LAYOUTS
from polyfuse.cli.options import (
    BLOCKED,
    EXACT_ARITHMETIC,
    ROWS,
    WORKLOAD,
    choice,
    json_file,
    layout,
    picture,
    repeats,
    threads,
    with_options,
)
from polyfuse.cli.unused import StrictCommand
from polyfuse.cli.values import FILE


@click.command("compare", cls=StrictCommand)
@with_options(*WORKLOAD, *ROWS, repeats(5), threads())
@choice("--kernels", of=KERNELS_NAMES, text="Time fast row kernels, or readable loops over single statements (scalar).")
@layout(LAYOUTS, f"{BLOCKED}, or in blocks of 4, 8 or 16")
@EXACT_ARITHMETIC
@click.option("--no-run", is_flag=True, help="Only predict: compile, count and time nothing.")
@json_file("the rows")
@picture("time and bytes")
@click.option(
    "--emit", "folder", type=FILE, metavar="DIR", help="Write the C and the schedules of every row to this folder."
)
def command() -> None:
    """Compare tiles and strategies for a WORKLOAD: predicted, counted, checked and timed.

    Without --tile and --strategy, a spread of tile sizes is compared in all strategies. The fastest choice that
    `polyfuse tune` has found for the workload as it is written is one more row, `tuned`.
    """
