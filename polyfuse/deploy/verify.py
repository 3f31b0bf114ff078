"""Every group's output, and all that a model gives by each way to call it, compared with onnxruntime.

    Network + Plan ──verify()──> Verified: an error for each tensor that a group leaves in memory, and for each output

onnxruntime runs the model itself where the network was imported from one, with the tensors between groups as further
outputs; a network that polyfuse built is exported first. It is given seeded random inputs in the order in which it has
them itself. Where it disagrees, both are compared with float64 arithmetic.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx

from polyfuse.codegen.kernel import build
from polyfuse.deploy.ccall import call_library
from polyfuse.deploy.judging import exact_values
from polyfuse.deploy.model import load, program_of
from polyfuse.deploy.plan import Plan
from polyfuse.deploy.settings import Settings
from polyfuse.deploy.source import Source
from polyfuse.errors import InvalidInput
from polyfuse.network.dtypes import Values
from polyfuse.network.network import Network
from polyfuse.network.onnx.export import onnx_model
from polyfuse.network.reference import max_relative_error, random_inputs
from polyfuse.network.signature import Input, shown
from polyfuse.network.tensor import Tensor
from polyfuse.progress import Progress

MOST_ERROR = 1e-4
"""The largest relative error that is taken for rounding, Winograd's aside."""


@dataclass(frozen=True)
class Judged:
    """How far both are from float64 arithmetic, relative to the largest element."""

    polyfuse: float
    onnxruntime: float


@dataclass(frozen=True)
class CheckedTensor:
    """A tensor, by its name in the model, and its largest difference to onnxruntime's, relative to its largest element.

    group    the group that leaves it in memory; None for an output of the model that was called as a whole
    way      how that was called: `C`, `by position` or `by name`
    judged   of a tensor that differs: who is off; None where nothing could judge, or nothing had to
    """

    group: int | None
    tensor: str
    error: float
    way: str = ""
    judged: Judged | None = None


@dataclass(frozen=True)
class Verified:
    """Every tensor that was checked; `error_bound` is what Winograd's algorithm may add.

    checked   what groups leave in memory; called: the outputs of the model by each way to call it
    """

    network: str
    checked: tuple[CheckedTensor, ...]
    error_bound: float
    called: tuple[CheckedTensor, ...] = ()

    @property
    def most_error(self) -> float:
        """The largest relative error that is taken for rounding."""
        return MOST_ERROR + self.error_bound

    @property
    def worst(self) -> CheckedTensor:
        """The tensor with the largest error, and of these one that fails."""
        return max((*self.checked, *self.called), key=lambda each: (self.fails(each), each.error))

    @property
    def failed(self) -> tuple[CheckedTensor, ...]:
        """The tensors that are wrong."""
        return tuple(each for each in (*self.checked, *self.called) if self.fails(each))

    def fails(self, each: CheckedTensor) -> bool:
        """Whether a tensor is neither what onnxruntime has nor what float64 arithmetic gives."""
        exact = each.judged is not None and each.judged.polyfuse <= self.most_error
        return not (each.error <= self.most_error or exact)

    def why(self, each: CheckedTensor) -> str:
        """What is to be said of a tensor that differs: by how much, and who is off."""
        called = f"{shown(each.tensor)}{f', called {each.way},' if each.way else ''}"
        differs = f"{called} differs from onnxruntime by {each.error:.2g} relative, more than {self.most_error:.2g}"
        if each.judged is None:
            return f"{differs}, and float64 arithmetic could not decide between them"
        ours, theirs = each.judged.polyfuse, each.judged.onnxruntime
        off = "polyfuse is off" if self.fails(each) else "onnxruntime is off"
        return f"{differs}; compared with float64 arithmetic polyfuse has {ours:.2g}, onnxruntime {theirs:.2g}: {off}"


@dataclass(frozen=True, eq=False)
class _Compared:
    """What polyfuse and onnxruntime have for a tensor."""

    checked: CheckedTensor
    ours: Values
    theirs: Values


def verify(
    source: Source, plan: Plan, settings: Settings, *, seed: int = 0, progress: Progress | None = None
) -> Verified:
    """Run a planned network and onnxruntime on the same inputs; tensors that the model does not have are left out.

    Errors: InvalidInput where onnxruntime is not installed or refuses the model; BuildError.
    """
    network, names = source.network, source.names
    if source.mixed:
        raise InvalidInput(
            f"verify: functions of {network.name!r} use operators of other versions than the model, which onnxruntime "
            "does not run; convert the model to one operator set"
        )
    stored = stored_tensors(network, plan)
    whole = replace(network, outputs=tuple(stored), signature=None)
    code = program_of(whole, replace(plan, inputs=(), outputs=()), settings, progress)
    kernel = build(code, options=settings.options)
    inputs, arrays = random_inputs(network, seed), model_inputs(network, seed)
    found = kernel(**inputs)
    wanted = [tensor for tensor in stored if tensor.name in names]
    if progress is not None:
        progress("onnxruntime", 0, 1)
    model = source.model or onnx_model(network)
    results, between = by_onnxruntime(model, arrays, [names[tensor.name] for tensor in wanted])
    compared = [
        _compared(stored[tensor], names[tensor.name], "", found[tensor.name], between[names[tensor.name]])
        for tensor in wanted
    ]
    called = _by_each_way(source, plan, settings, arrays, results)
    most = MOST_ERROR + code.error_bound
    off = {each.checked.tensor for each in (*compared, *called) if not each.checked.error <= most}
    exact = exact_values(source, model, inputs, arrays, sorted(off)) if off else {}
    checked, outputs = (tuple(_judged(each, exact, most) for each in part) for part in (compared, called))
    return Verified(network.name, checked, code.error_bound, outputs)


def stored_tensors(network: Network, plan: Plan) -> dict[Tensor, int]:
    """What groups leave in memory, and the group that does."""
    found: dict[Tensor, int] = {}
    for index, group in enumerate(plan.groups):
        found |= dict.fromkeys(network.select(group.layers).outputs, index)
    return found


def model_inputs(network: Network, seed: int) -> list[Values]:
    """Seeded values for every input of the model, in its order: those of `random_inputs` for what is read."""
    inputs = random_inputs(network, seed)
    return [_given(each, network, inputs, seed) for each in network.ends.inputs]


def _given(each: Input, network: Network, inputs: Mapping[str, Values], seed: int) -> Values:
    """The array of an input; where nothing reads it, some values of its type, one along each axis of unknown size."""
    if each.tensor is not None:
        value = inputs[network.inputs[each.tensor].name]
        return value.reshape(()) if each.scalar else value
    shape = tuple(1 if size is None else size for size in each.shape or ())
    generator = np.random.default_rng(seed)
    return np.asarray(generator.integers(0, 2, shape)).astype(each.dtype or "float32")


def _by_each_way(
    source: Source, plan: Plan, settings: Settings, arrays: Sequence[Values], results: Sequence[Values]
) -> list[_Compared]:
    """The outputs of the model by every way to call it, compared with onnxruntime's."""
    model = load(source, plan=plan, settings=Settings(threads=settings.threads, options=settings.options))
    by_position = model.run(*arrays)
    by_name = model.run(**dict(zip(model.inputs, arrays, strict=True)))
    made = call_library(model.program, arrays, model.kernel.threads, settings.options)
    found = [("C", name, value) for name, value in zip(model.outputs, made, strict=True)]
    found += [("by position", name, by_position[name]) for name in model.outputs]
    found += [("by name", name, by_name[name]) for name in model.outputs]
    expected = [*results] * (len(found) // max(1, len(results)))
    return [_compared(None, name, way, ours, theirs) for (way, name, ours), theirs in zip(found, expected, strict=True)]


def _compared(group: int | None, name: str, way: str, ours: Values, theirs: Values) -> _Compared:
    shaped = ours.reshape(theirs.shape) if ours.size == theirs.size else ours
    return _Compared(CheckedTensor(group, name, max_relative_error(shaped, theirs), way), shaped, theirs)


def _judged(each: _Compared, exact: Mapping[str, Values], most: float) -> CheckedTensor:
    """What was compared, with what float64 arithmetic says of it where they differ."""
    value = exact.get(each.checked.tensor)
    if each.checked.error <= most or value is None or value.size != each.theirs.size:
        return each.checked
    value = value.reshape(each.theirs.shape)
    judged = Judged(max_relative_error(each.ours, value), max_relative_error(each.theirs, value))
    return replace(each.checked, judged=judged)


def by_onnxruntime(
    model: onnx.ModelProto, arrays: Sequence[Values], wanted: Sequence[str]
) -> tuple[list[Values], dict[str, Values]]:
    """The outputs of a model in its order, and further values by their names, which become outputs of a copy of it.

    `arrays` are its inputs, in its order. Errors: InvalidInput.
    """
    try:
        import onnxruntime
    except ImportError:
        raise InvalidInput("verify: onnxruntime is not installed; pip install 'polyfuse[test]'") from None
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    own = [value.name for value in copy.graph.output]
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted if name not in own)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(copy.SerializeToString(), options, providers=["CPUExecutionProvider"])
        feed = {value.name: array for value, array in zip(session.get_inputs(), arrays, strict=True)}
        found: list[Values] = session.run(None, feed)
    except Exception as error:
        reason = str(error).splitlines()[0][:200]
        raise InvalidInput(f"verify: onnxruntime refuses {model.graph.name!r}: {reason}") from error
    return found[: len(own)], dict(zip((value.name for value in copy.graph.output), found, strict=True))
