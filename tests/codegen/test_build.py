"""Building C through the cache: what is kept, what is rebuilt, and every way it is refused."""

import ctypes
import doctest
import errno
import hashlib
import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from polyfuse.choices import DEFAULT_FLAGS
from polyfuse.codegen import cache as cache_module
from polyfuse.codegen import compiler as compiler_module
from polyfuse.codegen.build import (
    OPENMP,
    SANITIZE,
    WARNINGS,
    Built,
    Options,
    compile_file,
    compile_many,
    compile_program,
    compile_shared,
    find_compiler,
    load,
)
from polyfuse.errors import BuildError, InvalidInput

PLUS_ONE = "int f(int x) { return x + 1; }\n"
FAST = ("-std=c11", "-O1")
FAKE_COMPILER = """#!/bin/sh
case "$*" in
*--version*|*-dM*) ;;
*) {action} ;;
esac
exec {gcc} "$@"
"""


def constant(value: int) -> str:
    return f"int f(void) {{ return {value}; }}\n"


def call(built: Built, *arguments: int) -> int:
    result: int = load(built).f(*arguments)
    return result


def rejection(error: type[Exception], action: Callable[[], object]) -> str:
    """The message of the error that the action must raise: one line, and with something to do."""
    with pytest.raises(error) as caught:
        action()
    message = str(caught.value)
    assert "\n" not in message
    assert "; " in message
    return message


@pytest.fixture
def fake_compiler(tmp_path: Path) -> Callable[[str], str]:
    """A program that answers as gcc does, but runs a line of shell before it compiles."""

    def make(action: str) -> str:
        program = tmp_path / f"fake-{hashlib.sha256(action.encode()).hexdigest()[:8]}"
        program.write_text(FAKE_COMPILER.format(action=action, gcc=shutil.which("gcc")))
        program.chmod(0o755)
        return str(program)

    return make


# What is built


def test_library_computes() -> None:
    assert call(compile_shared(PLUS_ONE), 41) == 42


def test_default_flags_fuse_multiply_and_add() -> None:
    source = """
    #if defined(__FMA__) || defined(__aarch64__)
    int has_fma(void) { return 1; }
    #else
    int has_fma(void) { return 0; }
    #endif
    float f(float a, float b, float c) { return a * b + c; }
    """
    library = load(compile_shared(source))
    library.f.restype = ctypes.c_float
    x = 1 + 2**-12
    rounded = 1 + 2**-11
    fused = library.f(ctypes.c_float(x), ctypes.c_float(x), ctypes.c_float(-rounded))
    assert fused == (2**-24 if library.has_fma() else 0.0)


def test_openmp_is_off_unless_asked_for() -> None:
    source = "#ifdef _OPENMP\nint f(void) { return 1; }\n#else\nint f(void) { return 0; }\n#endif\n"
    assert [
        call(compile_shared(source, Options(flags=FAST).with_flags(*(OPENMP if openmp else ()))))
        for openmp in (False, True)
    ] == [0, 1]


def test_sanitized_program_stops_at_an_index_out_of_bounds() -> None:
    source = "int main(int n, char **v) { (void)v; int a[2] = {0, 0}; return a[n + %d]; }\n"
    codes = [
        subprocess.run([program.executable], capture_output=True).returncode
        for program in (compile_program(source % offset, Options(flags=(*FAST, *SANITIZE))) for offset in (0, 1))
    ]
    assert codes[0] == 0
    assert codes[1] != 0


def test_hand_edited_file_is_built_and_left_alone(tmp_path: Path) -> None:
    edited = tmp_path / "edited.c"
    shutil.copyfile(compile_shared(PLUS_ONE).source, edited)
    edited.write_text(edited.read_text().replace("+ 1", "+ 2"))
    assert call(compile_file(edited), 40) == 42
    assert "+ 2" in edited.read_text()
    assert call(compile_shared(PLUS_ONE), 40) == 41


def test_many_sources_come_back_in_their_order() -> None:
    values = range(5)
    built = compile_many([constant(value) for value in values], Options(flags=FAST), jobs=2)
    assert [call(item) for item in built] == list(values)


def test_docstring_examples() -> None:
    assert doctest.testmod(compiler_module).failed == 0


# What is kept


def test_second_build_finds_the_first(tmp_path: Path) -> None:
    first = compile_shared(PLUS_ONE, Options(flags=FAST, cache=tmp_path))
    inode = first.library.stat().st_ino
    assert compile_shared(PLUS_ONE, Options(flags=FAST, cache=tmp_path)) == first
    assert first.library.stat().st_ino == inode


def test_cache_holds_the_source_the_library_and_its_digest_and_no_more(tmp_path: Path) -> None:
    built = compile_shared(PLUS_ONE, Options(flags=FAST, cache=tmp_path))
    assert built.source.read_text() == PLUS_ONE
    assert built.source.stem == built.library.stem
    digest = hashlib.sha256(built.library.read_bytes()).hexdigest()
    assert Path(f"{built.library}.sha256").read_text() == f"{digest}  {built.library.name}\n"
    assert len(list(tmp_path.iterdir())) == 3


def test_command_makes_the_library_again(tmp_path: Path) -> None:
    built = compile_shared(PLUS_ONE, Options(flags=FAST, cache=tmp_path))
    before = built.library.read_bytes()
    built.library.unlink()
    subprocess.run(built.command, check=True)
    assert built.library.read_bytes() == before


def test_other_source_flags_compiler_or_cpu_is_another_entry(
    monkeypatch: pytest.MonkeyPatch, fake_compiler: Callable[[str], str]
) -> None:
    paths = [
        compile_shared(PLUS_ONE, Options(flags=FAST)).library,
        compile_shared(PLUS_ONE + "\n", Options(flags=FAST)).library,
        compile_shared(PLUS_ONE, Options(flags=("-std=c11", "-O2"))).library,
        compile_shared(PLUS_ONE, Options(compiler=find_compiler(fake_compiler("true")), flags=FAST)).library,
        compile_shared(PLUS_ONE, Options(compiler=replace(find_compiler(), version="upgraded"), flags=FAST)).library,
    ]
    monkeypatch.setattr(cache_module, "target_macros", lambda compiler, flags: "#define __another_cpu__ 1")
    paths.append(compile_shared(PLUS_ONE, Options(flags=FAST)).library)
    assert len(set(paths)) == len(paths)


def test_native_flags_are_told_apart_by_what_they_mean() -> None:
    compiler = find_compiler()
    assert compiler_module.target_macros(compiler, DEFAULT_FLAGS) != compiler_module.target_macros(compiler, FAST)


@pytest.mark.parametrize("damage", ["truncated", "empty", "replaced", "missing", "no digest"])
def test_damaged_entry_is_built_again(tmp_path: Path, damage: str) -> None:
    built = compile_shared(PLUS_ONE, Options(flags=FAST, cache=tmp_path))
    intact = built.library.read_bytes()
    digest = Path(f"{built.library}.sha256")
    victim = digest if damage == "no digest" else built.library
    victim.unlink()
    content = {"truncated": intact[: len(intact) // 2], "empty": b"", "replaced": b"\0" * len(intact)}
    if damage in content:
        victim.write_bytes(content[damage])
    again = compile_shared(PLUS_ONE, Options(flags=FAST, cache=tmp_path))
    assert again.library.read_bytes() == intact
    assert digest.exists()
    assert call(again, 1) == 2


def test_edited_source_in_the_cache_is_restored(tmp_path: Path) -> None:
    built = compile_shared(PLUS_ONE, Options(flags=FAST, cache=tmp_path))
    built.source.unlink()
    built.source.write_text("int f(void);\n")
    assert compile_shared(PLUS_ONE, Options(flags=FAST, cache=tmp_path)).source.read_text() == PLUS_ONE


def test_complete_entry_needs_no_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = compile_shared(PLUS_ONE, Options(flags=FAST, cache=tmp_path))

    def refuse(*arguments: object, **options: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("tempfile.mkdtemp", refuse)
    monkeypatch.setattr("os.replace", refuse)
    assert compile_shared(PLUS_ONE, Options(flags=FAST, cache=tmp_path)) == built


def _build_and_call(cache: str, barrier: Barrier) -> None:
    barrier.wait(20)
    built = compile_shared(constant(7), Options(cache=Path(cache)))
    os._exit(0 if call(built) == 7 else 1)


def test_two_processes_build_one_kernel_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    processes = [context.Process(target=_build_and_call, args=(str(tmp_path), barrier)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0, 0]
    assert len(list(tmp_path.iterdir())) == 3


# Which compiler


def test_compiler_is_the_named_one_then_cc_then_one_in_path(
    monkeypatch: pytest.MonkeyPatch, fake_compiler: Callable[[str], str]
) -> None:
    named, in_variable = fake_compiler("true"), fake_compiler(":")
    monkeypatch.setenv("CC", in_variable)
    assert str(find_compiler(named).path) == named
    assert str(find_compiler().path) == in_variable
    monkeypatch.delenv("CC")
    assert find_compiler().path.name in compiler_module.CANDIDATES


def test_compiler_has_a_family_and_a_version() -> None:
    compiler = find_compiler()
    assert compiler.family in ("gcc", "clang")
    assert any(letter.isdigit() for letter in compiler.version)


def test_no_compiler_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CC", raising=False)
    message = rejection(BuildError, lambda: compile_shared(PLUS_ONE))
    assert "install gcc or clang" in message
    assert "set CC" in message


@pytest.mark.parametrize("value", ["no-such-compiler", "gcc -m32", "/nowhere/gcc"])
def test_wrong_cc_is_named(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("CC", value)
    assert f"$CC '{value}'" in rejection(BuildError, find_compiler)


def test_wrong_name_is_named() -> None:
    assert "compiler 'tcc-9'" in rejection(BuildError, lambda: find_compiler("tcc-9"))


def test_program_that_is_no_compiler_is_rejected() -> None:
    assert "expected gcc or clang" in rejection(BuildError, lambda: find_compiler("true"))


def test_program_that_does_not_start_is_rejected(tmp_path: Path) -> None:
    program = tmp_path / "gcc"
    program.write_bytes(b"\x7fELF, but no more")
    program.chmod(0o755)
    assert "expected a program that runs" in rejection(BuildError, lambda: find_compiler(str(program)))


# What is refused


def test_syntax_error_names_the_line_the_text_and_the_kept_file(tmp_path: Path) -> None:
    message = rejection(BuildError, lambda: compile_shared("int a;\nint f( { }\n", Options(cache=tmp_path)))
    (kept,) = tmp_path.glob("*.c")
    assert "generated C, line 2: " in message
    assert str(kept) in message


def test_error_in_a_file_names_the_file(tmp_path: Path) -> None:
    edited = tmp_path / "edited.c"
    edited.write_text("int a;\n\nint f(void) { return b; }\n")
    assert f"C file '{edited}', line 3: " in rejection(BuildError, lambda: compile_file(edited, Options(flags=FAST)))


def test_undefined_symbol_is_rejected_when_built() -> None:
    source = "int g(void);\nint f(void) { return g(); }\n"
    assert "undefined" in rejection(BuildError, lambda: compile_shared(source, Options(flags=FAST)))


def test_warnings_are_errors_when_asked_for() -> None:
    source = "int f(int x) { int unused; return x; }\n"
    assert call(compile_shared(source, Options(flags=FAST)), 3) == 3
    assert "unused" in rejection(BuildError, lambda: compile_shared(source, Options(flags=FAST).with_flags(*WARNINGS)))


def test_unknown_flag_is_named() -> None:
    assert "-fno-such-flag" in rejection(
        BuildError, lambda: compile_shared(PLUS_ONE, Options(flags=("-fno-such-flag",)))
    )


def test_flags_in_one_string_are_rejected() -> None:
    assert "expected a sequence" in rejection(InvalidInput, lambda: compile_shared(PLUS_ONE, Options(flags="-O2 -g")))


@pytest.mark.parametrize("content", [None, b"\xff"])
def test_unreadable_file_is_rejected(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "kernel.c"
    if content is not None:
        path.write_bytes(content)
    assert f"C file '{path}'" in rejection(InvalidInput, lambda: compile_file(path))


def test_no_jobs_are_rejected() -> None:
    assert "at least 1, got 0" in rejection(InvalidInput, lambda: compile_many([PLUS_ONE], jobs=0))


@pytest.mark.parametrize("below", [(), ("below",)])
def test_cache_that_is_a_file_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, below: tuple[str, ...]
) -> None:
    (tmp_path / "file").touch()
    folder = tmp_path.joinpath("file", *below)
    monkeypatch.setenv("POLYFUSE_CACHE", str(folder))
    message = rejection(BuildError, lambda: compile_shared(PLUS_ONE))
    assert f"'{folder}'" in message
    assert "set POLYFUSE_CACHE" in message


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
@pytest.mark.parametrize("call_name", ["os.replace", "tempfile.mkdtemp"])
def test_cache_that_cannot_be_written_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call_name: str, code: int
) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise OSError(code, os.strerror(code))

    find_compiler()
    monkeypatch.setattr(call_name, refuse)
    message = rejection(BuildError, lambda: compile_shared(PLUS_ONE, Options(cache=tmp_path)))
    assert f"'{tmp_path}'" in message
    assert os.strerror(code) in message
    assert "set POLYFUSE_CACHE" in message
    assert not list(tmp_path.glob("*.so"))


def test_compiler_that_fills_the_disk_blames_the_cache(tmp_path: Path) -> None:
    script = (
        "import resource, sys; from pathlib import Path; from polyfuse.codegen.build import Options, compile_shared\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        f"compile_shared({PLUS_ONE!r}, Options(cache=Path(sys.argv[1])))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    finished = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, env=environment
    )
    assert f"BuildError: build cache '{tmp_path}'" in finished.stderr
    assert not list(tmp_path.glob("*.so"))


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for the process in /proc")
def test_compiler_over_its_time_is_killed_with_its_children(
    tmp_path: Path, fake_compiler: Callable[[str], str]
) -> None:
    pid_file = tmp_path / "pid"
    compiler = find_compiler(fake_compiler(f"sleep 60 & echo $! > {pid_file}; wait"))
    message = rejection(
        BuildError, lambda: compile_shared(PLUS_ONE, Options(compiler=compiler, cache=tmp_path, seconds=0.3))
    )
    assert "0.3 s" in message
    deadline = time.monotonic() + 5
    while _is_running(int(pid_file.read_text())) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not _is_running(int(pid_file.read_text()))
    assert not list(tmp_path.glob(".building-*"))


def test_first_of_many_that_fails_stops_the_others(fake_compiler: Callable[[str], str]) -> None:
    action = 'for a; do case "$a" in *.c) grep -q slow "$a" && sleep 60;; esac; done'
    compiler = find_compiler(fake_compiler(action))
    sources = ["int f(\n", "/* slow */\n", "/* slow, too */\n"]
    start = time.monotonic()
    message = rejection(BuildError, lambda: compile_many(sources, Options(compiler=compiler, flags=FAST), jobs=2))
    assert "generated C 1 of 3, line 1: " in message
    assert time.monotonic() - start < 10


def test_library_that_is_gone_is_rejected(tmp_path: Path) -> None:
    built = compile_shared(PLUS_ONE, Options(flags=FAST, cache=tmp_path))
    built.library.unlink()
    assert str(built.library) in rejection(BuildError, lambda: load(built))
