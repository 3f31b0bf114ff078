"""`polyfuse compile`, `run` and `verify`: whole networks; options in, files, arrays and tables out."""

import io
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console

from polyfuse.cli_model import MODEL_OPTIONS, model_asked, with_options
from polyfuse.cli_scratchpad import compile_scratch, is_scratch_plan
from polyfuse.cli_types import FILE
from polyfuse.cli_unused import Checked
from polyfuse.codegen.build import DEFAULT_FLAGS
from polyfuse.codegen.compiler import find_compiler, flags_in
from polyfuse.codegen.kernel import Options
from polyfuse.codegen.leaves import Interface
from polyfuse.codegen.program import Program
from polyfuse.deploy.files import library_files
from polyfuse.deploy.grouping import LONGEST
from polyfuse.deploy.memory import footprint, least_layer_by_layer
from polyfuse.deploy.model import Settings, load, plan_of, program_of
from polyfuse.deploy.plan import Plan, read_plan
from polyfuse.deploy.source import Source, read_source
from polyfuse.deploy.verify import model_inputs, verify
from polyfuse.errors import InvalidInput, PolyfuseError
from polyfuse.files import check_writable, make_folder, write_atomically
from polyfuse.network.arrays import read_array
from polyfuse.network.signature import shown
from polyfuse.report.deploy import print_compiled, print_verified
from polyfuse.report.progress import ProgressBar

MODEL = (
    click.argument("model"),
    *MODEL_OPTIONS,
    click.option("--plan", "plan_file", type=FILE, metavar="FILE", help="Compile this plan instead of making one."),
    click.option("--no-fuse", is_flag=True, help="Every layer a group of its own."),
    click.option(
        "--longest",
        type=click.IntRange(1, 64),
        default=LONGEST,
        show_default=True,
        help="The most layers of one group.",
    ),
    click.option(
        "--threads", type=click.IntRange(1, 1024), default=1, show_default=True, help="Where tiles can share."
    ),
    click.option("--exact-arithmetic", "exact", is_flag=True, help="No Winograd."),
    click.option(
        "--layout",
        type=click.Choice(("nchw", "blocked")),
        default="nchw",
        show_default=True,
        help="Of inputs and outputs: channels in the order of the network, or in blocks of a vector.",
    ),
)


def model_options(command: Callable[..., None]) -> Callable[..., None]:
    """The model and how it is planned, as arguments of a command."""
    return with_options(command, MODEL)


def settings_of(request: Mapping[str, Any]) -> Settings:
    """What the options say, with a compiler."""
    interface: Interface = request["layout"]
    return Settings(
        fuse=not request["no_fuse"],
        longest=request["longest"],
        exact=request["exact"],
        interface=interface,
        threads=request["threads"],
        options=Options(),
    ).ready


def source_asked(request: Mapping[str, Any]) -> Source:
    """The model that was asked for."""
    return read_source(request["model"], **model_asked(request))


def given_plan(request: Mapping[str, Any]) -> Plan | None:
    """The plan in the file that was named."""
    return read_plan(request["plan_file"]) if request["plan_file"] is not None else None


@click.command(name="compile", cls=Checked)
@model_options
@click.option("-o", "--output", "folder", type=FILE, default=Path("build"), show_default=True, metavar="DIR")
@click.option("--prefix", metavar="NAME", help="What C names and files begin with. Default: the model's name.")
@click.option("--embed", is_flag=True, help="Weights as C too, for targets without files.")
@click.option("--cc", metavar="COMPILER", help="The gcc or clang to write the C for and build it with.  [default: $CC]")
@click.option(
    "--cflags",
    metavar="FLAGS",
    help=f"Its flags, such as '-O2 -march=x86-64-v3'.  [default: {' '.join(DEFAULT_FLAGS)}]",
)
def compile_command(
    folder: Path, prefix: str | None, embed: bool, cc: str | None, cflags: str | None, **request: Any
) -> None:
    """Compile a MODEL, an .onnx or kernel file, to one C library: .c, .h, .weights, plan.json and a shared library.

    With a --plan of polyfuse plan it is C for a scratchpad machine, which runs once on a simulator of that machine.
    """
    if request["plan_file"] is not None and is_scratch_plan(request["plan_file"]):
        compile_scratch(folder, prefix, request)
        return
    options = Options(find_compiler(cc), flags_in(cflags) if cflags is not None else DEFAULT_FLAGS)
    make_folder(folder)
    plan, settings = given_plan(request), replace(settings_of(request), options=options)
    network = source_asked(request).network
    with ProgressBar() as progress:
        made = plan or plan_of(network, settings, progress)
        code = program_of(network, made, settings, progress)
        files = library_files(code, made, settings, prefix=prefix, embed=embed, progress=progress)
        for name, data in files.items():
            write_atomically(folder / name, data)
        progress("counting", 0, 1)
        alike = replace(settings, fuse=False, interface=made.interface, exact=made.arithmetic == "exact")
        apart = program_of(network, plan_of(network, alike), settings)
        fused, unfused = (footprint(each, settings.threads_of(each)) for each in (code, apart))
    sizes = {str(folder / name): len(data) for name, data in files.items()}
    print_compiled(Console(), made, fused, unfused, least_layer_by_layer(code.network), sizes)
    tell_threads(code, settings)


@click.command(name="run", cls=Checked)
@model_options
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="[NAME=]FILE.npy",
    help="An input; again for more. Without any, seeded random values.",
)
@click.option("-o", "--output", "path", type=FILE, metavar="FILE", help="Write one output as .npy, or all as .npz.")
def run_command(inputs: tuple[str, ...], path: Path | None, **request: Any) -> None:
    """Run a MODEL on arrays in .npy files."""
    if path is not None:
        if path.suffix not in (".npy", ".npz"):
            raise InvalidInput(f"--output {str(path)!r}: expected a name that ends in .npy or .npz")
        check_writable(path)
    plan, settings = given_plan(request), settings_of(request)
    source = source_asked(request)
    arrays = given_arrays(source, inputs)
    with ProgressBar() as progress:
        model = load(source, plan=plan, settings=settings, progress=progress)
    tell_threads(model.program, settings)
    found = model.run(**arrays)
    for name, array in found.items():
        click.echo(f"{shown(name)}: {list(array.shape)}, {summary(array)}")
    if path is not None:
        write_atomically(path, saved(found, path))


def summary(array: np.ndarray) -> str:
    """The range of an array and its mean; its type where that is not float32, or it has no numbers."""
    kind = "" if array.dtype == np.float32 else f"{array.dtype}, "
    if array.dtype.kind not in "fiub" or not array.size:
        return f"{kind}{array.size} elements"
    low, high, mean = (float(number) for number in (array.min(), array.max(), array.mean()))
    return f"{kind}{low:.6g} to {high:.6g}, mean {mean:.6g}"


def tell_threads(code: Program, settings: Settings) -> None:
    """Say where the threads that were asked for have nothing to share."""
    if settings.threads > 1 and not code.is_parallel:
        click.echo(f"runs on 1 thread, not {settings.threads}: no group has tiles that are independent of each other")


def given_arrays(source: Source, inputs: tuple[str, ...]) -> dict[str, np.ndarray]:
    """The arrays in files, by input of the model; random ones where no file is named.

    Errors: InvalidInput for names that are no input's, and files that are no arrays.
    """
    ends = source.network.ends
    if not inputs:
        return dict(zip(ends.input_names, model_inputs(source.network, seed=0), strict=True))
    names = ends.input_names
    found: dict[str, np.ndarray] = {}
    positions = iter(names)
    for text in inputs:
        known = max((name for name in names if text.startswith(f"{name}=")), key=len, default=None)
        in_order = known is None and ("=" not in text or Path(text).exists())
        name = next(positions, None) if in_order else known
        file = text if known is None else text.removeprefix(f"{known}=")
        if name is None or name in found:
            raise InvalidInput(
                f"--input {text!r}: expected one file for each of {', '.join(map(shown, names))}, as NAME=FILE.npy"
            )
        found[name] = read_array(Path(file))
    return found


def saved(arrays: Mapping[str, np.ndarray], path: Path) -> bytes:
    """The arrays as a .npy or .npz file. Errors: InvalidInput for several arrays in a .npy file."""
    buffer = io.BytesIO()
    if path.suffix == ".npz":
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, array in arrays.items():
                with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w") as file:
                    np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=False)
    elif len(arrays) == 1:
        np.save(buffer, next(iter(arrays.values())))
    else:
        raise InvalidInput(f"--output {str(path)!r}: there are {len(arrays)} outputs; name a .npz file")
    return buffer.getvalue()


@click.command(name="verify", cls=Checked)
@model_options
@click.option("--seed", type=int, default=0, show_default=True, help="Of the random inputs.")
def verify_command(seed: int, **request: Any) -> None:
    """Compare every group's output of a MODEL with onnxruntime, on seeded random inputs."""
    plan, settings = given_plan(request), settings_of(request)
    source = source_asked(request)
    with ProgressBar() as progress:
        made = plan or plan_of(source.network, settings, progress)
        found = verify(source, made, settings, seed=seed, progress=progress)
    print_verified(Console(), found)
    if found.failed:
        raise PolyfuseError(f"{found.network}: {found.why(found.worst)}")
