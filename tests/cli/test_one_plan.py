"""One format of plans: every command that takes a plan takes those of every machine."""

import json
from pathlib import Path

import numpy as np
import pytest

import polyfuse as pf
from polyfuse.deploy.plan import Plan
from polyfuse.network.reference import max_relative_error, random_inputs, run
from tests.cli.calls import call, refused

NET = "kernels/two_convs.py"


@pytest.fixture(scope="module")
def plans(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A plan of each kind, as the command makes it."""
    folder = tmp_path_factory.mktemp("plans")
    found = {"host": str(folder / "host.json"), "npu": str(folder / "npu.json")}
    for machine, path in found.items():
        made = call("plan", NET, "--machine", machine, "--json", path)
        assert (made.exit_code, made.stderr) == (0, "")
    return found


@pytest.mark.parametrize("machine", ["host", "npu"])
def test_every_command_takes_every_plan(machine: str, plans: dict[str, str], tmp_path: Path) -> None:
    plan = plans[machine]
    network = pf.load_workload(NET)
    inputs = random_inputs(network, 3)
    np.save(tmp_path / "x.npy", inputs["x"])
    for words in (
        ("compile", NET, "--plan", plan, "-o", str(tmp_path / "c")),
        ("run", NET, "--plan", plan, "--input", str(tmp_path / "x.npy"), "-o", str(tmp_path / "y.npy")),
        ("verify", NET, "--plan", plan),
        ("plan", NET, "--plan", plan),
        ("explain", plan),
    ):
        done = call(*words, width=120)
        assert (done.exit_code, done.stderr) == (0, ""), words
    expected = run(network, inputs)[network.outputs[0].name]
    assert max_relative_error(np.load(tmp_path / "y.npy"), expected) < 1e-5
    document = json.loads((tmp_path / "c" / "plan.json").read_text())
    assert document == json.loads(Path(plan).read_text())


def test_the_plan_for_the_host_is_what_compile_makes(plans: dict[str, str], tmp_path: Path) -> None:
    assert call("compile", NET, "-o", str(tmp_path)).exit_code == 0
    assert json.loads((tmp_path / "plan.json").read_text()) == json.loads(Path(plans["host"]).read_text())
    read = pf.read_plan(Path(plans["host"]))
    assert isinstance(read, Plan) and read.origin is not None and read.origin.path == NET
    assert isinstance(pf.read_plan(Path(plans["npu"])), pf.ScratchPlan)


def test_what_is_no_plan_is_one_line(plans: dict[str, str], tmp_path: Path) -> None:
    for change, message in (
        ({"version": 1}, "expected format 'polyfuse-plan' version 2, got 'polyfuse-plan' 1; plan again"),
        ({"machine": {"name": "npu"}}, "machine: expected an object with a kind, one of host, scratchpad"),
        ({"machine": {"kind": "cloud"}}, "kind: expected one of 'host', 'scratchpad', got 'cloud'"),
    ):
        path = tmp_path / "changed.json"
        path.write_text(json.dumps(json.loads(Path(plans["host"]).read_text()) | change))
        for command in ("compile", "run", "verify", "plan"):
            assert message in refused(call(command, NET, "--plan", str(path)), 1)


def test_the_published_plan_is_built_and_is_right(tmp_path: Path) -> None:
    for kernel, blocks in (("kernels/mbv2_block.py", ["--set", "size=14"]), ("kernels/unet.py", ["--set", "size=32"])):
        done = call("verify", kernel, *blocks, "--groups", "published", width=120)
        assert (done.exit_code, done.stderr) == (0, "")
        found = call(
            "plan", kernel, *blocks, "--machine", "host", "--groups", "published", "--json", str(tmp_path / "p")
        )
        assert found.exit_code == 0
        groups = [tuple(group["layers"]) for group in json.loads((tmp_path / "p").read_text())["groups"]]
        name, size = blocks[1].split("=")
        explained = pf.explain(pf.load_workload(kernel, parameters={name: size}))
        assert sorted(groups) == sorted(block.layers for block in explained.published)
