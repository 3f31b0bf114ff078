"""`polyfuse tune`: options in, a table and files out."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from polyfuse.bench.tune import MEASURED, tune
from polyfuse.bench.tuned import read_tuned, tuned_path
from polyfuse.cli_model import said, with_options
from polyfuse.cli_types import FILE
from polyfuse.cli_unused import Checked
from polyfuse.codegen.kernel import Options
from polyfuse.codegen.leaves import Interface
from polyfuse.files import check_writable, make_folder, write_atomically
from polyfuse.network.network import Network
from polyfuse.plan.machine import read_machine
from polyfuse.report.progress import ProgressBar
from polyfuse.report.tuning import print_tuning
from polyfuse.typed_json import encode


def tune_command(
    workload: Sequence[Callable[..., Any]],
    load: Callable[[Mapping[str, Any]], Network],
    ready: Callable[[Options], Options],
) -> click.Command:
    """The command, with the arguments that say what the workload is, and what makes a network of them."""

    @click.command(name="tune", cls=Checked)
    @click.option(
        "--measure",
        "measured",
        type=click.IntRange(1),
        default=MEASURED,
        show_default=True,
        help="How many choices to compile and time, beside the unfused one.",
    )
    @click.option(
        "--threads", type=click.IntRange(1, 1024), default=1, show_default=True, help="Where tiles can share."
    )
    @click.option(
        "--layout",
        type=click.Choice(("nchw", "blocked")),
        default="nchw",
        show_default=True,
        help="Of inputs and outputs: channels in the order of the network, or in blocks of a vector.",
    )
    @click.option("--exact-arithmetic", "exact", is_flag=True, help="No Winograd.")
    @click.option(
        "--tuned", "path", type=FILE, metavar="FILE", help="Keep results there, not in the user's data folder."
    )
    @click.option("--json", "json_file", type=FILE, metavar="FILE", help="Write what was measured as JSON.")
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

        The time model ranks the choices; the best few are compiled, checked and measured in turns. An interrupted run
        goes on where it stopped.
        """
        if json_file is not None:
            check_writable(json_file)
        chosen = path or tuned_path()
        if path is None:
            make_folder(chosen.parent)
        check_writable(chosen)
        read_tuned(chosen)
        machine, options = read_machine(), ready(Options())
        network = load(request)
        with ProgressBar() as progress:
            found = tune(
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
        print_tuning(found)
        click.echo(f"kept in {chosen}")
        if json_file is not None:
            write_atomically(json_file, (json.dumps(encode(found), indent=1) + "\n").encode())

    return with_options(command, workload)


def described(request: Mapping[str, Any]) -> str:
    """The workload as it was asked for, without folders."""
    return " ".join([Path(request["workload"]).stem, *said(request)])
