"""Programs with row kernels: right under every strategy, layout and vector width, with threads, under sanitizers."""

import re

import pytest

from polyfuse.bench.compare import executed_points
from polyfuse.codegen.build import Options
from polyfuse.codegen.kernel import build_many
from polyfuse.codegen.lower import rowsteps
from polyfuse.codegen.lower.selection import Interface, select_kernels
from polyfuse.codegen.program import Program, generate
from polyfuse.codegen.target import Target, probe
from polyfuse.errors import InvalidInput
from polyfuse.network.network import Builder, Network
from polyfuse.network.reference import max_relative_error, random_inputs, run
from polyfuse.schedule.counts import counts
from polyfuse.schedule.groups import fused, layer_by_layer
from polyfuse.schedule.storage import Storage
from polyfuse.schedule.strategy import Strategy
from tests.codegen.test_programs import QUICK, SMALL, compile_and_run, every_group, kernel, strategies

NARROW = Target(4, 16)
WIDER = {"vgg_pair": {"channels": 9}, "resnet_block": {"channels": 12}, "sr4": {"channels": 6}}


def workload(name: str, **more: int) -> Network:
    return kernel(name, **(WIDER.get(name, {}) | more))


def programs(network: Network, groups: list[tuple[Storage, ...]], target: Target = NARROW) -> list[Program]:
    chosen = [select_kernels(network, target, interface, exact=True) for interface in ("nchw", "blocked")]
    return [generate(network, each, kernels=chosen[k % 2], instrumented=True) for k, each in enumerate(groups)]


def check(network: Network, every: list[Program], threads: int = 1, options: Options = QUICK) -> None:
    """Values, and the points that row kernels executed."""
    inputs = random_inputs(network, 5)
    expected = run(network, inputs)
    for built in build_many(every, threads=threads, options=options):
        built.set_inputs(inputs)
        built.poison()
        built.run()
        for tensor in network.outputs:
            assert (
                max_relative_error(built.outputs[tensor.name], expected[tensor.name])
                <= 1e-5 + built.program.error_bound
            )
        assert executed_points(built) == sum(counts(group.storage).executions for group in built.program.groups)
        assert built.group_bytes == tuple(group.buffer_bytes for group in built.program.groups)
        assert built.workspace_bytes == built.program.workspace_bytes


@pytest.mark.parametrize("name", SMALL)
def test_all_strategies_and_tiles_agree_with_the_reference(name: str) -> None:
    network = workload(name)
    every = programs(network, every_group(network))
    for program in every:
        made = {tensor.name for group in program.groups for step in group.rows for tensor in step.makes}
        thin = {layer.output.name for layer in network.layers if program.selection.kind(layer) is None}
        assert made | thin == {layer.output.name for layer in network.layers} and len(thin) < len(network.layers)
    check(network, every)


@pytest.mark.parametrize("name", ["mbv2_block", "stencil3", "fsrcnn"])
def test_optimised_code_for_this_machine_agrees_with_the_reference(name: str) -> None:
    network = workload(name)
    groups = [fused(network, strategy) for strategy in strategies((3, 4))[:4]]
    check(network, programs(network, groups, probe()), options=Options())


@pytest.mark.parametrize("name", SMALL)
def test_two_threads_agree_with_the_reference(name: str) -> None:
    network = workload(name, batch=2)
    shared = [program for program in programs(network, every_group(network)) if program.is_parallel]
    assert shared
    check(network, shared, threads=2)


TWO_STRIPS = {
    "stencil3": {"size": 29},
    "sr4": {"rows": 21, "columns": 23, "channels": 6},
    "resnet_block": {"size": 28, "channels": 12},
}


@pytest.mark.parametrize("tile", [0, 4])
@pytest.mark.parametrize("name", TWO_STRIPS)
def test_two_tiles_along_a_recomputed_coordinate_are_one_loop_for_threads(name: str, tile: int) -> None:
    network = workload(name, **TWO_STRIPS[name])
    height, width = network.outputs[0].concrete_shape[2:]
    rows, columns = -(-height // 2), -(-width // 2)
    chosen = [
        Strategy((5, columns), ("local", "recompute"), placement="shifted"),
        Strategy((5, columns), ("local", "recompute")),
        Strategy((rows, width)),
        Strategy((rows,)),
    ]
    wide = [layer.name for layer in network.layers if layer.kind == "conv" and layer.inputs[0].concrete_shape[1] > 1]
    kernels = select_kernels(network, NARROW, "blocked", winograd=dict.fromkeys(wide, tile))
    every = [generate(network, fused(network, strategy), kernels=kernels, instrumented=True) for strategy in chosen]
    assert [program.groups[0].parallel for program in every] == ["tx", "tx", "ty", "ty"]
    assert [program.source.count("OMP(omp parallel for") for program in every] == [1, 1, 1, 1]
    check(network, every, threads=2)


@pytest.mark.parametrize("name", SMALL)
def test_sanitizers_find_nothing(name: str) -> None:
    network = workload(name)
    for program in programs(network, [fused(network, strategy) for strategy in strategies((3, 4))[:6]]):
        compile_and_run(program)


def every_kind() -> Network:
    """Layers of every kind, with and without row kernels, that meet in additions, products and a concat."""
    build = Builder("every_kind")
    x = build.input("x", (1, 6, 13, 15))
    first = build.conv("first", x, 10, kernel=(3, 5), stride=(1, 2), padding=(1, 2, 1, 2), activation="relu6")
    deep = build.depthwise("deep", first, kernel=5, padding=2)
    soft = build.activation("soft", deep, "tanh")
    wide = build.conv("wide", first, 10, kernel=3, padding=2, dilation=2)
    both = build.arithmetic("both", "add", wide, soft, activation=("leaky_relu", 0.1))
    times = build.arithmetic("times", "mul", both, first)
    rest = build.arithmetic("rest", "sub", times, both)
    grouped = build.conv("grouped", rest, 8, kernel=3, groups=2, padding=1)
    joined = build.concat("joined", times, grouped)
    largest = build.max_pool("largest", joined, kernel=3, stride=2, padding=1)
    mean = build.average_pool("mean", joined, kernel=3, stride=2, padding=1, count_include_pad=True)
    return build.network(build.arithmetic("last", "add", largest, mean), rest)


@pytest.mark.parametrize("target", [NARROW, probe()])
def test_every_kind_of_layer_in_one_group(target: Target) -> None:
    network = every_kind()
    groups = [layer_by_layer(network), *(fused(network, strategy) for strategy in strategies((3, 4))[::3])]
    inputs = random_inputs(network, 5)
    expected = run(network, inputs)
    for built in build_many(programs(network, groups, target), options=Options(flags=("-std=c11", "-march=native"))):
        built.set_inputs(inputs)
        built.poison()
        built.run()
        for tensor in network.outputs:
            assert max_relative_error(built.outputs[tensor.name], expected[tensor.name]) <= 1e-5, built.built.source


def test_wide_windows_have_row_kernels() -> None:
    build = Builder("wide")
    x = build.input("x", (1, 6, 5, 34))
    along = build.conv("along", x, 9, kernel=(1, 17), padding=(0, 8), activation="relu")
    deep = build.depthwise("deep", along, kernel=(3, 32), padding=(1, 16))
    network = build.network(build.max_pool("largest", deep, kernel=(1, 20), stride=1))
    every = programs(network, [layer_by_layer(network), fused(network, Strategy((2,)))])
    kinds = {name: kind.name for name, kind in every[0].selection.kinds.items()}
    assert kinds == {
        "along": "direct",
        "deep": "depthwise",
        "largest": "max_pool",
    }
    check(network, every)


def test_an_addition_and_an_activation_are_finished_by_the_kernel_before_them() -> None:
    build = Builder("chain")
    x = build.input("x", (1, 8, 9, 9))
    conv = build.conv("conv", x, 8, kernel=1)
    both = build.arithmetic("both", "add", conv, x)
    network = build.network(build.activation("act", both, "relu"))
    program = generate(
        network, fused(network, Strategy((3,))), kernels=select_kernels(network, NARROW, "blocked", exact=True)
    )
    (step,) = program.groups[0].rows[:1]
    assert [tensor.name for tensor in step.makes] == ["act_out", "both_out", "conv_out"]
    assert (step.shape.residual, step.shape.activation) == ("before", "relu")
    assert "chip_" not in program.source.split("struct kept0")[0].split("struct chip0")[1]


def test_a_sum_that_is_an_output_too_is_not_lost() -> None:
    build = Builder("both_live")
    x = build.input("x", (1, 8, 9, 9))
    conv = build.conv("conv", x, 8, kernel=1)
    network = build.network(conv, build.arithmetic("both", "add", conv, x))
    check(network, programs(network, [fused(network, Strategy((3,))), fused(network, Strategy((3, 4)))]))


@pytest.mark.parametrize("interface", ["nchw", "blocked"])
def test_blocks_at_the_interface_need_no_conversion(interface: Interface) -> None:
    network = workload("resnet_block")
    program = generate(
        network, fused(network, Strategy((4,))), kernels=select_kernels(network, NARROW, interface, exact=True)
    )
    kinds = {step.shape.kind.name for step in program.groups[0].rows}
    assert kinds == ({"direct"} if interface == "blocked" else {"direct", "to_blocked", "to_planar"})


@pytest.mark.parametrize("tile", [2, 4, 6])
@pytest.mark.parametrize("name", ["vgg_pair", "resnet_block", "sr4"])
def test_winograd_agrees_with_the_reference_and_executes_the_same_points(name: str, tile: int) -> None:
    network = workload(name)
    convolutions = [layer.name for layer in network.layers if layer.kind == "conv"]
    kernels = select_kernels(network, NARROW, winograd=dict.fromkeys(convolutions, tile))
    every = [generate(network, each, kernels=kernels, instrumented=True) for each in every_group(network)[::2]]
    assert all(program.error_bound > 0 and program.workspace_bytes > 0 for program in every)
    check(network, every)


def test_rows_whose_first_one_is_a_condition_on_the_tile_are_right() -> None:
    network = workload("resnet_block", size=56)
    convolutions = [layer.name for layer in network.layers if layer.kind == "conv"]
    kernels = select_kernels(network, NARROW, winograd=dict.fromkeys(convolutions, 4))
    program = generate(network, fused(network, Strategy((28,))), kernels=kernels, instrumented=True)
    assert "INSIDE((ty == 0 ? " in program.source
    check(network, [program])


def test_winograd_is_chosen_by_price_and_can_be_forbidden() -> None:
    build = Builder("both")
    x = build.input("x", (1, 64, 56, 56))
    network = build.network(build.conv("narrow", build.conv("wide", x, 64, kernel=3), 6, kernel=3))
    assert "wide" in select_kernels(network, Target(16, 32)).tiles
    assert not select_kernels(network, Target(16, 32), exact=True).tiles
    assert select_kernels(network, Target(16, 32), winograd={"wide": 2}).tiles["wide"] == 2
    with pytest.raises(InvalidInput, match=r"winograd of layer 'wide': expected a 3x3 convolution .* got 5"):
        select_kernels(network, Target(16, 32), winograd={"wide": 5})


def test_weights_that_scalar_leaves_read_lie_as_they_are_given() -> None:
    build = Builder("wide")
    x = build.input("x", (1, 6, 4, 128))
    network = build.network(build.conv("wide", x, 6, kernel=(1, 64)))
    program = generate(
        network, fused(network, Strategy((2,))), kernels=select_kernels(network, NARROW), instrumented=True
    )
    assert not program.groups[0].rows and "wide_weight[restrict 6][6][1][64]" in program.source
    check(network, [program])


@pytest.mark.parametrize("name", ["k", "c", "row_count", "chunk"])
def test_tensors_may_have_the_names_of_counters(name: str) -> None:
    build = Builder("named")
    x = build.input(name, (1, 6, 9, 9))
    network = build.network(build.conv("conv", x, 6, kernel=3, padding=1))
    check(network, programs(network, [fused(network, Strategy((4,))), fused(network, Strategy((4, 4)))]))


def test_row_kernels_are_not_staged() -> None:
    network = workload("two_convs")
    with pytest.raises(InvalidInput, match="row kernels work in place; expected staged=False"):
        generate(network, fused(network, Strategy()), kernels="rows", staged=True)


@pytest.mark.parametrize("kind", ["add", "mul"])
def test_operands_whose_rows_lie_differently_are_added_by_a_row_kernel(kind: str) -> None:
    build = Builder("two")
    x = build.input("x", (1, 8, 13, 15))
    conv = build.conv("conv", x, 8, kernel=3, padding=1)
    wide = build.conv("wide", x, 8, kernel=5, padding=2)
    network = build.network(build.arithmetic("both", kind, conv, x), build.arithmetic("other", kind, conv, wide))
    kernels = select_kernels(network, NARROW, "blocked", exact=True)
    groups = [layer_by_layer(network), *(fused(network, strategy) for strategy in strategies((3, 4)))]
    every = [generate(network, each, kernels=kernels, instrumented=True) for each in groups]
    assert all(any(step.shape.kind.name == kind for step in group.rows) for group in every[1].groups)
    check(network, every)


def test_a_stencil_asks_for_the_rows_of_its_next_execution_where_they_are_in_memory() -> None:
    network = workload("stencil3")
    strategy = Strategy((8,), ("local",), placement="shifted")
    program = generate(network, fused(network, strategy), kernels=select_kernels(network, NARROW), instrumented=True)
    steps = {step.name.split("__")[0]: step for step in program.groups[0].rows}
    asking = {name: (step.prefetches_in, step.prefetches_out) for name, step in steps.items()}
    assert asking == {"conv1": (True, False), "conv2": (False, False), "conv3": (False, True)}
    calls = [line.strip() for line in program.source.splitlines() if re.match(r" *row\d+_conv\d\(", line)]
    for name, array, rows, ending in (("conv1", "x", 29, ", NULL, NULL);"), ("conv3", "conv3_out", 23, ", NULL);")):
        lines = [line for line in calls if f"_{name}(" in line]
        inside = rf"INSIDE\((.+), {rows}\) && INSIDE\(\1 \+ (\d+), {rows}\) \? "
        inside += rf"&{array}\[0\]\[0\]\[\1 \+ (\d+)\]\[0\] : NULL{re.escape(ending)}$"
        extra = 1 if name == "conv1" else -1
        for line in lines:
            found = re.search(inside, line)
            assert found and int(found[2]) == 2 * int(found[3]) + extra, line
        assert lines
    assert not any(" ? " in line for line in calls if "_conv2(" in line)
    check(network, [program])


@pytest.mark.parametrize("tile", [None, (), (1,), (4,), (7,), (7, 4)])
@pytest.mark.parametrize("joined", [21, 112])
def test_rows_of_narrow_maps_are_joined(
    tile: tuple[int, ...] | None, joined: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("polyfuse.codegen.rows.direct.JOINED_COLUMNS", joined)
    build = Builder("narrow")
    x = build.input("x", (1, 12, 14, 14))
    small = build.conv("small", x, 24, kernel=1, stride=2, activation="relu")
    deep = build.depthwise("deep", build.conv("expand", small, 48, kernel=1), kernel=3, padding=1)
    sums = build.arithmetic("sum", "add", build.conv("project", deep, 24, kernel=1), small)
    network = build.network(build.conv("other", sums, 18, kernel=1, activation="silu"))
    kernels = select_kernels(network, Target(4, 32), "blocked")
    strategy = Strategy.named("local", tile or (), "shifted")
    groups = layer_by_layer(network, kernels.tallest) if tile is None else fused(network, strategy)
    program = generate(network, groups, kernels=kernels, instrumented=True)
    heights: dict[str, int] = {}
    for step in (step for group in program.groups for step in group.rows if step.layer):
        heights[step.layer.name] = max(heights.get(step.layer.name, 1), step.shape.height)
    if tile in (None, (), (7,)):
        assert {heights[name] for name in ("small", "expand", "project")} <= ({3} if joined == 21 else {6, 7})
    assert heights["other"] == heights["deep"] == 1
    check(network, [program])


@pytest.mark.parametrize("tile", [(), (4,), (4, 6)])
def test_pointwise_rows_of_large_arrays_are_asked_for(tile: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polyfuse.codegen.lower.rowsteps.AHEAD_BYTES", 4 * 8 * 9 * 12)
    build = Builder("wide")
    small = build.input("small", (1, 8, 3, 4))
    x = build.input("x", (1, 8, 9, 12))
    wide = build.depthwise("middle", build.conv("expand", x, 16, kernel=1), kernel=3, padding=1)
    network = build.network(build.conv("project", wide, 8, kernel=1), build.conv("other", small, 8, kernel=1))
    kernels = select_kernels(network, NARROW, "blocked")
    groups = fused(network.select(["expand", "middle", "project"]), Strategy.named("local", tile, "shifted"))
    apart = layer_by_layer(network.select(["other"]))
    program = generate(network, (*groups, *apart), kernels=kernels, instrumented=True)
    asking = {step.layer.name for group in program.groups for step in group.rows if step.layer and step.prefetches_in}
    assert asking == {"expand"}
    calls = calls_of(program, "expand")
    assert calls and all(re.search(r", &x\[[^,]*\], NULL, NULL\);$", line) for line in calls)
    assert all(" ? 8 : " in line for line in calls)
    assert all(
        line.endswith(", NULL, NULL, NULL);") for layer in ("project", "other") for line in calls_of(program, layer)
    )
    check(network, [program])


def calls_of(program: Program, layer: str) -> list[str]:
    """The lines that call a layer's kernels."""
    return [line.strip() for line in program.source.splitlines() if re.match(rf" *row\d+_{layer}\(row_in", line)]


@pytest.mark.parametrize("tiles", [{}, {"first": 4, "last": 2}])
@pytest.mark.parametrize("tile", [None, (4,), (7, 6)])
def test_windows_of_large_arrays_are_asked_for(
    tile: tuple[int, ...] | None, tiles: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("polyfuse.codegen.lower.rowsteps.AHEAD_BYTES", 4 * 8 * 21 * 15)
    build = Builder("windows")
    x = build.input("x", (1, 8, 21, 15))
    middle = build.conv("first", x, 8, kernel=3, padding=1, activation="relu")
    network = build.network(build.conv("last", middle, 8, kernel=3, padding=1))
    kernels = select_kernels(network, NARROW, "blocked", exact=True, winograd=tiles)
    groups = (
        layer_by_layer(network, kernels.tallest)
        if tile is None
        else fused(network, Strategy(tile, ("local",) * len(tile)))
    )
    program = generate(network, groups, kernels=kernels, instrumented=True)
    steps = [step for group in program.groups for step in group.rows if step.layer]
    reading = {step.layer.name for step in steps if step.layer and step.prefetches_in}
    writing = {step.layer.name for step in steps if step.layer and step.prefetches_out}
    unfused = tile is None
    assert reading == ({"first", "last"} if unfused else {"first"})
    assert writing == (set() if not tiles else {"first", "last"} if unfused else {"last"})
    for name in ("first", "last"):
        calls = calls_of(program, name)
        before = [line.rpartition(", ")[0] for line in calls]
        assert calls and all(line.endswith(", NULL") for line in before)
        assert all(line.endswith(", NULL, NULL") for line in before) == (name not in reading)
        found = {
            side for side in ("in", "out") if re.search(rf"_{name}(__\dx\d)?__prefetch_{side}\({side},", program.source)
        }
        wanted = {"in": bool(tiles) and name in reading, "out": name in writing}
        assert found == {side for side, asked in wanted.items() if asked}
    check(network, [program])


def test_a_stencil_writes_fewer_wide_rows_at_once_to_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    build = Builder("stencils")
    x = build.input("x", (1, 1, 44, 40))
    for k in (1, 2, 3):
        x = build.conv(f"s{k}", x, 1, kernel=3)
    network = build.network(x)
    kernels = select_kernels(network, NARROW, "nchw")
    tall: dict[int, dict[str, int]] = {}
    for most in (4 * 8 * 34, 4 * 8 * 34 - 1):
        monkeypatch.setattr(rowsteps, "FIRST_BYTES", most)
        program = generate(network, fused(network, Strategy((16,), ("local",), placement="shifted")), kernels=kernels)
        rows = [(step.layer.name, step.shape.height) for group in program.groups for step in group.rows if step.layer]
        tall[most] = {name: max(height for each, height in rows if each == name) for name, _ in rows}
        check(network, [generate(network, [g.storage for g in program.groups], kernels=kernels, instrumented=True)])
    few, many = tall[4 * 8 * 34 - 1], tall[4 * 8 * 34]
    assert many == {"s1": 8, "s2": 8, "s3": 8} and few == many | {"s3": 4}


def streamed(program: Program) -> set[str]:
    return {step.writes.tensor.name for group in program.groups for step in group.rows if step.shape.stream}


@pytest.mark.parametrize("tile", [0, 4])
def test_tiles_of_large_arrays_that_their_group_does_not_read_are_streamed(
    tile: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = workload("sr4")
    kernels = select_kernels(network, NARROW, "blocked", winograd=dict.fromkeys(["conv2", "conv3", "conv4"], tile))
    groups = [
        layer_by_layer(network, kernels.tallest),
        fused(network, Strategy((5,), ("local",), placement="shifted")),
        fused(network, Strategy((5, 11), ("local", "recompute"), placement="shifted")),
        fused(network, Strategy((5,), ("global",))),
    ]
    assert not any(streamed(generate(network, each, kernels=kernels)) for each in groups)
    monkeypatch.setattr(rowsteps, "STREAM_BYTES", 1)
    every = [generate(network, each, kernels=kernels, instrumented=True) for each in groups]
    tiled = {f"conv{k}_out" for k in (1, 2, 3, 4)} if tile else {"conv1_out"}
    last = tiled & {"conv4_out"}
    assert [streamed(each) for each in every] == [tiled, last, last, last]
    assert [each.source.count("  STREAMED();") for each in every] == [len(tiled), len(last), len(last), len(last)]
    check(network, every)
    check(network, [every[2]], threads=2)
    planar = select_kernels(network, NARROW, "nchw", winograd=dict.fromkeys(["conv2", "conv3", "conv4"], tile))
    assert not streamed(generate(network, groups[1], kernels=planar))
