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
from polyfuse.deploy.model import Model, Settings, load, plan_of
from polyfuse.deploy.source import read_source, source_of
from polyfuse.deploy.verify import verify
from polyfuse.errors import InvalidInput
from polyfuse.network.network import Builder
from polyfuse.network.onnx.export import onnx_model
from polyfuse.plan.accelerator import accelerator
from polyfuse.plan.operations import graph_of
from polyfuse.plan.planning import plan_for
from tests.deploy.ends import ENDS, expected, random_arrays, random_model, same, saved

SETTINGS = Settings(fuse=False)
EVERY_END = pytest.mark.parametrize("kind", ENDS)


def check_model(made: onnx.ModelProto, folder: Path) -> Model:
    """Python by position and by name and C by position give what onnxruntime gives, in its order."""
    model = load(saved(made, folder), settings=SETTINGS)
    arrays, names = random_arrays(made), [value.name for value in made.graph.output]
    wanted = expected(made, arrays)
    assert model.inputs == tuple(value.name for value in made.graph.input) and model.outputs == tuple(names)
    called = [model.run(*arrays), model.run(**dict(reversed(list(zip(model.inputs, arrays, strict=True)))))]
    in_c = call_library(model.program, arrays)
    for found in called:
        assert list(found) == list(dict.fromkeys(names))
        assert all(same(found[name], value) for name, value in zip(names, wanted, strict=True))
    assert all(same(value.ravel(), one.ravel()) for value, one in zip(in_c, wanted, strict=True))
    return model


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
        done = run.invoke(main, ["run", path, "--no-fuse", *given, "-o", str(tmp_path / "y.npz")])
        assert done.exit_code == 0, done.output
        found = np.load(tmp_path / "y.npz")
        outputs = [value.name for value in ENDS[kind].graph.output]
        assert found.files == list(dict.fromkeys(outputs))
        assert all(same(found[name], value) for name, value in zip(outputs, wanted, strict=True))
    for command in (["verify", path, "--no-fuse"], ["compile", path, "--no-fuse", "-o", str(tmp_path / "c")]):
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
    made = ENDS[kind]
    exported = onnx_model(read_source(saved(made, tmp_path)).network)
    onnx.checker.check_model(exported)
    for ours, theirs in ((exported.graph.input, made.graph.input), (exported.graph.output, made.graph.output)):
        assert [value.name for value in ours] == [value.name for value in theirs]
    arrays = random_arrays(made)
    assert all(same(a, b) for a, b in zip(expected(exported, arrays), expected(made, arrays), strict=True))
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


def test_an_unused_input_may_be_left_out_by_name(tmp_path: Path) -> None:
    made = ENDS["swapped"]
    model = load(saved(made, tmp_path), settings=SETTINGS)
    a, unused, b = random_arrays(made)
    wanted = dict(zip(("y", "z"), expected(made, [a, unused, b]), strict=True))
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
