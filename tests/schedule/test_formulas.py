"""Closed forms of schedules whose sizes are parameters are what is counted where the sizes are numbers."""

import re

import islpy as isl
import numpy as np
import pytest

from polyfuse.network.network import Builder, Network
from polyfuse.network.tensor import Size
from polyfuse.schedule.counts import counts
from polyfuse.schedule.describe import size_parameters
from polyfuse.schedule.formulas import SIZES, copy_formulas, describe_formulas, value_columns
from polyfuse.schedule.lower import lower
from polyfuse.schedule.retention import Placement
from polyfuse.schedule.schedule import scheduled
from polyfuse.schedule.storage import storage
from polyfuse.schedule.strategy import Strategy
from polyfuse.sets.counting import count
from polyfuse.sets.symbolic import cardinality


def network(rows: Size, columns: Size) -> Network:
    """Padding, a stride and pooling."""
    build = Builder("net")
    x = build.conv("a", build.input("x", (1, 2, rows, columns)), 3, kernel=3, padding=1, bias=False)
    return build.network(build.max_pool("p", build.conv("b", x, 2, kernel=3, bias=False), kernel=2))


@pytest.mark.parametrize("placement", ["first", "shifted"])
@pytest.mark.parametrize("tile", [(3,), (2, 5)])
@pytest.mark.parametrize("name", ["recompute", "local", "global"])
def test_values_are_counts(name: str, tile: tuple[int, ...], placement: Placement) -> None:
    strategy = Strategy.named(name, tile, placement)
    head, *rows = value_columns(scheduled(network("H", "W"), strategy))
    assert head.split() == ["H", "=", "W", "executions", "recomputed", "loads", "stores"]
    for size, row in list(zip(SIZES, rows, strict=True))[:2]:
        found = [int(cell.replace(",", "")) for cell in row.split()]
        counted = counts(storage(scheduled(network(size, size), strategy)))
        weights = sum(value.size for value in network(size, size).weights.values())
        loads, stores = counted.offchip_read_bytes // 4 - weights, counted.offchip_write_bytes // 4
        assert found == [size, counted.executions, counted.recomputed, loads, stores]


def test_every_relation_has_a_formula() -> None:
    text = describe_formulas(scheduled(network("H", "W"), Strategy.named("recompute", (4, 4))))
    assert "no closed form" not in text and "None" not in text
    for tensor in ("x", "a_out", "b_out", "p_out"):
        assert re.search(rf"^tensor {tensor} \(", text, re.MULTILINE)
    assert re.search(r"^a_out +2x2$", text, re.MULTILINE)


def test_the_parameters_of_sizes() -> None:
    assert size_parameters(network("H", "floor(W/2)")) == ("H", "W")
    assert size_parameters(network(8, 8)) == ()


@pytest.mark.parametrize("tile", [(3,), (2, 3), (2, 2)])
@pytest.mark.parametrize("sizes", [("H", "W"), ("H", "H")])
def test_copies_are_what_lowering_counts(sizes: tuple[str, str], tile: tuple[int, ...]) -> None:
    strategy = Strategy.named("recompute", tile)
    group = scheduled(network(*sizes), strategy)
    for flow in group.in_order:
        if flow.executions.is_empty():
            continue
        formulas = copy_formulas(flow.executions)
        assert sum(len(str(copy)) for copy in formulas) < 400 * len(formulas)
        for height, width in ((8, 11), (13, 9), (12, 12)):
            if sizes == ("H", "H") and height != width:
                continue
            concrete = scheduled(network(height, width), strategy).flows[flow.tensor.name]
            copies = [count(copy.domain()) for copy in lower(concrete.executions).copies]
            values = {name: {"H": height, "W": width}[name] for name in formulas[0].symbols}
            assert [value for copy in formulas if (value := copy.at(**values))] == copies


def test_copies_of_relations_that_are_no_product() -> None:
    relation = isl.Map("[H] -> { S[i, j] -> T[t] : 0 <= i <= j < H and j < i + 5 and i <= 3t <= j + 3 }")
    formulas = copy_formulas(relation)
    for size in range(9):
        times = [
            sum(i <= 3 * t <= j + 3 for t in range(-9, 20)) for i in range(size) for j in range(size) if i <= j < i + 5
        ]
        assert [copy.at(H=size) for copy in formulas] == [sum(n > k for n in times) for k in range(len(formulas))]


def test_the_copies_of_a_plane_are_short() -> None:
    build = Builder("pair")
    x = build.input("x", (1, 1, "H", "W"))
    pair = build.network(build.conv("b", build.conv("a", x, 1, kernel=3), 1, kernel=3))
    executions = scheduled(pair, Strategy.named("recompute", (8, 8))).flows["a_out"].executions
    short, long = copy_formulas(executions)[1], cardinality(lower(executions).copies[1].domain(), "own")
    assert len(str(long)) > 10_000 > 300 > len(str(short))
    sizes = np.arange(60)
    values = [form.to_numpy()(H=sizes[:, None], W=sizes[None, :]) for form in (short, long)]
    assert (values[0] == values[1]).all() and values[0].max() > 1_000
