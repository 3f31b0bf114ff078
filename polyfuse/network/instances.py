"""A layer run instance by instance from its sets, relations and expressions: the slow definition of what it computes.

A `Layer` and the values of the tensors it reads enter; the value of its output leaves.
"""

from collections.abc import Callable, Mapping

import islpy as isl
import numpy as np
from numpy.typing import NDArray

from polyfuse.errors import InvalidInput
from polyfuse.network.dtypes import Array, is_whole, stored
from polyfuse.network.expression import Given, evaluator
from polyfuse.network.layer import Layer, Statement
from polyfuse.sets.interrupts import interrupts_held
from polyfuse.sets.spaces import coordinates

MAX_INSTANCES = 500_000
Index = tuple[int, ...]


def interpret(layer: Layer, values: Mapping[str, Array]) -> Array:
    """The output of a layer in float64, for any layer of concrete and small sizes.

    What is stored narrower than it is computed is rounded, and layers of whole numbers compute in float32 and integers.
    Points run in lexicographic order, the statements of each one after the other.

    Errors: InvalidInput where a set is unbounded or holds more than 500,000 instances.
    """
    out = np.full(layer.output.concrete_shape, np.nan)
    values = {**values, layer.output.name: out}
    runs = [_run(statement, out, values, layer) for statement in layer.statements]
    for _, k, instance in sorted((i[: out.ndim], k, i) for k, (instances, _) in enumerate(runs) for i in instances):
        runs[k][1](instance)
    return stored(out, layer.output.dtype, f"layer {layer.name!r}")


def _run(
    statement: Statement, out: Array, values: Mapping[str, Array], layer: Layer
) -> tuple[list[Index], Callable[[Index], None]]:
    """The instances of a statement, and what runs one of them."""
    value = evaluator(statement.expression, single=layer.is_exact)
    where, whole = layer.name, wholeness(statement, layer)
    arrays = {operand: np.asarray(values[access.tensor.name]) for operand, access in statement.operands.items()}
    tables = {operand: as_given(arrays[operand], whole[operand]) for operand in statement.tables}
    reads = {o: elements(a.relation, where) for o, a in statement.operands.items() if o not in tables}

    def run(instance: Index) -> None:
        point = instance[: out.ndim]
        names: dict[str, Given] = dict(zip(statement.dims, instance, strict=True))
        names |= {o: as_number(arrays[o][element[instance]], whole[o]) for o, element in reads.items()}
        if statement.accumulates:
            names["acc"] = as_number(out[point], whole["acc"])
        out[point] = value({**names, **tables})

    return points(statement.domain, where), run


def wholeness(statement: Statement, layer: Layer) -> dict[str, bool]:
    """Whether `acc` and each operand of a statement are whole."""
    return {"acc": is_whole(layer.acc_dtype), **{o: o in statement.whole for o in statement.operands}}


def as_number(value: float, whole: bool) -> float:
    """A value as expressions take it: an `int` where it is whole; what was never written is NaN."""
    return int(value) if whole and value == value else float(value)


def as_given(values: Array, whole: bool) -> NDArray[np.generic]:
    """The elements of a table as expressions take them."""
    return values.astype(np.int64) if whole and not np.isnan(values).any() else values


def elements(relation: isl.Map, where: str) -> dict[Index, Index]:
    """`{ S[i] -> A[a] }`, single-valued, as a dictionary."""
    arity = relation.dim(isl.dim_type.in_)
    return {pair[:arity]: pair[arity:] for pair in points(relation.wrap().flatten(), where)}


def points(domain: isl.Set, where: str) -> list[Index]:
    """The points of a bounded set, sorted. Errors: InvalidInput for infinitely many, or more than 500,000."""
    if not domain.is_bounded() or domain.dim(isl.dim_type.param):
        raise InvalidInput(f"layer {where!r}: cannot run {domain} instance by instance; fix its parameters")
    count = domain.count_val().to_python()
    if count > MAX_INSTANCES:
        raise InvalidInput(
            f"layer {where!r}: {count:,} instances are too many to run one by one (at most {MAX_INSTANCES:,}); "
            "give the layer a reference in numpy"
        )
    found: list[Index] = []
    with interrupts_held():
        domain.foreach_point(lambda point: found.append(tuple(coordinates(point))))
    return sorted(found)
