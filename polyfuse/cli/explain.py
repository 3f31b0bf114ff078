"""Options of `polyfuse explain`."""

import click

from polyfuse.choices import PROFILES
from polyfuse.cli.options import WORKLOAD, choice, json_file, with_options
from polyfuse.cli.unused import StrictCommand


@click.command("explain", cls=StrictCommand)
@with_options(*WORKLOAD)
@choice(
    "--profile",
    of=PROFILES,
    text="Decide the cases that the fusion table leaves open by a model of traffic, by measurements kept in a file, or "
    "fuse them never or always.",
)
@click.option("--conv-to-pool", is_flag=True, help="Also fuse pooling with the convolution before it.")
@json_file("everything")
@click.option("--tensor", metavar="NAME", help="With a plan: say why this tensor is not pinned.")
@click.option("--model", metavar="WORKLOAD", help="With a plan: take this workload, if the plan's path is wrong.")
def command() -> None:
    """Explain how a WORKLOAD is rewritten and fused: rules applied, rules that nearly applied and why not, groups.

    Groups are those that `polyfuse compile` makes; they are compared with DNNFusion's published plan.

    If the WORKLOAD is a plan for this host, explain its groups. If it is one for a scratchpad machine, print where its
    tensors are; with --tensor, why one is not pinned.
    """
