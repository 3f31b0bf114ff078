"""Addresses for buffers with different live ranges, by a solver where a simple rule does not reach the optimum.

    (Lived, ...) + capacity ──packed_within()──> Packing, or None

The simple rule is `packed` of addresses.py; the solver is CP-SAT of OR-tools, which places rectangles of steps times
addresses so that none overlap. It runs on one thread with a fixed seed and a limit counted in its own steps, so
that one problem has one answer on every machine.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from polyfuse.plan.memory.addresses import Lived, Packing, aligned_up, most_alive, packed

if TYPE_CHECKING:
    from ortools.sat.python import cp_model

EFFORT = 20.0
"""Limit of the solver, in its own deterministic unit, about a second."""


def packed_within(
    buffers: Sequence[Lived], capacity_bytes: int, alignment: int, effort: float = EFFORT
) -> Packing | None:
    """Addresses below a capacity, as low as can be found; None where the solver finds none.

    A packing of no more than the most bytes alive is optimal and returned at once.
    Errors: InvalidInput, as `packed`.

    >>> packed_within([Lived("a", 100, 0, 1), Lived("b", 100, 1, 2)], 256, 64).addresses
    {'a': 0, 'b': 128}
    """
    simple = packed(buffers, alignment)
    if simple.bytes == simple.live_bytes:
        return simple if simple.bytes <= capacity_bytes else None
    most = min(capacity_bytes // alignment * alignment, simple.bytes)
    solved = _solved(buffers, most, alignment, effort) if simple.live_bytes <= most else None
    if solved is not None and solved.bytes < simple.bytes:
        return solved
    return simple if simple.bytes <= capacity_bytes else None


def _solved(buffers: Sequence[Lived], most_bytes: int, alignment: int, effort: float) -> Packing | None:
    """The lowest packing that the solver finds, in units of the alignment."""
    from ortools.sat.python import cp_model

    model = cp_model.CpModel()
    live, most = most_alive(buffers, alignment), most_bytes // alignment
    top = model.new_int_var(live // alignment, most, "top")
    times, spaces, starts = [], [], {}
    for buffer in buffers:
        size = aligned_up(buffer.bytes, alignment) // alignment
        starts[buffer.name] = start = model.new_int_var(0, most - size, buffer.name)
        model.add(start + size <= top)
        if size:
            spaces.append(model.new_fixed_size_interval_var(start, size, ""))
            times.append(model.new_fixed_size_interval_var(buffer.first, buffer.last - buffer.first + 1, ""))
    model.add_no_overlap_2d(times, spaces)
    model.minimize(top)
    solver = deterministic(effort)
    if solver.solve(model) not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return None
    addresses = {name: solver.value(start) * alignment for name, start in starts.items()}
    size = max((aligned_up(addresses[b.name] + b.bytes, alignment) for b in buffers), default=0)
    return Packing(addresses, size, live)


def deterministic(effort: float) -> "cp_model.CpSolver":
    """A solver whose answer depends on nothing but the model and the limit."""
    from ortools.sat.python import cp_model

    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = 0
    solver.parameters.max_deterministic_time = effort
    return solver
