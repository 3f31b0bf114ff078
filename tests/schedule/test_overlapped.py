"""The paper's overlapped form: written down, and equal to what footprints give where the overlap is the halo."""

import islpy as isl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyfuse.errors import IllegalSchedule, InvalidInput
from polyfuse.schedule.overlapped import Overlap, overlapped, overlapped_executions, prove_overlap
from polyfuse.schedule.schedule import scheduled
from polyfuse.schedule.strategy import Strategy
from tests.schedule.networks import Chain, Window, pair, pairs, same_chain, stencils

CONV = isl.Set("{ Conv[i0, i1, i2, i3] : 0 <= i0 < 18 and 0 <= i1 < 10 and 0 <= i2, i3 < 3 }")


@pytest.mark.parametrize(
    ("tiled", "inside", "form"),
    [
        (
            [Overlap(0, 8, 2, 16)],
            (1, 0, 2, 3),
            "Conv[i0,i1,i2,i3] -> [t0,i1,t1,i2,i3] : 0 <= t0 < 2 and 0 <= t1 < 8 + 2 and i0 = 8 t0 + t1",
        ),
        (
            [Overlap(1, 3, 0, 10)],
            None,
            "Conv[i0,i1,i2,i3] -> [t, i0, l, i2, i3] : 0 <= t < 4 and 0 <= l < 3 and i1 = 3t + l",
        ),
        (
            [Overlap(0, 4, 3, 15, before=1)],
            None,
            "Conv[i,j,k,m] -> [t,l,j,k,m] : 0 <= t < 4 and 0 <= l < 7 and i = 4t+l-1",
        ),
        ([Overlap(0, 4, -1, 16)], None, "Conv[i,j,k,m] -> [t,l,j,k,m] : 0 <= t < 4 and 0 <= l < 3 and i = 4t + l"),
        (
            [Overlap(0, 8, 2, 16), Overlap(1, 4, 2, 8)],
            (2, 3, 0, 1),
            "Conv[i0,i1,i2,i3] -> [t0,t1,i2,i3,l0,l1] : 0 <= t0, t1 < 2 and 0 <= l0 < 10 and 0 <= l1 < 6 "
            "and i0 = 8 t0 + l0 and i1 = 4 t1 + l1",
        ),
        (
            [Overlap(0, 8, 2, "H")],
            None,
            "Conv[i0,i1,i2,i3] -> [t,l,i1,i2,i3] : 0 <= 8t < H and 0 <= l < 10 and i0 = 8t + l",
        ),
    ],
)
def test_the_form_of_the_paper(tiled: list[Overlap], inside: tuple[int, ...] | None, form: str) -> None:
    assert overlapped(CONV, tiled, inside) == isl.Map(f"[H] -> {{ {form} }}").intersect_domain(CONV)


def test_an_overlapped_schedule_repeats_the_overlap_only() -> None:
    relation = overlapped(CONV, [Overlap(0, 8, 2, 16)])
    twice = relation.subtract(relation.lexmin()).domain()
    assert twice == CONV & isl.Set("{ Conv[i0, i1, i2, i3] : 8 <= i0 < 10 }")


@pytest.mark.parametrize(
    ("tile", "tiled"),
    [((8,), [Overlap(2, 8, 2, 16)]), ((8, 8), [Overlap(2, 8, 2, 16), Overlap(3, 8, 2, 16)]),
     ((5, 3), [Overlap(2, 5, 2, 16), Overlap(3, 3, 2, 16)])],
)  # fmt: skip
def test_the_overlap_of_two_valid_3x3_convolutions_is_2(tile: tuple[int, ...], tiled: list[Overlap]) -> None:
    network = pair()
    found = scheduled(network, Strategy(tile))
    prove_overlap(found, network.layer("conv1"), tiled)
    for position in range(len(tiled)):
        for overlap, complaint in ((1, "needed there and not executed; the overlap is too small"),
                                   (3, "executed there and not needed; the overlap is too large")):  # fmt: skip
            wrong = list(tiled)
            wrong[position] = Overlap(tiled[position].index, tile[position], overlap, 16)
            with pytest.raises(IllegalSchedule, match=complaint):
                prove_overlap(found, network.layer("conv1"), wrong)


def test_the_witness_is_a_row_beyond_the_overlap() -> None:
    network = pair()
    found = scheduled(network, Strategy((8,)))
    with pytest.raises(IllegalSchedule, match=r"'conv1' at tile \(0, 0\): point \(0, 0, 9, 0\) is needed"):
        prove_overlap(found, network.layer("conv1"), [Overlap(2, 8, 1, 16)])
    with pytest.raises(IllegalSchedule, match=r"'conv1' at tile \(0, 0\): point \(0, 0, 10, 0\) is executed"):
        prove_overlap(found, network.layer("conv1"), [Overlap(2, 8, 3, 16)])


def test_the_overlap_grows_by_the_halo_of_every_layer() -> None:
    network = same_chain(4, 24, 24)
    found = scheduled(network, Strategy((5,)))
    for k in range(4):
        prove_overlap(found, f"c{k}", [Overlap(2, 5, 2 * (3 - k), 24, before=3 - k)])


def test_the_proof_holds_for_every_image_size() -> None:
    network = same_chain(2, "H", "W")
    found = scheduled(network, Strategy((4, 6)))
    columns = Overlap(3, 6, 2, "W", before=1)
    prove_overlap(found, network.layer("c0"), [Overlap(2, 4, 2, "H", before=1), columns])
    for wrong in (Overlap(2, 4, 1, "H", before=1), Overlap(2, 4, 2, "H"), Overlap(2, 4, 3, "H", before=1)):
        with pytest.raises(IllegalSchedule, match="in the wrong place"):
            prove_overlap(found, network.layer("c0"), [wrong, columns])


def test_rank_1_and_batches() -> None:
    network = stencils()
    prove_overlap(scheduled(network, Strategy((4,))), network.layer("A"), [Overlap(0, 4, 2, 16)])
    given = overlapped_executions(scheduled(network, Strategy((4,))), network.layer("A"), [Overlap(0, 4, 2, 16)])
    assert given == isl.Map("{ A[i] -> tile[t] : 0 <= t < 4 and 4t <= i < 4t + 6 }")


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 4), st.integers(1, 2), st.integers(1, 5), st.integers(0, 2))
def test_the_overlap_is_the_reach_of_the_kernel(kernel: int, dilation: int, size: int, change: int) -> None:
    window = Window("conv", (kernel, 1), (1, 1), (dilation, 1), (0, 0))
    halo = (kernel - 1) * dilation
    chain = Chain((Window("conv", (1, 1), (1, 1), (1, 1), (0, 0)), window), (10 + halo, 1))
    found = scheduled(chain.network(), Strategy((size,)))
    tiled = [Overlap(2, size, halo + change, 10)]
    layer = found.network.layer("l0")
    holes = dilation > 1 and kernel > 1 and 1 in (size, 10 % size)
    if holes or (change and size < 10):
        with pytest.raises(IllegalSchedule, match="is executed there and not needed"):
            prove_overlap(found, layer, tiled)
    else:
        prove_overlap(found, layer, tiled)
        assert pairs(overlapped_executions(found, layer, tiled)) == pairs(found.executions(layer))


@pytest.mark.parametrize(
    ("tiled", "inside", "message"),
    [
        ([Overlap(4, 8, 2, 16)], None, "overlapped Conv: expected each of its 4 indices"),
        ([Overlap(0, 8, 2, 16), Overlap(0, 2, 2, 16)], None, "tiled at most once"),
        ([Overlap(0, 8, 2, 16)], (0, 1, 2), r"got \(0, 1, 2\) inside"),
    ],
)
def test_wrong_indices_are_refused(tiled: list[Overlap], inside: tuple[int, ...] | None, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        overlapped(CONV, tiled, inside)


def test_a_layer_that_is_not_there_is_refused() -> None:
    found = scheduled(pair(), Strategy((8,)))
    for layer in ("conv3", stencils().layer("A")):
        with pytest.raises(InvalidInput, match=r"network 'pair' has no layer '(conv3|A)'; it has conv1, conv2"):
            prove_overlap(found, layer, [])


def test_wrong_sizes_and_untiled_axes_are_refused() -> None:
    with pytest.raises(InvalidInput, match="overlap of index 0: expected a tile size"):
        Overlap(0, 0, 2, 16)
    with pytest.raises(InvalidInput, match=r"overlap of index 0: .* got 2 and -2"):
        Overlap(0, 2, -2, 16)
    network = pair()
    with pytest.raises(
        InvalidInput, match=r"overlap of index 3 of layer 'conv1': expected one of the tiled axes \(0, 2\)"
    ):
        prove_overlap(scheduled(network, Strategy((8,))), network.layer("conv1"), [Overlap(3, 8, 2, 16)])
