"""Sums of many terms: within the stated bound of the exact sum, whatever computes them, and however wide vectors are.

Terms are equal, so that every addition to one accumulator rounds the same way and errors add up; what one accumulator
makes of them is far outside of the bound.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import log2, prod

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyfuse.codegen.build import Options
from polyfuse.codegen.kernel import build, build_many
from polyfuse.codegen.lower import sums
from polyfuse.codegen.lower.selection import select_kernels
from polyfuse.codegen.program import Program, generate
from polyfuse.codegen.rows import folds
from polyfuse.codegen.scratchpad import longsums
from polyfuse.codegen.scratchpad.planned import build_scratchpad
from polyfuse.codegen.target import Target
from polyfuse.machines.accelerator import accelerator
from polyfuse.network.layers import matrices, normalisation, reductions
from polyfuse.network.network import Builder, Network
from polyfuse.network.onnx.export import onnx_model
from polyfuse.network.reference import max_relative_error, random_inputs, run
from polyfuse.network.tensor import Tensor
from polyfuse.plan.graph.operations import graph_of
from polyfuse.plan.planning import plan_for
from polyfuse.schedule.counts import macs_of
from polyfuse.schedule.groups import fused, layer_by_layer
from polyfuse.schedule.strategy import Strategy

QUICK = Options(flags=("-std=c11", "-O1"))
UNIT = 2.0**-24
TERM = np.float32(0.3)
PRODUCTS = 4 * UNIT
"""Roundings of a term and of the result, which no order of additions avoids."""


def one_by_one(terms: int) -> float:
    """The relative error of one accumulator."""
    last = np.cumsum(np.full(terms, TERM), dtype=np.float32)[-1]
    return abs(float(last) / (terms * float(TERM)) - 1)


def errors(program: Program) -> float:
    """The largest relative error of outputs whose terms are all TERM, or TERM times 1."""
    network = program.network
    inputs = {tensor.name: np.full(tensor.concrete_shape, TERM) for tensor in network.inputs}
    made, exact = build(program, options=QUICK)(**inputs), run(network, inputs)
    return max(float(np.max(np.abs(made[name] / exact[name] - 1))) for name in made)


@pytest.mark.parametrize(
    "shape, axes", [((20_000,), (0,)), ((2, 150_000), (1,)), ((3, 40, 600), (1, 2)), ((25_000, 3), (0,))]
)
@pytest.mark.parametrize("kind", ["sum", "mean", "l1", "l2", "sum_square"])
def test_reductions_are_within_the_bound(kind: str, shape: tuple[int, ...], axes: tuple[int, ...]) -> None:
    build_ = Builder("reduction")
    network = build_.network(build_.add(reductions.reduce("r", kind, build_.input("x", shape), axes)))
    terms = prod(shape[axis] for axis in axes)
    assert errors(generate(network, layer_by_layer(network))) <= sums.error_bound(terms) + PRODUCTS < one_by_one(terms)


def summing(name: str, build_: Builder) -> tuple[Tensor, int]:
    """A layer whose outputs are sums of TERM times 1, and of how many."""

    def ones(*shape: int) -> np.ndarray:
        return np.ones(shape, np.float32)

    def conv(channels: tuple[int, int], image: tuple[int, int], kernel: tuple[int, int], groups: int = 1) -> Tensor:
        x = build_.input("x", (1, channels[0], *image))
        weight = ones(channels[1], channels[0] // groups, *kernel)
        return build_.conv("c", x, channels[1], kernel=kernel, groups=groups, weight=weight, bias=False)

    if name in ("matmul", "gemm"):
        x, shape = build_.input("x", (2, 20_000)), (20_000, 3) if name == "matmul" else (3, 20_000)
        weight = build_.weight("w", shape, 1, ones(*shape))
        layer = matrices.matmul("m", x, weight, [weight]) if name == "matmul" else matrices.gemm("m", x, weight)
        return build_.add(layer), 20_000
    if name == "pointwise":
        return conv((20_000, 32), (2, 3), (1, 1)), 20_000
    if name == "narrow":
        return conv((20_000, 3), (1, 3), (1, 1)), 20_000
    if name == "window":
        return conv((700, 8), (6, 7), (5, 6)), 21_000
    if name == "few channels":
        return conv((4, 16), (200, 32), (190, 31)), 23_560
    if name == "one channel":
        return conv((1, 1), (800, 35), (700, 30)), 21_000
    if name == "grouped":
        return conv((40_000, 6), (1, 2), (1, 1), groups=2), 20_000
    if name == "depthwise":
        return conv((5, 5), (800, 34), (700, 30), groups=5), 21_000
    if name == "mean":
        x = build_.input("x", (1, 5, 900, 40))
        return build_.average_pool("p", x, kernel=(700, 30)), 21_000
    return build_.global_average_pool("g", build_.input("x", (1, 5, 130, 2500))), 325_000


LAYERS = ("pointwise", "narrow", "window", "few channels", "one channel", "grouped", "depthwise", "mean", "global mean")


@pytest.mark.parametrize("floats", [4, 8, 16])
@pytest.mark.parametrize("name", LAYERS)
def test_row_kernels_are_within_the_bound(name: str, floats: int) -> None:
    build_ = Builder("many")
    out, terms = summing(name, build_)
    network = build_.network(out)
    program = generate(network, layer_by_layer(network), kernels=select_kernels(network, Target(floats, 32)))
    assert any(group.rows for group in program.groups)
    assert errors(program) <= folds.error_bound(terms) + PRODUCTS < one_by_one(terms)


@pytest.mark.parametrize("name", ["matmul", "gemm", "pointwise", "depthwise", "mean"])
def test_scalar_leaves_are_within_the_bound(name: str) -> None:
    build_ = Builder("many")
    out, terms = summing(name, build_)
    network = build_.network(out)
    program = generate(network, layer_by_layer(network), kernels="scalar")
    assert errors(program) <= sums.error_bound(terms) + PRODUCTS < one_by_one(terms)


@pytest.mark.parametrize("floats", [4, 16])
def test_winograd_is_within_the_bound(floats: int) -> None:
    build_ = Builder("tiles")
    x = build_.input("x", (1, 12_000, 4, 4))
    y = build_.conv("c", x, 4, kernel=3, weight=np.ones((4, 12_000, 3, 3), np.float32), bias=False)
    network = build_.network(y)
    program = generate(
        network, layer_by_layer(network), kernels=select_kernels(network, Target(floats, 32), winograd={"c": 2})
    )
    assert program.workspace_bytes > 0
    assert errors(program) <= folds.error_bound(12_000) + program.error_bound + PRODUCTS < one_by_one(12_000)


@pytest.mark.parametrize("name", ["matmul", "window", "depthwise", "mean", "global mean"])
def test_c_for_a_scratchpad_is_within_the_bound(name: str) -> None:
    build_ = Builder("many")
    out, terms = summing(name, build_)
    network = build_.network(out)
    graph = graph_of(network, "float32")
    kernel = build_scratchpad(plan_for(graph, accelerator("npu").with_capacity(16 << 20)), graph, QUICK)
    inputs = {tensor.name: np.full(tensor.concrete_shape, TERM) for tensor in network.inputs}
    found, _ = kernel(**inputs)
    exact = run(network, inputs)
    error = max(float(np.max(np.abs(found[name] / exact[name] - 1))) for name in found)
    assert error <= longsums.error_bound(terms) + PRODUCTS < one_by_one(terms)


def test_softmax_of_many_classes_is_as_exact_as_onnxruntime() -> None:
    build_ = Builder("classes")
    x = build_.input("x", (4, 18_710))
    for layer in reductions.softmax("s", x, (1,)):
        y = build_.add(layer)
    network = build_.network(y)
    inputs = {"x": np.random.default_rng(7).normal(0, 2, (4, 18_710)).astype(np.float32)}
    exact = run(network, inputs)["s_out"]
    model = onnx_model(network).SerializeToString()
    (theirs,) = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, inputs)
    (ours,) = build(generate(network, layer_by_layer(network)), options=QUICK)(**inputs).values()
    totals = [np.abs(value.astype(np.float64).sum(1) - 1).max() for value in (ours, theirs)]
    assert totals[0] <= 2 * log2(18_710) * UNIT
    assert np.max(np.abs(ours / exact - 1)) <= max(2 * log2(18_710) * UNIT, float(np.max(np.abs(theirs / exact - 1))))


def test_norms_and_variances_of_large_images() -> None:
    build_ = Builder("norms")
    x = build_.input("x", (1, 2, 150, 160))
    scale, shift = (build_.constant(name, np.ones((1, 2, 1, 1), np.float32)) for name in ("scale", "shift"))
    for layer in normalisation.instance_norm("norm", x, scale, shift):
        y = build_.add(layer)
    network = build_.network(y)
    inputs = {"x": np.random.default_rng(1).uniform(99, 101, (1, 2, 150, 160)).astype(np.float32)}
    (found,) = build(generate(network, layer_by_layer(network)), options=QUICK)(**inputs).values()
    exact = run(network, inputs)["norm_out"]
    assert np.max(np.abs(found - exact)) <= 2 * 101 * (sums.error_bound(24_000) / 4 + UNIT)


@settings(deadline=None, max_examples=12)
@given(st.data())
def test_sums_in_blocks_are_the_sums(data: st.DataObject) -> None:
    """Any axes of any shape, so that blocks end anywhere."""
    shape = data.draw(st.lists(st.integers(1, 37), min_size=1, max_size=4).filter(lambda s: 256 < prod(s) <= 40_000))
    axes = data.draw(st.lists(st.sampled_from(range(len(shape))), min_size=1, unique=True))
    kind = data.draw(st.sampled_from(["sum", "mean", "l1", "l2"]))
    build_ = Builder("reduction")
    x = build_.input("x", shape)
    network = build_.network(build_.add(reductions.reduce("r", kind, x, axes, keepdims=data.draw(st.booleans()))))
    check(network, [generate(network, layer_by_layer(network))])


@pytest.mark.parametrize("strategy", [Strategy((5, 6), ("recompute", "local")), Strategy.named("local", (3,))])
def test_windows_that_reach_outside_are_summed_in_blocks(strategy: Strategy) -> None:
    """Blocks at the borders of an image are cut, and some are empty."""
    build_ = Builder("windows")
    x = build_.conv("wide", build_.input("x", (1, 3, 19, 17)), 2, kernel=(11, 13), padding=(5, 6))
    network = build_.network(build_.conv("next", x, 2, kernel=(17, 9), padding=(8, 4), bias=True))
    check(network, [generate(network, fused(network, strategy), kernels="scalar")])


def check(network: Network, programs: Sequence[Program]) -> None:
    """Right, on memory that begins as NaN, with terms that do not cancel."""
    inputs = {name: np.abs(value) for name, value in random_inputs(network, 3).items()}
    exact = run(network, inputs)
    for kernel in build_many(programs, options=QUICK):
        kernel.set_inputs(inputs)
        kernel.poison()
        kernel.run()
        for tensor in network.outputs:
            assert max_relative_error(kernel.outputs[tensor.name], exact[tensor.name]) <= 1e-6


@pytest.mark.parametrize("blocks", [1, 15, 16, 17, 255, 256, 4096])
def test_levels_hold_all_blocks(blocks: int) -> None:
    assert 16 ** (sums.levels_of(blocks) - 1) <= blocks < 16 ** sums.levels_of(blocks)


def test_sums_that_nothing_executes_are_no_long_ones() -> None:
    """The windows of `c` see padding alone, so that no tile needs a point of `first`."""
    build_ = Builder("unread")
    first = build_.conv("first", build_.input("x", (1, 30, 1, 1)), 30, kernel=1)
    network = build_.network(build_.conv("d", build_.conv("c", first, 4, kernel=1, stride=3, padding=1), 5, kernel=3,
                                         padding=1))  # fmt: skip
    inputs = random_inputs(network, seed=1)
    expected = run(network, inputs)["d_out"]
    for groups in (fused(network, Strategy((1,))), layer_by_layer(network)):
        for kernels in ("rows", "scalar"):
            made = build(generate(network, groups, kernels=kernels))(**inputs)["d_out"]  # type: ignore[arg-type]
            assert max_relative_error(made, expected) < 1e-6
    for capacity in (accelerator("npu").capacity_bytes, 4096, 1024, 600):
        machine = replace(accelerator("npu"), capacity_bytes=capacity)
        plan = plan_for(network, machine, dtype="float32")
        outputs, taken = build_scratchpad(plan, graph_of(network, "float32"))(**inputs)
        assert max_relative_error(outputs["d_out"], expected) < 1e-6
        assert taken.offchip_bytes == plan.totals.offchip_bytes.all and taken.cycles <= plan.totals.latency_cycles
        assert plan.totals.macs == sum(macs_of([layer]) for layer in network.layers)
