"""`polyfuse export-scop`: a workload and one schedule in; C, a JSCoP file and a script for Polly out."""

from pathlib import Path
from typing import Any

import click

from polyfuse.cli.actions.request import network_asked, only_group
from polyfuse.codegen.scop.export import exported, write_exported
from polyfuse.files import make_folder
from polyfuse.schedule.counts import counts


def act(folder: Path, expanded: bool, **request: Any) -> None:
    """Write a WORKLOAD as C that Polly accepts, and one --tile and --strategy as a JSCoP file for Polly to import."""
    make_folder(folder)
    group = only_group(network_asked(request), request)
    scop = exported(group, expanded=expanded)
    paths = write_exported(scop, folder)
    click.echo(f"{group.schedule}\n{counts(group)}")
    click.echo(f"{scop.function}: {'copies expanded' if scop.expanded else 'plain loops'}")
    click.echo(f"written: {' '.join(map(str, paths))}")
