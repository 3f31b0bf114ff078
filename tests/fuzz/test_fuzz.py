"""A short seeded run of the fuzzer, and the fuzzer itself on planted bugs."""

from dataclasses import replace

import islpy as isl
import pytest

from polyfuse.schedule import retention, schedule, windows
from tests.fuzz.case import Case, GroupOf, LayerOf
from tests.fuzz.draw import draw
from tests.fuzz.run import run_cases
from tests.fuzz.shrink import as_test, shrink

CHAIN = Case(
    inputs=((1, 2, 9, 8),),
    layers=(
        LayerOf("conv", (0,), {"channels": 2, "kernel": 3, "padding": 1, "activation": "relu"}),
        LayerOf("activation", (1,), {"spec": "tanh"}),
        LayerOf("conv", (2,), {"channels": 1, "kernel": (3, 2)}),
    ),
    groups=(GroupOf(3, (2,), ("local",), {"x0": ("recompute",)}),),
)


def test_seeded_cases_agree_with_the_oracles() -> None:
    outcome = run_cases([draw(seed) for seed in range(48)])
    assert [f"{failure.kind}: {failure.message}\n{failure.case}" for failure in outcome.failures] == []
    wanted = ("interpreted", "threads", "in place", "rows", "blocked rows", "winograd rows", "mixed tiles")
    assert all(outcome.checks[check] > 2 for check in wanted), outcome.checks


def test_a_ring_one_row_short_is_found_and_shrunk(monkeypatch: pytest.MonkeyPatch) -> None:
    window = windows.Conflicts.window
    monkeypatch.setattr(windows.Conflicts, "window", lambda self, d: max(1, window(self, d) - 1))
    (found,) = run_cases([CHAIN]).failures
    assert "IllegalSchedule" in found.kind
    monkeypatch.setattr("tests.fuzz.run.check", lambda storage: None)
    assert_found_and_shrunk("values")


def test_an_off_by_one_in_retain_is_found_and_shrunk(monkeypatch: pytest.MonkeyPatch) -> None:
    first = retention.first_along

    def late(relation: isl.Map, kept: frozenset[int]) -> isl.Map:
        rest = relation.subtract(first(relation, kept))
        return (
            first(relation, kept)
            if rest.is_empty() or not kept
            else first(rest, kept).union(first(relation, kept).subtract_domain(rest.domain()))
        )

    monkeypatch.setattr(retention, "first_along", late)
    assert run_cases([CHAIN]).failures
    monkeypatch.setattr("tests.fuzz.run.check", lambda storage: None)
    assert_found_and_shrunk("values")


def test_a_dropped_load_is_found_and_shrunk(monkeypatch: pytest.MonkeyPatch) -> None:
    input_flow = schedule.input_flow

    def dropped(*arguments: object) -> schedule.Flow:
        flow = input_flow(*arguments)  # type: ignore[arg-type]
        loads = flow.loads.subtract(flow.loads.lexmin().intersect_domain(last_row(flow.tensor)))
        return replace(flow, loads=loads, arrivals=loads)

    monkeypatch.setattr(schedule, "input_flow", dropped)
    (found,) = run_cases([CHAIN]).failures
    assert "IllegalSchedule" in found.kind
    monkeypatch.setattr("tests.fuzz.run.check", lambda storage: None)
    assert_found_and_shrunk("values")


def last_row(tensor: schedule.Tensor) -> isl.Set:
    """The elements of the last row of an image."""
    return tensor.box.fix_val(isl.dim_type.set, 2, isl.Val(tensor.concrete_shape[2] - 1))


def assert_found_and_shrunk(kind: str) -> None:
    """The chain fails in this way, a smaller case fails in the same way, and its text is a test."""
    (found,) = run_cases([CHAIN]).failures
    assert found.kind == kind
    smaller = shrink(found, seconds=20).case
    assert len(smaller.layers) < len(CHAIN.layers) and sum(smaller.inputs[0]) < sum(CHAIN.inputs[0])
    names: dict[str, object] = {"Case": Case, "GroupOf": GroupOf, "LayerOf": LayerOf}
    exec(as_test(found).replace("assert", "return case #"), names)
    (test,) = (function for name, function in names.items() if name.startswith("test_"))
    assert test() == CHAIN  # type: ignore[operator]
