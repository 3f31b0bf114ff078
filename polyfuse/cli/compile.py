"""`polyfuse compile`: a whole network in; a C library, a plan and a table out."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from polyfuse.cli.options import output, with_options
from polyfuse.cli.scratchpad import compile_scratch
from polyfuse.cli.settings import NETWORK, given_plan, origin_asked, settings_of, source_asked, tell_threads
from polyfuse.cli.unused import Checked
from polyfuse.codegen.build import DEFAULT_FLAGS, Options
from polyfuse.codegen.compiler import find_compiler, flags_in
from polyfuse.deploy.files import library_files
from polyfuse.deploy.memory import footprint, least_layer_by_layer
from polyfuse.deploy.model import plan_of, program_of
from polyfuse.files import make_folder, write_atomically
from polyfuse.plan.scratchplan import ScratchPlan
from polyfuse.report.deploy import print_compiled
from polyfuse.report.progress import ProgressBar


@click.command("compile", cls=Checked)
@with_options(*NETWORK)
@output("folder", "DIR", "Write all files to this folder.", default=Path("build"), show_default=True)
@click.option(
    "--prefix",
    metavar="NAME",
    show_default="the name of the workload",
    help="Begin the names of files, functions and types with this.",
)
@click.option("--embed", is_flag=True, help="Write the weights as C too, for targets without files.")
@click.option(
    "--cc", metavar="COMPILER", show_default="$CC", help="Write the C for this gcc or clang, and build it with it."
)
@click.option(
    "--cflags",
    metavar="FLAGS",
    show_default=" ".join(DEFAULT_FLAGS),
    help="Compile with these flags, such as '-O2 -march=x86-64-v3'.",
)
def command(folder: Path, prefix: str | None, embed: bool, cc: str | None, cflags: str | None, **request: Any) -> None:
    """Compile a WORKLOAD to a C library: .c, .h, .weights, plan.json and a shared library.

    With a --plan made by `polyfuse plan`, write C for its scratchpad machine, and run it once on a simulator.
    """
    plan = given_plan(request)
    if isinstance(plan, ScratchPlan):
        compile_scratch(plan, folder, prefix, request)
        return
    options = Options(find_compiler(cc), flags_in(cflags) if cflags is not None else DEFAULT_FLAGS)
    make_folder(folder)
    settings = replace(settings_of(request), options=options)
    network = source_asked(request).network
    with ProgressBar() as progress:
        made = plan or replace(plan_of(network, settings, progress), origin=origin_asked(request))
        code = program_of(network, made, settings, progress)
        files = library_files(code, made, settings, prefix=prefix, embed=embed, progress=progress)
        for name, data in files.items():
            write_atomically(folder / name, data)
        progress("counting", 0, 1)
        alike = replace(settings, groups="single", interface=made.interface, exact=made.arithmetic == "exact")
        apart = program_of(network, plan_of(network, alike), settings)
        fused, unfused = (footprint(each, settings.threads_of(each)) for each in (code, apart))
    sizes = {str(folder / name): len(data) for name, data in files.items()}
    print_compiled(Console(), made, fused, unfused, least_layer_by_layer(code.network), sizes)
    tell_threads(code, settings)
