"""The file of a plan, the same for every kind of machine: one JSON object that says what machine it is for.

    fields of a plan ──text_of()──> text ──document_of()──> kind of machine, fields

"format" is "polyfuse-plan", "version" 2, and "machine" an object whose "kind" is "host" or "scratchpad".
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from polyfuse.errors import InvalidInput
from polyfuse.files import read_text
from polyfuse.typed_json import decode, headed

FORMAT = "polyfuse-plan"
VERSION = 2
MachineKind = Literal["host", "scratchpad"]
RUN_BY: Mapping[MachineKind, str] = {
    "host": "a plan for this kind of host, which polyfuse compile, run and verify take with --plan",
    "scratchpad": "a plan for a scratchpad machine, which polyfuse compile, run, verify and plan take with --plan",
}
"""The use of a plan, in errors where another kind was expected."""


@dataclass(frozen=True)
class Origin:
    """The file, or the name of a kernel, that a planned network was read from, with the options it was read with.

    shapes, values   those of the inputs of a model, by name; values as text, such as "480,640"
    first, last      the ends of the part that was planned, null where it was not cut there
    """

    path: str
    parameters: dict[str, str]
    random_weights: int | None
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)
    first: str | None = field(default_factory=lambda: None)
    last: str | None = field(default_factory=lambda: None)


def text_of(kind: MachineKind, fields: Mapping[str, object]) -> str:
    """The text of a file; the machine of the fields gets the kind."""
    machine = fields["machine"]
    assert isinstance(machine, Mapping)
    head = {"format": FORMAT, "version": VERSION, "network": fields["network"], "machine": {"kind": kind, **machine}}
    return json.dumps({**head, **{key: value for key, value in fields.items() if key not in head}}, indent=1) + "\n"


def document_of(text: str, where: str) -> tuple[MachineKind, dict[str, object]]:
    """The kind of machine that a plan is for, and its fields, whose machine is left without the kind.

    Errors: InvalidInput for what is no JSON, another format or version, and a machine of no known kind.
    """
    document = headed(text, where, "a plan", (FORMAT, VERSION), "plan again")
    machine = document.get("machine")
    if not isinstance(machine, dict) or "kind" not in machine:
        raise InvalidInput(
            f"{where}.machine: expected an object with a kind, one of {', '.join(get_args(MachineKind))}; plan again"
        )
    kind: MachineKind = decode(machine["kind"], MachineKind, f"{where}.machine.kind")
    return kind, {**document, "machine": {key: value for key, value in machine.items() if key != "kind"}}


def fields_for(kind: MachineKind, text: str, where: str) -> dict[str, object]:
    """The fields of a plan for machines of a kind.

    Errors: InvalidInput, as `document_of`, and for a plan for other machines.
    """
    found, document = document_of(text, where)
    if found != kind:
        raise InvalidInput(f"{where}: expected a plan for machines of kind {kind!r}, got {RUN_BY[found]}")
    return document


def kind_in(path: Path) -> MachineKind | None:
    """The kind of machine that a file is a plan for; None for one that is no plan, or cannot be read."""
    try:
        return document_of(read_text(path, f"plan '{path}'", "JSON"), str(path))[0]
    except InvalidInput:
        return None
