"""Packing by the solver: valid, never above the simple rule, and no lower than what is alive."""

from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from polyfuse.plan.memory.addresses import Lived, packed
from polyfuse.plan.memory.packing import packed_within

BUFFERS = st.lists(st.tuples(st.integers(0, 90), st.integers(0, 6), st.integers(0, 4)), max_size=9).map(
    lambda drawn: [Lived(f"b{k}", size, first, first + more) for k, (size, first, more) in enumerate(drawn)]
)


def lies_apart(buffers: list[Lived], addresses: dict[str, int]) -> bool:
    return all(
        addresses[a.name] + a.bytes <= addresses[b.name] or addresses[b.name] + b.bytes <= addresses[a.name]
        for a, b in combinations(buffers, 2)
        if a.bytes and b.bytes and any(a.first <= t <= a.last and b.first <= t <= b.last for t in range(12))
    )


@settings(max_examples=60, deadline=None)
@given(BUFFERS)
def test_what_lives_together_lies_apart_and_low(buffers: list[Lived]) -> None:
    simple = packed(buffers, 16)
    found = packed_within(buffers, simple.bytes, 16)
    assert found is not None
    assert lies_apart(buffers, dict(found.addresses))
    assert simple.live_bytes <= found.bytes <= simple.bytes
    for buffer in buffers:
        assert found.addresses[buffer.name] % 16 == 0
        assert 0 <= found.addresses[buffer.name] <= found.bytes - buffer.bytes


@settings(max_examples=60, deadline=None)
@given(BUFFERS, st.integers(0, 600))
def test_nothing_passes_the_capacity(buffers: list[Lived], capacity: int) -> None:
    found = packed_within(buffers, capacity, 16)
    if found is None:
        assert packed(buffers, 16).bytes > capacity
    else:
        assert found.bytes <= capacity


def test_what_first_fit_cannot_do_in_any_order_of_its_own_the_solver_does() -> None:
    sizes = [(4, 4, 7), (3, 1, 3), (3, 2, 4), (2, 1, 2), (1, 3, 4), (2, 6, 6)]
    buffers = [Lived(f"b{k}", 16 * size, first, last) for k, (size, first, last) in enumerate(sizes)]
    assert packed(buffers, 16).bytes == 144
    found = packed_within(buffers, 128, 16)
    assert found is not None
    assert found.bytes == found.live_bytes == 128
    assert lies_apart(buffers, dict(found.addresses))
    assert packed_within(buffers, 127, 16) is None
