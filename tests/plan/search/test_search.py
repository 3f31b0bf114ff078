"""The search against brute force over every order, grouping and place, on graphs with invented options."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyfuse.errors import DoesNotFit
from polyfuse.plan.price.objective import Objective
from polyfuse.plan.search.program import EVERYTHING, Searcher
from polyfuse.plan.search.walk import Rules
from tests.oracles.pinning import cheapest
from tests.plan.search.invented import Invented, invented

TIE = 1 << 20


def oracle(case: Invented, capacity: int, rules: Rules = EVERYTHING) -> tuple[int, int] | None:
    """The least cycles, and the least bytes at these cycles."""
    price = cheapest(
        case.nodes,
        case.outputs,
        case.sizes,
        {tensor: case.loads(tensor)[0] * TIE + case.loads(tensor)[1] for tensor in case.sizes},
        lambda group, sources, sinks: [(s, c * TIE + b) for s, c, b in case.ways(sorted(group), sources, sinks)],
        capacity,
        rules.pins,
        rules.spills,
        rules.pinned,
    )
    return None if price is None else divmod(price, TIE)


def found(case: Invented, capacity: int, rules: Rules = EVERYTHING) -> tuple[int, int] | None:
    """The same by the search."""
    try:
        plan = Searcher(case.problem(), Objective()).found(capacity, rules)
    except DoesNotFit:
        return None
    assert plan.lower == plan.price and plan.peak_bytes <= capacity
    bytes_moved = plan.price % (1 << 48)
    return round(Objective.value(plan.price)), bytes_moved


@settings(max_examples=60, deadline=None)
@given(invented(), st.integers(1, 40), st.booleans())
def test_no_order_grouping_or_place_is_cheaper(case: Invented, capacity: int, pins: bool) -> None:
    rules = Rules(pins=pins)
    assert found(case, capacity, rules) == oracle(case, capacity, rules)


@settings(max_examples=60, deadline=None)
@given(invented(4), st.integers(1, 60), st.booleans(), st.data())
def test_rules_are_kept_to_and_cost_no_more_than_they_must(
    case: Invented, capacity: int, spills: bool, data: st.DataObject
) -> None:
    rules = Rules(
        spills=spills, pinned=data.draw(st.frozensets(st.sampled_from(case.problem().dag.tensors), max_size=2))
    )
    assert found(case, capacity, rules) == oracle(case, capacity, rules)


@settings(max_examples=30, deadline=None)
@given(invented())
def test_the_smallest_capacity_is_the_smallest(case: Invented) -> None:
    least = Searcher(case.problem(), Objective()).smallest_capacity()
    assert least is not None
    assert oracle(case, least) is not None
    assert oracle(case, least - 1) is None
    with pytest.raises(DoesNotFit, match=f"{least:,} B are the smallest capacity that would do"):
        Searcher(case.problem(), Objective()).found(least - 1)
    assert Searcher(case.problem(), Objective("peak")).found(10**6).peak_bytes == least


@settings(max_examples=8, deadline=None)
@given(invented(10))
def test_more_capacity_never_costs_more(case: Invented) -> None:
    searcher = Searcher(case.problem(), Objective())
    least = searcher.smallest_capacity()
    assert least is not None
    prices = [searcher.found(capacity).price for capacity in range(least, least + 40)]
    assert prices == sorted(prices, reverse=True)


@settings(max_examples=8, deadline=None)
@given(invented(10), st.integers(20, 60))
def test_states_that_are_cut_are_said_and_the_bound_holds(case: Invented, capacity: int) -> None:
    searcher = Searcher(case.problem(), Objective())
    whole, few = searcher.found(capacity), searcher.found(capacity, most_states=1)
    assert few.lower <= whole.price <= few.price
    assert whole.lower == whole.price


@settings(max_examples=8, deadline=None)
@given(invented(10), st.integers(20, 60))
def test_what_was_priced_before_changes_nothing(case: Invented, capacity: int) -> None:
    searcher = Searcher(case.problem(), Objective())
    searcher.found(capacity + 30)
    assert searcher.found(capacity).price == Searcher(case.problem(), Objective()).found(capacity).price
