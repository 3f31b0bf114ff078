"""JSCoP files, in which Polly exports and imports SCoPs: a file that is not trusted enters, a `Scop` leaves; and back.

    { "name": ..., "context": "[n] -> {  : n >= 1 }",
      "arrays": [ { "name": "MemRef_A", "sizes": ["*", "18"], "type": "float" } ],
      "statements": [ { "name": "S", "domain": "{ S[i] }", "schedule": "{ S[i] -> [i] }",
                        "accesses": [ { "kind": "read", "relation": "{ S[i] -> MemRef_A[0, i] }" } ] } ] }

Sizes, nesting and lengths are bounded before anything is parsed, and isl's work while it parses.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path

import islpy as isl

from polyfuse.errors import InvalidInput
from polyfuse.files import write_atomically
from polyfuse.network.scop.scop import Kind, Scop, ScopAccess, ScopArray, ScopStatement
from polyfuse.sets.limits import operation_limit
from polyfuse.sets.reading import Read, read

MOST_BYTES = 16 << 20
MOST_LEVELS = 8
MOST_CHARACTERS = 50_000
MOST_STATEMENTS = 2_000
MOST_ACCESSES = 256
MOST_AXES = 32

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,255}")
TYPE = re.compile(r"[A-Za-z][A-Za-z0-9_*]{0,63}")
SIZE = re.compile(r"[1-9][0-9]{0,17}")
STRINGS = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)


def read_jscop(path: str | Path) -> Scop:
    """The SCoP in a JSCoP file.

    Errors: InvalidInput, in one line, for a file that is missing, too large or nested too deep, for JSON of another
    form, for text that isl cannot read, and for tuples that do not fit together; TooComplex for text that is too much
    work for isl.
    """
    file = Path(path)
    where = f"scop file {str(file)!r}"
    try:
        if not file.is_file():
            raise InvalidInput(f"{where}: no such file; expected a .jscop file that Polly exported")
        with file.open("rb") as stream:
            content = stream.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{where}: cannot be read ({' '.join(str(error).split())})") from None
    if len(content) > MOST_BYTES:
        raise InvalidInput(f"{where}: expected at most {MOST_BYTES:,} bytes; export one function alone")
    try:
        return parse_jscop(content.decode())
    except UnicodeDecodeError:
        raise InvalidInput(f"{where}: expected JSON in UTF-8, got other bytes; export it again") from None
    except InvalidInput as error:
        raise InvalidInput(f"{where}: {error}") from None


def parse_jscop(text: str) -> Scop:
    """The SCoP in the text of a JSCoP file. Errors: as `read_jscop`.

    >>> text = '{"name": "f", "context": "{ : }", "arrays": [{"name": "A", "sizes": ["*"], "type": "float"}], '
    >>> text += '"statements": [{"name": "S", "domain": "{ S[i] : 0 <= i < 4 }", "schedule": "{ S[i] -> [i] }", '
    >>> text += '"accesses": [{"kind": "write", "relation": "{ S[i] -> A[i] }"}]}]}'
    >>> print(parse_jscop(text))
    f: 1 statements, context {  :  }
      float A[*]
    S: { S[i] : 0 <= i <= 3 } at { S[i] -> [i] }
      write { S[i] -> A[i] }
    """
    top = _record(_json(text), "scop", ("name", "context", "arrays", "statements"))
    with operation_limit(what="reading a scop"):
        context = read(isl.Set, _text(top["context"], "context"), "context", "[n] -> { : n >= 1 }")
        if not context.is_params():
            raise InvalidInput(
                f"context: expected conditions on parameters such as [n] -> {{ : n >= 1 }}, got {context}"
            )
        arrays = [_array(value, f"arrays[{k}]") for k, value in enumerate(_list(top["arrays"], "arrays"))]
        found = _list(top["statements"], "statements", MOST_STATEMENTS)
        statements = [_statement(value, f"statements[{k}]") for k, value in enumerate(found)]
        return Scop(_text(top["name"], "name"), context, tuple(arrays), tuple(statements))


def write_jscop(scop: Scop, path: str | Path) -> None:
    """Write a SCoP so that Polly can import it. Errors: InvalidInput for a folder that cannot be written."""
    write_atomically(Path(path), jscop_text(scop).encode())


def jscop_text(scop: Scop) -> str:
    """The text of a JSCoP file, in the form in which Polly writes it."""
    document = {
        "arrays": [_array_entry(array) for array in scop.arrays],
        "context": str(scop.context),
        "name": scop.name,
        "statements": [
            {
                "accesses": [{"kind": access.kind, "relation": str(access.relation)} for access in statement.accesses],
                "domain": str(statement.domain),
                "name": statement.name,
                "schedule": str(statement.schedule),
            }
            for statement in scop.statements
        ],
    }
    return json.dumps(document, indent=3, ensure_ascii=False) + "\n"


def _array_entry(array: ScopArray) -> dict[str, object]:
    sizes = ["*" if size is None else str(size) for size in array.sizes]
    allocation = {} if array.allocation is None else {"allocation": array.allocation}
    return {**allocation, "name": array.name, "sizes": sizes, "type": array.element_type}


def _json(text: str) -> object:
    """The JSON value of a text whose nesting is looked at first."""
    level = 0
    for bracket in re.finditer(r"[\[\]{}]", STRINGS.sub('""', text)):
        level += 1 if bracket[0] in "[{" else -1
        if level > MOST_LEVELS:
            raise InvalidInput(f"expected at most {MOST_LEVELS} levels of JSON; is it a JSCoP file?")
    try:
        value: object = json.loads(text, object_pairs_hook=_distinct)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"expected JSON, got: {' '.join(str(error).split())}; is it cut short?") from None
    return value


def _distinct(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r} twice")
    return found


def _array(value: object, where: str) -> ScopArray:
    entry = _record(value, where, ("name", "sizes", "type"), ("allocation",))
    sizes = tuple(_size(size, f"{where}.sizes[{k}]") for k, size in enumerate(_list(entry["sizes"], f"{where}.sizes")))
    if len(sizes) > MOST_AXES:
        raise InvalidInput(f"{where}.sizes: expected at most {MOST_AXES} axes, got {len(sizes)}")
    allocation = entry.get("allocation")
    if allocation not in (None, "heap", "stack"):
        raise InvalidInput(f"{where}.allocation: expected heap or stack, got {_shown(allocation)}")
    return ScopArray(
        _matching(entry["name"], f"{where}.name", NAME, "a name such as MemRef_A"),
        sizes,
        _matching(entry["type"], f"{where}.type", TYPE, "a type such as float"),
        allocation,
    )


def _size(value: object, where: str) -> int | str | None:
    text = _text(value, where)
    if text == "*":
        return None
    if SIZE.fullmatch(text):
        return int(text)
    return _matching(text, where, NAME, "'*', a whole number such as '18', or a parameter")


def _statement(value: object, where: str) -> ScopStatement:
    entry = _record(value, where, ("name", "domain", "schedule", "accesses"))
    name = _matching(entry["name"], f"{where}.name", NAME, "a name such as Stmt_for_body")
    accesses = _list(entry["accesses"], f"{where}.accesses", MOST_ACCESSES)
    return ScopStatement(
        name,
        _isl(isl.Set, entry, where, "domain", f"{{ {name}[i0] : 0 <= i0 < 16 }}"),
        _isl(isl.Map, entry, where, "schedule", f"{{ {name}[i0] -> [0, i0] }}"),
        tuple(_access(each, f"{where}.accesses[{k}]", name) for k, each in enumerate(accesses)),
    )


def _access(value: object, where: str, statement: str) -> ScopAccess:
    entry = _record(value, where, ("kind", "relation"))
    kinds: dict[object, Kind] = {"read": "read", "write": "write"}
    if not isinstance(entry["kind"], str) or entry["kind"] not in kinds:
        raise InvalidInput(f"{where}.kind: expected read or write, got {_shown(entry['kind'])}")
    relation = _isl(isl.Map, entry, where, "relation", f"{{ {statement}[i0] -> MemRef_A[i0] }}")
    return ScopAccess(kinds[entry["kind"]], relation)


def _isl(kind: type[Read], entry: Mapping[str, object], where: str, key: str, form: str) -> Read:
    """The set or relation of a key."""
    return read(kind, _text(entry[key], f"{where}.{key}"), f"{where}.{key}", form)


def _record(
    value: object, where: str, required: tuple[str, ...], optional: tuple[str, ...] = ()
) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise InvalidInput(f"{where}: expected an object with the keys {', '.join(required)}, got {_shown(value)}")
    if missing := [key for key in required if key not in value]:
        raise InvalidInput(
            f"{where}: expected the keys {', '.join(required)}, {missing[0]!r} is missing; export it again"
        )
    if unknown := [key for key in value if key not in (*required, *optional)]:
        raise InvalidInput(f"{where}: expected the keys {', '.join(required)}, got {_shown(unknown[0])}; take it out")
    return value


def _list(value: object, where: str, most: int = MOST_STATEMENTS) -> list[object]:
    if not isinstance(value, list):
        raise InvalidInput(f"{where}: expected a list, got {_shown(value)}")
    if len(value) > most:
        raise InvalidInput(f"{where}: expected at most {most:,} entries, got {len(value):,}; export one function alone")
    return value


def _text(value: object, where: str) -> str:
    if not isinstance(value, str) or len(value) > MOST_CHARACTERS:
        raise InvalidInput(f"{where}: expected text of at most {MOST_CHARACTERS:,} characters, got {_shown(value)}")
    return value


def _matching(value: object, where: str, pattern: re.Pattern[str], wanted: str) -> str:
    text = _text(value, where)
    if not pattern.fullmatch(text):
        raise InvalidInput(f"{where}: expected {wanted}, got {_shown(text)}")
    return text


def _shown(value: object) -> str:
    """A value of the file in a message, shortened."""
    text = repr(value)[:200]
    return text if len(text) <= 80 else f"{text[:77]}..."
