"""Sets, relations and expressions of isl can be pickled and copied, as text. Importing this module is enough.

islpy's own way refuses relations whose two tuples name a dimension alike, such as those that isl derives from others.

>>> import pickle
>>> relation = isl.Map("{ S[i] -> x[j] : j = i + 1 and 0 <= i < 4 }").apply_range(isl.Map("{ x[i] -> S[i] }"))
>>> pickle.loads(pickle.dumps(relation)) == relation
True
"""

import copyreg
from dataclasses import fields
from typing import Any

import islpy as isl

KINDS: tuple[type, ...] = (
    *(isl.BasicSet, isl.Set, isl.BasicMap, isl.Map, isl.UnionSet, isl.UnionMap),
    *(isl.Aff, isl.PwAff, isl.MultiAff, isl.PwMultiAff),
)


def restored(kind: str, text: str) -> Any:
    """The object of isl whose text that is."""
    return getattr(isl, kind)(text)


def nothing(kind: str, universe: str) -> Any:
    """The empty set or relation in the space of the universe: its own text does not say which space that is."""
    made = getattr(isl, kind)
    return made.empty(made(universe).get_space())


def reduced(value: Any) -> tuple[Any, tuple[str, str]]:
    """The function and arguments by which pickle and copy make an object of isl again."""
    kind = type(value).__name__
    if isinstance(value, isl.BasicSet | isl.Set | isl.BasicMap | isl.Map) and value.is_empty():
        return nothing, (kind, str(type(value).universe(value.get_space())))
    return restored, (kind, str(value))


class OfFields:
    """A frozen dataclass that is pickled and copied as its fields, without what cached properties have worked out."""

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]


for each in KINDS:
    copyreg.pickle(each, reduced)
