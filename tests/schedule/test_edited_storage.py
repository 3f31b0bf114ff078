"""Storage that a person edited: `check` refuses it, or it computes what the reference does, inside of its buffers."""

import random
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import islpy as isl
import numpy as np
import pytest

import polyfuse as pf
from polyfuse.codegen.lower.program import why_no_rows
from polyfuse.codegen.lower.selection import named_selection
from polyfuse.schedule.cells import Index
from polyfuse.schedule.executions import with_tile_order
from polyfuse.schedule.interpreter import executions_of, interpret
from polyfuse.schedule.schedule import Flow
from polyfuse.schedule.steps import preload_steps, steps
from tests.schedule.edits import edited, with_buffer
from tests.schedule.networks import pair, stencils

STRATEGIES = (
    pf.Strategy.named("local", (2,), "shifted"),
    pf.Strategy.named("local", (2, 3)),
    pf.Strategy.named("recompute", (2,)),
    pf.Strategy.named("recompute", (3, 3)),
    pf.Strategy.named("global", (2,)),
    pf.Strategy((2, 3), ("local", "recompute"), placement="shifted"),
    pf.Strategy((3, 2), ("recompute", "local"), weights="tile"),
    pf.Strategy((2, 3), ("local", "recompute"), {"x": ("recompute", "local")}),
)


def chain() -> pf.Network:
    """A strided and a padded convolution of several channels, and pooling."""
    build = pf.Builder("chain")
    x = build.input("x", (1, 2, 9, 11))
    y = build.conv("a", x, 3, kernel=3, padding=1, activation="relu")
    y = build.max_pool("b", y, kernel=3, stride=2, padding=1)
    return build.network(build.conv("c", y, 2, kernel=(3, 2)))


def residual() -> pf.Network:
    """A tensor that two layers read, one of them later, and two images."""
    build = pf.Builder("residual")
    x = build.input("x", (2, 2, 6, 7))
    y = build.conv("a", x, 2, kernel=3, padding=1)
    return build.network(build.arithmetic("s", "add", y, build.conv("b", y, 2, kernel=3, padding=1)))


@cache
def groups() -> tuple[pf.Storage, ...]:
    """Every strategy on every network, of those that fit."""
    found = [
        pf.storage(pf.scheduled(network, strategy))
        for network in (pair(9), chain(), residual())
        for strategy in STRATEGIES
    ]
    rank_1 = [pf.storage(pf.scheduled(stencils(), pf.Strategy.named(n, (4,)))) for n in ("local", "recompute")]
    return (*found, *rank_1)


def refused(group: pf.Storage) -> bool:
    try:
        pf.check(group)
    except pf.IllegalSchedule as error:
        assert "\n" not in str(error)
        return True
    return False


def drawn(seed: int) -> pf.Storage | None:
    """An edited group; None where no such storage can be written down."""
    rng = random.Random(seed)
    group = rng.choice(groups())
    same = [other for other in groups() if other.schedule.network.name == group.schedule.network.name]
    try:
        return edited(rng, group, same)
    except pf.InvalidInput:
        return None


def reference(network: pf.Network, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The outputs of a network; those of the stencils written down here."""
    if network.name != "stencils":
        return pf.reference(network, inputs)
    x = inputs["x"].astype(np.float64)
    y = x[:-2] + x[1:-1] + x[2:]
    return {"z": y[:-2] + y[1:-1] + y[2:]}


def assert_right(group: pf.Storage) -> None:
    """Its values are those of the reference, and every access lies inside of its buffer."""
    network = group.schedule.network
    inputs = pf.random_inputs(network, seed=3)
    expected = reference(network, inputs)
    found = interpret(group, inputs, forced=True).outputs
    for tensor in network.outputs:
        assert pf.max_relative_error(found[tensor.name], expected[tensor.name]) < 1e-12, str(group)
    for step in (*preload_steps(group.schedule), *steps(group.schedule)):
        for touch, cells in zip(step.touches, executions_of(group, step).cells, strict=True):
            if touch.memory == "chip" and len(cells):
                shape = np.array(group.buffers[touch.tensor.name].shape)
                assert (cells >= 0).all() and (cells < shape).all(), f"{group}: {touch.tensor} in {step.name}"


def assert_compiled_right(group: pf.Storage, leaf: str, staged: bool) -> None:
    network = group.schedule.network
    inputs = {name: value.astype(np.float32) for name, value in pf.random_inputs(network, seed=3).items()}
    expected = pf.reference(network, inputs)
    if leaf == "rows" and why_no_rows([group], named_selection(network, "rows")) is not None:
        with pytest.raises(pf.InvalidInput, match="row kernels work on whole rows"):
            pf.generate(network, [group], kernels="rows")
        leaf = "scalar"
    found = pf.build(pf.generate(network, [group], kernels=leaf, staged=staged))(**inputs)  # type: ignore[arg-type]
    for tensor in network.outputs:
        assert pf.max_relative_error(found[tensor.name], expected[tensor.name]) < 1e-5, f"{leaf} {staged} {group}"


@pytest.mark.parametrize("part", range(8))
def test_edited_storage_is_refused_or_right(part: int) -> None:
    accepted = 0
    for seed in range(25 * part, 25 * (part + 1)):
        group = drawn(seed)
        if group is not None and not refused(group):
            assert_right(group)
            accepted += 1
    assert accepted > 0


FORMS = [("scalar", True), ("scalar", False), ("rows", False)]


def test_edited_storage_is_refused_or_right_as_c() -> None:
    accepted = [
        group
        for seed in range(1000, 1080)
        if (group := drawn(seed)) is not None and group.schedule.network.name != "stencils" and not refused(group)
    ]
    assert len(accepted) >= 9
    for k, group in enumerate(accepted[:9]):
        assert_compiled_right(group, *FORMS[k % len(FORMS)])


def strips() -> pf.Storage:
    """The group of the tutorial: four rows, kept in rings."""
    return pf.storage(pf.scheduled(pair(20), pf.Strategy((4,), others=("local",), placement="shifted")))


def windows_less_one(group: pf.Storage, name: str) -> list[pf.Storage]:
    """The group with each index of a buffer one shorter."""
    buffer = group.buffers[name]
    shorter = [
        tuple(replace(index, window=index.window - (k == d)) for d, index in enumerate(buffer.indices))
        for k in range(len(buffer.indices))
        if buffer.indices[k].window > 1
    ]
    return [with_buffer(group, name, replace(buffer, indices=indices)) for indices in shorter]


@pytest.mark.parametrize("name", ["x", "conv1_out", "conv2_out", "conv1_weight", "conv2_weight"])
def test_no_index_of_the_tutorial_may_be_shorter(name: str) -> None:
    """Buffers that are no rings among them: their C was wrong, or wrote out of bounds."""
    found = windows_less_one(strips(), name)
    assert found
    for group in found:
        with pytest.raises(pf.IllegalSchedule, match=name):
            pf.check(group)


@pytest.mark.parametrize("axis", [2, 3])
def test_a_ring_of_what_is_no_ring_is_refused(axis: int) -> None:
    group = strips()
    buffer = group.buffers["conv2_out"]
    indices = list(buffer.indices)
    indices[axis] = replace(indices[axis], window=2, folded=True)
    with pytest.raises(pf.IllegalSchedule, match="conv2_out"):
        pf.check(with_buffer(group, "conv2_out", replace(buffer, indices=tuple(indices))))


def test_larger_buffers_are_right() -> None:
    group = strips()
    buffers = {
        name: replace(buffer, indices=tuple(replace(index, window=index.window + 3) for index in buffer.indices))
        for name, buffer in group.buffers.items()
    }
    larger = replace(group, buffers=buffers)
    pf.check(larger)
    assert_right(larger)
    for leaf, staged in FORMS:
        assert_compiled_right(larger, leaf, staged)


@pytest.mark.parametrize("value", [0, -1, True, 2.0, "4", None, 1 << 40])
def test_a_window_that_counts_nothing_is_refused(value: object) -> None:
    index = strips().buffers["x"].indices[2]
    with pytest.raises(pf.InvalidInput, match="window: expected a whole number"):
        replace(index, window=value)


def test_a_window_may_be_a_numpy_integer() -> None:
    index = replace(strips().buffers["x"].indices[2], window=np.int64(7))
    assert type(index.window) is int


def test_an_index_over_another_space_is_refused() -> None:
    group = strips()
    buffer = group.buffers["x"]
    origin = isl.Aff("{ [i, j] -> [i] }")
    indices = (Index(origin, 4, False), *buffer.indices[1:])
    with pytest.raises(pf.IllegalSchedule, match="expected an expression over"):
        pf.check(with_buffer(group, "x", replace(buffer, indices=indices)))


def changed_flow(group: pf.Storage, name: str, **fields: object) -> pf.Storage:
    flows = dict(group.schedule.flows)
    flows[name] = replace(flows[name], **fields)  # type: ignore[arg-type]
    return replace(group, schedule=replace(group.schedule, flows=flows))


def schedules(group: pf.Storage) -> Sequence[tuple[str, pf.Storage]]:
    """Edits of the schedule that nothing but completeness finds."""
    flows, stages = group.schedule.flows, group.schedule.stages
    made: Flow = flows["conv1_out"]
    outside = isl.Map("{ conv1_out[0, 0, 18, w] -> tile[0, 3] : 0 <= w < 18 }")
    return [
        ("nothing says when", replace(group, schedule=replace(group.schedule, flows={}))),
        ("expected a flow of", changed_flow(group, "conv1_out", role="input")),
        ("expected a flow of", changed_flow(group, "conv1_out", tensor=flows["x"].tensor)),
        ("a stage comes twice", replace(group, schedule=replace(group.schedule, stages=(*stages, stages[1])))),
        ("outside of it", changed_flow(group, "conv1_out", executions=made.executions.union(outside))),
        ("nothing says when", replace(group, schedule=replace(group.schedule, preloaded=()))),
    ]


@pytest.mark.parametrize("k", range(6))
def test_an_incomplete_schedule_is_refused(k: int) -> None:
    message, group = schedules(strips())[k]
    with pytest.raises(pf.IllegalSchedule, match=message):
        pf.check(group)


def test_copies_that_only_a_ring_of_columns_keeps_apart_are_refused() -> None:
    """Row kernels hold whole rows where a ring runs along them: columns of two tiles would then meet."""
    strategy = pf.Strategy((4, 4), ("local", "recompute"), order=(0, 1), placement="shifted")
    skewed = with_tile_order(pf.scheduled(pair(20), strategy), isl.Map("{ tile[n, y, x] -> [n, y + 2x, x] }"))
    group = pf.storage(skewed)
    buffer = group.buffers["conv1_out"]
    assert len(buffer.indices) == 5
    last = buffer.indices[-1]
    apart = last.origin.add_coefficient_val(isl.dim_type.in_, 2, isl.Val(last.window))
    indices = (*buffer.indices[1:-1], Index(apart, last.window * 4, True))
    changed = with_buffer(group, "conv1_out", replace(buffer, indices=indices))
    assert_right(changed)
    with pytest.raises(pf.IllegalSchedule, match=r"reads conv1_out\[0, :, \d+, \d+\]"):
        pf.check(changed)
