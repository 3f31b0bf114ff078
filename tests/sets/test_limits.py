"""`operation_limit` stops runaway isl operations and leaves isl as it was."""

import islpy as isl
import pytest

from polyfuse.errors import InvalidInput, TooComplex
from polyfuse.sets.limits import operation_limit

RUNAWAY = (
    "{ [i,j,k,l,m] : exists a, b, c : 7a + 3b + 5c = i + 2j + 3k and 11a - 2b + 13c <= l + 2m "
    "and 0 <= a, b, c <= 1000 and 0 <= i, j, k, l, m <= 1000 }"
)


def runaway() -> isl.Set:
    """An operation that takes minutes."""
    return isl.Set(RUNAWAY).complement().make_disjoint()


def current_limit() -> int:
    return isl.DEFAULT_CONTEXT.get_max_operations()


def test_runaway_operation_becomes_too_complex() -> None:
    message = r"the runaway: expected at most 50,000 isl operations.*raise the limit"
    with pytest.raises(TooComplex, match=message), operation_limit(50_000, what="the runaway"):
        runaway()


def test_isl_works_after_the_limit_was_passed() -> None:
    with pytest.raises(TooComplex), operation_limit(10_000):
        runaway()
    assert current_limit() == 0
    assert isl.Set("{ [i] : 0 <= i < 7 }").count_val().to_python() == 7


def test_inner_limit_restores_the_outer_one() -> None:
    with operation_limit(1_000_000):
        with operation_limit(1_000):
            assert current_limit() == 1_000
        assert current_limit() == 1_000_000
        with operation_limit(5_000_000):
            assert current_limit() == 1_000_000
    assert current_limit() == 0


def test_outer_limit_still_holds_after_an_inner_one_was_passed() -> None:
    with pytest.raises(TooComplex, match="outer"), operation_limit(20_000, what="outer"):
        with pytest.raises(TooComplex, match="inner"), operation_limit(10_000, what="inner"):
            runaway()
        runaway()


def test_other_errors_pass_through_and_the_limit_is_restored() -> None:
    with pytest.raises(isl.Error), operation_limit(1_000_000):
        isl.Set("{ A[i] }").intersect(isl.Set("{ B[i] }"))
    with pytest.raises(KeyError), operation_limit(1_000_000):
        raise KeyError("mine")
    assert current_limit() == 0


@pytest.mark.parametrize("operations", [0, -1])
def test_limit_must_be_positive(operations: int) -> None:
    with pytest.raises(InvalidInput, match="positive number"), operation_limit(operations):
        pass
