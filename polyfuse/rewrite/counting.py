"""Arithmetic operations of layers: what the laws of algebra are chosen by."""

import ast

from polyfuse.network.layer import Layer, Statement
from polyfuse.sets import count


def operations(layer: Layer) -> int:
    """The arithmetic operations of a layer: those of each statement's expression, once for each instance.

    >>> from polyfuse.network.network import Builder
    >>> build = Builder("net")
    >>> operations(build.network(build.conv("conv", build.input("x", (1, 1, 4, 4)), 1, kernel=3)).layers[0])
    72
    """
    return sum(count(statement.domain) * _operations(statement) for statement in layer.statements)


def _operations(statement: Statement) -> int:
    """Operations on values; arithmetic of indices, such as how many taps of a window count, is none."""
    nodes = ast.walk(ast.parse(statement.expression))
    return sum(isinstance(node, ast.BinOp | ast.UnaryOp | ast.Call) and _has_value(node, statement) for node in nodes)


def _has_value(node: ast.AST, statement: Statement) -> bool:
    names = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
    return bool(names & {"acc", *statement.operands})
