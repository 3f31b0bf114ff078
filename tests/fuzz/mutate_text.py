"""Mutated plan, machine and JSCoP files: JSON and TOML with changes of numbers, types, keys and nesting, and of text.

a whole document ──mutated_json() or mutated_toml()──> text
"""

import json
import random
import re
import tomllib
from collections.abc import Mapping
from typing import Any

from polyfuse.machines.toml import toml

NASTY: tuple[Any, ...] = (
    0, 1, -1, 2, 0.5, -0.0, 1e308, 5e-324, 10**30, -(10**30), 2**31, 2**63, 2**64, 10**400, True, False, None, "", "x",
    "nan", "inf", "-inf", "1e999", "a\nb", "\u202e", "\x00", "../../x", "a" * 2000, [], {}, [[]], [None], {"a": {}},
    [1] * 50, "on", "off", "local", "recompute", "streamed", "n0", "n1_out", "x_out",
)  # fmt: skip
RAW = ("NaN", "Infinity", "-Infinity", "1e999", "-1e999", "9" * 400, "9" * 5000, '"\\ud800"', "0x10", "+1", "01")
"""Numbers and texts as JSON has them, or does not."""
ISL = (
    "i0", "n", "[", "]", "{", "}", ":", ";", ",", "->", "and", "or", "exists", "mod", "floor", "(", ")", "/", "*", "-",
    "+", "0", "1", "2147483648", "9" * 40, "<=", "=", "!=", "S[]", "i0*i0", "max(i0, 3)", "[i0/2]", "\u00e9", " " * 9,
)  # fmt: skip


def _places(document: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values inside a document."""
    pairs = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    found: list[tuple[Any, ...]] = []
    for key, value in pairs:
        found += [(*path, key), *_places(value, (*path, key))]
    return found


def _at(document: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        document = document[key]
    return document


def _changed_text(text: str, chance: random.Random) -> str:
    """A text with a piece changed: a number, a name, a bracket."""
    pieces = re.findall(r"\w+|\s+|[^\w\s]", text) or [""]
    at = chance.randrange(len(pieces))
    match chance.randrange(5):
        case 0:
            del pieces[at]
        case 1:
            pieces.insert(at, chance.choice(ISL))
        case 2:
            pieces[at] = chance.choice(ISL)
        case 3:
            pieces[at] = pieces[chance.randrange(len(pieces))]
        case _:
            pieces[at:at] = pieces[at : at + chance.randrange(1, 12)] * chance.choice((1, 1, 3, 200))
    return "".join(pieces)


def _number(value: float, chance: random.Random) -> object:
    others = (value + 1, value - 1, value * 2, -value, value * 10**12, value / 3, int(value), float(value))
    return chance.choice(others)


def _change(document: Any, chance: random.Random) -> None:
    """Change one value, or the keys or items around it."""
    paths = _places(document)
    numbers = [path for path in paths if isinstance(_at(document, path), int | float)]
    path = chance.choice(numbers if numbers and chance.random() < 0.4 else paths)
    parent = document
    for key in path[:-1]:
        parent = parent[key]
    key, value = path[-1], parent[path[-1]]
    choice = chance.randrange(10)
    if isinstance(value, int | float) and not isinstance(value, bool) and choice < 6:
        parent[key] = _number(value, chance)
    elif choice == 0:
        del parent[key]
    elif choice == 1 and isinstance(parent, dict):
        parent[chance.choice(("", "x", "format", "name", f"{key}_", "\u00e9"))] = value
    elif choice == 1:
        parent.insert(key, value)
    elif choice == 2 and isinstance(parent, dict):
        parent[chance.choice(("x", "a b", str(key).upper()))] = parent.pop(key)
    elif choice == 2:
        parent[:] = parent[::-1]
    elif choice == 3 and isinstance(value, list) and value:
        parent[key] = value * chance.choice((2, 3, 300))
    elif choice in (4, 5, 6, 7) and isinstance(value, str):
        parent[key] = _changed_text(value, chance)
    else:
        parent[key] = chance.choice(NASTY)


def _rough(text: str, chance: random.Random) -> str:
    """A text cut, doubled, or with a value put in as no encoder writes it."""
    at = chance.randrange(len(text))
    match chance.randrange(7):
        case 0:
            return text[:at]
        case 1:
            return (
                text[:at]
                + chance.choice(("[", "{", '{"a":', "a=[", "[[")) * chance.choice((1, 50, 100_000))
                + text[at:]
            )
        case 2:
            return text[:at] + chr(chance.choice((0, 10, 34, 92, 123, 125, 0xFEFF, 0x202E))) + text[at:]
        case 3:
            return text + text
        case 4:
            numbers = [each.span() for each in re.finditer(r"-?\d+(\.\d+)?", text)]
            first, last = chance.choice(numbers)
            return text[:first] + chance.choice(RAW) + text[last:]
        case 5:
            lines = text.split("\n")
            lines.insert(chance.randrange(len(lines)), chance.choice(lines))
            return "\n".join(lines)
        case _:
            return text[:at] + text[at + chance.randrange(1, 40) :]


def _encoded(text: str, chance: random.Random) -> bytes:
    data = text.encode("utf-8", "surrogatepass")
    if chance.random() < 0.05:
        at = chance.randrange(len(data) + 1)
        data = data[:at] + chance.randbytes(3) + data[at:]
    return data


def _mutated(document: Any, chance: random.Random) -> Any:
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        try:
            _change(document, chance)
        except (OverflowError, ValueError, IndexError):
            continue
    return document


def mutated_json(text: str, chance: random.Random) -> bytes:
    """A JSON file, changed."""
    if chance.random() < 0.8:
        text = json.dumps(_mutated(json.loads(text), chance), indent=1)
    return _encoded(_rough(text, chance) if chance.random() < 0.25 else text, chance)


def mutated_toml(text: str, chance: random.Random) -> bytes:
    """A TOML file, changed."""
    if chance.random() < 0.8:
        text = _toml(_mutated(tomllib.loads(text), chance))
    return _encoded(_rough(text, chance) if chance.random() < 0.25 else text, chance)


def _toml(document: Mapping[str, Any]) -> str:
    return "".join(f"{json.dumps(key)} = {_inline(value)}\n" for key, value in document.items())


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_inline(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_inline, value)) + "]"
    return json.dumps(value) if isinstance(value, str) or value is None else toml(value)
