"""Rules proved on symbols from what their replacements make: a replacement that is broken is not proved."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import sympy

from polyfuse.network.activated import with_activation
from polyfuse.network.dtypes import Array
from polyfuse.network.layer import Layer
from polyfuse.network.layers.pointwise import activation
from polyfuse.network.network import Builder
from polyfuse.network.reference import random_inputs, run
from polyfuse.rewrite.graph import Replacement, rewrite_graph
from polyfuse.rewrite.rule import Match, Rule
from polyfuse.rewrite.rules import algebra, copies, forms, normalisation, pointwise, scaling
from polyfuse.rewrite.rules.catalogue import ON_REQUEST, RULES, rule
from tests.rewrite.rules.instances import INSTANCES, UNPROVED
from tests.rewrite.symbolic import Equality, canonical, evaluated, exact, pieces, proof, symbols_of

EVERY = (*RULES, *ON_REQUEST)
PROVED = [each for each in EVERY if each.name in INSTANCES]
PROVED_RULE = pytest.mark.parametrize("each", PROVED, ids=lambda each: each.name)


def is_proved(equality: Equality) -> bool:
    """The difference is zero for all values of the symbols."""
    return bool(sympy.simplify(sympy.expand(equality.left - equality.right)) == 0)


@PROVED_RULE
def test_what_replacements_make_is_what_was_there(each: Rule) -> None:
    found = proof(each)
    assert any(equality.left.free_symbols for equality in found)
    assert all(is_proved(equality) for equality in found)


@pytest.mark.parametrize("each", EVERY, ids=lambda each: each.name)
def test_a_rule_is_proved_or_says_why_not(each: Rule) -> None:
    assert bool(INSTANCES.get(each.name)) != bool(UNPROVED.get(each.name))
    assert each.name in INSTANCES or not proof(each)


def test_instances_are_of_rules() -> None:
    assert {*INSTANCES, *UNPROVED} == {each.name for each in EVERY}


def shifted(layer: Layer) -> Layer:
    """A layer whose results are one larger."""
    *before, last = layer.statements
    return replace(layer, statements=(*before, replace(last, expression=f"({last.expression}) + 1")))


def broken(found: Replacement) -> Replacement:
    """A replacement that makes something else: its last layer adds one."""
    if found.layers:
        return replace(found, layers=(*found.layers[:-1], shifted(found.layers[-1])))
    build = Builder("more")
    x = build.input(found.tensor.name, found.tensor.concrete_shape)
    layer = shifted(build.network(build.activation("more", x, "relu")).layers[0])
    return Replacement((layer,), {}, layer.output)


@PROVED_RULE
def test_a_replacement_that_adds_one_is_not_proved(each: Rule) -> None:
    wrong = replace(each, replacement=lambda match: broken(each.replacement(match)))
    assert not all(is_proved(equality) for equality in proof(wrong))


@PROVED_RULE
def test_a_replacement_with_another_weight_is_not_proved(each: Rule) -> None:
    def tampered(match: Match) -> Replacement:
        found = each.replacement(match)
        return replace(found, weights={name: 2 * value + 1 for name, value in found.weights.items()})

    floats = [each.replacement(match).weights for match in matches(each)]
    if any(weights for weights in floats):
        assert not all(is_proved(equality) for equality in proof(replace(each, replacement=tampered)))


def matches(each: Rule) -> list[Match]:
    """The place for a rule in each of its instances, with symbols."""
    found = []
    for instance in (built() for built in INSTANCES[each.name]):
        graph = rewrite_graph(instance.network)
        match = next(m for root in graph.layers for m in each.matches(graph, root) if each.broken(m) is None)
        found.append(Match(symbols_of(instance, graph), match.layers))
    return found


def unscaled(conv: Layer, weight: Array, scale: Array) -> Array:
    return weight


BROKEN: dict[str, tuple[Any, str, Any]] = {
    "scaling-into-conv-before": (scaling, "_by_output", unscaled),
    "scaling-into-conv-after": (scaling, "_moved_bias", lambda match: forms.bias_of(match.graph, match["layer after"])),
    "instance-norm-then-scaling": (
        normalisation,
        "channel_values",
        lambda match, role: (np.ones(2), scaling.channel_values(match, role)[1]),
    ),
    "sum-of-convolutions": (algebra, "bias_of", lambda graph, layer: None),
    "activation-into-producer": (
        pointwise,
        "with_activation",
        lambda layer, spec: with_activation(layer, "relu"),
    ),
    "activation-before-copy": (
        copies,
        "pointwise",
        SimpleNamespace(activation=lambda name, x, spec: activation(name, x, "tanh")),
    ),
    "hard-swish": (pointwise, "_hard_gate", lambda graph, layer: 3.0),
}


@pytest.mark.parametrize("name", BROKEN)
def test_the_code_of_a_replacement_that_is_broken_is_not_proved(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`a = a` was proved of activation-into-producer and of activation-before-copy, whatever they did."""
    each = rule(name)
    assert all(is_proved(equality) for equality in proof(each))
    module, function, wrong = BROKEN[name]
    monkeypatch.setattr(module, function, wrong)
    assert not all(is_proved(equality) for equality in proof(each))


def test_symbols_are_evaluated_as_numbers_are() -> None:
    """With numbers in the place of symbols, the expressions are what the reference computes."""
    for name in ("scaling-into-conv-before", "hard-swish", "mean-of-image", "flattened-product", "silu"):
        network = INSTANCES[name][0]().network
        inputs = random_inputs(network, 3)
        expected = run(network, inputs)
        values = {key: exact(value) for key, value in {**inputs, **network.weights}.items()}
        for layer in network.layers:
            values[layer.output.name] = evaluated(layer, values)
        for output in network.outputs:
            found = values[output.name].astype(np.float64)
            np.testing.assert_allclose(found, expected[output.name], rtol=1e-6, atol=1e-7)


def test_clips_are_compared_piece_by_piece() -> None:
    x, y = sympy.symbols("x y", real=True)
    line = 2 * x - 3 * y
    clipped, moved = sympy.Min(sympy.Max(line + 3, -5), 7), sympy.Min(sympy.Max(line, -8), 4) + 3
    assert all(map(is_proved, pieces(canonical(clipped), canonical(moved))))
    assert not all(map(is_proved, pieces(canonical(clipped), canonical(moved + 1))))
    tighter = sympy.Min(sympy.Max(line, -8), 5) + 3
    assert not all(map(is_proved, pieces(canonical(clipped), canonical(tighter))))


def test_the_prover_refuses_what_is_wrong() -> None:
    w, x, s = sympy.symbols("w x s", real=True)
    assert is_proved(Equality(s * (w + x), s * w + s * x))
    assert not is_proved(Equality(s * (w + x), s * w + x))


def test_a_rule_that_is_no_rule_is_not_proved() -> None:
    """A replacement that leaves the layer out."""
    wrong = replace(rule("silu"), replacement=lambda match: Replacement((), {}, match["gate"].inputs[0]))
    assert not all(is_proved(equality) for equality in proof(wrong))
