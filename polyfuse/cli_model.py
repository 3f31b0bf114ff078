"""Options of every command that reads a model: its weights, its sizes and values, the parameters of a kernel file.

Options as click gives them enter; arguments of `load_workload`, `read_source` and `workload_of` leave.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import click

from polyfuse.cli_types import Last, Pair, Shape

Option = Callable[..., Any]
Command = TypeVar("Command", bound=Callable[..., Any])

RANDOM_WEIGHTS = click.option("--random-weights", type=int, metavar="SEED", help="Give a model seeded random weights.")
PARAMETER = click.option(
    "--set",
    "parameters",
    type=Pair(click.STRING, "NAME=VALUE, such as size=224"),
    multiple=True,
    metavar="NAME=VALUE",
    help="A parameter of a kernel file, such as size=224, or a named dimension of a model, such as batch=1.",
)
SHAPE = click.option(
    "--shape",
    "shapes",
    type=Last(Shape(), "NAME=SIZES, such as x=1x3x224x224"),
    multiple=True,
    metavar="NAME=SIZES",
    help="The shape of an input of a model, such as x=1x3x224x224, in place of the declared one.",
)
FIX = click.option(
    "--fix",
    "values",
    type=Last(click.STRING, "NAME=VALUE, such as n=3 or size=480,640"),
    multiple=True,
    metavar="NAME=VALUE",
    help="A value of an input of a model, such as n=3 or size=480,640, which is no input any more.",
)
MODEL_OPTIONS: tuple[Option, ...] = (RANDOM_WEIGHTS, PARAMETER, SHAPE, FIX)
"""What is said about a model, or a kernel file, in every command that reads one."""
REPEATED = {"parameters": "--set", "shapes": "--shape", "values": "--fix"}


def with_options(command: Command, options: Sequence[Option]) -> Command:
    """A command with more options in front of its own."""
    for option in reversed(options):
        command = option(command)
    return command


def model_options(command: Command) -> Command:
    """A command with the options of a model in front of its own."""
    return with_options(command, MODEL_OPTIONS)


def model_asked(request: Mapping[str, Any]) -> dict[str, Any]:
    """What the options of a model say, as arguments of what reads it.

    Errors: click.UsageError where one name is given twice.
    """
    found: dict[str, Any] = {"random_weights": request["random_weights"]}
    for key, option in REPEATED.items():
        pairs = request[key]
        names = [name for name, _ in pairs]
        if again := next((name for name in names if names.count(name) > 1), None):
            raise click.UsageError(f"{option} {again!r}: given {names.count(again)} times; give it once")
        found[key] = dict(pairs)
    return found


def said(request: Mapping[str, Any]) -> list[str]:
    """What was said about a model, as words: `size=224`, `x=1x3x224x224`."""
    shapes = ((name, "x".join(map(str, sizes))) for name, sizes in request["shapes"])
    return [f"{name}={value}" for name, value in (*request["parameters"], *shapes, *request["values"])]
