"""`polyfuse verify`: a whole network in; a table of errors and an exit status out."""

from typing import Any

import click
from rich.console import Console

from polyfuse.cli.options import with_options
from polyfuse.cli.settings import NETWORK, given_plan, settings_of, source_asked
from polyfuse.cli.unused import Checked
from polyfuse.deploy.model import plan_of
from polyfuse.deploy.verify import verify
from polyfuse.errors import PolyfuseError
from polyfuse.report.deploy import print_verified
from polyfuse.report.progress import ProgressBar


@click.command("verify", cls=Checked)
@with_options(*NETWORK)
@click.option(
    "--seed", type=int, default=0, show_default=True, metavar="SEED", help="Draw the random inputs from this seed."
)
def command(seed: int, **request: Any) -> None:
    """Compare the output of every group of a compiled WORKLOAD with onnxruntime, on random inputs."""
    plan, settings = given_plan(request), settings_of(request)
    source = source_asked(request)
    with ProgressBar() as progress:
        made = plan or plan_of(source.network, settings, progress)
        found = verify(source, made, settings, seed=seed, progress=progress)
    print_verified(Console(), found)
    if found.failed:
        raise PolyfuseError(f"{found.network}: {found.why(found.worst)}")
