"""Layers evaluated on symbols, element by element: what a rule replaces and what it puts there, as expressions.

    Rule ──proof()──> [Equality, ...]
       of each instance   symbols_of() ──> RewriteGraph whose weights are symbols
       layers + Replacement ──equalities()──> (Equality, ...)

Statements are evaluated as they are scheduled and generated: over the points of their domains, through their access
relations, by their expressions. Numbers are exact rationals. Rounding to whole numbers is left out: what is equal is
equal in real numbers, before it is rounded.
"""

import ast
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import sympy
from numpy.typing import NDArray

from polyfuse.network.instances import elements, points
from polyfuse.network.layer import Layer, Statement
from polyfuse.network.operator import Dequantize
from polyfuse.network.tensor import Tensor
from polyfuse.rewrite.graph import Replacement, RewriteGraph, rewrite_graph
from polyfuse.rewrite.rule import Match, Rule
from tests.rewrite.rules.instances import INSTANCES, Instance

Symbols = NDArray[np.object_]
FUNCTIONS: Mapping[str, Callable[..., sympy.Expr]] = {
    "maximum": sympy.Max,
    "minimum": sympy.Min,
    "max": sympy.Max,
    "min": sympy.Min,
    "expf": sympy.exp,
    "tanhf": sympy.tanh,
    "log1pf": lambda x: sympy.log(1 + x),
    "logf": sympy.log,
    "sqrtf": sympy.sqrt,
    "powf": sympy.Pow,
    "fabsf": sympy.Abs,
    "rintf": lambda x: x,
    "fmaf": lambda a, b, c: a * b + c,
    "erff": sympy.erf,
}
OPERATORS: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
}


@dataclass(frozen=True)
class Equality:
    """Two expressions that must be equal, value for value, under the assumptions of their symbols."""

    left: sympy.Expr
    right: sympy.Expr


def proof(rule: Rule) -> list[Equality]:
    """Each element of what is replaced and of what the replacement puts there, on symbols, of all instances of a rule.

    They are equalities that have to hold for all values of the symbols, in real numbers, before anything is rounded;
    the tests prove them. Sizes are those of the instances. Empty where the rule is not proved.
    """
    return [each for instance in INSTANCES.get(rule.name, ()) for each in _equalities(rule, instance())]


def _equalities(rule: Rule, instance: Instance) -> Sequence[Equality]:
    graph = rewrite_graph(instance.network)
    match = next(m for root in graph.layers for m in rule.matches(graph, root) if rule.broken(m) is None)
    held = Match(symbols_of(instance, graph), match.layers)
    return equalities(held.graph, held.matched, held.root.output, rule.replacement(held))


class SymbolicGraph(RewriteGraph):
    """A graph some of whose weights are symbols, which rules fold as they fold numbers."""

    def value(self, weight: Tensor) -> NDArray[Any]:
        """The symbols, or the numbers, of a weight."""
        held = self.weights[weight.name]
        return held if held.dtype == object else super().value(weight)


def symbols_of(instance: Instance, graph: RewriteGraph) -> RewriteGraph:
    """The graph of an instance, its weights symbols."""
    tensors = {tensor.name: tensor for layer in graph.layers for tensor in layer.weights}
    weights = {
        name: value if name in instance.numbers else symbols(tensors[name]) for name, value in graph.weights.items()
    }
    ends = graph.inputs, graph.layers, graph.outputs
    return SymbolicGraph(graph.name, *ends, weights, graph.tensors, graph.signature)


def symbols(tensor: Tensor) -> Symbols:
    """A real symbol for each element of a tensor."""
    found = np.empty(tensor.concrete_shape, object)
    for index in np.ndindex(found.shape):
        found[index] = sympy.Symbol("_".join([tensor.name, *map(str, index)]), real=True)
    return found


def equalities(graph: RewriteGraph, matched: Sequence[Layer], root: Tensor, new: Replacement) -> tuple[Equality, ...]:
    """Each element of a root, as the matched layers make it, and as the replacement makes it.

    What other layers make is symbols, but for what is dequantized, which replacements look through.
    """
    values = {tensor.name: symbols(tensor) for tensor in graph.inputs}
    for layer in graph.layers:
        if layer not in matched:
            known = isinstance(layer.operator, Dequantize)
            values[layer.output.name] = evaluated(layer, values) if known else symbols(layer.output)
    before = values | {name: exact(value) for name, value in graph.weights.items()}
    after = values | {name: exact(value) for name, value in {**graph.weights, **new.weights}.items()}
    for layers, values in ((matched, before), (new.layers, after)):
        for layer in layers:
            values[layer.output.name] = evaluated(layer, values)
    left, right = before[root.name], after[new.tensor.name]
    assert left.shape == right.shape
    return tuple(
        each for a, b in zip(left.ravel(), right.ravel(), strict=True) for each in pieces(canonical(a), canonical(b))
    )


def exact(values: NDArray[Any]) -> Symbols:
    """Numbers as the rationals that they are; symbols, and what was computed from both, with exact numbers."""
    found = np.empty(values.shape, object)
    for index, value in np.ndenumerate(values):
        whole = sympy.sympify(value if values.dtype == object else value.item())
        found[index] = whole.xreplace({number: _rational(number) for number in whole.atoms(sympy.Float)})
    return found


def evaluated(layer: Layer, values: Mapping[str, Symbols]) -> Symbols:
    """The output of a layer, of the values of what it reads; its sizes are small."""
    out = np.full(layer.output.concrete_shape, sympy.nan, object)
    for statement in layer.statements:
        _run(statement, out, values, layer.name)
    return out


def _run(statement: Statement, out: Symbols, values: Mapping[str, Symbols], where: str) -> None:
    tree = ast.parse(statement.expression.strip(), mode="eval").body
    reads = {operand: elements(access.relation, where) for operand, access in statement.operands.items()}
    tensors = {operand: values[access.tensor.name] for operand, access in statement.operands.items()}
    for instance in points(statement.domain, where):
        point = instance[: out.ndim]
        names = dict(zip(statement.dims, map(sympy.Integer, instance), strict=True))
        names |= {operand: tensors[operand][element[instance]] for operand, element in reads.items()}
        out[point] = _value(tree, {**names, "acc": out[point], "INFINITY": sympy.oo})


def _value(node: ast.expr, names: Mapping[str, sympy.Expr]) -> sympy.Expr:
    match node:
        case ast.Constant(value=int() | float() as value):
            return sympy.Integer(value) if isinstance(value, int) else sympy.Rational(repr(value))
        case ast.Name(id=name):
            return names[name]
        case ast.UnaryOp(op=op, operand=operand):
            return -_value(operand, names) if isinstance(op, ast.USub) else _value(operand, names)
        case ast.BinOp(left=left, op=op, right=right):
            return OPERATORS[type(op)](_value(left, names), _value(right, names))
        case ast.Call(func=ast.Name(id=name), args=arguments):
            return FUNCTIONS[name](*(_value(argument, names) for argument in arguments))
    raise AssertionError(ast.dump(node))


def canonical(expression: sympy.Expr) -> sympy.Expr:
    """The expression with sums multiplied out everywhere, and the numbers that roots have in common before them."""
    if not expression.args:
        return expression
    arguments = [canonical(argument) for argument in expression.args]
    if isinstance(expression, sympy.Pow) and arguments[1].is_Rational and not arguments[1].is_Integer:
        number, rest = arguments[0].as_content_primitive()
        return number ** arguments[1] * sympy.Pow(rest, arguments[1])
    return sympy.expand(expression.func(*arguments))


def pieces(left: sympy.Expr, right: sympy.Expr) -> Iterator[Equality]:
    """The equality; one for each piece where both sides clip one linear expression at numbers, but differently."""
    ends = [each for side in (left, right) for each in side.atoms(sympy.Max, sympy.Min)]
    if left == right or not ends:
        yield Equality(left, right)
        return
    line = next(_slope(a)[1] for each in ends for a in each.args if a.free_symbols and not a.has(sympy.Max, sympy.Min))
    at = sympy.Dummy("at", real=True)
    moved = [_along(side, line, at) for side in (left, right)]
    cuts = sorted(_cuts(moved, at))
    middles = [(a + b) / 2 for a, b in pairwise(cuts)]
    for middle in (cuts[0] - 1, *middles, cuts[-1] + 1) if cuts else (sympy.Integer(0),):
        yield Equality(*(_chosen(side, at, middle).subs(at, line) for side in moved))


def _slope(expression: sympy.Expr) -> tuple[sympy.Expr, sympy.Expr, sympy.Expr]:
    """a, x and b of a x + b, where x has no factor and no term that is a number."""
    offset, rest = expression.as_coeff_Add()
    number, line = rest.as_coeff_Mul() if not rest.is_Add else rest.as_content_primitive()
    return number, line, offset


def _along(side: sympy.Expr, line: sympy.Expr, at: sympy.Symbol) -> sympy.Expr:
    """A side in which what is clipped is written by where it is along a line."""
    if not side.has(sympy.Max, sympy.Min):
        number, other, offset = _slope(side)
        return number * at + offset if other == line else side.subs(line, at)
    return side.func(*(_along(argument, line, at) for argument in side.args))


def _cuts(sides: Sequence[sympy.Expr], at: sympy.Symbol) -> set[sympy.Expr]:
    """Where what is chosen may change: where two of the linear expressions that are compared are equal."""
    compared = {
        argument
        for side in sides
        for each in side.atoms(sympy.Max, sympy.Min)
        for argument in each.args
        if not argument.has(sympy.Max, sympy.Min)
    }
    assert all(argument.free_symbols <= {at} for argument in compared)
    return {root for a in compared for b in compared if (a - b).has(at) for root in sympy.solve(a - b, at)}


def _chosen(side: sympy.Expr, at: sympy.Symbol, middle: sympy.Expr) -> sympy.Expr:
    """A side in which each maximum and minimum is the argument that it is at a point, and all around it."""
    if not side.args:
        return side
    arguments = [_chosen(argument, at, middle) for argument in side.args]
    if isinstance(side, sympy.Max | sympy.Min):
        pick = max if isinstance(side, sympy.Max) else min
        return pick(arguments, key=lambda argument: argument.subs(at, middle))
    return side.func(*arguments)


def _rational(number: sympy.Float) -> sympy.Rational:
    fraction = Fraction(float(number))
    return sympy.Rational(fraction.numerator, fraction.denominator)
