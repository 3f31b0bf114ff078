"""Put a result where the user wants it.

Enters: a path and the bytes. Leaves: the whole file, or the one that was there before.
"""

import os
import tempfile
from pathlib import Path

from polyfuse.errors import InvalidInput


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file, or replace it, at once; a link is followed.

    Raises InvalidInput when the folder is missing or cannot be written, and when the path is no ordinary file.
    """
    if path.exists() and not path.is_file():
        raise InvalidInput(f"output '{path}': expected a file, got a folder or a device; name a file")
    target = path.resolve()
    try:
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".polyfuse-", ignore_cleanup_errors=True) as scratch:
            part = Path(scratch) / target.name
            part.write_bytes(data)
            os.replace(part, target)
    except OSError as error:
        raise InvalidInput(
            f"output '{path}': expected a folder that can be written, got: {error.strerror}; "
            "make the folder, or name another path"
        ) from error
