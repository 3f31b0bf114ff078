"""Plans for a scratchpad machine in `polyfuse compile` and `polyfuse explain`: a plan file in, files and text out."""

import json
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from polyfuse.cli_model import model_asked
from polyfuse.deploy.scratchpad import checked_run, compiled, scratch_files
from polyfuse.deploy.source import read_source
from polyfuse.errors import InvalidInput
from polyfuse.files import make_folder, write_atomically
from polyfuse.network.network import Network
from polyfuse.plan.checking import check_plan
from polyfuse.plan.planning import graph_of_plan, ways_of
from polyfuse.plan.scratchplan import FORMAT, Origin, ScratchPlan, read_scratch_plan
from polyfuse.plan.why import why
from polyfuse.report.progress import ProgressBar
from polyfuse.report.scratchplan import print_places, print_simulated


def is_scratch_plan(path: Path) -> bool:
    """Whether a file says that it is a plan for a scratchpad machine."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(document, dict) and document.get("format") == FORMAT


def compile_scratch(folder: Path, prefix: str | None, request: Mapping[str, Any]) -> None:
    """Run a plan on the simulated machine, write its files into a folder, and print the run beside the plan."""
    plan = read_scratch_plan(request["plan_file"])
    network = network_of(Origin(request["model"], **model_asked(request)))
    with ProgressBar() as progress:
        progress("compiling", 0, 2)
        made = compiled(plan, network)
        progress("simulating", 1, 2)
        checked = checked_run(made)
    files = scratch_files(made, prefix)
    make_folder(folder)
    for name, data in files.items():
        write_atomically(folder / name, data)
    sizes = {str(folder / name): len(data) for name, data in files.items()}
    print_simulated(Console(), made.plan, checked, sizes, made.proof)


def explain_plan(path: Path, tensor: str | None, model: str | None, request: Mapping[str, Any]) -> None:
    """Say of one tensor why it is not pinned, or of all where they are."""
    plan = read_scratch_plan(path)
    network = network_of(origin_of(plan, path, model, request))
    graph = graph_of_plan(plan, network)
    plan = check_plan(plan, graph, plan.machine)
    if tensor is None:
        print_places(plan, graph)
        return
    with ProgressBar() as progress:
        ways = ways_of(graph, plan.machine, objective=plan.objective, progress=progress)
        found = why(plan, ways, tensor)
    click.echo(str(found))


def origin_of(plan: ScratchPlan, path: Path, model: str | None, request: Mapping[str, Any]) -> Origin:
    """Where the network of a plan is read from: as the plan says, but for what the user says.

    Errors: InvalidInput where neither of them names a model.
    """
    said, asked = plan.origin or Origin(model or "", {}, None), model_asked(request)
    if not (model or said.path):
        raise InvalidInput(
            f"plan '{path}': expected the model that it was made for, the plan does not name it; add --model"
        )
    given = {name: value for name, value in asked.items() if value not in (None, {})}
    return replace(said, path=model or said.path, **given)


def network_of(origin: Origin) -> Network:
    """The network that a plan was made for."""
    said = {field.name: getattr(origin, field.name) for field in fields(origin) if field.name != "path"}
    return read_source(origin.path, **said).network
