"""Numbers as people read them."""

import doctest

import pytest

from polyfuse.report import format as format_module
from polyfuse.report.format import short_count, short_seconds, significant


def test_docstring_examples() -> None:
    results = doctest.testmod(format_module)
    assert results.attempted > 5
    assert results.failed == 0


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.0, "0 ns"),
        (1.5e-9, "1.5 ns"),
        (9.996e-4, "1,000 µs"),
        (1.0, "1 s"),
        (4321.0, "4,321 s"),
        (float("nan"), "nan s"),
    ],
)
def test_times(seconds: float, shown: str) -> None:
    assert short_seconds(seconds) == shown


@pytest.mark.parametrize(
    ("count", "shown"), [(0, "0"), (999_999, "999,999"), (1_000_000, "1 M"), (12_345_678_901, "12.35 G")]
)
def test_counts(count: int, shown: str) -> None:
    assert short_count(count) == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(100.0, "100"), (1000.0, "1,000"), (0.00012345, "0.0001234"), (-2.5, "-2.5")]
)
def test_zeros_before_the_point_stay(value: float, shown: str) -> None:
    assert significant(value) == shown
