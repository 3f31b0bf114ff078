"""Layers that end in an activation: any layer, and an activation of what it computes.

A `Layer` enters; the layer whose last statement applies the activation leaves.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from polyfuse.errors import InvalidInput
from polyfuse.network.activation import Activation, Spec
from polyfuse.network.dtypes import Array
from polyfuse.network.layer import Layer, Statement
from polyfuse.network.statements import point_statement
from polyfuse.network.tensor import check_float32


def with_activation(layer: Layer, activation: Activation | Spec | None) -> Layer:
    """The layer with an activation of what it computes; the layer itself where there is none.

        acc = a + b                    ->  acc = maximum((a + b), 0)
        acc = 0;   acc = acc + w * x   ->  acc = 0;   acc = acc + w * x;   acc = maximum(acc, 0)

    Errors: InvalidInput for an unknown activation, for a layer that ends in one, and for one that is not float32.
    """
    if activation is None:
        return layer
    act = activation if isinstance(activation, Activation) else Activation.of(activation)
    if layer.activation is not None:
        raise InvalidInput(
            f"layer {layer.name!r}: ends in {layer.activation.name}, expected no activation yet; add {act.name} as a "
            "layer of its own"
        )
    check_float32(layer.name, layer.output)
    *before, last = layer.statements
    if _makes_every_point(layer, last):
        ending = replace(last, expression=act.text(enclosed(last.expression)))
    else:
        before.append(last)
        ending = point_statement(f"{layer.name}_final", layer.output, {}, act.text("acc"))
    reference = None if layer.reference is None else partial(_activated, act, layer.reference)
    return replace(layer, statements=(*before, ending), activation=act, reference=reference)


def _makes_every_point(layer: Layer, statement: Statement) -> bool:
    """One instance of a statement for each point of its layer."""
    if len(statement.dims) != layer.rank:
        return False
    return bool(statement.domain.set_tuple_name(layer.name).is_equal(layer.points))


def enclosed(expression: str) -> str:
    """An expression as an operand of another: in parentheses unless it is a name or in parentheses already.

    >>> enclosed("acc"), enclosed("a + b"), enclosed("(a + b)"), enclosed("(a) + (b)")
    ('acc', '(a + b)', '(a + b)', '((a) + (b))')
    """
    depth, ends = 0, []
    for at, character in enumerate(expression):
        depth += {"(": 1, ")": -1}.get(character, 0)
        if character == ")" and depth == 0:
            ends.append(at)
    is_enclosed = expression.startswith("(") and ends[0] == len(expression) - 1
    return expression if expression.isidentifier() or is_enclosed else f"({expression})"


# References: functions of modules with arguments bound, so that networks can be pickled and sent to other processes.


def _activated(act: Activation, function: Callable[..., Array], *arrays: Array) -> Array:
    return act(function(*arrays))
