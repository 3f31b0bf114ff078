"""Groups against brute force: every way to cut the order of layers into parts."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import pytest

from polyfuse.codegen.lower.selection import SCALAR, Selection, named_selection
from polyfuse.deploy.grouping import Grouping, grouped, in_chains, ungrouped
from polyfuse.deploy.prices import Prices, hangs_together, seconds_on
from polyfuse.machines.host import known_machine
from polyfuse.network.network import Builder, Network
from polyfuse.schedule.counts import counts
from polyfuse.schedule.storage import Storage
from tests.deploy.networks import block, branches, chain


def bytes_moved(groups: Sequence[Storage], selection: Selection) -> float:
    """Off-chip bytes and, so that fusing does not always pay, twice the buffers."""
    found = [counts(group) for group in groups]
    return float(sum(each.offchip_bytes + 2 * each.onchip_bytes for each in found))


def cuts(count: int) -> Iterator[list[tuple[int, int]]]:
    """Every way to cut so many layers into runs."""
    for bits in range(2 ** (count - 1)):
        ends = [0, *(k + 1 for k in range(count - 1) if bits >> k & 1), count]
        yield list(pairwise(ends))


@pytest.mark.parametrize("network", [chain(), block(), branches()], ids=lambda network: network.name)
def test_no_way_to_cut_is_cheaper(network: Network) -> None:
    found = grouped(network, SCALAR, bytes_moved, longest=8, slack=1e9)
    ordered = in_chains(network)
    prices = Prices(ordered, SCALAR, bytes_moved)
    names = [layer.name for layer in ordered.layers]
    totals = []
    for way in cuts(len(names)):
        parts = [prices.part(tuple(names[start:end])) for start, end in way]
        if None not in parts:
            totals.append(sum(part.price for part in parts if part is not None))
    assert found.price <= min(totals)
    assert sum(prices.part(part.layers).price for part in found.parts) == min(totals)  # type: ignore[union-attr]
    assert len({len(part.layers) for part in found.parts}) > 1 or len(found.parts) < len(names)


def test_every_layer_is_in_one_group_and_groups_are_legal() -> None:
    network = block()
    selection = named_selection(network)
    found = grouped(network, selection, seconds_on(known_machine()))
    assert sorted(name for part in found.parts for name in part.layers) == sorted(x.name for x in network.layers)
    assert len(found.groups(selection)) == len(found.parts)


def test_processes_find_what_one_finds() -> None:
    network = chain(7)
    one, two = (grouped(network, SCALAR, bytes_moved, slack=1e9, workers=workers) for workers in (1, 2))
    assert one.parts == two.parts


def test_little_slack_prices_less_and_never_finds_better() -> None:
    asked: list[int] = []

    def price(groups: Sequence[Storage], selection: Selection) -> float:
        asked.append(1)
        return bytes_moved(groups, selection)

    every = grouped(block(), SCALAR, price, slack=1e9)
    all_asked = len(asked)
    some = grouped(block(), SCALAR, price, slack=1.0)
    assert some.price >= every.price
    assert len(asked) - all_asked <= all_asked


def test_groups_are_no_longer_than_asked() -> None:
    found = grouped(chain(5), SCALAR, lambda groups, _: sum(counts(group).offchip_bytes for group in groups), longest=2)
    assert max(len(part.layers) for part in found.parts) == 2


def test_equal_parts_are_priced_once() -> None:
    asked: list[int] = []

    def price(groups: Sequence[Storage], selection: Selection) -> float:
        asked.append(len(groups))
        return bytes_moved(groups, selection)

    network = chain(5)
    prices = Prices(in_chains(network), SCALAR, price)
    first = prices.part(("c1", "c2"))
    before = len(asked)
    second = prices.part(("c2", "c3"))
    assert first is not None and second is not None
    assert (first.price, first.strategy) == (second.price, second.strategy)
    assert len(asked) == before
    prices.part(("c0", "c1"))
    assert len(asked) > before


def test_other_weights_outputs_and_operands_are_not_equal_parts() -> None:
    build = Builder("net")
    x = build.input("x", (1, 16, 8, 8))
    a = build.conv("a", x, 16, kernel=3, padding=1)
    b = build.conv("b", a, 16, kernel=3, padding=1, dilation=1, activation="relu")
    c = build.conv("c", b, 16, kernel=3, padding=1)
    d = build.arithmetic("d", "add", c, c)
    e = build.arithmetic("e", "add", d, c)
    prices = Prices(build.network(e), SCALAR, bytes_moved)
    network = prices.network
    keys = [prices.signature(network.select([name])) for name in "abcde"]
    assert keys[0] == keys[2]
    assert len(set(keys)) == 4


def test_chains_stay_together() -> None:
    assert [layer.name for layer in in_chains(branches()).layers] == ["stem", "a1", "a2", "b1", "b2", "both", "end"]


def test_layers_that_share_only_an_input_do_not_hang_together() -> None:
    network = branches()
    assert not hangs_together(network.select(["a1", "b1"]))
    assert not hangs_together(network.select(["a1", "a2", "b1"]))
    assert hangs_together(network.select(["a2", "b2", "both"]))


def test_without_a_price_nothing_is_fused() -> None:
    found: Grouping = ungrouped(block())
    assert [len(part.layers) for part in found.parts] == [1] * 7
