"""PyTorch: the layers as calls of torch.nn.functional, channels last, eagerly or compiled by inductor.

With inputs and outputs in [n, c, h, w] (`interface="nchw"`), both conversions are part of what is timed.
"""

from collections.abc import Callable
from functools import reduce
from importlib import import_module
from typing import Any

import numpy as np

from polyfuse.bench.peers import torch_layers
from polyfuse.bench.peers.contender import PeerSettings, Prepared, Values
from polyfuse.errors import UnsupportedOperator
from polyfuse.network.activation import Activation
from polyfuse.network.layer import Layer
from polyfuse.network.network import Network
from polyfuse.network.operator import Activate, Affine, Arithmetic, Concat, Conv, Copy, GlobalPool, Pool, Prelu
from polyfuse.network.window import Window

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
        step = layer_function(torch, layer)
        for tensor in layer.weights:
            value = torch.from_numpy(network.weights[tensor.name].copy())
            wide = _laid_out(torch, value, True)
            module.register_parameter(f"weight_{tensor.name}", torch.nn.Parameter(wide, requires_grad=False))
        steps.append((layer, step))
    names = [tensor.name for tensor in network.inputs]
    outputs = [tensor.name for tensor in network.outputs]

    def forward(*given: Any) -> list[Any]:
        values: Tensors = dict(zip(names, given, strict=True))
        if convert:
            values = {name: _laid_out(torch, value, True) for name, value in values.items()}
        for layer, step in steps:
            weights = {tensor.name: getattr(module, f"weight_{tensor.name}") for tensor in layer.weights}
            values[layer.output.name] = step(values | weights)
        return [values[name].contiguous() if convert else values[name] for name in outputs]

    module.forward = forward
    return module.eval()


def _laid_out(torch: Any, value: Any, last: bool) -> Any:
    """A tensor in row-major order, images with channels last where that is asked for."""
    return value.contiguous(memory_format=torch.channels_last if last and value.dim() == 4 else torch.contiguous_format)


def layer_function(torch: Any, layer: Layer) -> Callable[[Tensors], Any]:
    """What computes one layer from all tensors by name.

    Errors: UnsupportedOperator for a layer that is not built in.
    """
    apply, step = _activation(torch, layer.activation), _step(torch, layer)
    return lambda values: apply(step(values))


def _step(torch: Any, layer: Layer) -> Callable[[Tensors], Any]:
    """What computes a layer without its activation."""
    match layer.operator:
        case Conv() as conv:
            return _convolution(torch, layer, conv)
        case Pool() as pool:
            return _pool(torch, layer, pool)
        case GlobalPool():
            return _mean(torch, layer)
    return torch_layers.function_of(torch, layer) or _pointwise(torch, layer)


def _padded(torch: Any, window: Window, fill: float) -> tuple[Callable[[Any], Any], Any]:
    """What pads a tensor, and the padding that is left for the layer: torch pads both sides alike."""
    top, left, bottom, right = window.padding
    if (top, left) == (bottom, right):
        return lambda x: x, (top, left)
    return lambda x: torch.nn.functional.pad(x, (left, right, top, bottom), value=fill), (0, 0)


def _convolution(torch: Any, layer: Layer, made: Conv) -> Callable[[Tensors], Any]:
    window = made.window
    pad, padding = _padded(torch, window, 0.0)
    x, (weight, *bias) = layer.inputs[0].name, [tensor.name for tensor in layer.weights]
    conv = torch.nn.functional.conv2d
    return lambda v: conv(
        pad(v[x]), v[weight], v[bias[0]] if bias else None, window.stride, padding, window.dilation, made.groups
    )


def _pool(torch: Any, layer: Layer, made: Pool) -> Callable[[Tensors], Any]:
    x, largest, window, ceil = layer.inputs[0].name, made.how == "max", made.window, made.ceil
    if not largest and window.dilation != (1, 1):
        raise UnsupportedOperator(f"layer {layer.name!r}: torch averages no windows with holes")
    if not largest and window.padding[:2] != window.padding[2:]:
        return _uneven_average(torch, layer, made)
    pad, padding = _padded(torch, window, -np.inf)
    pool = torch.nn.functional.max_pool2d if largest else torch.nn.functional.avg_pool2d
    if largest:
        return lambda v: pool(pad(v[x]), window.kernel, window.stride, padding, window.dilation, ceil)
    return lambda v: pool(v[x], window.kernel, window.stride, padding, ceil, made.counts_padding)


def _uneven_average(torch: Any, layer: Layer, made: Pool) -> Callable[[Tensors], Any]:
    """Sums of padded windows over how many elements count in each."""
    pad, _ = _padded(torch, made.window, 0.0)
    x, kernel, stride = layer.inputs[0], made.window.kernel, made.window.stride

    def sums(padded: Any) -> Any:
        return torch.nn.functional.avg_pool2d(padded, kernel, stride, 0, made.ceil, divisor_override=1)

    image = torch.ones(1, 1, *x.concrete_shape[2:])
    counted = sums(torch.ones_like(pad(image)) if made.counts_padding else pad(image))
    return lambda v: sums(pad(v[x.name])) / counted


def _mean(torch: Any, layer: Layer) -> Callable[[Tensors], Any]:
    x = layer.inputs[0].name
    return lambda v: v[x].mean((2, 3), keepdim=True)


def _pointwise(torch: Any, layer: Layer) -> Callable[[Tensors], Any]:
    function = _function(torch, layer)
    if function is None:
        raise UnsupportedOperator(f"layer {layer.name!r}: no function of torch computes the kind {layer.kind!r}")
    names = [tensor.name for tensor in layer.operands]
    return lambda v: function(*(v[name] for name in names))


def _function(torch: Any, layer: Layer) -> Callable[..., Any] | None:
    """The function of a layer's operands; None where torch has none."""
    arithmetic: dict[str, Callable[..., Any]] = {
        "add": torch.add,
        "sub": torch.sub,
        "mul": torch.mul,
        "div": torch.div,
        "max": lambda *parts: reduce(torch.maximum, parts),
        "min": lambda *parts: reduce(torch.minimum, parts),
        "pow": torch.pow,
        "sum": lambda *parts: reduce(torch.add, parts),
        "mean": lambda *parts: reduce(torch.add, parts) / len(parts),
    }
    match layer.operator:
        case Arithmetic(how=how):
            return arithmetic[how]
        case Affine():
            return lambda x, scale, shift: x * scale + shift
        case Prelu():
            return _prelu(torch)
        case Concat(axis=axis):
            return lambda *parts: torch.cat(parts, axis)
        case Copy():
            return lambda x: torch.clone(x)
        case Activate():
            return lambda x: x
    return None


def _prelu(torch: Any) -> Callable[[Any, Any], Any]:
    """A slope below zero: torch's own function where there is one of the image or one of each channel."""

    def apply(x: Any, slope: Any) -> Any:
        if slope.numel() == 1 or (slope.dim() > 2 and slope.numel() == slope.shape[-3] == x.shape[1]):
            return torch.nn.functional.prelu(x, slope.reshape(-1))
        return torch.clamp(x, min=0) + slope * torch.clamp(x, max=0)

    return apply


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
