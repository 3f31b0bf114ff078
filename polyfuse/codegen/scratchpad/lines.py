"""Statements as loops over lines: for one channel and one row of a layer's output, the loops over the reduction, and
innermost the columns that are asked for.

    Statement ──statement_lines()──> C, over the parameters `channel`, `row`, `column_0 <= column < column_1`, `sum`

A read whose channel and row stay the same along a line becomes one `read_row` in front of it, so that the innermost
loop runs over arrays. Where they change, every element is asked for by itself.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import islpy as isl

from polyfuse.codegen.c.elements import Element
from polyfuse.codegen.loops import kind_of
from polyfuse.codegen.sums import BLOCK, SHORT, UNIT
from polyfuse.network.expression import adds_up, parenthesised, to_c
from polyfuse.network.layer import Access, Statement
from polyfuse.network.tensor import Tensor
from polyfuse.sets.interrupts import interrupts_held

SET, PARAM, OUT = isl.dim_type.set, isl.dim_type.param, isl.dim_type.out
TAKEN = ("taken_0", "taken_1", "taken_2", "taken_3")
PARAMETERS = ("channel", "row", "column_0", "column_1", *TAKEN)
COLUMN = "column"
LONGEST, LINE_BYTES = 64, 512
"""The most columns that are computed at once, and the most bytes of a line of them."""
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


@dataclass(frozen=True)
class Operand:
    """How a read is printed: of a tensor on chip by rows, of a weight by its index.

    `name` is the C of the views or of the array. On chip, `to_image` turns the texts of an index into those of a
    channel, a row and a column; of a weight, into the offset of the element alone.
    """

    name: str
    element: Element
    onchip: bool
    to_image: Callable[[Sequence[str]], tuple[str, ...]]


@dataclass(frozen=True, eq=False)
class Sweep:
    """How a statement is swept: over points with these axes; of the tensor `taken`, if any, only a box is read.

    `counts` is added to `counted` for every instance; `whole_sum` says that sums are of type int. A line has at most so
    many `columns`.
    """

    axes: Axes
    taken: Tensor | None
    counts: int
    whole_sum: bool
    columns: int


def statement_lines(statement: Statement, operands: Mapping[str, Operand], sweep: Sweep, indent: int) -> list[str]:
    """The loops of a statement for one channel and row; a long sum is that of blocks of terms, each in `part`."""
    inside = loops(statement, operands, sweep, indent + is_long(statement, sweep))
    if not is_long(statement, sweep):
        return inside
    pad = "  " * (indent + 1)
    opened = [f"{pad}float part[{sweep.columns}] = {{0}};", f"{pad}int terms = 0;"]
    closed = f"{pad}add_block(sum, part, column_1 - column_0);"
    return [f"{pad[2:]}{{", *opened, *inside, closed, f"{pad[2:]}}}"]


def error_bound(terms: int) -> float:
    """What a sum of so many terms may be off by, relative to the sum of their magnitudes, products not counted.

    Steps that add up parts of a sum, as those of a pool over whole images, add one rounding each.

    >>> round(error_bound(100) / UNIT), round(error_bound(18_710) / UNIT)
    (100, 276)
    """
    return UNIT * (terms if terms <= SHORT else BLOCK + -(-terms // BLOCK) + 1)


def is_long(statement: Statement, sweep: Sweep) -> bool:
    """Whether a statement adds up so many floats that blocks of them are summed up by themselves."""
    return not sweep.whole_sum and adds_up(statement.expression) and terms_of(statement, sweep.axes) > SHORT


def terms_of(statement: Statement, axes: Axes) -> int:
    """The most instances of a statement at one point."""
    reduced = range(len(axes.shape), statement.domain.dim(SET))
    ends = ((statement.domain.dim_min_val(d), statement.domain.dim_max_val(d)) for d in reduced)
    return prod(int(high.to_python()) - int(low.to_python()) + 1 for low, high in ends)


def loops(statement: Statement, operands: Mapping[str, Operand], sweep: Sweep, indent: int) -> list[str]:
    """The loops of a statement."""
    time, names = scheduled(statement, sweep)
    leaves: dict[str, Leaf] = {}
    failed: list[Exception] = []

    def at_each_domain(node: isl.AstNode, build: isl.AstBuild) -> isl.AstNode:
        key = f"leaf{len(leaves)}"
        try:
            leaves[key] = leaf(statement, operands, sweep, build)
        except Exception as error:  # isl must not see it: it would carry on with a broken tree
            failed.append(error)
        return node.set_annotation(isl.Id(key))

    build = isl.AstBuild.from_context(context(sweep))
    ids = isl.IdList.alloc(isl.DEFAULT_CONTEXT, len(names))
    for name in names:
        ids = ids.add(isl.Id(name))
    build, keep = build.set_iterators(ids).set_at_each_domain(at_each_domain)
    with interrupts_held():
        root = build.node_from_schedule_map(isl.UnionMap.from_map(time))
    del keep
    if failed:
        raise failed[0]
    return printed(root, leaves, sweep, indent)


def context(sweep: Sweep) -> isl.Set:
    """What is known of the parameters."""
    channels, height, width = sweep.axes.sizes
    known = f"0 <= channel < {channels} and 0 <= row < {height} and 0 <= column_0 < column_1 <= {width}"
    if sweep.taken is not None:
        rows, columns = sweep.taken.concrete_shape[2:]
        known += f" and 0 <= taken_0 < taken_1 <= {rows} and 0 <= taken_2 < taken_3 <= {columns}"
    return isl.Set(f"[{', '.join(PARAMETERS)}] -> {{ : {known} }}")


def scheduled(statement: Statement, sweep: Sweep) -> tuple[isl.Map, tuple[str, ...]]:
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


@dataclass(frozen=True)
class Read:
    """One read of an instance: in `place`, and whether it is one row along a line, forwards or backwards.

    `place` is channel, row and column on chip, the offset of the element in a weight, and nothing of a table. Along a
    line of columns it goes `slope` elements with each.
    """

    name: str
    operand: Operand
    place: tuple[str, ...]
    direction: int
    slope: int = 0

    @property
    def array(self) -> str:
        """The array of the line."""
        return f"at_{self.name}"

    def before(self, alone: bool, columns: int) -> list[str]:
        """What is declared in front of a line of so many columns, or for one instance alone."""
        element = self.operand.element
        if not self.place:
            return []
        if not self.operand.onchip:
            value = element.value.format(f"{self.operand.name}[{self.place[0]}]")
            return [f"const {element.computed} {self.array} = {value};"] if alone or not self.varies else []
        channel, row, column = self.place
        ends = (column, column)
        if not alone:
            ends = (
                (at(column, "from"), at(column, "to")) if self.direction > 0 else (at(column, "to"), at(column, "from"))
            )
        first, last = (f"{self.array}_first", ends[1]) if not alone else ends
        pointer = f"read_row({self.operand.name}, {channel}, {row}, {first}, {last}, line_{self.name})"
        told = [] if alone else [f"const int {first} = {ends[0]};"]
        length = 1 if alone else line_length(self.slope, columns)
        return [
            *told,
            f"{element.name} line_{self.name}[{length}];",
            f"const {element.name} *const {self.array} = {pointer};",
        ]

    def value(self, alone: bool) -> str:
        """The C of what is read; of a table, the array."""
        if not self.place:
            return self.operand.name
        if not self.operand.onchip:
            return self.array if alone or not self.varies else f"{self.operand.name}[{self.place[0]}]"
        return self.operand.element.value.format(
            f"{self.array}[{'0' if alone else f'{self.place[2]} - {self.array}_first'}]"
        )

    @property
    def varies(self) -> bool:
        """Whether the place changes along a line."""
        return any(map(has_column, self.place))


@dataclass(frozen=True)
class Leaf:
    """One instance: its column, its reads, and the statement over the C of their values."""

    column: str
    reads: tuple[Read, ...]
    statement: Statement
    indices: Mapping[str, str]
    whole_sum: bool
    sum: str

    def text(self, alone: bool) -> str:
        """The statement."""
        values = {"acc": self.sum} | {read.name: read.value(alone) for read in self.reads}
        whole = {name for name in values if name in self.statement.whole or (name == "acc" and self.whole_sum)}
        floats = {name: text for name, text in values.items() if name not in whole}
        indices = {**self.indices, **{name: values[name] for name in whole}}
        return f"{self.sum} = {to_c(self.statement.expression, floats, indices, whole=True)};"


def line_length(slope: int, columns: int) -> int:
    """The elements that a line of columns reads."""
    return slope * (columns - 1) + 1


def most_columns(statements: Sequence[Statement], axes: Axes) -> int:
    """How many columns of a line are computed at once: no line that is read or made takes more than LINE_BYTES."""
    if axes.column is None:
        return 1
    slopes = (slope_of(read, axes.column) for s in statements for read in s.operands.values())
    return min(LONGEST, axes.sizes[2], (LINE_BYTES // 4 - 1) // max(1, *slopes, 1) + 1)


def slope_of(access: Access, column: int) -> int:
    """How many elements further along a line the next column reads, at most."""
    if len(access.tensor.shape) != 4:
        return 0
    found = [0]
    index = isl.PwMultiAff.from_map(access.relation).get_at(3)
    with interrupts_held():
        index.foreach_piece(
            lambda _, aff: found.append(int(aff.get_coefficient_val(isl.dim_type.in_, column).abs().ceil().to_python()))
        )
    return max(found)


def leaf(statement: Statement, operands: Mapping[str, Operand], sweep: Sweep, build: isl.AstBuild) -> Leaf:
    """The C of one instance."""
    instance = isl.PwMultiAff.from_map(isl.Map.from_union_map(build.get_schedule()).reverse())

    def text(value: isl.PwAff) -> str:
        found = str(build.expr_from_pw_aff(value).to_C_str())
        return f"({found})" if "?" in found else found

    reads = []
    for name, access in statement.operands.items():
        if name in statement.tables:
            reads.append(Read(name, operands[name], (), 1))
            continue
        index = index_of(access, instance)
        place = operands[name].to_image([text(part) for part in index])
        directions = {direction_of(part) for part in index}
        fixed = not operands[name].onchip or not any(map(has_column, place[:2]))
        known = directions <= {0, 1} or (fixed and directions <= {-1, 0})
        direction = (min(directions) or 1) if known and fixed else 0
        slope = 0 if sweep.axes.column is None else slope_of(access, sweep.axes.column)
        reads.append(Read(name, operands[name], tuple(place), direction, slope))
    indices = {dim: text(instance.get_at(d)) for d, dim in enumerate(statement.dims) if dim not in operands}
    column = "0" if sweep.axes.column is None else text(instance.get_at(sweep.axes.column))
    kept = "part" if is_long(statement, sweep) else "sum"
    return Leaf(column, tuple(reads), statement, indices, sweep.whole_sum, f"{kept}[column - column_0]")


def index_of(access: Access, instance: isl.PwMultiAff) -> list[isl.PwAff]:
    """`{ [time] -> index }` of an access, along each axis."""
    relation = access.relation.align_params(instance.get_space())
    element = isl.PwMultiAff.from_map(relation).pullback_pw_multi_aff(instance)
    return [element.get_at(d) for d in range(element.dim(OUT))]


def has_column(text: str) -> bool:
    """Whether an expression changes along a line."""
    return re.search(rf"\b{COLUMN}\b", text) is not None


def at(text: str, column: str) -> str:
    """An expression at another column."""
    return re.sub(rf"\b{COLUMN}\b", column, text)


def direction_of(index: isl.PwAff) -> int:
    """1 for an index that grows or stays along a line, -1 for one that shrinks; 2 where that is not one expression."""
    pieces: list[isl.Aff] = []
    with interrupts_held():
        index.foreach_piece(lambda _, aff: pieces.append(aff))
    if len(pieces) != 1 or pieces[0].dim(isl.dim_type.div):
        return 2
    last = pieces[0].dim(isl.dim_type.in_) - 1
    return int(pieces[0].get_coefficient_val(isl.dim_type.in_, last).sgn()) if last >= 0 else 0


def printed(node: isl.AstNode, leaves: Mapping[str, Leaf], sweep: Sweep, indent: int) -> list[str]:
    """A tree of loops as lines of C."""
    pad, kind = "  " * indent, kind_of(node)
    if kind == "block":
        children = node.block_get_children()
        nodes = [children.get_at(k) for k in range(children.n_ast_node())]
        return [line for child in nodes for line in printed(child, leaves, sweep, indent)]
    if kind == "if_":
        lines = [f"{pad}if ({node.if_get_cond().to_C_str()}) {{"]
        lines += printed(node.if_get_then_node(), leaves, sweep, indent + 1)
        if node.if_has_else_node():
            lines += [f"{pad}}} else {{", *printed(node.if_get_else_node(), leaves, sweep, indent + 1)]
        return [*lines, f"{pad}}}"]
    if kind == "user":
        return alone(leaves[node.get_annotation().get_name()], sweep, indent)
    name, start = node.for_get_iterator().to_C_str(), node.for_get_init().to_C_str()
    body = node.for_get_body()
    if name == COLUMN and kind_of(body) == "user":
        found = leaves[body.get_annotation().get_name()]
        if all(read.direction for read in found.reads):
            return in_line(node, found, sweep, indent)
    inside = printed(body, leaves, sweep, indent + 1)
    if node.for_is_degenerate():
        return [f"{pad}{{", f"{pad}  const int {name} = {start};", f"{pad}  (void){name};", *inside, f"{pad}}}"]
    condition, step = node.for_get_cond().to_C_str(), node.for_get_inc().to_C_str()
    return [f"{pad}for (int {name} = {start}; {condition}; {name} += {step}) {{", *inside, f"{pad}}}"]


def alone(found: Leaf, sweep: Sweep, indent: int) -> list[str]:
    """One instance by itself, for which the column is known."""
    pad = "  " * indent
    lines = [f"const int {COLUMN} = {found.column};"] if found.column != COLUMN else []
    lines += [*(line for read in found.reads for line in read.before(True, 1)), found.text(True)]
    lines += [f"counted += {sweep.counts};"] if sweep.counts else []
    lines += folded(found, "1")
    return [f"{pad}{{", *(f"{pad}  {line}" for line in lines), f"{pad}}}"]


def folded(found: Leaf, terms: str) -> list[str]:
    """What ends a block of terms of a long sum, once so many more were added in all columns together."""
    if not found.sum.startswith("part"):
        return []
    block = f"{BLOCK} * (column_1 - column_0)"
    return [f"terms += {terms};", f"if (terms >= {block}) add_block(sum, part, column_1 - column_0), terms = 0;"]


def in_line(node: isl.AstNode, found: Leaf, sweep: Sweep, indent: int) -> list[str]:
    """The innermost loop, with what it reads in front of it."""
    pad, first = "  " * indent, node.for_get_init().to_C_str()
    last, step = first, 1
    if not node.for_is_degenerate():
        condition = node.for_get_cond()
        less = isl.ast_expr_op_type(condition.op_get_type()).name == "lt"
        last = condition.op_get_arg(1).to_C_str() + (" - 1" if less else "")
        step = int(node.for_get_inc().to_C_str())
    if step != 1:
        last = f"{first} + ({last} - ({first})) / {step} * {step}"
    each = "(to - from + 1)" if step == 1 else f"((to - from) / {step} + 1)"
    inside = [line for read in found.reads for line in read.before(False, sweep.columns)]
    inside += [f"counted += {f'{sweep.counts} * ' if sweep.counts > 1 else ''}{each};"] if sweep.counts else []
    inside += [f"for (int column = from; column <= to; column{'++' if step == 1 else f' += {step}'})"]
    inside += [f"  {found.text(False)}", *folded(found, each)]
    lines = [f"const int from = {first}, to = {last};", "if (from <= to) {", *(f"  {line}" for line in inside), "}"]
    return [f"{pad}{{", *(f"{pad}  {line}" for line in lines), f"{pad}}}"]
