"""`polyfuse machine`: options in, text and a machine file out."""

from pathlib import Path

import click

from polyfuse.bench.fit import fit
from polyfuse.bench.probe import DEFAULT_SECONDS, probe
from polyfuse.cli.options import output
from polyfuse.cli.unused import Checked
from polyfuse.cli.values import FILE
from polyfuse.files import check_writable, make_folder, write_atomically
from polyfuse.machines.host import machine_path, read_machine
from polyfuse.report.machine import print_machine
from polyfuse.report.progress import ProgressBar


@click.command("machine", cls=Checked)
@click.argument("file", required=False, type=FILE, metavar="[FILE.toml]")
@click.option("--probe", "wanted", is_flag=True, help="Measure this host, and write its machine file.")
@click.option("--fit", "fitting", is_flag=True, help="Fit the costs of the time model to this host, in about a minute.")
@output("path", "FILE.toml", "Write the machine file to this path, not to the user's config folder.")
@click.option(
    "--seconds",
    type=click.FloatRange(0, 3600, min_open=True),
    metavar="S",
    default=DEFAULT_SECONDS,
    show_default=True,
    help="Measure for about S seconds with --probe; longer is steadier.",
)
def command(file: Path | None, wanted: bool, fitting: bool, path: Path | None, seconds: float) -> None:
    """Print the machine file of this host, or another one; with --probe, measure this host and write the file.

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
    if path is None:
        path = machine_path()
        make_folder(path.parent)
    check_writable(path)
    with ProgressBar() as progress:
        found = known or probe(seconds, progress=progress)
        if fitting:
            found = fit(found, progress=progress)
    write_atomically(path, found.to_toml().encode())
    print_machine(found)
    click.echo(f"written: {path}")
