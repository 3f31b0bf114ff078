"""`polyfuse tune`: options in, a table and files out."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from polyfuse.bench.compare import ready_to_build
from polyfuse.bench.tune import MEASURED, tune, tune_groups
from polyfuse.cli.options import (
    EXACT_ARITHMETIC,
    LAYOUT,
    WORKLOAD,
    json_file,
    network_asked,
    said,
    threads,
    with_options,
)
from polyfuse.cli.unused import Checked
from polyfuse.cli.values import FILE
from polyfuse.codegen.build import Options
from polyfuse.codegen.lower.selection import Interface
from polyfuse.deploy.grouping import LONGEST
from polyfuse.deploy.tuned import read_tuned, tuned_path
from polyfuse.files import check_writable, make_folder, write_atomically
from polyfuse.machines.host import read_machine
from polyfuse.network.network import Network
from polyfuse.report.progress import ProgressBar
from polyfuse.report.tuning import print_tuned_groups, print_tuning
from polyfuse.rewrite.rewriting import rewrite
from polyfuse.typed_json import encode

Result = TypeVar("Result")


@click.command("tune", cls=Checked)
@with_options(*WORKLOAD)
@click.option(
    "--measure",
    "measured",
    type=click.IntRange(1),
    default=MEASURED,
    show_default=True,
    metavar="N",
    help="Compile and time the N choices ranked best, and the unfused network.",
)
@with_options(threads(), LAYOUT, EXACT_ARITHMETIC)
@click.option(
    "--tuned", "path", type=FILE, metavar="FILE", help="Keep results in this file, not in the user's data folder."
)
@json_file("what was measured")
def command(
    measured: int,
    threads: int,
    layout: Interface,
    exact: bool,
    path: Path | None,
    json_file: Path | None,
    **request: Any,
) -> None:
    """Find the fastest tile, retention and algorithms for a WORKLOAD, and keep them for later runs.

    The time model ranks the choices; the best few are compiled, checked and timed in turns. An interrupted run goes on
    where it stopped. A workload of few layers is tuned as one group; one that is compiled as several groups is tuned
    group by group, and `polyfuse compile` and `run` use what was found.
    """
    if json_file is not None:
        check_writable(json_file)
    chosen = path or tuned_path()
    if path is None:
        make_folder(chosen.parent)
    check_writable(chosen)
    read_tuned(chosen)
    machine, options = read_machine(), ready_to_build(Options())
    network = network_asked(request)
    with ProgressBar() as progress:

        def tuned(what: Callable[..., Result], network: Network) -> Result:
            return what(
                network,
                machine,
                workload=described(request),
                measured=measured,
                interface=layout,
                threads=threads,
                exact=exact,
                path=chosen,
                options=options,
                progress=progress,
            )

        if len(network.layers) <= LONGEST:
            found = tuned(tune, network)
            print_tuning(found)
            document: object = found
        else:
            groups = tuned(tune_groups, rewrite(network).network)
            print_tuned_groups(groups)
            document = [each.entry for each in groups]
    click.echo(f"kept in {chosen}")
    if json_file is not None:
        write_atomically(json_file, (json.dumps(encode(document), indent=1) + "\n").encode())


def described(request: Mapping[str, Any]) -> str:
    """The workload as it was asked for, without folders."""
    return " ".join([Path(request["workload"]).stem, *said(request)])
