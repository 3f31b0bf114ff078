"""`polyfuse machine`: options in, text and a machine file out."""

from pathlib import Path

import click

from polyfuse.bench.fit import fit
from polyfuse.bench.probe import DEFAULT_SECONDS, probe
from polyfuse.cli_types import FILE
from polyfuse.cli_unused import Checked
from polyfuse.files import check_writable, make_folder, write_atomically
from polyfuse.plan.machine import machine_path, read_machine
from polyfuse.report.machine import print_machine
from polyfuse.report.progress import ProgressBar


@click.command(cls=Checked)
@click.argument("file", required=False, type=FILE, metavar="[FILE.toml]")
@click.option("--probe", "wanted", is_flag=True, help="Measure this host and write its machine file.")
@click.option("--fit", "fitting", is_flag=True, help="Fit the costs of the time model on this host, about a minute.")
@click.option("-o", "--output", type=FILE, metavar="FILE.toml", help="Write there instead of the user's config folder.")
@click.option(
    "--seconds",
    type=click.FloatRange(0, 3600, min_open=True),
    metavar="S",
    help=f"How long --probe measures, about; more is steadier.  [default: {DEFAULT_SECONDS:g}]",
)
def machine(file: Path | None, wanted: bool, fitting: bool, output: Path | None, seconds: float | None) -> None:
    """Print the machine file of this host, or another one; with --probe, measure and write it.

    The file holds compute rates, capacities and bandwidths, and with --fit the costs of the time model. It is
    $POLYFUSE_MACHINE, else machine.toml in the user's config folder.
    """
    if not (wanted or fitting):
        print_machine(read_machine(file))
        return
    if file is not None:
        raise click.UsageError(
            f"{'--probe' if wanted else '--fit'} measures this host and reads no file; to write '{file}', use -o {file}"
        )
    known = None if wanted else read_machine()
    if output is None:
        make_folder(machine_path().parent)
    path = output or machine_path()
    check_writable(path)
    with ProgressBar() as progress:
        found = known or probe(seconds or DEFAULT_SECONDS, progress=progress)
        if fitting:
            found = fit(found, progress=progress)
    write_atomically(path, found.to_toml().encode())
    print_machine(found)
    click.echo(f"written: {path}")
