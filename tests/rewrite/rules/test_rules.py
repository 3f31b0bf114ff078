"""Every rule executed on random instances before and after; tests/rewrite/test_proofs.py proves them."""

from collections.abc import Iterable

import numpy as np
import pytest

from polyfuse.network.dtypes import Values
from polyfuse.network.network import Builder, Network
from polyfuse.network.reference import max_relative_error, random_inputs, run
from polyfuse.rewrite.counting import operations
from polyfuse.rewrite.rewriting import Rewritten, rewrite
from polyfuse.rewrite.rule import Rule
from polyfuse.rewrite.rules.catalogue import ON_REQUEST, RULES, rule
from tests.rewrite.rules.examples import EXAMPLES

EVERY = (*RULES, *ON_REQUEST)
EVERY_RULE = pytest.mark.parametrize("each", EVERY, ids=lambda each: each.name)
SEEDS = pytest.mark.parametrize("seed", range(8))


def test_every_rule_has_examples() -> None:
    assert set(EXAMPLES) == {each.name for each in EVERY}


def same_values(found: Rewritten, inputs: dict[str, Values], tolerance: float) -> bool:
    """Every tensor that still exists has the value it had; outputs are in their places."""
    before, after = run(found.original, inputs), run(found.network, inputs)
    weights = found.network.weights
    pairs = [(old, new.name) for old, new in found.tensors.items()]
    outputs = zip(found.original.outputs, found.network.outputs, strict=True)
    assert all(found.tensors[old.name] == new for old, new in outputs)
    return all(max_relative_error(after.get(new, weights.get(new)), before[old]) <= tolerance for old, new in pairs)


@EVERY_RULE
@SEEDS
def test_rules_keep_values(each: Rule, seed: int) -> None:
    network = EXAMPLES[each.name](seed)
    found = rewrite(network, (each,))
    assert [step.rule for step in found.applied] == [each.name]
    assert same_values(found, random_inputs(network, seed), 1e-12)


def with_special_values(network: Network, seed: int) -> dict[str, Values]:
    """Inputs with NaN, infinities and zeros in some places."""
    random = np.random.default_rng(seed)
    inputs = random_inputs(network, seed)
    for value in inputs.values():
        for special in (np.nan, np.inf, -np.inf, 0.0):
            value.flat[random.integers(value.size)] = special
    return inputs


@pytest.mark.parametrize("each", [each for each in EVERY if each.non_finite == "the same"], ids=lambda each: each.name)
@SEEDS
def test_rules_keep_infinities_and_nan(each: Rule, seed: int) -> None:
    network = EXAMPLES[each.name](seed)
    assert same_values(rewrite(network, (each,)), with_special_values(network, seed), 1e-12)


def test_a_shared_factor_that_is_infinite_is_not_kept() -> None:
    network = EXAMPLES["shared-factor"](0)
    inputs = {key: np.full_like(value, {"a": 2, "b": -1, "c": np.inf}[key]) for key, value in inputs_of(network)}
    assert rule("shared-factor").non_finite != "the same"
    assert not same_values(rewrite(network, (rule("shared-factor"),)), inputs, 1e-12)


def test_a_sum_of_convolutions_of_infinities_is_not_kept() -> None:
    build = Builder("two")
    x = build.input("x", (1, 1, 2, 2))
    two, minus = (np.full((1, 1, 1, 1), value, np.float32) for value in (2, -1))
    left, right = build.conv("left", x, 1, kernel=1, weight=two), build.conv("right", x, 1, kernel=1, weight=minus)
    found = rewrite(build.network(build.arithmetic("sum", "add", left, right)))
    assert [step.rule for step in found.applied] == ["sum-of-convolutions"]
    assert rule("sum-of-convolutions").non_finite != "the same"
    assert not same_values(found, {"x": np.full((1, 1, 2, 2), np.inf, np.float32)}, 1e-12)


def inputs_of(network: Network) -> Iterable[tuple[str, Values]]:
    """Names and values of seeded inputs."""
    return random_inputs(network, 0).items()


def test_a_sixth_may_be_rounded_to_float32() -> None:
    build = Builder("gate")
    x = build.input("x", (1, 1, 9, 9))
    gate = build.activation("gate", x, ("hard_sigmoid", 0.16666667, 0.5))
    network = build.network(build.arithmetic("product", "mul", x, gate))
    found = rewrite(network, (rule("hard-swish"),))
    assert found.applied and same_values(found, random_inputs(network, 0), 2e-8)


@EVERY_RULE
def test_all_rules_together_keep_values(each: Rule) -> None:
    for seed in range(4):
        network = EXAMPLES[each.name](seed)
        found = rewrite(network, EVERY)
        assert found.applied
        assert same_values(found, random_inputs(network, seed), 1e-6)


@pytest.mark.parametrize(
    "each", [each for each in EVERY if not each.name.startswith("quantised-")], ids=lambda each: each.name
)
def test_rules_together_add_no_operations(each: Rule) -> None:
    """Integer layers are left out: they take zero points away at every read, where floats are dequantized once."""
    for seed in range(4):
        found = rewrite(EXAMPLES[each.name](seed))
        before, after = (sum(map(operations, net.layers)) for net in (found.original, found.network))
        assert after <= before


@pytest.mark.parametrize("name", ["shared-factor", "sum-of-convolutions", "constant", "scaling-chain"])
def test_laws_of_algebra_save_operations(name: str) -> None:
    for seed in range(6):
        for step in rewrite(EXAMPLES[name](seed), (rule(name),)).applied:
            assert step.operations_after < step.operations_before
