"""The layers of whole networks as torch computes them, where torch is installed."""

from pathlib import Path

import numpy as np
import pytest

from polyfuse.bench.peers.torch_eager import network_module
from polyfuse.errors import UnsupportedOperator
from polyfuse.loading import load_workload
from polyfuse.network.network import Network
from polyfuse.network.reference import max_relative_error, random_inputs, run
from tests.network.layers.test_whole_layers import LAYERS
from tests.network.onnx.test_export import WHOLE, of_layers

torch = pytest.importorskip("torch")
KERNELS = Path(__file__).parents[2] / "kernels"
REFUSED = {"lrn of an even size", "reflect", "nearest of scales", "conv_transpose"}


def error(net: Network) -> float:
    """The largest relative error of torch."""
    given = random_inputs(net, 4)
    expected = run(net, given)
    made = network_module(torch, net, convert=True)(*(torch.from_numpy(given[t.name]) for t in net.inputs))
    pairs = zip(made, net.outputs, strict=True)
    return max(max_relative_error(np.asarray(each), expected[t.name]) for each, t in pairs)


@pytest.mark.parametrize("name", sorted({*LAYERS, *WHOLE}))
def test_layers(name: str) -> None:
    net = of_layers(*(WHOLE[name]() if name in WHOLE else [LAYERS[name]()]))
    if name in REFUSED:
        with pytest.raises(UnsupportedOperator, match=r"layer '.': torch"):
            error(net)
    else:
        assert error(net) <= 1e-5


@pytest.mark.parametrize(
    ("kernel", "parameters"),
    [
        ("mobilenet_v2", {"size": "32"}),
        ("efficientnet_b0", {"size": "32"}),
        ("unet", {"size": "32"}),
        ("unet", {"size": "32", "up": "nearest"}),
        ("unet", {"size": "32", "up": "linear"}),
        ("fsrcnn_x2", {"rows": "9", "columns": "12"}),
    ],
)
def test_whole_networks(kernel: str, parameters: dict[str, str]) -> None:
    assert error(load_workload(str(KERNELS / f"{kernel}.py"), parameters=parameters)) <= 1e-5
