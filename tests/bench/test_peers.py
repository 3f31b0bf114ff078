"""Every peer that is installed computes what the reference computes, or says in one line that it cannot."""

import os
import pickle
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator

from polyfuse.bench.peers.contender import PEERS, Contender, PeerSettings, how_to_install
from polyfuse.bench.peers.models import renamed
from polyfuse.bench.peers.ours import Configuration, ours
from polyfuse.bench.peers.process import PeerError, Worker, worker_command
from polyfuse.bench.peers.race import MALLOC, MOST_ERROR, RaceRules, race
from polyfuse.choices import RaceLayout
from polyfuse.errors import InvalidInput
from polyfuse.network.activated import with_activation
from polyfuse.network.layers import pointwise
from polyfuse.network.network import Builder, Network
from polyfuse.network.onnx.export import onnx_model
from polyfuse.network.reference import max_relative_error, random_inputs, run
from polyfuse.network.tensor import Tensor
from tests.deploy.networks import branches
from tests.machines.example import example as machine

QUICK = [peer for peer in PEERS if peer.name != "torch-inductor"]


def chain(*steps: Callable[[Builder, Tensor], Tensor], shape: tuple[int, ...] = (1, 12, 15, 18)) -> Network:
    """A network of one layer after another."""
    build = Builder("chain", seed=4)
    x = build.input("x", shape)
    for step in steps:
        x = step(build, x)
    return build.network(x)


def residual(build: Builder, x: Tensor) -> Tensor:
    y = build.conv("expand", x, 40, kernel=1, activation="relu6")
    y = build.depthwise("depthwise", y, kernel=3, padding=1, activation="relu6")
    return build.arithmetic("sum", "add", build.conv("project", y, 12, kernel=1), x, activation="relu")


def gated(build: Builder, x: Tensor) -> Tensor:
    mean = build.global_average_pool("mean", x)
    return build.arithmetic("gate", "mul", build.activation("soft", mean, "sigmoid"), x)


def two_ends() -> Network:
    build = Builder("ends")
    x = build.input("x", (1, 8, 12, 12))
    y = build.conv("a", x, 8, kernel=3, padding=1, activation="relu")
    return build.network(build.conv("b", y, 4, kernel=3), y)


NETWORKS: dict[str, Callable[[], Network]] = {
    "three to one": lambda: chain(
        lambda b, x: b.conv("a", x, 20, kernel=3, stride=2, padding=1, activation="relu"),
        lambda b, x: b.conv("b", x, 1, kernel=3, padding=1),
        shape=(1, 3, 37, 41),
    ),
    "stencils": lambda: chain(
        *(lambda b, x, k=k: b.conv(f"c{k}", x, 1, kernel=3) for k in range(3)), shape=(1, 1, 40, 50)
    ),
    "wide": lambda: chain(
        lambda b, x: b.conv("a", x, 64, kernel=3, padding=1, activation="relu"),
        lambda b, x: b.conv("b", x, 64, kernel=3, padding=1, activation="relu"),
        lambda b, x: b.max_pool("c", x, kernel=2),
        shape=(1, 64, 20, 26),
    ),
    "uneven": lambda: chain(
        lambda b, x: b.conv("a", x, 18, kernel=(5, 3), padding=(2, 0, 1, 1), dilation=(1, 2), bias=False),
        lambda b, x: b.conv("b", x, 6, kernel=3, groups=3, stride=(2, 1), activation=("leaky_relu", 0.1)),
    ),
    "residual": lambda: chain(residual),
    "depthwise 5x5": lambda: chain(
        lambda b, x: b.depthwise("a", x, kernel=5, padding=2, stride=2, activation="hard_swish"),
        lambda b, x: b.depthwise("b", x, kernel=7, padding=3),
    ),
    "pools": lambda: chain(
        lambda b, x: b.max_pool("a", x, kernel=3, stride=2, padding=1),
        lambda b, x: b.average_pool("b", x, kernel=3, stride=1, padding=1),
        lambda b, x: b.average_pool("c", x, kernel=3, stride=2, padding=1, count_include_pad=True),
    ),
    "uneven averages": lambda: chain(
        lambda b, x: b.conv("first", x, 9, kernel=1),
        lambda b, x: b.average_pool("a", x, kernel=3, stride=2, padding=(0, 1, 1, 0)),
        lambda b, x: b.average_pool("b", x, kernel=(3, 2), stride=1, padding=(0, 1, 2, 0), count_include_pad=True),
        lambda b, x: b.average_pool("c", x, kernel=7, stride=1, padding=(0, 0, 0, 1)),
    ),
    "gated": lambda: chain(gated),
    "joined": lambda: chain(
        lambda b, x: b.concat("join", b.conv("a", x, 8, kernel=1), x, b.activation("t", x, "tanh")),
        lambda b, x: b.conv("b", x, 24, kernel=3, padding=1, activation="silu"),
    ),
    "scaled": lambda: chain(
        lambda b, x: b.add(pointwise.affine("n", x, b.weight("s", (1, 12, 1, 1), 1), b.weight("t", (1, 12, 1, 1), 1))),
        lambda b, x: b.conv("c", x, 16, kernel=3, padding=1, activation=("elu", 0.5)),
    ),
    "normalised": lambda: chain(
        lambda b, x: b.add(
            with_activation(pointwise.affine("n", x, *(b.weight(name, (1, 12, 1, 1), 1) for name in "st")), "relu")
        ),
        lambda b, x: b.conv("c", x, 16, kernel=3, padding=1),
    ),
    "two ends": two_ends,
    "ceil": lambda: chain(lambda b, x: b.max_pool("a", x, kernel=2, ceil=True)),
    "batch": lambda: chain(lambda b, x: b.conv("a", x, 16, kernel=3, padding=1), shape=(2, 8, 9, 9)),
}
REFUSED = {
    ("halide", "batch"): "one image",
}


class Session:
    """The process of a peer, which prepares one network after another."""

    def __init__(self, peer: Contender, folder: Path) -> None:
        self.peer, self.folder = peer, folder
        self.settings = {**os.environ, **MALLOC, "OMP_NUM_THREADS": "1", "HL_NUM_THREADS": "2"}
        self.worker = self.started()

    def started(self) -> Worker:
        return Worker(worker_command([]), self.settings, self.folder / "log.txt")

    def error(self, net: Network, interface: RaceLayout = "preferred", threads: int = 1) -> float:
        """The relative error of what the peer computes, after several runs."""
        inputs = random_inputs(net, 6)
        bare = replace(net, layers=tuple(replace(layer, reference=None) for layer in net.layers))
        (self.folder / "network.pickle").write_bytes(pickle.dumps(bare))
        np.savez(self.folder / "inputs.npz", **inputs)
        settings = asdict(PeerSettings(threads, interface, 0.0, self.peer.options))
        question = {"do": "prepare", "module": self.peer.module, "folder": str(self.folder), "number": 0}
        try:
            self.worker.ask({**question, "settings": settings}, 300)
            self.worker.ask({"do": "run", "calls": 2}, 60)
        except PeerError:
            self.worker = self.started()
            raise
        expected = run(net, inputs)
        with np.load(self.folder / "outputs-0.npz") as stored:
            return max(max_relative_error(stored[t.name], expected[t.name]) for t in net.outputs)


@pytest.fixture(scope="module")
def session(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    peer: Contender = request.param
    if not peer.installed:
        pytest.skip(how_to_install([peer]))
    opened = Session(peer, tmp_path_factory.mktemp("peer"))
    yield opened
    opened.worker.close()


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("session", QUICK, ids=lambda peer: peer.name, indirect=True, scope="module")
def test_peers_compute_what_the_reference_computes(session: Session, network: str) -> None:
    refusal = REFUSED.get((session.peer.name, network))
    if refusal is None:
        assert session.error(NETWORKS[network]()) <= MOST_ERROR / 10
    else:
        with pytest.raises(PeerError, match=f"UnsupportedOperator.*{refusal}"):
            session.error(NETWORKS[network]())


@pytest.mark.parametrize("network", ["residual", "stencils", "wide", "two ends"])
@pytest.mark.parametrize("session", QUICK, ids=lambda peer: peer.name, indirect=True, scope="module")
def test_all_can_take_and_give_planes(session: Session, network: str) -> None:
    assert session.error(NETWORKS[network](), "nchw") <= MOST_ERROR / 10


@pytest.mark.parametrize("session", QUICK[-1:], ids=lambda peer: peer.name, indirect=True, scope="module")
def test_halide_shares_tiles_among_threads(session: Session) -> None:
    for network in ("residual", "stencils", "wide", "two ends"):
        assert session.error(NETWORKS[network](), threads=2) <= MOST_ERROR / 10


@pytest.mark.skipif(not PEERS[3].installed, reason="torch is not installed")
def test_a_compiled_network_is_right(tmp_path: Path) -> None:
    session = Session(PEERS[3], tmp_path)
    try:
        assert session.error(NETWORKS["residual"]()) <= MOST_ERROR / 10
    finally:
        session.worker.close()


@pytest.mark.parametrize("strategy", ["local", "recompute", "unfused"])
def test_polyfuse_is_a_contender(strategy: str) -> None:
    found = race(NETWORKS["residual"](), [Configuration(strategy).contender()], machine(), RaceRules(repeats=1))
    (row,) = found.rows
    assert (row.contender, row.state, row.message) == (f"polyfuse {strategy}", "timed", "")


def test_onnxruntime_races_polyfuse() -> None:
    onnxruntime = PEERS[0]
    if not onnxruntime.installed:
        pytest.skip("onnxruntime is not installed")
    found = race(NETWORKS["wide"](), [Configuration().contender(), onnxruntime], machine(), RaceRules(repeats=2))
    assert [row.state for row in found.rows] == ["timed", "timed"]
    assert found.rows[1].version and found.rows[1].layout == "nchw"
    assert all(row.cpu_seconds and row.wall_seconds for row in found.rows)


def test_a_configuration_is_a_kernel() -> None:
    net = NETWORKS["uneven"]()
    inputs = random_inputs(net, 2)
    for configuration in (
        Configuration(),
        Configuration("recompute", threads=2),
        Configuration("local", threads=2),
        Configuration("unfused", threads=2),
    ):
        made = ours(net, configuration)(**inputs)
        assert max_relative_error(made["b_out"], run(net, inputs)["b_out"]) < 1e-5
    with pytest.raises(
        InvalidInput, match="expected a strategy of tuned, plan, published, local, recompute, unfused, got 'best'"
    ):
        Configuration("best")


def test_a_model_keeps_its_meaning_under_other_names() -> None:
    network = branches()
    model = onnx_model(network)
    names = {"x": "a1_out", network.outputs[0].name: "x"}
    found = renamed(model, names)
    inputs = random_inputs(network, seed=6)
    before = ReferenceEvaluator(model).run(None, inputs)[0]
    after = ReferenceEvaluator(found).run(None, {"a1_out": inputs["x"]})[0]
    assert [value.name for value in found.graph.input] == ["a1_out"]
    assert [value.name for value in found.graph.output] == ["x"]
    assert np.array_equal(before, after)
