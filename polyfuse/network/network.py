"""A network: layers in topological order, their tensors, the values of the weights; and the builder that makes one.

>>> build = Builder("two_convs")
>>> x = build.input("x", (1, 1, 20, 20))
>>> y = build.conv("conv2", build.conv("conv1", x, 1, kernel=3), 1, kernel=3)
>>> print(build.network(y))
two_convs: x[1, 1, 20, 20] -> conv2_out[1, 1, 16, 16]
  conv1 (conv): x[1, 1, 20, 20], conv1_weight[1, 1, 3, 3], conv1_bias[1] -> conv1_out[1, 1, 18, 18]
  conv2 (conv): conv1_out[1, 1, 18, 18], conv2_weight[1, 1, 3, 3], conv2_bias[1] -> conv2_out[1, 1, 16, 16]
"""

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from operator import index

import numpy as np
from numpy.typing import ArrayLike

from polyfuse.doors import public
from polyfuse.errors import InvalidInput
from polyfuse.network.activated import with_activation
from polyfuse.network.activation import Spec
from polyfuse.network.dtypes import COMPUTED, TYPES, Values, encoded, numbers
from polyfuse.network.layer import Layer
from polyfuse.network.layers import pointwise, pooling
from polyfuse.network.layers.convolution import convolution
from polyfuse.network.layers.copies import concat, reshape
from polyfuse.network.layers.deconvolution import conv_transpose
from polyfuse.network.layers.matrices import gemm
from polyfuse.network.layers.resizing import resize
from polyfuse.network.operator import BinaryFunction
from polyfuse.network.resampling import Resampling
from polyfuse.network.signature import Output, Signature
from polyfuse.network.tensor import Size, Tensor, checked_name
from polyfuse.network.window import Padding, Pair, Window
from polyfuse.sets.pickling import OfFields
from polyfuse.text import html_table
from polyfuse.whole import is_whole_number, whole


@public
@dataclass(frozen=True, eq=False)
class Network(OfFields):
    """Layers in an order in which every tensor is made before it is read.

    `weights` holds the value of every weight tensor; `inputs` are given at run time and `outputs` must survive it.
    `signature` is what the model that it comes from takes and gives, None where that is the inputs and outputs.
    """

    name: str
    inputs: tuple[Tensor, ...]
    layers: tuple[Layer, ...]
    outputs: tuple[Tensor, ...]
    weights: Mapping[str, Values]
    signature: Signature | None = None

    def __post_init__(self) -> None:
        checked_name(self.name)
        if self.signature is not None:
            self.signature.check(f"network {self.name!r}", len(self.inputs), len(self.outputs))
        if not self.layers or not self.outputs:
            raise InvalidInput(f"network {self.name!r}: expected at least one layer and one output")
        known = {tensor.name: tensor for tensor in self.inputs}
        taken = set(known) | set(self.weights)
        if len(taken) != len(self.inputs) + len(self.weights):
            raise InvalidInput(f"network {self.name!r}: two of its inputs and weights share a name; choose another")
        for layer in self.layers:
            self._check_layer(layer, known)
            made = {layer.name, layer.output.name, *(statement.name for statement in layer.statements)}
            if clash := made & taken:
                raise InvalidInput(f"layer {layer.name!r}: the name {min(clash)!r} is taken; choose another")
            taken |= made
            known[layer.output.name] = layer.output
        for tensor in self.outputs:
            if tensor not in self.makers:
                raise InvalidInput(f"network {self.name!r}: no layer makes the output {tensor}")

    def _check_layer(self, layer: Layer, known: Mapping[str, Tensor]) -> None:
        """The layer reads tensors that exist by then and weights that have values."""
        for tensor in layer.inputs:
            if tensor.name not in known:
                raise InvalidInput(
                    f"layer {layer.name!r}: reads {tensor} before any layer makes it; sort the layers so that "
                    "makers come first"
                )
            if known[tensor.name] != tensor:
                raise InvalidInput(f"layer {layer.name!r}: reads {tensor}, which is {known[tensor.name]}")
        for weight in layer.weights:
            value = self.weights.get(weight.name)
            held = TYPES[weight.dtype].held
            if value is None or value.shape != weight.shape or value.dtype != held:
                got = "nothing" if value is None else f"{value.dtype} of shape {value.shape}"
                raise InvalidInput(f"layer {layer.name!r}: expected {held} values for the weight {weight}, got {got}")

    @property
    def ends(self) -> Signature:
        """The inputs and outputs, by the names of the model, or of the tensors where there is none."""
        return self.signature or Signature.of(self.inputs, self.outputs)

    @cached_property
    def makers(self) -> dict[Tensor, Layer]:
        """The layer that makes each tensor."""
        return {layer.output: layer for layer in self.layers}

    def readers(self, tensor: Tensor) -> tuple[Layer, ...]:
        """The layers that read a tensor."""
        return tuple(layer for layer in self.layers if tensor in layer.inputs)

    @cached_property
    def dtypes(self) -> frozenset[str]:
        """The types of elements of its tensors, weights among them."""
        read = (tensor for layer in self.layers for tensor in (layer.output, *layer.weights))
        return frozenset(tensor.dtype for tensor in (*self.inputs, *read))

    def layer(self, name: str) -> Layer:
        """The layer of that name. Errors: InvalidInput where there is none."""
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise InvalidInput(
            f"network {self.name!r} has no layer {name!r}; it has {', '.join(layer.name for layer in self.layers)}"
        )

    def select(self, names: Iterable[str], name: str | None = None) -> "Network":
        """The network of some of the layers; what they read of others becomes input, what others read an output."""
        wanted = {self.layer(each).name for each in names}
        chosen = tuple(layer for layer in self.layers if layer.name in wanted)
        made = {layer.output for layer in chosen}
        read = dict.fromkeys(tensor for layer in chosen for tensor in layer.inputs)
        read_outside = {tensor for layer in self.layers if layer not in chosen for tensor in layer.inputs}
        weights = {tensor.name: self.weights[tensor.name] for layer in chosen for tensor in layer.weights}
        return Network(
            name or self.name,
            tuple(tensor for tensor in read if tensor not in made),
            chosen,
            tuple(layer.output for layer in chosen if layer.output in read_outside or layer.output in self.outputs),
            weights,
        )

    def between(self, first: str | None, last: str | None) -> "Network":
        """The layers on the paths from one layer to another, both included; None is for any layer.

        Errors: InvalidInput for a layer that is not there, and where no path leads between them.
        """
        after = {layer.name for layer in self.layers} if first is None else {self.layer(first).name}
        for layer in self.layers:
            if any(self.makers[t].name in after for t in layer.inputs if t in self.makers):
                after.add(layer.name)
        before = {layer.name for layer in self.layers} if last is None else {self.layer(last).name}
        for layer in reversed(self.layers):
            if any(reader.name in before for reader in self.readers(layer.output)):
                before.add(layer.name)
        if not after & before:
            raise InvalidInput(f"network {self.name!r}: no path leads from layer {first!r} to layer {last!r}")
        return self.select(after & before)

    def __str__(self) -> str:
        ends = f"{', '.join(map(str, self.inputs))} -> {', '.join(map(str, self.outputs))}"
        return "\n  ".join([f"{self.name}: {ends}", *map(str, self.layers)])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows = [(layer.name, layer.kind, ", ".join(map(str, layer.inputs)), layer.output) for layer in self.layers]
        return html_table(self.name, ("layer", "kind", "reads", "makes"), rows)


def require_float32(network: Network, what: str) -> None:
    """Refuse a network with elements of other types than float32, for those who compute in float32 only.

    Errors: InvalidInput.
    """
    float_type(network, what, ("float32",))


def float_type(network: Network, what: str, expected: Sequence[str] = COMPUTED) -> str:
    """The one type of all elements of a network, for those who compute in one of the types `expected`.

    Errors: InvalidInput for others, and for several.
    """
    tensors = (*network.inputs, *(t for layer in network.layers for t in (layer.output, *layer.weights)))
    first = next((tensor.dtype for tensor in tensors if tensor.dtype in expected), expected[0])
    found = next((tensor for tensor in tensors if tensor.dtype != first), None)
    if found is None:
        return first
    if found.dtype in COMPUTED:
        needs = f"{first} everywhere" if found.dtype in expected else " or ".join(expected)
        raise InvalidInput(f"network {network.name!r}: {what} needs {needs}, and {found} is not; make it {first}")
    raise InvalidInput(
        f"network {network.name!r}: {what} needs {' or '.join(expected)}, and {found} is not; plan it for a scratchpad "
        "machine, or use the float network"
    )


@public
class Builder:
    """Adds layer after layer and returns their output tensors; `network(*outputs)` ends it.

    Weights that are not given are drawn from a generator seeded by `seed` and the layer's name, scaled so that
    activations stay near 1.
    """

    def __init__(self, name: str, seed: int = 0) -> None:
        self.name = checked_name(name)
        self.seed = seed
        self.inputs: list[Tensor] = []
        self.layers: list[Layer] = []
        self.weights: dict[str, Values] = {}

    def input(self, name: str, shape: Sequence[Size], dtype: str = "float32") -> Tensor:
        """A tensor given at run time."""
        tensor = Tensor(name, tuple(shape), dtype)
        self.inputs.append(tensor)
        return tensor

    def add(self, layer: Layer, weights: Mapping[str, Values] | None = None) -> Tensor:
        """Any layer, with the values of its weights."""
        self.layers.append(layer)
        for name, value in (weights or {}).items():
            self.keep(name, value)
        return layer.output

    def keep(self, name: str, value: Values) -> None:
        """The value of a weight. Errors: InvalidInput where another weight has the name."""
        if name in self.weights and self.weights[name] is not value:
            raise InvalidInput(
                f"weight {name!r}: another weight has that name; choose another for the weight or its layer"
            )
        self.weights[name] = value

    def constant(self, name: str, values: ArrayLike, dtype: str = "float32") -> Tensor:
        """A weight tensor of those values, which are rounded where its type is narrower.

        Errors: InvalidInput for values that a type of whole numbers does not have.
        """
        array = numbers(values, f"weight {name!r}")
        tensor = Tensor(name, array.shape, dtype)
        self.keep(name, np.ascontiguousarray(encoded(array, dtype, f"weight {tensor}")))
        return tensor

    def weight(self, name: str, shape: Sequence[int], fan_in: int, value: Values | None = None) -> Tensor:
        """A float32 weight: the value given, or seeded normal values of variance 1 / fan_in. Errors: InvalidInput."""
        sizes = [whole(size, f"weight {name!r}: a size", most=MOST_ELEMENTS) for size in shape]
        tensor = Tensor(name, tuple(sizes))
        if value is None:
            generator = np.random.default_rng([self.seed, zlib.crc32(name.encode())])
            value = generator.standard_normal(shape, dtype=np.float32) * np.float32(fan_in**-0.5)
        array = np.ascontiguousarray(numbers(value, f"weight {name!r}"), dtype=np.float32)
        if array.shape != tuple(shape):
            raise InvalidInput(f"weight {name!r}: expected shape {tuple(shape)}, got {array.shape}")
        self.keep(name, array)
        return tensor

    def conv(
        self,
        name: str,
        x: Tensor,
        channels: int,
        *,
        kernel: int | Pair,
        stride: int | Pair = 1,
        padding: int | Pair | Padding = 0,
        dilation: int | Pair = 1,
        groups: int = 1,
        activation: Spec | None = None,
        weight: Values | None = None,
        bias: Values | bool | None = True,
    ) -> Tensor:
        """Convolution to `channels` channels; `bias=False` leaves the bias out. Errors: InvalidInput."""
        kh, kw = _pair(kernel)
        in_group = _channels(name, x) // groups if groups >= 1 else 0
        if in_group < 1:
            raise InvalidInput(f"layer {name!r}: expected 1 to {x.shape[1]} groups, got {groups}")
        fan_in = in_group * kh * kw
        w = self.weight(f"{name}_weight", (channels, in_group, kh, kw), fan_in, weight)
        given = None if isinstance(bias, bool) else bias
        b = None if bias is False or bias is None else self.weight(f"{name}_bias", (channels,), 16, given)
        window = Window((kh, kw), _pair(stride), _pair(dilation), _padding(padding))
        return self.add(with_activation(convolution(name, x, w, b, window, groups), activation))

    def depthwise(
        self,
        name: str,
        x: Tensor,
        *,
        kernel: int | Pair,
        stride: int | Pair = 1,
        padding: int | Pair | Padding = 0,
        dilation: int | Pair = 1,
        activation: Spec | None = None,
    ) -> Tensor:
        """Convolution of every channel on its own."""
        channels = _channels(name, x)
        return self.conv(
            name,
            x,
            channels,
            kernel=kernel,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=channels,
            activation=activation,
        )

    def max_pool(
        self,
        name: str,
        x: Tensor,
        *,
        kernel: int | Pair,
        stride: int | Pair | None = None,
        padding: int | Pair | Padding = 0,
        dilation: int | Pair = 1,
        ceil: bool = False,
    ) -> Tensor:
        """Max pooling; the stride is the kernel where none is given."""
        return self.add(pooling.max_pool(name, x, _window(kernel, stride, dilation, padding), ceil))

    def average_pool(
        self,
        name: str,
        x: Tensor,
        *,
        kernel: int | Pair,
        stride: int | Pair | None = None,
        padding: int | Pair | Padding = 0,
        dilation: int | Pair = 1,
        ceil: bool = False,
        count_include_pad: bool = False,
    ) -> Tensor:
        """Average pooling; the stride is the kernel where none is given."""
        window = _window(kernel, stride, dilation, padding)
        return self.add(pooling.average_pool(name, x, window, ceil, count_include_pad))

    def global_average_pool(self, name: str, x: Tensor) -> Tensor:
        """The mean of each channel."""
        _channels(name, x)
        return self.add(pooling.global_average_pool(name, x))

    def conv_transpose(
        self,
        name: str,
        x: Tensor,
        channels: int,
        *,
        kernel: int | Pair,
        stride: int | Pair = 1,
        padding: int | Pair | Padding = 0,
        output_padding: int | Pair = 0,
        activation: Spec | None = None,
    ) -> Tensor:
        """Transposed convolution to `channels` channels, with a bias."""
        kh, kw = _pair(kernel)
        steps = _pair(stride)
        window = Window((kh, kw), steps, padding=_padding(padding))
        window.check(name, x)
        fan_in = max(1, _channels(name, x) * kh * kw // (steps[0] * steps[1]))
        layer = conv_transpose(
            name,
            x,
            self.weight(f"{name}_weight", (_channels(name, x), channels, kh, kw), fan_in),
            self.weight(f"{name}_bias", (channels,), 16),
            window,
            output_padding=_pair(output_padding),
        )
        return self.add(with_activation(layer, activation))

    def resize(self, name: str, x: Tensor, scale: int, how: Resampling = Resampling()) -> Tensor:  # noqa: B008  (frozen)
        """Rows and columns times a whole number: the nearest elements, or a sum of neighbours."""
        batch, channels, rows, columns = x.concrete_shape
        layer, weights = resize(name, x, (batch, channels, rows * scale, columns * scale), how=how)
        return self.add(layer, weights)

    def linear(self, name: str, x: Tensor, features: int, activation: Spec | None = None) -> Tensor:
        """Everything behind the first axis to `features` sums of it, with a bias."""
        batch, inputs = x.concrete_shape[0], prod(x.concrete_shape[1:])
        flat = x if len(x.shape) == 2 else self.add(reshape(f"{name}_flat", x, (batch, inputs)))
        w, b = self.weight(f"{name}_weight", (features, inputs), inputs), self.weight(f"{name}_bias", (features,), 16)
        return self.add(with_activation(gemm(name, flat, w, b), activation))

    def prelu(self, name: str, x: Tensor) -> Tensor:
        """PReLU with a slope for each channel, around a quarter."""
        channels = _channels(name, x)
        generator = np.random.default_rng([self.seed, zlib.crc32(name.encode())])
        slope = generator.uniform(0.0, 0.5, (1, channels, 1, 1)).astype(np.float32)
        return self.add(pointwise.prelu(name, x, self.weight(f"{name}_slope", slope.shape, 1, slope)))

    def activation(self, name: str, x: Tensor, spec: Spec) -> Tensor:
        """An activation as a layer of its own."""
        return self.add(pointwise.activation(name, x, spec))

    def arithmetic(
        self, name: str, kind: BinaryFunction, a: Tensor, b: Tensor, *, activation: Spec | None = None
    ) -> Tensor:
        """A function of two tensors that are broadcast."""
        return self.add(with_activation(pointwise.arithmetic(name, kind, a, b), activation))

    def concat(self, name: str, *tensors: Tensor, axis: int = 1) -> Tensor:
        """Concatenation, along the channels unless another axis is given."""
        return self.add(concat(name, tensors, axis))

    def __repr__(self) -> str:
        return f"Builder({self.name!r}): {', '.join(layer.name for layer in self.layers) or 'no layers yet'}"

    def network(self, *outputs: Tensor) -> Network:
        """The network that makes these tensors, of which one may be listed twice."""
        inputs, distinct = tuple(self.inputs), tuple(dict.fromkeys(outputs))
        signature = None
        if len(distinct) < len(outputs):
            ends = tuple(Output(tensor.name, distinct.index(tensor)) for tensor in outputs)
            signature = Signature(Signature.of(inputs, distinct).inputs, ends)
        return Network(self.name, inputs, tuple(self.layers), distinct, dict(self.weights), signature)


MOST_ELEMENTS = 2**31 - 1
"""Along an axis of a weight: C counts them with `int`."""


def _channels(name: str, x: Tensor) -> int:
    if len(x.shape) != 4 or not isinstance(x.shape[1], int):
        raise InvalidInput(f"layer {name!r}: expected an input [n, c, h, w] with a number of channels, got {x}")
    return x.shape[1]


def _window(
    kernel: int | Pair, stride: int | Pair | None, dilation: int | Pair, padding: int | Pair | Padding
) -> Window:
    return Window(_pair(kernel), _pair(kernel if stride is None else stride), _pair(dilation), _padding(padding))


def _pair(value: int | Pair) -> Pair:
    """Rows and columns, from one number for both or one for each."""
    numbers = _numbers(value, (1, 2))
    rows, columns = numbers * (2 // len(numbers))
    return rows, columns


def _padding(value: int | Pair | Padding) -> Padding:
    """Top, left, bottom and right, from one number, one for rows and one for columns, or one for each side."""
    numbers = _numbers(value, (1, 2, 4))
    top, left, bottom, right = numbers * (4 // len(numbers))
    return top, left, bottom, right


def _numbers(value: object, lengths: tuple[int, ...]) -> tuple[int, ...]:
    """Whole numbers, one or as many as some length.

    Errors: InvalidInput.
    """
    given = tuple(value) if isinstance(value, Sequence) else (value,)
    if len(given) not in lengths or not all(map(is_whole_number, given)):
        raise InvalidInput(
            f"window: expected a whole number, or {' or '.join(map(str, lengths[1:]))} of them, got {value!r}; correct "
            "the kernel, stride, padding or dilation"
        )
    return tuple(index(number) for number in given)
