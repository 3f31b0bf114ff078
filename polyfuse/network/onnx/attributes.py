"""What the attributes of an ONNX node say, checked: windows, padding and activations.

A `Node` and the tensor it reads enter; the options of a layer leave.
"""

from collections.abc import Collection, Sequence

import numpy as np
import onnx
from onnx import helper

from polyfuse.errors import InvalidInput, UnsupportedOperator
from polyfuse.network.onnx.constants import Constants
from polyfuse.network.onnx.graph import Node
from polyfuse.network.operators import Padding, Pair
from polyfuse.network.tensor import Tensor

Spec = tuple[object, ...]
LARGEST = float(np.finfo(np.float32).max)
AUTO_PAD = ("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")
SIMPLE: dict[str, Spec] = {
    "Relu": ("relu",),
    "Sigmoid": ("sigmoid",),
    "Tanh": ("tanh",),
    "HardSwish": ("hard_swish",),
    "Softplus": ("softplus",),
    "Abs": ("abs",),
    "Neg": ("neg",),
    "Exp": ("exp",),
    "Sqrt": ("sqrt",),
    "Erf": ("erf",),
    "Log": ("log",),
    "Reciprocal": ("reciprocal",),
}
"""Activations without attributes."""
WITH_NUMBERS: dict[str, tuple[str, tuple[tuple[str, float], ...]]] = {
    "LeakyRelu": ("leaky_relu", (("alpha", 0.01),)),
    "Elu": ("elu", (("alpha", 1.0),)),
    "HardSigmoid": ("hard_sigmoid", (("alpha", 0.2), ("beta", 0.5))),
}
"""Activations with attributes and their defaults."""
ACTIVATION_OPERATORS = frozenset([*SIMPLE, *WITH_NUMBERS, "Clip", "Gelu"])


def attribute(node: Node, name: str, default: object) -> object:
    """The value of an attribute, or the default where it is left out.

    Errors: InvalidInput where its type is not that of the default.
    """
    for each in node.proto.attribute:
        if each.name == name:
            value = _value(node, each)
            items = tuple(value) if isinstance(value, Sequence) and not isinstance(value, bytes) else None
            if isinstance(default, tuple) and items is not None and all(isinstance(x, int | float) for x in items):
                return items
            if type(value) is not type(default):
                got = " ".join(repr(value)[:80].split())
                raise InvalidInput(f"{node.label}: expected the attribute {name} to be like {default!r}, got {got}")
            return value
    return default


def _value(node: Node, stored: onnx.AttributeProto) -> object:
    try:
        return helper.get_attribute_value(stored)
    except (ValueError, TypeError) as error:
        why = " ".join(str(error).split())[:100]
        raise InvalidInput(f"{node.label}: cannot read the attribute {stored.name} ({why})") from None


def check_attributes(node: Node, known: Collection[str]) -> None:
    """Refuse attributes that would be ignored."""
    for each in node.proto.attribute:
        if each.name not in known:
            raise UnsupportedOperator(
                f"{node.label}: {node.operator} has the attribute {each.name!r}; supported: "
                f"{', '.join(sorted(known)) or 'none'}"
            )


def pair(node: Node, name: str, default: Pair | None) -> Pair:
    """Two whole numbers: an attribute over the two spatial axes."""
    value = attribute(node, name, () if default is None else default)
    assert isinstance(value, Sequence)
    if len(value) != 2 or not all(isinstance(each, int) for each in value):
        raise InvalidInput(f"{node.label}: expected two whole numbers for {name} (2-D windows), got {list(value)}")
    return int(value[0]), int(value[1])


def flag(node: Node, name: str) -> bool:
    """An attribute that is 0 or 1 and 0 by default."""
    return bool(attribute(node, name, 0))


def padding(node: Node, x: Tensor, kernel: Pair, stride: Pair, dilation: Pair) -> Padding:
    """Padding (top, left, bottom, right), as given or as `auto_pad` has it."""
    mode = auto_pad(node)
    if mode == "NOTSET":
        return given_padding(node)
    if mode == "VALID":
        return 0, 0, 0, 0
    before, after = [], []
    for size, k, s, d in zip(x.concrete_shape[2:], kernel, stride, dilation, strict=True):
        if s < 1:
            raise InvalidInput(f"{node.label}: expected strides of at least 1, got {stride}")
        total = max(0, (-(-size // s) - 1) * s + (k - 1) * d + 1 - size)
        less, more = total // 2, total - total // 2
        before.append(less if mode == "SAME_UPPER" else more)
        after.append(more if mode == "SAME_UPPER" else less)
    return before[0], before[1], after[0], after[1]


def auto_pad(node: Node) -> str:
    """How padding is chosen."""
    mode = text(node, "auto_pad", "NOTSET")
    if mode not in AUTO_PAD:
        raise UnsupportedOperator(f"{node.label}: auto_pad is {mode!r}; supported: {', '.join(AUTO_PAD)}")
    return mode


def given_padding(node: Node) -> Padding:
    """Padding (top, left, bottom, right) as given."""
    pads = attribute(node, "pads", (0, 0, 0, 0))
    assert isinstance(pads, Sequence)
    if len(pads) != 4 or not all(isinstance(each, int) for each in pads):
        raise InvalidInput(f"{node.label}: expected four whole numbers for pads, got {list(pads)}")
    return int(pads[0]), int(pads[1]), int(pads[2]), int(pads[3])


def spread_padding(node: Node, x: Tensor, kernel: Pair, stride: Pair, dilation: Pair) -> tuple[Padding, Pair]:
    """Padding and output padding of a transposed convolution: as given, or so that the output has the size wanted."""
    mode, more = auto_pad(node), pair(node, "output_padding", (0, 0))
    wanted = integers(node, "output_shape")
    if wanted is None and mode in ("NOTSET", "VALID"):
        return given_padding(node) if mode == "NOTSET" else (0, 0, 0, 0), more
    sizes = (
        wanted[-2:] if wanted is not None else [s * size for s, size in zip(stride, x.concrete_shape[2:], strict=True)]
    )
    if len(sizes) != 2 or len(x.shape) != 4:
        raise InvalidInput(f"{node.label}: expected an output_shape of rows and columns, got {wanted}")
    before, after, beyond = [], [], []
    for axis in range(2):
        reach = stride[axis] * (x.concrete_shape[2 + axis] - 1) + (kernel[axis] - 1) * dilation[axis] + 1
        total = reach + more[axis] - sizes[axis]
        if total < 0 and wanted is None:
            raise UnsupportedOperator(
                f"{node.label}: {mode} asks for {sizes[axis]} elements, more than the {reach} that the taps reach, and "
                "tools differ in where they begin; use pads and output_padding"
            )
        cut = max(total, 0)
        less, rest = cut // 2, cut - cut // 2
        beyond.append(more[axis] - min(total, 0))
        before.append(less if mode == "SAME_UPPER" else rest)
        after.append(rest if mode == "SAME_UPPER" else less)
    return (before[0], before[1], after[0], after[1]), (beyond[0], beyond[1])


def activation(node: Node, constants: Constants) -> Spec | None:
    """The activation that a node is: `("clip", 0.0, 6.0)`; empty for one that changes nothing; None for other nodes."""
    if node.operator not in ACTIVATION_OPERATORS:
        return None
    if node.operator in SIMPLE:
        check_attributes(node, ())
        return SIMPLE[node.operator]
    if node.operator == "Clip":
        return _clip(node, constants)
    if node.operator == "Gelu":
        check_attributes(node, ["approximate"])
        mode = attribute(node, "approximate", b"none")
        if mode not in (b"none", b"tanh"):
            raise UnsupportedOperator(f"{node.label}: approximate is {mode!r}; supported: none, tanh")
        return ("gelu_tanh",) if mode == b"tanh" else ("gelu",)
    name, numbers = WITH_NUMBERS[node.operator]
    check_attributes(node, [each for each, _ in numbers])
    return name, *(short(attribute(node, each, default)) for each, default in numbers)


def short(value: object) -> float:
    """A float32 as the shortest number that rounds to it."""
    return float(str(np.float32(value)))  # type: ignore[arg-type]


def _clip(node: Node, constants: Constants) -> Spec:
    check_attributes(node, ["min", "max"])
    bounds = [short(attribute(node, "min", -LARGEST)), short(attribute(node, "max", LARGEST))]
    for position, name in enumerate(node.inputs[1:3]):
        if name:
            if not constants.known(name):
                raise UnsupportedOperator(f"{node.label}: the bound {name!r} of Clip is computed; expected a constant")
            value = constants.value(name)
            if value.size != 1 or value.dtype != np.float32:
                raise InvalidInput(f"{node.label}: expected one float32 for the bound {name!r}, got {value.shape}")
            bounds[position] = short(value.reshape(()))
    low, high = bounds
    if np.isnan(low) or np.isnan(high):
        raise InvalidInput(f"{node.label}: expected bounds that are numbers, got {low} and {high}")
    floor, ceiling = low > -short(LARGEST), high < short(LARGEST)
    if floor and ceiling:
        return "clip", low, high
    if floor:
        return ("relu",) if low == 0.0 else ("at_least", low)
    return ("at_most", high) if ceiling else ()


def integers(node: Node, name: str) -> tuple[int, ...] | None:
    """Whole numbers; None where the attribute is left out."""
    if all(each.name != name for each in node.proto.attribute):
        return None
    value = attribute(node, name, ())
    if not isinstance(value, tuple) or not all(isinstance(each, int) for each in value):
        raise InvalidInput(f"{node.label}: expected whole numbers for {name}, got {value!r}")
    return value


def text(node: Node, name: str, default: str) -> str:
    """A word."""
    value = attribute(node, name, default.encode())
    assert isinstance(value, bytes)
    return value.decode(errors="replace")


def int_attribute(node: Node, name: str, default: int) -> int:
    """A whole number."""
    value = attribute(node, name, default)
    assert isinstance(value, int)
    return value


def float_attribute(node: Node, name: str, default: float) -> float:
    """A number."""
    value = attribute(node, name, default)
    assert isinstance(value, float)
    return value


def check_outputs(node: Node, used: Collection[str]) -> None:
    """Refuse a node of which more than the first output is used."""
    for name in node.outputs[1:]:
        if name in used:
            raise UnsupportedOperator(f"{node.label}: its output {name!r} is used; only the first output is supported")


def floats(node: Node, name: str) -> tuple[float, ...]:
    """Numbers; none where the attribute is left out."""
    value = attribute(node, name, ())
    if not isinstance(value, tuple) or not all(isinstance(each, float) for each in value):
        raise InvalidInput(f"{node.label}: expected numbers for {name}, got {value!r}")
    return value
