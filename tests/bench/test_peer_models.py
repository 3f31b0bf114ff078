"""The models that peers run have the network's inputs and outputs, whatever those of the file are."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from polyfuse.bench.peers.models import network_and_model
from polyfuse.loading import Workload
from polyfuse.network.onnx.export import onnx_model
from polyfuse.network.reference import max_relative_error, random_inputs, run
from tests.deploy.ends import ENDS, random_model, saved, session_of


@pytest.mark.parametrize("kind", [*ENDS, *range(10)])
def test_a_peer_gets_the_ends_of_the_network(kind: str | int, tmp_path: Path) -> None:
    made = random_model(kind) if isinstance(kind, int) else ENDS[kind]
    network, model = network_and_model(Workload(str(saved(made, tmp_path))))
    session = session_of(model or onnx_model(replace(network, signature=None)))
    assert {each.name for each in session.get_inputs()} == {tensor.name for tensor in network.inputs}
    inputs, names = random_inputs(network, 0), [tensor.name for tensor in network.outputs]
    assert {each.name for each in session.get_outputs()} == set(names)
    exact = run(network, inputs)
    for name, value in zip(names, session.run(names, inputs), strict=True):
        assert max_relative_error(np.asarray(value), exact[name]) < 1e-5
