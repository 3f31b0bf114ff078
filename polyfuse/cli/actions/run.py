"""`polyfuse run`: a whole network and arrays in; arrays and their ranges out."""

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np

from polyfuse.cli.actions.request import given_plan, settings_of, source_asked, tell_threads
from polyfuse.cli.actions.scratchpad import simulate
from polyfuse.deploy.model import load
from polyfuse.deploy.source import Source
from polyfuse.deploy.verify import model_inputs
from polyfuse.errors import InvalidInput
from polyfuse.files import check_writable, write_atomically
from polyfuse.network.arrays import read_array
from polyfuse.network.signature import shown
from polyfuse.plan.scratchplan import ScratchPlan
from polyfuse.report.progress import ProgressBar


def act(inputs: tuple[str, ...], path: Path | None, **request: Any) -> None:
    """Run a WORKLOAD on arrays in .npy files, and print the range of each output."""
    if path is not None:
        if path.suffix not in (".npy", ".npz"):
            raise InvalidInput(f"--output {str(path)!r}: expected a name that ends in .npy or .npz")
        check_writable(path)
    plan, settings = given_plan(request), settings_of(request)
    source = source_asked(request)
    arrays = given_arrays(source, inputs)
    if isinstance(plan, ScratchPlan):
        found = simulate(plan, source.network, arrays)
    else:
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
