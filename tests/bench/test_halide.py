"""Every kind of Halide schedule computes what the reference computes, also where tiles are cut and borders are near."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from polyfuse.bench.peers.contender import PeerSettings
from polyfuse.bench.peers.halide_schedules import HalideSchedule, first_plans, refinements, tiles
from polyfuse.network.activation import ACTIVATIONS
from polyfuse.network.layers.pointwise import ARITHMETIC
from polyfuse.network.network import Builder, Network
from polyfuse.network.reference import max_relative_error, random_inputs, run
from tests.bench.test_peers import NETWORKS

PLANS = [
    HalideSchedule("unfused", vectors=1, pixels=4, stencil_rows=1),
    HalideSchedule("overlapped", 4, 8, vectors=1, pixels=3),
    HalideSchedule("overlapped", 3, 5, vectors=4, pixels=2, stencil_rows=2, staged=True),
    HalideSchedule("sliding", 4, 8, vectors=2, pixels=4),
    HalideSchedule("sliding", 5, 5, vectors=1, pixels=12, stencil_rows=2, staged=True),
]
FUSED = ["three to one", "stencils", "wide", "uneven", "residual", "pools", "gated", "joined", "scaled"]


def check_plans(net: Network, nchw: bool, plans: Sequence[HalideSchedule]) -> None:
    """All plans whose tiles fit compute what the reference computes."""
    from polyfuse.bench.peers import halide_tiles

    inputs = random_inputs(net, 3)
    (output,) = net.outputs
    expected = run(net, inputs)[output.name][0]
    given = [halide_tiles.interface(inputs[tensor.name][0], nchw) for tensor in net.inputs]
    made = halide_tiles.interface(np.zeros(output.concrete_shape[1:], np.float32), nchw)
    arrays = [halide_tiles.aligned_copy(array) for array in (*given, made)]
    settings = PeerSettings(interface="nchw" if nchw else "preferred")
    search = halide_tiles.Search(net, arrays, settings, deadline=float("inf"))
    _, _, rows, columns = output.concrete_shape
    for plan in plans:
        if plan.rows <= rows and plan.columns <= columns:
            arrays[-1].fill(np.nan)
            search.compiled(plan)()
            value = arrays[-1] if nchw else arrays[-1].transpose(2, 0, 1)
            assert max_relative_error(value, expected) <= 1e-5, plan


@pytest.mark.parametrize(
    ("network", "nchw"),
    [*((network, False) for network in FUSED), *((network, True) for network in ("residual", "stencils", "wide"))],
)
def test_schedules_compute_what_the_reference_computes(network: str, nchw: bool) -> None:
    pytest.importorskip("halide", reason="halide is not installed")
    check_plans(NETWORKS[network](), nchw, PLANS)


@pytest.mark.parametrize("nchw", [False, True])
def test_networks_without_padding_need_no_test_where_they_read(nchw: bool) -> None:
    pytest.importorskip("halide", reason="halide is not installed")
    net = NETWORKS["stencils"]()
    plans = [HalideSchedule(kind, 16, 32, stencil_rows=3, inward=True) for kind in ("unfused", "overlapped", "sliding")]
    check_plans(net, nchw, [*plans, HalideSchedule("sliding", 34, 44, stencil_rows=4, inward=True, staged=nchw)])


def test_a_search_keeps_the_fastest_and_says_how_many_it_tried() -> None:
    pytest.importorskip("halide", reason="halide is not installed")
    from polyfuse.bench.peers import halide_tiles

    net = NETWORKS["stencils"]()
    inputs = random_inputs(net, 3)
    prepared = halide_tiles.prepare(net, inputs, PeerSettings(search_seconds=1.0))
    assert "; best of " in prepared.detail and prepared.layout == "channels last"
    prepared.run()
    expected = run(net, inputs)["c2_out"]
    assert max_relative_error(prepared.outputs()["c2_out"], expected) <= 1e-5
    first = halide_tiles.prepare(net, inputs, PeerSettings(search_seconds=0.0))
    assert first.detail.endswith("best of 1")


def test_every_activation_and_every_function_of_two_tensors_is_computed() -> None:
    pytest.importorskip("halide", reason="halide is not installed")
    from polyfuse.bench.peers import halide_tiles

    build = Builder("functions")
    x, y = build.input("x", (1, 8, 6, 8)), build.input("y", (1, 8, 6, 8))
    positive = build.activation("positive", x, "abs")
    numbers = {0: (), 1: (0.3,), 2: (-0.25, 0.75)}
    made = [positive]
    for name, (_, _, count) in ACTIVATIONS.items():
        read = positive if name in ("sqrt", "log", "reciprocal") else x
        made.append(build.activation(f"f_{name}", read, (name, *numbers[count])))
    made += [build.arithmetic(f"g_{how}", how, positive if how == "pow" else x, y) for how in ARITHMETIC]
    net = build.network(*made)
    inputs = random_inputs(net, 3)
    prepared = halide_tiles.prepare(net, inputs, PeerSettings(search_seconds=0.0))
    prepared.run()
    expected = run(net, inputs)
    for name, value in prepared.outputs().items():
        assert max_relative_error(value, expected[name]) <= 1e-5, name


def test_plans_are_different_and_fit() -> None:
    plans = first_plans(30, 40, fusible=True, padded=True)
    assert len(set(plans)) == len(plans) and plans[0].kind == "unfused"
    assert all(plan.rows <= 30 and plan.columns <= 40 for plan in plans)
    assert first_plans(30, 40, fusible=False, padded=True) == [HalideSchedule("unfused")]
    assert [plan for plan in refinements(plans[1]) if plan.kind != "overlapped"] == []
    assert str(plans[1]) == "overlapped 8x40, 2x6 registers, 4 rows"
    assert list(tiles(3, 3)) == []


def test_pages_name_the_kinds_of_schedules() -> None:
    page = (Path(__file__).parents[2] / "docs" / "use" / "peers.md").read_text(encoding="utf-8")
    assert all(f"*{kind}*" in page for kind in ("unfused", "overlapped", "sliding"))
