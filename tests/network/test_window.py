"""Windows against what they are: which elements each position reads, one by one."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyfuse.errors import InvalidInput
from polyfuse.network.layers.pooling import pool_output, windows
from polyfuse.network.tensor import Tensor
from polyfuse.network.window import Window

pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))
drawn = st.builds(Window, pairs, pairs, pairs, st.tuples(*[st.integers(0, 2)] * 4))


def elements(window: Window, axis: int, position: int) -> list[int]:
    """The rows, or the columns, that a position reads, those of padding among them."""
    first = window.stride[axis] * position - window.padding[axis]
    return [first + window.dilation[axis] * tap for tap in range(window.kernel[axis])]


@settings(max_examples=80, deadline=None)
@given(drawn, st.integers(7, 10), st.integers(7, 10), st.booleans())
def test_outputs_are_the_positions_that_fit(window: Window, rows: int, columns: int, ceil: bool) -> None:
    for axis, made in enumerate(window.outputs(Tensor("x", (1, 1, rows, columns)), ceil)):
        size = (rows, columns)[axis]
        end = size + window.padding[2 + axis]
        count = sum(elements(window, axis, position)[-1] < end for position in range(40))
        if ceil:
            count += elements(window, axis, count - 1)[-1] < end - 1
            count -= elements(window, axis, count - 1)[0] >= size
        assert made == count


@settings(max_examples=60, deadline=None)
@given(drawn, st.integers(7, 9), st.integers(7, 9))
def test_windows_of_numpy_hold_the_elements_of_the_index(window: Window, rows: int, columns: int) -> None:
    x = np.arange(1.0, rows * columns + 1).reshape(1, 1, rows, columns)
    found = windows(x, window, 0.0)
    for h, w in np.ndindex(*found.shape[2:4]):
        for (i, y), (j, z) in product(enumerate(elements(window, 0, h)), enumerate(elements(window, 1, w))):
            inside = 0 <= y < rows and 0 <= z < columns
            assert found[0, 0, h, w, i, j] == (x[0, 0, y, z] if inside else 0.0)


def test_by_hand() -> None:
    window = Window((3, 2), stride=(2, 1), dilation=(1, 3), padding=(1, 0, 1, 2))
    assert window.reach == (3, 4)
    assert window.index == "2 * h + 1 * kh - 1, 1 * w + 3 * kw - 0"
    x = Tensor("x", (1, 1, 8, 9))
    assert window.outputs(x) == (4, 8) and window.outputs(x, ceil=True) == (5, 8)
    assert window.grown(x, pool_output("p", x, window, ceil=True)).padding == (1, 0, 2, 2)
    assert Window((2, 2)).outputs(Tensor("x", (1, 1, "H", 5))) == ("H - 1", 4)


@pytest.mark.parametrize("window", [Window((0, 1)), Window(stride=(1, 0)), Window(padding=(0, 0, -1, 0))])
def test_what_is_no_window_is_refused(window: Window) -> None:
    with pytest.raises(InvalidInput, match="expected kernel, stride and dilation of at least 1"):
        window.check("l", Tensor("x", (1, 1, 5, 5)))
    with pytest.raises(InvalidInput, match="expected an input"):
        Window().check("l", Tensor("x", (5, 5)))
