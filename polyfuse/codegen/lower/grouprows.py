"""The row steps of a whole group, before any loop or C is made of them.

Places ──group_rows()──> the steps of every layer and copy that has row kernels, and what they replace
"""

from polyfuse.codegen.lower.finishes import finishes
from polyfuse.codegen.lower.places import Places
from polyfuse.codegen.lower.rowsteps import RowStep, between, copy_steps, finish_steps


def group_rows(places: Places) -> tuple[list[tuple[RowStep, ...]], set[str]]:
    """The row steps of every layer and copy that has them, and the names of the steps that they replace."""
    found: list[tuple[RowStep, ...]] = []
    replaced: set[str] = set()
    if not places.selection.target.has_rows:
        return found, replaced
    schedule = places.storage.schedule
    for finish in finishes(schedule, places.selection).values():
        steps = finish_steps(places, finish)
        if steps:
            found += steps
            replaced |= {statement.name for layer in between(schedule, finish) for statement in layer.statements}
    for flow in schedule.flows.values():
        if not places.selection.converts(flow.tensor):
            continue
        if not flow.loads.is_empty() and (loads := copy_steps(places, flow, "load")) is not None:
            found.append(loads)
            replaced.add(f"load_{flow.tensor.name}")
        if not flow.stores.is_empty() and (stores := copy_steps(places, flow, "store")) is not None:
            found.append(stores)
            replaced.add(f"store_{flow.tensor.name}")
    return found, replaced
