"""`polyfuse machine`: options in, text and a machine file out."""

from pathlib import Path

import click

from polyfuse.bench.fit import fit
from polyfuse.bench.probe import probe
from polyfuse.files import check_writable, make_folder, write_atomically
from polyfuse.machines.host import machine_path, read_machine
from polyfuse.report.machine import print_machine
from polyfuse.report.progress import ProgressBar


def act(file: Path | None, wanted: bool, fitting: bool, path: Path | None, seconds: float) -> None:
    """Print the machine file of this host, or another one; with --probe, measure this host and write the file."""
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
