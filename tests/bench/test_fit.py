"""Fitting the costs of the time model: what made the times is found again, disturbed samples or not."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyfuse.bench.fit import Sample, chains, fitted, non_negative, ways
from polyfuse.bench.model import PredictedChoice, PredictedChoices, thinned
from polyfuse.codegen.lower.selection import select_kernels
from polyfuse.codegen.rows.catalogue import VECTOR_KINDS
from polyfuse.codegen.target import Target
from polyfuse.cost.reuse import Touches
from polyfuse.cost.seconds import KernelWork, Work, guessed_costs, seconds
from tests.machines.example import example

NOTHING = Touches.joined([])
GUESS = guessed_costs(example(), Target(16, 32).relative_costs)


def sample(number: int, vectors: float, chunks: int, calls: int) -> Sample:
    work = Work((KernelWork("k", "direct", calls, 0, vectors, chunks),), NOTHING)
    true = GUESS
    true = replace(true, compute={**true.compute, "direct": 2 * true.compute["direct"]})
    return Sample(str(number), work, seconds(work, replace(example(), costs=true)).total)


def samples() -> list[Sample]:
    random = np.random.default_rng(0)
    return [sample(k, *(int(n) for n in random.integers((10_000, 10, 1), (90_000, 100, 9)))) for k in range(40)]


@pytest.mark.parametrize("disturbed", [0, 5])
def test_costs_that_made_the_times_are_found(disturbed: int) -> None:
    measured = [replace(s, seconds=s.seconds * (1.6 if k < disturbed else 1)) for k, s in enumerate(samples())]
    costs = fitted(measured, GUESS, example())
    assert costs.compute["direct"] == pytest.approx(2 * GUESS.compute["direct"], rel=0.05)


def test_what_samples_do_not_tell_stays_as_guessed() -> None:
    costs = fitted(samples(), GUESS, example())
    assert costs.compute["depthwise"] == pytest.approx(GUESS.compute["depthwise"], rel=1e-3)
    assert costs.memory["DRAM read"] == pytest.approx(GUESS.memory["DRAM read"], rel=1e-3)


@given(st.lists(st.lists(st.floats(-2, 2), min_size=3, max_size=3), min_size=3, max_size=6))
def test_no_non_negative_vector_near_by_is_better(rows: list[list[float]]) -> None:
    a = np.array(rows)
    b = np.ones(len(rows))
    x = non_negative(a, b)
    assert (x >= 0).all()
    residual = float(np.sum((a @ x - b) ** 2))
    for step in (*np.eye(3), *-np.eye(3)):
        other = np.maximum(x + 1e-3 * step, 0)
        assert float(np.sum((a @ other - b) ** 2)) >= residual - 1e-9


def test_chains_hold_every_kind_of_row_kernel_but_the_plain_ones() -> None:
    target = Target(16, 32)
    kinds = {
        kind.name
        for network, layout, exact in chains()
        for kind in select_kernels(network, target, layout, exact=exact).kinds.values()
    }
    assert kinds >= {kind.name for kind in VECTOR_KINDS} - {"to_blocked", "to_planar"}
    network, layout, exact = chains()[0]
    assert len(dict(ways(network, select_kernels(network, target, layout, exact=exact)))) == 8


def test_a_sweep_tells_what_it_picked_and_what_was_best() -> None:
    found = PredictedChoices(
        "w", (PredictedChoice("a", 1.0, 1.1), PredictedChoice("b", 1.2, 1.0), PredictedChoice("c", 3.0, 3.0))
    )
    assert (found.picked.label, found.best.label) == ("a", "b")
    assert found.mean_error == pytest.approx((1 / 11 + 0.2 + 0) / 3)
    assert len(thinned(range(100), 10)) <= 10 and thinned(range(5), 10) == [0, 1, 2, 3, 4]  # type: ignore[arg-type]
