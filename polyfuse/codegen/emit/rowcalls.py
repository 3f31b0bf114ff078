"""One execution of a row step as C: pointers to the rows that are read and written, and the call of the kernel.

RowStep + name of its kernel  ──row_lines()──>  lines of C
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import islpy as isl

from polyfuse.codegen.emit.arrays import row_address
from polyfuse.codegen.lower.rowsteps import Rows, RowStep
from polyfuse.schedule.cells import Index

WORKSPACE = "row_workspace"
"""The name in C of the memory that computing takes besides buffers."""
Text = Callable[[isl.PwAff], str]
"""Prints an expression over the executions of a step."""


def row_lines(step: RowStep, kernel: str, text: Text) -> list[str]:
    """The C of one execution: pointers to the rows, and the call of the kernel."""
    shape = step.shape
    read = shape.in_channels if shape.kind.planar_in else 1
    made = shape.out_channels if shape.kind.planar_out else 1
    lines: list[str] = []
    start = 0
    total = sum(rows.count for rows in step.reads) * read
    lines.append(f"const float *row_in[{total}];")
    for rows in step.reads:
        moved = "" if rows.is_column else column_offset(rows, step.reads[0], text)
        lines += input_pointers(rows, read, start, text, moved)
        start += rows.count
    targets = made if made > 1 else step.writes.count
    lines.append(f"float *row_to[{targets}];")
    lines += output_pointers("row_to", step.writes, made > 1, targets, text)
    residual = "NULL"
    if step.added is not None:
        residual = "row_add"
        lines.append(f"const float *row_add[{step.added.count}];")
        lines += output_pointers("row_add", step.added, False, step.added.count, text, step.writes)
    weights, bias = step.weights_name or "NULL", step.bias_name or "NULL"
    origin, target = local_column(step.reads[0], text), local_column(step.writes, text)
    workspace = WORKSPACE if shape.kind.has_workspace else "NULL"
    prefetched = ", ".join(prefetched_rows(step, text))
    call = f"{kernel}(row_in, {weights}, {bias}, {residual}, row_to, {origin}, {target}, {prefetched}, {workspace});"
    return ["{", *(f"  {line}" for line in (*lines, call)), "}"]


def prefetched_rows(step: RowStep, text: Text) -> tuple[str, str]:
    """What the kernel prefetches: rows that are read, and rows that are written; NULL for none."""
    kind, height = step.shape.kind, step.shape.height
    next_in = next_out = "NULL"
    if step.prefetches_in:
        found = row_below if kind.prefetches_nearest else next_rows
        next_in = found(step.reads[0], height * step.shape.stride, text)
    if step.prefetches_out and kind.given_next_out:
        next_out = next_rows(step.writes, height, text)
    return next_in, next_out


def next_rows(rows: Rows, below: int, text: Text) -> str:
    """The first row of the execution so far below, where all rows of this one and of that are inside of the image."""
    first, size = text(rows.row), rows.tensor.concrete_shape[2]
    inside = f"INSIDE({first}, {size}) && INSIDE({first} + {(rows.count - 1) * rows.step + below}, {size})"
    return f"{inside} ? {address_of(rows, '0', str(below), text)} : NULL"


def row_below(rows: Rows, below: int, text: Text) -> str:
    """The last row of the execution so far below, or the nearest to it that is inside of the image."""
    domain, last = rows.row.domain(), rows.tensor.concrete_shape[2] - 1
    row = rows.row.add_constant_val(isl.Val((rows.count - 1) * rows.step + below))
    row = row.max(isl.PwAff.val_on_domain(domain, isl.Val(0))).min(isl.PwAff.val_on_domain(domain, isl.Val(last)))
    return address_of(replace(rows, row=row), "0", "0", text)


def input_pointers(rows: Rows, channels: int, start: int, text: Text, moved: str) -> list[str]:
    """`row_in[channel * rows + k]`: NULL for a row outside of the image; `moved` is added to the address."""
    height = rows.tensor.concrete_shape[2]
    several = channels > 1
    k = f"row_k * {rows.step}" if rows.step > 1 else "row_k"
    first = text(rows.row)
    address = address_of(rows, "row_ch" if several else "0", k, text) + moved
    place = f"row_ch * {rows.count} + row_k" if several else f"{start} + row_k" if start else "row_k"
    lines = [f"for (int row_k = 0; row_k < {rows.count}; row_k++)"]
    lines.append(f"  row_in[{place}] = INSIDE({first} + {k}, {height}) ? {address} : NULL;")
    return (
        [f"for (int row_ch = 0; row_ch < {channels}; row_ch++)", *(f"  {line}" for line in lines)] if several else lines
    )


def output_pointers(
    name: str, rows: Rows, planar: bool, count: int, text: Text, beside: Rows | None = None
) -> list[str]:
    """`row_to[k]` for each row that is written, or for each channel of one.

    Rows that are read `beside` others have their columns under the same numbers.
    """
    moved = "" if beside is None else column_offset(rows, beside, text)
    if count == 1:
        return [f"{name}[0] = {address_of(rows, '0', '0', text)}{moved};"]
    address = address_of(rows, "row_k" if planar else "0", "0" if planar else "row_k", text) + moved
    return [f"for (int row_k = 0; row_k < {count}; row_k++)", f"  {name}[row_k] = {address};"]


def column_offset(rows: Rows, beside: Rows, text: Text) -> str:
    """What is added to a row's address where its first column has another number than that of the rows beside it."""
    here, there = local_column(rows, text), local_column(beside, text)
    return "" if here == there else f" + ({here} - ({there})) * {rows.array.layout.floats}"


def address_of(rows: Rows, channel: str, offset: str, text: Text) -> str:
    """The start of the row `offset` rows below the first one."""
    tail = "" if offset == "0" else f" + {offset}"
    executions = rows.row.get_domain_space()
    image = executions.dim(isl.dim_type.set) - 2
    n = isl.PwAff.from_aff(isl.Aff.var_on_domain(isl.LocalSpace.from_space(executions), isl.dim_type.set, image))
    if not rows.indices:
        return row_address(rows.array, (), text(n), channel, text(rows.row) + tail)
    values = local_values(rows, n)
    *copies, image_index, _, row_index, _ = (
        wrapped(text(value), index) for value, index in zip(values, rows.indices, strict=True)
    )
    row = rows.indices[-2]
    local = wrapped(text(values[-2]) + tail, row) if tail else row_index
    return row_address(rows.array, copies, image_index, channel, local)


def wrapped(value: str, index: Index) -> str:
    """An index of a buffer as C, modulo its window where it is a ring."""
    return f"MOD({value}, {index.window})" if index.folded else value


def local_column(rows: Rows, text: Text) -> str:
    """The first column, counted in the array."""
    if not rows.indices:
        return text(rows.column)
    executions = rows.row.get_domain_space()
    zero = isl.PwAff.from_aff(isl.Aff.zero_on_domain(isl.LocalSpace.from_space(executions)))
    return text(local_values(rows, zero)[-1])


def local_values(rows: Rows, n: isl.PwAff) -> Sequence[isl.PwAff]:
    """The indices of the buffer for the element `[n, 0, row, column]`, before any modulo."""
    executions = rows.row.get_domain_space()
    local = isl.LocalSpace.from_space(executions)
    zero = isl.PwAff.from_aff(isl.Aff.zero_on_domain(local))
    tiles = (
        isl.PwAff.from_aff(isl.Aff.var_on_domain(local, isl.dim_type.set, d))
        for d in range(executions.dim(isl.dim_type.set) - 2)
    )
    variables = [*tiles, n, zero, rows.row, rows.column]
    return [evaluated(index.affine, variables, zero) for index in rows.indices]


def evaluated(origin: isl.Aff, variables: Sequence[isl.PwAff], zero: isl.PwAff) -> isl.PwAff:
    """An affine expression at given values of its variables."""
    total = zero.add_constant_val(origin.get_constant_val())
    for d, variable in enumerate(variables):
        coefficient = origin.get_coefficient_val(isl.dim_type.in_, d)
        if not coefficient.is_zero():
            total = total.add(variable.scale_val(coefficient))
    return total
