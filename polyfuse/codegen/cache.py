"""The build cache: a folder that any number of processes fill and read at once.

Enters: C text, a compiler and its flags. Leaves: an `CacheEntry`, the files that hold the C and what became of it.

An entry is `KEY.c`, the product `KEY.so` (or `KEY.out`) and the product's digest, readable by `sha256sum -c`. Every
file arrives by a rename within the folder, so none is ever seen half written; the digest arrives last, so a product
that was cut short, replaced or left without its digest does not match and is built again. Two processes that build one
kernel at once both rename a good product into place, and the later one stays.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from polyfuse.codegen.compiler import Compiler, target_macros
from polyfuse.errors import BuildError

VARIABLE = "POLYFUSE_CACHE"
_LAYOUT = 1
_KEY_DIGITS = 32
_READ_ONLY = 0o444


@dataclass(frozen=True)
class CacheEntry:
    """The files of one kernel; `suffix` tells a library from a program."""

    folder: Path
    key: str
    suffix: str

    @property
    def source(self) -> Path:
        return self.folder / f"{self.key}.c"

    @property
    def product(self) -> Path:
        return self.folder / f"{self.key}{self.suffix}"

    @property
    def digest(self) -> Path:
        return self.folder / f"{self.key}{self.suffix}.sha256"


def cache_folder(cache: Path | None = None) -> Path:
    """The folder to build in: `cache`, else $POLYFUSE_CACHE, else the user's cache folder; made if missing.

    Raises BuildError when it cannot be a folder.
    """
    named = cache if cache is not None else os.environ.get(VARIABLE) or None
    folder = Path(named).expanduser().absolute() if named is not None else platformdirs.user_cache_path("polyfuse")
    with storing(folder):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            raise unusable(folder, "a file") from None
    return folder


def entry_of(source: str, compiler: Compiler, flags: Sequence[str], folder: Path, suffix: str) -> CacheEntry:
    """The entry of this C under this compiler, these flags, and the CPU they mean where they say `native`."""
    identity = [
        _LAYOUT,
        source,
        os.path.realpath(compiler.path),
        compiler.version,
        list(flags),
        target_macros(compiler, tuple(flags)),
    ]
    return CacheEntry(folder, hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:_KEY_DIGITS], suffix)


def is_complete(entry: CacheEntry) -> bool:
    """Whether the product is there and is byte for byte what the compiler wrote."""
    try:
        return entry.digest.read_bytes() == _digest_line(entry)
    except FileNotFoundError:
        return False


def store_source(entry: CacheEntry, source: str) -> None:
    """Put the C in its place, read-only: whoever edits it should edit a copy, since its name is its content."""
    data = source.encode()
    if entry.source.exists() and entry.source.read_bytes() == data:
        return
    with building(entry.folder) as scratch:
        _rename_into(scratch / "source", entry.source, data)


def store_product(entry: CacheEntry, built: Path) -> None:
    """Move a finished product, built in the same folder, into its place; its digest follows."""
    os.replace(built, entry.product)
    _rename_into(built.with_name("digest"), entry.digest, _digest_line(entry))


@contextmanager
def building(folder: Path) -> Iterator[Path]:
    """A scratch folder inside `folder`, so that a rename out of it is atomic; gone afterwards."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=".building-", ignore_cleanup_errors=True) as scratch:
        yield Path(scratch)


@contextmanager
def storing(folder: Path) -> Iterator[None]:
    """Errors of the file system inside the block are the folder's: BuildError in one line."""
    try:
        yield
    except OSError as error:
        raise unusable(folder, error.strerror or str(error)) from error


def unusable(folder: Path, reason: str) -> BuildError:
    """The error for a folder in which nothing can be stored."""
    return BuildError(
        f"build cache '{folder}': expected a folder with room to write in, got: {reason}; "
        f"repair it, or set {VARIABLE} to another folder"
    )


def _digest_line(entry: CacheEntry) -> bytes:
    return f"{hashlib.sha256(entry.product.read_bytes()).hexdigest()}  {entry.product.name}\n".encode()


def _rename_into(scratch: Path, target: Path, data: bytes) -> None:
    scratch.write_bytes(data)
    scratch.chmod(_READ_ONLY)
    os.replace(scratch, target)
