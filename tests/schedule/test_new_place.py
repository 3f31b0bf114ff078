"""A retention place of its own: what `global` does, in another memory; one line makes it (docs/inside)."""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from polyfuse.choices import RETAINED_IN
from polyfuse.errors import InvalidInput
from polyfuse.network.network import Builder
from polyfuse.network.reference import max_relative_error, random_inputs, run
from polyfuse.schedule.counts import counts, total
from polyfuse.schedule.groups import fused
from polyfuse.schedule.interpreter import interpret
from polyfuse.schedule.strategy import Strategy
from tests.schedule.networks import Chain, chains


@pytest.fixture(autouse=True)
def shared(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(RETAINED_IN, "shared", "cluster")
    yield


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chains(most=3, largest=7), st.data())
def test_it_moves_in_its_own_memory_what_global_moves_off_chip(chain: Chain, data: st.DataObject) -> None:
    network = chain.network()
    dims = data.draw(st.integers(1, 2))
    tile = tuple(data.draw(st.integers(1, size)) for size in chain.sizes[-1][:dims])
    names = [layer.output.name for layer in network.layers]
    places = {name: data.draw(st.tuples(*[st.sampled_from(("recompute", "local", "shared"))] * dims)) for name in names}
    far = {name: tuple("global" if p == "shared" else p for p in each) for name, each in places.items()}
    placement = data.draw(st.sampled_from(("first", "shifted")))
    found, known = (
        fused(network, Strategy(tile, retention=retention, placement=placement)) for retention in (places, far)
    )
    own, other = counts(found[0]), counts(known[0])
    assert own.steps == other.steps and own.onchip_bytes == other.onchip_bytes
    read, written = (sum(each) for each in zip(*own.other_bytes.values(), (0, 0), strict=True))
    assert own.offchip_read_bytes + read == other.offchip_read_bytes
    assert own.offchip_write_bytes + written == other.offchip_write_bytes
    flows = found[0].schedule.flows.values()
    inner = [flow for flow in flows if flow.role == "made" and flow.tensor not in network.outputs]
    assert bool(own.other_bytes) == any(not flow.loads.is_empty() for flow in inner)
    assert total([own, own]).other_bytes == {name: (2 * r, 2 * w) for name, (r, w) in own.other_bytes.items()}
    inputs = random_inputs(network, seed=1)
    made = interpret(found[0], {**inputs, **network.weights}).outputs
    expected = run(network, inputs)
    assert all(max_relative_error(made[y.name], expected[y.name]) < 1e-5 for y in network.outputs)


def test_one_tensor_waits_in_one_memory_besides_its_buffer() -> None:
    with pytest.raises(InvalidInput, match="one memory besides the buffer"):
        Strategy((4, 4), ("global", "shared"))


def test_a_network_s_output_is_stored_off_chip_alone() -> None:
    build = Builder("two")
    first = build.conv("first", build.input("x", (1, 1, 12, 12)), 1, kernel=3)
    network = build.network(first, build.conv("second", first, 1, kernel=3))
    (group,) = fused(network, Strategy((3,), ("shared",)))
    assert not counts(group).other_bytes
