"""What `import polyfuse` and `--help` do not import, and that the public names are there all the same."""

import ast
import inspect
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import polyfuse as pf
from polyfuse.cli.commands import COMMANDS

HEAVY = {"sympy", "mpmath", "ortools", "pandas", "onnx", "matplotlib", "scipy", "jinja2", "torch", "onnxruntime"}

RUN = "from polyfuse.cli import main\ntry: main({words}, prog_name='polyfuse')\nexcept SystemExit: pass"


def imported(code: str) -> set[str]:
    """The modules that a fresh interpreter has after some code; of packages that polyfuse needs, their names only."""
    told = f"{code}\nimport sys; sys.stderr.write(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, timeout=120, check=True)
    return set(done.stderr.split())


def test_importing_polyfuse_imports_its_door_and_nothing_else() -> None:
    there = imported("import polyfuse")
    assert not there & HEAVY
    assert {name for name in there if name.startswith("polyfuse")} == {"polyfuse", "polyfuse.errors"}
    assert not there & {"numpy", "islpy"}


@pytest.mark.parametrize("words", [[], ["--help"], ["--version"], ["nothing"]])
def test_the_list_of_commands_is_printed_without_loading_them(words: list[str]) -> None:
    code = RUN.format(words=words)
    there = imported(f"import sys, io\nkept, sys.stderr = sys.stderr, io.StringIO()\n{code}\nsys.stderr = kept")
    assert not there & (HEAVY | {"rich"})
    assert not {name for name in there if name.startswith(("polyfuse.bench", "polyfuse.plan", "polyfuse.network"))}


@pytest.mark.parametrize("command", COMMANDS)
def test_help_imports_options_and_nothing_of_what_the_command_runs(command: str) -> None:
    there = imported(RUN.format(words=[command, "--help"]))
    assert not there & (HEAVY | {"rich", "numpy", "islpy", "platformdirs"})
    names = ("choices", "errors", "files", "typed_json", "plan", "plan.planfile", "cli", "cli.commands", "cli.options")
    own = {f"polyfuse.{name}" for name in (*names, "cli.unused", "cli.values", f"cli.{command.replace('-', '_')}")}
    assert {name for name in there if name.startswith("polyfuse")} <= {"polyfuse", *own}


@pytest.mark.parametrize(
    "name", ["Builder", "Strategy", "scheduled", "storage", "check", "counts", "count", "generate", "build", "Machine"]
)
def test_scheduling_and_generating_need_no_solver_and_no_symbols(name: str) -> None:
    assert not imported(f"import polyfuse; polyfuse.{name}") & (HEAVY - {"onnx"})


@pytest.mark.parametrize("name", ["plan_for", "read_plan", "check_plan", "load", "load_workload", "compare"])
def test_no_public_name_needs_symbols_pandas_or_pictures(name: str) -> None:
    assert not imported(f"import polyfuse; polyfuse.{name}") & (HEAVY - {"onnx"})


def test_the_three_lists_of_names_agree() -> None:
    """What type checkers import, what is looked up, and what `*` gives."""
    tree = ast.parse(Path(str(pf.__file__)).read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    told = {}
    for node in block.body:
        if isinstance(node, ast.ImportFrom):
            for each in node.names:
                told[each.asname or each.name] = (str(node.module), each.name)
    looked_up = {
        name: (f"polyfuse.{module}", pf._OWN_NAMES.get(name, name))
        for module, names in pf._MODULES.items()
        for name in names
    }
    assert told == looked_up
    eager = {name for name in pf.__all__ if name not in looked_up}
    assert eager == {"__version__", *(name for name in dir(pf.errors) if name in pf.__all__)}
    assert pf.__all__ == sorted(set(pf.__all__))


def test_names_are_listed_before_they_are_looked_up() -> None:
    listed = subprocess.run(
        [sys.executable, "-c", "import polyfuse; print(*dir(polyfuse))"], capture_output=True, text=True, check=True
    )
    assert {*pf.__all__} <= {*listed.stdout.split()}


def test_a_name_that_is_not_there_is_named() -> None:
    with pytest.raises(AttributeError, match="module 'polyfuse' has no attribute 'Netwrok'"):
        pf.Netwrok  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize("name", [name for name in pf.__all__ if inspect.isclass(getattr(pf, name))])
def test_a_public_class_is_guarded_where_it_is_defined_and_is_found_again(name: str) -> None:
    kind = getattr(pf, name)
    assert pickle.loads(pickle.dumps(kind)) is kind
    if not issubclass(kind, BaseException):
        functions = [value for key, value in vars(kind).items() if not key.startswith("_") or key == "__init__"]
        assert any(hasattr(getattr(each, "__func__", each), "__wrapped__") for each in functions)


def test_a_public_function_is_behind_the_door() -> None:
    with pytest.raises(pf.InvalidInput, match=r"argument 's' of pf\.count"):
        pf.count(4)  # type: ignore[arg-type]


def test_a_class_has_a_name_of_its_own() -> None:
    found: dict[str, list[str]] = {}
    for path in Path(pf.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name, []).append(str(path))
    assert len(found) > 200
    assert {name: places for name, places in found.items() if len(places) > 1} == {}
