"""Rings of row tiles against the brute-force minimum, and what happens when a ring is one row too short."""

from dataclasses import replace

import numpy as np
import pytest

from polyfuse.codegen.build import Options
from polyfuse.codegen.kernel import build
from polyfuse.codegen.program import generate
from polyfuse.errors import IllegalSchedule
from polyfuse.network.network import Builder, Network
from polyfuse.network.reference import max_relative_error, random_inputs, run
from polyfuse.schedule.interpreter import interpret
from polyfuse.schedule.legality import check
from polyfuse.schedule.retention import Placement
from polyfuse.schedule.schedule import scheduled
from polyfuse.schedule.storage import Storage, storage
from polyfuse.schedule.strategy import Strategy
from tests.oracles.brute import Brute, minimum_ring, survives

UNOPTIMISED = Options(flags=("-std=c11", "-O0"))
CHAINS = ("c c", "c c c", "c p", "p c", "c s c", "s c c", "d c", "c d", "c e", "e c", "c c s", "k c")


def chain(layers: str, rows: int = 17) -> Network:
    """Convolutions, plain (c), of stride 2 (s), dilated (d), of five rows (e), of two rows, stride 3 (k); pools (p)."""
    build = Builder("chain")
    x = build.input("x", (1, 1, rows, 5))
    for k, kind in enumerate(layers.split()):
        name = f"{kind}{k}"
        match kind:
            case "c":
                x = build.conv(name, x, 1, kernel=3, padding=1)
            case "s":
                x = build.conv(name, x, 1, kernel=3, padding=1, stride=(2, 1))
            case "d":
                x = build.conv(name, x, 1, kernel=(3, 1), dilation=(2, 1))
            case "p":
                x = build.max_pool(name, x, kernel=(2, 1))
            case "e":
                x = build.conv(name, x, 1, kernel=(5, 1), padding=(2, 0))
            case "k":
                x = build.conv(name, x, 1, kernel=(2, 1), stride=(3, 1))
    return build.network(x)


def retained(layers: str, rows: int, placement: Placement) -> tuple[Network, Strategy]:
    """A chain whose every tensor is kept along the rows."""
    return chain(layers), Strategy.named("local", (rows,), placement)


@pytest.mark.parametrize("placement", ["first", "shifted"])
@pytest.mark.parametrize("layers", CHAINS)
def test_rings_have_the_brute_force_minimum_of_rows(layers: str, placement: Placement) -> None:
    for rows in (1, 2, 3):
        network, strategy = retained(layers, rows, placement)
        buffers = storage(scheduled(network, strategy)).buffers
        brute = Brute(network, strategy)
        for tensor in (*network.inputs, *(layer.output for layer in network.layers[:-1])):
            window = buffers[tensor.name].shape[2]
            assert window == minimum_ring(brute, tensor.name, tensor.concrete_shape[2]), (tensor.name, rows)
            assert window == 1 or not survives(brute, tensor.name, window - 1)


def test_the_rings_of_the_design() -> None:
    """`c c c` with 4-row tiles: 7, 6, 6 rows placed `first`, 6, 6, 6 placed `shifted`."""
    build = Builder("chain")
    x = build.input("x", (1, 1, 30, 5))
    for k in range(3):
        x = build.conv(f"c{k}", x, 1, kernel=3, padding=1)
    network = build.network(x)
    rings = {}
    for placement in ("first", "shifted"):
        buffers = storage(scheduled(network, Strategy.named("local", (4,), placement))).buffers  # type: ignore[arg-type]
        rings[placement] = [buffers[name].shape[2] for name in ("x", "c0_out", "c1_out")]
    assert rings == {"first": [7, 6, 6], "shifted": [6, 6, 6]}


def one_row_short(stored: Storage, name: str) -> Storage:
    """The storage with one row less for a tensor."""
    buffer = stored.buffers[name]
    rows = buffer.indices[2]
    indices = list(buffer.indices)
    indices[2] = replace(rows, window=rows.window - 1, folded=True)
    return replace(stored, buffers={**stored.buffers, name: replace(buffer, indices=tuple(indices))})


@pytest.mark.parametrize("placement", ["first", "shifted"])
@pytest.mark.parametrize("name", ["x", "c0_out", "c1_out"])
def test_a_ring_one_row_short_is_refused_and_when_forced_is_wrong(name: str, placement: Placement) -> None:
    network, strategy = retained("c c c", 2, placement)
    stored = storage(scheduled(network, strategy))
    check(stored)
    short = one_row_short(stored, name)
    with pytest.raises(IllegalSchedule, match=rf"at tile \(.*\) reads {name}\[|{name}: .* to the same cell"):
        check(short)
    inputs = random_inputs(network, seed=3)
    expected = run(network, inputs)["c2_out"]
    with pytest.raises(IllegalSchedule):
        interpret(short, inputs)
    forced = interpret(short, inputs, forced=True).outputs["c2_out"]
    assert max_relative_error(interpret(stored, inputs).outputs["c2_out"], expected) < 1e-12
    assert max_relative_error(forced, expected) > 1e-3
    kernel = build(generate(network, [short], staged=True), options=UNOPTIMISED)
    kernel.poison()
    compiled = kernel(**inputs)["c2_out"]
    assert max_relative_error(compiled, expected) > 1e-3
    assert max_relative_error(compiled, forced) < 1e-5 and np.isfinite(forced).all()
