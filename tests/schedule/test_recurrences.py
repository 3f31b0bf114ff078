"""Layers that read what they have made: random recurrences in random tiles, interpreted, counted and as C.

The oracle is a loop over the points in Python. It shares nothing with polyfuse but the text of the layer.
"""

import random
from dataclasses import dataclass, replace
from itertools import product

import islpy as isl
import numpy as np
import pytest

import polyfuse as pf
from polyfuse.codegen.build import Options
from polyfuse.codegen.kernel import build_many
from polyfuse.codegen.opencl import opencl_source
from polyfuse.codegen.scop.export import exported
from polyfuse.errors import IllegalSchedule, InvalidInput, UnsupportedOperator
from polyfuse.plan.graph.operations import graph_of
from polyfuse.schedule.cells import Index
from polyfuse.schedule.executions import with_tile_order
from polyfuse.schedule.interpreter import interpret
from polyfuse.schedule.legality import check

QUICK = Options(flags=("-std=c11", "-O0"))
Offset = tuple[int, ...]


@dataclass(frozen=True)
class Recurrence:
    """`A[p] = x[p] + 0.5 * sum_k A[p + offset_k]`, an own read left out where it is outside, or nothing, on the border.

    `terms` > 1 adds `x[p]` so many times, in a reduction. `blurred` makes `y[p] = A[p] + A[p + 1]` along the last axis.
    """

    shape: tuple[int, ...]
    offsets: tuple[Offset, ...]
    terms: int
    blurred: bool

    def inside(self, point: Offset, offset: Offset) -> bool:
        """Whether an own read is inside of the array."""
        return all(0 <= p + o < size for p, o, size in zip(point, offset, self.shape, strict=True))

    def network(self) -> pf.Network:
        """The layers."""
        rank = len(self.shape)
        names = [f"p{d}" for d in range(rank)]
        at = ", ".join(names)
        x, a = pf.Tensor("x", self.shape), pf.Tensor("A", self.shape)
        bounds = " and ".join(f"0 <= {n} < {size}" for n, size in zip(names, self.shape, strict=True))
        dims, more = (f"{at}, k", f" and 0 <= k < {self.terms}") if self.terms > 1 else (at, "")
        reads = {"x": (x, f"{{ S[{dims}] -> x[{at}] }}")}
        for k, offset in enumerate(self.offsets):
            there = [f"{n} + {o}" for n, o in zip(names, offset, strict=True)]
            where = " and ".join(f"0 <= {t} < {size}" for t, size in zip(there, self.shape, strict=True))
            reads[f"a{k}"] = (a, f"{{ S[{dims}] -> A[{', '.join(there)}] : {where} }}")
        own = "0.5 * (" + " + ".join(f"a{k}" for k in range(len(self.offsets))) + ")"
        expression = f"acc + 0.25 * x + {own}" if self.terms > 1 else f"x + {own}"
        layers = [
            pf.statement_layer(
                "sweep",
                domain=f"{{ S[{dims}] : {bounds}{more} }}",
                output=a,
                reads=reads,
                expression=expression,
                init="x",
            )
        ]
        if self.blurred:
            shape = (*self.shape[:-1], self.shape[-1] - 1)
            y = pf.Tensor("y", shape)
            box = " and ".join(f"0 <= {n} < {size}" for n, size in zip(names, shape, strict=True))
            right = ", ".join([*names[:-1], f"{names[-1]} + 1"])
            both = {"a": (a, f"{{ Y[{at}] -> A[{at}] }}"), "b": (a, f"{{ Y[{at}] -> A[{right}] }}")}
            layers.append(
                pf.statement_layer("blur", domain=f"{{ Y[{at}] : {box} }}", output=y, reads=both, expression="a + b")
            )
        return pf.Network("recurrence", (x,), tuple(layers), (layers[-1].output,), {})

    def computed(self, x: np.ndarray) -> np.ndarray:
        """What comes out, point by point."""
        a = np.zeros(self.shape)
        for point in product(*map(range, self.shape)):
            a[point] = x[point]
            if all(self.inside(point, offset) for offset in self.offsets):
                own = 0.5 * sum(a[tuple(np.add(point, offset))] for offset in self.offsets)
                a[point] = x[point] + own if self.terms == 1 else x[point] + self.terms * (0.25 * x[point] + own)
        return a[..., :-1] + a[..., 1:] if self.blurred else a


def drawn(draw: random.Random) -> Recurrence:
    """Scans, sweeps and steps of time: offsets are negative in lexicographic order."""
    rank = draw.randint(1, 3)
    shape = tuple(draw.randint(3, 7 - rank) for _ in range(rank))
    offsets = set()
    for _ in range(draw.randint(1, 3)):
        first = draw.randrange(rank)
        later = [draw.randint(-1, 1) for _ in range(rank - first - 1)]
        offsets.add((*(0,) * first, -draw.randint(1, 2), *later))
    return Recurrence(shape, tuple(sorted(offsets)), draw.choice([1, 1, 3]), draw.random() < 0.5)


def drawn_strategy(draw: random.Random, shape: tuple[int, ...]) -> pf.Strategy:
    """Tiles of some axes; a place for each of them; either order."""
    tile = tuple(draw.randint(1, size) for size in shape[: draw.randint(0, len(shape))])
    places = tuple(draw.choice(["recompute", "local", "global"]) for _ in tile)
    order = list(range(len(tile)))
    draw.shuffle(order)
    return pf.Strategy(tile, places, placement=draw.choice(["first", "shifted"]), order=tuple(order))


def test_random_recurrences_in_random_tiles_compute_and_count_what_loops_do() -> None:
    draw = random.Random(7)
    groups, wanted, inputs = [], [], []
    for _ in range(24):
        recurrence = drawn(draw)
        network = recurrence.network()
        x = np.random.default_rng(len(groups)).standard_normal(recurrence.shape).astype(np.float32)
        y = recurrence.computed(x.astype(float))
        np.testing.assert_allclose(pf.reference(network, {"x": x})[network.outputs[0].name], y, rtol=1e-12)
        strategy = drawn_strategy(draw, network.outputs[0].concrete_shape)
        (group,) = pf.fused(network, strategy)
        found = interpret(group, {"x": x})
        np.testing.assert_allclose(found.outputs[network.outputs[0].name], y, rtol=1e-12)
        assert {name: found.executions[name] for name in pf.counts(group).steps} == pf.counts(group).steps
        groups.append(group), wanted.append(y), inputs.append(x)
    programs = [pf.generate(g.schedule.network, [g], instrumented=True) for g in groups]
    programs += [pf.generate(g.schedule.network, [g]) for g in groups]
    for kernel, group, y, x in zip(
        build_many(programs, options=QUICK), groups * 2, wanted * 2, inputs * 2, strict=True
    ):
        (out,) = kernel(x=x).values()
        assert pf.max_relative_error(out, y) <= 1e-5, kernel.built.source
        if kernel.counts:
            executed = {c.name: n for c, n in kernel.counts.items() if c.kind == "executions"}
            assert executed == pf.counts(group).steps


SWEEP = Recurrence((4, 6), ((0, -1), (-1, 1)), 1, False)
"""Reads the element before it and the one above and right of it: in-place Gauss-Seidel."""


def test_threads_share_the_tiles_of_a_recurrence_that_each_tile_makes_again() -> None:
    recurrence = Recurrence((5, 9), ((-1, -1), (-1, 0), (-1, 1)), 1, True)
    network = recurrence.network()
    (group,) = pf.fused(network, pf.Strategy((5, 2), ("recompute", "recompute"), order=(1, 0)))
    kernel = pf.build(pf.generate(network, [group]), threads=2)
    x = np.random.default_rng(0).standard_normal(recurrence.shape).astype(np.float32)
    (out,) = kernel(x=x).values()
    assert pf.max_relative_error(out, recurrence.computed(x)) <= 1e-6
    assert pf.counts(group).recomputed > 0


def test_tiles_that_run_before_what_they_read_are_refused() -> None:
    network = SWEEP.network()
    schedule = pf.scheduled(network, pf.Strategy((4, 2), ("local", "local")))
    backwards = isl.Map("{ tile[t0, t1] -> [t0, -t1] }")
    with pytest.raises(
        IllegalSchedule, match=r"illegal: sweep at tile \(0, \d\) reads A\[\d, \d\], but only .* which is later"
    ):
        check(pf.storage(with_tile_order(schedule, backwards)))


def test_a_buffer_that_is_too_short_for_own_reads_is_refused() -> None:
    network = Recurrence((9,), ((-2,),), 1, True).network()
    (group,) = pf.fused(network, pf.Strategy((1,), ("local",)))
    (index,) = group.buffers["A"].indices
    assert index.folded and index.window == 3, "the new element, the one beside it and the one before that"
    short = replace(group.buffers["A"], indices=(Index(index.origin, index.window - 1, True),))
    with pytest.raises(IllegalSchedule, match=r"in its place|same cell"):
        check(replace(group, buffers={**group.buffers, "A": short}))


@pytest.mark.parametrize(
    "reads, init, why",
    [
        ("{ S[i] -> A[i + 1] : i < 5 }", "x", r"point l\[\d\] reads A\[\d\] of its own output; expected"),
        ("{ S[i] -> A[i] }", "x", "expected elements of points that come before"),
        ("{ S[i] -> A[5 - i] }", "x", "expected elements of points that come before"),
        ("{ S[i] -> A[i - 1] }", "x", "outside of"),
        ("{ S[i] -> A[i - 1] : i > 0 }", None, "nothing makes A"),
    ],
)
def test_reads_of_later_points_are_refused(reads: str, init: str | None, why: str) -> None:
    x, a = pf.Tensor("x", (6,)), pf.Tensor("A", (6,))
    every = {"x": (x, "{ S[i] -> x[i] }"), "a": (a, reads)}
    with pytest.raises(InvalidInput, match=why):
        pf.statement_layer("l", domain="{ S[i] : 0 <= i < 6 }", output=a, reads=every, expression="a + x", init=init)


def test_narrow_elements_are_refused() -> None:
    x, a = pf.Tensor("x", (6,)), pf.Tensor("A", (6,), "float16")
    reads = {"x": (x, "{ S[i] -> x[i] }"), "a": (a, "{ S[i] -> A[i - 1] : i > 0 }")}
    with pytest.raises(InvalidInput, match="narrower than acc"):
        pf.statement_layer("l", domain="{ S[i] : 0 <= i < 6 }", output=a, reads=reads, expression="a + x", init="x")


def test_what_runs_points_in_another_order_refuses_recurrences() -> None:
    network = SWEEP.network()
    groups = pf.fused(network, pf.Strategy())
    with pytest.raises(IllegalSchedule, match="run it on the host"):
        opencl_source(network, groups)
    with pytest.raises(InvalidInput, match="not planned for a scratchpad"):
        graph_of(network)
    with pytest.raises(UnsupportedOperator, match="reads its own output"):
        exported(groups[0])


def test_a_scan_of_nine_by_hand() -> None:
    """Tiles of 3 that keep nothing make 3, 6 and 9 sums; those that keep the last one make each once, with 4 B more."""
    x, a = pf.Tensor("x", (9,)), pf.Tensor("A", (9,))
    reads = {"x": (x, "{ S[i] -> x[i] }"), "before": (a, "{ S[i] -> A[i - 1] : i > 0 }")}
    scan = pf.statement_layer(
        "scan", domain="{ S[i] : 0 <= i < 9 }", output=a, reads=reads, expression="before + x", init="x"
    )
    network = pf.Network("scan", (x,), (scan,), (a,), {})
    values = np.arange(9, dtype=np.float32)
    for name, executions, buffer in (("recompute", 18, 36), ("local", 9, 16)):
        (group,) = pf.fused(network, pf.Strategy.named(name, (3,)))
        assert (pf.counts(group).executions, group.buffers["A"].bytes) == (executions, buffer)
        assert np.array_equal(pf.build(pf.generate(network, [group]))(x=values)["A"], np.cumsum(values))


@pytest.mark.parametrize(
    "times, is_legal",
    [
        ("{ scan[i] -> [floor(i/3), i] }", True),
        ("{ scan[i] -> [0, 2i] }", True),
        ("{ scan[i] -> [floor(i/3), -i] }", False),
        ("{ scan[i] -> [-floor(i/3), i] }", False),
        ("{ scan[i] -> [0, i mod 3, i] }", False),
    ],
)
def test_given_times_of_a_scan_are_judged_point_by_point(times: str, is_legal: bool) -> None:
    x, a = pf.Tensor("x", (9,)), pf.Tensor("A", (9,))
    reads = {"x": (x, "{ S[i] -> x[i] }"), "before": (a, "{ S[i] -> A[i - 1] : i > 0 }")}
    scan = pf.statement_layer(
        "scan", domain="{ S[i] : 0 <= i < 9 }", output=a, reads=reads, expression="before + x", init="x"
    )
    group = pf.storage(pf.schedule_from(pf.Network("scan", (x,), (scan,), (a,), {}), times))
    if is_legal:
        values = np.arange(9.0)
        assert np.array_equal(interpret(group, {"x": values}).outputs["A"], np.cumsum(values))
    else:
        with pytest.raises(IllegalSchedule, match=r"reads A\[\d\], but scan_update\[\d\] at time .* makes it later"):
            check(group)
