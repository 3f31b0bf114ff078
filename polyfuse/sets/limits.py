"""Bound the work of isl operations: a runaway one becomes `polyfuse.errors.TooComplex`.

Some isl operations are exponential in the number of dimensions or of existential variables.
isl counts its elementary operations, so the bound is the same on every machine and in every run.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import islpy as isl

from polyfuse.errors import InvalidInput, TooComplex


@contextmanager
def operation_limit(max_operations: int = 50_000_000, what: str = "an operation on sets") -> Iterator[None]:
    """Allow at most `max_operations` elementary isl operations inside the `with` block.

    Limits nest: an inner limit is never wider than the outer one, and leaving it gives the outer limit back,
    with its count started anew (isl has no way to read the count).

    >>> with operation_limit(1_000_000, what="the footprint of tile 3"):
    ...     print(isl.Set("{ A[i] : 0 <= i < 4 }").count_val())
    4

    Errors: TooComplex when the limit is passed, InvalidInput when it is not positive.
    """
    if max_operations <= 0:
        raise InvalidInput(f"operation limit of {what}: expected a positive number of operations, got {max_operations}")
    context = isl.DEFAULT_CONTEXT
    outer = context.get_max_operations()
    limit = min(max_operations, outer) if outer else max_operations
    context.set_max_operations(limit)
    context.reset_operations()
    try:
        yield
    except isl.Error as error:
        if not is_quota_error(error) and not is_exhausted():
            raise
        raise TooComplex(
            f"{what}: expected at most {limit:,} isl operations, it needs more; "
            "raise the limit, or make the sets simpler (concrete sizes, fewer pieces)"
        ) from error
    finally:
        context.set_max_operations(outer)
        context.reset_operations()


def is_exhausted() -> bool:
    """Whether the limit in force is used up: isl then reports some failures, parsing among them, in other words."""
    try:
        isl.Set("{ [i] : 0 <= i < 1 }").is_empty()
    except isl.Error:
        return True
    return False


def is_quota_error(error: Exception) -> bool:
    """Whether isl stopped because its operation limit was passed.

    >>> is_quota_error(ValueError("something else"))
    False
    """
    return "maximal number of operations" in str(error)
