"""Counts of groups in which not every point is executed, and halos of tensors whose axes change places."""

from itertools import product

import pytest

from polyfuse.network.custom import statement_layer
from polyfuse.network.network import Builder, Network
from polyfuse.network.tensor import Tensor
from polyfuse.schedule.counts import counts, halos, total
from polyfuse.schedule.groups import fused, layer_by_layer
from polyfuse.schedule.strategy import Strategy
from tests.schedule.networks import pair


def skipping() -> Network:
    """A stride larger than its kernel: of 21 x 21 points only every third row and column is needed."""
    build = Builder("skipping")
    skipped = build.conv("c2", build.conv("c1", build.input("x", (1, 1, 23, 23)), 1, kernel=3), 1, kernel=1, stride=3)
    return build.network(build.conv("c3", skipped, 1, kernel=3))


def turned() -> Network:
    """A convolution, and its rows and columns exchanged."""
    build = Builder("turned")
    straight = build.conv("straight", build.input("x", (1, 1, 12, 12)), 1, kernel=3)
    index = "S[n, c, h, w]"
    return build.network(
        build.add(
            statement_layer(
                "turn",
                domain=f"{{ {index} : n = 0 and c = 0 and 0 <= h < 10 and 0 <= w < 10 }}",
                output=Tensor("turn_out", (1, 1, 10, 10)),
                reads={"x": (straight, f"{{ {index} -> straight_out[n, c, w, h] }}")},
                expression="x",
            )
        )
    )


def test_points_that_no_tile_needs_are_not_executed() -> None:
    unfused = total(counts(group) for group in layer_by_layer(skipping()))
    assert (unfused.instances, unfused.executions, unfused.recomputed) == (441 + 49 + 25, 441 + 49 + 25, 0)
    found = counts(*fused(skipping(), Strategy.named("local", (2, 3))))
    assert (found.instances, found.executions, found.recomputed) == (441 + 49 + 25, 49 + 49 + 25, 0)


def test_recomputed_are_executions_beyond_the_first() -> None:
    """Tiles of 2x3 of 5x5: three of 4, 4 and 3 rows, two of 5 and 4 columns, of both tensors before."""
    found = counts(*fused(skipping(), Strategy.named("recompute", (2, 3))))
    assert found.executions == 2 * 11 * 9 + 25
    assert found.recomputed == 2 * (11 * 9 - 49)


def footprint_of_turned(rows: range, columns: range) -> dict[str, set[tuple[int, int]]]:
    straight = {(w, h) for h, w in product(rows, columns)}
    return {
        "straight_out": straight,
        "x": {(h + kh, w + kw) for h, w in straight for kh in range(3) for kw in range(3)},
    }


@pytest.mark.parametrize("tile", [(2, 3), (1, 1), (5, 5)])
def test_halos_of_exchanged_axes_match_brute_force(tile: tuple[int, int]) -> None:
    found = halos(turned(), tile)
    here = footprint_of_turned(range(tile[0]), range(tile[1]))
    below = footprint_of_turned(range(tile[0], 2 * tile[0]), range(tile[1]))
    right = footprint_of_turned(range(tile[0]), range(tile[1], 2 * tile[1]))
    for tensor, elements in here.items():
        shared_rows = {row for row, _ in elements & below[tensor]}
        shared_columns = {column for _, column in elements & right[tensor]}
        assert found[tensor] == (len(shared_rows), len(shared_columns))


def test_halos_of_the_worked_example() -> None:
    assert halos(pair(), (8, 8)) == {"conv2_out": (0, 0), "conv1_out": (2, 2), "x": (4, 4)}
    assert halos(turned(), (4,)) == {"turn_out": (0,), "straight_out": (0,), "x": (12,)}
