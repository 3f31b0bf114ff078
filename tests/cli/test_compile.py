"""`polyfuse compile --cc` and `--cflags`: what C is written for and built with."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from polyfuse.cli import main
from polyfuse.codegen.target import Target
from polyfuse.cost.seconds import guessed_costs
from polyfuse.deploy import model
from polyfuse.deploy.algorithms import algorithms_of
from polyfuse.network.network import Network
from tests.machines.example import example

RUN = ("compile", "two_convs", "--set", "size=20", "--set", "channels=8")


def compiled(folder: Path, *options: str) -> tuple[int, str]:
    """Run the command."""
    done = CliRunner().invoke(main, [*RUN, "-o", str(folder), *options])
    return done.exit_code, done.output


def test_flags_choose_the_vectors_and_are_written_down(tmp_path: Path) -> None:
    code, output = compiled(tmp_path, "--cc", "gcc", "--cflags", "-O2 -DANY='a b'")
    assert code == 0, output
    plan = json.loads((tmp_path / "plan.json").read_text())
    compiler, *flags = plan["machine"]["written_for"]
    assert compiler.startswith("gcc: gcc") and flags == ["-O2", "-DANY=a b"]
    for name in ("two_convs.c", "two_convs.h"):
        assert "-O2 '-DANY=a b'; right with any C11 compiler" in (tmp_path / name).read_text()
    narrow = plan["machine"]["vector_floats"]
    code, output = compiled(tmp_path, "--cc", "gcc")
    assert code == 0, output
    assert narrow <= json.loads((tmp_path / "plan.json").read_text())["machine"]["vector_floats"]


@pytest.mark.parametrize(
    "flags", ["-O2 -o /tmp/x", "-O2 main.c", "-c", "@file", "-xc++", "'-O2", "-Wall\n-E", "--version", ""]
)
def test_what_is_no_flag_is_refused_in_one_line(flags: str, tmp_path: Path) -> None:
    code, output = compiled(tmp_path / "never", "--cflags", flags)
    if not flags:
        assert code == 0
        return
    assert code == 1 and output.count("\n") == 1 and "flags" in output and "Traceback" not in output
    assert not (tmp_path / "never").exists()


def test_a_compiler_that_is_not_there_is_refused(tmp_path: Path) -> None:
    code, output = compiled(tmp_path / "never", "--cc", "no-such-cc")
    assert code == 1 and "no-such-cc" in output and "Traceback" not in output
    assert not (tmp_path / "never").exists()


@pytest.mark.skipif(shutil.which("aarch64-linux-gnu-gcc") is None, reason="aarch64-linux-gnu-gcc is not installed")
def test_a_cross_compiler_makes_its_own_library(tmp_path: Path) -> None:
    code, output = compiled(tmp_path, "--cc", "aarch64-linux-gnu-gcc", "--cflags", "-O2")
    assert code == 0, output
    assert json.loads((tmp_path / "plan.json").read_text())["machine"]["vector_floats"] == 4
    assert (tmp_path / "libtwo_convs.so").read_bytes()[18:20] == (183).to_bytes(2, "little")
    code, output = compiled(tmp_path, "--cc", "aarch64-linux-gnu-gcc")
    assert code == 1 and "native" in output and "Traceback" not in output


def test_algorithms_are_decided_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The layers one by one, which the table compares with, are computed by the algorithms of the plan."""
    asked: list[str] = []

    def counted(network: Network, *rest: object) -> dict[str, int]:
        asked.append(network.name)
        return algorithms_of(network, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(model, "algorithms_of", counted)
    monkeypatch.setattr(
        model,
        "known_machine",
        lambda: replace(example(), costs=guessed_costs(example(), Target(16, 32).relative_costs)),
    )
    code, output = compiled(tmp_path)
    assert code == 0, output
    assert asked == ["two_convs"]
