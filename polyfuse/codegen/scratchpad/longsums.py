"""Long sums of a line in blocks: what rounding adds up to stays small.

lines that add terms to `part` ──in_blocks()──> lines that add blocks of them to `sum`
"""

from collections.abc import Sequence
from math import prod

from polyfuse.codegen.c.text import scope
from polyfuse.codegen.lower.sums import BLOCK, SHORT, UNIT
from polyfuse.codegen.scratchpad.sweeps import SET, Axes, StatementSweep
from polyfuse.network.expression import adds_up
from polyfuse.network.layer import Statement

ADD_BLOCK = """\
/* A block of terms is done: it goes into the sums of all. */
HELPER void add_block(float *sum, float *part, int columns) {
  for (int k = 0; k < columns; k++) sum[k] += part[k], part[k] = 0.0f;
}
"""


def error_bound(terms: int) -> float:
    """What a sum of so many terms may be off by, relative to the sum of their magnitudes, products not counted.

    Steps that add up parts of a sum, as those of a pool over whole images, add one rounding each.

    >>> round(error_bound(100) / UNIT), round(error_bound(18_710) / UNIT)
    (100, 276)
    """
    return UNIT * (terms if terms <= SHORT else BLOCK + -(-terms // BLOCK) + 1)


def is_long(statement: Statement, sweep: StatementSweep) -> bool:
    """Whether a statement adds up so many floats that blocks of them are summed up by themselves."""
    return not sweep.whole_sum and adds_up(statement.expression) and terms_of(statement, sweep.axes) > SHORT


def terms_of(statement: Statement, axes: Axes) -> int:
    """The most instances of a statement at one point."""
    if statement.domain.is_empty():
        return 0
    reduced = range(len(axes.shape), statement.domain.dim(SET))
    ends = ((statement.domain.dim_min_val(d), statement.domain.dim_max_val(d)) for d in reduced)
    return prod(int(high.to_python()) - int(low.to_python()) + 1 for low, high in ends)


def in_blocks(lines: Sequence[str], columns: int) -> list[str]:
    """The lines of a long sum over at most so many columns, with room for a block of terms in each."""
    opened = [f"float part[{columns}] = {{0}};", "int terms = 0;"]
    return scope([*opened, *lines, "add_block(sum, part, column_1 - column_0);"])


def block_done(terms: str) -> list[str]:
    """What ends a block, once so many more terms were added in all columns together."""
    full = f"terms >= {BLOCK} * (column_1 - column_0)"
    return [f"terms += {terms};", f"if ({full}) add_block(sum, part, column_1 - column_0), terms = 0;"]
