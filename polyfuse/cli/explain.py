"""`polyfuse explain`: options in, tables and a file out."""

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from polyfuse.bench.profiles import by_measurement, profiles_path
from polyfuse.cli.options import WORKLOAD, json_file, network_asked, with_options
from polyfuse.cli.scratchpad import explain_plan, origin_of
from polyfuse.cli.unused import Checked
from polyfuse.deploy.explain import FORMAT, VERSION, Decide, by_model, explain
from polyfuse.deploy.plan import Plan
from polyfuse.deploy.planfile import read_plan
from polyfuse.files import check_writable, make_folder, write_atomically
from polyfuse.loading import load_workload
from polyfuse.network.network import Network
from polyfuse.plan.planfile import kind_in
from polyfuse.plan.scratchplan import ScratchPlan
from polyfuse.report.progress import ProgressBar
from polyfuse.report.rewriting import print_explanation
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
@json_file("everything")
@click.option("--tensor", metavar="NAME", help="With a plan: say why this tensor is not pinned.")
@click.option("--model", metavar="WORKLOAD", help="With a plan: take this workload, if the plan's path is wrong.")
def command(
    profile: str,
    conv_to_pool: bool,
    json_file: Path | None,
    tensor: str | None,
    model: str | None,
    **request: Any,
) -> None:
    """Explain how a WORKLOAD is rewritten and fused: rules applied, rules that nearly applied and why not, groups.

    Groups are those that `polyfuse compile` makes; DNNFusion's published plan is found for the same layers.

    If the WORKLOAD is a plan for this host, explain its groups. If it is one for a scratchpad machine, print where its
    tensors are; with --tensor, why one is not pinned.
    """
    path = Path(request["workload"])
    plan = read_plan(path) if kind_in(path) is not None else None
    if isinstance(plan, ScratchPlan):
        explain_plan(plan, path, tensor, model, request)
        return
    network = network_asked(request, rewritten=False) if plan is None else network_planned(plan, path, model, request)
    if json_file is not None:
        check_writable(json_file)
    if profile == "measured":
        make_folder(profiles_path().parent)
        check_writable(profiles_path())
    with ProgressBar() as progress:
        found = explain(network, decide=PROFILES[profile], conv_to_pool=conv_to_pool, plan=plan, progress=progress)
    print_explanation(found)
    if json_file is not None:
        document = {"format": FORMAT, "version": VERSION} | vars(found)
        write_atomically(json_file, (json.dumps(encode(document), indent=1, ensure_ascii=False) + "\n").encode())


def network_planned(plan: Plan, path: Path, model: str | None, request: Mapping[str, Any]) -> Network:
    """The network of a plan, as it is before it is rewritten."""
    origin = origin_of(plan, path, model, request)
    said = {field.name: getattr(origin, field.name) for field in fields(origin) if field.name != "path"}
    return load_workload(origin.path, rewritten=False, **said)
