"""TOML files of records: read with their format checked, written as people would, their numbers checked.

Enters: the text of a file, or frozen dataclasses. Leaves: a record, or lines of text; or an InvalidInput that names the
place. Used by the descriptions of hosts and of accelerators.
"""

import dataclasses
import json
import math
import re
import tomllib
from collections.abc import Sequence
from typing import Any, TypeVar

from polyfuse.errors import InvalidInput
from polyfuse.typed_json import decode

Record = TypeVar("Record")
BARE = re.compile(r"[A-Za-z0-9_-]+")
"""Keys that need no quotes."""


def record_of(
    text: str, kind: type[Record], *, head: tuple[str, int], where: str, again: str, optional: dict[str, object]
) -> Record:
    """The record in a TOML text whose "format" and "version" are `head`; `optional` keys have a value without the file.

    Errors: InvalidInput when it is no TOML, has unknown or missing keys, wrong types or impossible numbers.
    """
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{where}: expected TOML, got: {error}; correct that line") from error
    found = (document.pop("format", None), document.pop("version", None))
    if found != head:
        raise InvalidInput(
            f"{where}: expected format '{head[0]}' version {head[1]}, got {_shown(found[0])} version "
            f"{_shown(found[1])}; {again}"
        )
    record: Record = decode({**optional, **document}, kind, where)
    return record


def document(comment: str, head: tuple[str, int], record: Any) -> str:
    """The text of a file: a comment, "format" and "version", the values of a record in its order, then its tables.

    A record or a dictionary in it is a table, a dictionary of dictionaries a table of tables, and of several records
    each is one of an array of tables. What is None is left out.
    """
    lines, tables = [f"# {comment}", "", f"format = {toml(head[0])}", f"version = {head[1]}"], []
    for name, value in items(record).items():
        if dataclasses.is_dataclass(value) or isinstance(value, dict):
            tables += table(name, value)
        elif isinstance(value, tuple) and all(map(dataclasses.is_dataclass, value)) and value:
            tables += [line for each in value for line in ("", f"[[{name}]]", *entries(each))]
        elif value is not None:
            lines.append(f"{name} = {toml(value)}")
    return "".join(f"{line}\n" for line in (*lines, *tables))


def table(name: str, value: Any) -> list[str]:
    """The lines of a table, or of each of its tables."""
    held = items(value)
    if held and all(isinstance(each, dict) for each in held.values()):
        return [line for key, each in held.items() for line in table(f"{name}.{key}", each)]
    return ["", f"[{name}]", *entries(value)]


def entries(record: Any) -> list[str]:
    """`key = value` for each field of a record, or each entry of a dictionary."""
    return [f"{key if BARE.fullmatch(key) else toml(key)} = {toml(value)}" for key, value in items(record).items()]


def items(record: Any) -> dict[str, Any]:
    """The fields of a record, or a dictionary as it is."""
    return record if isinstance(record, dict) else vars(record)


def toml(value: object) -> str:
    """A value as TOML; a record as an inline table. Texts are printable, so JSON's strings are TOML's."""
    if dataclasses.is_dataclass(value):
        return f"{{ {', '.join(entries(value))} }}"
    if isinstance(value, tuple):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def check_text(what: str, key: str, text: str) -> None:
    """Refuse an empty text and one that does not print."""
    if not text or not text.isprintable():
        raise InvalidInput(f"{what}: expected a {key} of printable characters, got {text!r}; correct it")


def check_positive(what: str, record: Any, zero: Sequence[str] = ()) -> None:
    """Every number of a record is above zero and finite; those named in `zero` may be 0."""
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        if not 0 <= value < math.inf or (value == 0 and field.name not in zero):
            least = "of 0 or more" if field.name in zero else "above 0"
            raise InvalidInput(f"{what}: expected {field.name} {least} and finite, got {value}; correct it")


def check_distinct(what: str, values: list[Any]) -> None:
    """Refuse an empty list and one with a value twice."""
    if not values:
        raise InvalidInput(f"machine: expected {what}, got none; give at least one")
    twice = [value for value in values if values.count(value) > 1]
    if twice:
        raise InvalidInput(f"machine: expected {what} to differ, got {twice[0]} twice; drop one")


def _shown(value: object) -> str:
    return json.dumps(value, default=str)[:40]
