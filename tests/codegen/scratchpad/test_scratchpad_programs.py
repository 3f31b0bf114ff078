"""Plans as C on the simulated machine: what they compute, move and take equals what they should."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from polyfuse.codegen.build import Options
from polyfuse.codegen.scratchpad.kernel import Simulated, build_program
from polyfuse.machines.accelerator import Accelerator, accelerator
from polyfuse.network.network import Builder, Network
from polyfuse.network.reference import max_relative_error, random_inputs, run
from polyfuse.plan.graph.operations import graph_of
from polyfuse.plan.tiles.tables import Tile
from tests.codegen.scratchpad.networks import branches, chain, classifier, squeeze
from tests.codegen.scratchpad.placing import Placed, placed

NPU = accelerator("npu")
AGAIN = ("recompute", "recompute")
BY_COLUMNS = ("local", "local")
ALONG_ROWS = ("recompute", "local")


def simulated(plan: Placed) -> Simulated:
    """A run on random inputs, whose outputs are compared with the reference, and what it takes with the prices."""
    program, network = plan.program, plan.program.graph.network
    inputs = random_inputs(network, 1)
    outputs, taken = build_program(program, Options(flags=("-std=c11", "-O0")))(**inputs)
    expected = run(network, inputs)
    assert set(outputs) == {tensor.name for tensor in network.outputs}
    for name, value in outputs.items():
        assert max_relative_error(value, expected[name]) < 2e-6
    assert sum(taken.loaded.values()) == sum(option.load_bytes for option in plan.options)
    assert sum(taken.stored.values()) == sum(option.store_bytes for option in plan.options)
    assert taken.weight_bytes == sum(option.weight_bytes for option in plan.options)
    summed = {operation.name for operation in program.graph.operations if operation.layer.macs}
    assert sum(taken.work[name] for name in summed) == sum(option.macs_executed for option in plan.options)
    assert taken.peak_bytes <= program.machine.capacity_bytes
    assert taken.cycles == pytest.approx(plan.cycles, rel=1e-9)
    return taken


def retained(network: Network, places: tuple[str, str]) -> dict[str, tuple[str, str]]:
    return {t.name: places for t in (*network.inputs, *(layer.output for layer in network.layers))}


TILES = [
    Tile(5),
    Tile(2),
    Tile(1),
    Tile(2, 3),
    Tile(3, retention=retained(chain(), AGAIN)),
    Tile(2, 5, retention=retained(chain(), AGAIN)),
    Tile(2, 3, retention=retained(chain(), BY_COLUMNS)),
    Tile(2, 4, retention={**retained(chain(), AGAIN), "c1_out": ALONG_ROWS}),
    Tile(1, 1, retention=retained(chain(), ALONG_ROWS)),
    Tile(1, 1, retention={**retained(chain(), ALONG_ROWS), "dw_out": BY_COLUMNS, "c2_out": BY_COLUMNS}),
]


@pytest.mark.parametrize("dtype", [None, "int8"])
@pytest.mark.parametrize("tile", TILES, ids=str)
def test_tiles_and_retentions_compute_the_reference(tile: Tile, dtype: str | None) -> None:
    program = placed(graph_of(chain(), dtype), NPU, [(("c1", "dw", "pool", "c2"), tile)], dtype=dtype)
    taken = simulated(program)
    each = 4 if dtype is None else 1
    assert taken.stored == {"c2_out": 6 * 7 * 6 * each}
    if tile.columns == 0 and not tile.retention:
        assert taken.loaded == {"x": 4 * 40 * 24 * each}
        assert taken.elements == {"c1": 8 * 20 * 12, "dw": 8 * 21 * 11, "pool": 8 * 11 * 6, "c2": 6 * 7 * 6}


@pytest.mark.parametrize("engines", [1, 2])
@pytest.mark.parametrize("double", [True, False])
@pytest.mark.parametrize(
    ("make", "groups", "pinned", "both"),
    [
        (squeeze, [("e", "d", "g"), ("s1", "s2", "m", "p")], (), ()),
        (squeeze, [("e", "d", "g", "s1", "s2"), ("m", "p")], ("d_out", "s2_out"), ()),
        (lambda: squeeze(3), [("e", "d", "g", "s1", "s2"), ("m", "p")], ("d_out", "s2_out"), ("d_out",)),
        (branches, [("a", "b0", "b", "q0", "q", "z", "y", "r", "end")], (), ()),
        (branches, [("a", "b0", "b", "q0", "q", "z"), ("y", "r", "end")], ("z_out",), ("z_out",)),
        (branches, [("q0", "q"), ("a", "b0", "b"), ("z", "y"), ("r", "end")], ("q_out", "a_out"), ()),
    ],
)
def test_groups_and_pins_compute_the_reference(
    make: Callable[[], Network],
    groups: Sequence[Sequence[str]],
    pinned: Sequence[str],
    both: Sequence[str],
    double: bool,
    engines: int,
) -> None:
    network = make()
    machine = replace(NPU, double_buffer=double, dma_engines=engines)
    graph = graph_of(network, "int8")
    taken = simulated(placed(graph, machine, [(group, Tile(2)) for group in groups], pinned, both, "int8"))
    alone = set(pinned) - set(both)
    assert not alone & (set(taken.loaded) | set(taken.stored))
    for tensor in network.outputs:
        assert taken.stored[tensor.name] == graph.tensors[tensor.name].bytes


WHOLE = {"chain": chain, "branches": branches, "squeeze": lambda: squeeze(2), "classifier": classifier}


@pytest.mark.parametrize(
    "tile", [Tile(1), Tile(1, 0, 3), Tile(1, weights="streamed")], ids=["rows", "blocks", "streamed"]
)
@pytest.mark.parametrize("make", WHOLE.values(), ids=WHOLE.keys())
def test_operations_by_themselves_compute_the_reference(make: Callable[[], Network], tile: Tile) -> None:
    network = make()
    graph = graph_of(network)
    groups: list[tuple[tuple[str, ...], Tile]] = []
    for operation in graph.operations:
        channels = graph.tensors[operation.output].shape[1]
        even = operation.weight_bytes % channels == 0
        groups.append(((operation.name,), replace(tile, channels=min(tile.channels, channels) if even else 0)))
    taken = simulated(placed(graph, NPU, groups))
    assert taken.weight_bytes >= sum(operation.weight_bytes for operation in graph.operations)
    assert taken.elements == {o.name: graph.tensors[o.output].bytes // 4 for o in graph.operations}


@pytest.mark.parametrize("engines", [1, 2])
@pytest.mark.parametrize("rows", [1, 4])
def test_time_is_that_of_the_slower_of_transfers_and_computation_in_every_step(rows: int, engines: int) -> None:
    """One 1x1 convolution: every step loads rows, computes as many and stores them."""
    build = Builder("one")
    network = build.network(build.conv("c", build.input("x", (1, 16, 12, 20)), 32, kernel=1))
    machine = replace(NPU, dma_engines=engines)
    taken = simulated(placed(graph_of(network), machine, [(("c",), Tile(rows))]))
    wait, rate = machine.offchip.latency_cycles, machine.offchip.bytes_per_cycle
    load, store = (wait + 4 * channels * rows * 20 / rate for channels in (16, 32))
    compute = 16 * 32 * rows * 20 / machine.rate("conv", "float32")
    steps = 12 // rows
    first, last = wait + 4 * (16 * 32 + 32) / rate + load, store
    expected = first + last
    for step in range(steps):
        moving = (load * (step + 1 < steps), store * (step > 0))
        expected += max(compute, sum(moving) if engines == 1 else max(moving))
    assert taken.cycles == pytest.approx(expected, rel=1e-12)


def test_two_engines_are_never_slower_and_double_buffering_never_hurts() -> None:
    def cycles(machine: Accelerator) -> float:
        return simulated(placed(graph_of(chain()), machine, [(("c1", "dw", "pool", "c2"), Tile(1))])).cycles

    in_turn, one, two = cycles(replace(NPU, double_buffer=False)), cycles(NPU), cycles(replace(NPU, dma_engines=2))
    assert two < one < in_turn
