"""Groups beyond the table: joined where a price says so, convex, never more than blocks; the price in bytes."""

import numpy as np
import pytest

from polyfuse.network.network import Builder, Network
from polyfuse.rewrite.beyond import groups_beyond
from polyfuse.rewrite.fusion import always, fusion_plan, operators_of
from polyfuse.rewrite.price import offchip_price
from polyfuse.schedule.counts import counts
from polyfuse.schedule.groups import fused, layer_by_layer
from polyfuse.schedule.schedule import Strategy
from tests.rewrite.test_fusion import depends, is_convex, names, random_graph, residual


def test_a_free_price_joins_everything_that_is_connected() -> None:
    graph = operators_of(residual())
    blocks = fusion_plan(graph)
    assert len(groups_beyond(graph, blocks, lambda group: 1.0)) == 1


def test_a_price_by_layers_joins_nothing() -> None:
    graph = operators_of(residual())
    blocks = fusion_plan(graph)
    assert groups_beyond(graph, blocks, lambda group: float(len(group))) == blocks


@pytest.mark.parametrize("seed", range(60))
def test_groups_are_convex_and_no_more_than_blocks(seed: int) -> None:
    graph = random_graph(seed)
    blocks = fusion_plan(graph, always)
    random = np.random.default_rng(seed)
    drawn: dict[frozenset[str], float] = {}
    groups = groups_beyond(graph, blocks, lambda group: drawn.setdefault(group, float(random.random())))
    assert len(groups) <= len(blocks)
    assert sorted(name for group in groups for name in group.names) == sorted(each.name for each in graph)
    assert all(is_convex(set(group.names), depends(graph)) for group in groups)
    before, after = (sum(drawn.get(frozenset(b.names), 0.0) for b in each) for each in (blocks, groups))
    assert after <= before


def chain() -> Network:
    """Two convolutions of 4 channels on 16 x 16."""
    build = Builder("chain")
    y = build.conv("conv1", build.input("x", (1, 4, 16, 16)), 4, kernel=3)
    return build.network(build.conv("conv2", y, 4, kernel=3))


def test_the_price_is_what_schedules_count() -> None:
    network = chain()
    price = offchip_price(network, 1 << 20)
    strategy = Strategy((1,), others=("local",), placement="shifted")
    assert price(frozenset(["conv1", "conv2"])) == counts(fused(network, strategy)[0]).offchip_bytes
    alone = [counts(group).offchip_bytes for group in layer_by_layer(network)]
    assert [price(frozenset([name])) for name in ("conv1", "conv2")] == alone


def test_groups_that_do_not_fit_cost_what_their_layers_do() -> None:
    network = chain()
    together = frozenset(["conv1", "conv2"])
    onchip = counts(fused(network, Strategy((1,), others=("local",), placement="shifted"))[0]).onchip_bytes
    apart = sum(offchip_price(network, 1 << 20)(frozenset([name])) for name in together)
    assert offchip_price(network, onchip - 1)(together) == apart
    assert offchip_price(network, onchip)(together) < apart


def test_many_to_many_layers_are_joined_where_it_pays() -> None:
    graph = operators_of(chain())
    blocks = fusion_plan(graph)
    assert len(blocks) == 2
    assert names(groups_beyond(graph, blocks, offchip_price(chain(), 1 << 20))) == [("conv1", "conv2")]
    assert groups_beyond(graph, blocks, offchip_price(chain(), 256)) == blocks
