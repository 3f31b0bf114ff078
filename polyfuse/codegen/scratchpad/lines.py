"""Statements as loops over lines: for one channel and one row of a layer's output, the loops over the reduction, and
innermost the columns that are asked for.

    Statement ──statement_lines()──> C, over the parameters `channel`, `row`, `column_0 <= column < column_1`, `sum`
"""

from collections.abc import Mapping

import islpy as isl

from polyfuse.codegen.c.text import braces, indented, scope
from polyfuse.codegen.emit.loops import Tree, TreePrinter, kind_of, tree_of
from polyfuse.codegen.scratchpad.longsums import block_done, in_blocks, is_long
from polyfuse.codegen.scratchpad.reads import Instance, Operand, instance_at
from polyfuse.codegen.scratchpad.sweeps import COLUMN, StatementSweep, context, scheduled
from polyfuse.network.layer import Statement


def statement_lines(statement: Statement, operands: Mapping[str, Operand], sweep: StatementSweep) -> list[str]:
    """The loops of a statement for one channel and row; a long sum is that of blocks of terms, each in `part`."""
    time, names = scheduled(statement, sweep)
    order = isl.UnionMap.from_map(time)
    tree = tree_of(order, names, lambda build: instance_at(statement, operands, sweep, build), context(sweep))
    lines = LinePrinter(tree, sweep).lines(tree.root)
    return in_blocks(lines, sweep.columns) if is_long(statement, sweep) else lines


class LinePrinter(TreePrinter[Instance]):
    """Prints the loops of a statement; what is read along a line stands in front of its innermost loop."""

    def __init__(self, tree: Tree[Instance], sweep: StatementSweep) -> None:
        super().__init__(tree.leaves)
        self.sweep = sweep

    def leaf(self, leaf: Instance) -> list[str]:
        """One instance by itself, for which the column is known."""
        lines = [f"const int {COLUMN} = {leaf.column};"] if leaf.column != COLUMN else []
        lines += [*(line for read in leaf.reads for line in read.before(True, 1)), leaf.text(True)]
        lines += [f"counted += {self.sweep.counts};"] if self.sweep.counts else []
        return scope([*lines, *(block_done("1") if leaf.is_long else [])])

    def loop(self, node: isl.AstNode, around: tuple[str, ...]) -> list[str]:
        body = node.for_get_body()
        if around[-1] == COLUMN and kind_of(body) == "user" and all(read.direction for read in self.at(body).reads):
            return in_line(node, self.at(body), self.sweep)
        return super().loop(node, around)


def in_line(node: isl.AstNode, leaf: Instance, sweep: StatementSweep) -> list[str]:
    """The innermost loop, with what it reads in front of it."""
    first = node.for_get_init().to_C_str()
    last, step = first, 1
    if not node.for_is_degenerate():
        condition = node.for_get_cond()
        less = isl.ast_expr_op_type(condition.op_get_type()).name == "lt"
        last = condition.op_get_arg(1).to_C_str() + (" - 1" if less else "")
        step = int(node.for_get_inc().to_C_str())
    if step != 1:
        last = f"{first} + ({last} - ({first})) / {step} * {step}"
    each = "(to - from + 1)" if step == 1 else f"((to - from) / {step} + 1)"
    inside = [line for read in leaf.reads for line in read.before(False, sweep.columns)]
    inside += [f"counted += {f'{sweep.counts} * ' if sweep.counts > 1 else ''}{each};"] if sweep.counts else []
    inside += [f"for (int column = from; column <= to; column{'++' if step == 1 else f' += {step}'})"]
    inside += [*indented([leaf.text(False)]), *(block_done(each) if leaf.is_long else [])]
    return scope([f"const int from = {first}, to = {last};", *braces("if (from <= to)", inside)])
