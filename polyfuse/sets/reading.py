"""Sets and relations as people give them: isl's notation, or an object of isl of any kind.

text | BasicSet | Set | UnionSet    ──as_set()──> Set
text | BasicMap | Map | UnionMap    ──as_map()──> Map    ──as_union_map()──> UnionMap
"""

from typing import TypeVar

import islpy as isl

from polyfuse.errors import InvalidInput
from polyfuse.sets.limits import is_quota_error
from polyfuse.whole import shown

SetLike = str | isl.BasicSet | isl.Set | isl.UnionSet
MapLike = str | isl.BasicMap | isl.Map | isl.UnionMap
MOST_PARENTHESES = 100
MOST_CHARACTERS = 100_000

Read = TypeVar("Read", isl.Set, isl.Map, isl.UnionSet, isl.UnionMap)


def as_set(given: SetLike, where: str, form: str) -> isl.Set:
    """One set, from text or from an object; `form` is an example of what is expected.

    Errors: InvalidInput that begins with `where`.

    >>> print(as_set("{ S[i] : 0 <= i < 3 }", "domain", "{ S[i] }"))
    { S[i] : 0 <= i <= 2 }
    """
    if isinstance(given, isl.BasicSet):
        return given.to_set()
    if isinstance(given, isl.UnionSet):
        if given.n_set() != 1:
            raise InvalidInput(f"{where}: expected one set such as {form}, got {given.n_set()} of different tuples")
        return given.as_set()
    return given if isinstance(given, isl.Set) else read(isl.Set, given, where, form)


def as_map(given: MapLike, where: str, form: str) -> isl.Map:
    """One relation, from text or from an object; `form` is an example of what is expected.

    Errors: InvalidInput that begins with `where`.

    >>> as_map(isl.BasicMap("{ S[i] -> [i] }"), "order", "{ S[i] -> [i] }") == isl.Map("{ S[i] -> [i] }")
    True
    """
    if isinstance(given, isl.BasicMap):
        return given.to_map()
    if isinstance(given, isl.UnionMap):
        if given.n_map() != 1:
            raise InvalidInput(
                f"{where}: expected one relation such as {form}, got {given.n_map()} between different tuples"
            )
        return given.as_map()
    return given if isinstance(given, isl.Map) else read(isl.Map, given, where, form)


def as_union_map(given: MapLike, where: str, form: str) -> isl.UnionMap:
    """Relations between any tuples, from text or from an object. Errors: InvalidInput that begins with `where`."""
    if isinstance(given, isl.UnionMap):
        return given
    if isinstance(given, isl.BasicMap | isl.Map):
        return isl.UnionMap.from_map(as_map(given, where, form))
    return read(isl.UnionMap, given, where, form)


def read(kind: type[Read], text: object, where: str, form: str) -> Read:
    """What isl reads in a text that holds one pair of braces and nothing behind it, which isl itself would drop.

    Errors: InvalidInput.
    """
    why = f"{type(text).__name__}, no text"
    if isinstance(text, str):
        why = unreadable(text) or ("a set" if kind is isl.Map and "->" not in text[text.find("{") :] else "")
        if not why:
            try:
                return kind(text)
            except (isl.Error, TypeError, ValueError) as error:
                if is_quota_error(error):
                    raise
                reason = " ".join(str(error).split()).split(" failed: ")[-1].split(" in /")[0]
                why = f"not affine, or not of this form{'' if 'Assertion' in reason else f': {reason}'}"
    raise InvalidInput(f"{where}: isl cannot read {shown(text, 200)} ({why}); expected isl's notation, such as {form}")


def unreadable(text: str) -> str:
    """Why isl is not asked to read a text; empty where it is."""
    deepest = level = 0
    for character in text:
        level += (character in "([") - (character in ")]")
        deepest = max(deepest, level)
    if deepest > MOST_PARENTHESES:
        return f"more than {MOST_PARENTHESES} levels of parentheses"
    if len(text) > MOST_CHARACTERS:
        return f"more than {MOST_CHARACTERS:,} characters"
    if not text.count("{") == text.count("}") == 1 or not text.rstrip().endswith("}"):
        return "text outside of its braces" if "{" in text and "}" in text else "no braces"
    return ""
