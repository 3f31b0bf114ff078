"""Plan files of every kind of machine: `read_plan(path)`.

path ──read_plan()──> Plan, for the host, or ScratchPlan
"""

from pathlib import Path

from polyfuse.deploy.plan import Plan
from polyfuse.files import read_text
from polyfuse.plan.planfile import document_of
from polyfuse.plan.scratchplan import ScratchPlan


def read_plan(path: Path) -> Plan | ScratchPlan:
    """The plan in a file, for whatever machine it says.

    A plan that was edited comes without what was found out about it before: prices, certificate, baselines.
    Errors: InvalidInput for a file that cannot be read or is no plan, unknown or missing keys and wrong types.
    """
    where = f"plan '{path}'"
    text = read_text(path, where, "JSON")
    kind, _ = document_of(text, where)
    return Plan.from_json(text, where) if kind == "host" else ScratchPlan.from_json(text, where)
