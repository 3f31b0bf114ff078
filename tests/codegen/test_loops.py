"""The loops of a group, interrupted."""

import signal

import pytest

from polyfuse.codegen.program import Emitter, generate
from polyfuse.network.network import Builder, Network
from polyfuse.schedule.groups import fused
from polyfuse.schedule.schedule import Strategy


@pytest.fixture
def pair() -> Network:
    build = Builder("pair")
    x = build.input("x", (1, 1, 12, 12))
    return build.network(build.conv("conv2", build.conv("conv1", x, 1, kernel=3), 1, kernel=3))


def test_an_interrupt_while_isl_asks_for_leaves_is_an_interrupt(pair: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    groups = fused(pair, Strategy((4,)))
    expected = generate(pair, groups, leaf="scalar").source
    honest = Emitter.leaf

    def interrupted(*given: object) -> object:
        leaf = honest(*given)  # type: ignore[arg-type]

        def lines(*arguments: object) -> list[str]:
            signal.raise_signal(signal.SIGINT)
            return leaf(*arguments)  # type: ignore[arg-type]

        return lines

    monkeypatch.setattr(Emitter, "leaf", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        for _ in range(20):
            with pytest.raises(KeyboardInterrupt):
                generate(pair, groups, leaf="scalar")
    finally:
        signal.signal(signal.SIGINT, before)
    monkeypatch.undo()
    assert generate(pair, groups, leaf="scalar").source == expected
