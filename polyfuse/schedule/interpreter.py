"""An interpreter of schedules: a group executed one instance after another, in float64, for small sizes.

    Storage + values of the group's inputs ──interpret()──> values of its outputs, and counts

Every execution of every step is enumerated, sorted by its time and run on buffers that start as NaN and are addressed
by `Buffer.cell`, as the staged form of the generated C does. Nothing is checked unless asked: an illegal schedule runs
too, and shows the wrong result that it gives.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import islpy as isl
import numpy as np
from numpy.typing import ArrayLike

from polyfuse.choices import BUFFER
from polyfuse.errors import InvalidInput, TooComplex
from polyfuse.network.dtypes import HALVES, Array, decoded, stored
from polyfuse.network.expression import Given, evaluator
from polyfuse.network.instances import as_given, as_number, wholeness
from polyfuse.schedule.legality import check
from polyfuse.schedule.steps import Step, Touch, preload_steps, steps
from polyfuse.schedule.storage import Storage
from polyfuse.sets.points import Integers, points, values_at

MOST_EXECUTIONS = 1_000_000
Cell = tuple[int, ...]
Memory = dict[str, dict[Cell, float]]


@dataclass(frozen=True, eq=False)
class Interpreted:
    """The results of running a group.

    outputs     the off-chip array of every tensor that the group stores, NaN where nothing was stored
    executions  how often each step ran
    """

    outputs: dict[str, Array]
    executions: Counter[str]


@dataclass(frozen=True, eq=False)
class StepExecutions:
    """All executions of a step: its expression, and the time and the cells of each execution.

    `arrays` has the name of the array of each access: that of a tensor's buffer, or of the tensor off chip.
    `whole` says which operands are whole; those of `tables` have the cells of each of their elements; `rounds` is the
    half type that the result is rounded to.
    """

    step: Step
    expression: Callable[[Mapping[str, Given]], float]
    instances: Integers
    times: Integers
    arrays: tuple[str, ...]
    cells: tuple[Integers, ...]
    whole: Mapping[str, bool]
    tables: Mapping[str, tuple[Integers, ...]]
    rounds: str | None


def interpret(storage: Storage, inputs: Mapping[str, ArrayLike], *, forced: bool = False) -> Interpreted:
    """Run a group on the values of its inputs.

    `forced` runs what `legality.check` refuses.
    Errors: IllegalSchedule where it is not forced; InvalidInput for missing inputs; TooComplex where a step has more
    than MOST_EXECUTIONS executions.

    >>> from polyfuse.network.network import Builder
    >>> from polyfuse.schedule.schedule import scheduled
    >>> from polyfuse.schedule.strategy import Strategy
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
    weights = {tensor: network.weights[tensor.name] for layer in network.layers for tensor in layer.weights}
    given = {tensor.name: decoded(value, tensor.dtype) for tensor, value in weights.items()}
    given |= {tensor.name: stored(inputs[tensor.name], tensor.dtype, str(tensor)) for tensor in network.inputs}
    offchip: Memory = {name: dict(np.ndenumerate(value)) for name, value in given.items()}
    chip: Memory = {}
    executions: Counter[str] = Counter()
    for phase in (preload_steps(storage.schedule), steps(storage.schedule)):
        for runs, k in in_time_order([executions_of(storage, step) for step in phase]):
            execute(runs, k, chip, offchip)
            executions[runs.step.name] += 1
    return Interpreted(left(storage, offchip), executions)


def left(storage: Storage, offchip: Memory) -> dict[str, Array]:
    """The arrays of the tensors that the group stores."""
    arrays = {}
    for name, flow in storage.schedule.flows.items():
        if flow.role == "made" and not flow.stores.is_empty():
            arrays[name] = np.full(flow.tensor.concrete_shape, np.nan)
            for cell, value in offchip.get(name, {}).items():
                arrays[name][cell] = value
    return arrays


def in_time_order(every: Sequence[StepExecutions]) -> Iterator[tuple[StepExecutions, int]]:
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


def execute(runs: StepExecutions, k: int, chip: Memory, offchip: Memory) -> None:
    """One execution of a step: read its operands, evaluate, write its target."""
    step = runs.step
    values: dict[str, Given] = {}
    for touch, array, cells in zip(step.touches, runs.arrays, runs.cells, strict=True):
        if touch.writes:
            continue
        found, whole = (chip if touch.memory == BUFFER else offchip).get(array, {}), runs.whole
        if touch.operand in runs.tables:
            every = [found.get(tuple(each[k]), np.nan) for each in runs.tables[touch.operand]]
            values[touch.operand] = as_given(np.array(every), whole[touch.operand])
        else:
            values[touch.operand] = as_number(found.get(tuple(cells[k]), np.nan), whole[touch.operand])
    indices = runs.instances[k, runs.instances.shape[1] - len(step.dims) :]
    given = {dim: int(index) for dim, index in zip(step.dims, indices, strict=True)}
    result = runs.expression({**given, **values})
    if runs.rounds is not None:
        result = float(stored(result, runs.rounds))
    for touch, array, cells in zip(step.touches, runs.arrays, runs.cells, strict=True):
        if touch.writes:
            memory = chip if touch.memory == BUFFER else offchip
            memory.setdefault(array, {})[tuple(cells[k])] = result


def executions_of(storage: Storage, step: Step) -> StepExecutions:
    """Enumerate the executions of a step, with their times and cells."""
    instances = executed(step)
    subscripted = step.statement.tables if step.statement is not None else frozenset()
    tables = {
        touch.operand: tuple(
            values(cells_of(storage, one_element(touch, k)), instances) for k in range(touch.tensor.elements)
        )
        for touch in step.touches
        if touch.operand in subscripted
    }
    cells = tuple(
        np.zeros((len(instances), 0), dtype=np.int64)
        if touch.operand in tables
        else values(cells_of(storage, touch), instances)
        for touch in step.touches
    )
    buffers = storage.buffers
    arrays = tuple(buffers[t.tensor.name].name if t.memory == BUFFER else t.tensor.name for t in step.touches)
    exact = step.layer is not None and step.layer.is_exact
    expression = evaluator("x" if step.statement is None else step.statement.expression, single=exact)
    times, whole = values(step.time, instances), wholeness_of(step)
    return StepExecutions(step, expression, instances, times, arrays, cells, whole, tables, rounded_to(step))


def wholeness_of(step: Step) -> dict[str, bool]:
    """Whether each operand of a step is whole; copies take values as they are."""
    if step.statement is None or step.layer is None:
        return {"x": False}
    return wholeness(step.statement, step.layer)


def rounded_to(step: Step) -> str | None:
    """The half type that a step rounds its result to; None if a later statement of its layer reads the result."""
    if step.layer is None or step.statement is None or step.layer.output.dtype not in HALVES:
        return None
    later = step.layer.statements[step.layer.statements.index(step.statement) + 1 :]
    return None if any(statement.accumulates for statement in later) else step.layer.output.dtype


def one_element(touch: Touch, k: int) -> Touch:
    """The access of a table restricted to one of its elements."""
    last = touch.element.range_factor_range().dim(isl.dim_type.out) - 1
    wanted = touch.element.range_factor_range().fix_val(isl.dim_type.out, last, isl.Val(k))
    return replace(touch, element=touch.element.range_factor_domain().range_product(wanted))


def cells_of(storage: Storage, touch: Touch) -> isl.Map:
    """`{ step[t, i] -> [cell] }`: the cell of a buffer, or the element itself off chip."""
    if touch.memory != BUFFER:
        return touch.element.range_factor_range()
    return touch.element.apply_range(storage.buffers[touch.tensor.name].cell.as_map())


def executed(step: Step) -> Integers:
    """The executions of a step, one in each row.

    Errors: TooComplex where there are more than MOST_EXECUTIONS.
    """
    region = step.executions
    if not region.is_bounded() or region.count_val() > isl.Val(MOST_EXECUTIONS):
        raise TooComplex(
            f"step {region.get_tuple_name()}: more than {MOST_EXECUTIONS:,} executions to interpret; use smaller sizes"
        )
    return points(region)


def values(relation: isl.Map, instances: Integers) -> Integers:
    """The value of a single-valued relation at every instance, one in each row."""
    parts = isl.PwMultiAff.from_map(relation)
    found = np.zeros((len(instances), relation.dim(isl.dim_type.out)), dtype=np.int64)
    for d in range(found.shape[1]):
        found[:, d] = values_at(parts.get_at(d), instances)
    return found
