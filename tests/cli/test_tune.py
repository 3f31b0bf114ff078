"""`polyfuse tune` as people use it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from polyfuse.bench import tune as tune_module
from tests.cli.calls import HEEDS_INTERRUPTS, KERNEL, call, refused
from tests.machines.example import example

APART = """
from polyfuse.network.network import Builder


def network():
    build = Builder("apart")
    x = build.conv("conv1", build.input("x", (1, 4, 12, 12)), 4, kernel=3)
    return build.network(build.conv("conv2", build.activation("relu", x, "relu"), 4, kernel=3))
"""


@pytest.fixture
def pair(tmp_path: Path) -> str:
    path = tmp_path / "pair.py"
    path.write_text(KERNEL.replace("channels=2", "channels=5"))
    return str(path)


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tuned file of a user who has a machine file, and no folder for the other."""
    machine = tmp_path / "machine.toml"
    machine.write_text(example().to_toml())
    path = tmp_path / "data" / "polyfuse" / "tuned.json"
    monkeypatch.setenv("POLYFUSE_MACHINE", str(machine))
    monkeypatch.setenv("POLYFUSE_TUNED", str(path))
    monkeypatch.setattr(tune_module, "SAMPLE_SECONDS", 0.0)
    return path


def test_tune_prints_a_table_and_keeps_what_it_found(mine: Path, pair: str, tmp_path: Path) -> None:
    found = call("tune", pair, "--set", "size=12", "--measure", "2", "--json", str(tmp_path / "x.json"), width=120)
    assert (found.exit_code, found.stderr) == (0, "")
    for word in ("predicted", "measured", "unfused", "best: ", "pair size=12"):
        assert word in found.stdout
    assert list(mine.parent.iterdir()) == [mine]
    document = json.loads((tmp_path / "x.json").read_text())
    assert document["workload"] == "pair size=12" and len(document["tried"]) >= 3
    again = call("tune", pair, "--set", "size=12", "--measure", "2", width=120)
    assert again.stdout == found.stdout


def test_the_entry_of_a_part_says_which_part_it_is(mine: Path, pair: str, tmp_path: Path) -> None:
    call("tune", pair, "--set", "size=12", "--to", "conv1", "--measure", "1", "--json", str(tmp_path / "x.json"))
    assert json.loads((tmp_path / "x.json").read_text())["workload"] == "pair to conv1 size=12"
    call("tune", pair, "--from", "conv2", "--measure", "1", "--json", str(tmp_path / "x.json"))
    assert json.loads((tmp_path / "x.json").read_text())["workload"] == "pair from conv2"


def test_what_is_tuned_is_what_compile_compiles(mine: Path, tmp_path: Path) -> None:
    """Rewriting makes the activation of this kernel a part of the convolution before it."""
    path = tmp_path / "apart.py"
    path.write_text(APART)
    assert call("tune", str(path), "--measure", "1").exit_code == 0
    done = call("plan", str(path), "--machine", "host", "--json", str(tmp_path / "plan.json"))
    assert done.exit_code == 0, done.output
    (group,) = json.loads((tmp_path / "plan.json").read_text())["groups"]
    assert group["tuned"] and group["layers"] == ["conv1", "conv2"]


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["--measure", "0"], 2, "0 is not in the range"),
        (["--layout", "nhwc"], 2, "'nhwc' is not one of"),
        (["--set", "size=2"], 1, "a window of 3 does not fit"),
        (["--tuned", "no/such/folder/x.json"], 1, "make the folder"),
        (["--json", "no/such/folder/x.json"], 1, "make the folder"),
    ],
)
def test_bad_input_is_one_line(mine: Path, pair: str, words: list[str], status: int, message: str) -> None:
    assert message in refused(call("tune", pair, *words), status)
    assert not mine.exists()


def test_no_machine_file_is_one_line_that_says_what_to_do(
    mine: Path, pair: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POLYFUSE_MACHINE", str(tmp_path / "none.toml"))
    assert "run polyfuse machine --probe" in refused(call("tune", pair), 1)


def test_a_corrupt_file_is_told_before_the_work(mine: Path, pair: str) -> None:
    mine.parent.mkdir(parents=True)
    mine.write_text("{")
    assert "repair it or move it away" in refused(call("tune", pair), 1) or "expected JSON" in refused(
        call("tune", pair), 1
    )
    assert mine.read_text() == "{"


def test_an_interrupt_leaves_whole_files(mine: Path, pair: str, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    command = [sys.executable, "-c", HEEDS_INTERRUPTS, "tune", pair, "--set", "size=40", "--measure", "12"]
    settings = {**os.environ, "POLYFUSE_CACHE": str(cache)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=settings) as process:
        deadline = time.monotonic() + 60
        while not mine.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert len(err.splitlines()) == 1 and err.startswith("polyfuse: interrupted")
    assert [path.name for path in mine.parent.iterdir()] == ["tuned.json"]
    assert len(json.loads(mine.read_text())["entries"][0]["tried"]) >= 2


def test_fitting_without_a_machine_file_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYFUSE_MACHINE", str(tmp_path / "none.toml"))
    assert "run polyfuse machine --probe" in refused(call("machine", "--fit"), 1)
    assert "use -o x.toml" in refused(call("machine", "x.toml", "--fit"), 2)
