"""Notebooks in docs/ run, cell after cell, and print what they say."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "docs").rglob("*.ipynb"))
RUN = """
import contextlib, io, json, sys
scope, told = {"__name__": "__main__"}, []
for cell in json.load(sys.stdin):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(cell, "<cell>", "exec"), scope)
    told.append(printed.getvalue())
print(json.dumps(told))
"""


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_cells_print_what_the_notebook_says(path: Path, tmp_path: Path) -> None:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert notebook["nbformat"] == 4
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    sources = json.dumps(["".join(cell["source"]) for cell in cells])
    ran = subprocess.run([sys.executable, "-c", RUN], input=sources, capture_output=True, text=True, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    expected = ["".join(text for output in cell["outputs"] for text in output.get("text", ())) for cell in cells]
    assert json.loads(ran.stdout) == expected and any(expected)
