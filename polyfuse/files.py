"""Files of the user: read as text, or written where the user wants a result.

Enters: a path, and bytes to write. Leaves: text; the whole file, or the one that was there before.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from polyfuse.errors import InvalidInput


def read_text(path: Path, where: str, kind: str, *, missing: str = "", advice: str = "check the path") -> str:
    """The text of a file of some kind; errors call it `where`, and say `missing` where there is none.

    Errors: InvalidInput when it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        if missing and isinstance(error, FileNotFoundError):
            raise InvalidInput(f"{where}: {missing}") from None
        reason = (error.strerror if isinstance(error, OSError) else None) or "bytes that are no UTF-8"
        raise InvalidInput(f"{where}: expected a file of {kind}, got: {reason}; {advice}") from error


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file, or replace it, at once; a link is followed.

    Errors: InvalidInput when the folder is missing or cannot be written, and when the path is no ordinary file.
    """
    target = _target(path)
    with _beside(path, target) as part:
        part.write_bytes(data)
        os.replace(part, target)


def check_writable(path: Path) -> None:
    """Find out, before the work, what `write_atomically` would refuse after it; nothing is left behind.

    Errors: InvalidInput as `write_atomically` does.
    """
    with _beside(path, _target(path)) as part:
        part.write_bytes(b"")


def make_folder(folder: Path) -> None:
    """Make a folder that files can be written into, and those above it. Errors: InvalidInput when that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInput(
            f"output '{folder}': expected a folder that can be made, got: {error.strerror}; name another path"
        ) from error
    check_writable(folder / "file")


def _target(path: Path) -> Path:
    if path.exists() and not path.is_file():
        raise InvalidInput(f"output '{path}': expected a file, got a folder or a device; name a file")
    return path.resolve()


@contextmanager
def _beside(path: Path, target: Path) -> Iterator[Path]:
    """A path for a part of the target, in a folder of its own beside it."""
    try:
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".polyfuse-", ignore_cleanup_errors=True) as scratch:
            yield Path(scratch) / target.name
    except OSError as error:
        raise InvalidInput(
            f"output '{path}': expected a folder that can be written, got: {error.strerror}; "
            "make the folder, or name another path"
        ) from error
