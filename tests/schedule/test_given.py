"""Schedules that were given: what they mean, what is legal, and what a witness says of the rest."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import islpy as isl
import numpy as np
import pytest

import polyfuse as pf
from polyfuse.codegen.scop.export import exported
from polyfuse.schedule.interpreter import interpret
from tests.schedule.drawn_schedules import run
from tests.schedule.networks import pair

PAIR = (
    "{ conv1[n, c, h, w] -> [t, h, 0, w] : 2t <= h < 2t + 4 and 0 <= t < 2; "
    "conv2[n, c, h, w] -> [t, h + 2, 1, w] : 2t <= h < 2t + 2 }"
)
"""Two rows a tile of `pair(8)`; inside of it, a row of conv2 as soon as the rows that it reads are there."""


def group(network: pf.Network, times: Any, **options: Any) -> pf.Storage:
    """A given schedule, stored and proved legal."""
    found = pf.storage(pf.schedule_from(network, times, **options))
    pf.check(found)
    return found


def refused(network: pf.Network, times: Any, match: str, **options: Any) -> None:
    """A given schedule is illegal, says a witness, and where it is run the result is wrong."""
    found = pf.storage(pf.schedule_from(network, times, **options))
    with pytest.raises(pf.IllegalSchedule, match=match):
        pf.check(found)


def interpreted(found: pf.Storage, seed: int = 3) -> float:
    """The largest error of a group, run one execution after another whether it is legal or not."""
    network = found.schedule.network
    inputs = pf.random_inputs(network, seed)
    expected, outputs = pf.reference(network, inputs), interpret(found, inputs, forced=True).outputs
    errors = [np.abs(outputs[tensor.name] - expected[tensor.name]).max() for tensor in network.outputs]
    return float(np.max(errors))


def compiled(found: pf.Storage, seed: int = 3) -> float:
    """The largest relative error of a group's C, in place and instrumented; its counts are those that are predicted."""
    network = found.schedule.network
    inputs = pf.random_inputs(network, seed)
    expected, errors = pf.reference(network, inputs), []
    for instrumented in (False, True):
        kernel = pf.build(pf.generate(network, [found], instrumented=instrumented))
        outputs = kernel(**inputs)
        errors += [pf.max_relative_error(outputs[tensor.name], expected[tensor.name]) for tensor in network.outputs]
        if instrumented:
            ran = {counter.name: n for counter, n in kernel.counts.items() if counter.kind == "executions"}
            assert ran == {name: n for name, n in pf.counts(found).steps.items() if n}
    return max(errors)


def stencils() -> pf.Network:
    """Two sums of three neighbours over 20 elements."""
    tensors = [pf.Tensor("x", (20,)), pf.Tensor("y", (18,)), pf.Tensor("z", (16,))]
    layers = [
        pf.statement_layer(
            name,
            domain=f"{{ {name}[i, k] : 0 <= i < {output.shape[0]} and 0 <= k < 3 }}",
            output=output,
            reads={"x": (source, f"{{ {name}[i, k] -> {source.name}[i + k] }}")},
            expression="acc + x",
            init="0.0",
        )
        for name, source, output in zip("AB", tensors[:-1], tensors[1:], strict=True)
    ]
    return pf.Network("stencils", (tensors[0],), tuple(layers), (tensors[-1],), {})


def padded() -> pf.Network:
    """A 3x3 convolution with padding, and one with padding and stride 2."""
    build = pf.Builder("padded")
    x = build.input("x", (1, 1, 8, 8))
    first = build.conv("conv1", x, 2, kernel=3, padding=1)
    return build.network(build.conv("conv2", first, 1, kernel=3, stride=2, padding=1))


EXPLICIT = {
    "1-D": (
        stencils,
        pf.Strategy((4,)),
        "{ A[i] -> [t, 0, i] : 4t <= i < 4t + 6 and 0 <= t < 4; B[i] -> [t, 1, i] : 4t <= i < 4t + 4 }",
        {"tile": 1},
    ),
    "1-D, kept": (
        stencils,
        pf.Strategy((4,), ("local",)),
        "{ A[i] -> [t, 0, i] : t = 0 and 0 <= i < 6 or 1 <= t < 4 and 4t + 2 <= i < 4t + 6;"
        "B[i] -> [t, 1, i] : 4t <= i < 4t + 4 }",
        {"tile": 1, "others": ("local",)},
    ),
    "2-D, padding and stride": (
        padded,
        pf.Strategy((2, 2)),
        "{ conv1[n, c, h, w] -> [n, y, x, 0, h, c, w] : 4y - 1 <= h <= 4y + 3 and 4x - 1 <= w <= 4x + 3 and "
        "0 <= y, x < 2; conv2[n, c, h, w] -> [n, y, x, 1, h, c, w] : 2y <= h < 2y + 2 and 2x <= w < 2x + 2 }",
        {"tile": 3, "others": ("recompute",) * 3},
    ),
    "2-D, rows kept": (
        padded,
        pf.Strategy((2, 4), ("local", "recompute")),
        "{ conv1[n, c, h, w] -> [n, 0, y, 0, h, c, w] : 4y <= h <= 4y + 3 and 0 <= y < 2; "
        "conv2[n, c, h, w] -> [n, 0, y, 1, h, c, w] : 2y <= h < 2y + 2 }",
        {"tile": (0, 2), "others": ("recompute", "local")},
    ),
}
"""Explicit forms as text: a network, the strategy from which the same is derived, the text, the tile."""


@pytest.mark.parametrize("name", EXPLICIT)
def test_the_explicit_form_equals_the_derived_one(name: str) -> None:
    make, strategy, text, options = EXPLICIT[name]
    network = make()
    found, derived = group(network, text, **options), pf.storage(pf.scheduled(network, strategy))
    for layer in network.layers:
        assert found.schedule.executions(layer) == derived.schedule.executions(layer)
    assert pf.counts(found) == pf.counts(derived)
    assert {name: buffer.bytes for name, buffer in found.buffers.items()} == {
        name: buffer.bytes for name, buffer in derived.buffers.items()
    }
    assert interpreted(found) <= 1e-12
    assert compiled(found) <= 1e-5


@pytest.mark.parametrize("place", ["recompute", "local", "global"])
@pytest.mark.parametrize("placement", ["first", "shifted"])
@pytest.mark.parametrize("make", [lambda: pair(8), padded, stencils])
def test_a_schedule_given_back_is_the_same(place: str, placement: str, make: Any) -> None:
    network = make()
    tile = (3,) if network.name == "stencils" else (2, 3)
    derived = pf.storage(pf.scheduled(network, pf.Strategy.named(place, tile, placement)))
    count = len(derived.schedule.tiling.dims)
    whole = pf.union_map(derived.schedule)
    found = group(network, str(whole), tile=count, others=(place,) * count)
    assert pf.union_map(found.schedule) == whole
    assert pf.counts(found).steps == pf.counts(derived).steps
    assert interpreted(found) <= 1e-12


def test_a_schedule_as_a_tree_given_back_is_the_same() -> None:
    first = pf.schedule_from(pair(8), PAIR, tile=1)
    for tree in (pf.schedule_tree(first), str(pf.schedule_tree(first))):
        again = pf.schedule_from(pair(8), tree, tile=1)
        assert pf.union_map(again) == pf.union_map(first)
    singular = pf.scheduled(pair(8), pf.Strategy((2,), ("local",)))
    again = pf.schedule_from(pair(8), pf.schedule_tree(singular), tile=2, others=("recompute", "local"))
    assert pf.union_map(again) == pf.union_map(singular)


LEGAL: Mapping[str, tuple[str, dict[str, Any]]] = {
    "a row as soon as it can": (PAIR, {"tile": 1}),
    "tiles inside of one tile run instances again": (PAIR, {"tile": 0}),
    "the statements by their names": (
        "{ conv1_init[n, c, h, w] -> [h, w, 0, 0, 0, 0]; conv1_update[n, c, h, w, k, y, x] -> [h, w, 1, k, y, x];"
        "conv2_init[n, c, h, w] -> [h + 2, w + 2, 2, 0, 0, 0];"
        "conv2_update[n, c, h, w, k, y, x] -> [h + 2, w + 2, 3, k, y, x] }",
        {},
    ),
    "the name of a layer for its sum, reduction outside": (
        "{ conv1[n, c, h, w, k, y, x] -> [0, y, x, h, w]; conv2[n, c, h, w, k, y, x] -> [1, y, x, h, w] }",
        {},
    ),
    "a sum in another order": (
        "{ conv1[n, c, h, w, k, y, x] -> [0, -x, -y, h, w]; conv2[n, c, h, w, k, y, x] -> [1, x, y, h, w] }",
        {"reorder": True},
    ),
    "loops between two that name the tile": (
        "{ conv1[n, c, h, w] -> [t, r, h, 0, w] : 2t <= h < 2t + 4 and 0 <= t < 2 and 2r <= h < 2r + 2;"
        "conv2[n, c, h, w] -> [t, r, h, 1, w] : 2t <= h < 2t + 2 and r = 2 + t }",
        {"tile": (0,)},
    ),
    "tiles alone": ("{ conv1[n, c, h, w] -> [t] : 2t <= h < 2t + 4 and 0 <= t < 2; conv2[n, c, h, w] -> [t] :"
                    " 2t <= h < 2t + 2 }", {"tile": 1}),
    "wavefronts": (
        "{ conv1[n, c, h, w] -> [h + w, h, 0]; conv2[n, c, h, w] -> [h + w + 4, h + 2, 1] }",
        {"tile": 0},
    ),
    "backwards": ("{ conv1[n, c, h, w] -> [-h, w, 0]; conv2[n, c, h, w] -> [-h, w + 6, 1] }", {}),
    "one layer": ("{ conv2[n, c, h, w] -> [t, w, h] : 2t <= h < 2t + 2 }", {"tile": 1}),
    "kept off chip": (
        "{ conv1[n, c, h, w] -> [t, h, w] : t = 0 and h < 4 or t = 1 and h >= 4; conv2[n, c, h, w] -> [t, h + 9, w] :"
        " 2t <= h < 2t + 2 }",
        {"tile": 1, "others": ("global",)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LEGAL)
def test_legal_forms_run(name: str) -> None:
    text, options = LEGAL[name]
    found = group(pair(8), text, **options)
    assert interpreted(found) <= 1e-12
    assert compiled(found) <= 1e-5


def test_a_window_maximum_has_no_order() -> None:
    build = pf.Builder("pool")
    network = build.network(build.max_pool("top", build.input("x", (1, 1, 6, 6)), kernel=2))
    backwards = "{ top[n, c, h, w, y, x] -> [h, w, -y, -x] }"
    assert interpreted(group(network, backwards)) == 0


def test_what_tiles_make_again_may_be_read_before() -> None:
    """Row 2 of conv1 waits from tile 0; tile 1 reads it, and only then makes it again."""
    text = (
        "{ conv1[n, c, h, w] -> [0, 0, h, w] : h < 4; conv1[n, c, h, w] -> [1, 2, h, w] : h = 2;"
        "conv1[n, c, h, w] -> [1, 0, h, w] : h >= 4; conv2[n, c, h, w] -> [0, 1, h, w] : h < 2;"
        "conv2[n, c, h, w] -> [1, 1, h, w] : h >= 2 }"
    )
    found = group(pair(8), text, tile=1, others=("local",))
    assert interpreted(found) <= 1e-12
    refused(pair(8), text, "tile \\(1,\\) reads conv1_out.*|reads conv1_out.*makes it later", tile=1)


def test_what_is_read_before_it_is_made_again_has_to_be_there_still() -> None:
    """Tile 2 reads y[0], which tile 0 has made, and makes it again; in a ring of one cell y[1] lies there by then."""
    x, y, z = (pf.Tensor(name, (2,)) for name in "xyz")
    layers = [
        pf.statement_layer(name, domain=f"{{ {name}[i] : 0 <= i < 2 }}", output=output, expression="a + 1",
                           reads={"a": (source, f"{{ {name}[i] -> {source.name}[i] }}")})
        for name, source, output in (("A", x, y), ("B", y, z))
    ]  # fmt: skip
    network = pf.Network("late", (x,), tuple(layers), (z,), {})
    text = "{ A[i] -> [i, 0]; B[1] -> [1, 1]; B[0] -> [2, 0]; A[0] -> [2, 1] }"
    found = group(network, text, tile=1, others=("local",))
    assert interpreted(found) <= 1e-12
    kept = found.buffers["y"]
    (index,) = kept.indices
    short = replace(kept, indices=(replace(index, window=1, folded=True),))
    ring = replace(found, buffers={**found.buffers, "y": short})
    assert not interpreted(ring) <= 1e-3
    with pytest.raises(pf.IllegalSchedule, match=r"an early reader of y at tile \(2,\) reads y\[0\]"):
        pf.check(ring)


ILLEGAL: Mapping[str, tuple[str, str, dict[str, Any]]] = {
    "made later": (
        PAIR.replace("h + 2", "h + 1"),
        r"conv2_update\[0, 0, \d, \d, 0, 2, \d\] at time \[.*\] reads conv1_out\[0, 0, \d, \d\], but "
        r"conv1_update.* makes it later; run it earlier",
        {"tile": 1},
    ),
    "made later in a sum that is reordered": (
        "{ conv1[n, c, h, w, k, y, x] -> [h, -x, -y, 0, w]; conv2[n, c, h, w, k, y, x] -> [h + 2, -3, y, x, w] }",
        r"reads conv1_out\[.*\], but conv1_\w+\[.* makes it later",
        {"reorder": True},
    ),
    "made by nobody": (
        "{ conv1[n, c, h, w, k, y, x] -> [h, 0, w, y, x] : y < 2; conv2[n, c, h, w] -> [h + 2, 1, w, 0, 0] }",
        r"nothing makes conv1_out\[0, 0, \d, \d\] in tile \(\): conv1_update\[.*, 2, \d\] has no time in it",
        {},
    ),
    "not retained": (
        "{ conv1[n, c, h, w] -> [h, 0, w]; conv2[n, c, h, w] -> [h + 2, 1, w] }",
        r"conv2 at tile \(\d,\) reads conv1_out\[.*\], but only tile",
        {"tile": 1},
    ),
    "put in its place": (
        "{ conv1_init[n, c, h, w] -> [h, 0, w, 0, 0]; conv1_init[0, 0, 3, 3] -> [5, 1, 3, 4, 0];"
        "conv1_update[n, c, h, w, k, y, x] -> [h, 1, w, y, x]; conv2[n, c, h, w] -> [h + 2, 2, w, 0, 0] }",
        r"conv1_out\[0, 0, 3, 3\], but conv1_init\[0, 0, 3, 3\] at time \[5, 1, 3, 4, 0.* has put another value in its",
        {},
    ),
    "left half done": (
        "{ conv1[n, c, h, w, k, y, x] -> [0, h, w, y, x]; conv2_init[n, c, h, w] -> [1, h, w, -1, 0];"
        "conv2_init[0, 0, 1, 2] -> [2, 0, 0, 0, 0]; conv2_update[n, c, h, w, k, y, x] -> [1, h, w, y, x] }",
        r"tile \(\) leaves conv2_out\[0, 0, 1, 2\], but conv2_init\[0, 0, 1, 2\] at time \[2, 0.* in its place",
        {},
    ),
    "the order of a sum": (
        "{ conv1[n, c, h, w, k, y, x] -> [0, -x, -y, h, w]; conv2[n, c, h, w, k, y, x] -> [1, y, x, h, w] }",
        r"conv1_update.* goes on with conv1_out.*; keep the order of the sum, or pass reorder=True",
        {},
    ),
    "a sum before its start": (
        "{ conv1_init[n, c, h, w] -> [9, 0, h, w]; conv1_update[n, c, h, w, k, y, x] -> [8, y, h, w] : x = 0;"
        "conv1_update[n, c, h, w, k, y, x] -> [7, y, h, w] : x = 1; conv1_update[n, c, h, w, k, y, x] -> [6, y, h, w] :"
        " x = 2; conv2[n, c, h, w] -> [10, h, w, 0] }",
        r"goes on with conv1_out",
        {"reorder": True},
    ),
    "two at one time": (
        "{ conv1[n, c, h, w] -> [0, h]; conv2[n, c, h, w] -> [1, h] }",
        r"conv1_\w+\[.*\] and conv1_\w+\[.*\] have the same time \[0, \d, 0.*\], and nothing orders them",
        {},
    ),
    "two layers at one time": (
        "{ conv1[n, c, h, w] -> [h, w]; conv2[n, c, h, w] -> [h, w] }",
        r"conv2_\w+\[.*\] and conv1_\w+\[.*\] have the same time",
        {},
    ),
    "a sum over two tiles": (
        "{ conv1[n, c, h, w, k, y, x] -> [y, 0, h, w, x]; conv2[n, c, h, w] -> [2, 1, h, w, 0] }",
        r"nothing makes conv1_out\[.*\] in tile .* make the parts of a sum tensors of their own",
        {"tile": 1},
    ),
}


@pytest.mark.parametrize("name", ILLEGAL)
def test_a_witness_says_what_is_wrong(name: str) -> None:
    text, match, options = ILLEGAL[name]
    refused(pair(8), text, match, **options)


@pytest.mark.parametrize("name", ["made later", "put in its place", "left half done", "a sum before its start"])
def test_what_is_refused_is_wrong(name: str) -> None:
    text, _, options = ILLEGAL[name]
    found = pf.storage(pf.schedule_from(pair(8), text, **options))
    assert not interpreted(found) <= 1e-3


WRONG: Mapping[str, tuple[Any, str, dict[str, Any]]] = {
    "no text of isl": ("{ conv1[n", "isl cannot read", {}),
    "no tree": ("{ domain: [ }", "isl cannot read the schedule tree", {}),
    "nothing": ("{ }", "got no relation at all", {}),
    "an unknown name": ("{ conv3[n, c, h, w] -> [h] }", r"has no layer or statement like that; it has conv1\[4\]", {}),
    "another number of indices": ("{ conv1[n, c] -> [n] }", r"times of conv1\[2 indices\]", {}),
    "parameters": ("[N] -> { conv2[n, c, h, w] -> [N, h, w] }", "without parameters", {}),
    "two lengths": (
        "{ conv1[n, c, h, w] -> [0, h, w]; conv2[n, c, h, w] -> [1, h, w, 0] }",
        "expected times of one length, got 3 for conv1, 4 for conv2",
        {},
    ),
    "a layer and its statement": (
        "{ conv2[n, c, h, w] -> [h, w, n]; conv2_init[n, c, h, w] -> [h, w, 0] }",
        "times of layer 'conv2': given for all its statements and for conv2_init; give either",
        {},
    ),
    "no output": ("{ conv1[n, c, h, w] -> [h, w] }", "none for layer 'conv2', which makes an output", {}),
    "a tile that is longer": (PAIR, "tile 5: expected how many of the 4 dimensions", {"tile": 5}),
    "a tile in another order": (PAIR, r"tile \(1, 0\): expected", {"tile": (1, 0)}),
    "a negative tile": (PAIR, "tile -1: expected", {"tile": -1}),
    "places of another length": (PAIR, "retention of 'others'", {"tile": 1, "others": ("local", "local")}),
    "places of no tensor": (PAIR, "has no tensor 'y'", {"tile": 1, "retention": {"y": ("local",)}}),
    "a wrong type": (7, "argument 'times' of pf.schedule_from: expected", {}),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_gets_one_line(name: str) -> None:
    times, match, options = WRONG[name]
    with pytest.raises(pf.InvalidInput, match=match) as error:
        pf.schedule_from(pair(8), times, **options)
    assert "\n" not in str(error.value)


def test_times_without_end_are_refused() -> None:
    found = pf.schedule_from(pair(8), "{ conv1[n, c, h, w] -> [0, h, w]; conv2[n, c, h, w] -> [t, h, w] : t > 0 }")
    with pytest.raises(pf.Unbounded, match="times of conv2_init: infinitely many"):
        pf.check(pf.storage(found))


def chain(count: int) -> pf.Network:
    build = pf.Builder("chain")
    tensor = build.input("x", (1, 1, 10, 4))
    for k in range(count):
        tensor = build.conv(f"c{k}", tensor, 1, kernel=(3, 1))
    return build.network(tensor)


def test_layers_without_times_make_what_is_read() -> None:
    network = chain(3)
    last = "{ c2[n, c, h, w] -> [t, w, h] : 2t <= h < 2t + 2 }"
    found = group(network, last, tile=1, retention={"c0_out": ("local",)})
    assert interpreted(found) <= 1e-12
    assert compiled(found) <= 1e-5
    assert pf.counts(found).steps["c0_update"] == 3 * 4 * 8
    with pytest.raises(pf.InvalidInput, match="layer 'c1' has none, but reads and is read by layers that have"):
        pf.schedule_from(network, "{ c0[n, c, h, w] -> [0, h, w]; c2[n, c, h, w] -> [1, h, w] }")
    both = "{ c1[n, c, h, w] -> [t, h, 0, w] : 2t <= h < 2t + 4 and 0 <= t < 2; c2[n, c, h, w] -> [t, h + 2, 1, w] : "\
        "2t <= h < 2t + 2 }"  # fmt: skip
    assert interpreted(group(network, both, tile=1)) <= 1e-12


def test_row_kernels_and_work_items_are_refused() -> None:
    found = group(pair(8), PAIR, tile=1)
    with pytest.raises(pf.InvalidInput, match="times inside of tiles order the points of a row"):
        pf.generate(pair(8), [found], kernels="rows")
    with pytest.raises(pf.InvalidInput, match="work items share the points of a stage"):
        pf.opencl_source(pair(8), [found])


def test_times_that_were_edited_are_judged() -> None:
    """Whoever replaces the times of one statement gets what they say, not what they were."""
    found = pf.schedule_from(pair(8), PAIR, tile=1)
    first = isl.Map("{ conv1_init[n, c, h, w] -> [t, h, 0, w, 0, 0, 0, 0] : 0 <= t < 2 and h = 2t }")
    name = "conv1_init"
    edited = replace(found, times={**found.times, name: found.times[name].subtract(first)})
    with pytest.raises(pf.IllegalSchedule, match="nothing makes conv1_out"):
        pf.check(pf.storage(edited))
    backwards = pf.with_tile_order(found, "{ tile[t] -> [-t] }")
    with pytest.raises(pf.IllegalSchedule, match="and tiles in another order; give both as one"):
        pf.check(pf.storage(backwards))
    again = pf.schedule_from(pair(8), pf.union_map(backwards), tile=1)
    assert interpreted(group(pair(8), pf.union_map(again), tile=1)) <= 1e-12


def test_a_scan_runs_in_the_order_that_its_reads_ask_for() -> None:
    x, y = pf.Tensor("x", (3, 4)), pf.Tensor("y", (3, 4))
    scan = pf.statement_layer(
        "scan",
        domain="{ scan[i, j] : 0 <= i < 3 and 0 <= j < 4 }",
        output=y,
        reads={"x": (x, "{ scan[i, j] -> x[i, j] }"), "y": (y, "{ scan[i, j] -> y[i - 1, j] : i >= 1 }")},
        expression="x + y",
        init="0.5",
    )
    network = pf.Network("scans", (x,), (scan,), (y,), {})
    for legal in ("{ scan[i, j] -> [j, i] }", "{ scan[i, j] -> [i, -j] }", "{ scan[i, j] -> [i + j, j] }"):
        assert interpreted(group(network, legal)) <= 1e-12
    refused(
        network, "{ scan[i, j] -> [j, -i] }", r"scan_update\[1, 0\].* reads y\[0, 0\], but scan_init.* makes it later"
    )
    refused(network, "{ scan[i, j] -> [i, j] }", "scan at tile .* reads y", tile=1)
    assert interpreted(group(network, "{ scan[i, j] -> [i, j] }", tile=1, others=("local",))) <= 1e-12


def test_random_schedules_are_judged_as_they_run() -> None:
    verdicts = run(40, seed=9)
    assert sum(verdicts.values()) == 40
    assert {"accepted", "refused, and wrong", "accepted, and its C is right"} <= {*verdicts}
    assert not [verdict for verdict in verdicts if verdict.startswith(("unsound", "raw")) or "unexplained" in verdict]


def test_a_given_schedule_is_exported_as_it_is_written() -> None:
    found = exported(group(pair(8), PAIR, tile=1))
    (second,) = (each for each in found.fused.statements if "conv2_init" in each.name)
    row = isl.Map(f"{{ {second.name}[t, h, w] -> [t, 2 + 2t + h, 1, w, 0, 0, 0] }}")
    assert second.schedule.intersect_domain(second.domain) == row.intersect_domain(second.domain)
