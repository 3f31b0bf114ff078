"""Schedules, storage, legality and counts of networks of other types than float32."""

import numpy as np
import pytest

from polyfuse.network.halves import with_storage
from polyfuse.network.network import Builder, Network
from polyfuse.network.quantised import elements, sums
from polyfuse.network.quantised.scheme import Quantisation
from polyfuse.network.reference import random_inputs, run
from polyfuse.network.window import Window
from polyfuse.schedule.counts import counts, total
from polyfuse.schedule.groups import fused
from polyfuse.schedule.interpreter import interpret
from polyfuse.schedule.schedule import scheduled
from polyfuse.schedule.storage import storage
from polyfuse.schedule.strategy import Strategy
from tests.oracles.brute import Brute

STRATEGIES = (
    Strategy(),
    Strategy((2,), ("recompute",)),
    Strategy((3,), ("local",), placement="shifted"),
    Strategy((2, 3), ("global", "global")),
    Strategy((2, 3), ("local", "recompute"), weights="tile"),
)
Q = Quantisation(0.03, 5, "uint8")


def integers() -> Network:
    """Every kind of statement of integer layers: sums by channel, a table, a fused sum, a mean, maxima, both ends."""
    build, generator = Builder("integers"), np.random.default_rng(0)
    x = build.add(*elements.quantize("q", build.input("x", (1, 2, 7, 6)), Q))
    w = build.constant("w", generator.integers(-128, 128, (3, 2, 3, 3)), "int8")
    b = build.constant("b", generator.integers(-99, 99, 3), "int32")
    scales = (Q, Quantisation((0.01, 0.02, 0.015)), Q)
    c = build.add(*sums.convolution("c", x, w, b, Window((3, 3), padding=(1, 1, 1, 1)), scales=scales))
    t = build.add(*elements.function("t", c, np.tanh, scales=(Q, Q)))
    s = build.add(elements.arithmetic("s", "add", c, t, scales=(Q, Q, Q)))
    p = build.max_pool("p", s, kernel=3, stride=1, padding=1)
    m = build.add(elements.average_pool("m", p, Window((2, 2)), scales=(Q, Q)))
    return build.network(build.add(*elements.dequantize("d", m, Q)))


def halves(dtype: str) -> Network:
    build = Builder("halves")
    c = build.conv("c", build.input("x", (1, 2, 7, 6)), 3, kernel=3, padding=1, activation="silu")
    y = build.concat("cat", c, build.max_pool("p", c, kernel=3, stride=1, padding=1))
    return with_storage(build.network(build.average_pool("m", y, kernel=2, stride=1)), dtype)


NETWORKS = {"integers": integers, "float16": lambda: halves("float16"), "bfloat16": lambda: halves("bfloat16")}


@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
@pytest.mark.parametrize("name", NETWORKS)
def test_interpreted_values_are_the_reference_and_counts_the_oracle(name: str, strategy: Strategy) -> None:
    network = NETWORKS[name]()
    inputs = random_inputs(network, seed=5)
    done = interpret(storage(scheduled(network, strategy)), inputs)
    expected = run(network, inputs)
    for tensor in network.outputs:
        np.testing.assert_array_equal(done.outputs[tensor.name], expected[tensor.name])
    if name != "integers":
        counted = {each: n for (kind, each), n in Brute(network, strategy).counts.items() if kind == "executions"}
        assert dict(done.executions) == counted


def chain(dtype: str) -> Network:
    """Two layers of one geometry, of a type."""
    build = Builder("chain")
    if dtype in ("float32", "float16"):
        y = build.conv("c2", build.conv("c1", build.input("x", (1, 4, 18, 18)), 4, kernel=3), 4, kernel=3)
        return build.network(y) if dtype == "float32" else with_storage(build.network(y), dtype)
    y, scale = build.input("x", (1, 4, 18, 18), dtype), Quantisation(0.1, 0, dtype)
    for k in (1, 2):
        w = build.constant(f"c{k}_weight", np.ones((4, 4, 3, 3)), "int8")
        b = build.constant(f"c{k}_bias", np.zeros(4), "int32")
        y = build.add(*sums.convolution(f"c{k}", y, w, b, scales=(scale, Quantisation(0.1), scale)))
    return build.network(y)


@pytest.mark.parametrize("places", [("recompute", "recompute"), ("local", "recompute"), ("global", "global")])
@pytest.mark.parametrize("dtype, narrower", [("int8", 4), ("uint8", 4), ("float16", 2)])
def test_bytes_follow_from_the_type(dtype, narrower, places):  # type: ignore[no-untyped-def]
    strategy = Strategy((5, 4), places)
    wide, narrow = (fused(chain(each), strategy)[0] for each in ("float32", dtype))
    for tensor in ("x", "c1_out", "c2_out", "c1_weight"):
        assert wide.buffers[tensor].bytes == narrower * narrow.buffers[tensor].bytes
    before, after = (counts(group) for group in (wide, narrow))
    assert before.executions == after.executions
    assert before.offchip_write_bytes == narrower * after.offchip_write_bytes
    biases = 32 if narrower == 4 else 0
    assert before.offchip_read_bytes - biases == narrower * (after.offchip_read_bytes - biases)


def test_a_table_is_loaded_whole() -> None:
    build = Builder("one")
    x = build.input("x", (1, 1, 8, 8), "int8")
    network = build.network(
        build.add(*elements.function("t", x, np.tanh, scales=(Quantisation(0.1), Quantisation(0.01))))
    )
    found = total(counts(group) for group in fused(network, Strategy.named("recompute", (4, 4))))
    assert found.offchip_read_bytes == 64 + 256 and found.offchip_write_bytes == 64
