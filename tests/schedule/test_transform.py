"""Transformations of schedules: what they make of times, that values stay, and what witnesses say."""

from collections.abc import Callable
from typing import Any

import islpy as isl
import numpy as np
import pytest

import polyfuse as pf
from polyfuse.schedule.schedule import Mark
from tests.schedule.networks import pair
from tests.schedule.test_given import compiled, interpreted, stencils

LAYERS = "{ conv1[n, c, h, w] -> [0, h, w]; conv2[n, c, h, w] -> [1, h, w] }"
"""Times `[layer, row, column, statement, reduction..]`: eight dimensions."""


def layers() -> pf.Schedule:
    """One convolution after the other."""
    return pf.schedule_from(pair(8), LAYERS)


def fused() -> pf.Schedule:
    """A row of the second one as soon as it can: times `[row, layer, column, ..]`."""
    return pf.fuse(pf.shift(layers(), "conv2", 1, 2), 0, 1)


def summed() -> pf.Schedule:
    """The terms of a sum in any order: `[layer, row, column, ky, kx]`."""
    text = "{ conv1[n, c, h, w, k, y, x] -> [0, h, w, y, x]; conv2[n, c, h, w, k, y, x] -> [1, h, w, y, x] }"
    return pf.schedule_from(pair(8), text, reorder=True)


Change = Callable[[], pf.Schedule]
LEGAL: dict[str, tuple[Change, str]] = {
    "split": (lambda: pf.split(layers(), 1, 4), "{ conv2_init[0, 0, 3, 2] -> [1, 0, 3, 2, 0, 0, 0, 0] }"),
    "split of a tile": (
        lambda: pf.split(pf.scheduled(pair(8), pf.Strategy((1,), ("local",))), 1, 2),
        "{ conv2_init[0, 0, 3, 2] -> [0, 1, 1, 2, 0, 3, 0, 0, 0, 0, 0, 0, 2] }",
    ),
    "interchange": (lambda: pf.interchange(layers(), 1, 2), "{ conv2_init[0, 0, 3, 2] -> [1, 2, 3, 0, 0, 0, 0] }"),
    "reverse": (lambda: pf.reverse(layers(), 1), "{ conv2_init[0, 0, 3, 2] -> [1, -3, 2, 0, 0, 0, 0] }"),
    "shift": (lambda: pf.shift(layers(), "conv2", 1, 2), "{ conv2_init[0, 0, 3, 2] -> [1, 5, 2, 0, 0, 0, 0] }"),
    "skew": (lambda: pf.skew(fused(), 2, 0), "{ conv2_init[0, 0, 3, 2] -> [5, 1, 7, 0, 0, 0, 0] }"),
    "tile": (lambda: pf.tile(layers(), [1, 2], [4, 3]), "{ conv2_init[0, 0, 3, 2] -> [1, 0, 0, 3, 2, 0, 0, 0, 0] }"),
    "fuse": (fused, "{ conv2_init[0, 0, 3, 2] -> [5, 1, 2, 0, 0, 0, 0] }"),
    "fission": (lambda: pf.fission(fused(), 1, 0), "{ conv2_init[0, 0, 3, 2] -> [1, 5, 2, 0, 0, 0, 0] }"),
    "compute at a row": (
        lambda: pf.compute_at(layers(), "conv1", "conv2", 1),
        "{ conv1_init[0, 0, 3, 2] -> [1, h, 0, 0, 3, 2, 0, 0, 0, 0] : 1 <= h <= 3 }",
    ),
    "compute at the first row": (
        lambda: pf.compute_at(layers(), "conv1", "conv2", 1, once=True),
        "{ conv1_init[0, 0, 3, 2] -> [1, 1, 0, 0, 3, 2, 0, 0, 0, 0] }",
    ),
    "unroll": (lambda: pf.unroll(layers(), 6, 3), "{ conv2_init[0, 0, 3, 2] -> [1, 3, 2, 0, 0, 0, 0] }"),
    "unroll and jam": (
        lambda: pf.unroll_and_jam(layers(), 1, 2),
        "{ conv2_init[0, 0, 3, 2] -> [1, 1, 2, 0, 0, 0, 0, 1] }",
    ),
    "vectorize": (lambda: pf.vectorize(layers(), 2, 4), "{ conv2_init[0, 0, 3, 2] -> [1, 3, 0, 0, 0, 0, 0, 2] }"),
    "parallel": (lambda: pf.parallel(layers(), 1), "{ conv2_init[0, 0, 3, 2] -> [1, 3, 2, 0, 0, 0, 0] }"),
    "with retention": (
        lambda: pf.with_retention(fused(), tile=1, others=("local",)),
        "{ conv2_init[0, 0, 3, 2] -> [5, 1, 2, 0, 0, 0, 0] }",
    ),
    "terms in another order": (
        lambda: pf.reverse(pf.with_retention(layers(), tile=0, reorder=True), 5),
        "{ conv2_update[0, 0, 3, 2, 0, 1, 2] -> [1, 3, 2, 1, 0, -1, 2] }",
    ),
}


@pytest.mark.parametrize("name", LEGAL)
def test_a_transformed_schedule_gives_the_same_values(name: str) -> None:
    change, expected = LEGAL[name]
    found = change()
    wanted = isl.Map(expected)
    statement = wanted.get_tuple_name(isl.dim_type.in_)
    assert found.times[statement].intersect_domain(wanted.domain()) == wanted
    group = pf.storage(found)
    assert interpreted(group) <= 1e-12
    assert compiled(group) <= 1e-5


ILLEGAL: dict[str, tuple[Change, str]] = {
    "interchange": (lambda: pf.interchange(fused(), 0, 2), "makes it later"),
    "reverse": (lambda: pf.reverse(fused(), 0), "makes it later"),
    "shift": (lambda: pf.shift(fused(), "conv2", 0, -1), "makes it later"),
    "skew": (lambda: pf.skew(fused(), 0, 2), "makes it later"),
    "tile": (lambda: pf.tile(layers(), [5, 6], [2, 2]), "keep the order of the sum"),
    "fuse": (lambda: pf.fuse(layers(), 0, 1), "conv1_.* makes it later"),
    "fission": (lambda: pf.fission(fused(), 2, 1), "makes it later"),
    "split": (lambda: pf.fuse(pf.split(layers(), 1, 2), 0, 1), "makes it later"),
    "compute at": (lambda: pf.compute_at(three(), "A", "C", 1), "makes it later|nothing makes"),
    "the order of a sum": (lambda: pf.reverse(layers(), 5), "keep the order of the sum"),
    "unroll and jam": (lambda: pf.unroll_and_jam(layers(), 5, 2), "keep the order of the sum"),
    "vectorize": (lambda: pf.vectorize(summed(), 4, 3), "vectorize 3 along dimension 6 of times"),
    "parallel along rows": (
        lambda: pf.parallel(fused(), 0),
        r"parallel along dimension 0 of times: conv\d_\w+\[.*\] needs or makes the element of conv1_out that",
    ),
    "parallel along a sum": (lambda: pf.parallel(layers(), 5), "parallel along dimension 5 of times: conv"),
    "with retention": (
        lambda: pf.with_retention(fused(), tile=1),
        "conv2 at tile .* reads conv1_out",
    ),
}


def three() -> pf.Schedule:
    """A layer and two that read it, the second one after the first."""
    x, y, z, s = (pf.Tensor(name, (8,)) for name in "xyzs")
    made = [
        pf.statement_layer(name, domain=f"{{ {name}[i] : 0 <= i < 8 }}", output=out, reads=reads, expression=text)
        for name, out, reads, text in (
            ("A", y, {"x": (x, "{ A[i] -> x[i] }")}, "x + 1"),
            ("B", z, {"y": (y, "{ B[i] -> y[i] }")}, "y * 2"),
            ("C", s, {"y": (y, "{ C[i] -> y[i] }"), "z": (z, "{ C[i] -> z[i] }")}, "y + z"),
        )
    ]
    network = pf.Network("three", (x,), tuple(made), (s,), {})
    return pf.schedule_from(network, "{ A[i] -> [0, i]; B[i] -> [1, i]; C[i] -> [2, i] }")


@pytest.mark.parametrize("name", ILLEGAL)
def test_what_is_illegal_is_refused_with_a_witness(name: str) -> None:
    change, match = ILLEGAL[name]
    with pytest.raises(pf.IllegalSchedule, match=match):
        change()


WRONG: dict[str, tuple[Callable[[pf.Schedule], Any], str]] = {
    "a dimension too far": (lambda s: pf.split(s, 7, 2), "dimension 7 of times: expected a whole number from 0 to 6"),
    "a negative dimension": (lambda s: pf.reverse(s, -1), "dimension -1 of times"),
    "a dimension that is text": (lambda s: pf.reverse(s, "h"), "argument 'dim' of pf.reverse"),
    "a size of nothing": (lambda s: pf.split(s, 1, 0), "size: expected a whole number from 1 to .*, got 0"),
    "a layer that is not there": (lambda s: pf.shift(s, "conv3", 1, 2), "conv3"),
    "one loop twice": (lambda s: pf.skew(s, 1, 1), "skew: expected two dimensions, got 1 twice"),
    "loops apart": (lambda s: pf.tile(s, [0, 2], [2, 2]), "tile: expected neighbouring dimensions"),
    "a size too many": (lambda s: pf.tile(s, [1], [2, 2]), "tile: expected neighbouring dimensions"),
    "fuse outwards": (lambda s: pf.fuse(s, 1, 0), "fuse: expected a loop inside of dimension 1, got 0"),
    "fission inwards": (lambda s: pf.fission(s, 0, 1), "fission: expected a loop outside of dimension 0, got 1"),
    "compute at what does not read": (lambda s: pf.compute_at(s, "conv2", "conv1", 1), "'conv1' does not read 'conv2'"),
    "a factor of nothing": (lambda s: pf.unroll(s, 1, 0), "factor: expected a whole number from 1"),
    "a width of nothing": (lambda s: pf.vectorize(s, 1, 0), "width: expected a whole number from 1"),
    "a tile among threads": (
        lambda s: pf.parallel(pf.with_retention(s, tile=1, others=("local",)), 0),
        "parallel: dimension 0 names the tile",
    ),
    "a tile inside": (
        lambda s: pf.interchange(pf.with_retention(s, tile=1, others=("local",)), 0, 1),
        "the first 1 dimensions name the tile",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments_get_one_line(name: str) -> None:
    change, match = WRONG[name]
    with pytest.raises(pf.InvalidInput, match=match) as error:
        change(layers())
    assert "\n" not in str(error.value)


def test_marks_stay_with_their_dimensions() -> None:
    found = pf.interchange(pf.split(pf.unroll(layers(), 2, 4), 1, 2), 3, 4)
    assert found.marks == {4: Mark("unroll", 4)}
    source = pf.generate(pair(8), [pf.storage(found)]).source
    assert "#pragma GCC unroll 4\n" in source


def test_wavefronts_run_on_two_threads() -> None:
    """A sweep in place: y[i, j] = y[i - 1, j] + y[i, j - 1] + x[i, j]; along a wavefront nothing depends."""
    x, y = pf.Tensor("x", (9, 7)), pf.Tensor("y", (9, 7))
    reads = {
        "x": (x, "{ sweep[i, j] -> x[i, j] }"),
        "up": (y, "{ sweep[i, j] -> y[i - 1, j] : i >= 1 }"),
        "left": (y, "{ sweep[i, j] -> y[i, j - 1] : j >= 1 }"),
    }
    domain = "{ sweep[i, j] : 0 <= i < 9 and 0 <= j < 7 }"
    sweep = pf.statement_layer(
        "sweep", domain=domain, output=y, reads=reads, expression="x + up / 2 + left", init="1.0"
    )
    network = pf.Network("sweeps", (x,), (sweep,), (y,), {})
    rows = pf.schedule_from(network, "{ sweep[i, j] -> [i, j] }")
    for dim in (0, 1):
        with pytest.raises(pf.IllegalSchedule, match=f"parallel along dimension {dim} of times: sweep_update"):
            pf.parallel(rows, dim)
    waves = pf.parallel(pf.interchange(pf.skew(rows, 1, 0), 0, 1), 1)
    group = pf.storage(waves)
    assert interpreted(group) <= 1e-12
    program = pf.generate(network, [group])
    assert "OMP(omp parallel for num_threads(threads)" in program.source
    inputs = pf.random_inputs(network, 5)
    expected = pf.reference(network, inputs)["y"]
    for threads in (1, 2):
        outputs = pf.build(program, threads=threads)(**inputs)
        assert pf.max_relative_error(outputs["y"], expected) <= 1e-5
    assert compiled(group) <= 1e-5


def test_partial_sums_are_two_statements() -> None:
    """A reduction in pieces: parts of four terms, added up as soon as each is there."""
    x, part, total = pf.Tensor("x", (6, 12)), pf.Tensor("part", (6, 3)), pf.Tensor("total", (6,))
    layers_ = (
        pf.statement_layer(
            "P",
            domain="{ P[i, q, k] : 0 <= i < 6 and 0 <= q < 3 and 0 <= k < 4 }",
            output=part,
            reads={"x": (x, "{ P[i, q, k] -> x[i, 4q + k] }")},
            expression="acc + x",
            init="0.0",
        ),
        pf.statement_layer(
            "T",
            domain="{ T[i, q] : 0 <= i < 6 and 0 <= q < 3 }",
            output=total,
            reads={"p": (part, "{ T[i, q] -> part[i, q] }")},
            expression="acc + p",
            init="0.0",
        ),
    )
    network = pf.Network("parts", (x,), layers_, (total,), {})
    text = "{ P[i, q, k] -> [i, q, 0, k]; T[i, q] -> [i, q, 1, 0] }"
    found = pf.with_retention(pf.schedule_from(network, text), tile=1)
    group = pf.storage(found)
    values = np.asarray(pf.random_inputs(network, 3)["x"])
    outputs = pf.build(pf.generate(network, [group]))(**pf.random_inputs(network, 3))
    assert pf.max_relative_error(outputs["total"], values.sum(axis=1)) <= 1e-5
    assert group.buffers["part"].bytes == 3 * 4
    assert interpreted(group) <= 1e-12


def test_softmax_runs_online() -> None:
    """The maximum and the sum of a row so far, piece by piece: sums are scaled when the maximum grows."""
    x = pf.Tensor("x", (4, 12))
    best, most, sums = pf.Tensor("best", (4, 3)), pf.Tensor("most", (4, 3)), pf.Tensor("added", (4, 3))
    block = "0 <= i < 4 and 0 <= q < 3 and 0 <= k < 4"
    point = "0 <= i < 4 and 0 <= q < 3"
    made = (
        pf.statement_layer(
            "B",
            domain=f"{{ B[i, q, k] : {block} }}",
            output=best,
            reads={"x": (x, "{ B[i, q, k] -> x[i, 4q + k] }")},
            expression="maximum(acc, x)",
            init="-INFINITY",
        ),
        pf.statement_layer(
            "M",
            domain=f"{{ M[i, q] : {point} }}",
            output=most,
            reads={"b": (best, "{ M[i, q] -> best[i, q] }"), "m": (most, "{ M[i, q] -> most[i, q - 1] : q >= 1 }")},
            expression="maximum(b, m)",
            init="b",
        ),
        pf.statement_layer(
            "S",
            domain=f"{{ S[i, q, k] : {block} }}",
            output=sums,
            reads={"x": (x, "{ S[i, q, k] -> x[i, 4q + k] }"), "m": (most, "{ S[i, q, k] -> most[i, q] }")},
            expression="acc + expf(x - m)",
            init="0.0",
        ),
    )
    totals = pf.Tensor("totals", (4, 3))
    total = pf.statement_layer(
        "T",
        domain=f"{{ T[i, q] : {point} }}",
        output=totals,
        reads={
            "s": (sums, "{ T[i, q] -> added[i, q] }"),
            "t": (totals, "{ T[i, q] -> totals[i, q - 1] : q >= 1 }"),
            "m": (most, "{ T[i, q] -> most[i, q] }"),
            "before": (most, "{ T[i, q] -> most[i, q - 1] : q >= 1 }"),
        },
        expression="s + t * expf(before - m)",
        init="s",
    )
    network = pf.Network("online", (x,), (*made, total), (totals,), {})
    text = "{ B[i, q] -> [i, q, 0]; M[i, q] -> [i, q, 1]; S[i, q] -> [i, q, 2]; T[i, q] -> [i, q, 3] }"
    group = pf.storage(pf.with_retention(pf.schedule_from(network, text), tile=1))
    inputs = pf.random_inputs(network, 3)
    values = np.asarray(inputs["x"], np.float64)
    expected = np.exp(values - values.max(axis=1, keepdims=True)).sum(axis=1)
    outputs = pf.build(pf.generate(network, [group]))(**inputs)
    assert pf.max_relative_error(outputs["totals"][:, -1], expected) <= 1e-5
    assert interpreted(group) <= 1e-12


def test_derived_schedules_are_taken_in_their_explicit_form() -> None:
    derived = pf.scheduled(stencils(), pf.Strategy((4,), ("local",)))
    found = pf.reverse(derived, 7)
    group = pf.storage(found)
    assert pf.counts(group).executions == pf.counts(pf.storage(derived)).executions
    assert interpreted(group) <= 1e-12
    reordered = pf.with_tile_order(derived, "{ tile[t] -> [t + 1] }")
    with pytest.raises(pf.InvalidInput, match="tiles in their own order"):
        pf.reverse(reordered, 7)
