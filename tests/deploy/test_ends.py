"""The ends of a model are its own everywhere: order, names, types, in Python, C, plans and exports."""

import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from polyfuse.cli import main
from polyfuse.codegen.compiler import find_compiler
from polyfuse.deploy.ccall import call_library
from polyfuse.deploy.files import library_files
from polyfuse.deploy.model import Model, load, plan_of
from polyfuse.deploy.settings import Settings
from polyfuse.deploy.source import read_source, source_of
from polyfuse.deploy.verify import verify
from polyfuse.errors import InvalidInput
from polyfuse.machines.accelerator import accelerator
from polyfuse.network.network import Builder
from polyfuse.network.onnx.export import onnx_model
from polyfuse.plan.checking import check_plan
from polyfuse.plan.graph.operations import graph_of
from polyfuse.plan.planning import plan_for
from tests.deploy.ends import ENDS, SHAPE, expected, made, node, random_arrays, random_model, same, saved

SETTINGS = Settings(groups="single")
EVERY_END = pytest.mark.parametrize("kind", ENDS)


def check_model(model: onnx.ModelProto, folder: Path) -> Model:
    """Python by position and by name and C by position give what onnxruntime gives, in its order."""
    loaded = load(saved(model, folder), settings=SETTINGS)
    arrays, names = random_arrays(model), [value.name for value in model.graph.output]
    wanted = expected(model, arrays)
    assert loaded.inputs == tuple(value.name for value in model.graph.input) and loaded.outputs == tuple(names)
    called = [loaded.run(*arrays), loaded.run(**dict(reversed(list(zip(loaded.inputs, arrays, strict=True)))))]
    in_c = call_library(loaded.program, arrays)
    for found in called:
        assert list(found) == list(dict.fromkeys(names))
        assert all(same(found[name], value) for name, value in zip(names, wanted, strict=True))
    assert all(same(value.ravel(), one.ravel()) for value, one in zip(in_c, wanted, strict=True))
    return loaded


@EVERY_END
def test_ends_are_those_of_the_model(kind: str, tmp_path: Path) -> None:
    check_model(ENDS[kind], tmp_path)


@pytest.mark.parametrize("seed", range(12))
def test_ends_of_random_models(seed: int, tmp_path: Path) -> None:
    check_model(random_model(seed), tmp_path)


@EVERY_END
def test_every_command_takes_them(kind: str, tmp_path: Path) -> None:
    path, run = str(saved(ENDS[kind], tmp_path)), CliRunner()
    arrays = random_arrays(ENDS[kind])
    for k, array in enumerate(arrays):
        np.save(tmp_path / f"{k}.npy", array)
    files = [tmp_path / f"{k}.npy" for k in range(len(arrays))]
    names = [value.name for value in ENDS[kind].graph.input]
    by_position = [part for file in files for part in ("--input", str(file))]
    by_name = [part for pair in zip(names, files, strict=True) for part in ("--input", "=".join(map(str, pair)))]
    wanted = expected(ENDS[kind], arrays)
    for given in (by_position, by_name[2:] + by_name[:2]):
        done = run.invoke(main, ["run", path, "--groups", "single", *given, "-o", str(tmp_path / "y.npz")])
        assert done.exit_code == 0, done.output
        found = np.load(tmp_path / "y.npz")
        outputs = [value.name for value in ENDS[kind].graph.output]
        assert found.files == list(dict.fromkeys(outputs))
        assert all(same(found[name], value) for name, value in zip(outputs, wanted, strict=True))
    for command in (
        ["verify", path, "--groups", "single"],
        ["compile", path, "--groups", "single", "-o", str(tmp_path / "c")],
    ):
        done = run.invoke(main, command)
        assert done.exit_code == 0, done.output


@EVERY_END
def test_plans_for_a_scratchpad_take_them(kind: str, tmp_path: Path) -> None:
    path, folder = str(saved(ENDS[kind], tmp_path)), tmp_path / "build"
    file = str(tmp_path / "plan.json")
    run = CliRunner()
    planned = run.invoke(main, ["plan", path, "--machine", "npu", "--json", file])
    assert planned.exit_code == 0, planned.output
    done = run.invoke(main, ["compile", path, "--plan", file, "-o", str(folder)])
    assert done.exit_code == 0, done.output
    header = (folder / "m.h").read_text()
    for value in (*ENDS[kind].graph.input, *ENDS[kind].graph.output):
        assert repr(value.name) in header


@EVERY_END
def test_exports_have_them(kind: str, tmp_path: Path) -> None:
    model = ENDS[kind]
    exported = onnx_model(read_source(saved(model, tmp_path)).network)
    onnx.checker.check_model(exported)
    for ours, theirs in ((exported.graph.input, model.graph.input), (exported.graph.output, model.graph.output)):
        assert [value.name for value in ours] == [value.name for value in theirs]
    arrays = random_arrays(model)
    assert all(same(a, b) for a, b in zip(expected(exported, arrays), expected(model, arrays), strict=True))
    check_model(exported, tmp_path)


@EVERY_END
def test_verify_calls_them_in_every_way(kind: str, tmp_path: Path) -> None:
    source, settings = read_source(saved(ENDS[kind], tmp_path)), SETTINGS.ready
    for each in (source, source_of(source.network)):
        found = verify(each, plan_of(each.network, settings), settings)
        assert not found.failed
        outputs = [value.name for value in ENDS[kind].graph.output]
        ways = {(check.way, check.tensor) for check in found.called}
        assert ways == {(way, name) for way in ("C", "by position", "by name") for name in outputs}


def test_the_network_has_the_order_of_the_model(tmp_path: Path) -> None:
    network = read_source(saved(ENDS["swapped"], tmp_path)).network
    assert [tensor.name for tensor in network.inputs] == ["a", "b"]
    assert [layer.kind for layer in map(network.makers.__getitem__, network.outputs)] == ["relu", "sub"]


def test_an_unused_input_may_be_left_out_by_name(tmp_path: Path) -> None:
    swapped = ENDS["swapped"]
    model = load(saved(swapped, tmp_path), settings=SETTINGS)
    a, unused, b = random_arrays(swapped)
    wanted = dict(zip(("y", "z"), expected(swapped, [a, unused, b]), strict=True))
    assert all(same(value, wanted[name]) for name, value in model.run(b=b, a=a).items())
    for arrays, named in (((a,), {}), ((a, unused), {"a": a}), ((a, unused, b, b), {}), ((), {"a": a, "b": b, "c": b})):
        with pytest.raises(InvalidInput, match="expected the inputs a, unused, b, each once"):
            model.run(*arrays, **named)


def test_a_network_may_list_an_output_twice() -> None:
    build = Builder("net")
    y = build.activation("act", build.input("x", (1, 1, 2, 2)), "relu")
    model = load(build.network(y, y), settings=SETTINGS)
    x = np.float32([[[[-1, 2], [3, -4]]]])
    assert model.outputs == ("act_out", "act_out") and list(model.run(x)) == ["act_out"]
    assert all(value.ravel().tolist() == [0, 2, 3, 0] for value in call_library(model.program, [x]))


def test_the_header_has_the_names_of_the_model(tmp_path: Path) -> None:
    source, settings = read_source(saved(ENDS["swapped"], tmp_path)), SETTINGS.ready
    model = load(source, settings=settings)
    header = library_files(model.program, model.plan, settings)["m.h"].decode()
    flat = " ".join(header.split())
    assert "void m_run(const void *weights, void *arena, const float *a, const int64_t *unused, const float *b, float *y, float *z);" in flat  # fmt: skip  # noqa: E501
    assert "#define M_Y_FLOATS 40" in header and "unused: int64 [3], not read; may be NULL" in header


def test_two_matrices_are_not_swapped(tmp_path: Path) -> None:
    """The header as a C program and a C++ program take it: a and b in the model's order."""
    model = load(saved(ENDS["swapped"], tmp_path), settings=SETTINGS)
    settings = SETTINGS.ready
    for name, data in library_files(model.program, model.plan, settings).items():
        (tmp_path / name).write_bytes(data)
    text = '#include "m.h"\nint main(void) { return sizeof(int[M_A_FLOATS]) != 160; }\n'
    compiler = str(find_compiler().path)
    for suffix, options in ((".c", []), (".cpp", ["-x", "c++"])):
        (tmp_path / f"main{suffix}").write_text(text)
        command = [compiler, "-Wall", "-Wextra", "-Werror", *options, "-c", f"main{suffix}", "-o", "main.o"]
        subprocess.run(command, cwd=tmp_path, check=True)


def test_a_plan_of_the_scratchpad_counts_what_is_read(tmp_path: Path) -> None:
    network = read_source(saved(ENDS["no input is read but one"], tmp_path)).network
    assert [tensor.name for tensor in network.inputs] == ["c"]
    plan = plan_for(graph_of(network, "int8"), accelerator("npu"))
    assert plan.totals.offchip_bytes.all == 2 * 40


def test_files_are_given_in_order_and_by_name(tmp_path: Path) -> None:
    """Names and paths may hold an equals sign; the .npz file holds outputs of any name."""
    made_model = made([node("Sub", ["a=b", "a"], "file"), node("Neg", ["a"], "y/z")], {"a": SHAPE, "a=b": SHAPE}, ["y/z", "file"])  # fmt: skip  # noqa: E501
    path, arrays = str(saved(made_model, tmp_path)), random_arrays(made_model)
    files = [tmp_path / "x=0.npy", tmp_path / "1.npy"]
    for file, array in zip(files, arrays, strict=True):
        np.save(file, array)
    wanted = dict(zip(("y/z", "file"), expected(made_model, arrays), strict=True))
    out = tmp_path / "y.npz"
    for given in ([files[0], files[1]], [f"a=b={files[1]}", f"a={files[0]}"], [f"a=b={files[1]}", files[0]]):
        options = [part for each in given for part in ("--input", str(each))]
        done = CliRunner().invoke(main, ["run", path, "--groups", "single", *options, "-o", str(out)])
        assert done.exit_code == 0, done.output
        assert all(same(np.load(out)[name], value) for name, value in wanted.items())
    for refused in (["c=1.npy"], [files[0]] * 3, [f"a={files[0]}", files[0]]):
        options = [part for each in refused for part in ("--input", str(each))]
        done = CliRunner().invoke(main, ["run", path, "--groups", "single", *options])
        assert done.exit_code == 1 and "expected one file for each of a, a=b" in done.output


def test_numbers_without_axes_stay_so(tmp_path: Path) -> None:
    nodes = [node("Relu", ["x"], "p"), node("ReduceSum", ["p"], "s", keepdims=0), node("Mul", ["s", "k"], "y")]
    model = made(nodes, {"x": SHAPE, "k": ()}, ["y", "s", "p"])
    for value in model.graph.output[:2]:
        value.type.tensor_type.elem_type = 1
        value.type.tensor_type.shape.SetInParent()
    source, settings = read_source(saved(model, tmp_path)), SETTINGS.ready
    check_model(model, tmp_path)
    assert not verify(source, plan_of(source.network, settings), settings).failed


def test_a_plan_of_another_model_is_refused(tmp_path: Path) -> None:
    nodes = [node("Sub", ["a", "b"], "y", name="n")]
    one, other = (made(nodes, dict.fromkeys(order, SHAPE), ["y"]) for order in ("ab", "ba"))
    plan = plan_of(read_source(saved(one, tmp_path)).network, SETTINGS.ready)
    assert (plan.inputs, plan.outputs) == (("a", "b"), ("y",))
    with pytest.raises(InvalidInput, match="expected a model with the inputs a, b, got one with b, a"):
        load(saved(other, tmp_path), plan=plan)
    graph = graph_of(read_source(saved(one, tmp_path)).network, "int8")
    scratch = plan_for(graph, accelerator("npu"))
    other_graph = graph_of(read_source(saved(other, tmp_path)).network, "int8")
    with pytest.raises(InvalidInput, match="expected a model with the inputs a, b, got one with b, a"):
        check_plan(scratch, other_graph, scratch.machine)
