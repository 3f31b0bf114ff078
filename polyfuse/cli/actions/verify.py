"""`polyfuse verify`: a whole network in; a table of errors and an exit status out."""

from typing import Any

from rich.console import Console

from polyfuse.cli.actions.request import given_plan, settings_of, source_asked
from polyfuse.cli.actions.scratchpad import verify_scratch
from polyfuse.deploy.model import plan_of
from polyfuse.deploy.verify import verify
from polyfuse.errors import PolyfuseError
from polyfuse.plan.scratchplan import ScratchPlan
from polyfuse.report.deploy import print_verified
from polyfuse.report.progress import ProgressBar


def act(seed: int, **request: Any) -> None:
    """Compare the output of every group of a compiled WORKLOAD with onnxruntime, on random inputs."""
    plan = given_plan(request)
    if isinstance(plan, ScratchPlan):
        verify_scratch(plan, seed, request)
        return
    settings, source = settings_of(request), source_asked(request)
    with ProgressBar() as progress:
        made = plan or plan_of(source.network, settings, progress)
        found = verify(source, made, settings, seed=seed, progress=progress)
    print_verified(Console(), found)
    if found.failed:
        raise PolyfuseError(f"{found.network}: {found.why(found.worst)}")
