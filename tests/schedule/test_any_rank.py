"""Tensors of any rank, copies, products and reductions under random strategies: legal, right, and counted."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyfuse.choices import PLACES
from polyfuse.network.reference import max_relative_error, random_inputs, run
from polyfuse.schedule.counts import counts
from polyfuse.schedule.groups import fused
from polyfuse.schedule.interpreter import interpret
from polyfuse.schedule.strategy import Strategy
from tests.codegen.test_any_rank import NETWORKS, network


@st.composite
def strategies(draw: Any, shape: tuple[int, ...]) -> Strategy:
    """Tiles along the axes that may be cut, and what is retained along each."""
    extents = shape[2:] if len(shape) == 4 else shape
    tile = tuple(draw(st.integers(1, size)) for size in extents[: draw(st.integers(0, min(2, len(extents))))])
    places = tuple(draw(st.sampled_from(PLACES)) for _ in tile)
    order = draw(st.none() | st.permutations(range(len(tile))).map(tuple))
    weights = draw(st.sampled_from(["once", "tile"]))
    return Strategy(tile, places, placement=draw(st.sampled_from(["first", "shifted"])), order=order, weights=weights)


@pytest.mark.parametrize("name", sorted(NETWORKS))
@settings(max_examples=4, deadline=None)
@given(data=st.data())
def test_random_strategies(name: str, data: Any) -> None:
    net = network(name)
    (group,) = fused(net, data.draw(strategies(net.outputs[-1].concrete_shape)))
    inputs = random_inputs(net, 5)
    expected = run(net, inputs)
    ran = interpret(group, inputs)
    for tensor in net.outputs:
        assert max_relative_error(ran.outputs[tensor.name], expected[tensor.name]) <= 1e-9
    assert ran.executions == counts(group).steps
