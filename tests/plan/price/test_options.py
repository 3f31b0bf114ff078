"""Options of groups: prices equal sums over their steps, isl's counts and published figures; what they may never do."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import polyfuse as pf
from polyfuse.errors import InvalidInput
from polyfuse.machines.accelerator import Accelerator, Memory, accelerator
from polyfuse.network.network import Builder
from polyfuse.network.operator import window_of
from polyfuse.plan.graph.group import OperationGroup, group_of
from polyfuse.plan.graph.operations import Graph, graph_of
from polyfuse.plan.price.candidates import KINDS
from polyfuse.plan.price.costs import Source, block_channels
from polyfuse.plan.price.options import Option, Pricer, option_of, options
from polyfuse.plan.price.space import blocks_of
from polyfuse.plan.tiles.measures import Measures
from polyfuse.plan.tiles.tables import Tables, Tile, grid_of, tables
from tests.plan.tiles.test_tiles import networks

KERNELS = Path(__file__).parents[3] / "kernels"
AGAIN = ("recompute", "recompute")


def plain() -> Accelerator:
    """A machine of round numbers without double buffering or alignment."""
    rates = {cls: {"int8": 2.0, "float32": 0.5} for cls in ("conv", "depthwise", "matmul", "pool", "elementwise")}
    return replace(
        accelerator("npu"),
        alignment_bytes=1,
        double_buffer=False,
        onchip=Memory(1.0, 0.0, 1.0),
        offchip=Memory(4.0, 8.0, 100.0),
        rates=rates,
        mac_pj={"int8": 0.5, "float32": 3.0},
    )


def two_convs() -> Graph:
    """Two valid 3x3 convolutions of 16 channels on 32 x 32, in int8."""
    build = Builder("two")
    x = build.input("x", (1, 16, 32, 32))
    a = build.conv("a", x, 16, kernel=3, bias=False)
    return graph_of(build.network(build.conv("b", a, 16, kernel=3, bias=False)), "int8")


def area(boxes: np.ndarray, step: int) -> int:
    """Rows x columns of a box."""
    top, bottom, left, right = boxes[step].tolist()
    return (bottom - top) * (right - left)


def wrapped(found: Tables, tensor: str, boxes: np.ndarray, window: tuple[int, int], step: int) -> int:
    """1 where the rows or columns of a box are not in one piece in the ring."""
    table = found.of[tensor]
    begin, end = (0, 1) if table.turning == 0 else (2, 3)
    cells = (np.arange(boxes[step, begin], boxes[step, end]) + table.origin[step, table.turning]) % window[
        table.turning
    ]
    return int((np.diff(cells) != 1).any())


class ByHand:
    """The price of an option step by step, in plain sums."""

    def __init__(self, graph: Graph, option: Option, machine: Accelerator) -> None:
        self.graph, self.option, self.machine = graph, option, machine
        self.found = tables(graph, option.group, option.tile)
        self.group = self.found.group
        self.double = machine.double_buffer

    def window(self, tensor: str) -> tuple[int, int]:
        """The ring of a tensor, with room for what is transferred meanwhile."""
        return self.found.of[tensor].window(
            ahead=self.double and self.option.sources.get(tensor) == "off",
            behind=self.double and self.option.sinks.get(tensor) in ("off", "both"),
        )

    def depth(self, tensor: str, step: int) -> int:
        """The channels of a step."""
        start, end = self.found.of[tensor].channels[step].tolist()
        return end - start

    def moved(self, tensor: str, step: int) -> int:
        """The bytes of a tensor that are loaded or stored in a step."""
        table = self.found.of[tensor]
        boxes = table.new if tensor in self.option.sources else table.fresh
        return area(boxes, step) * self.depth(tensor, step) * self.graph.tensors[tensor].element_bytes

    def transfer(self, tensor: str, step: int) -> float:
        """The cycles that takes."""
        size, table = self.moved(tensor, step), self.found.of[tensor]
        if not size:
            return 0.0
        pieces = 1
        if "off" in (self.option.sources.get(tensor), self.option.sinks.get(tensor)):
            boxes = table.new if tensor in self.option.sources else table.fresh
            pieces += wrapped(self.found, tensor, boxes, self.window(tensor), step)
        return pieces * self.machine.offchip.latency_cycles + size / self.machine.offchip.bytes_per_cycle

    def loaded(self) -> list[str]:
        return [name for name, source in self.option.sources.items() if source == "off"]

    def stored(self) -> list[str]:
        return [name for name, sink in self.option.sinks.items() if sink != "on"]

    def load_bytes(self) -> int:
        return sum(self.moved(name, step) for name in self.loaded() for step in range(self.found.steps))

    def store_bytes(self) -> int:
        return sum(self.moved(name, step) for name in self.stored() for step in range(self.found.steps))

    def rings(self) -> int:
        """The bytes of all rings."""
        kept = {name for name, source in self.option.sources.items() if source == "on"}
        kept |= {name for name, sink in self.option.sinks.items() if sink != "off"}
        total = 0
        for name in set(self.found.of) - kept:
            rows, columns = self.window(name)
            depth = max((self.depth(name, step) for step in range(self.found.steps)), default=0)
            total += rows * columns * depth * self.graph.tensors[name].element_bytes
        return total


machines = st.sampled_from(["npu", "mcu-320k", "two engines"])


def machine_named(name: str) -> Accelerator:
    """A shipped machine, or one with two engines, aligned to single bytes."""
    found = accelerator("npu" if name == "two engines" else name)
    return replace(found, alignment_bytes=1, dma_engines=2 if name == "two engines" else 1)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_prices_are_sums_over_the_steps_of_tables(data: st.DataObject) -> None:
    graph = graph_of(data.draw(networks()), "int8")
    names = [operation.name for operation in graph.operations]
    first = data.draw(st.integers(0, len(names) - 1))
    group = group_of(graph, names[first : data.draw(st.integers(first, len(names) - 1)) + 1])
    machine = machine_named(data.draw(machines))
    sources = {name: data.draw(st.sampled_from(["on", "off"])) for name in group.inputs}
    sinks = {name: data.draw(st.sampled_from(["on", "off", "both"])) for name in group.outputs}
    chosen = [operation.name for operation in group.operations]
    found = options(graph, chosen, sources, sinks, machine)
    assert found
    for option in found:
        assert option == option_of(graph, chosen, option.tile, sources, sinks, machine)
        check_by_hand(ByHand(graph, option, machine))


def check_by_hand(hand: ByHand) -> None:
    """An option's bytes, work, buffers and cycles are those of its steps."""
    option, machine, found = hand.option, hand.machine, hand.found
    assert option.load_bytes == hand.load_bytes() and option.store_bytes == hand.store_bytes()
    assert sum(size for name, size in option.workspace.items() if name.startswith("ring_")) == hand.rings()
    assert option.workspace_bytes == sum(option.workspace.values())
    macs, compute = 0, np.zeros(found.steps)
    for operation in hand.group.operations:
        for step in range(found.steps):
            work = work_by_hand(hand, operation.name, step)
            macs += work if operation.layer.macs else 0
            compute[step] += work / machine.rate(operation.cls, "int8")
    assert option.macs_executed == macs
    streams = option.tile.weights == "streamed" or option.tile.channels or hand.group.late
    if not streams:
        every = sum(operation.weight_bytes for operation in hand.group.operations)
        assert option.weight_bytes == (0 if machine.weights_in_place else every)
        assert option.cycles == pytest.approx(cycles_by_hand(hand, compute))


def work_by_hand(hand: ByHand, name: str, step: int) -> int:
    """Instances of the statements that count, point by point."""
    operation, found = hand.graph.operation(name), hand.found
    if name in found.taken_in:
        first, end = found.of[operation.output].channels[step].tolist()
        return sum(
            area(found.taken_in[name][part.tensor], step)
            * max(0, min(end, part.offset + part.channels) - max(first, part.offset))
            for part in operation.operands[0]
        )
    table = found.of[operation.output]
    if operation.cls == "elementwise":
        return area(table.new, step) * hand.depth(operation.output, step)
    shape = operation.layer.inputs[0].concrete_shape[2:]
    window = window_of(operation.layer.operator)
    assert window is not None
    kernel, stride, padding = window.kernel, window.stride, window.padding
    top, bottom, left, right = table.new[step].tolist()
    taps = [
        sum(0 <= stride[d] * p + k - padding[d] < shape[d] for p in range(*ends) for k in range(kernel[d]))
        for d, ends in enumerate(((top, bottom), (left, right)))
    ]
    per_channel = operation.layer.inputs[0].concrete_shape[1] if operation.cls == "conv" else 1
    return taps[0] * taps[1] * hand.depth(operation.output, step) * per_channel


def cycles_by_hand(hand: ByHand, compute: np.ndarray) -> float:
    """The latency of a group whose weights are kept, by the formulas of docs/use/accelerators.md."""
    machine, steps = hand.machine, hand.found.steps
    load = [sum(hand.transfer(name, step) for name in hand.loaded()) for step in range(steps)]
    store = [sum(hand.transfer(name, step) for name in hand.stored()) for step in range(steps)]
    weights = [o.weight_bytes for o in hand.group.operations if o.weight_bytes and not machine.weights_in_place]
    total = sum(machine.offchip.latency_cycles + size / machine.offchip.bytes_per_cycle for size in weights)
    if not machine.double_buffer:
        return total + sum(load) + sum(store) + float(compute.sum())
    total += load[0] + store[-1]
    for step in range(steps):
        following = load[step + 1] if step + 1 < steps else 0.0
        previous = store[step - 1] if step else 0.0
        together = max(following, previous) if machine.dma_engines == 2 else following + previous
        total += max(float(compute[step]), together)
    return total


def test_two_convs_in_single_rows_are_as_published() -> None:
    machine = plain()
    option = option_of(two_convs(), ("a", "b"), Tile(1), {"x": "off"}, {"b_out": "off"}, machine)
    assert option.offchip_bytes == 33_536
    assert option.workspace_bytes - option.workspace["scratch"] == 8_032
    assert option.workspace["weights_a"] + option.workspace["weights_b"] == 4_608
    assert option.macs_executed == (30 * 30 + 28 * 28) * 16 * 16 * 9


@pytest.mark.parametrize(
    ("retention", "macs"),
    [(("local", "local"), 8_362_594_208), (AGAIN, 9_120_123_904), (("recompute", "local"), 8_687_604_544)],
)
def test_fsrcnn_executes_the_published_multiply_accumulates(retention: tuple[str, str], macs: int) -> None:
    graph = graph_of(pf.load_workload(str(KERNELS / "fsrcnn.py")), "int8")
    names = [operation.name for operation in graph.operations]
    group = group_of(graph, names)
    tile = Tile(72, 60, retention=dict.fromkeys(group.links, retention))
    sources, sinks = dict.fromkeys(group.inputs, "off"), dict.fromkeys(group.outputs, "off")
    assert option_of(graph, names, tile, sources, sinks, plain()).macs_executed == macs


@pytest.mark.parametrize(
    "tile", [Tile(3), Tile(3, 5), Tile(3, 5, retention={"x": AGAIN, "a_out": AGAIN, "b_out": AGAIN})]
)
def test_bytes_and_work_are_those_that_isl_counts(tile: Tile) -> None:
    build = Builder("two")
    x = build.input("x", (1, 3, 14, 11))
    a = build.conv("a", x, 4, kernel=3, padding=1)
    network = build.network(build.conv("b", a, 5, kernel=3, stride=2))
    graph = graph_of(network)
    option = option_of(graph, ("a", "b"), tile, {"x": "off"}, {"b_out": "off"}, plain())
    d = 2 if tile.columns else 1
    retention = {name: tile.retention_of(name)[:d] for name in ("x", "a_out", "b_out")}
    strategy = pf.Strategy((tile.rows, tile.columns)[:d], ("local", "recompute")[:d], retention, placement="shifted")
    counts = pf.counts(pf.storage(pf.scheduled(network, strategy)))
    assert option.load_bytes + option.weight_bytes == counts.offchip_read_bytes
    assert option.store_bytes == counts.offchip_write_bytes
    assert option.macs_executed == counts.macs_executed


def mobile_block() -> Graph:
    """An inverted residual and a squeeze-and-excite, in int8."""
    build = Builder("block")
    x = build.input("x", (1, 16, 28, 28))
    y = build.conv("expand", x, 96, kernel=1)
    y = build.depthwise("deep", y, kernel=3, padding=1)
    gate = build.conv("gate", build.global_average_pool("mean", y), 96, kernel=1, activation="sigmoid")
    y = build.conv("project", build.arithmetic("excite", "mul", y, gate), 16, kernel=1)
    return graph_of(build.network(build.arithmetic("sum", "add", y, x)), "int8")


def best(found: Sequence[Option], room: int) -> float:
    """The cheapest that fits."""
    return min((option.cycles for option in found if option.workspace_bytes <= room), default=float("inf"))


def all_off(group: OperationGroup) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """Everything off chip."""
    return dict.fromkeys(group.inputs, "off"), dict.fromkeys(group.outputs, "off")


@pytest.mark.parametrize(
    "names", [("expand", "deep"), ("expand", "deep", "mean", "gate"), ("excite", "project", "sum")]
)
def test_fusing_moves_fewer_bytes_than_layers_alone(names: tuple[str, ...]) -> None:
    graph, machine = mobile_block(), accelerator("npu")
    together = min(o.offchip_bytes for o in options(graph, names, *all_off(group_of(graph, names)), machine))
    alone = 0
    for name in names:
        found = options(graph, (name,), *all_off(group_of(graph, (name,))), machine)
        alone += min(option.offchip_bytes for option in found)
    assert together < alone


def test_no_option_beats_another() -> None:
    graph = mobile_block()
    names = ("expand", "deep")
    found = options(graph, names, *all_off(group_of(graph, names)), accelerator("npu"))
    terms = [(o.workspace_bytes, o.offchip_bytes, o.cycles, o.macs_executed, o.energy_pj) for o in found]
    assert len(found) > 4 and len(set(terms)) == len(terms)
    for one, other in product(terms, terms):
        assert one == other or any(a > b for a, b in zip(one, other, strict=True))


def test_tensors_on_chip_move_no_bytes_and_need_no_ring() -> None:
    graph, machine = mobile_block(), accelerator("npu")
    for sink in ("on", "both"):
        for option in options(graph, ("expand", "deep"), {"x": "on"}, {"deep_out": sink}, machine):
            assert option.load_bytes == 0
            assert option.store_bytes == (graph.tensors["deep_out"].bytes if sink == "both" else 0)
            assert "ring_x" not in option.workspace and "ring_deep_out" not in option.workspace


def test_a_faster_memory_is_never_slower_and_more_room_never_costs_more() -> None:
    graph = mobile_block()
    names = ("expand", "deep")
    places = all_off(group_of(graph, names))
    slow, fast = (options(graph, names, *places, accelerator(name)) for name in ("npu-memory-bound", "npu"))
    rooms = range(0, 200_000, 5_000)
    assert all(best(fast, room) <= best(slow, room) for room in rooms)
    assert all(best(fast, a) >= best(fast, b) for a, b in pairwise(rooms))
    assert min(o.cycles for o in fast) < min(o.cycles for o in slow)


def test_options_do_not_depend_on_the_capacity() -> None:
    graph, machine = mobile_block(), accelerator("npu")
    places = all_off(group_of(graph, ("expand",)))
    small, large = (options(graph, ("expand",), *places, machine.with_capacity(size)) for size in (1, 2**30))
    assert small == large


def test_whole_tile_is_one_step_without_repeated_work() -> None:
    graph = two_convs()
    whole = tables(graph, ("a", "b"), Tile(28))
    again = tables(graph, ("a", "b"), Tile(28, 28, retention={"x": AGAIN, "a_out": AGAIN, "b_out": AGAIN}))
    assert whole.steps == again.steps == 1
    for name in whole.of:
        assert np.array_equal(whole.of[name].new, again.of[name].new)


def test_layers_without_a_halo_repeat_nothing() -> None:
    build = Builder("pointwise")
    x = build.input("x", (1, 8, 12, 12))
    y = build.conv("b", build.conv("a", x, 8, kernel=1), 8, kernel=1)
    graph = graph_of(build.network(y), "int8")
    for retention in (AGAIN, ("local", "recompute"), ("local", "local")):
        tile = Tile(5, 5, retention=dict.fromkeys(("x", "a_out", "b_out"), retention))
        option = option_of(graph, ("a", "b"), tile, {"x": "off"}, {"b_out": "off"}, plain())
        assert option.macs_executed == 2 * 8 * 8 * 144 and option.load_bytes == graph.tensors["x"].bytes


def test_blocks_of_channels_load_weights_once_and_inputs_again_unless_they_are_one_step() -> None:
    build = Builder("one")
    x = build.input("x", (1, 64, 7, 7))
    graph = graph_of(build.network(build.conv("a", x, 256, kernel=1, bias=False)), "int8")
    option = option_of(graph, ("a",), Tile(7, channels=64), {"x": "off"}, {"a_out": "off"}, accelerator("npu"))
    assert option.weight_bytes == 64 * 256 and option.load_bytes == 64 * 49
    assert option.workspace["weights_a"] == 2 * 64 * 64 and option.workspace["ring_a_out"] == 2 * 64 * 49
    assert option.workspace["ring_x"] == 64 * 49
    cut = option_of(graph, ("a",), Tile(2, channels=64), {"x": "off"}, {"a_out": "off"}, accelerator("npu"))
    assert cut.weight_bytes == 64 * 256 and cut.load_bytes == 4 * 64 * 49
    kept = option_of(graph, ("a",), Tile(7, channels=64), {"x": "on"}, {"a_out": "off"}, accelerator("npu"))
    assert kept.load_bytes == 0


def test_depthwise_blocks_load_their_channels_alone() -> None:
    build = Builder("one")
    x = build.input("x", (1, 64, 14, 14))
    graph = graph_of(build.network(build.depthwise("a", x, kernel=3, padding=1)), "int8")
    option = option_of(graph, ("a",), Tile(14, channels=16), {"x": "off"}, {"a_out": "off"}, accelerator("npu"))
    assert option.load_bytes == graph.tensors["x"].bytes and option.store_bytes == graph.tensors["a_out"].bytes


def test_streamed_weights_are_loaded_in_every_step_and_take_two_blocks() -> None:
    build, machine = Builder("wide"), accelerator("npu")
    a = build.conv("a", build.input("x", (1, 64, 28, 28)), 128, kernel=3, padding=1, bias=False)
    graph = graph_of(build.network(build.conv("b", a, 64, kernel=3, padding=1, bias=False)), "int8")
    ends = {"x": "off"}, {"b_out": "off"}
    kept = option_of(graph, ("a", "b"), Tile(14), *ends, machine)
    streamed = option_of(graph, ("a", "b"), Tile(14, weights="streamed"), *ends, machine)
    steps = tables(graph, ("a", "b"), Tile(14)).of
    size = 64 * 128 * 9
    runs = sum(int((steps[name].new[:, 0] < steps[name].new[:, 1]).sum()) for name in ("a_out", "b_out"))
    assert streamed.weight_bytes == size * runs > kept.weight_bytes == 2 * size
    for name, each in (("a", 64 * 9), ("b", 128 * 9)):
        block = block_channels(graph, graph.operation(name), machine) * each
        assert streamed.workspace[f"weights_{name}"] == 2 * block < size == kept.workspace[f"weights_{name}"]


def test_weights_of_one_block_stay_where_others_are_streamed() -> None:
    graph, machine = two_convs(), accelerator("npu")
    ends = {"x": "off"}, {"b_out": "off"}
    kept = option_of(graph, ("a", "b"), Tile(14), *ends, machine)
    streamed = option_of(graph, ("a", "b"), Tile(14, weights="streamed"), *ends, machine)
    assert block_channels(graph, graph.operation("a"), machine) == graph.tensors["a_out"].shape[1]
    assert streamed.weight_bytes == kept.weight_bytes and streamed.cycles == kept.cycles


def test_late_operations_load_their_weights_once() -> None:
    build = Builder("tail")
    x = build.input("x", (1, 32, 14, 14))
    y = build.linear("fc", build.global_average_pool("mean", build.conv("head", x, 64, kernel=1)), 1000)
    graph = graph_of(build.network(y), "int8")
    names = ("head", "mean", "fc")
    option = option_of(graph, names, Tile(1), {"x": "off"}, {"fc_out": "off"}, accelerator("npu"))
    assert option.weight_bytes == sum(graph.operation(name).weight_bytes for name in names)
    assert option.workspace["weights_fc"] < graph.operation("fc").weight_bytes
    assert option.workspace["ring_head_out"] == 64 * 14


def test_sums_that_have_their_own_memory_take_none_of_the_arena_and_must_fit() -> None:
    graph, machine = two_convs(), accelerator("gemmini")
    ends = {"x": "off"}, {"b_out": "off"}
    assert all("scratch" not in option.workspace for option in options(graph, ("a", "b"), *ends, machine))
    assert options(graph, ("a", "b"), *ends, replace(machine, accumulator_bytes=16)) == ()


def test_weights_that_stay_in_flash_take_no_buffers_and_no_transfers() -> None:
    graph, machine = two_convs(), accelerator("mcu-320k")
    for option in options(graph, ("a", "b"), {"x": "off"}, {"b_out": "off"}, machine):
        assert option.weight_bytes == 0 and not any(name.startswith("weights") for name in option.workspace)


def test_blocks_of_fewer_channels_than_lanes_leave_lanes_idle() -> None:
    build = Builder("one")
    x = build.input("x", (1, 512, 7, 7))
    graph = graph_of(build.network(build.conv("a", x, 512, kernel=3, padding=1, bias=False)), "int8")
    machine = replace(accelerator("npu"), double_buffer=False)
    whole, quarter = (
        option_of(graph, ("a",), Tile(7, channels=n), {"x": "on"}, {"a_out": "on"}, machine) for n in (16, 4)
    )
    loading = {n: 512 // n * machine.transfer_cycles(n * 4608) for n in (16, 4)}
    assert quarter.cycles - loading[4] == pytest.approx(4 * (whole.cycles - loading[16]))
    assert quarter.workspace_bytes < 65_536 and quarter.macs_executed == whole.macs_executed


def test_group_without_tiles_of_a_kind_has_no_options() -> None:
    graph, machine = two_convs(), accelerator("npu")
    assert options(graph, ("a", "b"), {"x": "off"}, {"b_out": "off"}, machine, ("blocks",)) == ()
    assert options(graph, ("a",), {"x": "off"}, {"a_out": "off"}, machine, ("recompute", "mixed")) == ()


def test_energy_counts_bytes_and_work() -> None:
    build = Builder("one")
    x = build.input("x", (1, 4, 6, 6))
    graph = graph_of(build.network(build.conv("a", x, 8, kernel=1, bias=False)), "int8")
    option = option_of(graph, ("a",), Tile(6), {"x": "off"}, {"a_out": "off"}, plain())
    moved = 4 * 36 + 8 * 36 + 32
    assert option.energy_pj == moved * (100 + 1) + (4 * 36 + 8 * 36 + 32) * 1 + 4 * 8 * 36 * 0.5


def test_equal_groups_have_equal_prices_under_their_own_names() -> None:
    build = Builder("twice")
    y = build.input("x", (1, 8, 10, 10))
    for k in range(4):
        y = build.conv(f"l{k}", y, 8, kernel=3, padding=1)
    graph = graph_of(build.network(y), "int8")
    first = options(graph, ("l0", "l1"), {"x": "off"}, {"l1_out": "off"}, accelerator("npu"))
    second = options(graph, ("l2", "l3"), {"l1_out": "off"}, {"l3_out": "off"}, accelerator("npu"))
    assert [option.cycles for option in first] == [option.cycles for option in second]
    assert {name for option in second for name in option.workspace} == {
        "ring_l1_out", "ring_l2_out", "ring_l3_out", "weights_l2", "weights_l3", "scratch",
    }  # fmt: skip
    for option in second:
        assert option == option_of(graph, option.group, option.tile, option.sources, option.sinks, accelerator("npu"))


@pytest.mark.parametrize(
    ("sources", "sinks"),
    [({}, {"b_out": "off"}), ({"x": "both"}, {"b_out": "off"}), ({"x": "off"}, {"a_out": "off", "b_out": "off"})],
)
def test_ends_that_are_not_those_of_the_group_are_refused(sources: dict[str, str], sinks: dict[str, str]) -> None:
    with pytest.raises(InvalidInput, match=r"group a, b: expected (sources|sinks) of"):
        options(two_convs(), ("a", "b"), sources, sinks, accelerator("npu"))


def test_type_that_the_machine_does_not_compute_with_is_refused() -> None:
    build = Builder("one")
    x = build.input("x", (1, 4, 6, 6))
    graph = graph_of(build.network(build.conv("a", x, 8, kernel=1)))
    with pytest.raises(InvalidInput, match="expected a rate of conv in float32"):
        options(graph, ("a",), {"x": "off"}, {"a_out": "off"}, accelerator("ethos-u65"))


def test_front_of_a_small_mobilenet_needs_less_memory_and_repeats_less_than_published() -> None:
    network = pf.load_workload(str(KERNELS / "mobilenet_v2.py"), parameters={"size": "144", "width": "0.35"})
    graph, machine = graph_of(network, "int8"), accelerator("mcu-320k")
    names = [operation.name for operation in graph.operations]
    work = 0
    for name in names:
        group = group_of(graph, (name,))
        places = dict.fromkeys(group.inputs, "on"), dict.fromkeys(group.outputs, "on")
        work += options(graph, (name,), *places, machine)[0].macs_executed
    group = group_of(graph, names[:17])
    (output,) = group.outputs
    found = options(graph, names[:17], {group.inputs[0]: "off"}, {output: "on"}, machine, KINDS)
    alone = min(option.macs_executed for option in found)
    fitting = [o for o in found if o.workspace_bytes + graph.tensors[output].bytes <= 15_340]
    assert min(1 + (option.macs_executed - alone) / work for option in fitting) < 1.2 < 1.382
    assert {option.tile.retention_of("b2_project_out") for option in fitting} == {("local", "local")}


def test_what_single_steps_do_is_not_kept() -> None:
    """Memory would grow with groups x tiles x steps x tensors."""
    graph, machine = two_convs(), accelerator("npu")
    pricer = Pricer(graph, machine)
    places: tuple[Source, ...] = ("off", "on")
    for place in places:
        first = pricer.options(("a", "b"), {"x": place}, {"b_out": "off"}, KINDS)
        pricer.found.clear()
        assert pricer.options(("a", "b"), {"x": place}, {"b_out": "off"}, KINDS) == first
    cells = [
        cells
        for table in pricer.tables.values()
        for tiled in table.groups
        for cells in tiled.measures.steps.of.values()
    ]
    assert cells and not any({"need", "new", "fresh", "alive"} & set(vars(each)) for each in cells)


def test_a_tile_whose_sums_have_no_room_is_refused_and_none_of_the_options() -> None:
    build = Builder("pool")
    graph = graph_of(build.network(build.global_average_pool("mean", build.input("x", (1, 512, 8, 8)))), "int8")
    ends: tuple[Mapping[str, Source], Mapping[str, Source]] = {"x": "off"}, {"mean_out": "off"}
    for room, enough in ((2048, True), (2047, False)):
        machine = replace(accelerator("gemmini"), accumulator_bytes=room)
        assert all(option.tile.channels for option in options(graph, ("mean",), *ends, machine)) != enough
        if enough:
            assert option_of(graph, ("mean",), Tile(1), *ends, machine).store_bytes == 512
            continue
        with pytest.raises(InvalidInput, match="expected sums of at most 2,047 B, the accumulators of machine"):
            option_of(graph, ("mean",), Tile(1), *ends, machine)


def test_blocks_of_channels_of_a_pool_over_joined_images_work_as_much_as_all_channels() -> None:
    build = Builder("joined")
    x, y = build.input("x", (1, 3, 4, 4)), build.input("y", (1, 2, 4, 4))
    graph = graph_of(build.network(build.global_average_pool("mean", build.concat("both", x, y))), "int8")
    machine = replace(accelerator("npu"), lanes=1)
    sources: Mapping[str, Source] = {"x": "off", "y": "off"}
    group = group_of(graph, ["mean"])
    assert blocks_of(group) == range(1, 6)
    for channels in range(6):
        measures = Measures(machine, grid_of(group, Tile(4, 0, channels), [4]))
        assert measures.work["mean"].sum() == 80
        assert option_of(graph, ("mean",), Tile(4, 0, channels), sources, {"mean_out": "off"}, machine).load_bytes == 80
