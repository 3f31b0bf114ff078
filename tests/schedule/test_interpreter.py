"""The interpreter agrees with the reference, with the generated C and with the oracle's counts."""

import pytest

from polyfuse.errors import InvalidInput, TooComplex
from polyfuse.network.network import Builder, Network
from polyfuse.network.reference import max_relative_error, random_inputs, run
from polyfuse.schedule import interpreter
from polyfuse.schedule.interpreter import interpret
from polyfuse.schedule.schedule import scheduled
from polyfuse.schedule.storage import storage
from polyfuse.schedule.strategy import Strategy
from tests.oracles.brute import Brute

STRATEGIES = (
    Strategy(),
    Strategy((2,), ("recompute",)),
    Strategy((2,), ("local",), placement="shifted"),
    Strategy((2, 3), ("global", "global")),
    Strategy((2, 3), ("local", "recompute"), weights="tile"),
    Strategy((2, 3), ("local", "local"), {"c_out": ("global", "local")}, order=(1, 0)),
)


def residual() -> Network:
    """Two outputs, one of them read again; a broadcast scale; an average that counts its taps."""
    build = Builder("residual")
    x = build.input("x", (1, 2, 7, 6))
    c = build.conv("c", x, 2, kernel=3, padding=1, activation="relu")
    scale = build.global_average_pool("mean", c)
    y = build.arithmetic("scaled", "mul", c, scale)
    return build.network(c, build.average_pool("p", y, kernel=3, stride=2, padding=1))


@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
def test_interpreted_values_are_the_reference_and_counts_the_oracle(strategy: Strategy) -> None:
    network = residual()
    inputs = random_inputs(network, seed=5)
    done = interpret(storage(scheduled(network, strategy)), inputs)
    expected = run(network, inputs)
    for tensor in network.outputs:
        assert max_relative_error(done.outputs[tensor.name], expected[tensor.name]) < 1e-12
    counted = {name: n for (kind, name), n in Brute(network, strategy).counts.items() if kind == "executions"}
    assert dict(done.executions) == counted


def test_a_missing_input_is_named() -> None:
    with pytest.raises(InvalidInput, match="no value for the inputs x"):
        interpret(storage(scheduled(residual(), Strategy())), {})


def test_too_many_executions_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    network = residual()
    monkeypatch.setattr(interpreter, "MOST_EXECUTIONS", 10)
    with pytest.raises(TooComplex, match="use smaller sizes"):
        interpret(storage(scheduled(network, Strategy())), random_inputs(network, seed=0))
