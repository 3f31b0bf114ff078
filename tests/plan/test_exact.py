"""The exact model against brute force, and the search against it where brute force does not reach."""

from hypothesis import given, settings
from hypothesis import strategies as st

from polyfuse.errors import DoesNotFit
from polyfuse.plan.exact import exact
from polyfuse.plan.ideals import lattice
from polyfuse.plan.objective import Objective
from polyfuse.plan.search import search
from tests.plan.invented import Invented, invented
from tests.plan.test_search import oracle


def solved(case: Invented, capacity: int, addresses: bool) -> tuple[int, int] | None:
    problem = case.problem()
    found = exact(problem, capacity, Objective(), lattice(problem.dag).groups, addresses=addresses)
    if found is None:
        return None
    assert found.optimal
    return round(Objective.value(found.price)), found.price % (1 << 48)


@settings(max_examples=15, deadline=None)
@given(invented(4), st.integers(1, 40))
def test_the_exact_model_agrees_with_brute_force(case: Invented, capacity: int) -> None:
    assert solved(case, capacity, addresses=False) == oracle(case, capacity)


@settings(max_examples=4, deadline=None)
@given(invented(7), st.integers(10, 40))
def test_the_search_agrees_with_the_exact_model(case: Invented, capacity: int) -> None:
    try:
        plan = search(case.problem(), capacity, Objective())
        found = round(Objective.value(plan.price)), plan.price % (1 << 48)
    except DoesNotFit:
        found = None
    assert solved(case, capacity, addresses=False) == found
