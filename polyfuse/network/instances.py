"""A layer run instance by instance from its sets, relations and expressions: the slow definition of what it computes.

A `Layer` and the values of the tensors it reads enter; the value of its output leaves.
"""

from collections.abc import Mapping

import islpy as isl
import numpy as np

from polyfuse.errors import InvalidInput
from polyfuse.network.expression import evaluator
from polyfuse.network.layer import Layer, Statement
from polyfuse.network.operators import Array
from polyfuse.sets.interrupts import interrupts_held

MAX_INSTANCES = 500_000
Index = tuple[int, ...]


def interpret(layer: Layer, values: Mapping[str, Array]) -> Array:
    """The output of a layer in float64, for any layer of concrete and small sizes.

    Every statement runs its instances in lexicographic order; points do not depend on each other.

    Errors: InvalidInput where a set is unbounded or holds more than 500,000 instances.
    """
    out = np.full(layer.output.concrete_shape, np.nan)
    for statement in layer.statements:
        _run(statement, out, values, layer.name)
    return out


def _run(statement: Statement, out: Array, values: Mapping[str, Array], layer: str) -> None:
    value = evaluator(statement.expression)
    reads = {operand: elements(access.relation, layer) for operand, access in statement.operands.items()}
    arrays = {operand: values[access.tensor.name] for operand, access in statement.operands.items()}
    for instance in points(statement.domain, layer):
        point = instance[: out.ndim]
        names: dict[str, float] = dict(zip(statement.dims, instance, strict=True))
        names |= {operand: float(arrays[operand][reads[operand][instance]]) for operand in reads}
        out[point] = value({**names, "acc": float(out[point])})


def elements(relation: isl.Map, where: str) -> dict[Index, Index]:
    """`{ S[i] -> A[a] }`, single-valued, as a dictionary."""
    arity = relation.dim(isl.dim_type.in_)
    return {pair[:arity]: pair[arity:] for pair in points(relation.wrap().flatten(), where)}


def points(domain: isl.Set, where: str) -> list[Index]:
    """The points of a bounded set, sorted."""
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
        domain.foreach_point(lambda point: found.append(coordinates(point)))
    return sorted(found)


def coordinates(point: isl.Point) -> Index:
    """The coordinates of a point."""
    rank = point.get_space().dim(isl.dim_type.set)
    return tuple(int(point.get_coordinate_val(isl.dim_type.set, d).to_python()) for d in range(rank))
