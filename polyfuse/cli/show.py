"""Options of `polyfuse show`."""

import click

from polyfuse.cli.options import ROWS, WORKLOAD, picture, with_options
from polyfuse.cli.unused import StrictCommand


@click.command("show", cls=StrictCommand)
@with_options(*WORKLOAD, *ROWS)
@picture("recomputation over the tile size, for sizes that are names")
def command() -> None:
    """Print the sets, schedules, copies, buffers, counts, loops and C of a WORKLOAD.

    Without --tile, one tile size is chosen; without --strategy, every value that two tiles need is recomputed.

    Sizes may be names (--set size=H, with a --tile): executions, loads and stores are then printed as formulas.
    """
