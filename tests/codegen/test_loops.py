"""Loops: which steps one loop holds; the loops of a group, interrupted."""

import signal
from dataclasses import dataclass

import islpy as isl
import pytest

from polyfuse.codegen.emit.group import Emitter
from polyfuse.codegen.emit.loops import loop_nest, text
from polyfuse.codegen.program import generate
from polyfuse.network.network import Builder, Network
from polyfuse.schedule.groups import fused
from polyfuse.schedule.strategy import Strategy


@pytest.fixture
def pair() -> Network:
    build = Builder("pair")
    x = build.input("x", (1, 1, 12, 12))
    return build.network(build.conv("conv2", build.conv("conv1", x, 1, kernel=3), 1, kernel=3))


def test_an_interrupt_while_isl_asks_for_leaves_is_an_interrupt(pair: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    groups = fused(pair, Strategy((4,)))
    expected = generate(pair, groups, kernels="scalar").source
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
                generate(pair, groups, kernels="scalar")
    finally:
        signal.signal(signal.SIGINT, before)
    monkeypatch.undo()
    assert generate(pair, groups, kernels="scalar").source == expected


@dataclass(frozen=True, eq=False)
class Timed:
    name: str
    executions: isl.Set
    time: isl.Map


def timed(relation: str) -> Timed:
    time = isl.Map(relation)
    return Timed(time.get_tuple_name(isl.dim_type.in_), time.domain(), time)


LEFT = "{ left[t, y] -> [0, t, y] : t = 0 and 0 <= y < 3 }"
RIGHT = "{ right[t, y] -> [0, t, y] : t = 2 and 0 <= y < 4 }"
MIDDLE = "{ middle[t, y] -> [0, t, y] : t = 1 and y = 0 }"


def printed(relations: tuple[str, ...], whole: int) -> list[str]:
    nest = loop_nest([timed(each) for each in relations], ("n", "t", "y"), lambda step, _: [f"{step.name};"], whole)
    return [line.strip() for line in text(nest, 0) if line.strip() not in ("{", "}")]


def test_steps_that_share_no_value_of_a_whole_dimension_share_its_loop() -> None:
    assert printed((LEFT, MIDDLE, RIGHT), 2) == [
        "for (int t = 0; t <= 2; t += 1) {",
        "if (t == 2) {",
        "for (int y = 0; y <= 3; y += 1) {",
        "right;",
        "} else {",
        "if (t == 1) {",
        "middle;",
        "} else {",
        "for (int y = 0; y <= 2; y += 1) {",
        "left;",
    ]
