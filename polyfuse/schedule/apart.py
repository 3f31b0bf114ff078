"""Loops whose iterations run at once, on threads or in vectors: their executions do not depend on each other.

Schedule with marks ──check_marks()──> None, or IllegalSchedule
"""

import islpy as isl

from polyfuse.errors import IllegalSchedule
from polyfuse.schedule.runs import Runs, read_elements, runs_of, sample_pair
from polyfuse.schedule.schedule import Schedule
from polyfuse.sets.limits import operation_limit

OUT = isl.dim_type.out


def check_marks(schedule: Schedule) -> None:
    """Executions that threads or vectors run at once do not depend on each other.

    Errors: IllegalSchedule with two that do.
    """
    for dim, mark in schedule.marks.items():
        if not all(map(schedule.is_given, schedule.network.layers)):
            raise IllegalSchedule(f"{mark} along dimension {dim} of times: some layers have no times; give them some")
        if mark.kind != "unroll":
            with operation_limit(what=f"independence along dimension {dim} of {schedule.network.name!r}"):
                check_apart_along(schedule, dim, str(mark))


def check_apart_along(schedule: Schedule, dim: int, mark: str) -> None:
    """Executions that agree in the dimensions before `dim`, and not in it, write nothing that another one accesses.

    Errors: IllegalSchedule with a witness.
    """
    every = [runs for layer in schedule.network.layers for runs in runs_of(schedule, layer)]
    for runs in every:
        tensor = runs.layer.output
        clashing = at_once(runs, runs.points, dim).apply_range(elsewhere(dim, len(tensor.shape)))
        for second in every:
            reads = (access for access in second.statement.operands.values() if access.tensor == tensor)
            touched = [*map(read_elements, reads), *([second.points] if second.layer == runs.layer else [])]
            for elements in touched:
                pairs = clashing.apply_range(at_once(second, elements, dim).reverse())
                if not pairs.is_empty():
                    one, two = sample_pair(pairs)
                    raise IllegalSchedule(
                        f"illegal: {mark} along dimension {dim} of times: {second.statement.name}{two} needs or makes "
                        f"the element of {tensor.name} that {runs.statement.name}{one} makes in another iteration; "
                        "skew the loop, or take one whose iterations do not depend on each other"
                    )


def at_once(runs: Runs, elements: isl.Map, dim: int) -> isl.Map:
    """`{ S[p, r] -> [time up to dim, a] }`."""
    return runs.times.project_out(OUT, dim + 1, runs.times.dim(OUT) - dim - 1).flat_range_product(elements)


def elsewhere(dim: int, rank: int) -> isl.Map:
    """`{ [time before dim, i, a] -> [time before dim, j, a] : i != j }`."""
    outer, one, element = (isl.Space.set_alloc(isl.DEFAULT_CONTEXT, 0, n) for n in (dim, 1, rank))
    apart = isl.Map.lex_lt(one).union(isl.Map.lex_gt(one))
    same = isl.Map.identity(outer.map_from_set())
    return same.flat_product(apart).flat_product(isl.Map.identity(element.map_from_set()))
