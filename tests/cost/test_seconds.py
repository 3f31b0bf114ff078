"""The time model: distances of reuse against a brute force, and what must not make a run cheaper."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyfuse.cost.reuse import BLOCK, Touches, distances
from polyfuse.cost.seconds import Amounts, KernelWork, Work, guessed_costs, missing, seconds
from polyfuse.errors import InvalidInput
from polyfuse.machines.host import Costs, Machine
from tests.machines.example import example


def touches(things: list[int], sizes: list[int], writes: bool = False) -> Touches:
    of = np.array(things, np.int64)
    ones = np.ones(len(of), np.int64)
    return Touches(of, np.array(sizes, np.int64)[of], ones, np.full(len(of), writes), 0 * ones)


def brute_distances(things: list[int], sizes: list[int]) -> list[int]:
    """The bytes of all different things from the last touch of one to this one, in the second of two runs."""
    twice = [*things, *things]
    found = []
    for k in range(len(things), len(twice)):
        last = max(j for j in range(k) if twice[j] == twice[k])
        found.append(sum(sizes[thing] for thing in set(twice[last:k])))
    return found


@given(st.lists(st.integers(0, 7), max_size=60))
def test_distances_match_brute_force(things: list[int]) -> None:
    sizes = [3, 5, 1, 8, 2, 9, 4, 7]
    assert distances(touches(things, sizes)).tolist() == brute_distances(things, sizes)


def test_distances_match_brute_force_over_several_blocks() -> None:
    things = np.random.default_rng(0).integers(0, 40, 3 * BLOCK + 7).tolist()
    sizes = list(range(1, 41))
    assert distances(touches(things, sizes)).tolist() == brute_distances(things, sizes)


IDLE = KernelWork("idle", "apply", 0, 0, 0.0, 0)


def work(*kernels: KernelWork, things: list[int] | None = None, size: int = 1000) -> Work:
    used = things or []
    return Work(kernels or (IDLE,), touches(used, [size] * (max(used, default=0) + 1)))


def machine() -> Machine:
    return replace(example(), costs=guessed_costs(example(), {"direct": 1.1, "apply": 1.1}))


CONV = KernelWork("conv", "direct", 10, 5000, 400.0, 20)


def test_parts_add_up_to_the_root_of_the_sum_of_squares() -> None:
    costs = Costs({"direct": 0.5, "chunk": 3.0, "call": 10.0}, {"DRAM read": 0.25, "DRAM run": 7.0}, {"L1": 100})
    found = seconds(work(CONV, things=[0, 1, 0, 1]), replace(example(), costs=costs))
    computing, moving = 200 + 60 + 100, 1000 + 28
    total = math.sqrt(computing**2 + moving**2)
    shares = {"direct": 200e-9, "chunk": 60e-9, "call": 100e-9}
    assert found.compute == pytest.approx({name: part * computing / total for name, part in shares.items()})
    shares = {"DRAM read": 1000e-9, "DRAM run": 28e-9}
    assert found.memory == pytest.approx({name: part * moving / total for name, part in shares.items()})
    assert found.total == pytest.approx(total * 1e-9)


def test_kernels_hide_what_is_their_own() -> None:
    costs = Costs({"direct": 1.0, "chunk": 0.0, "call": 0.0}, {"DRAM read": 1.0, "DRAM run": 0.0}, {"L1": 100})
    priced = replace(example(), costs=costs)
    busy, idle = replace(CONV, vectors=4000.0), IDLE
    read = replace(touches([0, 1, 2], [1000] * 3), kernels=np.array([1, 1, 1]))
    together, apart = Work((idle, busy), read), Work((busy, idle), read)
    assert seconds(together, priced).total == pytest.approx(5000e-9)
    assert seconds(apart, priced).total == pytest.approx(7000e-9)


@pytest.mark.parametrize(("away", "level"), [(100, None), (10**9, "DRAM read")])
def test_what_is_read_again_comes_from_the_cache_that_holds_it(away: int, level: str | None) -> None:
    kernel = replace(IDLE, again=((500, away), (1500, away)))
    found = seconds(work(kernel), machine()).memory
    per_byte = guessed_costs(example(), {"direct": 1.1, "apply": 1.1}).memory
    assert found == pytest.approx({} if level is None else {level: 2000e-9 * per_byte[level]})


@given(st.lists(st.floats(0, 10), min_size=8, max_size=8))
def test_the_linear_time_is_exact_at_its_costs_and_its_gradient_there(values: list[float]) -> None:
    table = Amounts(np.array([[3.0, 1.0], [0.0, 2.0]]), np.array([[1.0, 0.0], [5.0, 1.0]]))

    def time(at: np.ndarray) -> float:
        return float(np.hypot(table.compute @ at[:2], table.memory @ at[2:]).sum())

    costs, step = np.array(values[:4]) + 0.1, np.array(values[4:]) * 1e-6
    worth = np.concatenate(table.linearised(costs[:2], costs[2:]))
    assert worth @ costs == pytest.approx(time(costs))
    assert worth @ step == pytest.approx(time(costs + step) - time(costs), rel=1e-3, abs=1e-9)


def test_what_stays_in_the_first_cache_is_free() -> None:
    small, large = (seconds(work(things=[0, 1, 2] * 9, size=size), machine()).total for size in (1000, 100_000))
    assert small == 0 < large


@given(st.integers(1, 10**6), st.integers(1, 10**6), st.integers(1, 10**6))
def test_farther_touches_and_smaller_caches_never_miss_less(near: int, more: int, held: int) -> None:
    close, far = missing(np.array([near, near + more]), held)
    assert 0 <= close <= far <= 1
    assert missing(np.array([near]), held + more)[0] <= close


@pytest.mark.parametrize("name", ["calls", "vectors", "chunks"])
def test_more_work_never_costs_less(name: str) -> None:
    more = replace(CONV, **{name: 2 * getattr(CONV, name)})
    assert seconds(work(more), machine()).total > seconds(work(CONV), machine()).total


def test_threads_share_what_can_be_shared() -> None:
    alone = seconds(work(CONV), machine(), threads=2).total
    shared = seconds(work(replace(CONV, threads=True)), machine(), threads=2).total
    assert shared == pytest.approx(alone / 2)


def test_costs_come_back_from_a_machine_file() -> None:
    assert Machine.from_toml(machine().to_toml()) == machine()


@pytest.mark.parametrize(
    "costs", [({"direct": -1.0}, {}, {}), ({}, {"L2 read": float("nan")}, {}), ({}, {}, {"L1": 0})]
)
def test_impossible_costs_are_refused(costs: tuple[dict[str, float], dict[str, float], dict[str, int]]) -> None:
    with pytest.raises(InvalidInput, match=r"costs: expected .*; correct it"):
        Costs(*costs)


def test_a_file_with_impossible_costs_is_refused_in_one_line() -> None:
    text = machine().to_toml().replace("chunk = ", "chunk = -", 1)
    with pytest.raises(InvalidInput, match=r"machine file\.costs: costs: expected 'chunk'"):
        Machine.from_toml(text)
