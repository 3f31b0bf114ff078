"""`polyfuse compile`: a whole network in; a C library, a plan and a table out."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from polyfuse.choices import DEFAULT_FLAGS
from polyfuse.cli.actions.request import given_plan, origin_asked, settings_of, source_asked, tell_threads
from polyfuse.cli.actions.scratchpad import compile_scratch
from polyfuse.codegen.build import Options
from polyfuse.codegen.compiler import find_compiler, flags_in
from polyfuse.deploy.files import library_files
from polyfuse.deploy.memory import footprint, least_layer_by_layer
from polyfuse.deploy.model import plan_of, program_of
from polyfuse.deploy.plan import lowered_plan
from polyfuse.files import make_folder, write_atomically
from polyfuse.plan.scratchplan import ScratchPlan
from polyfuse.report.deploy import print_compiled
from polyfuse.report.progress import ProgressBar


def act(folder: Path, prefix: str | None, embed: bool, cc: str | None, cflags: str | None, **request: Any) -> None:
    """Compile a WORKLOAD to a C library: .c, .h, .weights, plan.json and a shared library."""
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
        apart = lowered_plan(network, made.unfused(network), settings.target)
        fused, unfused = (footprint(each, settings.threads_of(each)) for each in (code, apart))
    sizes = {str(folder / name): len(data) for name, data in files.items()}
    print_compiled(Console(), made, fused, unfused, least_layer_by_layer(code.network), sizes)
    tell_threads(code, settings)
