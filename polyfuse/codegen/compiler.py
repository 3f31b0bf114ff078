"""Find a C compiler and run it; no shell, always a time limit.

Enters: the name of a compiler, or nothing. Leaves: a `Compiler`, and of each run its exit code and text.
"""

import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Event
from typing import Literal

from polyfuse.errors import BuildError, InvalidInput

CANDIDATES = ("gcc", "clang", "cc")
PROBE_SECONDS = 30.0
_POLL_SECONDS = 0.1
_LIST_MACROS = ("-dM", "-E", "-x", "c", "-", "-w")
_OF_THE_BUILD = re.compile(r"-(c|S|E|x.*|o.*|M.*|fsyntax-only|shared|static|pie|v|###)$|--(version|help|output).*$")
_ERROR_IN_C = re.compile(r"^.*?:(?P<line>\d+):(?:\d+:)? (?:fatal )?error: (?P<text>.*)$", re.MULTILINE)
_ERROR_ELSEWHERE = re.compile(r"(?P<text>undefined reference .*)$|^\S+: (?:fatal )?error: (?P<other>.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Compiler:
    """A C compiler that answers to gcc's options.

    `path` is the program as found, links not followed (a wrapper such as ccache looks at its own name);
    `version` is the first line of `--version`.
    """

    path: Path
    family: Literal["gcc", "clang"]
    version: str


@dataclass(frozen=True)
class Toolchain:
    """A compiler and its optimising flags: what turns the C of a target into code."""

    compiler: Compiler
    flags: tuple[str, ...]

    @property
    def described(self) -> tuple[str, ...]:
        """The compiler's name and version, and the flags."""
        return (f"{self.compiler.path.name}: {self.compiler.version}", *self.flags)

    @property
    def written_for(self) -> str:
        """The same as a line of a comment in C, which is right with other compilers and flags, too."""
        line = f"Written for {self.described[0]}, {shlex.join(self.flags) or 'without flags'}"
        return f"{line}; right with any C11 compiler.".replace("*/", "* /").replace("\\", "/")


@dataclass(frozen=True)
class Finished:
    """A run of the compiler that ended by itself: exit code and both output streams."""

    code: int
    output: str
    errors: str


def find_compiler(name: str | None = None) -> Compiler:
    """The compiler called `name`, else the one in $CC, else the first of gcc, clang and cc in PATH.

    Raises BuildError when there is none, or when it is neither gcc nor clang.
    """
    wanted, origin = (name, "compiler") if name is not None else (os.environ.get("CC") or None, "$CC")
    if wanted is not None:
        found = shutil.which(wanted)
        if found is None:
            raise BuildError(
                f"{origin} '{wanted}': expected the name or path of one program, without options, found no such "
                f"program; name gcc or clang{', or unset CC' if origin == '$CC' else ''}"
            )
        return _probe(Path(found).absolute())
    for candidate in CANDIDATES:
        found = shutil.which(candidate)
        if found is not None:
            return _probe(Path(found).absolute())
    raise BuildError(
        f"C compiler: expected one of {', '.join(CANDIDATES)} in PATH, found none; "
        "install gcc or clang (Debian: apt install gcc; macOS: xcode-select --install), or set CC to the path of one"
    )


def flags_in(text: str) -> tuple[str, ...]:
    """The options in a text, as a shell takes it apart; each is one word.

    Errors: InvalidInput for what is no option, and for options that say what is made, or where.

    >>> flags_in("-O2 -march=x86-64-v3")
    ('-O2', '-march=x86-64-v3')
    """
    try:
        flags = tuple(shlex.split(text))
    except ValueError as error:
        raise InvalidInput(f"flags {text!r}: expected options that a shell could read, got {error}") from None
    for flag in flags:
        if not re.fullmatch(r"-[A-Za-z][^\n\r]*|--[^\n\r]+", flag) or _OF_THE_BUILD.match(flag):
            raise InvalidInput(
                f"flags {text!r}: expected options such as -O2 -march=native, each one word, got {flag!r}; leave it out"
            )
    return flags


@lru_cache(maxsize=64)
def target_macros(compiler: Compiler, flags: tuple[str, ...]) -> str:
    """The macros that the compiler predefines under `flags`: what `-march=native` means on this CPU.

    They name the microarchitecture and every extension of the instruction set, so two CPUs with equal macros can run
    each other's code. Raises BuildError when the compiler refuses the flags.
    """
    finished = run([str(compiler.path), *flags, *_LIST_MACROS], seconds=PROBE_SECONDS)
    if finished.code != 0:
        raise BuildError(
            f"compiler '{compiler.path}': expected to accept the flags {' '.join(flags)}, "
            f"it says: {first_error(finished.errors)[1]}; drop the flag it names, or set CC to another compiler"
        )
    return finished.output


def run(
    command: Sequence[str],
    *,
    seconds: float,
    environment: Mapping[str, str] | None = None,
    stop: Event | None = None,
) -> Finished:
    """Run `command` with messages in English; kill it and its children after `seconds`, or once `stop` is set.

    Raises BuildError when the program cannot start, takes too long or is stopped.
    """
    settings = {**os.environ, **(environment or {}), "LC_ALL": "C"}
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            env=settings,
            process_group=0,
        )
    except OSError as error:
        raise BuildError(
            f"compiler '{command[0]}': expected a program that runs, got: {error.strerror}; set CC to gcc or clang"
        ) from error
    try:
        output, errors = _wait(process, command[0], seconds, stop)
    except BaseException:
        with suppress(ProcessLookupError):  # the driver together with the passes that it started
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise
    return Finished(process.returncode, output, errors)


def first_error(errors: str) -> tuple[int | None, str]:
    """The line of C (None if there is none) and the text of the first error in what a compiler or linker printed.

    >>> first_error("k.c: In function 'f':\\nk.c:3:5: error: expected ';' before '}' token")
    (3, "expected ';' before '}' token")
    """
    in_c = _ERROR_IN_C.search(errors)
    if in_c is not None:
        return int(in_c.group("line")), in_c.group("text")
    elsewhere = _ERROR_ELSEWHERE.search(errors)
    if elsewhere is not None:
        return None, elsewhere.group("text") or elsewhere.group("other")
    return None, next((line.strip() for line in errors.splitlines() if line.strip()), "nothing")


@lru_cache(maxsize=64)
def _probe(path: Path) -> Compiler:
    version = next(iter(run([str(path), "--version"], seconds=PROBE_SECONDS).output.splitlines()), "").strip()
    macros = run([str(path), *_LIST_MACROS], seconds=PROBE_SECONDS).output
    if "#define __clang__ " in macros:
        return Compiler(path, "clang", version)
    if "#define __GNUC__ " in macros:
        return Compiler(path, "gcc", version)
    raise BuildError(
        f"compiler '{path}': expected gcc or clang, got a program that lists no C macros and says '{version}'; "
        "set CC to gcc or clang"
    )


def _wait(process: subprocess.Popen[str], name: str, seconds: float, stop: Event | None) -> tuple[str, str]:
    deadline = time.monotonic() + seconds
    while True:
        try:
            return process.communicate(timeout=_POLL_SECONDS)
        except subprocess.TimeoutExpired:
            if stop is not None and stop.is_set():
                raise BuildError(
                    f"compiler '{name}': expected to finish, was stopped because another build failed; repair that"
                ) from None
            if time.monotonic() > deadline:
                raise BuildError(
                    f"compiler '{name}': expected to finish in {seconds:g} s, still runs; "
                    "generate a smaller kernel, lower -O, or allow more seconds"
                ) from None
