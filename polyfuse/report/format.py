"""Numbers as people read them.

Enters: counts, bytes, seconds. Leaves: short text.
"""

import math
from collections.abc import Iterable

_BYTE_UNITS = ((1024, "KiB"), (1024**2, "MiB"), (1024**3, "GiB"), (1024**4, "TiB"))
_COUNT_UNITS = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"))
TIME_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))


def short_count(count: int) -> str:
    """A count, exact below a million, to four digits above.

    >>> short_count(5832), short_count(1234567)
    ('5,832', '1.235 M')
    """
    for size, unit in _COUNT_UNITS:
        if abs(count) >= size:
            return f"{significant(count / size)} {unit}"
    return f"{count:,}"


def short_seconds(seconds: float) -> str:
    """A time with the unit that suits it.

    >>> short_seconds(0.0123), short_seconds(8.5e-6)
    ('12.3 ms', '8.5 µs')
    """
    if not math.isfinite(seconds):
        return f"{seconds} s"
    size, unit = next(((size, unit) for size, unit in TIME_UNITS if abs(seconds) >= size), TIME_UNITS[-1])
    return f"{significant(seconds / size, digits=3)} {unit}"


def byte_unit(amounts: Iterable[int]) -> tuple[int, str]:
    """One unit for all the amounts: the largest is less than 10,240 of it.

    >>> byte_unit([100, 2000]), byte_unit([100, 20 * 1024 * 1024])
    ((1024, 'KiB'), (1048576, 'MiB'))
    """
    largest = max(amounts, default=0)
    return next((unit for unit in _BYTE_UNITS if largest < 10 * 1024 * unit[0]), _BYTE_UNITS[-1])


def short_bytes(amount: int) -> str:
    """An amount with the largest unit of which it is at least one.

    >>> short_bytes(32768), short_bytes(1 << 20), short_bytes(25 * 10**9), short_bytes(512)
    ('32 KiB', '1 MiB', '23.28 GiB', '0.5 KiB')
    """
    size, unit = next((unit for unit in reversed(_BYTE_UNITS) if amount >= unit[0]), _BYTE_UNITS[0])
    return f"{significant(amount / size)} {unit}"


def short_share(part: int, whole: int) -> str:
    """A part in per cent; only nothing is 0%.

    >>> short_share(76, 324), short_share(0, 324), short_share(1, 100000), short_share(0, 0)
    ('23.5%', '0%', '<0.1%', '')
    """
    if whole == 0:
        return ""
    share = 100 * part / whole
    return f"{significant(share, decimals=1)}%" if part == 0 or share >= 0.1 else "<0.1%"


def significant(value: float, digits: int = 4, decimals: int = 9) -> str:
    """At most so many significant digits and decimals; never an exponent, nor zeros at the end.

    >>> significant(1.265625), significant(12345.6), significant(0.0), significant(0.1406, decimals=2)
    ('1.266', '12,346', '0', '0.14')
    """
    if value == 0:
        return "0"
    wanted = digits - 1 - math.floor(math.log10(abs(value)))
    text = f"{value:,.{max(0, min(wanted, decimals))}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
