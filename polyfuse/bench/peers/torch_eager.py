"""PyTorch: the layers as calls of torch.nn.functional, channels last, eagerly or compiled by inductor.

With inputs and outputs in [n, c, h, w] (`interface="nchw"`), both conversions are part of what is timed.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

from polyfuse.bench.peers.contender import PeerSettings, Prepared, Values
from polyfuse.bench.peers.torch_layers import function_of
from polyfuse.network.activation import Activation
from polyfuse.network.network import Network

Tensors = dict[str, Any]


def prepare(network: Network, inputs: Values, settings: PeerSettings) -> Prepared:
    """The network as a function of torch, in single precision on so many threads."""
    torch: Any = import_module("torch")
    torch.set_num_threads(settings.threads)
    if torch.get_num_interop_threads() != 1:
        torch.set_num_interop_threads(1)
    torch.set_float32_matmul_precision("highest")
    torch.backends.mkldnn.set_flags(_fp32_precision="ieee")
    torch.set_grad_enabled(False)
    last = settings.interface == "preferred"
    module = network_module(torch, network, convert=not last)
    if settings.options.get("compile"):
        inductor: Any = import_module("torch._inductor.config")
        inductor.freezing = True
        module = torch.compile(module, backend="inductor", fullgraph=True, dynamic=False)
    given = [_laid_out(torch, torch.from_numpy(inputs[t.name]), last) for t in network.inputs]
    made: list[Any] = []

    def run() -> None:
        made[:] = module(*given)

    with torch.inference_mode(not settings.options.get("compile")):
        for _ in range(3):
            run()
    call = run if settings.options.get("compile") else torch.inference_mode()(run)
    outputs = {tensor.name: k for k, tensor in enumerate(network.outputs)}
    return Prepared(
        call,
        lambda: {name: np.ascontiguousarray(made[k].numpy()) for name, k in outputs.items()},
        "channels last" if last else "nchw",
    )


def network_module(torch: Any, network: Network, *, convert: bool) -> Any:
    """A module that computes the outputs of a network; with `convert`, from and to [n, c, h, w] in memory."""
    module = torch.nn.Module()
    steps = []
    for layer in network.layers:
        for tensor in layer.weights:
            value = torch.from_numpy(network.weights[tensor.name].copy())
            wide = _laid_out(torch, value, True)
            module.register_parameter(f"weight_{tensor.name}", torch.nn.Parameter(wide, requires_grad=False))
        steps.append((layer, function_of(torch, layer), _activation(torch, layer.activation)))
    names = [tensor.name for tensor in network.inputs]
    outputs = [tensor.name for tensor in network.outputs]

    def forward(*given: Any) -> list[Any]:
        values: Tensors = dict(zip(names, given, strict=True))
        if convert:
            values = {name: _laid_out(torch, value, True) for name, value in values.items()}
        for layer, step, apply in steps:
            weights = {tensor.name: getattr(module, f"weight_{tensor.name}") for tensor in layer.weights}
            values[layer.output.name] = apply(step(values | weights))
        return [values[name].contiguous() if convert else values[name] for name in outputs]

    module.forward = forward
    return module.eval()


def _laid_out(torch: Any, value: Any, last: bool) -> Any:
    """A tensor in row-major order, images with channels last where that is asked for."""
    return value.contiguous(memory_format=torch.channels_last if last and value.dim() == 4 else torch.contiguous_format)


def _activation(torch: Any, activation: Activation | None) -> Callable[[Any], Any]:
    if activation is None:
        return lambda x: x
    name, numbers = activation.name, activation.arguments
    functional = torch.nn.functional
    known: dict[str, Callable[..., Any]] = {
        "relu": torch.relu,
        "relu6": functional.relu6,
        "clip": lambda x, low, high: torch.clamp(x, low, high),
        "at_least": lambda x, low: torch.clamp(x, min=low),
        "at_most": lambda x, high: torch.clamp(x, max=high),
        "leaky_relu": functional.leaky_relu,
        "silu": functional.silu,
        "hard_sigmoid": lambda x, slope, offset: torch.clamp(slope * x + offset, 0.0, 1.0),
        "hard_swish": functional.hardswish,
        "elu": functional.elu,
        "softplus": functional.softplus,
        "gelu": functional.gelu,
        "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"),
    }
    function = known.get(name) or getattr(torch, name)
    return lambda x: function(x, *numbers)
