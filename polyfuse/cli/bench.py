"""Options of `polyfuse bench`."""

import click

from polyfuse.choices import CONFIGURATIONS, RACE_LAYOUTS, SEARCH_SECONDS
from polyfuse.cli.options import EXACT_ARITHMETIC, SOURCE, json_file, layout, picture, repeats, threads, with_options
from polyfuse.cli.unused import StrictCommand
from polyfuse.cli.values import FILE


@click.command("bench", cls=StrictCommand)
@click.argument("workloads", nargs=-1, required=True, metavar="WORKLOAD...")
@with_options(*SOURCE)
@click.option(
    "--peers",
    default="all",
    show_default=True,
    metavar="all|none|LIST",
    help="Race these tools, with commas between their names.",
)
@click.option(
    "--strategy",
    "strategies",
    type=click.Choice(CONFIGURATIONS),
    multiple=True,
    default=CONFIGURATIONS[:1],
    show_default=True,
    help="Run polyfuse in this way; repeat for more.",
)
@EXACT_ARITHMETIC
@threads("every contender")
@layout(RACE_LAYOUTS, "what each contender prefers, or nchw for all")
@repeats(11)
@click.option(
    "--search-seconds",
    type=click.FloatRange(0, 86_400),
    default=SEARCH_SECONDS,
    show_default=True,
    metavar="S",
    help="Let Halide search schedules for S seconds for each workload.",
)
@click.option(
    "--machine",
    "machine_file",
    type=FILE,
    metavar="FILE.toml",
    show_default="the user's, else measured",
    help="Take peak rate and bandwidths from this machine file.",
)
@json_file("the rows")
@picture("a roofline")
def command() -> None:
    """Race polyfuse on WORKLOADs against those of onnxruntime, OpenVINO, torch, ncnn and Halide that are installed.

    Every tool runs in its own process on the same cores, in turns, in single precision; every result is checked
    against a float64 reference. Tools that are missing or fail are listed with the reason, and not counted as slower.
    """
