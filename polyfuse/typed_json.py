"""JSON, or TOML, to frozen dataclasses by their annotations, and back.

Keys of fields that have a factory of defaults may be missing: they came later than files that are read.
Enters: what a parser of JSON or TOML gives, and a type built of dataclasses, tuples, dictionaries, literals, str, int,
bool, float, object and `| None`. Leaves: a value of that type; or an InvalidInput that says where the text is wrong.

A float that is not finite has no JSON number: it is written as the string "nan", "inf" or "-inf".
"""

import dataclasses
import hashlib
import json
import math
import types
from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin, get_type_hints

from polyfuse.errors import InvalidInput

LONGEST_TEXT = 4_000
"""Characters of a text or a key in a file: both stand in errors."""
_NON_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
DIGITS = 32


def parse(text: str, where: str) -> object:
    """The JSON value in a text; `where` is what errors call the text."""
    try:
        value: object = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{where}: expected JSON, got: {error}; is it cut short, or another file?") from error
    return value


def headed(text: str, where: str, what: str, head: tuple[str, int], again: str) -> dict[str, object]:
    """The object in a JSON text behind its `head`, "format" and "version"; errors call it `what` and say what helps.

    Errors: InvalidInput for what is no JSON, no object, or another format or version.

    >>> headed('{"format": "f", "version": 1, "a": 2}', "file", "an example", ("f", 1), "write it again")
    {'a': 2}
    """
    document = parse(text, where)
    if not isinstance(document, dict):
        raise InvalidInput(f"{where}: expected an object, got {type(document).__name__}; is it {what}?")
    found = (document.pop("format", None), document.pop("version", None))
    if found != head:
        raise InvalidInput(
            f"{where}: expected format '{head[0]}' version {head[1]}, got {_short(repr(found[0]))} "
            f"{_short(repr(found[1]))}; {again}"
        )
    return document


def headed_text(value: object, head: tuple[str, int]) -> str:
    """A dataclass as a JSON text behind its `head`, in the order of its fields."""
    encoded = encode(value)
    assert isinstance(encoded, dict)
    document = {"format": head[0], "version": head[1], **encoded}
    return json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def decode(value: object, kind: Any, where: str) -> Any:
    """`value` as a `kind`; lists become tuples. Errors: InvalidInput naming the place, such as "rows[2].tile"."""
    if kind is object:
        return value
    if dataclasses.is_dataclass(kind):
        return _decode_record(_expect(value, dict, "an object", where), kind, where)
    if isinstance(kind, types.UnionType):
        (other,) = (option for option in get_args(kind) if option is not types.NoneType)
        return None if value is None else decode(value, other, where)
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise InvalidInput(
                f"{where}: expected one of {', '.join(map(repr, get_args(kind)))}, got {_short(repr(value))}"
            )
        return value
    if get_origin(kind) is tuple:
        items = _expect(value, list, "a list", where)
        return tuple(decode(item, get_args(kind)[0], f"{where}[{index}]") for index, item in enumerate(items))
    if get_origin(kind) is dict:
        entries = _expect(value, dict, "an object", where)
        if (longest := max(map(len, entries), default=0)) > LONGEST_TEXT:
            raise InvalidInput(f"{where}: expected keys of at most {LONGEST_TEXT:,} characters, got {longest:,}")
        return {name: decode(item, get_args(kind)[1], f"{where}.{_short(name)}") for name, item in entries.items()}
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


def digest_of(*values: object) -> str:
    """A digest of values that `encode` writes, by what they are: the order of keys does not matter.

    >>> digest_of({"a": 1, "b": 2.0}) == digest_of({"b": 2.0, "a": 1}) != digest_of({"a": 1, "b": 2})
    True
    """
    text = json.dumps([encode(value) for value in values], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


def check_measure(where: str, name: str, value: float) -> None:
    """Refuse what no count, size or cost can be.

    Errors: InvalidInput for numbers below 0 and those that are not finite.
    """
    if not 0 <= value < math.inf:
        raise InvalidInput(f"{where}: expected {name} of 0 or more and finite, got {value}; correct it")


def _decode_record(entries: dict[str, object], kind: Any, where: str) -> Any:
    hints = get_type_hints(kind)
    names = [field.name for field in dataclasses.fields(kind)]
    later = {field.name for field in dataclasses.fields(kind) if field.default_factory is not dataclasses.MISSING}
    for problem, found in (("an unknown", set(entries) - set(names)), ("no", set(names) - set(entries) - later)):
        if found:
            raise InvalidInput(
                f"{where}: expected the keys {', '.join(names)}, got {problem} {_short(repr(min(found)))}; "
                "correct the keys"
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
    if isinstance(value, str) and len(value) > LONGEST_TEXT:
        raise InvalidInput(
            f"{where}: expected at most {LONGEST_TEXT:,} characters, got {len(value):,}; correct that value"
        )
    return _expect(value, kind, {str: "a string", int: "a whole number", bool: "true or false"}[kind], where)


def _expect(value: Any, kind: type | tuple[type, ...], description: str, where: str) -> Any:
    if isinstance(value, kind) and not isinstance(value, bool):
        return value
    raise InvalidInput(f"{where}: expected {description}, got {_shown(value)}; correct that value")


def _shown(value: object) -> str:
    """A value of the file in a message, as JSON."""
    return _short(json.dumps(value, default=str))


def _short(text: str) -> str:
    """A text in a message, in one line of at most 40 characters."""
    plain = text if text.isprintable() else repr(text)
    return plain if len(plain) <= 40 else f"{plain[:37]}..."


def _refuse_constant(name: str) -> None:
    raise ValueError(f'{name} is no JSON number (write it as a string: "nan", "inf", "-inf")')
