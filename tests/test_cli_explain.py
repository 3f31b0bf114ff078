"""`polyfuse explain` as people use it."""

import json
from pathlib import Path

import pytest

from polyfuse.rewrite.explain import Explanation
from polyfuse.typed_json import decode
from tests.rewrite.operator_graphs import LIGHT
from tests.test_cli import KERNEL, call, refused

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
    assert (document.pop("format"), document.pop("version")) == ("polyfuse-explanation", 1)
    explained: Explanation = decode(document, Explanation, "x.json")
    assert (explained.before.layers, explained.after.layers) == (6, 2)
    assert [len(group.layers) for group in explained.groups] == [2]
    assert explained.planned_groups == 2


def test_groups_depend_on_the_memory_there_is(normalised: str, tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    call("explain", normalised, "--on-chip", "64", "--json", str(file))
    assert len(json.loads(file.read_text())["groups"]) == 2


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
        (["--on-chip", "-1"], 2, "-1 is not in the range"),
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
