"""What docs/ says is true: its sessions run, its links lead somewhere, its pictures are the sets'.

Every page is in the index, and what pages list, modules, functions and options, is what there is.

In a page, ```python blocks are doctest sessions and ```console blocks are `$ polyfuse …` lines with what they print.
All blocks of a page share one session, and run in an empty folder that has the repository's kernels/. Whitespace is
not compared, and `...` stands for any text: times, the host, long lines.
"""

import doctest
import importlib
import importlib.util
import io
import pydoc
import re
import shlex
import sys
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from pathlib import Path
from types import ModuleType

import click
import matplotlib
import pytest

import polyfuse as pf
from polyfuse.cli import main
from polyfuse.cli.commands import COMMANDS
from polyfuse.rewrite.rules.catalogue import ON_REQUEST, RULES

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


class Shell:
    """A terminal in which only polyfuse is installed: `polyfuse …` and `echo $?`."""

    status = 0

    def __call__(self, line: str) -> None:
        """What a line prints, on stdout or stderr."""
        if line == "echo $?":
            print(self.status)
            return
        program, *arguments = shlex.split(line)
        assert program == "polyfuse"
        output = io.StringIO()
        with redirect_stdout(output), redirect_stderr(output), pytest.raises(SystemExit) as finished:
            main.main(arguments, prog_name="polyfuse")
        print(output.getvalue(), end="")
        self.status = int(finished.value.code or 0)


def session(page: str) -> str:
    """The text of a page with everything but its sessions blanked out; line numbers stay as they are."""

    def runnable(kind: str, body: str) -> str:
        if kind == "python":
            return body
        joined = re.sub(r"\\\n\s*", "", body)
        lines = [
            f">>> shell({line[2:]!r})" if line.startswith("$ ") else line or "<BLANKLINE>"
            for line in joined.splitlines()
        ]
        return "\n".join([*lines, *[""] * (body.count("\n") - joined.count("\n")), ""])

    kept, end = [], 0
    for block in BLOCK.finditer(page):
        kept.append("\n" * page[end : block.start()].count("\n"))
        kind, body = block.groups()
        blank = "\n" * block[0].count("\n")
        kept.append("\n" + runnable(kind, body) if kind in ("python", "console") else blank)
        end = block.end()
    return "".join(kept)


@pytest.mark.usefixtures("full_effort")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_sessions_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kernels").symlink_to(ROOT / "kernels")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    text = session(page.read_text(encoding="utf-8"))
    test = doctest.DocTestParser().get_doctest(text, {"shell": Shell()}, page.name, str(page), 0)
    report: list[str] = []
    doctest.DocTestRunner(optionflags=FLAGS).run(test, out=report.append)
    assert not report, "".join(report)


def test_the_pages_that_promise_sessions_have_them() -> None:
    parser = doctest.DocTestParser()
    counted = {page.stem: len(parser.get_examples(session(page.read_text(encoding="utf-8")))) for page in PAGES}
    assert counted["tutorial"] > 50 and counted["adding-a-layer"] > 10


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_lead_somewhere(page: Path) -> None:
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not target.startswith(("http://", "https://")):
            path, _, anchor = target.partition("#")
            file = page.parent / path if path else page
            assert file.exists(), f"{page.name} links to {target}"
            assert not anchor or anchor in anchors(file), f"{page.name} links to {target}"


def anchors(page: Path) -> set[str]:
    """The anchors of the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", BLOCK.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_is_in_the_index() -> None:
    """docs/README.md links to each page once, and says something of it."""
    index = (DOCS / "README.md").read_text(encoding="utf-8")
    named = re.findall(r"^- \[[^]]+\]\(([\w/-]+\.md)\): \S", index, re.MULTILINE)
    assert sorted(named) == sorted(str(page.relative_to(DOCS)) for page in PAGES if page.parent != DOCS)


def test_the_list_of_modules_is_current() -> None:
    page = (DOCS / "inside" / "modules.md").read_text(encoding="utf-8")
    assert page == script("inside/modules.py").page(), "run python docs/inside/modules.py"


def test_the_code_map_names_functions_that_there_are() -> None:
    """`Network ──counts()──> Counts   schedule/counts.py`: the module has the function."""
    page = (DOCS / "inside" / "codemap.md").read_text(encoding="utf-8")
    arrows = re.findall(r"──([\w.]+)\(\)──>.* ([\w/]+)\.py$", page, re.MULTILINE)
    assert len(arrows) > 30 and len(arrows) == page.count("──>")
    for name, path in arrows:
        found: object = importlib.import_module(f"polyfuse.{path.replace('/', '.')}")
        for part in name.split("."):
            found = getattr(found, part)
        assert callable(found)


def test_the_page_of_commands_has_them_all_with_the_options_they_share() -> None:
    page = (DOCS / "use" / "commands.md").read_text(encoding="utf-8")
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in page.splitlines() if line[:1] == "|"]
    first = {name for row in cells for name in re.findall(r"`([\w-]+)`", row[0])}
    assert first >= set(COMMANDS)
    takes = {name: options_of(name) for name in COMMANDS}
    for row in (row for row in cells if row[0].startswith("`--")):
        for option in re.findall(r"`(--[\w-]+)`", row[0]):
            wanted = [name for name, options in takes.items() if option in options]
            assert sorted(re.findall(r"`([\w-]+)`", row[2])) == sorted(wanted), option


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda page: page.name)
def test_commands_that_pages_name_have_the_options_they_name(page: Path) -> None:
    """`polyfuse tune sr4 --layout blocked`, wherever it stands: in a block or in a sentence."""
    text = page.read_text(encoding="utf-8")
    for name, rest in re.findall(r"polyfuse ([a-z][\w-]*)((?: [^`;|#\n]*)?)", text):
        named = set(re.findall(r"(?<=\s)--[a-z][\w-]*", rest))
        assert named <= options_of(name) | {"--help"}, f"polyfuse {name}{rest}"


def options_of(command: str) -> set[str]:
    """The options of a command, none for a word that is no command."""
    found = main.get_command(click.Context(main), command)
    parameters = found.params if found is not None else []
    return {option for each in parameters for option in (*each.opts, *each.secondary_opts)}


def test_the_table_of_rules_is_in_the_order_in_which_they_are_tried() -> None:
    page = (DOCS / "inside" / "rewriting.md").read_text(encoding="utf-8")
    cells = re.findall(r"^\| ((?:`[a-z][\w-]+`(?:, )?)+) \|", page, re.MULTILINE)
    on_request = {rule.name for rule in ON_REQUEST}
    named = [name for cell in cells for name in re.findall(r"`([\w-]+)`", cell)]
    assert [name for name in named if name not in on_request] == [rule.name for rule in RULES]
    assert on_request <= set(named)


def test_every_word_is_explained_once() -> None:
    words = re.findall(r"^\*\*(.+?)\*\*", (DOCS / "learn" / "glossary.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(words) > 40 and words == sorted(set(words), key=str.casefold)


@cache
def script(path: str) -> ModuleType:
    """A program of docs/ as a module."""
    name = f"docs_{Path(path).stem}"
    spec = importlib.util.spec_from_file_location(name, DOCS / path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pictures() -> ModuleType:
    """docs/learn/pictures.py as a module."""
    return script("learn/pictures.py")


@pytest.mark.parametrize("name", sorted(path.stem for path in (DOCS / "learn" / "pictures").glob("*.svg")))
def test_pictures_are_what_the_sets_say(name: str, pictures: ModuleType) -> None:
    """The drawn data always; all bytes where this is the matplotlib that wrote the file."""
    committed = (DOCS / "learn" / "pictures" / f"{name}.svg").read_text(encoding="utf-8")
    picture = pictures.PICTURES[name]()
    assert f"data {picture.digest}<" in committed, "run python docs/learn/pictures.py"
    if f"Matplotlib v{matplotlib.__version__}," in committed:
        assert pictures.svg(picture) == committed, "run python docs/learn/pictures.py"


def test_every_picture_is_drawn_and_shown(pictures: ModuleType) -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert {path.stem for path in (DOCS / "learn" / "pictures").iterdir()} == set(pictures.PICTURES)
    assert all(f"(pictures/{name}.svg)" in text for name in pictures.PICTURES)


def listed_names() -> list[str]:
    """The names in the table of contents of the package, in its order."""
    lines = (pf.__doc__ or "").partition("The public names")[2].partition("An example")[0].splitlines()
    entries = (re.split(r" {2,}", line.strip())[0] for line in lines if line.startswith("    "))
    return [name for entry in entries for name in entry.split(", ")]


def test_help_lists_every_public_name_once() -> None:
    found = listed_names()
    assert sorted(found) == sorted(set(pf.__all__) - {"__version__"})


def test_help_is_a_table_of_contents() -> None:
    heads = [line for line in (pf.__doc__ or "").splitlines() if re.fullmatch(r"[A-Z][A-Za-z ]+", line)]
    assert len(heads) >= 10
    text = pydoc.plain(pydoc.render_doc(pf))
    assert all(f"\n    {head}\n" in text for head in heads)
