"""Every rule on networks whose layers are called anything: names of 1 to 300 characters, with shared beginnings, and
names that rules give to new layers themselves. What is computed stays what it was, and each name is there once."""

from collections.abc import Mapping
from dataclasses import replace

import islpy as isl
import numpy as np
import pytest

from polyfuse.errors import InvalidInput
from polyfuse.network.layer import Access, Layer, Statement
from polyfuse.network.layers import pointwise
from polyfuse.network.network import Builder, Network
from polyfuse.network.reference import max_relative_error, random_inputs, run
from polyfuse.network.tensor import Tensor
from polyfuse.rewrite.rewriting import rewrite
from polyfuse.rewrite.rule import Rule
from polyfuse.rewrite.rules.catalogue import ON_REQUEST, RULES
from tests.rewrite.rules.examples import EXAMPLES
from tests.rewrite.rules.test_rules import same_values

EVERY_RULE = pytest.mark.parametrize("each", (*RULES, *ON_REQUEST), ids=lambda each: each.name)
WISHES = ("_conv", "_images", "_pool", "_scaled", "_constant", "_conv_2", "_images_out_2", "_scaled_table_2")
OUT, IN = isl.dim_type.out, isl.dim_type.in_


def called(network: Network, names: Mapping[str, str]) -> Network:
    """The network with other names of layers, and of the tensors and statements that are called after them."""

    def new(name: str) -> str:
        stems = [stem for stem in names if name == stem or name.startswith(f"{stem}_")]
        stem = max(stems, key=len, default="")
        return names[stem] + name[len(stem) :] if stem else name

    def tensor(old: Tensor) -> Tensor:
        return replace(old, name=new(old.name))

    def access(old: Access, statement: str) -> Access:
        relations = (
            relation.set_tuple_name(IN, statement).set_tuple_name(OUT, new(old.tensor.name))
            for relation in (old.relation, old.extended)
        )
        return Access(tensor(old.tensor), *relations)

    def statement(old: Statement) -> Statement:
        name = new(old.name)
        operands = {operand: access(each, name) for operand, each in old.operands.items()}
        return replace(old, name=name, domain=old.domain.set_tuple_name(name), operands=operands)

    def layer(old: Layer) -> Layer:
        return replace(
            old,
            name=new(old.name),
            output=tensor(old.output),
            statements=tuple(map(statement, old.statements)),
            inputs=tuple(map(tensor, old.inputs)),
            weights=tuple(map(tensor, old.weights)),
            dequantised={new(name): each for name, each in old.dequantised.items()},
        )

    ends = tuple(map(tensor, network.inputs)), tuple(map(layer, network.layers)), tuple(map(tensor, network.outputs))
    return Network(network.name, *ends, {new(name): value for name, value in network.weights.items()})


def drawn_names(network: Network, seed: int) -> dict[str, str]:
    """Names with a beginning in common, of a length that the seed says; some are what rules would like to have."""
    random = np.random.default_rng(seed)
    length = [1, 2, 44, 45, 46, 47, 48, 49, 60, 61, 62, 63, 64, 150, 300][seed % 15]
    beginning = "".join(random.choice(list("abcdefg"), length))
    names: dict[str, str] = {}
    for k, layer in enumerate(network.layers):
        wish = f"{beginning}{WISHES[int(random.integers(len(WISHES)))]}"
        other = f"{beginning}{chr(ord('a') + k % 26)}{k}"
        name = beginning if k == seed % len(network.layers) else wish if random.integers(2) else other
        clash = any(f"{name}_".startswith(f"{each}_out") or name == each for each in names.values())
        names[layer.name] = other if clash else name
    return names


@EVERY_RULE
@pytest.mark.parametrize("part", range(3))
def test_rules_keep_values_whatever_layers_are_called(each: Rule, part: int) -> None:
    applied = 0
    for seed in range(5 * part, 5 * part + 5):
        network = EXAMPLES[each.name](seed % 8)
        try:
            other = called(network, drawn_names(network, seed))
        except InvalidInput:  # a layer is called as another one's tensor is: no network
            continue
        found = rewrite(other, (each,))
        applied += len(found.applied)
        inputs = random_inputs(network, seed)
        renamed = dict(zip((t.name for t in other.inputs), inputs.values(), strict=True))
        assert same_values(found, renamed, 1e-12)
        expected, made = run(network, inputs), run(found.network, renamed)
        for old, new in zip(network.outputs, found.network.outputs, strict=True):
            assert max_relative_error(made[new.name], expected[old.name]) <= 1e-12
    assert applied


def scaled_and_shifted(name: str) -> Network:
    """Mul by (2, 3), then Add of (10, 20): one new layer with two new weights."""
    build = Builder("net")
    x = build.input("x", (1, 2, 1, 1))
    by, more = (build.constant(f"w{k}", np.float32(v).reshape(1, 2, 1, 1)) for k, v in enumerate([(2, 3), (10, 20)]))
    y = build.add(pointwise.arithmetic(name, "mul", x, by, constants=["b"]))
    return build.network(build.add(pointwise.arithmetic("last", "add", y, more, constants=["b"])))


@pytest.mark.parametrize("length", [1, 40, 45, 46, 47, 48, 62, 63, 64, 100, 300])
def test_two_new_weights_of_one_layer_are_two(length: int) -> None:
    found = rewrite(scaled_and_shifted("m" * length))
    assert len(found.network.layers) == 1 and len(found.network.weights) == 2
    made = run(found.network, {"x": np.float32([1, 1]).reshape(1, 2, 1, 1)})
    assert made[found.network.outputs[0].name].ravel().tolist() == [12.0, 23.0]


def test_a_second_value_under_one_name_is_refused() -> None:
    build = Builder("net")
    build.constant("w", [1.0])
    with pytest.raises(InvalidInput, match="another weight has that name"):
        build.constant("w", [2.0])


@pytest.mark.parametrize("taken", ["fc_conv", "fc_conv_out", "fc_conv_weight", "fc_images_out", "fc_conv_2_init"])
def test_new_layers_leave_names_that_are_made_of_theirs(taken: str) -> None:
    build = Builder("net")
    x = build.input("x", (2, 3))
    build.activation(taken, x, "relu")
    y = build.linear("fc", x, 4)
    network = build.network(y, build.layers[0].output)
    found = rewrite(network)
    assert "product-of-rows" in [step.rule for step in found.applied]
    assert same_values(found, random_inputs(network, 0), 1e-6)
