"""`polyfuse bench` as people use it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from polyfuse.bench.peers.results import PeerReport
from polyfuse.cli import INTERRUPTED
from tests.cli.calls import HEEDS_INTERRUPTS, KERNEL, call, refused
from tests.machines.example import example as machine


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A kernel file, and a machine file that is found without being named."""
    path = tmp_path / "pair.py"
    path.write_text(KERNEL)
    (tmp_path / "machine.toml").write_text(machine().to_toml())
    monkeypatch.setenv("POLYFUSE_MACHINE", str(tmp_path / "machine.toml"))
    return str(path)


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["--peers", "tvm"], 1, "expected all, none or some of onnxruntime, openvino"),
        (["--peers", "ncnn,,halide"], 1, "got ''"),
        (["--strategy", "best"], 2, "'best' is not one of"),
        (["--layout", "nhwc"], 2, "'nhwc' is not one of"),
        (["--threads", "0"], 2, "0 is not in the range"),
        (["--repeats", "0"], 2, "0 is not in the range"),
        (["--search-seconds", "-1"], 2, "-1.0 is not in the range"),
        (["--machine", "none.toml"], 1, "expected a machine description, there is none"),
        (["--set", "size"], 2, "such as size=224"),
        (["--set", "depth=3"], 1, "no parameter 'depth'"),
        (["--from", "conv7"], 1, "no layer 'conv7'"),
        (["--plot", "figure.pdf"], 2, "ends in .png or .svg"),
        (["--json", "no/such/folder/rows.json"], 1, "make the folder"),
        (["no_such_workload"], 1, "neither a .py file"),
    ],
)
def test_bad_input_is_one_line_that_says_what_to_do(pair: str, words: list[str], status: int, message: str) -> None:
    assert message in refused(call("bench", pair, *words), status)


def test_a_workload_is_needed() -> None:
    assert "Missing argument 'WORKLOAD...'" in refused(call("bench"), 2)


@pytest.mark.parametrize("width", [80, 120])
def test_tables_files_and_pictures(pair: str, tmp_path: Path, width: int) -> None:
    path, picture = tmp_path / "peers.json", tmp_path / "roof.svg"
    words = ["--peers", "none", "--strategy", "local", "--strategy", "unfused", "--repeats", "1"]
    result = call("bench", pair, pair, *words, "--json", str(path), "--plot", str(picture), width=width)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.count("polyfuse unfused") == 2 and max(map(len, result.stdout.splitlines())) <= width
    report = PeerReport.from_json(path.read_text())
    assert [comparison.workload for comparison in report.comparisons] == ["pair", "pair"]
    assert [row.state for row in report.comparisons[0].rows] == ["timed", "timed"]
    assert report.environment["MALLOC_ARENA_MAX"] == "1" and "cpu" in report.machine
    assert b"<svg" in picture.read_bytes()


def test_peers_that_are_not_installed_are_told(pair: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import polyfuse.bench.peers.contender as contender

    monkeypatch.setattr(contender, "find_spec", lambda name: None)
    result = call("bench", pair, "--repeats", "1")
    assert result.exit_code == 0
    told = " ".join(result.stdout.split())
    assert "not installed: onnxruntime, openvino, torch-eager, torch-inductor, ncnn, halide; pip install" in told
    assert told.endswith("onnxruntime openvino torch ncnn pnnx halide")


def test_a_host_without_a_machine_file_is_measured(pair: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import polyfuse.cli.actions.bench as cli_bench

    monkeypatch.setenv("POLYFUSE_MACHINE", str(tmp_path / "none.toml"))
    monkeypatch.setattr(cli_bench, "probe", lambda progress: machine())
    result = call("bench", pair, "--peers", "none", "--repeats", "1")
    assert result.exit_code == 0 and "112 GFLOP/s" in result.stdout
    assert result.stdout.splitlines()[-1].startswith("peak and bandwidths were measured just now")
    assert not (tmp_path / "none.toml").exists()


def test_a_wrong_result_of_polyfuse_fails_the_command(pair: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import polyfuse.bench.peers.race as race

    monkeypatch.setattr(race, "MOST_ERROR", 0.0)
    result = call("bench", pair, "--peers", "none", "--repeats", "1")
    assert "this is a polyfuse bug" in refused(result, 1)
    assert "wrong result: relative error" in result.stdout


def test_nobody_to_time_is_one_line(pair: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no_such_compiler")
    result = call("bench", pair, "--peers", "none", "--repeats", "1")
    assert "no contender could be timed" in refused(result, 1)
    assert "polyfuse failed: BuildError: $CC 'no_such_compiler'" in result.stdout


def workers() -> set[int]:
    """The processes of contenders."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if b"polyfuse.bench.peers.worker" in (folder / "cmdline").read_bytes():
                found.add(int(folder.name))
        except OSError:
            continue
    return found


def descendants(pid: int) -> set[int]:
    """The workers that a process started."""
    found = set()
    for worker in workers():
        try:
            if int(Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[1]) == pid:
                found.add(worker)
        except OSError:
            continue
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the system has no /proc")
@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupt_leaves_no_process_and_no_file(pair: str, tmp_path: Path, by: signal.Signals) -> None:
    path = tmp_path / "peers.json"
    path.write_text("what was there before")
    words = ["bench", pair, "--peers", "none", "--repeats", "1000000", "--json", str(path)]
    command = [sys.executable, "-c", HEEDS_INTERRUPTS, *words]
    (tmp_path / "temporary").mkdir()
    settings = {**os.environ, "TMPDIR": str(tmp_path / "temporary")}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=settings) as process:
        deadline = time.monotonic() + 60
        while not (started := descendants(process.pid)) and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(3)
        process.send_signal(by)
        _, err = process.communicate(timeout=60)
    assert started
    deadline = time.monotonic() + 10
    while started & workers() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not started & workers()
    assert path.read_text() == "what was there before"
    if by == signal.SIGINT:
        assert process.returncode == INTERRUPTED and len(err.splitlines()) == 1
        assert list((tmp_path / "temporary").iterdir()) == []
