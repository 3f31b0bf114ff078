"""`polyfuse explain`: options in, tables and a file out."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from polyfuse.bench.profiles import by_measurement, profiles_path
from polyfuse.cli_model import with_options
from polyfuse.cli_scratchpad import explain_plan, is_scratch_plan
from polyfuse.cli_types import FILE
from polyfuse.cli_unused import Checked
from polyfuse.files import check_writable, make_folder, write_atomically
from polyfuse.network.network import Network
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


def explain_command(
    workload: Sequence[Callable[..., Any]], load: Callable[[Mapping[str, Any]], Network]
) -> click.Command:
    """The command, with the arguments that say what the workload is, and what makes a network of them."""

    @click.command(name="explain", cls=Checked)
    @click.option(
        "--profile",
        type=click.Choice(tuple(PROFILES)),
        default="model",
        show_default=True,
        help="Who decides where the fusion table says Y: a model of traffic, measurements kept in a file, nobody, "
        "everybody.",
    )
    @click.option("--conv-to-pool", is_flag=True, help="Let pooling be fused with the convolution before it, too.")
    @click.option(
        "--on-chip",
        "onchip_bytes",
        type=click.IntRange(0),
        default=1 << 20,
        show_default=True,
        metavar="BYTES",
        help="On-chip memory for the weights and rows of a group.",
    )
    @click.option("--json", "json_file", type=FILE, metavar="FILE", help="Write everything as JSON.")
    @click.option("--tensor", metavar="NAME", help="Of a plan of polyfuse plan: why this tensor is not pinned.")
    @click.option("--model", metavar="MODEL", help="Of such a plan: the model, where it is not where the plan says.")
    def command(
        profile: str,
        conv_to_pool: bool,
        onchip_bytes: int,
        json_file: Path | None,
        tensor: str | None,
        model: str | None,
        **request: Any,
    ) -> None:
        """Say how a WORKLOAD is rewritten and fused: the rules applied, those that nearly were and why not, the groups.

        Groups are those of the published fusion table, joined further by overlapped tiling where that saves bytes.

        A WORKLOAD that is a plan of polyfuse plan is explained as one: where its tensors are, and with --tensor why one
        is not pinned.
        """
        if is_scratch_plan(Path(request["workload"])):
            explain_plan(Path(request["workload"]), tensor, model, request)
            return
        if json_file is not None:
            check_writable(json_file)
        if profile == "measured":
            make_folder(profiles_path().parent)
            check_writable(profiles_path())
        found = explain(load(request), decide=PROFILES[profile], conv_to_pool=conv_to_pool, onchip_bytes=onchip_bytes)
        print_explanation(found)
        if json_file is not None:
            document = {"format": FORMAT, "version": VERSION} | vars(found)
            write_atomically(json_file, (json.dumps(encode(document), indent=1, ensure_ascii=False) + "\n").encode())

    return with_options(command, workload)
