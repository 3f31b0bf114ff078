"""Packing against brute force: every pair that lives together, and the best of all orders on small cases."""

from itertools import combinations, permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyfuse.errors import InvalidInput
from polyfuse.plan.memory.addresses import Lived, packed

BUFFERS = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 6), st.integers(0, 4)), max_size=8).map(
    lambda drawn: [Lived(f"b{k}", size, first, first + more) for k, (size, first, more) in enumerate(drawn)]
)


@given(BUFFERS)
def test_what_lives_together_lies_apart(buffers: list[Lived]) -> None:
    found = packed(buffers, 16)
    for a, b in combinations(buffers, 2):
        if any(a.first <= step <= a.last and b.first <= step <= b.last for step in range(12)):
            bytes_of_a = set(range(found.addresses[a.name], found.addresses[a.name] + a.bytes))
            assert not bytes_of_a & set(range(found.addresses[b.name], found.addresses[b.name] + b.bytes))
    for buffer in buffers:
        assert found.addresses[buffer.name] % 16 == 0
        assert found.addresses[buffer.name] + buffer.bytes <= found.bytes


@given(BUFFERS)
def test_the_live_bytes_are_those_of_the_fullest_step(buffers: list[Lived]) -> None:
    alive = [sum(-(-b.bytes // 16) * 16 for b in buffers if b.first <= step <= b.last) for step in range(12)]
    found = packed(buffers, 16)
    assert found.live_bytes == max(alive)
    assert found.live_bytes <= found.bytes


def best_of_all_orders(buffers: list[Lived]) -> int:
    """The smallest memory that first fit reaches in any order, byte by byte."""
    sizes = []
    for order in permutations(buffers):
        at: dict[str, int] = {}
        for buffer in order:
            others = [b for b in order if b.name in at and b.first <= buffer.last and buffer.first <= b.last]
            address = 0
            while any(address < at[b.name] + b.bytes and at[b.name] < address + buffer.bytes for b in others):
                address += 1
            at[buffer.name] = address
        sizes.append(max(at[b.name] + b.bytes for b in order))
    return min(sizes)


@pytest.mark.parametrize(
    "sizes",
    [
        [(4, 0, 1), (2, 1, 2), (4, 2, 3)],
        [(3, 0, 0), (5, 0, 2), (3, 1, 3), (2, 3, 4), (6, 4, 4)],
        [(1, 0, 5), (2, 0, 1), (4, 1, 2), (2, 2, 3), (3, 3, 5)],
    ],
)
def test_small_cases_are_packed_as_well_as_by_the_best_order(sizes: list[tuple[int, int, int]]) -> None:
    buffers = [Lived(f"b{k}", *each) for k, each in enumerate(sizes)]
    assert packed(buffers, 1).bytes == best_of_all_orders(buffers)


def test_a_chain_needs_two_buffers() -> None:
    found = packed([Lived(f"t{k}", 1000, k, k + 1) for k in range(9)], 64)
    assert found.bytes == 2048
    assert found.gap == 0


def test_names_and_lifetimes_are_checked() -> None:
    with pytest.raises(InvalidInput, match="two share a name"):
        packed([Lived("a", 1, 0, 0), Lived("a", 1, 1, 1)])
    with pytest.raises(InvalidInput, match="'a': expected 0 bytes or more and a first step before the last"):
        Lived("a", 1, 3, 2)
