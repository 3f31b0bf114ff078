"""An interpreter of schedules: a group executed one instance after another, in float64, for small sizes.

    Storage + values of the group's inputs ──interpret()──> values of its outputs, and counts

Every execution of every step is enumerated, sorted by its time and run on buffers that start as NaN and are addressed
by `Buffer.cell`, as the staged form of the generated C does. Nothing is checked unless asked: an illegal schedule runs
too, and shows the wrong result that it gives.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import islpy as isl
import numpy as np
from numpy.typing import ArrayLike, NDArray

from polyfuse.errors import InvalidInput, TooComplex
from polyfuse.network.expression import evaluator
from polyfuse.schedule.legality import check
from polyfuse.schedule.steps import Step, Touch, preload_steps, steps
from polyfuse.schedule.storage import Storage
from polyfuse.sets.interrupts import interrupts_held

MOST_EXECUTIONS = 1_000_000
Array = NDArray[np.float64]
Integers = NDArray[np.int64]
Cell = tuple[int, ...]
Memory = dict[str, dict[Cell, float]]


@dataclass(frozen=True, eq=False)
class Interpreted:
    """What a run of a group left behind.

    outputs     the off-chip array of every tensor that the group stores, NaN where nothing was stored
    executions  how often each step ran
    """

    outputs: dict[str, Array]
    executions: Counter[str]


@dataclass(frozen=True, eq=False)
class Runs:
    """All executions of a step: its expression, and the time and the cells of each execution."""

    step: Step
    expression: Callable[[Mapping[str, float]], float]
    instances: Integers
    times: Integers
    cells: tuple[Integers, ...]


def interpret(storage: Storage, inputs: Mapping[str, ArrayLike], *, forced: bool = False) -> Interpreted:
    """Run a group on the values of its inputs.

    `forced` runs what `legality.check` refuses.
    Errors: IllegalSchedule where it is not forced; InvalidInput for missing inputs; TooComplex where a step has more
    than MOST_EXECUTIONS executions.

    >>> from polyfuse.network.network import Builder
    >>> from polyfuse.schedule.schedule import Strategy, scheduled
    >>> from polyfuse.schedule.storage import storage
    >>> build = Builder("mean")
    >>> y = build.average_pool("mean", build.input("x", (1, 1, 3, 1)), kernel=(2, 1), stride=1)
    >>> rows = storage(scheduled(build.network(y), Strategy.named("local", (1,))))
    >>> interpret(rows, {"x": [[[[1], [2], [4]]]]}).outputs["mean_out"].ravel().tolist()
    [1.5, 3.0]
    """
    if not forced:
        check(storage)
    network = storage.schedule.network
    if missing := {tensor.name for tensor in network.inputs} - set(inputs):
        raise InvalidInput(f"network {network.name!r}: no value for the inputs {', '.join(sorted(missing))}")
    given = {**network.weights, **{tensor.name: inputs[tensor.name] for tensor in network.inputs}}
    offchip: Memory = {name: dict(np.ndenumerate(np.asarray(value, dtype=np.float64))) for name, value in given.items()}
    chip: Memory = {}
    executions: Counter[str] = Counter()
    for phase in (preload_steps(storage.schedule), steps(storage.schedule)):
        for runs, k in in_time_order([runs_of(storage, step) for step in phase]):
            execute(runs, k, chip, offchip)
            executions[runs.step.name] += 1
    return Interpreted(stored(storage, offchip), executions)


def stored(storage: Storage, offchip: Memory) -> dict[str, Array]:
    """The arrays of the tensors that the group stores."""
    arrays = {}
    for name, flow in storage.schedule.flows.items():
        if flow.role == "made" and not flow.stores.is_empty():
            arrays[name] = np.full(flow.tensor.concrete_shape, np.nan)
            for cell, value in offchip.get(name, {}).items():
                arrays[name][cell] = value
    return arrays


def in_time_order(every: Sequence[Runs]) -> Iterator[tuple[Runs, int]]:
    """The executions of several steps, one after another; steps that share a time run in their order."""
    width = max((runs.times.shape[1] for runs in every), default=0)
    keys = [
        np.column_stack([np.pad(runs.times, ((0, 0), (0, width - runs.times.shape[1]))), np.full(len(runs.times), k)])
        for k, runs in enumerate(every)
    ]
    if not keys:
        return
    numbers = np.concatenate([np.arange(len(runs.times)) for runs in every])
    together = np.concatenate(keys)
    for row in np.lexsort(together.T[::-1]):
        yield every[together[row, -1]], int(numbers[row])


def execute(runs: Runs, k: int, chip: Memory, offchip: Memory) -> None:
    """One execution of a step: read its operands, evaluate, write its target."""
    step = runs.step
    values: dict[str, float] = {}
    for touch, cells in zip(step.touches, runs.cells, strict=True):
        if not touch.writes:
            memory = offchip if touch.memory == "offchip" else chip
            values[touch.operand] = memory.get(touch.tensor.name, {}).get(tuple(cells[k]), np.nan)
    indices = runs.instances[k, runs.instances.shape[1] - len(step.dims) :]
    given = {dim: int(index) for dim, index in zip(step.dims, indices, strict=True)}
    result = runs.expression({**given, **values})
    for touch, cells in zip(step.touches, runs.cells, strict=True):
        if touch.writes:
            memory = offchip if touch.memory == "offchip" else chip
            memory.setdefault(touch.tensor.name, {})[tuple(cells[k])] = result


def runs_of(storage: Storage, step: Step) -> Runs:
    """Enumerate the executions of a step, with their times and cells."""
    instances = points(step.executions)
    cells = tuple(values(place(storage, touch), instances) for touch in step.touches)
    expression = evaluator("x" if step.statement is None else step.statement.expression)
    return Runs(step, expression, instances, values(step.time, instances), cells)


def place(storage: Storage, touch: Touch) -> isl.Map:
    """`{ step[t, i] -> [cell] }`: the cell of a buffer, or the element itself off chip."""
    if touch.memory == "offchip":
        return touch.element.range_factor_range()
    return touch.element.apply_range(isl.Map.from_multi_aff(storage.buffers[touch.tensor.name].cell))


def points(region: isl.Set) -> Integers:
    """The points of a bounded set, one in each row.

    Errors: TooComplex where there are more than MOST_EXECUTIONS.

    >>> points(isl.Set("{ S[i, j] : 0 <= i <= j <= 1 }")).tolist()
    [[0, 0], [0, 1], [1, 1]]
    """
    name = region.get_tuple_name()
    if not region.is_bounded() or region.count_val() > isl.Val(MOST_EXECUTIONS):
        raise TooComplex(f"step {name}: more than {MOST_EXECUTIONS:,} executions to interpret; use smaller sizes")
    dims = range(region.dim(isl.dim_type.set))
    found: list[list[int]] = []

    def visit(point: isl.Point) -> None:
        found.append([point.get_coordinate_val(isl.dim_type.set, d).to_python() for d in dims])

    with interrupts_held():
        region.foreach_point(visit)
    return np.array(sorted(found), dtype=np.int64).reshape(len(found), len(dims))


def values(relation: isl.Map, instances: Integers) -> Integers:
    """The value of a single-valued relation at every instance, one in each row."""
    pieces: list[tuple[isl.Set, isl.MultiAff]] = []
    with interrupts_held():
        isl.PwMultiAff.from_map(relation).foreach_piece(lambda region, affs: pieces.append((region, affs)))
    result = np.zeros((len(instances), relation.dim(isl.dim_type.out)), dtype=np.int64)
    for region, affs in pieces:
        inside = contains(region, instances) if len(pieces) > 1 else np.ones(len(instances), dtype=bool)
        for d in range(result.shape[1]):
            result[inside, d] = evaluate(affs.get_at(d), instances[inside])
    return result


def contains(region: isl.Set, instances: Integers) -> NDArray[np.bool_]:
    """Whether each instance lies in a set."""
    inside = np.zeros(len(instances), dtype=bool)
    for part in region.compute_divs().get_basic_sets():
        every = np.ones(len(instances), dtype=bool)
        for constraint in part.get_constraints():
            value = evaluate(constraint.get_aff(), instances)
            every &= value == 0 if constraint.is_equality() else value >= 0
        inside |= every
    return inside


def evaluate(aff: isl.Aff, instances: Integers) -> Integers:
    """The value of a quasi-affine expression at every instance; its divisions round down.

    >>> evaluate(isl.Aff("{ S[i] -> [i mod 3 + floor((i + 1) / 2)] }"), np.array([[4], [5]])).tolist()
    [3, 5]
    """
    denominator = aff.get_denominator_val()

    def whole(value: isl.Val) -> int:
        return int(value.mul(denominator).to_python())

    total = np.full(len(instances), whole(aff.get_constant_val()), dtype=np.int64)
    for d in range(instances.shape[1]):
        total += whole(aff.get_coefficient_val(isl.dim_type.in_, d)) * instances[:, d]
    for d in range(aff.dim(isl.dim_type.div)):
        factor = whole(aff.get_coefficient_val(isl.dim_type.div, d))
        if factor:
            total += factor * evaluate(aff.get_div(d), instances)
    divisor = int(denominator.to_python())
    return total // divisor
