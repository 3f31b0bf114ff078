"""The light models of the onnx package, rewritten: same values, and as many published groups as the page says."""

import re
from pathlib import Path

import numpy as np
import pytest

from polyfuse.loading import load_onnx
from polyfuse.network.network import Network
from polyfuse.network.reference import max_relative_error, random_inputs, run
from polyfuse.rewrite.fusion import by_traffic, fusion_plan, operators_of
from polyfuse.rewrite.rewriting import rewrite
from tests.rewrite.operator_graphs import LIGHT
from tests.rewrite.test_fusion import PROTOTYPE

PAGE = Path(__file__).parents[2] / "docs" / "inside" / "rewriting.md"
ROWS = {
    row[0].replace("-", "").replace(" ", "_").lower(): [int(cell) for cell in row[1:]]
    for row in re.findall(r"^\| ([\w -]+) \|" + r" (\d+) \|" * 4 + "$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
}
"""Of each model: operators, groups with Y refused and accepted, and groups of the rewritten layers."""


def model(name: str) -> Network:
    """One layer for each node, as far as the importer does that."""
    return load_onnx(LIGHT / f"light_{name}.onnx", random_weights=0, rewritten=False)


@pytest.mark.parametrize("name", ["squeezenet", "shufflenet"])
def test_rewritten_models_have_the_same_values(name: str) -> None:
    network = model(name)
    found = rewrite(network)
    inputs = random_inputs(network, 1)
    before, after = run(network, inputs), run(found.network, inputs)
    expected = before[network.outputs[0].name]
    assert np.isfinite(expected).all() and expected.std() > 0
    for old, new in found.tensors.items():
        assert max_relative_error(after[new.name], before[old]) < 1e-6


@pytest.mark.parametrize("name", sorted(PROTOTYPE))
def test_the_page_says_how_many_groups_the_published_plan_has(name: str) -> None:
    _, *published, rewritten = ROWS[name]
    assert published == list(PROTOTYPE[name])
    operators = operators_of(rewrite(model(name)).network)
    assert len(fusion_plan(operators, by_traffic)) == rewritten


def test_shuffles_are_single_layers() -> None:
    found = rewrite(model("shufflenet"))
    kinds = [layer.kind for layer in found.network.layers]
    assert kinds.count("shuffle") == 16 and kinds.count("transpose") == 0 and kinds.count("reshape") == 1
