"""A file of entries, each under a key of its own, that outlives a run: what was measured on this host.

Enters: entries. Leaves: the entries of a file. A file that holds something else is left alone, with an error.
"""

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import platformdirs

from polyfuse.errors import InvalidInput
from polyfuse.files import read_text, write_atomically
from polyfuse.typed_json import decode, encode, headed


class Keyed(Protocol):
    """An entry."""

    @property
    def key(self) -> Any: ...


E = TypeVar("E", bound=Keyed)
ADVICE = "repair it or move it away"


@dataclass(frozen=True)
class EntriesFile(Generic[E]):
    """A kind of file: what messages call it, its format and version, and the dataclass of an entry.

    name, variable   the file in the user's data folder, and the variable that may name another
    chosen           a path that was given; it comes first
    """

    called: str
    head: tuple[str, int]
    entry: type[E]
    name: str
    variable: str
    chosen: Path | None = None

    def at(self, path: Path | None) -> "EntriesFile[E]":
        """The file at a path; the user's where that is None."""
        return replace(self, chosen=path)

    @property
    def path(self) -> Path:
        """Where the file is."""
        named = os.environ.get(self.variable)
        users = Path(named).expanduser() if named else platformdirs.user_data_path("polyfuse") / self.name
        return self.chosen or users

    def read(self) -> tuple[E, ...]:
        """All entries; none where there is no file.

        Errors: InvalidInput for a file that cannot be read or holds something else.
        """
        where = f"{self.called} '{self.path}'"
        try:
            text = read_text(self.path, where, "JSON", advice=ADVICE)
        except InvalidInput as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return ()
            raise
        document = headed(text, where, f"a {self.called}", self.head, ADVICE)
        kind = tuple[self.entry, ...]  # type: ignore[name-defined]
        entries: tuple[E, ...] = decode(document.get("entries"), kind, f"{where}: entries")
        return entries

    def find(self, key: object) -> E | None:
        """The entry under a key. Errors: as `read`."""
        return next((each for each in self.read() if each.key == key), None)

    def add(self, entry: E) -> None:
        """Put an entry into the file, in the place of one under the same key; the others stay.

        Errors: as `read`; InvalidInput where the file cannot be written.
        """
        kept = [each for each in self.read() if each.key != entry.key]
        document = {"format": self.head[0], "version": self.head[1], "entries": encode([*kept, entry])}
        write_atomically(self.path, (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode())
