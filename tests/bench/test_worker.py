"""The inside of a contender's process, through the protocol."""

import io
import json
import os
import pickle
import subprocess
import sys
import time
import types
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from polyfuse.bench.peers import worker
from polyfuse.bench.peers.contender import FOLDER, PeerSettings, Prepared, Values
from polyfuse.bench.peers.process import PeerError, Worker, worker_command
from polyfuse.network.network import Builder, Network
from polyfuse.network.reference import max_relative_error, random_inputs, run


@pytest.fixture
def net(tmp_path: Path) -> Network:
    """A network in a folder, as a race leaves it there."""
    build = Builder("one")
    made = build.network(build.conv("c", build.input("x", (1, 2, 6, 6)), 2, kernel=3))
    bare = replace(made, layers=tuple(replace(layer, reference=None) for layer in made.layers))
    (tmp_path / "network.pickle").write_bytes(pickle.dumps(bare))
    np.savez(tmp_path / "inputs.npz", **random_inputs(made, 0))
    return made


def preparation(folder: Path, module: str, **options: object) -> dict[str, object]:
    settings = asdict(PeerSettings(options=options))
    return {"do": "prepare", "module": module, "folder": str(folder), "number": 4, "settings": settings}


def answers(*questions: object) -> list[dict[str, object]]:
    """What a worker says in this process."""
    lines = io.StringIO("".join(f"{q if isinstance(q, str) else json.dumps(q)}\n" for q in questions))
    return list(worker.answers(lines, io.StringIO()))


def fake_module(monkeypatch: pytest.MonkeyPatch, run_it: object) -> str:
    module = types.ModuleType("fake_contender")

    def prepare(network: Network, inputs: Values, settings: PeerSettings) -> Prepared:
        return Prepared(run_it, lambda: {"c_out": np.zeros((1, 2, 4, 4), np.float32)}, "nchw", "as told")  # type: ignore[arg-type]

    module.prepare = prepare  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "fake_contender", module)
    return "fake_contender"


@pytest.fixture(autouse=True)
def collector_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker switches the collector off for good."""
    monkeypatch.setattr(worker.gc, "disable", lambda: None)
    monkeypatch.setattr(worker.gc, "freeze", lambda: None)


def test_outputs_are_left_and_runs_are_counted(net: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[int] = []
    name = fake_module(monkeypatch, lambda: runs.append(1))
    prepared, timed = answers(preparation(tmp_path, name), {"do": "run", "calls": 5})
    assert prepared.pop("first_seconds") >= 0  # type: ignore[operator]
    assert prepared == {"layout": "nchw", "detail": "as told"}
    assert len(runs) == 1 + 1 + 5
    assert set(timed) == {"cpu_seconds", "wall_seconds"}
    with np.load(tmp_path / "outputs-4.npz") as stored:
        assert stored["c_out"].shape == (1, 2, 4, 4)


def test_what_goes_wrong_is_an_answer(net: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise ValueError("first line\n second " + "z" * 1000)

    name = fake_module(monkeypatch, fail)
    found = answers("no JSON", {"do": "run", "calls": 1}, preparation(tmp_path, name), preparation(tmp_path, "nowhere"))
    messages = [str(answer["error"]) for answer in found]
    assert messages[0].startswith("JSONDecodeError") and "nothing is prepared" in messages[1]
    assert messages[2].startswith("ValueError: first line second zzz") and len(messages[2]) < 500
    assert messages[3].startswith("ModuleNotFoundError")


@pytest.fixture
def ours(tmp_path: Path) -> Worker:
    return Worker(worker_command([min(os.sched_getaffinity(0))]), os.environ, tmp_path / "log.txt")


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the system pins no processes")
def test_a_real_worker_computes_and_stays_on_its_core(net: Network, tmp_path: Path, ours: Worker) -> None:
    with closing(ours):
        answer = ours.ask(preparation(tmp_path, f"{FOLDER}.ours", strategy="recompute"), 120)
        assert str(answer["layout"]).startswith("nchw") and answer["detail"] == "4"
        status = Path(f"/proc/{ours._process.pid}/status").read_text()
        assert f"Cpus_allowed_list:\t{min(os.sched_getaffinity(0))}\n" in status
        times = ours.ask({"do": "run", "calls": 10}, 60)
    assert all(isinstance(value, float) and value >= 0 for value in times.values())
    with np.load(tmp_path / "outputs-4.npz") as stored:
        expected = run(net, random_inputs(net, 0))
        assert max_relative_error(stored["c_out"], expected["c_out"]) < 1e-6
    assert ours._process.poll() is not None


NOISY = """
import os
from polyfuse.bench.peers.contender import Prepared
def prepare(network, inputs, settings):
    print("hello from python", flush=True)
    os.system("echo hello from C")
    return Prepared(lambda: print("again", flush=True), dict, "nchw")
"""


def test_what_a_library_prints_does_not_disturb(net: Network, tmp_path: Path) -> None:
    (tmp_path / "noisy_contender.py").write_text(NOISY)
    settings = {**os.environ, "PYTHONPATH": str(tmp_path)}
    with closing(Worker(worker_command([]), settings, tmp_path / "log.txt")) as process:
        assert process.ask(preparation(tmp_path, "noisy_contender"), 60)["layout"] == "nchw"
        assert "cpu_seconds" in process.ask({"do": "run", "calls": 2}, 60)
    assert "hello from C" in (tmp_path / "log.txt").read_text()


SLEEPY = """
import os, pathlib, time
from polyfuse.bench.peers.contender import Prepared
def prepare(network, inputs, settings):
    pathlib.Path(settings.options["pid"]).write_text(str(os.getpid()))
    time.sleep(100)
"""
ASKING = """
import json, os, pathlib, sys
from polyfuse.bench.peers.process import Worker, worker_command
Worker(worker_command([]), os.environ, pathlib.Path(sys.argv[1])).ask(json.loads(sys.argv[2]), 100)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent died")
def test_a_busy_worker_dies_with_polyfuse(net: Network, tmp_path: Path) -> None:
    (tmp_path / "sleepy_contender.py").write_text(SLEEPY)
    pid = tmp_path / "pid"
    question = json.dumps(preparation(tmp_path, "sleepy_contender", pid=str(pid)))
    settings = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", ASKING, str(tmp_path / "log.txt"), question]
    with subprocess.Popen(command, env=settings) as process:
        deadline = time.monotonic() + 60
        while not (pid.exists() and pid.read_text()) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.kill()
    status = Path("/proc") / pid.read_text() / "status"
    deadline = time.monotonic() + 10
    while status.exists() and "State:\tZ" not in status.read_text() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not status.exists() or "State:\tZ" in status.read_text()


def test_a_dead_worker_stays_dead(net: Network, tmp_path: Path) -> None:
    with closing(Worker([sys.executable, "-c", "pass"], os.environ, tmp_path / "log.txt")) as process:
        for _ in range(2):
            with pytest.raises(PeerError, match=r"exited with 0|died of|closed"):
                process.ask({"do": "run", "calls": 1}, 10)


def test_a_worker_ends_with_its_input(tmp_path: Path) -> None:
    finished = subprocess.run(worker_command([]), stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    assert (finished.returncode, finished.stdout) == (0, b"")
