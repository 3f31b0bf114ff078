"""The language of statements: text that is both Python and C, checked and evaluated in float64.

    expression := number | INFINITY | acc | operand | dim | (expression) | -expression | +expression
                | expression (+ - * /) expression | function(expression, ...) | table[expression]
                | unknown(expression, ...)

Subtrees of dims, whole numbers, and operands of integer types under + - * min max are *whole* and stay integers; `/`
always gives a float, and so does everything that holds a float. Floats follow IEEE: no division or overflow is an
error. A table is an operand of one axis that is read at an index which depends on data.

What integer layers compute is evaluated with every float rounded to float32, as C has it without contraction of
products and sums: the same to the bit, as long as it calls none of expf, tanhf, log1pf, logf, powf and erff.

`unknown` says what a value is computed from and not how: schedules need no more, but it cannot be run.
"""

import ast
from collections.abc import Callable, Mapping, Sequence
from math import erf

import numpy as np

from polyfuse.errors import InvalidInput
from polyfuse.network.single import fmaf

Value = int | np.float64
Given = float | np.ndarray
"""The value of a name: an `int` where it is whole, all of its elements where it is a table."""
MAX_DEPTH = 150
MAX_CHARACTERS = 20_000
LARGEST_FLOAT = float(np.finfo(np.float32).max)
LARGEST_INDEX = 2**31 - 1

FLOAT_FUNCTIONS: dict[str, tuple[int, Callable[..., np.float64]]] = {
    "maximum": (2, np.maximum),
    "minimum": (2, np.minimum),
    "expf": (1, np.exp),
    "tanhf": (1, np.tanh),
    "log1pf": (1, np.log1p),
    "logf": (1, np.log),
    "sqrtf": (1, np.sqrt),
    "powf": (2, np.power),
    "fabsf": (1, np.abs),
    "rintf": (1, np.rint),
    "fmaf": (3, lambda a, b, c: a * b + c),
    "erff": (1, lambda x: np.float64(erf(x))),
}
INDEX_FUNCTIONS: dict[str, Callable[[int, int], int]] = {"min": min, "max": max}
UNKNOWN = "unknown"
FUNCTIONS = frozenset([*FLOAT_FUNCTIONS, *INDEX_FUNCTIONS, UNKNOWN])
"""The functions that an expression may call: C float functions, maximum and minimum (which keep NaN), min and max of
indices, and `unknown` of anything."""

OPERATORS: dict[type[ast.operator], tuple[str, Callable[[Value, Value], Value]]] = {
    ast.Add: ("+", lambda a, b: a + b),
    ast.Sub: ("-", lambda a, b: a - b),
    ast.Mult: ("*", lambda a, b: a * b),
    ast.Div: ("/", lambda a, b: np.float64(a) / np.float64(b)),
}


def tables_in(expression: str) -> set[str]:
    """The names that an expression subscripts.

    >>> tables_in("maximum(table[x + 128], 0.0)")
    {'table'}
    """
    return {table_of(node) for node in ast.walk(parsed("", expression)) if isinstance(node, ast.Subscript)}


def names_in(expression: str) -> set[str]:
    """The names an expression mentions, those of functions left out.

    >>> sorted(names_in("maximum(acc, x * h)"))
    ['acc', 'h', 'x']
    """
    return {node.id for node in ast.walk(parsed("", expression)) if isinstance(node, ast.Name)} - FUNCTIONS


def adds_up(expression: str) -> bool:
    """Whether an expression adds to `acc`, or subtracts from it, what does not depend on it.

    >>> adds_up("acc + w * x"), adds_up("x * x + acc - y"), adds_up("maximum(acc, x)"), adds_up("acc * 0.5 + x")
    (True, True, False, False)
    """
    return _adds_up(parsed("", expression))


def takes_extreme(expression: str) -> bool:
    """Whether an expression is the larger or the smaller of `acc` and what does not depend on it.

    >>> takes_extreme("maximum(acc, x)"), takes_extreme("minimum(x, acc)"), takes_extreme("maximum(acc, 0) + x")
    (True, True, False)
    """
    node = parsed("", expression)
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        return False
    parts = sorted(node.args, key=_has_acc)
    extreme = node.func.id in ("maximum", "minimum") and len(parts) == 2
    return extreme and not _has_acc(parts[0]) and _is_acc(parts[1])


def _adds_up(node: ast.expr) -> bool:
    if not isinstance(node, ast.BinOp) or not isinstance(node.op, ast.Add | ast.Sub):
        return False
    if not _has_acc(node.right):
        return _is_acc(node.left) or _adds_up(node.left)
    return isinstance(node.op, ast.Add) and not _has_acc(node.left) and (_is_acc(node.right) or _adds_up(node.right))


def _is_acc(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "acc"


def _has_acc(node: ast.expr) -> bool:
    return any(isinstance(each, ast.Name) and each.id == "acc" for each in ast.walk(node))


def check_expression(where: str, expression: str, known: set[str], indices: Sequence[str] | None = None) -> None:
    """Refuse text that is not arithmetic on known names; what passes means the same in C and in Python.

    `indices` are the names of `known` that are whole: where given, min and max of anything else are refused, and so
    are tables that are read at anything else.
    Errors: InvalidInput.
    """
    tree = parsed(where, expression)
    functions = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if not _is_arithmetic(node, known | FUNCTIONS if id(node) in functions else known):
            got = ast.unparse(node) if isinstance(node, ast.expr) else type(node).__name__
            raise InvalidInput(
                f"statement {where!r}: {got!r} in {expression!r} is neither arithmetic, one of {sorted(known)}, nor a "
                f"call of {sorted(FUNCTIONS)}"
            )
        if isinstance(node, ast.Call):
            _check_call(where, node, None if indices is None else frozenset(indices))
        if isinstance(node, ast.Constant):
            _check_constant(where, node)
        if isinstance(node, ast.Subscript):
            _check_subscript(where, node, tree, None if indices is None else frozenset(indices))


def parsed(where: str, expression: str) -> ast.expr:
    """The syntax tree of an expression, of bounded depth."""
    try:
        if len(expression) > MAX_CHARACTERS:
            raise ValueError(f"longer than {MAX_CHARACTERS:,} characters")
        tree = ast.parse(expression.strip(), mode="eval").body
        level: list[ast.AST] = [tree]
        depth = 0
        while level:
            level = [child for node in level for child in ast.iter_child_nodes(node)]
            depth += 1
        if depth > MAX_DEPTH:
            raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        shown = expression if len(expression) <= 200 else expression[:200] + "..."
        raise InvalidInput(f"statement {where!r}: cannot read the expression {shown!r}: {error}") from None
    return tree


def _is_arithmetic(node: ast.AST, known: set[str]) -> bool:
    match node:
        case ast.Constant():
            return type(node.value) in (int, float)
        case ast.Call():
            return isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS and not node.keywords
        case ast.Name():
            return node.id in known
        case ast.Subscript():
            return isinstance(node.value, ast.Name) and node.value.id in known - {"acc", "INFINITY"}
    allowed = (ast.BinOp, ast.UnaryOp, ast.Load, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.USub, ast.UAdd)
    return isinstance(node, allowed)


def _check_subscript(where: str, node: ast.Subscript, tree: ast.expr, indices: frozenset[str] | None) -> None:
    table = table_of(node)
    if sum(isinstance(each, ast.Name) and each.id == table for each in ast.walk(tree)) != sum(
        isinstance(each, ast.Subscript) and table_of(each) == table for each in ast.walk(tree)
    ):
        raise InvalidInput(f"statement {where!r}: {table} is a table in {ast.unparse(node)!r} and an element elsewhere")
    if indices is not None and not is_index(node.slice, indices):
        raise InvalidInput(
            f"statement {where!r}: {ast.unparse(node)!r}: expected an index of whole numbers, dims and integer operands"
        )


def table_of(node: ast.Subscript) -> str:
    """The name of the table that is read; empty where it is no name."""
    return node.value.id if isinstance(node.value, ast.Name) else ""


def _check_call(where: str, call: ast.Call, indices: frozenset[str] | None) -> None:
    name = called(call)
    if name == UNKNOWN:
        return
    wanted = 2 if name in INDEX_FUNCTIONS else FLOAT_FUNCTIONS[name][0]
    if len(call.args) != wanted:
        raise InvalidInput(f"statement {where!r}: {ast.unparse(call)!r}: {name} takes {wanted}, got {len(call.args)}")
    if name in INDEX_FUNCTIONS and indices is not None and not all(is_index(a, indices) for a in call.args):
        raise InvalidInput(
            f"statement {where!r}: {ast.unparse(call)!r}: {name} is of whole numbers and dims; "
            f"use {name}imum for floats"
        )


def _check_constant(where: str, node: ast.Constant) -> None:
    value = node.value
    if isinstance(value, int) and value > LARGEST_INDEX:
        raise InvalidInput(f"statement {where!r}: {value} passes {LARGEST_INDEX}; write it as a float")
    if isinstance(value, float) and value > LARGEST_FLOAT:
        raise InvalidInput(f"statement {where!r}: {value!r} passes the largest float, {LARGEST_FLOAT!r}; use INFINITY")


def is_known(expression: str) -> bool:
    """The expression says how its value is computed.

    >>> is_known("acc + x"), is_known("unknown(acc, x)")
    (True, False)
    """
    return all(not isinstance(node, ast.Name) or node.id != UNKNOWN for node in ast.walk(parsed("", expression)))


def check_known(expression: str) -> None:
    """Refuse to compute what is not known."""
    if not is_known(expression):
        raise InvalidInput(
            f"expression {expression!r}: only what it reads is known, so it can be scheduled and counted, not run; "
            "give the expression of its statement"
        )


def called(call: ast.Call) -> str:
    """The name of the function."""
    assert isinstance(call.func, ast.Name)
    return call.func.id


def is_index(node: ast.expr, indices: frozenset[str]) -> bool:
    """The subtree is integer arithmetic."""
    match node:
        case ast.Constant():
            return isinstance(node.value, int)
        case ast.Name():
            return node.id in indices
        case ast.UnaryOp():
            return is_index(node.operand, indices)
        case ast.BinOp():
            return not isinstance(node.op, ast.Div) and all(is_index(n, indices) for n in (node.left, node.right))
        case ast.Call():
            return called(node) in INDEX_FUNCTIONS and all(is_index(n, indices) for n in node.args)
        case ast.Subscript():
            return table_of(node) in indices
    return False


def evaluator(expression: str, *, single: bool = False) -> Callable[[Mapping[str, Given]], float]:
    """The expression as a function of the values of its names: checked and parsed once, evaluated often.

    `single` rounds every float to float32, as C does.

    Errors: InvalidInput.

    >>> evaluator("(x - 3) / 10", single=True)({"x": 10})
    0.699999988079071
    """
    tree = parsed("", expression)
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} - FUNCTIONS
    check_expression("", expression, names)
    check_known(expression)
    rounded = _to_single if single else np.float64

    def function(values: Mapping[str, Given]) -> float:
        if missing := names - set(values) - {"INFINITY"}:
            raise InvalidInput(f"expression {expression!r}: no value for {', '.join(sorted(missing))}")
        with np.errstate(all="ignore"):
            return float(_Evaluation({"INFINITY": np.inf, **values}, rounded).value(tree))

    return function


def _to_single(value: Value) -> np.float64:
    """A float32, held in float64: sums, products, quotients and roots that are rounded twice are what C has.

    Figueroa, "When is double rounding innocuous?", SIGNUM 30, 1995.
    """
    return np.float64(np.float32(value))


class _Evaluation:
    """The value of a syntax tree, whole where it is, with every float rounded in one way."""

    def __init__(self, names: Mapping[str, Given], rounded: Callable[[Value], np.float64]) -> None:
        self.names = names
        self.rounded = rounded

    def value(self, node: ast.expr) -> Value:
        match node:
            case ast.Constant():
                return self.entering(node.value)
            case ast.Name():
                return self.entering(self.names[node.id])
            case ast.Subscript():
                return self.entering(np.asarray(self.names[table_of(node)]).ravel()[self.index(node)])
            case ast.UnaryOp():
                operand = self.value(node.operand)
                return -operand if isinstance(node.op, ast.USub) else operand
            case ast.BinOp():
                return self.joined(node)
            case ast.Call():
                return self.called(called(node), [self.value(argument) for argument in node.args])
        raise AssertionError(ast.dump(node))

    def entering(self, value: object) -> Value:
        """A whole number as such, anything else rounded."""
        return int(value) if isinstance(value, int | np.integer) else self.rounded(value)  # type: ignore[arg-type]

    def index(self, node: ast.Subscript) -> int:
        index, table = self.value(node.slice), np.asarray(self.names[table_of(node)])
        if not isinstance(index, int) or not 0 <= index < table.size:
            raise InvalidInput(
                f"{ast.unparse(node)!r}: expected an index from 0 to {table.size - 1} of the table, got {index}"
            )
        return index

    def joined(self, node: ast.BinOp) -> Value:
        left, right = self.value(node.left), self.value(node.right)
        function = OPERATORS[type(node.op)][1]
        if isinstance(left, int) and isinstance(right, int) and not isinstance(node.op, ast.Div):
            return function(left, right)
        return self.rounded(function(self.rounded(left), self.rounded(right)))

    def called(self, name: str, arguments: list[Value]) -> Value:
        if name == "fmaf" and self.rounded is _to_single:
            return np.float64(fmaf(*arguments))
        if name in FLOAT_FUNCTIONS:
            return self.rounded(np.float64(FLOAT_FUNCTIONS[name][1](*map(self.rounded, arguments))))
        a, b = arguments
        if not (isinstance(a, int) and isinstance(b, int)):
            raise InvalidInput(f"{name}({a}, {b}): {name} is of whole numbers and dims; use {name}imum for floats")
        return INDEX_FUNCTIONS[name](a, b)
