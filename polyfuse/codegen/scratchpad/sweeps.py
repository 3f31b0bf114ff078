"""Sweeps: the instances of a statement on one line of a layer's output, and the order in which they run.

    Statement + StatementSweep ──scheduled()──> { S[p, r] -> [r, column] }, over `channel`, `row` and columns

A line is some columns of one channel and row; innermost are its columns.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import islpy as isl

from polyfuse.codegen.c.expression import parenthesised
from polyfuse.network.layer import Statement
from polyfuse.network.tensor import Tensor

SET, PARAM, OUT = isl.dim_type.set, isl.dim_type.param, isl.dim_type.out
TAKEN = ("taken_0", "taken_1", "taken_2", "taken_3")
PARAMETERS = ("channel", "row", "column_0", "column_1", *TAKEN)
COLUMN = "column"
RESERVED = frozenset(
    (*PARAMETERS, COLUMN, "from", "to", "sum", "sums", "part", "terms", "result", "counted", "weights", "scratch")
)
USED = re.compile(r"(at|line|operand|weight)_|.*_(first|[01])$")


@dataclass(frozen=True)
class Axes:
    """How the axes of a tensor are its images, channels, rows and columns on chip, as `plan.operations` has them.

    Of four axes each is one of these; of others, the first counts images and the rest are channels, row-major.
    """

    shape: tuple[int, ...]

    @property
    def is_image(self) -> bool:
        """There are rows and columns."""
        return len(self.shape) == 4

    @property
    def image(self) -> int | None:
        """The axis that counts images."""
        return 0 if len(self.shape) > 1 else None

    @property
    def column(self) -> int | None:
        """The axis that lines run along."""
        return 3 if self.is_image else None

    @property
    def strides(self) -> dict[int, int]:
        """The axes that count channels, and how many channels apart their indices are."""
        axes = [1] if self.is_image else list(range(0 if self.image is None else 1, len(self.shape)))
        return {axis: prod(self.shape[a] for a in axes if a > axis) for axis in axes}

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Channels, rows and columns."""
        rows, columns = self.shape[2:] if self.is_image else (1, 1)
        return prod(self.shape[axis] for axis in self.strides), rows, columns

    def place(self, index: Sequence[str]) -> tuple[str, str, str]:
        """Channel, row and column of an index."""
        channel = combined([(index[axis], stride) for axis, stride in self.strides.items()])
        return (channel, index[2], index[3]) if self.is_image else (channel, "0", "0")


def combined(terms: Sequence[tuple[str, int]]) -> str:
    """A sum of indices with whole factors, as C.

    >>> combined([("ic", 9), ("kh + 1", 3), ("kw", 1)])
    '9 * ic + 3 * (kh + 1) + kw'
    """
    parts = [text if factor == 1 else f"{factor} * {parenthesised(text)}" for text, factor in terms if text != "0"]
    return " + ".join(parts) or "0"


@dataclass(frozen=True, eq=False)
class StatementSweep:
    """How a statement is swept: over points with these axes; of the tensor `taken`, if any, only a box is read.

    `counts` is added to `counted` for every instance; `whole_sum` says that sums are of type int. A line has at most so
    many `columns`.
    """

    axes: Axes
    taken: Tensor | None
    counts: int
    whole_sum: bool
    columns: int


def context(sweep: StatementSweep) -> isl.Set:
    """What is known of the parameters."""
    channels, height, width = sweep.axes.sizes
    known = f"0 <= channel < {channels} and 0 <= row < {height} and 0 <= column_0 < column_1 <= {width}"
    if sweep.taken is not None:
        rows, columns = sweep.taken.concrete_shape[2:]
        known += f" and 0 <= taken_0 < taken_1 <= {rows} and 0 <= taken_2 < taken_3 <= {columns}"
    return isl.Set(f"[{', '.join(PARAMETERS)}] -> {{ : {known} }}")


def scheduled(statement: Statement, sweep: StatementSweep) -> tuple[isl.Map, tuple[str, ...]]:
    """`[parameters] -> { S[p, r] -> [r, column] }` for the instances on the line, and the names of the loops."""
    axes = sweep.axes
    instances = statement.domain
    for name in PARAMETERS:
        instances = instances.add_dims(PARAM, 1).set_dim_name(PARAM, instances.dim(PARAM), name)
    if axes.image is not None:
        instances = instances.fix_val(SET, axes.image, isl.Val(0))
    instances = instances & along(instances, axes.strides, "channel")
    if axes.is_image:
        instances = instances & along(instances, {2: 1}, "row") & between(instances, 3, "column_0", "column_1")
    if sweep.taken is not None:
        instances = instances & taken(statement, instances, sweep.taken)
    fixed = {axes.image, *((1, 2, 3) if axes.is_image else ())}
    outer = [d for d in range(instances.dim(SET)) if d not in fixed]
    order = [*outer, *([3] if axes.is_image else [])]
    time = isl.Map.from_domain_and_range(instances, isl.Set(f"{{ [{', '.join(f't{k}' for k in order)}] }}"))
    for position, d in enumerate(order):
        time = time.equate(isl.dim_type.in_, d, OUT, position)
    names = [loop_name(statement.dims[d]) for d in outer]
    return time, (*names, *([COLUMN] if axes.is_image else []))


def along(instances: isl.Set, strides: Mapping[int, int], name: str) -> isl.Set:
    """The instances whose indices, so many apart, make a parameter."""
    space = isl.LocalSpace.from_space(instances.get_space())
    total = isl.Aff.zero_on_domain(space)
    for axis, stride in strides.items():
        total = total.add(isl.Aff.var_on_domain(space, SET, axis).scale_val(isl.Val(stride)))
    return total.eq_set(isl.Aff.var_on_domain(space, PARAM, parameter(instances, name)))


def between(instances: isl.Set, axis: int, first: str, end: str) -> isl.Set:
    """The instances whose index along an axis is at least one parameter and less than another."""
    space = instances.get_space()
    local = isl.LocalSpace.from_space(space)
    index = isl.Aff.var_on_domain(local, SET, axis)
    low, high = (isl.Aff.var_on_domain(local, PARAM, parameter(instances, name)) for name in (first, end))
    return index.ge_set(low) & index.lt_set(high)


def taken(statement: Statement, instances: isl.Set, tensor: Tensor) -> isl.Set:
    """The instances that read the box of a tensor that is taken."""
    found = instances
    for access in statement.operands.values():
        if access.tensor == tensor:
            relation = access.relation.align_params(instances.get_space())
            target = isl.Set.universe(relation.range().get_space())
            box = between(target, 2, *TAKEN[:2]) & between(target, 3, *TAKEN[2:])
            found = found & relation.intersect_range(box).domain()
    return found


def parameter(instances: isl.Set, name: str) -> int:
    """The position of a parameter."""
    return int(instances.find_dim_by_name(PARAM, name))


def loop_name(dim: str) -> str:
    """A loop is called as the index is, unless generated code uses such names."""
    return f"polyfuse_{dim}" if dim in RESERVED or USED.match(dim) else dim
