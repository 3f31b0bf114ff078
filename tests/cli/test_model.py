"""Sizes and values of a model's inputs in every command that reads a model, the same options with the same errors."""

import json
from importlib import resources
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper

from polyfuse.cli import main
from tests.cli.calls import commands
from tests.network.onnx.models import model, values

make = helper.make_node

MACHINE = Path(str(resources.files("polyfuse.machines").joinpath("files", "typical.toml")))
READERS = {
    "bench": ("--peers", "none", "--repeats", "1", "--machine", str(MACHINE)),
    "compare": ("--no-run", "--tile", "4"),
    "compile": (
        "--groups",
        "single",
    ),
    "explain": (),
    "export-scop": ("--tile", "4x4", "--strategy", "recompute"),
    "plan": ("--no-baselines",),
    "run": (
        "--groups",
        "single",
    ),
    "show": ("--tile", "4", "--strategy", "recompute"),
    "tune": ("--measure", "1"),
    "verify": (
        "--groups",
        "single",
    ),
}
"""Every command that reads a model, with what makes it short."""
NAMES = ("--from", "--to", "--set", "--shape", "--fix", "--random-weights")
SIZES = ("--set", "batch=1", "--shape", "x=1x2x8x9", "--fix", "n=2")


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model with open sizes and an input of whole numbers, which a Resize needs."""
    monkeypatch.setenv("POLYFUSE_MACHINE", str(MACHINE))
    nodes = [
        make("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        make("Shape", ["c"], ["s"]),
        make("Mul", ["s", "factor"], ["sizes"]),
        make("Concat", ["ones", "n2"], ["factor"], axis=0),
        make("Concat", ["n1", "n1"], ["n2"], axis=0),
        make("Reshape", ["n", "one"], ["n1"]),
        make("Resize", ["c", "", "", "sizes"], ["y"], mode="nearest"),
    ]
    numbers = {"ones": np.array([1, 1]), "one": np.array([1])}
    made = model(nodes, {"x": ("batch", 2, "h", "w")}, ["y"], {"w": values((3, 2, 3, 3)), **numbers})
    made.graph.input.append(helper.make_tensor_value_info("n", TensorProto.INT64, []))
    (tmp_path / "m.onnx").write_bytes(made.SerializeToString())
    return tmp_path / "m.onnx"


def ended(name: str, path: Path, *options: str) -> tuple[int, str]:
    """The status of a command, and all that it says."""
    folder = ("-o", str(path.parent / "out")) if name in ("compile", "export-scop") else ()
    tuned = ("--tuned", str(path.parent / "tuned.json")) if name == "tune" else ()
    done = CliRunner().invoke(main, [name, str(path), *folder, *tuned, *READERS[name], *options])
    return done.exit_code, done.output


def test_every_command_that_reads_a_model_has_the_options() -> None:
    known = {name: {text for each in command.params for text in each.opts} for name, command in commands().items()}
    assert {name for name, options in known.items() if "--random-weights" in options} == set(READERS)
    assert all(set(NAMES) <= known[name] for name in READERS)
    assert "--shape" not in known["import-scop"] and "--set" in known["import-scop"]
    texts = {(option.opts[0], option.help) for name in READERS for option in commands()[name].params
             if isinstance(option, click.Option) and option.opts[0] in NAMES}  # fmt: skip
    assert len(texts) == len(NAMES)


@pytest.mark.parametrize("name", sorted(READERS))
def test_sizes_and_values_are_used(name: str, path: Path) -> None:
    status, text = ended(name, path, *SIZES)
    assert status == 0, text
    if name in ("show", "run"):
        assert "[1, 3, 16, 18]" in text


@pytest.mark.parametrize("name", sorted(READERS))
def test_what_is_missing_is_named_with_the_option_that_gives_it(name: str, path: Path) -> None:
    for options, why in (
        ((), "its input 'n' (int64, a single number): expected float32 elements"),
        (("--fix", "n=2"), "has open sizes; give sizes, such as --set batch=1 --set h=224 --set w=224"),
        ((*SIZES, "--set", "bach=2"), "no named dimension 'bach'; did you mean 'batch'?"),
        (("--fix", "n=2", "--shape", "x=1x2x8"), "expected 4 sizes, for batch x 2 x h x w, got 1x2x8"),
    ):
        status, text = ended(name, path, *options)
        assert status == 1 and why in text and text.count("\n") == 1 and "Traceback" not in text


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--shape", "x"), "expected NAME=SIZES, such as x=1x3x224x224"),
        (("--shape", "x=1x-2"), "expected sizes of at least 1 such as 1x3x224x224"),
        (("--shape", "x=axb"), "expected sizes of at least 1"),
        (("--shape", "=1"), "expected NAME=SIZES"),
        (("--fix", "n"), "expected NAME=VALUE, such as n=3"),
        (("--set", "batch=1", "--set", "batch=2"), "--set 'batch': given 2 times; give it once"),
        (("--shape", "x=1", "--shape", "x=2"), "--shape 'x': given 2 times"),
        (("--fix", "n=1", "--fix", "n=1"), "--fix 'n': given 2 times"),
    ],
)
def test_options_that_cannot_be_read_are_bad_usage(options: tuple[str, ...], why: str, path: Path) -> None:
    for name in ("run", "plan", "show", "bench"):
        status, text = ended(name, path, *options)
        assert status == 2 and why in text and text.count("\n") == 1


def test_the_options_that_an_error_names_work_as_they_are(path: Path) -> None:
    """Word for word: what the error says is pasted, and the command succeeds."""
    given: list[str] = []
    for _ in range(2):
        _, text = ended("explain", path, *given)
        given += text.split("such as ")[1].split(", or")[0].split(" (in")[0].split()
    assert given == ["--fix", "n=1", "--set", "batch=1", "--set", "h=224", "--set", "w=224"]
    assert ended("explain", path, *given)[0] == 0


def test_a_plan_remembers_sizes_and_values(path: Path) -> None:
    plan = path.parent / "plan.json"
    assert ended("plan", path, *SIZES, "--json", str(plan))[0] == 0
    origin = json.loads(plan.read_text())["origin"]
    assert origin["shapes"] == {"x": [1, 2, 8, 9]} and origin["values"] == {"n": "2"}
    assert origin["parameters"] == {"batch": "1"}
    done = CliRunner().invoke(main, ["explain", str(plan)])
    assert done.exit_code == 0, done.output
    done = CliRunner().invoke(main, ["explain", str(plan), "--shape", "x=1x2x8x8"])
    assert done.exit_code == 1 and done.output.count("\n") == 1


def test_a_name_may_hold_an_equals_sign(tmp_path: Path) -> None:
    made = model([make("Relu", ["a=b"], ["y"])], {"a=b": ("n=m",)}, ["y"])
    (tmp_path / "m.onnx").write_bytes(made.SerializeToString())
    status, text = ended("show", tmp_path / "m.onnx")
    assert status == 1 and "such as --shape a=b=1 (in Python" in text
    assert ended("explain", tmp_path / "m.onnx", "--shape", "a=b=5")[0] == 0


@pytest.mark.parametrize("name", ["compile", "run", "verify", "plan"])
def test_whole_networks_may_be_parts(name: str, path: Path) -> None:
    status, text = ended(name, path, *SIZES, "--to", "n0")
    assert status == 0, text
    status, text = ended(name, path, *SIZES, "--from", "nothing")
    assert status == 1 and "nothing" in text and text.count("\n") == 1


def test_a_plan_remembers_its_part(path: Path) -> None:
    plan = path.parent / "plan.json"
    assert ended("plan", path, *SIZES, "--to", "n0", "--json", str(plan))[0] == 0
    document = json.loads(plan.read_text())
    assert (document["origin"]["first"], document["origin"]["last"]) == (None, "n0")
    assert [group["operations"] for group in document["groups"]] == [["n0"]]
    done = CliRunner().invoke(main, ["explain", str(plan)])
    assert done.exit_code == 0, done.output
    done = CliRunner().invoke(
        main, ["compile", str(path), *SIZES, "--to", "n0", "--plan", str(plan), "-o", str(path.parent / "out")]
    )
    assert done.exit_code == 0, done.output
    del document["origin"]["first"], document["origin"]["last"]
    plan.write_text(json.dumps(document))
    assert (
        "expected a model with the outputs c, got one with y" in CliRunner().invoke(main, ["explain", str(plan)]).output
    )
