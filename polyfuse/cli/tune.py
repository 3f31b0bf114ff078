"""Options of `polyfuse tune`."""

import click

from polyfuse.choices import MEASURED
from polyfuse.cli.options import EXACT_ARITHMETIC, LAYOUT, WORKLOAD, json_file, number, threads, with_options
from polyfuse.cli.unused import StrictCommand
from polyfuse.cli.values import FILE


@click.command("tune", cls=StrictCommand)
@with_options(*WORKLOAD)
@number(
    "--measure",
    "measured",
    default=MEASURED,
    text="Compile and time the N choices ranked best, and the unfused network.",
)
@with_options(threads(), LAYOUT, EXACT_ARITHMETIC)
@click.option(
    "--tuned", "path", type=FILE, metavar="FILE", help="Keep results in this file, not in the user's data folder."
)
@json_file("what was measured")
def command() -> None:
    """Find the fastest tile, retention and algorithms for a WORKLOAD, and keep them for later runs.

    The time model ranks the choices; the best few are compiled, checked and timed in turns. A command that was
    interrupted goes on where it stopped. A workload of up to 8 layers is tuned as one group, a larger one group by
    group; `polyfuse compile` and `run` use the results.
    """
