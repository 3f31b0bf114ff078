"""The command line as tests call it."""

import os
import subprocess
import sys
from pathlib import Path

import click
from click.testing import CliRunner, Result

from polyfuse.cli import main

KERNEL = """
from polyfuse.network.network import Builder


def network(size=20, channels=2):
    build = Builder("pair")
    x = build.input("x", (1, channels, size, size))
    return build.network(build.conv("conv2", build.conv("conv1", x, channels, kernel=3), channels, kernel=3))
"""
"""A kernel file of two small convolutions."""
HEEDS_INTERRUPTS = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from polyfuse.cli import main; main()"
)
"""The command, also where interrupts are ignored, as in a job that a shell runs in the background."""


def commands() -> dict[str, click.Command]:
    """Every command by its name."""
    context = click.Context(main)
    found = {name: main.get_command(context, name) for name in main.list_commands(context)}
    return {name: command for name, command in found.items() if command is not None}


def call(*words: str, width: int = 80) -> Result:
    """Run in this process, with a terminal's width."""
    return CliRunner(env={"COLUMNS": str(width)}).invoke(main, words, prog_name="polyfuse")


def shell(*words: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run as its own process."""
    command = [sys.executable, "-m", "polyfuse", *words]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **settings}, timeout=120)


def refused(result: Result, status: int) -> str:
    """The one line of an error."""
    assert result.exit_code == status
    (line,) = result.stderr.splitlines()
    assert line.startswith("polyfuse: ")
    assert "Traceback" not in result.output
    return line


def kernel_in(folder: Path, name: str, text: str) -> str:
    """The path of a new kernel file."""
    path = folder / f"{name}.py"
    path.write_text(text)
    return str(path)


def plan_in(folder: Path, model: str, *words: str) -> Path:
    """The path of a new plan file, made by the command."""
    file = folder / "plan.json"
    assert call("plan", model, *words, "--json", str(file)).exit_code == 0
    return file
