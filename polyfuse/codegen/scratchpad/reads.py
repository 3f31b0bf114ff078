"""What an instance on a line reads, and the C of it.

    Statement + Operands ──instance_at()──> Instance: its reads, and the statement over their values

A read whose channel and row stay the same along a line becomes one `read_row` in front of it, so that the innermost
loop runs over arrays. Where they change, every element is asked for by itself.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import islpy as isl

from polyfuse.codegen.c.elements import Element
from polyfuse.codegen.c.expression import to_c
from polyfuse.codegen.emit.loops import Here
from polyfuse.codegen.scratchpad.longsums import is_long
from polyfuse.codegen.scratchpad.sweeps import COLUMN, OUT, Axes, StatementSweep
from polyfuse.network.layer import Access, Statement
from polyfuse.sets.interrupts import interrupts_held

LONGEST, LINE_BYTES = 64, 512
"""The most columns that are computed at once, and the most bytes of a line of them."""


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
class Instance:
    """One instance: its column, its reads, and the statement over the C of their values."""

    column: str
    reads: tuple[Read, ...]
    statement: Statement
    indices: Mapping[str, str]
    whole_sum: bool
    is_long: bool

    @property
    def sum(self) -> str:
        """Where it adds up."""
        return f"{'part' if self.is_long else 'sum'}[column - column_0]"

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


def instance_at(
    statement: Statement, operands: Mapping[str, Operand], sweep: StatementSweep, build: isl.AstBuild
) -> Instance:
    """The instance that a build is at."""
    here, reads = Here.of(build), []
    for name, access in statement.operands.items():
        if name in statement.tables:
            reads.append(Read(name, operands[name], (), 1))
            continue
        relation = access.relation.align_params(here.instance.get_space())
        element = isl.PwMultiAff.from_map(relation).pullback_pw_multi_aff(here.instance)
        index = [element.get_at(d) for d in range(element.dim(OUT))]
        place = operands[name].to_image([here.operand(part) for part in index])
        directions = {direction_of(part) for part in index}
        fixed = not operands[name].onchip or not any(map(has_column, place[:2]))
        known = directions <= {0, 1} or (fixed and directions <= {-1, 0})
        direction = (min(directions) or 1) if known and fixed else 0
        slope = 0 if sweep.axes.column is None else slope_of(access, sweep.axes.column)
        reads.append(Read(name, operands[name], tuple(place), direction, slope))
    indices = {
        dim: here.operand(here.instance.get_at(d)) for d, dim in enumerate(statement.dims) if dim not in operands
    }
    column = "0" if sweep.axes.column is None else here.text(here.instance.get_at(sweep.axes.column))
    return Instance(column, tuple(reads), statement, indices, sweep.whole_sum, is_long(statement, sweep))


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
