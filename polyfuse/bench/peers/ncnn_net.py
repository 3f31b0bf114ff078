"""ncnn: the network written as its own .param and .bin, in single precision, Winograd and packed layouts as by default.

Inputs and outputs are [c, h, w] of one image; packing and unpacking inside are part of what is timed.
"""

import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from polyfuse.bench.peers.contender import Prepared, Settings, Values
from polyfuse.errors import UnsupportedOperator
from polyfuse.network.layer import Layer
from polyfuse.network.layers import is_activation
from polyfuse.network.network import Network

MAGIC = 7767517
FLOAT32 = np.zeros(1, np.int32)
"""Stands before weights that are stored as they are."""

BINARY = {"add": 0, "sub": 1, "mul": 2, "div": 3}
FUSED = {"relu": 1, "leaky_relu": 2, "clip": 3, "sigmoid": 4}
"""Activations that a convolution computes itself."""

ALONE = {"relu": "ReLU", "sigmoid": "Sigmoid", "tanh": "TanH", "silu": "Swish", "abs": "AbsVal"}
LARGEST = float(np.finfo(np.float32).max)
HALF_PRECISION = ("fp16_storage", "fp16_packed", "fp16_arithmetic", "bf16_storage", "bf16_packed")


def prepare(network: Network, inputs: Values, settings: Settings) -> Prepared:
    """A loaded net and its inputs; `run` makes an extractor, feeds it and takes the outputs."""
    ncnn: Any = import_module("ncnn")
    net = ncnn.Net()
    net.opt.num_threads = settings.threads
    net.opt.use_vulkan_compute = False
    for name in HALF_PRECISION:
        if hasattr(net.opt, f"use_{name}"):
            setattr(net.opt, f"use_{name}", False)
    files = NetFiles(network)
    with tempfile.TemporaryDirectory() as folder:
        param, weights = Path(folder, "net.param"), Path(folder, "net.bin")
        param.write_text(files.param())
        weights.write_bytes(files.weights())
        if net.load_param(str(param)) or net.load_model(str(weights)):
            raise RuntimeError("does not read the network that was written for it")
    given = [(tensor.name, ncnn.Mat(np.ascontiguousarray(inputs[tensor.name][0])).clone()) for tensor in network.inputs]
    made: dict[str, Any] = {}

    def run() -> None:
        extractor = net.create_extractor()
        for name, value in given:
            extractor.input(name, value)
        for name, blob in files.outputs.items():
            failed, made[name] = extractor.extract(blob)
            if failed:
                raise RuntimeError(f"could not compute {name} (status {failed})")

    shapes = {tensor.name: tensor.concrete_shape for tensor in network.outputs}
    return Prepared(run, lambda: {name: np.array(value).reshape(shapes[name]) for name, value in made.items()}, "nchw")


@dataclass
class NetFiles:
    """The lines and weights of a net, and which blob each output of the network is.

    A blob is read once: what is read several times is split before.
    """

    network: Network
    lines: list[str] = field(default_factory=list)
    blobs: int = 0
    data: list[bytes] = field(default_factory=list)
    outputs: dict[str, str] = field(default_factory=dict)
    waiting: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for tensor in (*self.network.inputs, *self.network.outputs):
            if len(tensor.shape) != 4 or tensor.shape[0] != 1:
                raise UnsupportedOperator(f"{tensor}: ncnn takes one image [1, c, h, w] at a time")
        self.uses = Counter(name for layer in self.network.layers for name in reads(layer))
        self.uses.update(tensor.name for tensor in self.network.outputs)
        for tensor in self.network.inputs:
            _, channels, rows, columns = tensor.concrete_shape
            self.add("Input", tensor.name, [], tensor.name, {0: columns, 1: rows, 2: channels})
        for layer in self.network.layers:
            self.layer(layer)
        self.outputs = {tensor.name: self.waiting[tensor.name].pop() for tensor in self.network.outputs}

    def param(self) -> str:
        """The text of the .param file."""
        return "\n".join([str(MAGIC), f"{len(self.lines)} {self.blobs}", *self.lines, ""])

    def weights(self) -> bytes:
        """The bytes of the .bin file."""
        return b"".join(self.data)

    def add(self, kind: str, name: str, read: Sequence[str], made: str, parameters: dict[int, object]) -> None:
        """One layer that makes one blob, and the split that its readers need."""
        values = " ".join(parameter(key, value) for key, value in parameters.items())
        self.lines.append(f"{kind} {name} {len(read)} 1 {' '.join([*read, made])} {values}".rstrip())
        self.blobs += 1
        copies = self.uses[made]
        self.waiting[made] = [made]
        if copies > 1:
            parts = [f"{made}__{k}" for k in range(copies)]
            self.lines.append(f"Split {made}__split 1 {copies} {made} {' '.join(parts)}")
            self.blobs += copies
            self.waiting[made] = parts

    def layer(self, layer: Layer) -> None:
        """One layer of the network, with its activation."""
        make = {"conv": self.convolution, "max_pool": self.pool, "average_pool": self.pool, "concat": self.concat}
        make |= dict.fromkeys(BINARY, self.arithmetic) | {"global_average_pool": self.mean, "affine": self.affine}
        if is_activation(layer):
            self.activation(layer, self.read(layer)[0], layer.name)
        elif layer.kind in make:
            make[layer.kind](layer)
        else:
            raise UnsupportedOperator(f"layer {layer.name!r}: a net of ncnn is not written for the kind {layer.kind!r}")

    def read(self, layer: Layer) -> list[str]:
        """The blobs that a layer reads."""
        return [self.waiting[name].pop(0) for name in reads(layer)]

    def convolution(self, layer: Layer) -> None:
        """A convolution; activations that ncnn does not fuse follow as a layer."""
        a: Any = layer.attributes
        weight = self.network.weights[layer.weights[0].name]
        fused = fused_activation(a["activation"])
        parameters = {**window(layer), 0: weight.shape[0], 5: len(layer.weights) - 1, 6: weight.size, **(fused or {})}
        kind = "Convolution" if a["groups"] == 1 else "ConvolutionDepthWise"
        if a["groups"] != 1:
            parameters[7] = a["groups"]
        linear = layer.output.name if fused is not None else f"{layer.name}__linear"
        self.add(kind, layer.name, self.read(layer), linear, parameters)
        self.data += [FLOAT32.tobytes(), np.ascontiguousarray(weight, "<f4").tobytes()]
        self.data += [np.ascontiguousarray(self.network.weights[b.name], "<f4").tobytes() for b in layer.weights[1:]]
        if fused is None:
            self.activation(layer, linear, f"{layer.name}__activation")

    def pool(self, layer: Layer) -> None:
        """A pool in floor mode, or in ceil mode where that makes no difference."""
        a: Any = layer.attributes
        (top, left, bottom, right), kernel, stride = a["padding"], a["kernel"], a["stride"]
        sizes = zip(layer.inputs[0].concrete_shape[2:], kernel, stride, (top + bottom, left + right), strict=True)
        floor = tuple((size + padded - k) // s + 1 for size, k, s, padded in sizes)
        if a["dilation"] != (1, 1) or floor != layer.output.concrete_shape[2:]:
            raise UnsupportedOperator(f"layer {layer.name!r}: ncnn pools no windows with holes or beyond the padding")
        parameters = {0: int(layer.kind == "average_pool"), 1: kernel[1], 11: kernel[0], 2: stride[1], 12: stride[0]}
        parameters |= {3: left, 13: top, 14: right, 15: bottom, 5: 1, 6: int(bool(a.get("count_include_pad")))}
        self.add("Pooling", layer.name, self.read(layer), layer.output.name, parameters)

    def mean(self, layer: Layer) -> None:
        """The mean of each channel; a reduction that keeps its axes, since global pooling drops them."""
        keep: dict[int, object] = {0: 3, 1: 0, 3: (1, 2), 4: 1, 5: 1}
        self.add("Reduction", layer.name, self.read(layer), layer.output.name, keep)

    def arithmetic(self, layer: Layer) -> None:
        """Two tensors of one shape; the activation follows as a layer."""
        if layer.weights or any(tensor.shape != layer.output.shape for tensor in layer.inputs):
            raise UnsupportedOperator(f"layer {layer.name!r}: a net of ncnn is written for operands of one shape only")
        alone = layer.attributes.get("activation") is None
        linear = layer.output.name if alone else f"{layer.name}__linear"
        self.add("BinaryOp", layer.name, self.read(layer), linear, {0: BINARY[layer.kind]})
        if not alone:
            self.activation(layer, linear, f"{layer.name}__activation")

    def affine(self, layer: Layer) -> None:
        """A scale and a shift of each channel; the activation follows as a layer."""
        scale, shift = (self.network.weights[tensor.name] for tensor in layer.weights)
        channels = layer.output.concrete_shape[1]
        if not scale.shape == shift.shape == (1, channels, 1, 1):
            raise UnsupportedOperator(f"layer {layer.name!r}: a net of ncnn scales and shifts whole channels only")
        alone = layer.attributes.get("activation") is None
        linear = layer.output.name if alone else f"{layer.name}__linear"
        self.add("Scale", layer.name, self.read(layer), linear, {0: channels, 1: 1})
        self.data += [np.ascontiguousarray(value, "<f4").tobytes() for value in (scale, shift)]
        if not alone:
            self.activation(layer, linear, f"{layer.name}__activation")

    def concat(self, layer: Layer) -> None:
        """Channels one after another."""
        if layer.attributes["axis"] != 1:
            raise UnsupportedOperator(f"layer {layer.name!r}: only channels are joined here")
        self.add("Concat", layer.name, self.read(layer), layer.output.name, {0: 0})

    def activation(self, layer: Layer, x: str, name: str) -> None:
        """An activation as a layer of its own."""
        kind, *numbers = spec_of(layer.attributes["activation"])
        output = layer.output.name
        if kind in ALONE:
            self.add(ALONE[kind], name, [x], output, {})
        elif kind == "leaky_relu":
            self.add("ReLU", name, [x], output, {0: float(numbers[0])})
        elif kind == "hard_swish":
            self.add("HardSwish", name, [x], output, {0: 1.0 / 6.0, 1: 0.5})
        elif kind in ("clip", "relu6", "at_least", "at_most"):
            low, high = bounds(kind, numbers)
            self.add("Clip", name, [x], output, {0: low, 1: high})
        else:
            raise UnsupportedOperator(f"layer {layer.name!r}: a net of ncnn is not written for the activation {kind!r}")


def reads(layer: Layer) -> list[str]:
    """The tensors that a layer reads, in order, the same one twice where it does."""
    operands: Any = layer.attributes.get("operands")
    weights = {tensor.name for tensor in layer.weights}
    names = operands if operands is not None else [tensor.name for tensor in layer.inputs]
    return [name for name in names if name not in weights]


def window(layer: Layer) -> dict[int, object]:
    """Kernel, dilation, stride and padding of a convolution by ncnn's numbers."""
    a: Any = layer.attributes
    (kh, kw), (dh, dw), (sh, sw), (top, left, bottom, right) = (
        a[key] for key in ("kernel", "dilation", "stride", "padding")
    )
    return {1: kw, 11: kh, 2: dw, 12: dh, 3: sw, 13: sh, 4: left, 14: top, 15: right, 16: bottom}


def fused_activation(spec: object) -> dict[int, object] | None:
    """The parameters of an activation inside a convolution; none where there is none, None where ncnn has none."""
    if spec is None:
        return {}
    kind, *numbers = spec_of(spec)
    if kind in ("relu6", "at_least", "at_most"):
        kind, numbers = "clip", list(bounds(kind, numbers))
    if kind not in FUSED:
        return None
    return {9: FUSED[kind], **({10: tuple(map(float, numbers))} if numbers else {})}


def bounds(kind: str, numbers: Sequence[float]) -> tuple[float, float]:
    """What an activation that clips clips to."""
    low, high = {
        "relu6": (0.0, 6.0),
        "clip": (numbers[0], numbers[-1]) if numbers else (0.0, 0.0),
        "at_least": (numbers[0] if numbers else 0.0, LARGEST),
        "at_most": (-LARGEST, numbers[0] if numbers else 0.0),
    }[kind]
    return float(low), float(high)


def spec_of(spec: object) -> tuple[Any, ...]:
    """An activation's name and numbers."""
    return (spec,) if isinstance(spec, str) else tuple(spec) if isinstance(spec, Iterable) else ()


def parameter(key: int, value: object) -> str:
    """One parameter as .param files have it: arrays by a negative number and their length."""
    if isinstance(value, tuple):
        return f"{-23300 - key}={','.join([str(len(value)), *map(number, value)])}"
    return f"{key}={number(value)}"


def number(value: object) -> str:
    """A number as ncnn reads it: one with a decimal point or an exponent is a float; at most 15 characters.

    >>> number(3), number(6.0), number(1e-7), number(1 / 6)
    ('3', '6.0', '1e-07', '0.16666667')
    """
    return str(np.float32(value)) if isinstance(value, float) else str(value)
