"""Steps: every execution once, at a time of its own."""

import islpy as isl
import pytest

from polyfuse.choices import PLACES
from polyfuse.errors import InvalidInput
from polyfuse.network.layer import Access, Layer, Statement
from polyfuse.network.network import Builder, Network
from polyfuse.network.operator import Custom
from polyfuse.network.tensor import Tensor
from polyfuse.schedule.schedule import scheduled
from polyfuse.schedule.steps import preload_steps, steps, time_names
from polyfuse.schedule.strategy import Strategy
from tests.schedule.networks import pair, size_of, stencils


@pytest.mark.parametrize("weights", ["once", "tile"])
@pytest.mark.parametrize("name", PLACES)
def test_every_execution_of_a_group_has_a_time_of_its_own(name: str, weights: str) -> None:
    strategy = Strategy((4, 4), (name, name), weights=weights)  # type: ignore[arg-type]
    found = scheduled(pair(8), strategy)
    made = steps(found)
    times = isl.Set.empty(made[0].time.range().get_space())
    for step in made:
        assert step.time.is_single_valued() and step.time.is_injective()
        assert step.time.domain() == step.executions
        assert step.time.range().is_disjoint(times)
        times = times.union(step.time.range())
    assert {step.time.dim(isl.dim_type.out) for step in made} == {len(time_names(found))}


def test_worked_example_runs_3600_updates() -> None:
    counted = {step.name: size_of(step.executions) for step in steps(scheduled(pair(), Strategy((8, 8))))}
    assert counted == {
        "load_x": 576,
        "conv1_init": 400,
        "conv1_update": 3600,
        "conv2_init": 256,
        "conv2_update": 2304,
        "store_conv2_out": 256,
    }
    once = {step.name: size_of(step.executions) for step in steps(scheduled(pair(), Strategy.named("local", (8, 8))))}
    assert once["conv1_update"] == 2916


def test_weights_are_loaded_by_steps_of_the_tiles_or_before_them() -> None:
    once, tile = (scheduled(pair(8), Strategy((4, 4), weights=mode)) for mode in ("once", "tile"))  # type: ignore
    names = ["conv1_weight", "conv1_bias", "conv2_weight", "conv2_bias"]
    assert [step.name for step in preload_steps(once)] == [f"preload_{name}" for name in names]
    assert preload_steps(tile) == ()
    assert {f"load_{name}" for name in names} <= {step.name for step in steps(tile)}


def test_touches_name_elements_in_their_tile() -> None:
    (update,) = (step for step in steps(scheduled(stencils(), Strategy((4,)))) if step.name == "B_update")
    read = next(touch for touch in update.touches if touch.operand == "x")
    form = "{ B_update[t, i, k] -> [tile[t] -> y[i + k]] : 0 <= t < 4 and 4t <= i < 4t + 4 and 0 <= k < 3 }"
    assert read.element == isl.Map(form)
    assert [(touch.memory, touch.writes) for touch in update.touches] == [
        ("chip", False),
        ("chip", False),
        ("chip", True),
    ]


def normalised(reductions: int = 1) -> Network:
    """Rows divided by their sum: a tensor of rank 1 between tensors of rank 2."""
    x, total, y = Tensor("x", (6, 8)), Tensor("total", (6,)), Tensor("y", (6, 8))
    init = Statement("sum_init", ("i",), isl.Set("{ sum_init[i] : 0 <= i < 6 }"), {}, "0.0")
    dims = ("i", *(f"j{k}" for k in range(reductions)))
    text = f"sum_update[{', '.join(dims)}]"
    domain = isl.Set(f"{{ {text} : 0 <= i < 6 and 0 <= j0 < 8 {''.join(f'and 0 <= {d} < 2 ' for d in dims[2:])} }}")
    extended = isl.Map(f"{{ {text} -> x[i, j0] : 0 <= j0 < 8 }}")
    read = Access(x, extended.intersect_domain(domain).intersect_range(x.box), extended)
    update = Statement("sum_update", dims, domain, {"x": read}, "acc + x")
    points = isl.Set("{ divide_final[i, j] : 0 <= i < 6 and 0 <= j < 8 }")
    reads = {}
    for operand, tensor, index in (("a", x, "i, j"), ("b", total, "i")):
        relation = isl.Map(f"{{ divide_final[i, j] -> {tensor.name}[{index}] }}")
        reads[operand] = Access(tensor, relation.intersect_domain(points).intersect_range(tensor.box), relation)
    final = Statement("divide_final", ("i", "j"), points, reads, "a / b")
    layers = (
        Layer("sum", Custom("sum"), total, (init, update), (x,), ()),
        Layer("divide", Custom("divide"), y, (final,), (x, total), ()),
    )
    return Network("normalised", (x,), layers, (y,), {})


@pytest.mark.parametrize("tile", [(), (2,), (2, 3)])
def test_tensors_of_different_ranks_have_times_of_one_length(tile: tuple[int, ...]) -> None:
    found = scheduled(normalised(), Strategy(tile))
    made = steps(found)
    assert {step.time.dim(isl.dim_type.out) for step in made} == {len(time_names(found))}
    assert all(step.time.is_injective() for step in made)


def test_too_many_reduction_indices_are_refused() -> None:
    assert all(step.time.is_injective() for step in steps(scheduled(normalised(4), Strategy((2,)))))
    with pytest.raises(
        InvalidInput, match="layer 'sum': statement sum_update reduces over 5 indices, expected at most 4"
    ):
        steps(scheduled(normalised(5), Strategy((2,))))


def test_rows_run_outside_of_channels() -> None:
    build = Builder("channels")
    network = build.network(build.conv("a", build.input("x", (1, 2, 4, 4)), 3, kernel=1))
    found = scheduled(network, Strategy((2,)))
    (update,) = (step for step in steps(found) if step.name == "a_update")
    assert time_names(found) == ("tn", "ty", "stage", "n", "h", "c", "step", "r0", "r1", "r2", "r3", "w")
    expected = "{ a_update[tn, ty, n, c, h, w, ic, kh, kw] -> [tn, ty, 3, n, h, c, 1, ic, kh, kw, 0, w] }"
    stage = next(k for k, each in enumerate(found.stages) if str(each) == "make a_out")
    assert update.time == isl.Map(expected.replace(" 3,", f" {stage},")).intersect_domain(update.executions)
