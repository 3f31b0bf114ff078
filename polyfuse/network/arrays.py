"""Arrays in files. A path enters; an array of float32 or of whole numbers leaves."""

from pathlib import Path

import numpy as np

from polyfuse.errors import InvalidInput
from polyfuse.network.dtypes import Values


def read_array(path: Path) -> Values:
    """The array in a .npy file, floats as float32, whole numbers as they are; nothing in the file is executed.

    Errors: InvalidInput for a file that cannot be read, and what is no array of real numbers.
    """
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise InvalidInput(f"array '{path}': expected a .npy file, got: {reason}; save one with numpy.save") from error
    if not isinstance(found, np.ndarray) or found.dtype.kind not in "fiub":
        got = found.dtype if isinstance(found, np.ndarray) else "several arrays"
        raise InvalidInput(f"array '{path}': expected one array of real numbers, got {got}; save one with numpy.save")
    return np.asarray(found, dtype=np.float32 if found.dtype.kind == "f" else found.dtype)
