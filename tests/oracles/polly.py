"""Real Polly: C through clang and opt, with what runs counted in the IR that Polly has made. Knows nothing of polyfuse.

Polly's code has a block `polly.stmt.LABEL` for each copy of a statement. A counter for each of them, put into the IR
as text, counts executions whatever made the schedule.
"""

import ctypes
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

CLANG, OPT = "clang-16", "opt-16"
PASSES = "sroa,instcombine,simplifycfg,loop-simplify,loop-rotate,indvars,instcombine"
missing = [tool for tool in (CLANG, OPT) if shutil.which(tool) is None]
needs_polly = pytest.mark.skipif(
    bool(missing), reason=f"{' and '.join(missing)} not installed (Debian: clang-16 llvm-16)"
)


def run(*command: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """A command in a folder, whatever its status."""
    return subprocess.run(list(map(str, command)), cwd=folder, capture_output=True, text=True, check=False)


def done(*command: str | Path, folder: Path) -> str:
    """A command that must succeed; what it printed."""
    finished = run(*command, folder=folder)
    assert finished.returncode == 0, finished.stderr[-2000:]
    return finished.stdout + finished.stderr


def flags(function: str) -> list[str]:
    """The options of Polly for one function."""
    return ["-polly-use-llvm-names", "-polly-process-unprofitable", f"-polly-only-func=^{function}$"]


def prepare(source: Path) -> Path:
    """IR that Polly can read, of the C file FUNCTION.c."""
    folder, name = source.parent, source.stem
    clang = ["-O0", "-Xclang", "-disable-O0-optnone", "-fno-discard-value-names", "-S", "-emit-llvm"]
    done(CLANG, *clang, source.name, "-o", f"{name}.ll", folder=folder)
    done(OPT, "-S", f"-passes={PASSES}", f"{name}.ll", "-o", f"{name}.prepared.ll", folder=folder)
    return folder / f"{name}.prepared.ll"


def export(prepared: Path) -> Path:
    """The JSCoP file that Polly writes."""
    folder, name = prepared.parent, prepared.name.split(".")[0]
    done(OPT, *flags(name), "-passes=polly-export-jscop", "-disable-output", prepared.name, folder=folder)
    (found,) = folder.glob(f"{name}___*.jscop")
    return found


def imported(prepared: Path, postfix: str) -> subprocess.CompletedProcess[str]:
    """Polly's import of the file that its export wrote, with a postfix; the IR is in POSTFIX.ll."""
    folder, name = prepared.parent, prepared.name.split(".")[0]
    passes = [f"-polly-import-jscop-postfix={postfix}", "-passes=polly-import-jscop,polly-codegen"]
    return run(OPT, "-S", *flags(name), *passes, prepared.name, "-o", f"{postfix}.ll", folder=folder)


def counted(ir: str, labels: Sequence[str]) -> str:
    """The IR with a counter `ran_LABEL` for each statement of Polly's code."""
    lines: list[str] = []
    label = None
    for line in ir.splitlines():
        if label is not None and " = phi " not in line:
            k = len(lines)
            lines += [f"  %ran.{k} = load i64, ptr @ran_{label}", f"  %more.{k} = add i64 %ran.{k}, 1"]
            lines += [f"  store i64 %more.{k}, ptr @ran_{label}"]
            label = None
        lines.append(line)
        if block := re.match(r"polly\.stmt\.([\w.]+):", line):
            found = block[1].replace(".", "_")
            label = max((each for each in labels if found.startswith(each)), key=len, default=None)
    at = next(k for k, line in enumerate(lines) if line.startswith("target triple")) + 1
    return "\n".join([*lines[:at], *(f"@ran_{each} = global i64 0" for each in labels), *lines[at:], ""])


def library(ir: str, folder: Path) -> ctypes.CDLL:
    """IR as a library."""
    (folder / "counted.ll").write_text(ir)
    done(CLANG, "-O1", "-shared", "-fPIC", "counted.ll", "-o", "counted.so", "-lm", folder=folder)
    return ctypes.CDLL(str(folder / "counted.so"))


def call(loaded: ctypes.CDLL, function: str, arrays: Sequence[np.ndarray]) -> None:
    """Call a function of pointers."""
    getattr(loaded, function)(*(array.ctypes.data_as(ctypes.c_void_p) for array in arrays))


def executions(loaded: ctypes.CDLL, labels: Sequence[str]) -> Mapping[str, int]:
    """How often each statement has run."""
    return {label: ctypes.c_int64.in_dll(loaded, f"ran_{label}").value for label in labels}
