"""What docs/use/polly.md says is true: its C is written to files, and its commands run and print what it shows."""

import doctest
import os
import re
import subprocess
import sys
from pathlib import Path

from tests.oracles.polly import needs_polly

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "use" / "polly.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MARK = "=== end of block ==="


@needs_polly
def test_the_commands_run_and_print_what_is_shown(tmp_path: Path) -> None:
    text = PAGE.read_text(encoding="utf-8")
    blocks = [block.groups() for block in BLOCK.finditer(text)]
    names = re.findall(r"`(\w+\.c)`", text.split("## What is taken")[0])
    sources = [body for kind, body in blocks if kind == "c"]
    for name, body in zip(dict.fromkeys(names), sources, strict=True):
        (tmp_path / name).write_text(body)
    commands = [body for kind, body in blocks if kind == "sh"]
    finished = subprocess.run(
        ["bash", "-euc", f"\necho '{MARK}'\n".join(commands)],
        cwd=tmp_path,
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout[-2000:]
    printed = finished.stdout.split(f"{MARK}\n")
    assert len(printed) == len(commands) == 6
    for k, shown in enumerate(shown_after_commands(blocks)):
        if shown is not None:
            flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
            assert doctest.OutputChecker().check_output(shown, printed[k], flags), printed[k]
    assert sum(shown is not None for shown in shown_after_commands(blocks)) == 5


def environment(folder: Path) -> dict[str, str]:
    """An environment in which `polyfuse` is this checkout."""
    folder = folder / "bin"
    folder.mkdir()
    (folder / "polyfuse").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m polyfuse "$@"\n')
    (folder / "polyfuse").chmod(0o755)
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}


def shown_after_commands(blocks: list[tuple[str, ...]]) -> list[str | None]:
    """For each block of commands, the text that is shown after it; None where there is none."""
    following = [*blocks[1:], ("", "")]
    return [
        after[1] if after[0] == "text" else None
        for (kind, _), after in zip(blocks, following, strict=True)
        if kind == "sh"
    ]
