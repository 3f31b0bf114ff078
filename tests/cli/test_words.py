"""One word, one meaning: the same option is the same in every command, and help is there for all of it."""

from importlib.resources import files

import click
import pytest

from polyfuse.cli import main
from polyfuse.cli.commands import COMMANDS
from tests.cli.calls import call, commands

OWN_FILES = {"commands", "options", "values", "unused", "__init__"}
SEVERAL_MEANINGS = {
    "--output": "the file or folder is named by what the command makes",
    "--strategy": "`bench` also has the tuned and the planned one",
    "--machine": "`bench` reads the machine file of a host, `plan` takes an accelerator by name too",
    "--layout": "`bench` also has the layout that each contender prefers",
}
"""Options whose values differ between commands, and why that is one meaning all the same."""


def modules_of(package: str) -> set[str]:
    """The names of a package's modules."""
    return {path.name.removesuffix(".py") for path in files(package).iterdir() if path.name.endswith(".py")}


def options() -> dict[str, dict[str, click.Option]]:
    """For each word, the option that it is in each command."""
    found: dict[str, dict[str, click.Option]] = {}
    for name, command in commands().items():
        for param in command.params:
            if isinstance(param, click.Option):
                found.setdefault(max(param.opts, key=len), {})[name] = param
    return found


@pytest.mark.parametrize("word", sorted(options()))
def test_a_word_is_one_option_everywhere(word: str) -> None:
    meant = list(options()[word].values())
    assert len({tuple(option.opts) for option in meant}) == 1
    if word not in SEVERAL_MEANINGS:
        assert len({option.name for option in meant}) == 1
        assert len({type(option.type) for option in meant}) == 1
        assert len({option.metavar for option in meant}) == 1


def test_an_option_is_one_word_everywhere() -> None:
    words: dict[tuple[str, str], set[str]] = {}
    for word, found in options().items():
        for option in found.values():
            words.setdefault((str(option.name), type(option.type).__name__), set()).add(word)
    assert {name for (name, _), known in words.items() if len(known) > 1} == {"folder", "path"}


def test_every_command_is_two_files_and_every_file_is_of_a_command() -> None:
    modules = {name.replace("-", "_") for name in COMMANDS}
    assert modules_of("polyfuse.cli") - OWN_FILES == modules
    assert modules_of("polyfuse.cli.actions") - {"request", "scratchpad", "__init__"} == modules
    assert list(COMMANDS) == sorted(COMMANDS) and all(command.name == name for name, command in commands().items())


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_help_says_what_each_option_does(name: str, width: int) -> None:
    found = call(name, "--help", width=width)
    assert found.exit_code == 0 and max(map(len, found.output.splitlines())) <= width
    for param in commands()[name].params:
        if isinstance(param, click.Option):
            assert param.help and param.help[0].isupper() and param.help.endswith("."), param.opts


@pytest.mark.parametrize("width", [80, 120])
def test_the_list_of_commands_is_not_cut(width: int) -> None:
    told = call("--help", width=width).output
    assert "..." not in told.split("Commands:")[1] and max(map(len, told.splitlines())) <= width
    assert all(f"  {name} " in told and does in told for name, does in COMMANDS.items())
    assert main.get_command(click.Context(main), "nothing") is None
