"""Ideals and groups against enumeration of all subsets."""

from itertools import combinations

import pytest
from hypothesis import given, settings

from polyfuse.errors import InvalidInput
from polyfuse.plan.search.ideals import Dag, lattice
from tests.plan.search.invented import Invented, chain, invented


def closed(case: Invented) -> set[frozenset[str]]:
    """All sets of operations that hold with each one what makes what it reads."""
    made = {output: name for name, _, output in case.nodes}
    before = {name: {made[t] for t in reads if t in made} for name, reads, _ in case.nodes}
    names = sorted(before)
    subsets = (frozenset(chosen) for size in range(len(names) + 1) for chosen in combinations(names, size))
    return {chosen for chosen in subsets if all(before[name] <= chosen for name in chosen)}


def in_one_piece(case: Invented, group: frozenset[str]) -> bool:
    """Whether merging sets that touch leaves one."""
    pieces = [({name}, {*reads, output}) for name, reads, output in case.nodes if name in group]
    for _ in group:
        merged: list[tuple[set[str], set[str]]] = []
        for names, tensors in pieces:
            for index, (others, touched) in enumerate(merged):
                if touched & tensors:
                    merged[index] = (others | names, touched | tensors)
                    break
            else:
                merged.append((names, tensors))
        pieces = merged
    return len(pieces) == 1


@settings(max_examples=60, deadline=None)
@given(invented(7))
def test_ideals_and_groups_are_all_that_there_are(case: Invented) -> None:
    dag = case.problem().dag
    found = lattice(dag, longest=4)
    ideals = closed(case)
    assert len(found.ideals) == len(ideals)
    assert {frozenset(dag.names(ideal)) for ideal in found.ideals} == ideals
    groups = {b - a for a in ideals for b in ideals if a < b and len(b - a) <= 4 and in_one_piece(case, b - a)}
    assert {frozenset(dag.names(group)) for group in found.groups} == groups
    assert not found.capped


def test_a_chain_has_as_many_groups_as_pieces() -> None:
    found = lattice(chain([1] * 13).problem().dag, longest=5)
    assert len(found.ideals) == 13
    assert len(found.groups) == 12 + 11 + 10 + 9 + 8


def wide(branches: int, length: int) -> Dag:
    """Branches beside each other from one input, joined in the end."""
    nodes = [
        (f"b{b}_{k}", ("x" if k == 0 else f"t{b}_{k - 1}",), f"t{b}_{k}")
        for k in range(length)
        for b in range(branches)
    ]
    last = ("join", tuple(f"t{b}_{length - 1}" for b in range(branches)), "y")
    names, reads, makes = zip(*nodes, last, strict=True)
    return Dag(names, reads, makes, frozenset(["y"]))


def test_caps_that_are_hit_are_said() -> None:
    free = lattice(wide(4, 3), longest=2)
    assert len(free.ideals) == 4**4 + 1 and not free.capped
    narrow = lattice(wide(4, 3), longest=2, most_ideals=100)
    assert 14 <= len(narrow.ideals) <= 100
    assert "places ahead of their topological order" in narrow.scope
    short = lattice(wide(4, 3), longest=6, most_groups=40)
    assert short.longest < 6 and len(short.groups) <= 40
    assert "groups of up to 6 operations were too many" in short.scope
    assert {1 << index for index in range(13)} <= short.groups
    names = [f"op{k}" for k in range(10)]
    dense = Dag(
        tuple(names),
        tuple(("x", *(f"t{k}" for k in range(end))) for end in range(10)),
        tuple(f"t{k}" for k in range(10)),
        frozenset(["t9"]),
    )
    assert len(lattice(dense, longest=6).groups) == 10 + 9 + 8 + 7 + 6 + 5
    ends = lattice(dense, longest=6, most_groups=40)
    assert ends.longest == 6 and len(ends.groups) <= 40
    assert "groups of several that share at most 8 tensors with the rest" in ends.scope


def test_operations_out_of_order_are_refused() -> None:
    with pytest.raises(InvalidInput, match="'a': it reads 't', which is made later"):
        Dag(("a", "b"), (("t",), ("x",)), ("u", "t"), frozenset(["u"]))
    with pytest.raises(InvalidInput, match="two make the same tensor"):
        Dag(("a", "b"), (("x",), ("x",)), ("t", "t"), frozenset(["t"]))
