"""Options that several commands have, each defined once: the same word has the same meaning everywhere.

Parsed options enter; arguments of `load_workload`, `read_source` and `workload_of` leave.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from polyfuse.cli.values import FILE, Last, Pair, Picture, Shape
from polyfuse.loading import load_workload
from polyfuse.network.network import Network

Option = Callable[..., Any]
Command = TypeVar("Command", bound=Callable[..., Any])

PARAMETERS = click.option(
    "--set",
    "parameters",
    type=Pair(click.STRING, "NAME=VALUE, such as size=224"),
    multiple=True,
    metavar="NAME=VALUE",
    help="Set a parameter of a kernel file, such as size=224, or a named dimension of a model, such as batch=1.",
)
SOURCE: tuple[Option, ...] = (
    click.option("--from", "first", metavar="NAME", help="Start at this layer, or at this node of an ONNX model."),
    click.option("--to", "last", metavar="NAME", help="Stop after this layer, or after this node of an ONNX model."),
    click.option(
        "--random-weights",
        type=int,
        metavar="SEED",
        help="Replace the weights of an ONNX model by random ones of this seed.",
    ),
    PARAMETERS,
    click.option(
        "--shape",
        "shapes",
        type=Last(Shape(), "NAME=SIZES, such as x=1x3x224x224"),
        multiple=True,
        metavar="NAME=SIZES",
        help="Give an input of an ONNX model this shape, such as x=1x3x224x224, instead of the declared one.",
    ),
    click.option(
        "--fix",
        "values",
        type=Last(click.STRING, "NAME=VALUE, such as n=3 or size=480,640"),
        multiple=True,
        metavar="NAME=VALUE",
        help="Fix an input of an ONNX model to a value, such as n=3 or size=480,640; it is no longer an input.",
    ),
)
"""What is said about a workload in every command that reads one: its part, weights, parameters, sizes and values."""
WORKLOAD: tuple[Option, ...] = (click.argument("workload"), *SOURCE)
"""A workload, or a part of it."""
EXACT_ARITHMETIC = click.option(
    "--exact-arithmetic", "exact", is_flag=True, help="Compute sums of products as they are written: no Winograd."
)
REPEATED = {"parameters": "--set", "shapes": "--shape", "values": "--fix"}


def threads(what: str = "independent tiles") -> Option:
    """Number of threads that run `what`."""
    return click.option(
        "--threads",
        type=click.IntRange(1, 1024),
        default=1,
        show_default=True,
        metavar="N",
        help=f"Run {what} on N threads.",
    )


def repeats(default: int) -> Option:
    """Number of timed rounds."""
    return click.option(
        "--repeats",
        type=click.IntRange(1),
        default=default,
        show_default=True,
        metavar="N",
        help="Time everything N times, in turns.",
    )


def longest(default: int) -> Option:
    """Largest number of layers in a group."""
    return click.option(
        "--longest",
        type=click.IntRange(1, 64),
        default=default,
        show_default=True,
        metavar="N",
        help="Fuse at most N layers into one group.",
    )


def layout(choices: Sequence[str], more: str) -> Option:
    """Layout of inputs and outputs in memory; the first choice is the default."""
    return click.option(
        "--layout",
        type=click.Choice(tuple(choices)),
        default=choices[0],
        show_default=True,
        help=f"Layout of inputs and outputs: {more}.",
    )


BLOCKED = "channels in the network's order (nchw), or in blocks as wide as a vector (blocked)"
LAYOUT = layout(("nchw", "blocked"), BLOCKED)


def json_file(what: str) -> Option:
    """A JSON file for results."""
    return click.option("--json", "json_file", type=FILE, metavar="FILE", help=f"Write {what} to this file, as JSON.")


def picture(what: str) -> Option:
    """A file for a picture."""
    return click.option(
        "--plot",
        "picture",
        type=Picture(path_type=Path),
        metavar="FILE.png|.svg",
        help=f"Draw {what}, and write the picture.",
    )


def output(name: str, metavar: str, what: str, **more: Any) -> Option:
    """An output file or folder."""
    return click.option("-o", "--output", name, type=FILE, metavar=metavar, help=what, **more)


def plan_file(what: str) -> Option:
    """An existing plan."""
    return click.option("--plan", "plan_file", type=FILE, metavar="FILE", help=f"{what} instead of making a plan.")


def with_options(*options: Option) -> Callable[[Command], Command]:
    """A decorator that adds options to a command, in this order."""

    def decorated(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorated


def source_options(request: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a workload as arguments of `load_workload`, `read_source` and `workload_of`.

    Errors: click.UsageError where one name is given twice.
    """
    found = {name: request[name] for name in ("first", "last", "random_weights")}
    for key, option in REPEATED.items():
        pairs = request[key]
        names = [name for name, _ in pairs]
        if again := next((name for name in names if names.count(name) > 1), None):
            raise click.UsageError(f"{option} {again!r}: given {names.count(again)} times; give it once")
        found[key] = dict(pairs)
    return found


def network_asked(request: Mapping[str, Any], rewritten: bool = True) -> Network:
    """The network of a request's workload; an ONNX model is rewritten unless `rewritten` is False."""
    return load_workload(request["workload"], rewritten=rewritten, **source_options(request))


def said(request: Mapping[str, Any]) -> list[str]:
    """Parameters, shapes and values of a request as words: `size=224`, `x=1x3x224x224`."""
    shapes = ((name, "x".join(map(str, sizes))) for name, sizes in request["shapes"])
    return [f"{name}={value}" for name, value in (*request["parameters"], *shapes, *request["values"])]
