"""Files of measurements that are kept for later runs: one JSON object of "format", "version" and a list of "entries".

Enters: a path and what the entries are. Leaves: the entries, checked; or the file, whole or as it was.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polyfuse.errors import InvalidInput
from polyfuse.files import read_text, write_atomically
from polyfuse.typed_json import decode, encode, parse


@dataclass(frozen=True)
class EntriesFile:
    """A kind of file: what messages call it, its format and version, and the dataclass of an entry."""

    called: str
    format: str
    version: int
    entry: type

    def read(self, path: Path) -> tuple[Any, ...]:
        """All entries of a file; none where there is no file.

        Errors: InvalidInput for one that cannot be read or holds something else.
        """
        where = f"{self.called} '{path}'"
        try:
            text = read_text(path, where, "JSON", advice="repair it or move it away")
        except InvalidInput as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return ()
            raise
        document = parse(text, where)
        if not isinstance(document, dict) or (document.get("format"), document.get("version")) != (
            self.format,
            self.version,
        ):
            raise InvalidInput(
                f"{where}: expected format '{self.format}' version {self.version}; repair it or move it away"
            )
        entries: tuple[Any, ...] = decode(document.get("entries"), tuple[self.entry, ...], f"{where}: entries")  # type: ignore[name-defined]
        return entries

    def write(self, path: Path, entries: Sequence[object]) -> None:
        """Replace the file as a whole. Errors: InvalidInput where it cannot be written."""
        document = {"format": self.format, "version": self.version, "entries": encode(list(entries))}
        write_atomically(path, (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode())
