"""`torch.compile(model, backend="polyfuse")`: convolutional models in eval mode, in single precision, on the CPU.

    graph of torch + example inputs ──compiled()──> a function of tensors

torch finds this module by the entry point `torch_dynamo_backends` and hands it each graph that it captured. A graph is
exported to ONNX, with its parameters as constants, and compiled as any model is. What polyfuse does not support, and
what must be differentiated, torch runs itself; `polyfuse.deploy.torch_backend.reports` says why.

Parameters are taken as they are when the graph is compiled. A graph whose parameters were written to or replaced since
is run by torch.
"""

import io
import tempfile
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from polyfuse.deploy.model import Model, load
from polyfuse.errors import PolyfuseError

Function = Callable[..., Any]
STATE_MARK = "_dynamo_static_input_type"
reports: list[str] = []
"""For each graph that torch handed over, what became of it."""


def compiled(graph: Any, examples: Sequence[Any]) -> Function:
    """A function that computes a graph: by polyfuse where it can, else by torch."""
    torch: Any = import_module("torch")
    reason = unsupported(torch, graph, examples)
    if reason is None:
        try:
            return run_by_polyfuse(torch, graph, examples)
        except PolyfuseError as error:
            reason = str(error)
    reports.append(f"run by torch: {reason}")
    forward: Function = graph.forward
    return forward


def unsupported(torch: Any, graph: Any, examples: Sequence[Any]) -> str | None:
    """Why a graph is not even tried; None where it is."""
    tensors = [value for value in examples if isinstance(value, torch.Tensor)]
    if len(tensors) != len(examples):
        return "an input is no tensor; sizes must be fixed (dynamic=False)"
    if any(value.dtype != torch.float32 or value.device.type != "cpu" for value in tensors):
        return "an input is no float32 tensor on the CPU"
    if torch.is_grad_enabled() and any(value.requires_grad for value in tensors):
        return "gradients are wanted; call the model under torch.no_grad()"
    return None


def run_by_polyfuse(torch: Any, graph: Any, examples: Sequence[Any]) -> Function:
    """The graph compiled, as a function that takes what torch passes.

    Errors: PolyfuseError where something is not supported.
    """
    fixed = [is_state(torch, value) for value in examples]
    images = [value for value, is_fixed in zip(examples, fixed, strict=True) if not is_fixed]
    model = load_exported(torch, with_parameters(torch, graph, examples, fixed), images)
    states = [(value.data_ptr(), value._version) for value, is_fixed in zip(examples, fixed, strict=True) if is_fixed]
    shapes = [tuple(value.shape) for value in images]
    reports.append(f"run by polyfuse: {model}")

    def run(*values: Any) -> Any:
        now = [(v.data_ptr(), v._version) for v, is_fixed in zip(values, fixed, strict=True) if is_fixed]
        given = [v for v, is_fixed in zip(values, fixed, strict=True) if not is_fixed]
        if now != states or [tuple(v.shape) for v in given] != shapes:
            return graph.forward(*values)
        found = model.run(*(v.detach().numpy() for v in given))
        return [torch.from_numpy(np.array(found[name], order="C")) for name in model.outputs]

    return run


def is_state(torch: Any, value: Any) -> bool:
    """Whether an input of a graph is a parameter or a buffer of the model, as torch marks them."""
    return isinstance(value, torch.nn.Parameter) or getattr(value, STATE_MARK, None) is not None


def with_parameters(torch: Any, graph: Any, examples: Sequence[Any], fixed: Sequence[bool]) -> Any:
    """A module of the graph that takes only what is not a parameter."""

    class Closed(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.graph = graph
            for k, value in enumerate(examples):
                if fixed[k]:
                    self.register_buffer(f"fixed{k}", value.detach())

        def forward(self, *images: Any) -> Any:
            rest = iter(images)
            values = [getattr(self, f"fixed{k}") if is_fixed else next(rest) for k, is_fixed in enumerate(fixed)]
            return self.graph(*values)

    return Closed().eval()


def load_exported(torch: Any, module: Any, images: Sequence[Any]) -> Model:
    """A module compiled by way of ONNX.

    Errors: PolyfuseError for what cannot be exported or is not supported.
    """
    data = io.BytesIO()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(module, tuple(images), data, dynamo=False, opset_version=17)
    except Exception as error:
        raise PolyfuseError(f"torch.onnx.export: {' '.join(str(error).split())[:200]}") from error
    with tempfile.TemporaryDirectory(prefix="polyfuse-", ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "graph.onnx"
        path.write_bytes(data.getvalue())
        return load(path)
