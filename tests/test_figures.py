"""Published and hand-counted figures, from the schedule and, where it is small enough, counted by a run."""

from pathlib import Path

import pytest

from polyfuse.bench.compare import Candidate, compare
from polyfuse.loading import load_workload
from polyfuse.network.network import Network
from polyfuse.schedule.counts import Counts, counts
from polyfuse.schedule.groups import fused
from polyfuse.schedule.strategy import Strategy

KERNELS = Path(__file__).parents[1] / "kernels"


def kernel(name: str, **parameters: int) -> Network:
    return load_workload(str(KERNELS / f"{name}.py"), parameters={k: str(v) for k, v in parameters.items()})


def counted(network: Network, strategy: Strategy) -> Counts:
    (group,) = fused(network, strategy)
    return counts(group)


@pytest.mark.parametrize(
    ("strategy", "macs_executed"),
    [
        (Strategy.named("recompute", (72, 60)), 9_120_123_904),
        (Strategy((72, 60), ("recompute", "local")), 8_687_604_544),
        (Strategy((72, 60), ("recompute", "local"), placement="shifted"), 8_687_604_544),
        (Strategy.named("local", (72, 60)), 8_362_594_208),
        (Strategy.named("global", (72, 60)), 8_362_594_208),
    ],
    ids=["recompute", "columns retained first", "columns retained shifted", "local", "global"],
)
def test_fsrcnn_multiply_accumulates(strategy: Strategy, macs_executed: int) -> None:
    found = counted(kernel("fsrcnn"), strategy)
    assert found.macs == 8_362_594_208
    assert found.macs_executed == macs_executed


def test_two_convolutions_move_33536_elements_with_8032_on_chip() -> None:
    network = kernel("two_convs")
    comparison = compare(network, [Candidate("local", Strategy.named("local", (1,), "shifted"))], repeats=1)
    (row,) = comparison.rows
    assert row.counted is not None and row.mismatches == []
    moved = row.counted["offchip_read_bytes"] + row.counted["offchip_write_bytes"]
    assert moved == 33_536 * 4
    assert row.counted["onchip_bytes"] == 8_032 * 4


def test_depth_first_rows_of_sr4_move_only_input_weights_and_output() -> None:
    found = counted(kernel("sr4", rows=60, columns=80), Strategy.named("local", (1,), "shifted"))
    feature_maps = 2 * 16 * 60 * 80
    weights = 4 * (16 * 16 * 9 + 16)
    assert found.offchip_bytes == 4 * (feature_maps + weights)
    assert found.recomputed == 0
