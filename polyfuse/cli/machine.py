"""Options of `polyfuse machine`."""

import click

from polyfuse.choices import PROBE_SECONDS
from polyfuse.cli.options import output
from polyfuse.cli.unused import StrictCommand
from polyfuse.cli.values import FILE


@click.command("machine", cls=StrictCommand)
@click.argument("file", required=False, type=FILE, metavar="[FILE.toml]")
@click.option("--probe", "wanted", is_flag=True, help="Measure this host, and write its machine file.")
@click.option("--fit", "fitting", is_flag=True, help="Fit the costs of the time model to this host, in about a minute.")
@output("path", "FILE.toml", "Write the machine file to this path, not to the user's config folder.")
@click.option(
    "--seconds",
    type=click.FloatRange(0, 3600, min_open=True),
    metavar="S",
    default=PROBE_SECONDS,
    show_default=True,
    help="Measure for about S seconds with --probe; longer is steadier.",
)
def command() -> None:
    """Print the machine file of this host, or another one; with --probe, measure this host and write the file.

    The file holds compute rates, capacities and bandwidths, and with --fit the costs of the time model. It is
    $POLYFUSE_MACHINE, else machine.toml in the user's config folder.
    """
