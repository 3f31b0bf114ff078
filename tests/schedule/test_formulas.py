"""Closed forms of schedules whose sizes are parameters are what is counted where the sizes are numbers."""

import re

import pytest

from polyfuse.network.network import Builder, Network
from polyfuse.network.tensor import Size
from polyfuse.schedule.counts import counts
from polyfuse.schedule.describe import size_parameters
from polyfuse.schedule.formulas import SIZES, describe_formulas, value_columns
from polyfuse.schedule.retention import Placement
from polyfuse.schedule.schedule import Strategy, scheduled
from polyfuse.schedule.storage import storage


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
