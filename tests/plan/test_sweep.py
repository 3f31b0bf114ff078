"""Sweeps: what they find, in whatever executor, and what a file of an earlier one is good for."""

import json
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from polyfuse.errors import InvalidInput
from polyfuse.network.network import Network
from polyfuse.plan.planning import plan_for
from polyfuse.plan.price.objective import Objective
from polyfuse.plan.search.baselines import NAMES
from polyfuse.plan.sweep import Sweep, read_sweep, sweep
from tests import effort
from tests.plan.planned import branches, machine, residual

pytestmark = pytest.mark.usefixtures("full_effort")

CAPACITIES = (1024, 8192, 16384, 65536)


class Killed(Exception):
    """What kills a sweep in these tests."""


class Counting(ThreadPoolExecutor):
    """Threads that count what they are given, and fail from some task on."""

    def __init__(self, until: int = 1000) -> None:
        super().__init__(1)
        self.until, self.given = until, 0

    def submit(self, call: Any, /, *values: Any, **named: Any) -> Future[Any]:
        self.given += 1
        if self.given > self.until:
            return super().submit(self._fail)
        return super().submit(call, *values, **named)

    @staticmethod
    def _fail() -> None:
        raise Killed


def swept(network: Network, capacities: tuple[int, ...] = CAPACITIES, **more: Any) -> Sweep:
    with Counting() as threads:
        return sweep(network, machine(), capacities, dtype="int8", executor=threads, **more)


@pytest.fixture(scope="module")
def found() -> Sweep:
    with pytest.MonkeyPatch.context() as patch:
        effort.use(patch, effort.FULL)
        return swept(residual())


def test_points_are_plans_of_their_capacities(found: Sweep) -> None:
    assert [point.capacity_bytes for point in found.points] == list(CAPACITIES)
    for point in found.points[1:]:
        plan = plan_for(residual(), machine(point.capacity_bytes), dtype="int8", baselines=True)
        assert (point.totals, point.certificate, point.baselines) == (plan.totals, plan.certificate, plan.baselines)
        assert tuple(point.baselines) == NAMES


def test_a_capacity_that_does_not_do_says_which_would(found: Sweep) -> None:
    point = found.points[0]
    assert point.totals is None and point.baselines == {}
    assert point.refusal is not None and "are the smallest capacity that would do" in point.refusal


def test_the_curve_has_the_points_that_are_better_than_all_smaller_ones(found: Sweep) -> None:
    latencies = [(p.capacity_bytes, p.totals.latency_cycles) for p in found.points if p.totals is not None]
    expected = [c for k, (c, cycles) in enumerate(latencies) if all(cycles < other for _, other in latencies[:k])]
    assert [point.capacity_bytes for point in found.best] == expected
    assert [cycles for _, cycles in latencies] == sorted((cycles for _, cycles in latencies), reverse=True)


def test_json_is_read_as_it_was_written(found: Sweep) -> None:
    assert Sweep.from_json(found.to_json()) == found


def test_points_that_are_in_a_file_are_not_planned_again(found: Sweep, tmp_path: Path) -> None:
    file = tmp_path / "sweep.json"
    with Counting(until=2) as dying, pytest.raises(Killed):
        sweep(residual(), machine(), CAPACITIES, dtype="int8", executor=dying, file=file)
    assert len(read_sweep(file).points) == 2
    with Counting() as threads:
        again = sweep(residual(), machine(), CAPACITIES, dtype="int8", executor=threads, file=file)
        assert threads.given == 2 and again == found
        sweep(residual(), machine(), CAPACITIES[1:], dtype="int8", executor=threads, file=file)
        assert threads.given == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"network": branches()}, "expected points of network 'branches', got 'residual'"),
        ({"machine": machine(name="npu")}, "machine 'npu', got 'npu-memory-bound'"),
        ({"objective": Objective("bytes")}, "objective 'bytes', got 'latency'"),
        ({"dtype": "float32"}, "expected points of .*name another file"),
        ({"longest": 2}, "longest '2', got '8'"),
    ],
    ids=["network", "machine", "objective", "dtype", "longest"],
)
def test_a_file_of_something_else_is_refused(
    found: Sweep, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    file = tmp_path / "sweep.json"
    file.write_text(found.to_json())
    asked: dict[str, Any] = {"network": residual(), "machine": machine(), "dtype": "int8", "capacities": (8192,)}
    with pytest.raises(InvalidInput, match=message):
        sweep(**{**asked, **change}, file=file)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected JSON"),
        ("[]", "expected an object, got list"),
        ('{"format": "polyfuse-plan", "version": 1}', "expected format 'polyfuse-scratchpad-sweep' version 1, got"),
        (json.dumps({"format": "polyfuse-scratchpad-sweep", "version": 1, "more": 1}), "unknown 'more'"),
    ],
)
def test_a_file_that_is_no_sweep_is_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "sweep.json"
    file.write_text(text)
    with pytest.raises(InvalidInput, match=message):
        read_sweep(file)


@pytest.mark.parametrize("capacities", [(), (0,), (-1, 64)])
def test_capacities_have_to_be_there(capacities: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInput, match="expected capacities of 1 B or more"):
        swept(residual(), capacities)


def test_fresh_processes_find_the_same(found: Sweep) -> None:
    assert sweep(residual(), machine(), CAPACITIES[1:3], dtype="int8").points == found.points[1:3]


def test_a_dask_cluster_finds_the_same(found: Sweep) -> None:
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        assert swept_by(client.get_executor()) == found


def swept_by(executor: Any) -> Sweep:
    return sweep(residual(), machine(), CAPACITIES, dtype="int8", executor=executor)
