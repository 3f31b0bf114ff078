"""How much a row kernel does in one call, in operations on whole vectors, from the code that it is made of.

RowShape + Tuning + V ──row_work()──> RowWork
"""

from dataclasses import replace
from functools import lru_cache

from polyfuse.codegen.rows.activation import activation_vectors
from polyfuse.codegen.rows.shape import RowShape, RowWork, Tuning


@lru_cache(maxsize=4096)
def row_work(shape: RowShape, tuning: Tuning, floats: int) -> RowWork:
    """The work of one call. Activations count among its vectors where they take many operations.

    >>> from polyfuse.codegen.rows.direct import Direct
    >>> shape = RowShape("conv", Direct(), 16, 24, 4, kernel=(3, 3), outside=(1, 1))
    >>> row_work(shape, Tuning(pixels=4, ways=2), 16)
    RowWork(macs=11520, vectors=720.0, loads=288.0, stores=8, chunks=2, transforms=0.0, again=())
    """
    work = shape.kind.work(shape, tuning, floats)
    return replace(work, vectors=work.vectors + work.stores * activation_vectors(shape, floats))
