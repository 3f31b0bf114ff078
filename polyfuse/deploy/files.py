"""The files of a compiled network.

Program + Plan ──library_files()──> {file name: bytes}: NAME.c, NAME.h, NAME.weights, libNAME.so, plan.json
"""

from dataclasses import replace

from polyfuse.codegen.build import compile_shared
from polyfuse.codegen.program import Program
from polyfuse.deploy.library import library
from polyfuse.deploy.plan import Plan
from polyfuse.deploy.settings import Settings
from polyfuse.network.tensor import checked_name
from polyfuse.progress import Progress


def library_files(
    program: Program,
    plan: Plan,
    settings: Settings,
    *,
    prefix: str | None = None,
    embed: bool = False,
    progress: Progress | None = None,
) -> dict[str, bytes]:
    """The files by name; `embed` adds the weights as C. Everything is made before anything is returned.

    Errors: InvalidInput for a prefix that is no name; BuildError.
    """
    name = checked_name(prefix) if prefix is not None else program.network.name
    threads = settings.threads_of(program)
    renamed = replace(program, network=replace(program.network, name=name))
    made = library(renamed, threads=threads)
    if progress is not None:
        progress("compiling", 0, 1)
    built = compile_shared(made.source, settings.options.for_threads(threads))
    files = {
        f"{name}.c": made.source.encode(),
        f"{name}.h": made.header.encode(),
        f"{name}.weights": made.weights,
        "plan.json": plan.to_json().encode(),
        f"lib{name}.so": built.library.read_bytes(),
    }
    return files | ({f"{name}_weights.c": made.embedded.encode()} if embed else {})
