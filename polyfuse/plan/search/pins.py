"""Addresses of a plan that a search found: live ranges of its buffers and pins, packed.

Found ──pinned()──> (Lived pin, ...)        Found + capacity ──placed_plan()──> Packing, or none
"""

from collections.abc import Collection, Iterator, Sequence

from polyfuse.plan.memory.addresses import Lived, Packing
from polyfuse.plan.memory.packing import packed_within
from polyfuse.plan.search.choices import ChosenGroup, Problem


def pinned(problem: Problem, steps: Sequence[ChosenGroup]) -> tuple[Lived, ...]:
    """The whole tensors on chip: each from the step that makes or loads it to the last one that reads it there."""
    return tuple(pin for tensor in problem.dag.tensors for pin in _stays(problem, tensor, steps))


def _stays(problem: Problem, tensor: str, steps: Sequence[ChosenGroup]) -> Iterator[Lived]:
    first = None
    for index, step in enumerate(steps):
        starts = tensor in step.held and (first is None or tensor in step.fetched)
        if first is not None and (starts or tensor not in step.held):
            yield _stay(problem, tensor, first, index, steps)
            first = None
        if starts:
            first = index
    if first is not None:
        yield _stay(problem, tensor, first, len(steps), steps)


def _stay(problem: Problem, tensor: str, first: int, end: int, steps: Sequence[ChosenGroup]) -> Lived:
    reads = [index for index in range(first, end) if steps[index].option.sources.get(tensor) == "on"]
    return Lived(tensor, problem.tensor_bytes[tensor], first, max([first, *reads]))


def placed_plan(
    problem: Problem, steps: Sequence[ChosenGroup], capacity_bytes: int, early: Sequence[Collection[str]] = ()
) -> tuple[tuple[Lived, ...], Packing] | None:
    """The pins, and the addresses of buffers ("name of 3", in the step of that number) and pins ("pin x of 3").

    early: for each step, the operations whose weights are there one step before.
    None where no addresses below the capacity are found.
    """
    pins = pinned(problem, steps)
    sooner = [{f"weights_{operation}" for operation in each} for each in early] or [set[str]()] * len(steps)
    buffers = [
        Lived(f"{name} of {index}", size, index - (name in sooner[index]), index)
        for index, step in enumerate(steps)
        for name, size in step.option.workspace.items()
    ]
    whole = [Lived(f"pin {pin.name} of {pin.first}", pin.bytes, pin.first, pin.last) for pin in pins]
    packing = packed_within([*buffers, *whole], capacity_bytes, problem.alignment_bytes)
    return None if packing is None else (pins, packing)
