"""The executions of a statement whose times were given, and their numbers in the order in which the layer runs them.

Schedule with given times ──runs_of()──> { S[p, r] -> [t, time] }, { S[p, r] -> [n] } of each statement of a layer
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import islpy as isl

from polyfuse.network.expression import adds_up, takes_extreme
from polyfuse.network.layer import Access, Layer, Statement
from polyfuse.schedule.schedule import Schedule
from polyfuse.sets.spaces import coordinates

IN, OUT = isl.dim_type.in_, isl.dim_type.out


@dataclass(frozen=True, eq=False)
class Runs:
    """The executions of a statement: `{ S[p, r] -> [t, time] }`.

    `numbers` is `{ S[p, r] -> [n] }`, and `loose` the same with one number for all terms whose order may change.
    """

    layer: Layer
    statement: Statement
    times: isl.Map
    numbers: isl.Map
    loose: isl.Map

    @cached_property
    def points(self) -> isl.Map:
        """`{ S[p, r] -> [p] }`."""
        relation = self.statement.domain.identity().reset_tuple_id(OUT)
        return relation.project_out(OUT, self.layer.rank, relation.dim(OUT) - self.layer.rank)

    @cached_property
    def executions(self) -> isl.Set:
        """`{ [p, r, t, time] }`."""
        return self.times.wrap().flatten()

    def words(self, execution: Sequence[int]) -> str:
        """An execution `[p, r, t, time]` in words."""
        dims = len(self.statement.dims)
        return f"{self.statement.name}{list(execution[:dims])} at time {list(execution[dims:])}"


def runs_of(schedule: Schedule, layer: Layer) -> list[Runs]:
    """The executions of the statements of a layer whose times are given; none of another layer."""
    if not schedule.is_given(layer):
        return []
    widths: dict[int, int] = {}
    for statement in layer.statements:
        for d in range(layer.rank, len(statement.dims)):
            low, high = ends(statement.domain, d)
            widths[d] = max(widths.get(d, 1), high - low + 1)
    found = []
    for k, statement in enumerate(layer.statements):
        sums = takes_extreme(statement.expression) or (schedule.reorder and adds_up(statement.expression))
        strict = numbers(statement, k, widths, ordered=True)
        loose = numbers(statement, k, widths, ordered=False) if sums else strict
        found.append(Runs(layer, statement, schedule.times[statement.name], strict, loose))
    return found


def ends(points: isl.Set, d: int) -> tuple[int, int]:
    """The first and the last value of an index; 0 where there are none."""
    if points.is_empty():
        return 0, 0
    return int(points.dim_min_val(d).to_python()), int(points.dim_max_val(d).to_python())


def numbers(statement: Statement, k: int, widths: Mapping[int, int], *, ordered: bool) -> isl.Map:
    """`{ S[p, r] -> [n] }`: statements in their order, each in the order of its reduction where it is ordered."""
    value = isl.Aff.zero_on_domain(isl.LocalSpace.from_space(statement.domain.get_space()))
    stride, constant = 1, 0
    for d in sorted(widths, reverse=True):
        if d < len(statement.dims) and ordered:
            value = value.set_coefficient_val(IN, d, isl.Val(stride))
            constant -= stride * ends(statement.domain, d)[0]
        stride *= widths[d]
    value = value.set_constant_val(isl.Val(constant + k * stride))
    return isl.Map.from_aff(value).intersect_domain(statement.domain)


def read_elements(access: Access) -> isl.Map:
    """`{ S[p, r] -> [a] }`."""
    return access.relation.reset_tuple_id(OUT)


def fixed(relation: isl.Map, values: Sequence[int]) -> isl.Map:
    """A relation of one point of its domain."""
    for d, value in enumerate(values):
        relation = relation.fix_val(IN, d, isl.Val(value))
    return relation


def sample_pair(pairs: isl.Map) -> tuple[list[int], list[int]]:
    """One pair of a relation, as numbers."""
    values = coordinates(pairs.wrap().flatten().sample_point())
    return values[: pairs.dim(IN)], values[pairs.dim(IN) :]
