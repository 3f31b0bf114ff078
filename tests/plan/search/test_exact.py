"""The exact model against brute force, and the search against it where brute force does not reach."""

from collections.abc import Callable, Sequence
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyfuse.choices import LONGEST
from polyfuse.errors import DoesNotFit, InvalidInput, TooComplex
from polyfuse.loading import load_workload
from polyfuse.network.network import Network
from polyfuse.plan.graph.operations import Graph, graph_of
from polyfuse.plan.planning import Ways
from polyfuse.plan.price.objective import Objective
from polyfuse.plan.search.baselines import Baselines
from polyfuse.plan.search.exact import EFFORT, exact
from polyfuse.plan.search.ideals import lattice
from polyfuse.plan.search.program import Searcher
from polyfuse.plan.search.walk import Rules
from polyfuse.rewrite.rewriting import rewrite
from tests.plan.planned import NETWORKS, chain, inception, machine, residual, squeeze_and_excite
from tests.plan.search.invented import Invented, invented
from tests.plan.search.test_search import oracle

pytestmark = pytest.mark.usefixtures("full_effort")


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


@pytest.mark.parametrize("seed", range(3))
def test_what_reaches_over_an_operation_takes_room_in_it(seed: int) -> None:
    nodes = (("a", ("x",), "p"), ("b", ("p",), "q"), ("c", ("q",), "r"), ("d", ("p", "r"), "s"))
    problem = Invented(nodes, frozenset(["s"]), {"x": 4, "p": 9, "q": 5, "r": 5, "s": 3}, seed).problem()
    searcher, alone = Searcher(problem, Objective()), Rules(allowed=lambda group: len(group) == 1)
    least = searcher.smallest_capacity(alone)
    assert least is not None
    prices = set()
    for capacity in range(least, least + 25):
        found = exact(problem, capacity, Objective(), [1, 2, 4, 8], addresses=False)
        assert found is not None and found.optimal
        assert found.price == searcher.found(capacity, alone).price
        prices.add(found.price)
    assert len(prices) > 2


@pytest.mark.parametrize("seed", range(3))
def test_pins_and_workspaces_lie_apart(seed: int) -> None:
    nodes = (("a", ("x",), "p"), ("b", ("p",), "q"), ("c", ("q",), "r"), ("d", ("p", "r"), "s"))
    problem = Invented(nodes, frozenset(["s"]), {"x": 4, "p": 9, "q": 5, "r": 5, "s": 3}, seed).problem()
    for capacity in (26, 30, 40):
        found = exact(problem, capacity, Objective(), [1, 2, 4, 8])
        assert found is not None and found.optimal
        assert [each.name for each in found.placed].count("workspace") == 4
        for piece in found.placed:
            assert 0 <= piece.address <= piece.address + piece.bytes <= capacity
        for a, b in combinations(found.placed, 2):
            together = a.first < b.end and b.first < a.end
            assert not together or a.address + a.bytes <= b.address or b.address + b.bytes <= a.address


@settings(max_examples=4, deadline=None)
@given(invented(7), st.integers(10, 40))
def test_the_search_agrees_with_the_exact_model(case: Invented, capacity: int) -> None:
    try:
        plan = Searcher(case.problem(), Objective()).found(capacity)
        found = round(Objective.value(plan.price)), plan.price % (1 << 48)
    except DoesNotFit:
        found = None
    assert solved(case, capacity, addresses=False) == found


@pytest.mark.parametrize("name", NETWORKS)
def test_plans_are_confirmed_with_their_addresses(name: str) -> None:
    graph = graph_of(NETWORKS[name](), "int8")
    ways = Ways(graph, machine(), Baselines(graph, machine(), Objective()))
    least = ways.searches.joint.smallest_capacity()
    assert least is not None
    for capacity in (least, least + 4096, 4 * least):
        plan = ways.plan(capacity)
        assert ways.confirmed(plan, EFFORT).certificate.gap == plan.certificate.gap == 0


def agreement(graph: Graph, longest: int, capacities: Sequence[int]) -> None:
    """The search and the exact model find the same least price of tiles that are tried at each capacity."""
    searches = Baselines(graph, machine(), Objective(), longest)
    for capacity in capacities:
        found = searches.joint.found(capacity, close=False)
        judged = exact(searches.problem, capacity, Objective(), searches.lattice.groups, addresses=False, effort=300.0)
        assert judged is not None and judged.optimal
        assert judged.price == found.price == found.lower


@pytest.mark.parametrize("build", [inception, squeeze_and_excite])
def test_the_search_agrees_on_a_module_and_a_stage(build: Callable[[], Network]) -> None:
    agreement(graph_of(build(), "int8"), LONGEST, [12288, 16384])


def test_the_search_agrees_on_a_whole_network() -> None:
    graph = graph_of(rewrite(load_workload("mobilenet_v2")).network, "int8")
    agreement(graph, LONGEST, [256 * 1024])


def test_a_peak_is_not_asked_of_the_exact_model() -> None:
    graph = graph_of(residual(), "int8")
    ways = Ways(graph, machine(), Baselines(graph, machine(), Objective("peak")))
    with pytest.raises(InvalidInput, match="expected a goal that adds up over groups, got 'peak'"):
        ways.confirmed(ways.plan(10**6), EFFORT)


def test_an_effort_that_is_too_small_is_said() -> None:
    graph = graph_of(chain(2), "int8")
    ways = Ways(graph, machine(), Baselines(graph, machine(), Objective()))
    with pytest.raises(TooComplex, match="expected a plan within an effort of 1e-06, found none"):
        ways.confirmed(ways.plan(20000), effort=1e-6)
