"""Networks from files: a kernel file or the name of one in ./kernels, an ONNX model, which is rewritten, or a SCoP.

The path or name that a user types enters; a `Network` leaves. A kernel file is Python and is executed: use only files
you trust.
"""

import difflib
import inspect
import runpy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from numpy.typing import ArrayLike

from polyfuse.errors import InvalidInput, PolyfuseError
from polyfuse.network.network import Network
from polyfuse.network.onnx.fixing import Fixed
from polyfuse.network.onnx.load import Imported, imported
from polyfuse.network.scop.load import load_scop
from polyfuse.rewrite.rewriting import rewrite

KERNELS = Path("kernels")


@dataclass(frozen=True, eq=False)
class Workload:
    """A workload as a user names it.

    path            a .py, .onnx or .jscop file, or the bare name of a file in ./kernels
    first, last     the layers, or nodes of a model, at the ends of a part; None where it is not cut
    parameters      of a kernel file's `network`, of a SCoP, or sizes of a model's named dimensions
    random_weights  a seed for the weights of a model; None keeps its own
    shapes, values  of inputs of a model, by name; an input with a value is no input any more
    """

    path: str
    first: str | None = None
    last: str | None = None
    parameters: Mapping[str, int | str] | None = None
    random_weights: int | None = None
    shapes: Mapping[str, Sequence[int]] | None = None
    values: Mapping[str, ArrayLike] | None = None

    @property
    def is_whole_model(self) -> bool:
        """Whether it is an ONNX model, and not a part of one."""
        return self.path.endswith(".onnx") and Path(self.path).is_file() and self.first is None and self.last is None

    def imported(self) -> Imported:
        """The ONNX model, or the part of it, as a network. Errors: as `imported`."""
        fixed = Fixed.of(self.shapes, self.parameters, self.values)
        ends = {"first": self.first, "last": self.last}
        return imported(self.path, **ends, random_weights=self.random_weights, fixed=fixed)

    def network(self, rewritten: bool = True) -> Network:
        """The network; that of an ONNX model is rewritten unless `rewritten` is False.

        Errors: InvalidInput for files, names and parameters that are not usable, and those of `imported`.
        """
        path = _found(self.path)
        if path.suffix == ".onnx":
            network = self.imported().network
            return rewrite(network).network if rewritten else network
        if self.shapes or self.values:
            raise InvalidInput(
                f"workload {self.path!r}: shapes and values of inputs are for ONNX models; a kernel file has parameters"
            )
        if self.random_weights is not None:
            raise InvalidInput(
                f"workload {self.path!r}: random weights are for ONNX models; set the seed in the kernel file"
            )
        texts = {name: str(value) for name, value in (self.parameters or {}).items()}
        network = load_scop(path, texts).network if path.suffix == ".jscop" else _built(path, texts)
        return network if self.first is None and self.last is None else network.between(self.first, self.last)


def load_workload(
    path_or_name: str,
    *,
    first: str | None = None,
    last: str | None = None,
    parameters: Mapping[str, int | str] | None = None,
    random_weights: int | None = None,
    rewritten: bool = True,
    shapes: Mapping[str, Sequence[int]] | None = None,
    values: Mapping[str, ArrayLike] | None = None,
) -> Network:
    """The network of a .py file, of a bare name in ./kernels, of an .onnx file, or of a .jscop file.

    `parameters` are those of the kernel file's `network`, as text: whole numbers, numbers, or strings; for a .jscop
    file, those of `load_scop`; for an .onnx file, sizes of its named dimensions. `first` and `last` name the ends of a
    part; `random_weights` is a seed for the weights of an ONNX model, which is rewritten unless `rewritten` says
    otherwise. Inputs of a model get sizes by `shapes`; those that have one of `values` are no inputs any more.

    Errors: InvalidInput for files, names and parameters that are not usable, and what load_onnx raises.
    """
    workload = Workload(path_or_name, first, last, parameters, random_weights, shapes, values)
    return workload.network(rewritten)


def load_onnx(
    path: str | Path,
    *,
    first: str | None = None,
    last: str | None = None,
    random_weights: int | None = None,
    rewritten: bool = True,
    shapes: Mapping[str, Sequence[int]] | None = None,
    dimensions: Mapping[str, int | str] | None = None,
    values: Mapping[str, ArrayLike] | None = None,
) -> Network:
    """The network of a model, or of a part of it, as `imported`, and then rewritten.

    Inputs get sizes by `shapes`, such as {"x": (1, 3, 480, 640)}, or by `dimensions`, such as {"batch": 1}; those that
    have a value, such as {"n": 3}, are no inputs any more.

    Errors: InvalidInput for files, names and shapes that are not usable, UnsupportedOperator for what is not known.
    """
    network = Workload(str(path), first, last, dimensions, random_weights, shapes, values).imported().network
    return rewrite(network).network if rewritten else network


def _found(name: str) -> Path:
    """The file that a path or a bare name means."""
    path = Path(name)
    if path.suffix in (".py", ".onnx", ".jscop"):
        if not path.is_file():
            raise InvalidInput(
                f"workload {name!r}: no such file; expected a .py, .onnx or .jscop file or a name in {KERNELS}/"
            )
        return path
    kernel = KERNELS / f"{name}.py"
    if path.name == name and kernel.is_file():
        return kernel
    known = sorted(each.stem for each in KERNELS.glob("*.py"))
    close = difflib.get_close_matches(name, known, n=3) or known
    hint = f"did you mean {', '.join(close)}?" if close else f"there is no {KERNELS}/ here; give the path of a file"
    raise InvalidInput(f"workload {name!r}: neither a .py file, an .onnx file nor a kernel in {KERNELS}/; {hint}")


def _built(path: Path, parameters: Mapping[str, str]) -> Network:
    """The network that `network` of a kernel file returns."""
    where = f"workload {str(path)!r}"
    try:
        function = runpy.run_path(str(path)).get("network")
        if not callable(function):
            raise InvalidInput(f"{where}: defines no network(); add `def network(): ...` that returns a Network")
        network = function(**_arguments(where, function, parameters))
    except PolyfuseError:
        raise
    except (Exception, SystemExit) as error:
        raise InvalidInput(f"{where}: {_in_one_line(error, path)}; correct the kernel file or its parameters") from None
    if not isinstance(network, Network):
        raise InvalidInput(
            f"{where}: network() returned {type(network).__name__}, expected a Network; end it with "
            "`return build.network(...)`"
        )
    return network


def _in_one_line(error: BaseException, path: Path) -> str:
    """An exception in one line, with the line of the kernel file that raised it."""
    line = error.lineno if isinstance(error, SyntaxError) else None
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = trace.tb_lineno
        trace = trace.tb_next
    where = "" if line is None else f" in line {line}"
    return f"{type(error).__name__}{where}: {' '.join(str(error).split())}"


def _arguments(where: str, function: Callable[..., object], parameters: Mapping[str, str]) -> dict[str, object]:
    """The parameters as values, for names that the function has."""
    known = inspect.signature(function).parameters
    open_ended = any(each.kind is each.VAR_KEYWORD for each in known.values())
    for name in parameters:
        if name not in known and not open_ended:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"it has {', '.join(known) or 'none'}"
            raise InvalidInput(f"{where}: network() has no parameter {name!r}; {hint}")
    needed = [
        n for n, p in known.items() if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    ]
    if missing := [name for name in needed if name not in parameters]:
        raise InvalidInput(f"{where}: network() needs a value for {', '.join(missing)}")
    return {name: _parsed(text) for name, text in parameters.items()}


def _parsed(text: str) -> int | float | str:
    """A whole number, a number, or the text itself."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
