"""Groups of a plan that are tuned, and plans that take what was found."""

import json
from pathlib import Path

import numpy as np
import pytest

import polyfuse as pf
from polyfuse.bench.tune import Tuner
from polyfuse.choices import LONGEST
from polyfuse.deploy.model import load, plan_of
from polyfuse.deploy.plan import Plan
from polyfuse.deploy.settings import Settings
from polyfuse.deploy.tuned import read_tuned
from polyfuse.machines.host import known_machine
from polyfuse.network.network import Builder, Network
from polyfuse.network.reference import max_relative_error, random_inputs, run
from tests.cli.calls import call

KERNEL = """
from polyfuse import Builder, Network


def network(size: int = 24) -> Network:
    build = Builder("many")
    y = build.input("x", (1, 16, size, size))
    for k in range(5):
        y = build.depthwise(f"deep{k}", build.conv(f"conv{k}", y, 16, kernel=1, activation="relu"), kernel=3, padding=1)
    return build.network(y)
"""


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A kernel file of more layers than one group has, with a tuned file and a machine file of its own."""
    monkeypatch.setenv("POLYFUSE_TUNED", str(tmp_path / "tuned.json"))
    monkeypatch.setenv("POLYFUSE_MACHINE", str(tmp_path / "machine.toml"))
    (tmp_path / "machine.toml").write_text(known_machine().to_toml())
    path = tmp_path / "many.py"
    path.write_text(KERNEL)
    return str(path)


def network_of(kernel: str) -> Network:
    return pf.load_workload(kernel)


def test_plans_take_what_was_found_for_their_groups(kernel: str) -> None:
    network = network_of(kernel)
    assert len(network.layers) > LONGEST
    before = plan_of(network, Settings().ready)
    assert not any(group.tuned for group in before.groups)
    found = Tuner(Settings(machine=known_machine()).ready, measured=1).groups(network)
    assert {each.layers for each in found} == {group.layers for group in before.groups if group.tile is not None}
    after = plan_of(network, Settings().ready)
    chosen = {each.layers: each.entry.best for each in found}
    for group in after.groups:
        best = chosen.get(group.layers)
        assert group.tuned == (best is not None)
        if best is not None:
            assert (group.tile, group.others, group.price) == (best.tile, best.others, best.seconds)
    assert plan_of(network, Settings(untuned=True).ready) == before
    inputs = random_inputs(network, 0)
    expected = run(network, inputs)[network.outputs[0].name]
    made = load(network)(**inputs)
    assert isinstance(made, np.ndarray) and max_relative_error(made, expected) < 1e-5


def test_tune_then_compile_says_what_it_took(kernel: str, tmp_path: Path) -> None:
    found = call("tune", kernel, "--measure", "1", "--json", str(tmp_path / "t.json"))
    assert (found.exit_code, found.stderr) == (0, "") and "unfused" in found.stdout
    assert len(json.loads((tmp_path / "t.json").read_text())) == len(read_tuned())
    done = call("compile", kernel, "-o", str(tmp_path / "c"), width=120)
    assert done.exit_code == 0 and "groups are as polyfuse tune" in done.stdout
    assert any(group["tuned"] for group in json.loads((tmp_path / "c" / "plan.json").read_text())["groups"])
    anew = call("compile", kernel, "-o", str(tmp_path / "d"), "--untuned", width=120)
    assert anew.exit_code == 0 and "polyfuse tune" not in anew.stdout


def test_a_whole_network_that_was_tuned_is_one_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYFUSE_TUNED", str(tmp_path / "tuned.json"))
    build = Builder("pair")
    y = build.conv("b", build.conv("a", build.input("x", (1, 8, 12, 12)), 8, kernel=3), 8, kernel=3)
    network = build.network(y)
    entry = pf.tune(network, known_machine(), measured=1)
    assert entry.best is not None
    plan = plan_of(network, Settings().ready)
    assert [(group.layers, group.tile, group.tuned) for group in plan.groups] == [(("a", "b"), entry.best.tile, True)]
    assert plan.algorithms == entry.best.algorithms
    single = plan_of(network, Settings(longest=1).ready)
    assert [group.layers for group in single.groups] == [("a",), ("b",)]
    edited = Plan.from_json(plan.to_json().replace('"interface": "nchw"', '"interface": "blocked"'))
    assert not any(group.tuned for group in edited.groups)
