"""`polyfuse explain` as people use it."""

import json
from pathlib import Path

import pytest

import polyfuse as pf
from polyfuse.deploy.explain import Explanation
from polyfuse.typed_json import decode
from tests.cli.calls import KERNEL, call, refused
from tests.rewrite.operator_graphs import LIGHT

NORMALISED = """
import numpy as np
from polyfuse import Builder, Network
from polyfuse.network.layers.pointwise import affine


def network(size: int = 8) -> Network:
    build = Builder("normalised")
    y = build.input("x", (1, 2, size, size))
    for name in ("first", "second"):
        y = build.conv(name, y, 2, kernel=3, padding=1)
        weights = [build.weight(f"{name}_{part}", (1, 2, 1, 1), 1) for part in ("gain", "offset")]
        y = build.activation(f"{name}_act", build.add(affine(f"{name}_bn", y, *weights)), "relu")
    return build.network(y)
"""


@pytest.fixture
def normalised(tmp_path: Path) -> str:
    path = tmp_path / "normalised.py"
    path.write_text(NORMALISED)
    return str(path)


def test_explain_names_rules_and_groups(normalised: str, tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    found = call("explain", normalised, "--json", str(file), width=100)
    assert (found.exit_code, found.stderr) == (0, "")
    for words in ("scaling-into-conv-before", "activation-into-producer", "first, first_bn -> first"):
        assert words in found.stdout
    document = json.loads(file.read_text())
    assert (document.pop("format"), document.pop("version")) == ("polyfuse-explanation", 2)
    explained: Explanation = decode(document, Explanation, "x.json")
    assert (explained.before.layers, explained.after.layers) == (6, 2)
    assert [block.layers for block in explained.published] == [("first",), ("second",)]
    plan = tmp_path / "plan.json"
    assert call("plan", normalised, "--machine", "host", "--json", str(plan)).exit_code == 0
    assert [list(group.layers) for group in explained.groups] == [
        group["layers"] for group in json.loads(plan.read_text())["groups"]
    ]


def test_a_plan_for_the_host_is_explained(normalised: str, tmp_path: Path) -> None:
    plan, file = tmp_path / "plan.json", tmp_path / "x.json"
    assert call("plan", normalised, "--machine", "host", "--groups", "single", "--json", str(plan)).exit_code == 0
    found = call("explain", str(plan), "--json", str(file), width=100)
    assert (found.exit_code, found.stderr) == (0, "")
    assert [group["layers"] for group in json.loads(file.read_text())["groups"]] == [["first"], ["second"]]


def test_a_network_that_this_host_cannot_compile_has_a_published_plan_and_a_reason(
    normalised: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    found = pf.explain(pf.load_workload(normalised))
    assert not found.groups and "no-such-compiler" in found.unplanned and len(found.published) == 2
    shown = call("explain", normalised)
    assert shown.exit_code == 0 and "no groups for this host" in shown.stdout


def test_a_model_is_explained() -> None:
    model = str(LIGHT / "light_squeezenet.onnx")
    found = call("explain", model, "--to", "n9", "--random-weights", "0", width=100)
    assert found.exit_code == 0 and "concat" in found.stdout


@pytest.mark.parametrize("profile", ["model", "measured", "never", "always"])
def test_every_profile_decides(normalised: str, profile: str) -> None:
    assert call("explain", normalised, "--profile", profile).exit_code == 0


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["--profile", "often"], 2, "'often' is not one of"),
        (["--set", "size=0"], 1, "expected whole sizes of at least 1"),
        (["--json", "no/such/folder/x.json"], 1, "make the folder"),
    ],
)
def test_bad_input_is_one_line(normalised: str, words: list[str], status: int, message: str) -> None:
    assert message in refused(call("explain", normalised, *words), status)


def test_the_example_kernel_has_nothing_to_rewrite(tmp_path: Path) -> None:
    path = tmp_path / "pair.py"
    path.write_text(KERNEL)
    found = call("explain", str(path))
    assert found.exit_code == 0 and "no rule applied" in found.stdout
