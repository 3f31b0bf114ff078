"""Layers as sets and relations.

A layer makes one tensor. It has one *point* for each element of that tensor and one or more *statements* that run,
in order, for every point; the instances of a statement extend the point by the indices of a reduction:

    conv1        points      { conv1[n, oc, oh, ow] }
    conv1_init   instances   { conv1_init[n, oc, oh, ow] }                       acc = bias
    conv1_update instances   { conv1_update[n, oc, oh, ow, ic, kh, kw] }         acc = acc + w * x
    conv1_final  instances   { conv1_final[n, oc, oh, ow] }                      acc = maximum(acc, 0)

Padding is the absence of a read, and an update whose read is absent does not exist.
A point starts from scratch whenever it is executed, so executing it again gives the same value.

A layer that *recurs* reads elements of its own output: scans, sweeps in place, steps of time along an axis. Its points
run in lexicographic order, all statements of one before the next, and read what earlier points have made.

Between its statements `acc` may be wider than the element that it becomes: int32 for a sum of products of int8, float32
for what is stored in half. What the last statement gives is stored as the type of the output.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import islpy as isl
import numpy as np

from polyfuse.doors import public
from polyfuse.errors import InvalidInput
from polyfuse.network.activation import Activation
from polyfuse.network.dtypes import HALVES, element_type, is_whole
from polyfuse.network.expression import check_expression, names_in, tables_in
from polyfuse.network.operator import Activate, Operator
from polyfuse.network.quantised.scheme import Dequantised
from polyfuse.network.tensor import Tensor, usable_name
from polyfuse.sets.coalescing import coalesced
from polyfuse.sets.pickling import OfFields
from polyfuse.sets.spaces import one_of, relation_space, unnamed
from polyfuse.text import html_table


@dataclass(frozen=True, eq=False)
class Access:
    """The access relation of a statement to one tensor: `{ S[i] -> A[a] }`, at most one element an instance.

    Of a table, whose index depends on data, it holds every element that an instance may read.

    `extended` is the same relation without the borders of the image: it also says what instances outside the domain
    would read, which is what shifted placement and affine tile origins are derived from.
    """

    tensor: Tensor
    relation: isl.Map
    extended: isl.Map

    def __post_init__(self) -> None:
        for field_name in ("relation", "extended"):
            object.__setattr__(self, field_name, unnamed(getattr(self, field_name), (isl.dim_type.out,)))

    def __str__(self) -> str:
        return str(self.relation)

    __repr__ = __str__


@dataclass(frozen=True, eq=False)
class Statement(OfFields):
    """`acc = expression` for every instance of a domain.

    The expression is text that is both C and Python (see expression.py): arithmetic on `acc`, on operands (one access
    each) and on the names of the domain's dimensions. Operands of integer types are whole in it. `macs` is how many
    multiply-accumulates it stands for.
    """

    name: str
    dims: tuple[str, ...]
    domain: isl.Set
    operands: Mapping[str, Access]
    expression: str
    macs: int = 0

    def __post_init__(self) -> None:
        usable_name(self.name)
        self.check_whole(acc_is_whole=True)
        if self.tables - set(self.operands) or any(len(self.operands[t].tensor.shape) != 1 for t in self.tables):
            raise InvalidInput(
                f"statement {self.name!r}: {self.expression!r} subscripts {', '.join(sorted(self.tables))}; expected "
                "operands of one axis"
            )

    def check_whole(self, acc_is_whole: bool) -> None:
        """Refuse min, max and tables of what is not whole.

        Errors: InvalidInput.
        """
        known = {"acc", "INFINITY", *self.operands, *self.dims}
        whole = {*self.dims, *self.whole, *(["acc"] if acc_is_whole else [])}
        check_expression(self.name, self.expression, known, sorted(whole))

    @property
    def whole(self) -> frozenset[str]:
        """The operands whose elements are whole numbers."""
        return frozenset(operand for operand, access in self.operands.items() if is_whole(access.tensor.dtype))

    @cached_property
    def tables(self) -> frozenset[str]:
        """The operands that are read at an index which depends on data."""
        return frozenset(tables_in(self.expression))

    @cached_property
    def accumulates(self) -> bool:
        """The statement reads the element it writes."""
        return "acc" in names_in(self.expression)

    def __str__(self) -> str:
        return f"{self.name}[{', '.join(self.dims)}]: acc = {self.expression}"

    __repr__ = __str__


@public
@dataclass(frozen=True, eq=False)
class Layer(OfFields):
    """One tensor and the statements that make it. `reference` computes it from whole operands in float64 numpy.

    The `operator` promises what the statements compute, but for the `activation` that they end in: code generation may
    take a row kernel for it. A layer of your own is `Custom`, or has an operator of its own. `accumulator` is the type
    of `acc` from the first statement to the last, where it is another than that of the output. `dequantised` says which
    whole numbers some weights were made of, by name. `made` holds the elements that it makes, `{ T[a] }`, where those
    are not all of the output; nobody reads the others. A layer that `runs_all` of its points, as programs do,
    makes also elements that nobody reads.
    """

    name: str
    operator: Operator
    output: Tensor
    statements: tuple[Statement, ...]
    inputs: tuple[Tensor, ...]
    weights: tuple[Tensor, ...]
    reference: Callable[..., np.ndarray] | None = None
    activation: Activation | None = None
    accumulator: str | None = None
    dequantised: Mapping[str, Dequantised] = field(default_factory=dict)
    made: isl.Set | None = None
    runs_all: bool = False

    def __post_init__(self) -> None:
        usable_name(self.name)
        element_type(self.acc_dtype, f"layer {self.name!r}: accumulator")
        if not self.statements or self.statements[0].accumulates:
            raise InvalidInput(
                f"layer {self.name!r}: its first statement reads acc before anything is written; running a point twice "
                "would accumulate twice; start with a statement that sets acc"
            )
        if not is_whole(self.acc_dtype):
            for statement in self.statements:
                statement.check_whole(acc_is_whole=False)
        if self.recurs:
            self._check_earlier()

    def _check_earlier(self) -> None:
        """What the layer reads of its own output is made by earlier points, and read as it is stored.

        Errors: InvalidInput.
        """
        if self.output.dtype in HALVES or self.acc_dtype != self.output.dtype:
            raise InvalidInput(
                f"layer {self.name!r}: reads its own output {self.output}, which is narrower than acc; expected "
                "float32, float64 or int32"
            )
        read = self.reads(self.output)
        unmade = read.range().subtract(self.makes.range())
        if not unmade.is_empty():
            raise InvalidInput(
                f"layer {self.name!r}: reads {one_of(unmade)} of its own output, which no point makes; start "
                "with a statement that sets it"
            )
        points = read.apply_range(self.makes.reverse())
        late = points.subtract(isl.Map.lex_gt(self.points.get_space()))
        if not late.is_empty():
            pair = isl.Map.from_basic_map(late.sample())
            reader, element = one_of(pair.domain()), one_of(pair.range().apply(self.makes))
            raise InvalidInput(
                f"layer {self.name!r}: point {reader} reads {element} of its own output; expected elements of points "
                "that come before it in lexicographic order: order the axes so that time runs forwards, first"
            )

    @property
    def kind(self) -> str:
        """The name of the operator for people; nothing is decided by it."""
        if self.activation is not None and self.operator == Activate():
            return self.activation.name
        return self.operator.kind

    @property
    def operands(self) -> tuple[Tensor, ...]:
        """The tensors that the statements read, in their order: one that is read twice is there twice."""
        return tuple(access.tensor for statement in self.statements for access in statement.operands.values())

    @property
    def acc_dtype(self) -> str:
        """The type of `acc` between statements."""
        return self.accumulator or self.output.dtype

    @property
    def is_exact(self) -> bool:
        """The layer reads or makes whole numbers: its result is defined to the bit, with floats rounded to float32."""
        read = (access.tensor for statement in self.statements for access in statement.operands.values())
        return any(is_whole(tensor.dtype) for tensor in (self.output, *read))

    @property
    def rank(self) -> int:
        """The number of indices of a point."""
        return len(self.output.shape)

    @cached_property
    def points(self) -> isl.Set:
        """`{ L[p] }`: one point for each element of the output that is made."""
        return (self.output.box if self.made is None else self.made).set_tuple_name(self.name)

    @cached_property
    def recurs(self) -> bool:
        """Whether the layer reads elements of its own output."""
        return any(access.tensor == self.output for s in self.statements for access in s.operands.values())

    @cached_property
    def makes(self) -> isl.Map:
        """`{ L[p] -> T[p] }`: the element each point makes."""
        return self.makes_anywhere.intersect_domain(self.points)

    @cached_property
    def makes_anywhere(self) -> isl.Map:
        """`{ L[p] -> T[p] }` for points and elements in and outside of the image."""
        return identity(self.points.get_space(), self.output.box.get_space())

    def reads(self, tensor: Tensor) -> isl.Map:
        """`{ L[p] -> A[a] }`: all that a point reads of a tensor, over all its statements."""
        return self._union(tensor, extended=False).intersect_domain(self.points)

    def extended_reads(self, tensor: Tensor) -> isl.Map:
        """`{ L[p] -> A[a] }`: all reads of a tensor, for points and elements in and outside of the image."""
        return self._union(tensor, extended=True)

    def _union(self, tensor: Tensor, extended: bool) -> isl.Map:
        """The reads of a tensor, those of one operand in few pieces; own reads of a layer stay apart by operand."""
        by_operand: dict[str, isl.Map] = {}
        for statement in self.statements:
            for operand, access in statement.operands.items():
                if access.tensor == tensor:
                    read = self.instances_of_points(statement).apply_range(
                        access.extended if extended else access.relation
                    )
                    by_operand[operand] = by_operand[operand].union(read) if operand in by_operand else read
        relation = isl.Map.empty(relation_space(self.points.get_space(), tensor.box.get_space()))
        for read in by_operand.values():
            relation = relation.union(coalesced(read))
        return relation if tensor == self.output else coalesced(relation)

    def instances_of_points(self, statement: Statement) -> isl.Map:
        """`{ L[p] -> S[p, r] }`: the instances of a statement that may belong to a point."""
        space = relation_space(self.points.get_space(), statement.domain.get_space())
        relation = isl.Map.universe(space)
        for d in range(self.rank):
            relation = relation.equate(isl.dim_type.in_, d, isl.dim_type.out, d)
        return relation

    @property
    def macs(self) -> tuple[Statement, ...]:
        """The statements that stand for multiply-accumulates."""
        return tuple(statement for statement in self.statements if statement.macs)

    def __str__(self) -> str:
        reads = ", ".join(str(tensor) for tensor in (*self.inputs, *self.weights))
        return f"{self.name} ({self.kind}): {reads} -> {self.output}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows = [
            (
                statement,
                statement.domain,
                "; ".join(f"{operand}: {read}" for operand, read in statement.operands.items()),
            )
            for statement in self.statements
        ]
        return html_table(str(self), ("statement", "domain", "reads"), rows)


def identity(domain: isl.Space, range_: isl.Space) -> isl.Map:
    """`{ D[i] -> R[i] }` for two tuples of the same length."""
    relation = isl.Map.universe(relation_space(domain, range_))
    for d in range(domain.dim(isl.dim_type.set)):
        relation = relation.equate(isl.dim_type.in_, d, isl.dim_type.out, d)
    return relation
