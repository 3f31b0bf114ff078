"""`polyfuse explain`: options in, tables and a file out."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from polyfuse.bench.profiles import FILE, by_measurement
from polyfuse.cli.actions.request import network_asked, origin_of, workload_of
from polyfuse.cli.actions.scratchpad import explain_plan
from polyfuse.deploy.explain import FORMAT, VERSION, Decide, by_model, explain
from polyfuse.deploy.plan import Plan, read_plan
from polyfuse.files import check_writable, make_folder, write_atomically
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


def act(
    profile: str,
    conv_to_pool: bool,
    json_file: Path | None,
    tensor: str | None,
    model: str | None,
    **request: Any,
) -> None:
    """Explain how a WORKLOAD is rewritten and fused: rules applied, rules that nearly applied and why not, groups."""
    path = Path(request["workload"])
    plan = read_plan(path) if kind_in(path) is not None else None
    if isinstance(plan, ScratchPlan):
        explain_plan(plan, path, tensor, model, request)
        return
    network = network_asked(request, rewritten=False) if plan is None else network_planned(plan, path, model, request)
    if json_file is not None:
        check_writable(json_file)
    if profile == "measured":
        make_folder(FILE.path.parent)
        check_writable(FILE.path)
    with ProgressBar() as progress:
        found = explain(network, decide=PROFILES[profile], conv_to_pool=conv_to_pool, plan=plan, progress=progress)
    print_explanation(found)
    if json_file is not None:
        document = {"format": FORMAT, "version": VERSION} | vars(found)
        write_atomically(json_file, (json.dumps(encode(document), indent=1, ensure_ascii=False) + "\n").encode())


def network_planned(plan: Plan, path: Path, model: str | None, request: Mapping[str, Any]) -> Network:
    """The network of a plan, as it is before it is rewritten."""
    return workload_of(origin_of(plan, path, model, request)).network(rewritten=False)
