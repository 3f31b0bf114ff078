"""Every group's output beside onnxruntime's, on seeded random inputs.

    Network + Plan ──verify()──> Verified: an error for each tensor that a group leaves in memory

onnxruntime runs the model itself where the network was imported from one, with the tensors between groups as further
outputs; a network that polyfuse built is exported first.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import onnx

from polyfuse.codegen.kernel import build
from polyfuse.deploy.model import Settings, program_of
from polyfuse.deploy.plan import Plan
from polyfuse.deploy.prices import Progress
from polyfuse.deploy.source import Source
from polyfuse.errors import InvalidInput
from polyfuse.network.network import Network, Values
from polyfuse.network.onnx.export import onnx_model
from polyfuse.network.reference import max_relative_error, random_inputs
from polyfuse.network.tensor import Tensor

MOST_ERROR = 1e-4
"""The largest relative error that is taken for rounding, Winograd's aside."""


@dataclass(frozen=True)
class Checked:
    """A tensor that a group leaves in memory, and its largest error relative to its largest element."""

    group: int
    tensor: str
    error: float


@dataclass(frozen=True)
class Verified:
    """Every tensor that was checked; `error_bound` is what Winograd's algorithm may add."""

    network: str
    checked: tuple[Checked, ...]
    error_bound: float

    @property
    def worst(self) -> Checked:
        """The tensor with the largest error."""
        return max(self.checked, key=lambda each: each.error)


def verify(
    source: Source, plan: Plan, settings: Settings, *, seed: int = 0, progress: Progress | None = None
) -> Verified:
    """Run a planned network and onnxruntime on the same inputs; tensors that the model does not have are left out.

    Errors: InvalidInput where onnxruntime is not installed or refuses the model; BuildError.
    """
    network, names = source.network, source.names
    stored = stored_tensors(network, plan)
    whole = replace(network, outputs=tuple(stored))
    code = program_of(whole, plan, settings, progress)
    kernel = build(code, options=settings.options)
    inputs = random_inputs(network, seed)
    found = kernel(**inputs)
    wanted = [tensor for tensor in stored if tensor.name in names]
    if progress is not None:
        progress("onnxruntime", 0, 1)
    model = source.model or onnx_model(whole)
    expected = by_onnxruntime(model, inputs, [names[tensor.name] for tensor in wanted], names)
    errors = tuple(
        Checked(stored[tensor], names[tensor.name], max_relative_error(found[tensor.name], value.reshape(tensor.shape)))
        for tensor, value in zip(wanted, expected, strict=True)
    )
    return Verified(network.name, errors, code.error_bound)


def stored_tensors(network: Network, plan: Plan) -> dict[Tensor, int]:
    """What groups leave in memory, and the group that does."""
    found: dict[Tensor, int] = {}
    for index, group in enumerate(plan.groups):
        found |= dict.fromkeys(network.select(group.layers).outputs, index)
    return found


def by_onnxruntime(
    model: onnx.ModelProto, inputs: Mapping[str, Values], wanted: list[str], names: Mapping[str, str]
) -> list[Values]:
    """Values of a model, by their names in it; they become outputs of a copy of it.

    Errors: InvalidInput.
    """
    try:
        import onnxruntime
    except ImportError:
        raise InvalidInput("verify: onnxruntime is not installed; pip install 'polyfuse[test]'") from None
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    known = {value.name for value in copy.graph.output}
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted if name not in known)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(copy.SerializeToString(), options, providers=["CPUExecutionProvider"])
        feed = {names[name]: value for name, value in inputs.items()}
        found: list[Values] = session.run(wanted, feed)
    except Exception as error:
        reason = str(error).splitlines()[0][:200]
        raise InvalidInput(f"verify: onnxruntime refuses {model.graph.name!r}: {reason}") from error
    return found
