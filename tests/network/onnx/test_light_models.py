"""The nine real graphs that onnx ships: whole, with seeded random weights, against onnxruntime.

Their own weights are constant and prove nothing. What enters the last softmax is compared, too, since its result is
often close to one class.
"""

from pathlib import Path

import onnx
import pytest
from onnx import helper

from polyfuse.loading import load_onnx
from polyfuse.network.reference import max_relative_error, random_inputs, run
from tests.network.onnx.models import onnxruntime_run, randomised

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
CLOSE = 1e-4
LAYERS = {
    "bvlc_alexnet": 18,
    "densenet121": 246,
    "inception_v1": 88,
    "inception_v2": 98,
    "resnet50": 77,
    "shufflenet": 95,
    "squeezenet": 42,
    "vgg19": 29,
    "zfnet512": 18,
}
"""The models, and how many layers they become, rewritten."""


def test_all_models_are_compared() -> None:
    assert {path.stem.removeprefix("light_") for path in LIGHT.glob("light_*.onnx")} == set(LAYERS)


@pytest.mark.parametrize("name", sorted(LAYERS))
def test_light_model(name: str) -> None:
    path = LIGHT / f"light_{name}.onnx"
    net = load_onnx(path, random_weights=3)
    assert len(net.layers) == LAYERS[name]
    made = randomised(path, 3)
    softmax = [node for node in made.graph.node if node.op_type == "Softmax"]
    entering = [net.layer(f"{layer.name}_max").inputs[0] for layer in net.layers[-1:] if layer.kind == "div"]
    made.graph.output.extend(helper.make_tensor_value_info(node.input[0], 1, None) for node in softmax)
    stored = {tensor.name for tensor in made.graph.initializer}
    inputs = [value.name for value in made.graph.input if value.name not in stored]
    given = random_inputs(net, 7)
    expected = onnxruntime_run(made, dict(zip(inputs, given.values(), strict=True)))
    actual = run(net, given)
    compared = [*net.outputs, *entering]
    assert len(compared) == len(expected) == 1 + len(softmax)
    for tensor, value in zip(compared, expected, strict=True):
        assert value.std() > 0.0
        assert max_relative_error(actual[tensor.name], value) <= CLOSE, tensor
