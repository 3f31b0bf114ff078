"""JSON, or TOML, to frozen dataclasses by their annotations, and back.

Keys of fields that have a factory of defaults may be missing: they came later than files that are read.
Enters: what a parser of JSON or TOML gives, and a type built of dataclasses, tuples, dictionaries, literals, str, int,
bool, float, object and `| None`. Leaves: a value of that type; or an InvalidInput that says where the text is wrong.

A float that is not finite has no JSON number: it is written as the string "nan", "inf" or "-inf".
"""

import dataclasses
import json
import math
import types
from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin, get_type_hints

from polyfuse.errors import InvalidInput

_NON_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def parse(text: str, where: str) -> object:
    """The JSON value in a text; `where` is what errors call the text."""
    try:
        value: object = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{where}: expected JSON, got: {error}; is it cut short, or another file?") from error
    return value


def headed(text: str, where: str, what: str, head: tuple[str, int], again: str) -> dict[str, object]:
    """The object in a JSON text behind its `head`, "format" and "version"; errors call it `what` and say what helps.

    Raises InvalidInput for what is no JSON, no object, or another format or version.

    >>> headed('{"format": "f", "version": 1, "a": 2}', "file", "an example", ("f", 1), "write it again")
    {'a': 2}
    """
    document = parse(text, where)
    if not isinstance(document, dict):
        raise InvalidInput(f"{where}: expected an object, got {type(document).__name__}; is it {what}?")
    found = (document.pop("format", None), document.pop("version", None))
    if found != head:
        raise InvalidInput(
            f"{where}: expected format '{head[0]}' version {head[1]}, got {found[0]!r} {found[1]!r}; {again}"
        )
    return document


def decode(value: object, kind: Any, where: str) -> Any:
    """`value` as a `kind`; lists become tuples. Raises InvalidInput naming the place, such as "rows[2].tile"."""
    if kind is object:
        return value
    if dataclasses.is_dataclass(kind):
        return _decode_record(_expect(value, dict, "an object", where), kind, where)
    if isinstance(kind, types.UnionType):
        (other,) = (option for option in get_args(kind) if option is not types.NoneType)
        return None if value is None else decode(value, other, where)
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise InvalidInput(f"{where}: expected one of {', '.join(map(repr, get_args(kind)))}, got {value!r}")
        return value
    if get_origin(kind) is tuple:
        items = _expect(value, list, "a list", where)
        return tuple(decode(item, get_args(kind)[0], f"{where}[{index}]") for index, item in enumerate(items))
    if get_origin(kind) is dict:
        entries = _expect(value, dict, "an object", where)
        return {name: decode(item, get_args(kind)[1], f"{where}.{name}") for name, item in entries.items()}
    return _decode_scalar(value, kind, where)


def encode(value: object) -> object:
    """What `decode` reads: dataclasses as objects, tuples as lists, floats that are not finite as strings."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: encode(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(name): encode(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [encode(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _decode_record(entries: dict[str, object], kind: Any, where: str) -> Any:
    hints = get_type_hints(kind)
    names = [field.name for field in dataclasses.fields(kind)]
    later = {field.name for field in dataclasses.fields(kind) if field.default_factory is not dataclasses.MISSING}
    for problem, found in (("an unknown", set(entries) - set(names)), ("no", set(names) - set(entries) - later)):
        if found:
            raise InvalidInput(
                f"{where}: expected the keys {', '.join(names)}, got {problem} {min(found)!r}; correct the keys"
            )
    fields = {name: decode(entries[name], hints[name], f"{where}.{name}") for name in names if name in entries}
    try:
        return kind(**fields)
    except InvalidInput as error:
        raise InvalidInput(f"{where}: {error}") from error


def _decode_scalar(value: object, kind: type, where: str) -> object:
    if kind is float:
        if isinstance(value, str) and value in _NON_FINITE:
            return _NON_FINITE[value]
        number = _expect(value, (int, float), "a number", where)
        try:
            return float(number)
        except OverflowError:
            raise InvalidInput(
                f"{where}: expected a number below 1e308, got a larger one; correct that value"
            ) from None
    if kind is bool and isinstance(value, bool):
        return value
    return _expect(value, kind, {str: "a string", int: "a whole number", bool: "true or false"}[kind], where)


def _expect(value: Any, kind: type | tuple[type, ...], description: str, where: str) -> Any:
    if isinstance(value, kind) and not isinstance(value, bool):
        return value
    shown = json.dumps(value, default=str)
    short = shown if len(shown) <= 40 else f"{shown[:37]}..."
    raise InvalidInput(f"{where}: expected {description}, got {short}; correct that value")


def _refuse_constant(name: str) -> None:
    raise ValueError(f'{name} is no JSON number (write it as a string: "nan", "inf", "-inf")')
