"""Quantised networks and networks in half on the simulated machine: integers to the bit, halves to one rounding."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from polyfuse.codegen.build import Options
from polyfuse.codegen.scratchpad.kernel import build_program
from polyfuse.machines.accelerator import accelerator
from polyfuse.network.halves import with_storage
from polyfuse.network.network import Network
from polyfuse.network.onnx.load import imported
from polyfuse.network.reference import max_relative_error, random_inputs, run
from polyfuse.plan.graph.operations import Graph, graph_of
from polyfuse.plan.price.costs import channel_bytes
from polyfuse.plan.tiles.tables import Tile
from polyfuse.rewrite.rewriting import rewrite
from tests.codegen.scratchpad.networks import branches, chain, classifier, squeeze
from tests.codegen.scratchpad.placing import placed
from tests.network.quantised.models import NETWORKS, inputs, onnxruntime_outputs, quantised

NPU = accelerator("npu")
FAST = Options(flags=("-std=c11", "-O0"))


def one_by_one(graph: Graph, tile: Tile) -> list[tuple[tuple[str, ...], Tile]]:
    """Each operation by itself, in blocks of channels where its weights have a part for each."""
    return [
        ((o.name,), replace(tile, channels=tile.channels if channel_bytes(graph, o) > 0 else 0))
        for o in graph.operations
    ]


def integer_network(name: str, form: str, activations: str, folder: Path) -> tuple[Network, Path]:
    logging.disable(logging.WARNING)
    path = quantised(NETWORKS[name](), folder, form, activations, True)
    return rewrite(imported(path).network).network, path


@pytest.mark.parametrize(
    "tile", [Tile(1), Tile(1, 0, 3), Tile(1, weights="streamed")], ids=["rows", "blocks", "streamed"]
)
@pytest.mark.parametrize(
    ("name", "form", "activations"), [("mobile", "QDQ", "QInt8"), ("branches", "QOperator", "QUInt8")]
)
def test_quantised_networks_are_what_onnxruntime_computes_to_the_bit(
    name: str, form: str, activations: str, tile: Tile, tmp_path: Path
) -> None:
    network, path = integer_network(name, form, activations, tmp_path)
    graph = graph_of(network)
    plan = placed(graph, NPU, one_by_one(graph, tile))
    kernel = build_program(plan.program, FAST)
    for seed in range(3):
        given = inputs(network, seed)
        outputs, taken = kernel(**given)
        (expected,) = onnxruntime_outputs(path, given, optimised=True)
        np.testing.assert_array_equal(next(iter(outputs.values())), expected)
    assert len(np.unique(expected)) > 3
    assert taken.offchip_bytes == sum(option.offchip_bytes for option in plan.options)


def test_a_quantised_network_in_fused_groups_is_what_onnxruntime_computes_to_the_bit(tmp_path: Path) -> None:
    network, path = integer_network("mobile", "QDQ", "QInt8", tmp_path)
    graph = graph_of(network)
    names = [operation.name for operation in graph.operations]
    cuts: Sequence[Sequence[str]] = [names[:7], names[7:]]
    plan = placed(graph, NPU, [(cut, Tile(1)) for cut in cuts])
    given = inputs(network, 5)
    outputs, taken = build_program(plan.program, FAST)(**given)
    (expected,) = onnxruntime_outputs(path, given, optimised=True)
    np.testing.assert_array_equal(next(iter(outputs.values())), expected)
    assert taken.offchip_bytes == sum(option.offchip_bytes for option in plan.options)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("make", [chain, squeeze, branches, classifier])
def test_networks_in_half_are_rounded_once_for_each_element(make, dtype: str) -> None:  # type: ignore[no-untyped-def]
    network = with_storage(make(), dtype)
    graph = graph_of(network)
    plan = placed(graph, NPU, one_by_one(graph, Tile(1)))
    given = random_inputs(network, 0)
    outputs, taken = build_program(plan.program, FAST)(**given)
    expected = run(network, given)
    step = 2.0**-10 if dtype == "float16" else 2.0**-7
    for name, value in outputs.items():
        assert max_relative_error(value, expected[name]) < 2 * step
        assert np.mean(np.asarray(value, np.float64) == expected[name]) > 0.9
    assert taken.offchip_bytes == sum(option.offchip_bytes for option in plan.options)
