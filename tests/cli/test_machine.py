"""`polyfuse machine` as people use it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from polyfuse.bench import probe as probe_module
from polyfuse.machines.host import read_machine
from tests.cli.calls import HEEDS_INTERRUPTS, call, refused, shell
from tests.machines.example import example

TINY = ("--seconds", "0.05")


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The machine file of a user who has none yet, nor a folder for it."""
    path = tmp_path / "config" / "polyfuse" / "machine.toml"
    monkeypatch.setenv("POLYFUSE_MACHINE", str(path))
    return path


def test_a_probe_writes_the_file_that_is_shown_from_then_on(mine: Path) -> None:
    probed = call("machine", "--probe", *TINY)
    assert (probed.exit_code, probed.stderr) == (0, "")
    assert list(mine.parent.iterdir()) == [mine]
    assert read_machine() == read_machine(mine)
    assert "written: " in probed.stdout
    shown = call("machine")
    assert shown.exit_code == 0 and "GFLOP/s" in shown.stdout and "DRAM" in shown.stdout
    assert probed.stdout.startswith(shown.stdout)


def test_a_probe_writes_where_it_is_told(mine: Path, tmp_path: Path) -> None:
    path = tmp_path / "host.toml"
    path.write_text("what was there before")
    assert call("machine", "--probe", "-o", str(path), *TINY).exit_code == 0
    assert read_machine(path).cores >= 1
    assert not mine.parent.exists()


def test_a_machine_file_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "example.toml"
    path.write_text(example().to_toml())
    result = call("machine", str(path))
    assert result.exit_code == 0 and "Example 9000" in result.stdout
    path.write_text(example().to_toml().replace("cores", "corse"))
    assert "got an unknown 'corse'" in refused(call("machine", str(path)), 1)


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        ([], 1, "there is none; run polyfuse machine --probe"),
        (["missing.toml"], 1, "there is none; run polyfuse machine --probe to measure this host, with -o missing.toml"),
        (["-o", "x.toml"], 2, "--output has no effect without --probe or --fit"),
        (["--seconds", "1"], 2, "--seconds has no effect without --probe"),
        (["x.toml", "--probe"], 2, "use -o x.toml"),
        (["--probe", "--seconds", "0"], 2, "0.0 is not in the range"),
        (["--probe", "--seconds", "nan"], 1, "expected seconds above 0, got nan"),
        (["--probe", "-o", "no/such/folder/x.toml"], 1, "make the folder"),
    ],
)
def test_bad_input_is_one_line_that_says_what_to_do(mine: Path, words: list[str], status: int, message: str) -> None:
    assert message in refused(call("machine", *words), status)
    assert not mine.exists()


def test_an_unwritable_place_is_told_before_anything_is_measured(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe_module, "_peaks", lambda *given: pytest.fail("measured"))
    mine.parent.parent.write_text("no folder")
    assert "expected a folder that can be made" in refused(call("machine", "--probe", *TINY), 1)


def test_a_missing_compiler_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "host.toml"
    path.write_text("what was there before")
    result = shell("machine", "--probe", "-o", str(path), PATH=str(tmp_path), CC="")
    assert result.returncode == 1
    assert result.stderr.startswith("polyfuse: C compiler: expected one of gcc")
    assert result.stderr.count("\n") == 1
    assert path.read_text() == "what was there before"


@pytest.mark.parametrize("seconds", [0.3, 3.0])
def test_an_interrupt_leaves_the_file_as_it_was(seconds: float, tmp_path: Path) -> None:
    """Soon after the C is built, and amid all cores at work."""
    path, cache = tmp_path / "host.toml", tmp_path / "cache"
    path.write_text("what was there before")
    command = [sys.executable, "-c", HEEDS_INTERRUPTS, "machine", "--probe", "-o", str(path), "--seconds", "120"]
    settings = {**os.environ, "POLYFUSE_CACHE": str(cache)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=settings) as process:
        deadline = time.monotonic() + 60
        while len(list(cache.glob("*.sha256"))) < 3 and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(seconds)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert len(err.splitlines()) == 1 and err.startswith("polyfuse: interrupted")
    assert [entry for entry in tmp_path.iterdir() if entry != cache] == [path]
    assert path.read_text() == "what was there before"
