"""The work of groups: exact against enumeration, and what recomputing and narrower tiles must change."""

from dataclasses import replace

import islpy as isl
import pytest

from polyfuse.codegen.build import Options
from polyfuse.codegen.kernel import build
from polyfuse.codegen.lower.selection import Selection, select_kernels
from polyfuse.codegen.lower.work import predicted_seconds, work_of
from polyfuse.codegen.program import generate
from polyfuse.codegen.rows.direct import Direct
from polyfuse.codegen.rows.kernel import row_work
from polyfuse.codegen.rows.shape import RowShape, Tuning
from polyfuse.codegen.rows.stencil import Stencil
from polyfuse.codegen.rows.winograd import Winograd
from polyfuse.codegen.target import Target
from polyfuse.cost.seconds import Work, guessed_costs, seconds
from polyfuse.network.network import Builder, Network
from polyfuse.network.reference import random_inputs
from polyfuse.schedule.counts import counts, total
from polyfuse.schedule.groups import fused, layer_by_layer
from polyfuse.schedule.storage import Storage
from polyfuse.schedule.strategy import Strategy
from tests.machines.example import example

TARGET = Target(4, 16)
STRATEGIES = [
    Strategy.named("recompute", (3,)),
    Strategy.named("local", (3,), "shifted"),
    Strategy.named("global", (4,), "shifted"),
    Strategy((3, 7), ("local", "recompute"), placement="shifted"),
    Strategy.named("recompute", (4, 5)),
]


def pair(channels: int = 20, size: int = 14) -> Network:
    build_ = Builder("pair")
    x = build_.input("x", (1, channels, size, size))
    conv = build_.conv("conv", x, 10, kernel=3, padding=1, activation="relu")
    return build_.network(build_.depthwise("depthwise", conv, kernel=3, stride=2, padding=1))


def stencils() -> Network:
    build_ = Builder("stencils")
    x = build_.input("x", (1, 1, 40, 40))
    return build_.network(build_.conv("second", build_.conv("first", x, 1, kernel=3, padding=1), 1, kernel=3))


def kernels(network: Network) -> Selection:
    return select_kernels(network, TARGET, "blocked", exact=True)


def works(network: Network, strategy: Strategy) -> tuple[Work, tuple[Storage, ...]]:
    groups = fused(network, strategy)
    return work_of(groups, kernels(network)), groups


@pytest.mark.parametrize("network", [pair(), stencils()], ids=["pair", "stencils"])
@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
def test_macs_are_those_that_are_executed(network: Network, strategy: Strategy) -> None:
    work, groups = works(network, strategy)
    assert work.macs == total(counts(group) for group in groups).macs_executed
    assert all(kernel.kind != "scalar" for kernel in work.kernels)


def test_macs_layer_by_layer() -> None:
    groups = layer_by_layer(pair())
    assert work_of(groups, kernels(pair())).macs == total(counts(group) for group in groups).macs


@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
def test_calls_are_those_of_an_instrumented_run(strategy: Strategy) -> None:
    network = pair()
    work, groups = works(network, strategy)
    program = generate(network, groups, kernels=kernels(network), instrumented=True)
    kernel = build(program, options=Options(flags=("-std=c11", "-O0")))
    kernel.set_inputs(random_inputs(network, 1))
    kernel.run()
    counted = {counter.name: number for counter, number in kernel.counts.items() if counter.kind == "points"}
    points = {f"0.{step.name}": step.points for step in program.groups[0].rows}
    for layer in network.layers:
        mine = [each for each in work.kernels if each.name.split(".")[1].startswith(f"{layer.name}__")]
        assert sum(points[each.name] * each.calls for each in mine) == counted[layer.output.name]


def rows_touched(network: Network, storage: Storage) -> int:
    """Every (tile, layer, tensor, row) that is read or written, from the schedule's relations, one by one."""
    found: set[tuple[object, ...]] = set()

    def add(relation: isl.Map, what: tuple[str, str]) -> None:
        tiles = relation.dim(isl.dim_type.out)

        def one(point: isl.Point) -> None:
            values = [point.get_coordinate_val(isl.dim_type.set, d).to_python() for d in range(4 + tiles)]
            found.add((*what, *values[4:], values[2]))

        relation.wrap().flatten().foreach_point(one)

    for layer in network.layers:
        for tensor in layer.inputs:
            add(storage.schedule.reads(layer, tensor), (layer.name, tensor.name))
        add(storage.schedule.flows[layer.output.name].executions, (layer.name, layer.output.name))
    return len(found)


@pytest.mark.parametrize("strategy", STRATEGIES[:3], ids=str)
def test_rows_touched_match_brute_force(strategy: Strategy) -> None:
    network = pair(channels=9, size=9)
    work, (group,) = works(network, strategy)
    tiles = range(-(-5 // strategy.tile[0]))
    weights = sum(not group.schedule.executions(layer).intersect_range(tile_of(group, t)).is_empty()
                  for layer in network.layers for t in tiles)  # fmt: skip
    assert len(work.touches) == rows_touched(network, group) + weights


def tile_of(storage: Storage, number: int) -> isl.Set:
    """The tile of one image with this number along its rows."""
    universe = isl.Set.universe(storage.schedule.tiling.space)
    return universe.fix_val(isl.dim_type.set, 0, isl.Val(0)).fix_val(isl.dim_type.set, 1, isl.Val(number))


def test_bytes_of_a_row_are_whole_blocks() -> None:
    network = pair(channels=9, size=9)
    work, _ = works(network, Strategy.named("local", (5,), "shifted"))
    written = work.touches.bytes[work.touches.writes]
    assert set(written.tolist()) == {4 * 12 * 9, 4 * 12 * 5}


def test_more_recomputing_never_costs_less() -> None:
    machine = example()
    machine = machine.__class__(**{**vars(machine), "costs": guessed_costs(machine, Target(16, 32).relative_costs)})
    times = [
        seconds(works(pair(size=28), Strategy.named(name, (rows,), "shifted"))[0], machine).compute["direct"]
        for name, rows in (("local", 2), ("recompute", 7), ("recompute", 4), ("recompute", 2), ("recompute", 1))
    ]
    assert times == sorted(times) and times[0] < times[-1]


def test_a_program_is_predicted_by_its_groups() -> None:
    network = pair()
    groups = fused(network, STRATEGIES[1])
    program = generate(network, groups, kernels=kernels(network))
    assert predicted_seconds(program, example()) == seconds(work_of(groups, kernels(network)), example()).total > 0


@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
def test_winograd_counts_the_multiply_accumulates_of_the_layer(strategy: Strategy) -> None:
    network = pair()
    groups = fused(network, strategy)
    work = work_of(groups, select_kernels(network, TARGET, "blocked", winograd={"conv": 4}))
    assert "winograd" in {kernel.kind for kernel in work.kernels}
    assert work.macs == total(counts(group) for group in groups).macs_executed


def test_vectors_of_a_row_count_its_empty_lanes() -> None:
    shape = RowShape("conv", Direct(), 16, 24, 10, kernel=(3, 3), outside=(1, 1))
    full, shared = (row_work(shape, Tuning(pixels=10, ways=ways), 16) for ways in (1, 2))
    taps = (3 * 10 - 2) * 3
    assert full.macs == shared.macs == taps * 16 * 24
    assert full.vectors == 2 * 16 * taps and shared.vectors == 1.5 * 16 * taps


def test_batches_of_tiles_read_all_weights_again() -> None:
    shape = RowShape("conv", Winograd(), 32, 48, 36, kernel=(3, 3), outside=(1, 1), height=12)
    once, thrice = (row_work(shape, Tuning(pixels=4, tile=6, batch=batch), 16) for batch in (12, 4))
    assert [moved for moved, _ in once.again] == [0]
    ((moved, away),) = thrice.again
    weights = 64 * 32 * 48 * 4
    assert moved == 2 * weights and away > weights
    assert 0 < once.transforms < thrice.transforms < 1.1 * once.transforms


def test_columns_of_stencils_at_borders_cost_more_than_vectors() -> None:
    inner = RowShape("s", Stencil(), 1, 1, 32, kernel=(3, 3), height=4)
    border = replace(inner, columns=34, outside=(1, 1))
    narrow = replace(inner, columns=2)
    one, two, few = (row_work(shape, Tuning(), 16).vectors for shape in (inner, border, narrow))
    assert two - one == few > one > 0


def test_stencils_count_every_output_row() -> None:
    shape = RowShape("s", Stencil(), 1, 1, 32, kernel=(3, 3), height=4)
    work = row_work(shape, shape.kind.tuning(shape, Target(16, 32)), 16)
    assert work.macs == 4 * 32 * 9 and work.vectors == 2 * (4 * 9 + 6 * 3)
