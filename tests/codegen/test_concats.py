"""Concatenation without copies: which concats go, where operands lie, and that values stay the same."""

import pytest

from polyfuse.codegen.kernel import build
from polyfuse.codegen.lower.concats import placed_concats
from polyfuse.codegen.lower.selection import SCALAR, Selection, named_selection
from polyfuse.codegen.program import Program, generate
from polyfuse.errors import InvalidInput
from polyfuse.network.network import Builder, Network
from polyfuse.network.reference import max_relative_error, random_inputs, run
from polyfuse.schedule.groups import layer_by_layer
from tests.deploy.networks import branches, growing


def twice() -> Network:
    """A tensor that is concatenated with itself, and one that two concats read."""
    b = Builder("twice")
    x = b.conv("stem", b.input("x", (1, 3, 6, 6)), 16, kernel=1)
    y = b.conv("y", x, 16, kernel=1)
    same = b.concat("same", y, y)
    first, second = b.concat("first", x, y), b.concat("second", y, x)
    ends = [b.conv(f"end{k}", t, 16, kernel=1) for k, t in enumerate((same, first, second))]
    return b.network(*ends)


def outside() -> Network:
    """Concats of an input, and to an output."""
    b = Builder("outside")
    x = b.input("x", (1, 16, 6, 6))
    y = b.conv("y", b.concat("ofinput", x, b.conv("a", x, 16, kernel=1)), 16, kernel=1)
    return b.network(b.concat("tooutput", y, b.conv("z", y, 16, kernel=1)))


def program(network: Network, selection: Selection) -> tuple[Program, set[str]]:
    """Layer by layer without the copies that can go, and the concats that went."""
    groups = layer_by_layer(network, selection.tallest)
    placed, left = placed_concats(network, groups, selection)
    ran = {layer.name for group in left for layer in group.schedule.network.layers}
    return generate(network, left, kernels=placed), {layer.name for layer in network.layers} - ran


@pytest.mark.parametrize("kernels", ["rows", "scalar"])
@pytest.mark.parametrize(
    ("network", "gone"),
    [(branches(), {"both"}), (growing(), {"x0", "x1", "x2"}), (twice(), {"second"}), (outside(), set())],
    ids=lambda each: each.name if isinstance(each, Network) else "",
)
def test_values_are_those_of_the_reference(network: Network, gone: set[str], kernels: str) -> None:
    selection = named_selection(network) if kernels == "rows" else SCALAR
    made, went = program(network, selection)
    assert went == gone
    kernel = build(made)
    inputs = random_inputs(network, seed=4)
    kernel.set_inputs(inputs)
    kernel.poison()
    kernel.run()
    expected = run(network, inputs)
    for name, found in kernel.outputs.items():
        assert max_relative_error(found, expected[name]) < 1e-5 + made.error_bound


def test_operands_lie_next_to_each_other() -> None:
    network = growing()
    made, _ = program(network, named_selection(network))
    whole = network.layer("x2").output
    pitch = 4 * made.array(whole).pitch
    base = made.addresses["x2_out"]
    found = {name: (address - base) // pitch for name, address in made.addresses.items()}
    assert found == {"stem_out": 0, "y0_out": 16, "x0_out": 0, "y1_out": 48, "x1_out": 0, "y2_out": 64, "x2_out": 0}
    assert list(made.arena.addresses) == ["x2_out"]


def test_operands_that_fill_no_block_are_copied_but_for_the_last() -> None:
    b = Builder("odd")
    x = b.conv("stem", b.input("x", (1, 3, 6, 6)), 24, kernel=1)
    y = b.conv("y", x, 16, kernel=1)
    network = b.network(b.conv("end", b.concat("both", x, y), 16, kernel=1))
    if named_selection(network).layout(x, True).floats == 16:
        assert program(network, named_selection(network))[1] == set()


def test_a_tensor_that_is_read_before_all_its_parts_are_made_is_refused() -> None:
    network = branches()
    selection = named_selection(network)
    placed, left = placed_concats(network, layer_by_layer(network, selection.tallest), selection)
    early = (*left[:4], left[-1])
    with pytest.raises(InvalidInput, match="reads both_out"):
        generate(network, early, kernels=placed)
