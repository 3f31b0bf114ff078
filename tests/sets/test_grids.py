"""Tables over grids of steps: their pieces are exactly the table, and few where it is regular."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyfuse.errors import TooComplex
from polyfuse.sets.grids import AffinePiece, pieces


def inside(piece: AffinePiece, steps: np.ndarray) -> np.ndarray:
    """Which steps a piece holds."""
    ends = zip(piece.first, piece.last, piece.every, steps.T, strict=True)
    return np.logical_and.reduce([(at >= a) & (at <= b) & ((at - a) % every == 0) for a, b, every, at in ends])


@settings(deadline=None)
@given(st.data())
def test_pieces_are_disjoint_and_give_every_value(data: st.DataObject) -> None:
    counts = data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=4))
    steps = np.indices(counts).reshape(len(counts), -1).T
    columns = []
    for _ in range(data.draw(st.integers(1, 3))):
        factors = np.array(data.draw(st.lists(st.integers(-3, 3), min_size=len(counts), max_size=len(counts))))
        divisor = data.draw(st.integers(1, 3))
        columns.append(np.clip(steps @ factors, data.draw(st.integers(-6, 0)), 5) // divisor)
    table = np.stack(columns, axis=1)
    held = np.zeros(len(steps), int)
    for piece in pieces(table, counts, 10**6):
        here = inside(piece, steps)
        held += here
        values = steps[here] @ piece.factors.T + piece.constants
        assert np.array_equal(values, piece.over * table[here])
    assert (held == 1).all()


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (lambda t: np.minimum(np.maximum(0, 4 * t - 1), 90), 3),
        (lambda t: (t + 1) // 2, 2),
        (lambda t: t // 3, 3),
        (lambda t: 0 * t, 1),
    ],
)
def test_regular_tables_have_few_pieces(table: object, expected: int) -> None:
    steps = np.arange(60)
    assert len(pieces(table(steps)[:, None], (60,), 10)) == expected  # type: ignore[operator]


def test_table_without_order_is_refused() -> None:
    with pytest.raises(TooComplex, match="a table of 60 steps: expected at most 5 pieces"):
        pieces(np.arange(60)[:, None] ** 2, (60,), 5)
