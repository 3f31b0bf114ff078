"""What objects look like in a terminal and in a notebook."""

import pickle
import re
from dataclasses import replace

import islpy as isl
import pytest

import polyfuse as pf
from polyfuse.sets.symbolic import cardinality
from tests.test_pickling import EXAMPLES


@pytest.fixture(scope="module")
def group() -> pf.Storage:
    build = pf.Builder("pair")
    x = build.input("x", (1, 1, 20, 20))
    net = build.network(build.conv("conv2", build.conv("conv1", x, 1, kernel=3), 1, kernel=3))
    (group,) = pf.fused(net, pf.Strategy((8, 8), ("local", "recompute"), placement="shifted"))
    return group


def test_a_schedule_says_where_everything_waits(group: pf.Storage) -> None:
    head, stages, x, conv1, conv2 = str(group.schedule).splitlines()
    assert head == (
        "pair: tile 8x8 of conv2_out[1, 1, 16, 16], coordinates tn, tx, ty, placement shifted, "
        "weights loaded once a group"
    )
    assert stages.strip() == "a tile: load x, make conv1_out, make conv2_out, store conv2_out"
    assert x.strip() == "x[1, 1, 20, 20] (input): recompute along tn, recompute along tx, local along ty"
    assert conv1.strip().endswith("local along ty") and conv2.strip().endswith("(made): recompute")


def test_storage_adds_up(group: pf.Storage) -> None:
    head, *lines = str(group).splitlines()
    assert head == f"pair: tile 8x8, {group.onchip_bytes:,} B on chip"
    assert sum(int(line.split()[-1].replace(",", "")) for line in lines) == group.onchip_bytes
    assert any("(ring)" in line for line in lines)


def test_copies_are_listed(group: pf.Storage) -> None:
    lowered = pf.lower(group.schedule.executions(group.schedule.network.layer("conv1")))
    assert str(lowered).splitlines()[0] == "conv1: 2 copies"
    assert len(str(lowered).splitlines()) == 3


def test_programs_are_short_and_kernels_name_their_ends(group: pf.Storage) -> None:
    program = pf.generate(group.schedule.network, [group])
    assert str(program).startswith("Program of pair, in place: 1 groups, ")
    assert "\n" not in repr(program)


def test_comparisons_are_tables(group: pf.Storage) -> None:
    net = group.schedule.network
    found = pf.compare(net, pf.candidates([(8, 8)], ["recompute"]), run=False)
    head, *_, recompute = str(found).splitlines()
    assert head == "pair: not run"
    assert recompute.split()[:3] == ["8x8", "recompute", "656"]
    assert repr(found) == str(found)


def test_notebooks_get_escaped_html(group: pf.Storage) -> None:
    net = group.schedule.network
    lowered = pf.lower(group.schedule.executions(net.layer("conv1")))
    program = pf.generate(net, [group])
    found = pf.compare(net, pf.candidates([(8, 8)], ["recompute"]), run=False)
    for thing in (net, group.schedule, group, lowered, program, found):
        html = thing._repr_html_()
        assert html.startswith("<") and html.endswith(">")
        assert html.count("<td>") == html.count("</td>")
        assert " -> " not in html and "&&" not in html


def test_layers_say_what_they_read_and_make(group: pf.Storage) -> None:
    layer = group.schedule.network.layer("conv2")
    assert repr(layer) == str(layer) and repr(layer).startswith("conv2 (conv): conv1_out[1, 1, 18, 18], ")
    init, update = layer.statements
    assert repr(init) == "conv2_init[n, c, h, w]: acc = bias"
    assert repr(update.operands["weight"]).startswith("{ conv2_update[")
    html = layer._repr_html_()
    assert html.count("<tr>") == 3 and "acc + weight * x" in html and " -> " not in html


def test_counts_closed_forms_and_builders_are_lines(group: pf.Storage) -> None:
    assert repr(pf.counts(group)).startswith("616 executions of 580 instances (36 recomputed)")
    assert repr(cardinality(isl.Set("[H] -> { A[i] : 0 <= i < H }"))) == "[H] -> { H : H > 0 }"
    assert repr(pf.Builder("empty")) == "Builder('empty'): no layers yet"


def test_strategies_and_counts_are_keys(group: pf.Storage) -> None:
    places = {"x": ("local",), "y": ("recompute",)}
    one, other = pf.Strategy((4,), retention=places), pf.Strategy((4,), retention=dict(reversed(places.items())))
    assert one == other and len({one, other, pf.Strategy((4,)), pf.Strategy((4,))}) == 2
    places["x"] = ("recompute",)
    assert one.places("x") == ("local",)
    assert {pf.counts(group): 1}[pf.counts(group)] == 1


def one_of_each() -> pf.Network:
    """Every kind of layer, with and without activations."""
    build = pf.Builder("each")
    x = build.input("x", (1, 2, 8, 8))
    y = build.conv("plain", x, 2, kernel=3, padding=1)
    y = build.conv("clipped", y, 2, kernel=3, padding=1, activation=("clip", 0, 6), bias=False)
    y = build.concat("both", build.max_pool("most", y, kernel=2), build.average_pool("mean", y, kernel=2))
    y = build.arithmetic("sum", "add", y, build.activation("own", y, "gelu"), activation="relu")
    y = build.arithmetic("twice", "add", y, y)
    index = "S[n, c, h, w]"
    turned = pf.statement_layer(
        "turn",
        domain=f"{{ {index} : n = 0 and 0 <= c < 4 and 0 <= h < 4 and 0 <= w < 4 }}",
        output=pf.Tensor("turn_out", (1, 4, 4, 4)),
        reads={"x": (y, f"{{ {index} -> {y.name}[n, c, w, h] }}")},
        expression="x",
    )
    whole = build.global_average_pool("all", y)
    return build.network(whole, build.add(turned))


def test_networks_can_be_sent_to_other_processes() -> None:
    net = one_of_each()
    inputs = pf.random_inputs(net, seed=1)
    again = pickle.loads(pickle.dumps(net))
    assert str(again) == str(net)
    for name, value in pf.reference(net, inputs).items():
        assert (pf.reference(again, inputs)[name] == value).all()
    strategy = pf.Strategy((2, 2), ("local", "recompute"))
    programs = [pf.generate(each, pf.fused(each, strategy)).source for each in (net, again)]
    assert programs[0] == programs[1]


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_every_public_value_is_short_in_a_terminal_and_a_table_in_a_notebook(name: str) -> None:
    value = EXAMPLES[name]()
    lines = repr(value).splitlines()
    assert 0 < len(lines) <= 40 and len(lines[0]) <= 300, lines
    if len(lines) == 1 and lines[0].startswith(f"{name}("):
        assert " object at 0x" not in lines[0]
    html = value._repr_html_()
    assert html.startswith("<") and html.endswith(">") and 20 < len(html) < 100_000
    for tag in ("table", "tr", "td", "b", "details", "pre"):
        assert len(re.findall(f"<{tag}>", html)) == html.count(f"</{tag}>"), tag


def test_names_are_escaped_in_notebooks() -> None:
    hostile = "<script>alert(1)</script>"
    machine = replace(EXAMPLES["Machine"](), name=hostile)
    row = replace(EXAMPLES["Row"](), retention={hostile: ("local",)})
    strategy = pf.Strategy((2,), retention={hostile: ("local",)})
    for value in (machine, row, strategy):
        assert "<script>" not in value._repr_html_()
    assert "&lt;script&gt;" in machine._repr_html_() and "&lt;script&gt;" in strategy._repr_html_()


def test_short_texts_leave_out_defaults_and_say_how_much_there_is() -> None:
    assert repr(pf.Strategy((8, 8), placement="shifted")) == (
        "Strategy(tile=(8, 8), others=('recompute', 'recompute'), placement='shifted')"
    )
    assert eval(repr(pf.Strategy((4,), ("local",))), {"Strategy": pf.Strategy}) == pf.Strategy((4,), ("local",))
    assert repr(pf.Settings()) == "Settings()" and "groups=2 items" in repr(EXAMPLES["ScratchPlan"]())
    assert eval(repr(pf.Tensor("x", (1,))), {"Tensor": pf.Tensor}) == pf.Tensor("x", (1,))
