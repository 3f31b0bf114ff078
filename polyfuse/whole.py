"""Whole numbers that a user gives: one validator for all of them.

Whatever Python takes for an index is whole, numpy's integers among them; `True`, `"8"` and 8.0 are not.
"""

from operator import index

from polyfuse.errors import InvalidInput


def is_whole_number(value: object) -> bool:
    """Whether a value counts something.

    >>> import numpy as np
    >>> [is_whole_number(value) for value in (8, np.int64(8), True, np.bool_(True), "8", 8.0)]
    [True, True, False, False, False, False]
    """
    if isinstance(value, bool):
        return False
    try:
        index(value)  # type: ignore[arg-type]
    except TypeError:
        return False
    return True


def whole(value: object, where: str, least: int | None = None, most: int | None = None) -> int:
    """The number as Python's own.

    Errors: InvalidInput that says `where`, for a value that is no whole number or out of bounds.

    >>> import numpy as np
    >>> whole(np.int64(8), "tile", 1)
    8
    """
    if is_whole_number(value):
        number = index(value)  # type: ignore[arg-type]
        if (least is None or number >= least) and (most is None or number <= most):
            return number
    bounds = f" of at least {least:,}" if least is not None else ""
    if most is not None:
        bounds = f" from {least:,} to {most:,}" if least is not None else f" of at most {most:,}"
    raise InvalidInput(f"{where}: expected a whole number{bounds}, got {shown(value)}")


def shown(value: object, longest: int = 60) -> str:
    """A value as an error shows it: on one line, cut where it is long.

    >>> shown([1, 2]), shown("a" * 99, 8)
    ('[1, 2]', "'aaaa...")
    """
    try:
        text = " ".join(repr(value).split())
    except Exception:  # what the user gave may fail to describe itself
        text = f"<{type(value).__name__}>"
    return text if len(text) <= longest else f"{text[: longest - 3]}..."
