"""Points of sets and expressions at them, against isl's own enumeration."""

import islpy as isl
import numpy as np
import pytest

from polyfuse.errors import TooComplex, Unbounded
from polyfuse.sets.points import points, values_at

SETS = [
    "{ [] }",
    "{ [a] : 3 <= a < 3 }",
    "{ [a, b, c] : a = 3 - b and 0 <= b < 4 and 0 <= c < a }",
    "{ [a, b] : 0 <= a < 5 and a <= b < 2a }",
    "{ [a, b] : exists (k : a = 3k + 1) and 0 <= a < 20 and 0 <= 2b <= a }",
    "{ [a, b] : 0 <= a < 9 and 0 <= b < 9 and (a + b) mod 4 = 2 }",
    "{ named[a, b, c] : -2 <= a < 3 and 0 <= b <= c and 0 <= c < 4 + a; named[7, 7, c] : 0 <= c < 9 }",
]


def enumerated(values: isl.Set) -> list[list[int]]:
    found: list[list[int]] = []
    rank = values.dim(isl.dim_type.set)

    def add(point: isl.Point) -> None:
        found.append([point.get_coordinate_val(isl.dim_type.set, d).to_python() for d in range(rank)])

    values.foreach_point(add)
    return sorted(found)


@pytest.mark.parametrize("text", SETS)
def test_points_are_those_of_isl_in_order(text: str) -> None:
    values = isl.Set(text)
    assert points(values).tolist() == enumerated(values)


def test_values_are_those_of_isl() -> None:
    expression = isl.PwAff("{ [a, b] -> [floor((a + 2b)/3) - a] : a < 4; [a, b] -> [2b + floor(b/2)] : a >= 4 }")
    at = points(isl.Set("{ [a, b] : 0 <= a < 9 and -3 <= b < 4 }"))
    expected = []
    for a, b in at.tolist():
        point = isl.Set(f"{{ [{a}, {b}] }}").sample_point()
        expected.append(expression.eval(point).to_python())
    assert values_at(expression, at).tolist() == expected


def test_refuses_what_does_not_end() -> None:
    with pytest.raises(Unbounded, match="expected a bounded set"):
        points(isl.Set("{ [a, b] : a >= 0 and 0 <= b < 3 }"))
    with pytest.raises(TooComplex, match="cut it"):
        points(isl.Set("{ [a, b, c] : 0 <= a < 100000 and 0 <= b < 100000 and c = 0 }"))
    assert points(isl.Set("{ [] }")).shape == (1, 0)
    assert np.array_equal(points(isl.Set("{ [a] : 2 <= a <= 3 }")), [[2], [3]])
