"""Arithmetic in float32 as C does it, to the bit, on numpy arrays.

Sums, products and quotients of float32 arrays are IEEE's in numpy already; what is here is what numpy does not have.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Singles = NDArray[np.float32]


def fmaf(a: ArrayLike, b: ArrayLike, c: ArrayLike) -> Singles:
    """`a * b + c` of float32 values, rounded once.

    The product is exact in float64. The sum is rounded to odd, which keeps what a second rounding needs to be that of
    the exact value (Boldo and Melquiond, "Emulation of FMA and Correctly Rounded Sums", IEEE TC 57, 2008).

    >>> a = np.float32(1 + 2**-12)
    >>> float(fmaf(a, a, -1)), float(a * a - np.float32(1))
    (0.0004883408546447754, 0.00048828125)
    """
    with np.errstate(all="ignore"):
        product = np.asarray(_single(a).astype(np.float64) * _single(b).astype(np.float64))
        addend = _single(c).astype(np.float64)
        total = np.asarray(product + addend)
        part = total - product
        error = (product - (total - part)) + (addend - part)
        is_even = (np.ascontiguousarray(total).view(np.int64).reshape(total.shape) & 1) == 0
        inexact = np.isfinite(total) & (error != 0) & is_even
        odd = np.where(inexact, np.nextafter(total, np.copysign(np.inf, error)), total)
        return np.asarray(odd.astype(np.float32))


def _single(value: ArrayLike) -> Singles:
    return np.asarray(value, dtype=np.float32)
