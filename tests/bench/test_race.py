"""The race: peers that misbehave are told in one line, the others go on, and nothing is left running."""

import os
import pickle
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from polyfuse.bench.peers import race as race_module
from polyfuse.bench.peers.bounds import bandwidth_of, compulsory_bytes, direct_flops, level_for, peak_of
from polyfuse.bench.peers.contender import Contender, how_to_install, peers_named
from polyfuse.bench.peers.race import RaceRules, cores_for, environment, pickled, race, shared_settings
from polyfuse.bench.peers.results import PeerComparison
from polyfuse.errors import InvalidInput
from polyfuse.network.network import Builder, Network
from polyfuse.network.reference import random_inputs, run
from tests.deploy.networks import branches
from tests.machines.example import example as machine

FAKE = Path(__file__).with_name("fake_peer.py")
QUICK = RaceRules(repeats=3, search_seconds=0, start_seconds=20, run_seconds=20)
BRIEF = RaceRules(repeats=3, search_seconds=0, start_seconds=2, run_seconds=1)


def pair() -> Network:
    build = Builder("pair")
    x = build.input("x", (1, 2, 8, 8))
    return build.network(build.conv("conv2", build.conv("conv1", x, 2, kernel=3), 3, kernel=3))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the right outputs; folders of races are made inside of it, too."""
    net = pair()
    value = run(net, random_inputs(net, 0))["conv2_out"].astype(np.float32)
    np.savez(tmp_path / "right.npz", conv2_out=value)
    (tmp_path / "races").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "races"))
    return tmp_path


def raced(folder: Path, *modes: str, rules: RaceRules = QUICK, **extra: object) -> PeerComparison:
    """A race among fake peers."""

    def command(contender: Contender, cores: Sequence[int]) -> list[str]:
        return [sys.executable, str(FAKE), contender.name, str(folder)]

    contenders = [Contender(mode, "no_module") for mode in modes]
    return race(pair(), contenders, machine(), rules, command=command, **extra)  # type: ignore[arg-type]


def alive(pid_file: Path) -> bool:
    """Whether the process of a file runs; one that waits to be collected does not."""
    stat = Path("/proc") / pid_file.read_text() / "stat"
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def check_nothing_is_left(folder: Path) -> None:
    deadline = time.monotonic() + 5
    while any(map(alive, folder.glob("*.pid"))) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not [path.name for path in folder.glob("*.pid") if alive(path)]
    assert list((folder / "races").iterdir()) == []


def test_peers_that_behave_are_timed(folder: Path) -> None:
    found = raced(folder, "right", "slow")
    right, slow = found.rows
    assert (right.state, slow.state) == ("timed", "timed")
    assert (right.cpu_seconds, right.wall_seconds) == pytest.approx((0.001, 0.002))
    assert right.calls * 0.002 >= QUICK.min_seconds and right.rounds == 3
    assert (right.layout, right.detail) == ("nchw", "1 threads")
    assert right.max_rel_error is not None and right.max_rel_error < 1e-6
    assert [row.contender for row in found.timed] == ["right", "slow"]
    assert found.ratio_to_best(slow) == pytest.approx(2.0)
    assert found.ratio_to_bound(right) == pytest.approx(0.001 / found.bound_seconds)
    check_nothing_is_left(folder)


@pytest.mark.parametrize(
    ("mode", "state", "message"),
    [
        ("crash", "failed", "died of SIGABRT: of a peer"),
        ("crash_later", "failed", "died of SIGABRT: of a peer"),
        ("exit", "failed", "exited with 3"),
        ("garbage", "failed", r"answered 'Loading model \x1b[31m... done' where JSON was expected"),
        ("endless", "failed", "answered 'xxx"),
        ("list", "failed", "answered '[1, 2]' where JSON was expected"),
        ("error", "failed", "ValueError: no such operator yyy"),
        ("nothing", "failed", "left no outputs"),
        ("cut", "failed", "left no outputs"),
        ("names", "failed", "left the outputs another, not conv2_out"),
        ("times", "failed", "answered times that are none"),
        ("wrong", "wrong", "wrong result: relative error "),
        ("nan", "wrong", "wrong result: relative error inf"),
        ("shape", "wrong", "wrong result: relative error inf"),
    ],
)
def test_a_peer_that_misbehaves_is_one_line_and_the_others_go_on(
    folder: Path, mode: str, state: str, message: str
) -> None:
    bad, right = raced(folder, mode, "right").rows
    assert (bad.state, right.state) == (state, "timed")
    assert message in bad.message and "\n" not in bad.message and len(bad.message) < 400
    assert bad.message.isprintable() and bad.cpu_seconds is None
    check_nothing_is_left(folder)


@pytest.mark.parametrize("mode", ["hang", "hang_later"])
def test_a_peer_that_hangs_is_killed_with_its_children(folder: Path, mode: str) -> None:
    start = time.monotonic()
    bad, right = raced(folder, mode, "right", rules=BRIEF).rows
    assert (bad.state, right.state) == ("failed", "timed")
    assert "gave no answer within" in bad.message
    assert time.monotonic() - start < 30
    assert (folder / f"{mode}-child.pid").exists()
    check_nothing_is_left(folder)


@pytest.mark.parametrize("moment", ["reference", "slow", "timing"])
def test_an_interrupt_leaves_nothing(folder: Path, moment: str) -> None:
    def interrupt(what: str, done: int, of: int) -> None:
        if what == moment:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        raced(folder, "right", "slow", progress=interrupt)
    assert moment == "reference" or (folder / "right.pid").exists()
    check_nothing_is_left(folder)


def test_rounds_go_forwards_and_backwards(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order = []
    honest = race_module.Entrant.sample

    def sample(entrant: race_module.Entrant) -> tuple[float, float]:
        order.append(entrant.contender.name)
        return honest(entrant)

    monkeypatch.setattr(race_module.Entrant, "sample", sample)
    raced(folder, "right", "slow")
    assert order[-6:] == ["right", "slow", "slow", "right", "right", "slow"]


def test_what_is_not_installed_is_missing_and_not_started(folder: Path) -> None:
    contenders = [Contender("absent", "no_module", ("no_such_package_at_all",)), Contender("right", "no_module")]
    found = race(
        pair(),
        contenders,
        machine(),
        QUICK,
        command=lambda contender, cores: [sys.executable, str(FAKE), contender.name, str(folder)],
    )
    assert [row.state for row in found.rows] == ["missing", "timed"]
    assert found.rows[0].message == "not installed; pip install no_such_package_at_all"
    assert not (folder / "absent.pid").exists()


def test_several_threads_are_timed_by_the_wall_clock(folder: Path) -> None:
    found = raced(folder, "right", rules=RaceRules(threads=2, repeats=1))
    assert found.clock == "wall time" and found.seconds(found.rows[0]) == pytest.approx(0.002)
    assert found.rows[0].detail == "2 threads"


@pytest.mark.parametrize(
    ("modes", "rules", "message"),
    [
        ((), QUICK, "got none"),
        (("right", "right"), QUICK, "of different names"),
        (("right",), RaceRules(repeats=0), "repeats of at least 1"),
        (("right",), RaceRules(threads=0), "threads of at least 1"),
    ],
)
def test_races_that_make_no_sense_are_refused(
    folder: Path, modes: tuple[str, ...], rules: RaceRules, message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        raced(folder, *modes, rules=rules)


def test_peers_by_name() -> None:
    assert [peer.name for peer in peers_named("all")] == [
        "onnxruntime",
        "openvino",
        "torch-eager",
        "torch-inductor",
        "ncnn",
        "halide",
    ]
    assert peers_named("none") == ()
    assert [peer.name for peer in peers_named(" ncnn, torch-eager")] == ["torch-eager", "ncnn"]
    assert how_to_install(peers_named("torch,ncnn")) == "pip install torch ncnn pnnx"
    for text in ("", "tvm", "ncnn,,halide", "all,ncnn", "ncnn;ls"):
        with pytest.raises(InvalidInput, match="expected all, none or some of"):
            peers_named(text)


def test_every_process_gets_the_same_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("MALLOC_ARENA_MAX", "8")
    monkeypatch.setenv("GOMP_CPU_AFFINITY", "0-3")
    found = environment(1, tmp_path)
    assert (found["OMP_NUM_THREADS"], found["HL_NUM_THREADS"], found["MALLOC_ARENA_MAX"]) == ("1", "1", "1")
    assert "GOMP_CPU_AFFINITY" not in found and found["PATH"] == os.environ["PATH"]
    pages = tmp_path / "sys/kernel/mm/transparent_hugepage/enabled"
    pages.parent.mkdir(parents=True)
    pages.write_text("always [madvise] never\n")
    assert shared_settings(QUICK, tmp_path)["transparent_hugepage"] == "madvise"
    assert shared_settings(QUICK, tmp_path / "none")["transparent_hugepage"] == "unknown"
    assert len(cores_for(1)) == 1 and cores_for(100_000) == []


def test_bounds_are_those_of_the_machine() -> None:
    host, net = machine(), pair()
    assert direct_flops(net) == 2 * 9 * (2 * 2 * 36 + 2 * 3 * 16)
    assert compulsory_bytes(net) == 4 * (2 * 64 + 3 * 16 + 2 * 2 * 9 + 2 + 3 * 2 * 9 + 3)
    assert (peak_of(host, 1), peak_of(host, 2), peak_of(host, 8)) == (112.0, 224.0, 224.0)
    l1, dram = level_for(host, 32768), level_for(host, 32769)
    assert (l1.name, dram.name) == ("L1", "DRAM")
    assert bandwidth_of(dram, host, 1) == 30.0 and bandwidth_of(dram, host, 2) == 50.0
    padded = Builder("padded")
    y = padded.conv("c", padded.input("x", (1, 1, 4, 4)), 1, kernel=3, padding=1)
    assert direct_flops(padded.network(y)) == 2 * 100


def test_layers_that_were_worked_with_are_sent_too() -> None:
    network = branches()
    assert all(layer.makes.is_single_valued() for layer in network.layers)
    sent = pickle.loads(pickled(network))
    assert str(sent) == str(network) and all(layer.reference is not None for layer in sent.layers)
