"""Every example in the README and in a docstring runs, and says what it says."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import polyfuse

ROOT = Path(__file__).parent.parent
MODULES = [
    "polyfuse",
    *(m.name for m in pkgutil.walk_packages(polyfuse.__path__, "polyfuse.") if "__main__" not in m.name),
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name: str) -> None:
    module = importlib.import_module(name)
    results = doctest.testmod(module)
    assert results.failed == 0
    assert results.attempted > 0 or ">>> " not in Path(str(module.__file__)).read_text(encoding="utf-8")


def test_docstrings_have_examples() -> None:
    found = sum(
        bool(case.examples) for name in MODULES for case in doctest.DocTestFinder().find(importlib.import_module(name))
    )
    assert found >= 20


def test_examples_in_the_readme() -> None:
    result = doctest.testfile(str(ROOT / "README.md"), module_relative=False)
    assert result.failed == 0 < result.attempted


def test_the_readme_opens_with_commands_that_the_makefile_has() -> None:
    opening = (ROOT / "README.md").read_text().split("\n\n")[1]
    goals = re.findall(r"make (\w+)", opening)
    assert goals == ["demo", "test"]
    makefile = (ROOT / "Makefile").read_text()
    assert all(re.search(rf"^{goal}:", makefile, re.MULTILINE) for goal in goals)


def test_links_in_the_readme_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^):#]+\.\w+)\)", (ROOT / "README.md").read_text())
    assert links and all((ROOT / link).exists() for link in links)


def test_everything_public_is_there_and_documented() -> None:
    assert len(set(polyfuse.__all__)) == len(polyfuse.__all__)
    for name in polyfuse.__all__:
        assert getattr(polyfuse, name).__doc__, name


def test_no_public_name_hides_a_package() -> None:
    folders = {path.parent.name for path in Path(polyfuse.__file__).parent.glob("*/__init__.py")}
    assert not folders & set(polyfuse.__all__)
