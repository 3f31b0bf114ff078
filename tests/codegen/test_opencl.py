"""OpenCL C: its text, what is refused, and kernels that agree with the reference where there is an OpenCL device.

The device is any that pyopencl finds, such as PoCL. Oclgrind, which simulates one, finds no races and counts what is
predicted.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np
import pytest

from polyfuse.codegen import device as programs
from polyfuse.codegen.device import device_program
from polyfuse.codegen.lower.independent import check_distinct_cells
from polyfuse.codegen.lower.program import LoweredProgram
from polyfuse.codegen.lower.sums import error_bound
from polyfuse.codegen.opencl import OPENCL, build_opencl, opencl_device, opencl_source
from polyfuse.errors import BuildError, IllegalSchedule, InvalidInput
from polyfuse.loading import load_workload
from polyfuse.network.activation import ACTIVATIONS
from polyfuse.network.custom import statement_layer
from polyfuse.network.layers.matrices import matmul
from polyfuse.network.layers.reductions import reduce
from polyfuse.network.network import Builder, Network
from polyfuse.network.reference import max_relative_error, random_inputs, run
from polyfuse.network.tensor import Tensor
from polyfuse.schedule.groups import fused, layer_by_layer
from polyfuse.schedule.storage import Storage
from polyfuse.schedule.strategy import Strategy
from polyfuse.sets.counting import count

ROOT = Path(__file__).parents[2]
RECOMPUTE = Strategy((5, 6))


@pytest.fixture(scope="session")
def device() -> str:
    """The name of the device."""
    try:
        return str(opencl_device()[1].name)
    except BuildError as error:
        pytest.skip(str(error))


def two_convs(batch: int = 1) -> Network:
    build = Builder("two_convs")
    x = build.input("x", (batch, 3, 14, 13))
    middle = build.conv("first", x, 4, kernel=3, padding=1, activation="relu")
    return build.network(build.conv("second", middle, 5, kernel=3, padding=1))


def strided() -> Network:
    """Strides, dilation, borders on one side, and kernels of other heights than widths."""
    build = Builder("strided")
    x = build.input("x", (1, 3, 31, 27))
    a = build.conv("a", x, 5, kernel=(5, 3), stride=2, padding=(2, 1, 2, 0))
    b = build.conv("b", a, 4, kernel=3, dilation=2, padding=2, bias=False, activation=("clip", -1, 2))
    return build.network(build.conv("c", b, 3, kernel=(1, 4), stride=(1, 2)))


def block() -> Network:
    """A residual block with a depthwise layer, and pools."""
    build = Builder("block")
    x = build.input("x", (1, 4, 13, 15))
    wide = build.conv("expand", x, 8, kernel=1, activation="hard_swish")
    deep = build.depthwise("depthwise", wide, kernel=3, padding=1, activation="relu6")
    added = build.arithmetic("residual", "add", build.conv("project", deep, 4, kernel=1), x, activation="relu")
    return build.network(build.average_pool("mean", build.max_pool("pool", added, kernel=3, stride=2), kernel=2))


def joined() -> Network:
    """A concatenation, a resized image, a transposed convolution, and an intermediate that is also an output."""
    build = Builder("joined")
    x = build.input("x", (1, 3, 8, 9))
    a = build.conv("a", x, 4, kernel=3, padding=1)
    both = build.concat("both", a, build.conv("b", x, 3, kernel=1))
    up = build.resize("up", both, 2)
    return build.network(a, build.conv_transpose("back", up, 3, kernel=4, stride=2, padding=1))


def vectors() -> Network:
    """Tensors of other ranks than 4."""
    build = Builder("vectors")
    x = build.input("x", (6, 11))
    y = build.linear("dense", x, 9, activation="tanh")
    return build.network(build.add(reduce("summed", "mean", y, (1,))))


def holes() -> Network:
    """The second layer reads every third row and column of the first one's output, and no other is made."""
    build = Builder("holes")
    middle = build.conv("a", build.input("x", (1, 2, 25, 22)), 3, kernel=3)
    return build.network(build.conv("b", middle, 4, kernel=1, stride=3))


def flat() -> Network:
    """Tensors of rank 1."""
    build = Builder("flat")
    x = build.input("x", (37,))
    layer = statement_layer(
        "twice",
        domain="{ S[i] : 0 <= i < 37 }",
        output=Tensor("doubled", (37,)),
        reads={"a": (x, "{ S[i] -> x[36 - i] }")},
        expression="a + a * (min(i, 3) - 2)",
        reference=lambda a: a[::-1] * (np.minimum(np.arange(37), 3) - 1),
    )
    return build.network(build.activation("late", build.add(layer), "sigmoid"))


CASES: Mapping[str, tuple[Callable[[], Network], Strategy]] = {
    "rows": (two_convs, Strategy((4,))),
    "rows and columns": (two_convs, RECOMPUTE),
    "one tile": (two_convs, Strategy()),
    "images of a batch": (lambda: two_convs(3), Strategy.named("local", (4, 5), "shifted")),
    "rows retained in strips of columns": (
        two_convs,
        Strategy((4, 5), ("local", "recompute"), placement="shifted", order=(1, 0)),
    ),
    "first come": (two_convs, Strategy((4, 5), ("local", "recompute"), order=(1, 0))),
    "strides": (strided, Strategy((3, 2))),
    "block": (block, Strategy((2, 3))),
    "joined": (joined, Strategy((5, 7))),
    "vectors": (vectors, Strategy((4,))),
    "flat": (flat, Strategy((10,))),
    "holes": (holes, Strategy((3, 4))),
}


def check(network: Network, groups: tuple[Storage, ...], bound: float = 1e-5, work_items: int = 5) -> None:
    inputs = random_inputs(network, 5)
    expected = run(network, inputs)
    made = build_opencl(network, groups, work_items=work_items)(**inputs)
    assert sorted(made) == sorted(tensor.name for tensor in network.outputs)
    for name, values in made.items():
        assert max_relative_error(values, expected[name]) <= bound


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("name", CASES)
def test_kernels_agree_with_the_reference(name: str) -> None:
    made, strategy = CASES[name]
    network = made()
    check(network, fused(network, strategy))


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("work_items", [3, 8])
def test_items_without_a_row_of_their_own_wait_for_the_others(work_items: int) -> None:
    """PoCL 3.1 left out rows of this one where items had loops of other lengths than their neighbours."""
    network = load_workload(str(ROOT / "kernels" / "dwsep.py"), parameters={"size": "13"})
    strategy = Strategy((3, 4), ("recompute", "local"), placement="shifted")
    check(network, fused(network, strategy), work_items=work_items)


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("work_items", [1, 64])
def test_any_number_of_work_items_does(work_items: int) -> None:
    network = two_convs()
    check(network, fused(network, RECOMPUTE), work_items=work_items)


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("made", [block, vectors])
def test_several_groups_agree_with_the_reference(made: Callable[[], Network]) -> None:
    """Tensors between groups are buffers on the device."""
    network = made()
    groups = layer_by_layer(network)
    assert len(groups) > 1
    check(network, groups)


@pytest.mark.usefixtures("device")
def test_every_activation_agrees_with_the_reference() -> None:
    """Also of NaN. Infinities are not asked for: PoCL's tanh of one is not 1."""
    build = Builder("activations")
    x = build.input("x", (1, 2, 5, 8))
    specs = {name: (name, *(0.25, 0.75)[:taken]) for name, (_, _, taken) in ACTIVATIONS.items()}
    network = build.network(*(build.activation(f"{name}_of_x", x, spec) for name, spec in specs.items()))
    values = np.linspace(-3, 3, 80, dtype=np.float32).reshape(1, 2, 5, 8)
    values[0, 0, 0, :4] = np.nan, 12, -12, 0
    made = build_opencl(network, fused(network, Strategy((2,))))(x=values)
    expected = run(network, {"x": values})
    assert len(made) == len(ACTIVATIONS)
    for name, found in made.items():
        assert max_relative_error(found, expected[name]) <= 1e-5, name


@pytest.mark.usefixtures("device")
def test_long_sums_are_within_the_bound() -> None:
    build = Builder("many")
    weight = build.weight("w", (20_000, 3), 1, np.ones((20_000, 3), np.float32))
    network = build.network(build.add(matmul("m", build.input("x", (2, 20_000)), weight, [weight])))
    term = np.float32(0.3)
    (made,) = build_opencl(network, layer_by_layer(network))(x=np.full((2, 20_000), term)).values()
    assert np.max(np.abs(made / (20_000 * float(term)) - 1)) <= error_bound(20_000) + 4 * 2.0**-24


def reserved() -> Network:
    """Tensors whose names are words of OpenCL C; `global` is one of Python's, too, and no tensor has it."""
    build = Builder("reserved")
    names = ("kernel", "half", "dot", "exp", "read_only", "float4", "image2d_t", "local", "get_local_id", "t_kernel")
    total = build.conv("global1", build.input("constant", (1, 2, 6, 6)), 2, kernel=3, padding=1)
    for k, name in enumerate(names):
        total = build.arithmetic(f"step{k}", "add", total, build.input(name, (1, 2, 6, 6)))
    last = build.conv("barrier", total, 2, kernel=3, padding=1)
    layer = statement_layer(
        "uint3",
        domain="{ S[n, c, h, w] : n = 0 and 0 <= c < 2 and 0 <= h, w < 6 }",
        output=Tensor("write_only", (1, 2, 6, 6)),
        reads={"private": (last, f"{{ S[n, c, h, w] -> {last.name}[n, c, h, w] }}")},
        expression="expf(private)",
        reference=np.exp,
    )
    return build.network(build.add(layer))


def test_arrays_may_be_called_what_the_language_reserves() -> None:
    network = reserved()
    source = opencl_source(network, fused(network, Strategy((3,))))
    for tensor in network.inputs:
        assert f"t_{tensor.name}[restrict 1][2][6][6]" in " ".join(source.split())
        assert tensor.name == "t_kernel" or not re.search(rf"\b{tensor.name}\[", source)


@pytest.mark.usefixtures("device")
def test_arrays_called_what_the_language_reserves_compile() -> None:
    network = reserved()
    check(network, fused(network, Strategy((3,))))


def program(network: Network, groups: tuple[Storage, ...]) -> LoweredProgram:
    return device_program(network, groups, OPENCL).lowered


@pytest.mark.parametrize("name", CASES)
def test_intermediates_lie_in_local_memory(name: str) -> None:
    """Arrays in it take the bytes that the buffers of the group have."""
    made, strategy = CASES[name]
    network = made()
    groups = fused(network, strategy)
    found = re.findall(r"^  __local float t_chip_\w+((?:\[\d+\])+);$", opencl_source(network, groups), re.MULTILINE)
    sizes = [4 * prod(map(int, re.findall(r"\d+", dims))) for dims in found]
    assert len(sizes) == len(program(network, groups).groups[0].chip) > 0
    assert sum(sizes) == program(network, groups).buffer_bytes


def test_the_text_has_a_kernel_for_each_group_and_a_barrier_after_each_shared_loop() -> None:
    network = two_convs()
    text = opencl_source(network, fused(network, RECOMPUTE))
    assert text == opencl_source(network, fused(network, RECOMPUTE))
    assert text.count("__kernel void") == 1 and text.count("get_group_id(0)") == 1
    assert text.count("get_local_id(0)") == text.count("barrier(") == 2
    assert "for (int ty = (int)get_group_id(0); ty <= 2; ty += (int)get_num_groups(0)) {" in text
    last = """
      for (int h_first = 5 * ty; h_first <= min(13, 5 * ty + 4); h_first += (int)get_local_size(0)) {
        const int h = h_first + (int)get_local_id(0);
        if (h <= min(13, 5 * ty + 4)) {
"""
    assert last in text
    assert "#include" not in text and "HELPER int min" not in text
    alone = opencl_source(network, layer_by_layer(network))
    assert re.findall(r"__kernel void (\w+)\(", alone) == ["group0", "group1"] and "__local" not in alone


def test_shared_loops_may_have_steps() -> None:
    network = holes()
    text = opencl_source(network, fused(network, Strategy((3, 4))))
    assert "; h_first <= min(21, 9 * ty + 6); h_first += 3 * (int)get_local_size(0)) {" in text
    assert "const int h = h_first + 3 * (int)get_local_id(0);" in text


@pytest.mark.parametrize("name", CASES)
def test_items_wait_under_no_condition(name: str) -> None:
    """PoCL copies all that follows such a barrier, once for each."""
    made, strategy = CASES[name]
    network = made()
    around: list[str] = []
    for line in opencl_source(network, fused(network, strategy)).splitlines():
        around = around[: (len(line) - len(line.lstrip())) // 2]
        if "barrier(" in line:
            assert not [head for head in around if head.startswith(("if", "}"))]
        around.append(line.strip())


def test_what_no_loop_shares_is_for_the_first_item() -> None:
    network = flat()
    text = opencl_source(network, fused(network, Strategy((10,))))
    assert text.count("if ((int)get_local_id(0) == 0) {") == text.count("barrier(") > 0


@pytest.mark.parametrize(
    "strategy",
    [
        Strategy.named("local", (4,)),
        Strategy.named("global", (4, 5)),
        Strategy((4, 5), ("local", "recompute"), placement="shifted", order=(0, 1)),
    ],
)
def test_tiles_that_depend_on_each_other_are_refused(strategy: Strategy) -> None:
    network = two_convs()
    with pytest.raises(IllegalSchedule, match=r"^group 0 of 'two_convs': no tile dimension has independent tiles, .*$"):
        opencl_source(network, fused(network, strategy))


def test_points_of_a_stage_that_share_a_cell_are_refused() -> None:
    network = two_convs()
    (group,) = fused(network, Strategy((4, 5), ("local", "recompute"), placement="shifted", order=(1, 0)))
    buffer = group.buffers["first_out"]
    assert buffer.indices[2].folded
    small = replace(buffer, indices=(*buffer.indices[:2], replace(buffer.indices[2], window=3), buffer.indices[3]))
    edited = Storage(group.schedule, {**group.buffers, "first_out": small})
    with pytest.raises(IllegalSchedule, match="two elements that a stage of a tile makes have the same cell"):
        opencl_source(network, (edited,))
    check_distinct_cells(program(network, (group,)).groups[0])


def test_other_elements_than_float32_are_refused() -> None:
    build = Builder("whole")
    network = build.network(build.max_pool("p", build.input("x", (1, 1, 4, 4), "int8"), kernel=2))
    with pytest.raises(InvalidInput, match="float32"):
        opencl_source(network, layer_by_layer(network))


def test_without_pyopencl_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyopencl", None)
    network = two_convs()
    with pytest.raises(BuildError, match=r"^OpenCL: .*pyopencl.*; pip install 'polyfuse\[opencl\]'$"):
        build_opencl(network, fused(network, RECOMPUTE))


def test_without_a_device_a_driver_is_asked_for(device: str) -> None:
    network = two_convs()
    with pytest.raises(BuildError, match=rf"expected a device named 'nowhere', found '{re.escape(device.strip())}"):
        build_opencl(network, fused(network, RECOMPUTE), device="nowhere")


@pytest.mark.usefixtures("device")
def test_what_the_device_cannot_do_is_refused() -> None:
    network = two_convs()
    groups = fused(network, RECOMPUTE)
    with pytest.raises(BuildError, match=r"takes at most \d+ work items, got 1000000$"):
        build_opencl(network, groups, work_items=10**6)
    with pytest.raises(InvalidInput, match="work_items: expected a whole number of at least 1, got 0"):
        build_opencl(network, groups, work_items=0)
    build = Builder("large")
    middle = build.conv("a", build.input("x", (1, 1, 2000, 2000)), 4, kernel=1)
    large = build.network(build.max_pool("b", middle, kernel=3))
    with pytest.raises(BuildError, match=r"buffers of [\d,]+ B, the device has [\d,]+ B of local memory; use smaller"):
        build_opencl(large, fused(large, Strategy()))


@pytest.mark.usefixtures("device")
def test_what_the_compiler_refuses_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    network = two_convs()
    monkeypatch.setattr(programs, "device_file", lambda *_: "__kernel void group0(int x) { y }")
    with pytest.raises(BuildError, match="OpenCL kernel of 'two_convs' on ") as caught:
        build_opencl(network, fused(network, RECOMPUTE))
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("device")
def test_wrong_inputs_are_refused() -> None:
    network = two_convs()
    kernel = build_opencl(network, fused(network, RECOMPUTE))
    assert str(kernel).startswith("OpenClKernel(x[1, 3, 14, 13] -> second_out[1, 5, 14, 13]) on ")
    with pytest.raises(InvalidInput, match=r"expected \['x'\], got \['y'\]"):
        kernel(y=np.zeros(3))
    with pytest.raises(InvalidInput, match="input 'x': expected shape"):
        kernel(x=np.zeros(3))


SIMULATED = """
import sys
from dataclasses import replace
from polyfuse.codegen import opencl
from polyfuse.network.reference import random_inputs
from polyfuse.schedule.groups import fused
from tests.codegen.test_opencl import CASES
name, barrier = sys.argv[1:]
if not barrier:
    opencl.OPENCL_C = replace(opencl.OPENCL_C, device=replace(opencl.OPENCL_C.device, barrier=";"))
    opencl.OPENCL = replace(opencl.OPENCL, dialect=opencl.OPENCL_C)
made, strategy = CASES[name]
network = made()
kernel = opencl.build_opencl(network, fused(network, strategy), work_items=4, device="Oclgrind")
kernel(**random_inputs(network, 0))
"""


def simulated(name: str, *checks: str, barrier: bool = True) -> str:
    """What Oclgrind says of a case, with the instructions that it counted."""
    if shutil.which("oclgrind") is None:
        pytest.skip("oclgrind is not installed")
    pytest.importorskip("pyopencl")
    command = ["oclgrind", "--inst-counts", *checks, sys.executable, "-c", SIMULATED, name, "yes" * barrier]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout + done.stderr


@pytest.mark.parametrize("name", CASES)
def test_a_simulator_finds_no_races_and_no_reads_of_what_was_never_written(name: str) -> None:
    said = simulated(name, "--data-races", "--uninitialized")
    assert "load global" in said and "race" not in said and "Uninitialized" not in said


@pytest.mark.parametrize("name", ["rows and columns", "rows retained in strips of columns", "flat"])
def test_a_simulator_counts_the_bytes_that_are_predicted(name: str) -> None:
    """Its compiler moves no load of these out of a loop."""
    made, strategy = CASES[name]
    network = made()
    (group,) = program(network, fused(network, strategy)).groups
    expected = {f"{what} {where}": 0 for what in ("load", "store") for where in ("global", "local")}
    for step in group.steps:
        for touch in step.touches:
            where = "global" if group.places.is_offchip(touch) else "local"
            expected[f"{'store' if touch.writes else 'load'} {where}"] += 4 * count(step.executions)
    said = simulated(name)
    found = {kind: int(size) for kind, size in re.findall(r"- ((?:load|store) (?:global|local)) \((\d+) bytes\)", said)}
    assert found == expected


def test_a_simulator_finds_the_races_without_barriers() -> None:
    assert "data race at local memory" in simulated("rows and columns", "--data-races", barrier=False)
