"""What running groups amounts to, counted exactly: what row kernels do and which rows they touch. No loops are made.

    Storage of each group + Selection ──work_of()──> Work, which `polyfuse.cost.seconds` turns into seconds

A thing that is touched is a row of an array, all channels of it, or a part of one that is as wide as a tile. A stage
of a tile touches each once.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

import islpy as isl
import numpy as np

from polyfuse.codegen.c.elements import FLOAT
from polyfuse.codegen.lower.group import parallel_coordinate
from polyfuse.codegen.lower.kernels import layer_tuning
from polyfuse.codegen.lower.places import Places
from polyfuse.codegen.lower.program import LoweredProgram
from polyfuse.codegen.lower.rowsteps import Rows, RowStep, group_rows
from polyfuse.codegen.lower.selection import Selection
from polyfuse.codegen.rows.kernel import row_work
from polyfuse.codegen.rows.shape import Tuning, block_sizes
from polyfuse.cost.reuse import Integers, Touches
from polyfuse.cost.seconds import SCALAR_COST, KernelWork, Work, seconds
from polyfuse.machines.host import Machine
from polyfuse.schedule.steps import steps
from polyfuse.schedule.storage import Storage
from polyfuse.sets.counting import count
from polyfuse.sets.points import aff_at, points, values_at


def predicted_seconds(program: LoweredProgram, machine: Machine, threads: int = 1) -> float:
    """How long one run of a program takes on a machine, by its time model; tiles are taken in lexicographic order."""
    return seconds(work_of([group.storage for group in program.groups], program.selection), machine, threads).total


def work_of(groups: Sequence[Storage], selection: Selection) -> Work:
    """The work of groups that run one after the other, in place."""
    things = Things()
    kernels: list[KernelWork] = []
    touched: list[Touches] = []
    for index, storage in enumerate(groups):
        places = Places(storage, False, selection)
        found, replaced = group_rows(places)
        threads = parallel_coordinate(places) is not None
        every: list[StepRows] = []
        for part in found:
            _, tuning = layer_tuning(part, selection)
            every += [StepRows.of(index, places, step, tuning) for step in part]
        widths = widest(every)
        numbered = enumerate(every, len(kernels))
        touched.append(in_order([part for number, rows in numbered for part in rows.touched(number, things, widths)]))
        kernels += [rows.work(threads) for rows in every]
        kernels += scalar_work(places, replaced, threads)
    return Work(tuple(kernels), Touches.joined(touched))


def scalar_work(places: Places, replaced: set[str], threads: bool) -> Iterator[KernelWork]:
    """The steps with scalar code; what they touch is taken for free."""
    for step in steps(places.storage.schedule):
        if step.name not in replaced and places.keeps(step):
            executed = count(step.executions)
            macs = executed * step.statement.macs if step.statement is not None else 0
            yield KernelWork(step.name, "scalar", 0, macs, executed, 0, threads, relative_cost=SCALAR_COST)


@dataclass
class Things:
    """Numbers for rows of arrays: an array has as many as its rows times the parts of a row."""

    first: dict[str, int] = field(default_factory=dict)
    parts: dict[str, int] = field(default_factory=dict)
    total: int = 0

    def base(self, name: str, count: int) -> int:
        """The number of the first row of an array."""
        if name not in self.first:
            self.first[name] = self.total
            self.total += count
        return self.first[name]


@dataclass(frozen=True, eq=False)
class Moments:
    """Touches that are alike, by one kernel, with the time of each, `[tile.., stage]`."""

    kernel: int
    times: Integers
    things: Integers
    bytes: int
    runs: int
    writes: bool


def in_order(moments: Sequence[Moments]) -> Touches:
    """The touches of a group in order of time, each thing once for a stage of a tile; written ones last."""
    if not moments:
        return Touches.joined([])
    times, things = (np.concatenate([getattr(part, name) for part in moments]) for name in ("times", "things"))
    sizes = [len(part.things) for part in moments]
    names = ("bytes", "runs", "writes", "kernel")
    alike = [np.repeat([getattr(part, name) for part in moments], sizes) for name in names]
    order = np.lexsort((-alike[0], things, alike[2], *times.T[::-1]))
    times, things, amounts, runs, writes, kernels = (values[order] for values in (times, things, *alike))
    new = np.ones(len(things), bool)
    new[1:] = (things[1:] != things[:-1]) | (writes[1:] != writes[:-1]) | (times[1:] != times[:-1]).any(axis=1)
    return Touches(things[new], amounts[new], runs[new], writes[new], kernels[new])


@dataclass(frozen=True, eq=False)
class StepRows:
    """A row step with its executions as arrays: `at[k]` are the coordinates `[tile.., n, g]` of execution k."""

    group: int
    places: Places
    step: RowStep
    tuning: Tuning
    at: Integers
    times: Integers

    @staticmethod
    def of(group: int, places: Places, step: RowStep, tuning: Tuning) -> "StepRows":
        """The executions of a step and the stages in which they are."""
        coordinates = step.executions.dim(isl.dim_type.set) - 2
        stage = int(step.time.range().dim_min_val(coordinates).to_python())
        at = points(step.executions)
        return StepRows(group, places, step, tuning, at, np.column_stack([at[:, :-2], np.full(len(at), stage)]))

    @property
    def floats(self) -> int:
        """The floats of a vector."""
        return self.step.shape.kind.floats(self.step.shape, self.places.selection.target)

    def work(self, threads: bool) -> KernelWork:
        """All executions of the kernel. Rows outside of the image are not computed with.

        Transformed weights come from memory once in a run.
        """
        shape, calls = self.step.shape, len(self.at)
        kind = shape.kind
        each = row_work(shape, self.tuning, self.floats)
        uses = np.array(kind.row_uses(shape))
        used, every = int((self.inside() @ uses).sum()), calls * int(uses.sum())
        macs = each.macs * calls * used // every
        vectors = each.vectors * used / int(uses.sum()) if kind.skips_rows else each.vectors * calls
        vectors += kind.vectors_once(shape, self.tuning, self.floats)
        name = f"{self.group}.{self.step.name}"
        again = tuple((moved * calls, away) for moved, away in each.again)
        return KernelWork(
            name, kind.name, calls, macs, vectors, each.chunks * calls, threads, each.transforms * calls, again,
            kind.relative_cost,
        )  # fmt: skip

    def inside(self) -> Integers:
        """`[execution, row]`: 1 where a row of the first operand is inside of the image."""
        rows = self.step.reads[0]
        at = values_at(rows.row, self.at)[:, None] + rows.step * np.arange(rows.count)
        return ((at >= 0) & (at < rows.tensor.concrete_shape[2])).astype(np.int64)

    def columns(self, rows: Rows) -> int:
        """The columns that one execution touches."""
        if rows.is_column:
            return 1
        beside = rows is self.step.writes or rows is self.step.added
        return self.step.shape.out_span if beside else self.step.shape.in_columns

    def array(self, rows: Rows) -> str:
        """The name of an array: buffers of groups are their own."""
        return f"{self.group}.{rows.array.name}" if rows.indices else rows.array.name

    def touched(self, kernel: int, things: Things, widths: Mapping[str, int]) -> list[Moments]:
        """The touches of rows and of weights, by the kernel of that number."""
        found = [self._rows(kernel, things, widths, rows) for rows in self.step.every]
        shape, held = self.step.shape, {}
        if self.step.weights_name is not None:
            held[self.step.weights_name] = shape.kind.weight_bytes(shape, self.tuning, self.floats)
        if workspace := shape.kind.workspace_bytes(shape, self.tuning, self.floats):
            held["workspace"] = workspace
        for name, amount in held.items():
            found.append(Moments(kernel, self.times, np.full(len(self.at), things.base(name, 1)), amount, 1, False))
        return found

    def _rows(self, kernel: int, things: Things, widths: Mapping[str, int], rows: Rows) -> Moments:
        beside = rows is self.step.writes or rows is self.step.added
        left = 0 if beside else self.step.shape.outside[0]
        row = (values_at(rows.row, self.at)[:, None] + rows.step * np.arange(rows.count)).ravel()
        inside = (row >= 0) & (row < rows.tensor.concrete_shape[2])
        one = np.repeat(np.arange(len(self.at)), rows.count)[inside]
        column = values_at(rows.column, self.at)[one] + left
        element = (self.at[one, -2], np.zeros(len(one), np.int64), row[inside], column)
        indices, sizes = cells(rows, np.column_stack([self.at[one, :-2], *element]), element)
        *outer, image, _, row, column = indices
        *copies, images, _, height, width = sizes
        columns, name = self.columns(rows), self.array(rows)
        parts = things.parts.setdefault(name, max(1, round(width / widths[name])))
        part = np.clip((column + columns // 2) * parts // width, 0, parts - 1)
        number = np.zeros(len(row), np.int64)
        for value, size in zip((*outer, image, row, part), (*copies, images, height, parts), strict=True):
            number = number * size + value
        first = things.base(name, prod(copies) * images * height * parts)
        extent = row_extent(rows, columns)
        return Moments(kernel, self.times[one], first + number, *extent, rows is self.step.writes)


def widest(every: Sequence[StepRows]) -> dict[str, int]:
    """For each array of a group the most columns that one execution touches."""
    found: dict[str, int] = {}
    for step in every:
        for rows in step.step.every:
            name = step.array(rows)
            found[name] = max(found.get(name, 0), step.columns(rows))
    return found


def cells(rows: Rows, known: Integers, element: Sequence[Integers]) -> tuple[list[Integers], list[int]]:
    """The indices of elements in their array, `[.., n, c, h, w]`, and the sizes of these."""
    if not rows.indices:
        return list(element), list(rows.tensor.concrete_shape)
    found = []
    for index in rows.indices:
        value = aff_at(index.affine, known)
        found.append(value % index.window if index.folded else value)
    return found, [index.window for index in rows.indices]


def row_extent(rows: Rows, columns: int) -> tuple[int, int]:
    """The bytes of one row, of so many columns and all channels, and in how many runs they lie in memory."""
    channels, layout = rows.tensor.concrete_shape[1], rows.array.layout
    if layout.order == "planar":
        return FLOAT.bytes * columns * channels, channels
    blocks = len(block_sizes(channels, layout.floats))
    whole = layout.order == "rows" and columns >= rows.array.sizes[-1]
    return FLOAT.bytes * columns * layout.floats * blocks, 1 if whole else blocks
