"""What the importer makes of a node is called after it, with an ENDING: no other node's names can be the same."""

from pathlib import Path

import pytest

from polyfuse.errors import PolyfuseError
from polyfuse.network.network import Network
from polyfuse.network.onnx.graph import ENDING
from polyfuse.network.onnx.load import imported
from tests.network.onnx.conformance import FOLDED, OPERATORS, cases_of, trials

STEM = "the_node_that_is_tried"


def names_in(network: Network) -> list[str]:
    """All names of layers, statements, their tensors and weights."""
    found = []
    for layer in network.layers:
        found += [layer.name, layer.output.name, *(statement.name for statement in layer.statements)]
        found += [weight.name for weight in layer.weights]
    return found


@pytest.mark.parametrize("operator", sorted(set(OPERATORS) - {*FOLDED}))
def test_every_operator_keeps_to_the_endings(operator: str, tmp_path: Path) -> None:
    seen = 0
    for case in cases_of(operator)[:6]:
        for model in trials(case):
            model.graph.node[0].name = STEM
            path = tmp_path / "m.onnx"
            path.write_bytes(model.SerializeToString())
            try:
                network = imported(path).network
            except PolyfuseError:
                continue
            names = names_in(network)
            seen += len(names)
            ends = {name.removeprefix(STEM) for name in names if not name.endswith(("_output", "_output_out", "_output_final"))}  # fmt: skip  # noqa: E501
            assert all(ENDING.fullmatch(end) for end in ends), sorted(ends)
            made = [layer.output.name for layer in network.layers] + [layer.name for layer in network.layers]
            assert len(set(made)) == len(made)
    assert seen
