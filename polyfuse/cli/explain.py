"""`polyfuse explain`: options in, tables and a file out."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from polyfuse.bench.profiles import by_measurement, profiles_path
from polyfuse.cli.options import WORKLOAD, json_file, network_asked, with_options
from polyfuse.cli.scratchpad import explain_plan, is_scratch_plan
from polyfuse.cli.unused import Checked
from polyfuse.cli.values import Size
from polyfuse.files import check_writable, make_folder, write_atomically
from polyfuse.report.rewriting import print_explanation
from polyfuse.rewrite.explain import FORMAT, VERSION, Decide, by_model, explain
from polyfuse.rewrite.fusion import always, never
from polyfuse.typed_json import encode

PROFILES: Mapping[str, Decide] = {
    "model": by_model,
    "measured": by_measurement,
    "never": lambda network: never,
    "always": lambda network: always,
}


@click.command("explain", cls=Checked)
@with_options(*WORKLOAD)
@click.option(
    "--profile",
    type=click.Choice(tuple(PROFILES)),
    default="model",
    show_default=True,
    help="Decide the cases that the fusion table leaves open by a model of traffic, by measurements kept in a file, or "
    "fuse them never or always.",
)
@click.option("--conv-to-pool", is_flag=True, help="Also fuse pooling with the convolution before it.")
@click.option(
    "--onchip",
    "onchip_bytes",
    type=Size(),
    default="1MiB",
    show_default=True,
    metavar="SIZE",
    help="On-chip memory for the weights and rows of a group, such as 512KiB.",
)
@json_file("everything")
@click.option("--tensor", metavar="NAME", help="With a plan: say why this tensor is not pinned.")
@click.option("--model", metavar="WORKLOAD", help="With a plan: take this workload, if the plan's path is wrong.")
def command(
    profile: str,
    conv_to_pool: bool,
    onchip_bytes: int,
    json_file: Path | None,
    tensor: str | None,
    model: str | None,
    **request: Any,
) -> None:
    """Explain how a WORKLOAD is rewritten and fused: rules applied, rules that nearly applied and why not, groups.

    Groups are those of the published fusion table, joined further by overlapped tiling where that saves bytes.

    If the WORKLOAD is a plan made by `polyfuse plan`, print where its tensors are; with --tensor, why one is not
    pinned.
    """
    if is_scratch_plan(Path(request["workload"])):
        explain_plan(Path(request["workload"]), tensor, model, request)
        return
    if json_file is not None:
        check_writable(json_file)
    if profile == "measured":
        make_folder(profiles_path().parent)
        check_writable(profiles_path())
    found = explain(
        network_asked(request, rewritten=False),
        decide=PROFILES[profile],
        conv_to_pool=conv_to_pool,
        onchip_bytes=onchip_bytes,
    )
    print_explanation(found)
    if json_file is not None:
        document = {"format": FORMAT, "version": VERSION} | vars(found)
        write_atomically(json_file, (json.dumps(encode(document), indent=1, ensure_ascii=False) + "\n").encode())
