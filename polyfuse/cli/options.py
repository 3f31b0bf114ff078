"""Options that several commands have, each defined once: the same word has the same meaning everywhere.

Help reads this module, so it imports nothing of what commands run; `polyfuse.cli.actions.request` reads the values.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import click

from polyfuse.choices import LONGEST, MOST_THREADS, STRATEGIES, Groups
from polyfuse.cli.values import FILE, PairParam, PictureParam, axes, places, shape, tile

Option = Callable[..., Any]
Command = TypeVar("Command", bound=Callable[..., Any])

PARAMETERS = click.option(
    "--set",
    "parameters",
    type=PairParam(str, "NAME=VALUE, such as size=224"),
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
        type=PairParam(shape, "NAME=SIZES, such as x=1x3x224x224", last=True),
        multiple=True,
        metavar="NAME=SIZES",
        help="Give an input of an ONNX model this shape, such as x=1x3x224x224, instead of the declared one.",
    ),
    click.option(
        "--fix",
        "values",
        type=PairParam(str, "NAME=VALUE, such as n=3 or size=480,640", last=True),
        multiple=True,
        metavar="NAME=VALUE",
        help="Fix an input of an ONNX model to a value, such as n=3 or size=480,640; it is no longer an input.",
    ),
)
"""Options of every command that reads a workload: its part, weights, parameters, sizes and values."""
WORKLOAD: tuple[Option, ...] = (click.argument("workload"), *SOURCE)
"""A workload, or a part of it."""
EXACT_ARITHMETIC = click.option(
    "--exact-arithmetic",
    "exact",
    is_flag=True,
    help="Compute every convolution without Winograd's algorithm.",
)
REPEATED = {"parameters": "--set", "shapes": "--shape", "values": "--fix"}


def number(*names: str, default: int, text: str, most: int | None = None) -> Option:
    """A whole number of at least 1."""
    kind = click.IntRange(1, most)
    return click.option(*names, type=kind, default=default, show_default=True, metavar="N", help=text)


def choice(*names: str, of: Sequence[str], text: str) -> Option:
    """One of several words, the first of them by default."""
    return click.option(*names, type=click.Choice(tuple(of)), default=of[0], show_default=True, help=text)


def threads(what: str = "independent tiles") -> Option:
    """Number of threads that run `what`."""
    return number("--threads", default=1, text=f"Run {what} on N threads.", most=MOST_THREADS)


def repeats(default: int) -> Option:
    """Number of timed rounds."""
    return number("--repeats", default=default, text="Time everything N times, in turns.")


LONGEST_GROUP = number("--longest", default=LONGEST, text="Fuse at most N layers into one group.", most=64)


def layout(choices: Sequence[str], more: str) -> Option:
    """Layout of inputs and outputs in memory; the first choice is the default."""
    return choice("--layout", of=choices, text=f"Layout of inputs and outputs: {more}.")


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
        type=PictureParam(path_type=Path),
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


ORDERS = {"rows,columns": (0, 1), "columns,rows": (1, 0)}

ROWS: tuple[Option, ...] = (
    click.option(
        "--tile",
        "tiles",
        type=tile,
        multiple=True,
        metavar="ROWS[xCOLUMNS]",
        help="Cut the last output into tiles of this size; repeat for more sizes.",
    ),
    click.option(
        "--axes",
        type=axes,
        metavar="AXIS[,AXIS]",
        help="Cut these axes, by name (n, c, h, w of images) or number, with a size of --tile for each, in this order "
        "of loops; an axis that comes twice has tiles inside of tiles, such as --tile 32x8 --axes h,h.",
    ),
    click.option(
        "--strategy",
        "names",
        type=click.Choice(STRATEGIES),
        multiple=True,
        help="Recompute, keep or store values that two tiles both need; repeat for more strategies.",
    ),
    click.option(
        "--mixed",
        type=places,
        multiple=True,
        metavar="PLACE[,PLACE]",
        help="Add a mixed strategy: a place for each size of a tile, such as local,recompute; repeatable.",
    ),
    click.option(
        "--retain",
        "retention",
        type=PairParam(places, "TENSOR=PLACE or TENSOR=PLACE,PLACE, such as conv1_out=local,recompute"),
        multiple=True,
        metavar="TENSOR=PLACE[,PLACE]",
        help="Choose the places of one tensor in mixed strategies; the others follow --mixed, else recompute.",
    ),
    click.option(
        "--placement",
        type=click.Choice(("first", "shifted")),
        show_default="both for local, shifted for mixed, first for global",
        help="Compute values that are kept in the first tile that needs them, or in tiles shifted so that each "
        "computes only what is new.",
    ),
    click.option("--order", type=click.Choice(tuple(ORDERS)), help="Order of the loops over tiles, outermost first."),
    choice("--weights", of=("once", "tile"), text="Load weights once, or again for every tile."),
)
"""Tiles, and what happens to values that two of them need."""
HOW: tuple[Option, ...] = (
    choice(
        "--groups",
        of=get_args(Groups),
        text="Fuse the groups of the planner, those of DNNFusion's published plan, or no layers at all (single).",
    ),
    threads(),
    EXACT_ARITHMETIC,
    LAYOUT,
    click.option("--untuned", is_flag=True, help="Ignore the results of polyfuse tune."),
)
"""How a network is planned for the host."""
NETWORK: tuple[Option, ...] = (
    *WORKLOAD,
    plan_file("Use the plan in this file"),
    LONGEST_GROUP,
    *HOW,
)
"""A whole network, and how it is planned."""
