"""Proofs of placed groups: isl's verdict is that of a replay, for groups as they are planned and as they are broken."""

from dataclasses import replace

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from polyfuse.errors import IllegalSchedule
from polyfuse.plan.operations import graph_of
from polyfuse.plan.placed import PlacedGroup
from polyfuse.plan.proof import prove
from polyfuse.plan.tiles import Tables, tables
from tests.plan.laid import laid
from tests.plan.replay import replay
from tests.plan.test_tiles import cut_groups, networks


def is_proved(placed: PlacedGroup) -> bool:
    """Whether isl finds a group right."""
    try:
        prove(placed)
    except IllegalSchedule as refusal:
        assert ("\n" not in str(refusal) and "step" in str(refusal)) or "output" in str(refusal)
        return False
    return True


def is_right(found: Tables, placed: PlacedGroup) -> bool:
    """Whether a replay finds it right."""
    windows = {name: (place.rows, place.columns) for name, place in placed.places.items()}
    order = [operation.name for operation in placed.operations]
    try:
        replay(found, overlapped=placed.double_buffer, windows=windows, order=order)
    except AssertionError:
        return False
    return True


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_every_group_of_a_network_is_proved(data: st.DataObject) -> None:
    graph = graph_of(data.draw(networks()))
    found = tables(graph, *data.draw(cut_groups(graph)))
    once = [name for name, table in found.of.items() if np.array_equal(table.new, table.fresh)]
    ends = [name for name in (*found.group.inputs, *found.group.outputs) if name in found.group.inputs or name in once]
    whole = data.draw(st.lists(st.sampled_from(ends), unique=True)) if ends else []
    for double_buffer in (False, True):
        prove(laid(graph, found, double_buffer=double_buffer, whole=whole))


def moved_edge(boxes: np.ndarray, draw: st.DrawFn) -> np.ndarray:
    """One edge of the box of one step, a row or a column further in or out."""
    step, edge = draw(st.integers(0, len(boxes) - 1)), draw(st.integers(0, 3))
    changed = boxes.copy()
    changed[step, edge] += draw(st.sampled_from([-1, 1]))
    assume((changed[step] >= 0).all())
    return changed


@st.composite
def broken(draw: st.DrawFn, placed: PlacedGroup) -> PlacedGroup:
    """A group with one thing changed: a ring, an origin, what is made, loaded, stored or added up, or the order."""
    found = placed.tables
    name = draw(st.sampled_from(list(found.of)))
    table, place = found.of[name], placed.places[name]
    kind = draw(st.sampled_from(["ring", "origin", "new", "new", "fresh", "order", "taken", "steps"]))
    if kind == "ring":
        rows, columns = (
            (max(1, place.rows - 1), place.columns) if draw(st.booleans()) else (place.rows, max(1, place.columns - 1))
        )
        return replace(placed, places={**placed.places, name: replace(place, rows=rows, columns=columns)})
    if kind == "order":
        names = list(placed.operations)
        k = draw(st.integers(0, len(names) - 1))
        return replace(placed, operations=(*names[k:], *names[:k]))
    if kind == "taken":
        assume(found.taken_in)
        operation = draw(st.sampled_from(list(found.taken_in)))
        boxes = found.taken_in[operation]
        part = draw(st.sampled_from(list(boxes)))
        taken = {**found.taken_in, operation: {**boxes, part: moved_edge(boxes[part], draw)}}
        return replace(placed, tables=replace(found, taken_in=taken))
    if kind == "origin":
        origin, step = table.origin.copy(), draw(st.integers(0, found.steps - 1))
        origin[step:, draw(st.integers(0, 1))] += 1
        changed = replace(table, origin=origin)
    elif kind == "steps":
        order = np.arange(found.steps)
        a, b = draw(st.integers(0, found.steps - 1)), draw(st.integers(0, found.steps - 1))
        order[[a, b]] = order[[b, a]]
        changed = replace(table, new=table.new[order])
    else:
        changed = replace(table, **{kind: moved_edge(getattr(table, kind), draw)})
    shifts = np.concatenate([changed.origin, place.shifts[:, 2:]], axis=1)
    return replace(
        placed,
        tables=replace(found, of={**found.of, name: changed}),
        places={**placed.places, name: replace(place, shifts=shifts)},
    )


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_broken_group_is_refused_where_a_replay_refuses_it(data: st.DataObject) -> None:
    graph = graph_of(data.draw(networks()))
    found = tables(graph, *data.draw(cut_groups(graph)))
    placed = data.draw(broken(laid(graph, found, double_buffer=data.draw(st.booleans()))))
    assert is_proved(placed) == is_right(placed.tables, placed)
