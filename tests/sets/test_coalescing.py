"""Relations written with fewer pieces and quotients hold what they held."""

import islpy as isl
import pytest

from polyfuse.sets.coalescing import simplified

SHUFFLED = "0 <= e <= 135 and -544 + 4c - 137e <= 544*floor((-1 - e)/4) <= -541 + 4c - 137e"
"""c takes every value from 0 to 135: what is left of 136 channels that were shuffled in four groups."""
KEPT = [
    "{ A[n, c, h] -> tile[t] : n = 0 and h = t and 0 <= c < 9 and c mod 2 = 0 }",
    "{ A[n, c, h] -> tile[t] : n = 0 and c = t and 2h = 3t and 0 <= t < 9 }",
    "{ A[n, c, h] -> tile[t] : n = 0 and h = t and 0 <= c < 9 and (c + t) mod 3 = 0 }",
    "[N] -> { A[n, c, h] -> tile[t] : n = 0 and h = t and 0 <= c < N and c mod 2 = 0 }",
    "{ A[n, c, h] -> tile[t] : false }",
]


def quotients(relation: isl.Map) -> int:
    return sum(piece.dim(isl.dim_type.div) for piece in relation.get_basic_maps())


@pytest.mark.parametrize("rows", ["0 <= h < 28", "true"])
def test_shuffled_channels_that_are_all_there_need_no_quotients(rows: str) -> None:
    need = isl.Map(f"{{ A[n, c, h] -> tile[t] : n = 0 and 4t <= h <= 4t + 3 and {rows} and exists (e : {SHUFFLED}) }}")
    found = simplified(need)
    assert quotients(need) > 0 == quotients(found) and found.is_equal(need)


@pytest.mark.parametrize("text", KEPT)
def test_what_has_holes_stays_as_it_is(text: str) -> None:
    assert simplified(isl.Map(text)).is_equal(isl.Map(text))
