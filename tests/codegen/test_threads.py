"""Threads: as many as were asked for, and no more than there are tiles to share."""

import pytest

import polyfuse as pf
from tests.schedule.networks import pair

QUICK = pf.Options(flags=("-std=c11", "-O0"))


def program(rows: int) -> pf.Program:
    net = pair()
    return pf.generate(net, pf.fused(net, pf.Strategy((rows,))), kernels="scalar")


@pytest.mark.parametrize(("rows", "asked", "used"), [(8, 1000, 2), (8, 2, 2), (8, 1, 1), (3, 1000, 6), (3, 4, 4)])
def test_threads_without_a_tile_are_left_out(rows: int, asked: int, used: int) -> None:
    made = program(rows)
    kernel = pf.build(made, threads=asked, options=QUICK)
    assert kernel.threads == used == pf.Settings(threads=asked).threads_of(made)
    inputs = pf.random_inputs(made.network, 1)
    expected = pf.reference(made.network, inputs)["conv2_out"]
    assert pf.max_relative_error(kernel(**inputs)["conv2_out"], expected) < 1e-5


@pytest.mark.parametrize("threads", [0, -1, 1025, 10**30])
def test_numbers_of_threads_that_make_no_sense_are_refused(threads: int) -> None:
    with pytest.raises(pf.InvalidInput, match="threads: expected a whole number from 1 to 1,024, got"):
        pf.build(program(8), threads=threads, options=QUICK)


def test_rows_of_a_comparison_say_how_many_threads_they_had() -> None:
    found = pf.compare(pair(), pf.candidates([(8,)], ["recompute"])[1:], threads=4, repeats=1, options=QUICK)
    assert [row.threads for row in found.rows] == [2]
