"""The workloads of ./kernels: shapes, multiply-accumulates, and small versions against onnxruntime's semantics."""

import ast
from math import prod
from pathlib import Path

import pytest

from polyfuse.loading import load_workload
from polyfuse.network.network import Network
from polyfuse.network.reference import random_inputs, run

KERNELS = Path(__file__).parents[2] / "kernels"


def kernel(name: str, **parameters: object) -> Network:
    return load_workload(str(KERNELS / f"{name}.py"), parameters={k: str(v) for k, v in parameters.items()})


def macs(network: Network) -> int:
    """Multiply-accumulates, counted over instances that exist: taps on padding are not."""
    return sum(
        statement.macs * statement.domain.count_val().to_python()
        for layer in network.layers
        for statement in layer.macs
    )


def nominal_macs(network: Network) -> int:
    """Multiply-accumulates as published: outputs times the size of a filter."""
    total = 0
    for layer in network.layers:
        if layer.kind in ("conv", "gemm"):
            total += layer.output.elements * prod(layer.weights[0].concrete_shape[1:])
        if layer.kind == "conv_transpose":
            total += layer.inputs[0].elements * prod(layer.weights[0].concrete_shape[1:])
    return total


@pytest.mark.parametrize(
    ("name", "shape", "kinds", "nominal"),
    [
        ("stencil3", (1, 1, 2042, 2042), "conv conv conv", 9 * (2046**2 + 2044**2 + 2042**2)),
        ("vgg_pair", (1, 64, 112, 112), "conv conv max_pool", 2 * 224**2 * 64 * 576),
        ("mbv2_block", (1, 24, 56, 56), "conv conv conv add", 56**2 * (24 * 144 + 144 * 9 + 144 * 24)),
        ("dwsep", (1, 128, 56, 56), "conv conv conv conv", 112**2 * (288 + 2048) + 56**2 * (576 + 8192)),
        ("fsrcnn", (1, 16, 540, 960), " ".join(["conv"] * 8), 8_362_594_208),
        ("sr4", (1, 16, 540, 960), "conv conv conv conv", 4 * 540 * 960 * 16 * 144),
        ("resnet_block", (1, 64, 56, 56), "conv conv add", 2 * 56**2 * 64 * 576),
        ("stem", (1, 24, 114, 114), "conv conv conv", 114**2 * 24 * (27 + 25 + 24)),
        ("dilated", (1, 32, 64, 64), "conv conv conv", 3 * 64**2 * 32 * 288),
        ("asymmetric", (1, 192, 17, 17), "conv conv", 17**2 * 7 * 128 * (128 + 192)),
        ("two_convs", (1, 16, 28, 28), "conv conv", (30**2 + 28**2) * 16 * 144),
    ],
)
def test_defaults(name: str, shape: tuple[int, ...], kinds: str, nominal: int) -> None:
    network = kernel(name)
    assert network.name == name and network.outputs[0].shape == shape
    assert [layer.kind for layer in network.layers] == kinds.split()
    assert nominal_macs(network) == nominal


@pytest.mark.parametrize(
    ("name", "shape", "nominal", "parameters"),
    [
        ("mobilenet_v1", (1, 1000), 568_740_352, 4_231_976),
        ("mobilenet_v2", (1, 1000), 300_774_272, 3_504_872),
        ("mobilenet_v3_large", (1, 1000), 216_589_760, 5_483_032),
        ("efficientnet_b0", (1, 1000), 385_814_752, 5_288_548),
        ("unet", (1, 2, 256, 256), 2_320_498_688, None),
        ("fsrcnn_x2", (1, 1, 540, 960), 1_615_334_400, 12_809),
        ("espcn", (1, 1, 540, 960), 270 * 480 * (64 * 25 + 32 * 576 + 4 * 288), 21_284),
    ],
)
def test_whole_networks(name: str, shape: tuple[int, ...], nominal: int, parameters: int | None) -> None:
    """The published numbers of parameters of the classifiers count two for each channel that is normalised."""
    network = kernel(name)
    assert network.name == name and network.outputs[0].shape == shape
    assert nominal_macs(network) == nominal
    if parameters is not None:
        made = [layer for layer in network.layers if layer.kind == "conv" and shape == (1, 1000)]
        normalised = sum(each.output.concrete_shape[1] for each in made if not each.name.endswith(("squeeze", "gate")))
        assert sum(value.size for value in network.weights.values()) + normalised == parameters


def test_widths_are_multiples_of_eight() -> None:
    channels = [layer.output.shape[1] for layer in kernel("mobilenet_v2", width=0.35).layers if layer.kind == "conv"]
    assert channels[:6] == [16, 16, 8, 48, 48, 8] and channels[-1] == 1280


def test_taps_on_padding_are_not_counted() -> None:
    assert macs(kernel("two_convs", size=9, channels=2)) == (7**2 + 5**2) * 2 * 18
    assert macs(kernel("sr4", rows=5, columns=6, channels=2, layers=1)) == (3 * 5 - 2) * (3 * 6 - 2) * 4


SMALL: dict[str, dict[str, object]] = {
    "mobilenet_v1": {"size": 32, "width": 0.25, "classes": 5},
    "mobilenet_v2": {"size": 32, "width": 0.25, "classes": 5},
    "mobilenet_v3_large": {"size": 32, "width": 0.25, "classes": 5},
    "efficientnet_b0": {"size": 32, "width": 0.25, "classes": 5},
    "unet": {"size": 16, "channels": 2},
    "espcn": {"rows": 4, "columns": 5},
    "fsrcnn_x2": {"rows": 4, "columns": 5},
    "stencil3": {"size": 9},
    "vgg_pair": {"size": 6, "channels": 3},
    "mbv2_block": {"size": 5, "channels": 2},
    "dwsep": {"size": 7, "pairs": 3},
    "fsrcnn": {"rows": 3, "columns": 4},
    "sr4": {"rows": 5, "columns": 6, "channels": 2},
    "resnet_block": {"size": 5, "channels": 3},
    "two_convs": {"size": 7, "channels": 2},
    "stem": {"size": 11, "channels": 3},
    "dilated": {"size": 9, "channels": 2},
    "asymmetric": {"size": 5, "channels": 2, "out": 3},
}


@pytest.mark.parametrize("name", sorted(SMALL))
def test_small_versions_run_by_batches(name: str) -> None:
    network = kernel(name, batch=2, **SMALL[name])
    given = random_inputs(network, 1)
    out = run(network, given)[network.outputs[0].name]
    assert out.shape[0] == 2 and out.std() > 0.01
    one = kernel(name, batch=1, **SMALL[name])
    alone = run(one, {"x": given["x"][1:]})[one.outputs[0].name]
    assert abs(alone[0] - out[1]).max() < 1e-12


def test_every_kernel_is_tested_and_documented() -> None:
    files = {path.stem: path for path in KERNELS.glob("*.py")}
    assert set(files) >= set(SMALL)
    assert all(ast.get_docstring(ast.parse(path.read_text())) for path in files.values())


def test_batches_and_sizes_follow_the_parameters() -> None:
    assert kernel("mbv2_block", size=224, batch=4).inputs[0].shape == (4, 24, 224, 224)
    assert len(kernel("dwsep", pairs=13).layers) == 26
    assert kernel("dwsep", pairs=13).outputs[0].shape == (1, 1024, 7, 7)
