"""Writes docs/inside/modules.md from the docstrings of polyfuse's modules: `python docs/inside/modules.py`.

A row is a module and the first paragraph of its docstring; a table is a folder, in the order of the alphabet.
"""

import ast
from itertools import groupby
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "polyfuse"
PAGE = Path(__file__).with_name("modules.md")
HEAD = """\
# Modules

Every module and what its docstring says first. The [code map](codemap.md) says how they work together.
`python docs/inside/modules.py` writes this page; the tests check that it is current.
"""


def first_paragraph(module: Path) -> str:
    """The first paragraph of a module's docstring, as one line; empty where there is none."""
    text = ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))) or ""
    return " ".join(text.partition("\n\n")[0].split())


def page() -> str:
    """The text of the page."""
    modules = sorted(PACKAGE.rglob("*.py"), key=lambda path: (path.parent, path.name))
    said = {module: text for module in modules if (text := first_paragraph(module))}
    parts = [HEAD]
    for folder, inside in groupby(said, key=lambda path: path.parent):
        name = f"polyfuse/{folder.relative_to(PACKAGE).as_posix()}/".replace("./", "")
        rows = [f"| `{module.name}` | {said[module].replace('|', '&#124;')} |" for module in inside]
        parts.append("\n".join([f"\n## {name}\n", "| module | |", "|---|---|", *rows, ""]))
    return "".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
