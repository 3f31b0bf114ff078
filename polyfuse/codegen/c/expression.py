"""Expressions of statements as C11.

Text of a statement + C of its operands ──to_c()──> C text
"""

import ast
from collections.abc import Callable, Mapping

from polyfuse.network.expression import (
    FLOAT_FUNCTIONS,
    OPERATORS,
    called,
    check_expression,
    check_known,
    is_index,
    names_in,
    parsed,
    table_of,
)
from polyfuse.network.tensor import checked_name


def to_c(
    expression: str,
    operands: Mapping[str, str],
    indices: Mapping[str, str] | None = None,
    *,
    whole: bool = False,
    real: str = "float",
) -> str:
    """The expression as C11, with the C text given for its operands (floats) and indices (integers).

    `acc` and INFINITY stay unless they are given; any other name is an index and stays. Operands of integer types,
    and an `acc` of one, are indices. A table is an operand or an index whose text is the array's. The text is of type
    `real`, float or double; with `whole`, it is of type int where the expression is whole. The caller provides
    `maximum`, `minimum` (of `real`, keeping NaN), `min` and `max` (integers).

    >>> to_c("maximum(acc + w * x, 0.1) / (2 * h + 1)", {"x": "X[i]", "w": "a + b"})
    'maximum(acc + (a + b) * X[i], 0.1f) / (float)(2 * h + 1)'
    >>> to_c("acc + weight * (x - 3)", {}, {"acc": "acc", "weight": "W[j]", "x": "X[i]"}, whole=True)
    'acc + W[j] * (X[i] - 3)'
    >>> to_c("rintf(minimum(acc * m, 127)) - 3", {"m": "M[c]"}, {"acc": "acc"}, whole=True)
    'rintf(minimum((float)acc * M[c], 127.0f)) - 3.0f'
    >>> to_c("table[x + 128]", {}, {"table": "T", "x": "X[i]"}, whole=True)
    'T[X[i] + 128]'
    >>> to_c("expf(x) * 0.1 + h", {"x": "X[h]"}, real="double")
    'exp(X[h]) * 0.1 + (double)h'
    """
    tree = parsed("", expression)
    names = names_in(expression)
    check_expression("", expression, names)
    check_known(expression)
    floats = {"acc": "acc", "INFINITY": "INFINITY", **operands}
    integers = {name: name for name in names - set(floats)} | dict(indices or {})
    for name in names:
        if name not in operands and name not in ("acc", "INFINITY"):
            checked_name(name)
    check_expression("", expression, names, sorted(integers))
    printer = _Printer(floats, integers, real)
    return printer.text(tree) if whole else printer.as_float(tree)


class _Printer:
    """Prints C with the fewest parentheses that keep the order of evaluation."""

    def __init__(self, floats: Mapping[str, str], whole: Mapping[str, str], real: str) -> None:
        self.names = {name: parenthesised(text) for name, text in {**floats, **whole}.items()}
        self.indices = frozenset(whole)
        self.real = real

    def as_float(self, node: ast.expr) -> str:
        """C of type `real`."""
        match node:
            case ast.Constant():
                return f"{float(node.value)!r}{'f' if self.real == 'float' else ''}"  # type: ignore[arg-type]
            case _ if is_index(node, self.indices):
                text = self.text(node)
                return f"({self.real}){text if _is_atom(node) else f'({text})'}"
        return self.text(node)

    def text(self, node: ast.expr) -> str:
        """C of the type that the expression has: int for index arithmetic, `real` otherwise."""
        integer = is_index(node, self.indices)
        show = self.text if integer else self.as_float
        match node:
            case ast.Constant():
                return str(node.value)
            case ast.Name():
                return self.names[node.id]
            case ast.UnaryOp():
                sign = "-" if isinstance(node.op, ast.USub) else "+"
                inner = show(node.operand)
                return f"{sign}{inner if _is_atom(node.operand) else f'({inner})'}"
            case ast.BinOp():
                symbol = OPERATORS[type(node.op)][0]
                return f"{self._side(node.left, node, show)} {symbol} {self._side(node.right, node, show, right=True)}"
            case ast.Subscript():
                return f"{self.names[table_of(node)]}[{self.text(node.slice)}]"
            case ast.Call():
                return f"{self.function(called(node))}({', '.join(map(show, node.args))})"
        raise AssertionError(ast.dump(node))

    def function(self, name: str) -> str:
        """The function of `real` numbers: C's own end in f where they are of floats."""
        return name.removesuffix("f") if self.real != "float" and name in FLOAT_FUNCTIONS else name

    def _side(self, node: ast.expr, parent: ast.BinOp, show: Callable[[ast.expr], str], right: bool = False) -> str:
        text = show(node)
        converted = is_index(node, self.indices) and not is_index(parent, self.indices)
        if converted or _is_atom(node):
            return text
        binds = isinstance(node, ast.BinOp) and (_rank(node) + (0 if right else 1) > _rank(parent))
        return text if binds else f"({text})"


def _rank(node: ast.BinOp) -> int:
    return 1 if isinstance(node.op, ast.Mult | ast.Div) else 0


def _is_atom(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant | ast.Name | ast.Call | ast.Subscript)


def parenthesised(text: str) -> str:
    """C text that can stand anywhere an operand can: in parentheses unless it is a name, an element or a call.

    >>> parenthesised("a + b"), parenthesised("x[i + 1]"), parenthesised("X(i, j)")
    ('(a + b)', 'x[i + 1]', 'X(i, j)')
    """
    depth = 0
    for position, character in enumerate(text):
        if character in "([" and depth == 0 and position == 0:
            return f"({text})"
        depth += (character in "([") - (character in ")]")
        if depth == 0 and not (character.isalnum() or character in "_)]"):
            return f"({text})"
    return text
