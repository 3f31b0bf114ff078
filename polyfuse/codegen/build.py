"""C text to a shared library or a program, through the build cache.

Enters: generated C, or a C file that a user edited. Leaves: `Built` (to `load` with ctypes) or `Executable` (to run).
"""

import ctypes
import errno
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event

from polyfuse.choices import DEFAULT_FLAGS
from polyfuse.codegen.cache import (
    VARIABLE,
    CacheEntry,
    building,
    cache_folder,
    entry_of,
    is_complete,
    store_product,
    store_source,
    storing,
    unusable,
)
from polyfuse.codegen.compiler import Compiler, Finished, Toolchain, find_compiler, first_error, run
from polyfuse.doors import public
from polyfuse.errors import BuildError, InvalidInput
from polyfuse.files import read_text
from polyfuse.machines.host import usable_cores

__all__ = [
    "DEFAULT_FLAGS",
    "OPENMP",
    "SANITIZE",
    "WARNINGS",
    "Built",
    "Compiler",
    "Executable",
    "Options",
    "compile_file",
    "compile_many",
    "compile_program",
    "compile_shared",
    "find_compiler",
    "load",
]

COMPILE_SECONDS = 300.0

_LIBRARY_FLAGS = (
    *("-fPIC", "-shared", "-fno-semantic-interposition"),
    *(("-Wl,-z,defs",) if sys.platform == "linux" else ()),
)
OPENMP = ("-fopenmp",)
"""For C with parallel loops."""
WARNINGS = ("-Wall", "-Wextra", "-Werror")
"""Every warning is an error."""
SANITIZE = ("-g", "-fno-omit-frame-pointer", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
"""For programs: the address and undefined-behaviour sanitizers."""
_LIBRARIES = ("-lm",)
_STORAGE_ERRORS = (
    *(os.strerror(code) for code in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)),
    "File size limit exceeded",
)


@public
@dataclass(frozen=True)
class Options:
    """How C is compiled.

    compiler: without one, `find_compiler()`. flags: the optimising ones. cache: the folder of built libraries, without
    one $POLYFUSE_CACHE or the user's cache folder. seconds: how long one compilation may take.
    """

    compiler: Compiler | None = None
    flags: Sequence[str] = DEFAULT_FLAGS
    cache: Path | None = None
    seconds: float = COMPILE_SECONDS

    @staticmethod
    def of(toolchain: Toolchain | None) -> "Options":
        """Those of a toolchain; the usual ones for None."""
        return Options() if toolchain is None else Options(toolchain.compiler, toolchain.flags)

    def with_flags(self, *more: str) -> "Options":
        """The same with more flags, such as OPENMP, WARNINGS or SANITIZE."""
        return replace(self, flags=(*flags_of(self.flags), *more))

    def for_threads(self, threads: int) -> "Options":
        """The same, with parallel loops where more than one thread runs them."""
        return self.with_flags(*OPENMP) if threads > 1 else self


@dataclass(frozen=True)
class Built:
    """A shared library in the cache, the C it was made of, and the command that makes the one from the other."""

    library: Path
    source: Path
    command: tuple[str, ...]


@dataclass(frozen=True)
class Executable:
    """A program in the cache, the C it was made of, and the command that makes the one from the other."""

    executable: Path
    source: Path
    command: tuple[str, ...]


def compile_shared(source: str, options: Options | None = None) -> Built:
    """The library of this C: found in the cache, or built there.

    The flags that make a library are added. The C has to be self-contained but for system headers. A symbol that
    nothing defines is an error here, not when it is called.

    Raises BuildError: no compiler, C it does not accept, too long a compilation, a folder that cannot be written.
    """
    return _library(_job(source, "generated C", options))


def compile_file(path: Path, options: Options | None = None) -> Built:
    """`compile_shared` of a C file that a user keeps, say a copy of `Built.source` edited by hand.

    The file is read again at each call and is not changed. Errors name its lines. Raises InvalidInput when it cannot
    be read, else as `compile_shared`.
    """
    source = read_text(path, f"C file '{path}'", "C")
    return _library(_job(source, f"C file '{path}'", options))


def compile_program(source: str, options: Options | None = None) -> Executable:
    """The executable of this C, which holds a `main`; otherwise as `compile_shared`.

    With SANITIZE among its flags, the program exits with a code other than 0 at the first fault; a sanitized library
    could not be loaded into a plain python.
    """
    job = _job(source, "generated C", options)
    entry = _build(job, (), ".out", None)
    return Executable(entry.product, entry.source, _command(job, (), entry.product, entry.source))


def compile_many(
    sources: Sequence[str], options: Options | None = None, *, jobs: int | None = None
) -> tuple[Built, ...]:
    """`compile_shared` of each source, in their order, `jobs` compilers at a time (default: one per usable core).

    The first error in that order, or an interrupt, stops the others.
    """
    count = usable_cores() if jobs is None else jobs
    if count < 1:
        raise InvalidInput(f"jobs: expected at least 1, got {count}; give how many compilers may run at once")
    called = (f"generated C {number} of {len(sources)}" for number in range(1, len(sources) + 1))
    work = [_job(source, label, options) for source, label in zip(sources, called, strict=True)]
    stop = Event()
    with ThreadPoolExecutor(count, thread_name_prefix="compile") as pool:
        futures = [pool.submit(_library, job, stop) for job in work]
        try:
            return tuple(future.result() for future in futures)
        except BaseException:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def load(built: Built) -> ctypes.CDLL:
    """The library as a ctypes handle; the caller sets `argtypes`. Raises BuildError when it cannot be loaded."""
    try:
        return ctypes.CDLL(str(built.library))
    except OSError as error:
        raise BuildError(
            f"library '{built.library}': expected to load it, got '{error}'; delete the file and build it again, "
            f"or, if its folder forbids execution, set {VARIABLE} to another"
        ) from error


def flags_of(flags: Sequence[str]) -> tuple[str, ...]:
    """`flags` as a tuple; raises InvalidInput for one string, which would be taken apart into letters."""
    if isinstance(flags, str):
        raise InvalidInput(f"flags: expected a sequence of options, got the string '{flags}'; split it: ('-O2', '-g')")
    return tuple(flags)


@dataclass(frozen=True)
class _Job:
    """One C text, which errors call `label`, and how it is compiled."""

    source: str
    label: str
    compiler: Compiler
    flags: tuple[str, ...]
    folder: Path
    seconds: float


def _job(source: str, label: str, options: Options | None) -> _Job:
    chosen = options or Options()
    compiler, folder = chosen.compiler or find_compiler(), cache_folder(chosen.cache)
    return _Job(source, label, compiler, flags_of(chosen.flags), folder, chosen.seconds)


def _library(job: _Job, stop: Event | None = None) -> Built:
    entry = _build(job, _LIBRARY_FLAGS, ".so", stop)
    return Built(entry.product, entry.source, _command(job, _LIBRARY_FLAGS, entry.product, entry.source))


def _command(job: _Job, kind_flags: tuple[str, ...], product: Path, source: Path) -> tuple[str, ...]:
    return (str(job.compiler.path), *job.flags, *kind_flags, "-o", str(product), str(source), *_LIBRARIES)


def _build(job: _Job, kind_flags: tuple[str, ...], suffix: str, stop: Event | None) -> CacheEntry:
    """The entry of a job, complete."""
    entry = entry_of(job.source, job.compiler, (*job.flags, *kind_flags), job.folder, suffix)
    with storing(job.folder):
        store_source(entry, job.source)
        if is_complete(entry):
            return entry
        with building(job.folder) as scratch:
            product = scratch / entry.product.name
            command = _command(job, kind_flags, product, entry.source)
            finished = run(command, seconds=job.seconds, environment={"TMPDIR": str(scratch)}, stop=stop)
            if finished.code != 0:
                raise _compile_error(job, entry, finished)
            store_product(entry, product)
    return entry


def _compile_error(job: _Job, entry: CacheEntry, finished: Finished) -> BuildError:
    storage = next((reason for reason in _STORAGE_ERRORS if reason in finished.errors), None)
    if storage is not None:
        return unusable(job.folder, storage)
    line, text = first_error(finished.errors)
    where = f"{job.label}, line {line}" if line is not None else job.label
    return BuildError(
        f"{where}: expected C that {job.compiler.path.name} accepts, it says: {text}; "
        f"correct a copy of '{entry.source}' and build that with compile_file"
    )
