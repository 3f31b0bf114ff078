"""The attributes of ONNX nodes, checked: windows, padding and activations.

A `Node` and the tensor it reads enter; the options of a layer leave.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar, cast

import numpy as np
import onnx
from onnx import helper

from polyfuse.errors import InvalidInput, UnsupportedOperator
from polyfuse.network.onnx.constants import Constants
from polyfuse.network.onnx.graph import Node
from polyfuse.network.tensor import Tensor
from polyfuse.network.window import Padding, Pair, Window

Spec = tuple[object, ...]
Value = TypeVar("Value")
LARGEST = float(np.finfo(np.float32).max)
AUTO_PAD = ("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")
PLAIN = ("Relu", "Sigmoid", "Tanh", "HardSwish", "Softplus", "Abs", "Neg", "Exp", "Sqrt", "Erf", "Log", "Reciprocal")
SIMPLE: dict[str, Spec] = {name: (re.sub("(?<!^)(?=[A-Z])", "_", name).lower(),) for name in PLAIN}
"""Activations without attributes."""
WITH_NUMBERS: dict[str, tuple[str, tuple[tuple[str, float], ...]]] = {
    "LeakyRelu": ("leaky_relu", (("alpha", 0.01),)),
    "Elu": ("elu", (("alpha", 1.0),)),
    "HardSigmoid": ("hard_sigmoid", (("alpha", 0.2), ("beta", 0.5))),
}
"""Activations with attributes and their defaults."""
ACTIVATION_OPERATORS = frozenset([*SIMPLE, *WITH_NUMBERS, "Clip", "Gelu"])
INFERENCE = "it is of training, which is refused"
WITHOUT_EFFECT: Mapping[str, Mapping[str, str]] = {
    "BatchNormalization": {"momentum": INFERENCE},
    "Cast": {
        "round_mode": "only elements of float8 are rounded in several ways",
        "saturate": "only elements of float8 are saturated or not",
    },
    "Dropout": {"ratio": INFERENCE, "seed": INFERENCE, "input 1": INFERENCE},
    "MaxPool": {"storage_order": "it orders the indices, which are refused where anything reads them"},
    "QuantizeLinear": {"saturate": "only elements of float8 are saturated or not"},
    "Resize": {
        "extrapolation_value": "only tf_crop_and_resize extrapolates, which is refused",
        "input 1": "only tf_crop_and_resize cuts a region out, which is refused",
    },
}
"""Attributes and inputs that no converter reads, and why they cannot change what a node makes."""


def attribute(node: Node, name: str, default: Value) -> Value:
    """The value of an attribute, or the default where it is left out: a number, text as bytes, or several numbers.

    Errors: InvalidInput where its type is not that of the default.
    """
    found = _stored(node, name)
    if found is None:
        return default
    value = _value(node, found)
    items = tuple(value) if isinstance(value, Sequence) and not isinstance(value, bytes) else None
    if isinstance(default, tuple) and items is not None and all(isinstance(x, int | float) for x in items):
        return cast(Value, items)
    if type(value) is not type(default):
        got = " ".join(repr(value)[:80].split())
        raise InvalidInput(f"{node.label}: expected the attribute {name} to be like {default!r}, got {got}")
    return value


def _stored(node: Node, name: str) -> onnx.AttributeProto | None:
    """An attribute as it is stored, which counts as read; None where it is left out."""
    node.read.add(name)
    return next((each for each in node.proto.attribute if each.name == name), None)


def _value(node: Node, stored: onnx.AttributeProto) -> object:
    try:
        return helper.get_attribute_value(stored)
    except (ValueError, TypeError) as error:
        why = " ".join(str(error).split())[:100]
        raise InvalidInput(f"{node.label}: cannot read the attribute {stored.name} ({why})") from None


def check_read(node: Node) -> None:
    """Refuse a converted node with an attribute or an input that its converter has not read.

    Errors: UnsupportedOperator.
    """
    without = WITHOUT_EFFECT.get(node.operator, {})
    for each in node.proto.attribute:
        if each.name not in node.read and each.name not in without:
            known = sorted({name for name in {*node.read, *without} if isinstance(name, str) and " " not in name})
            raise UnsupportedOperator(
                f"{node.label}: {node.operator} has the attribute {each.name!r}; supported: "
                f"{', '.join(known) or 'none'}"
            )
    for position, name in enumerate(node.inputs):
        if name and position not in node.read and f"input {position}" not in without:
            raise UnsupportedOperator(
                f"{node.label}: {node.operator} has {name!r} as input {position}, which is not supported; leave it out"
            )


def check_made(node: Node, made: Collection[str], used: Collection[str]) -> None:
    """Refuse a converted node of which an output is used that was not made.

    Errors: UnsupportedOperator.
    """
    for name in filter(None, node.outputs):
        if name in used and name not in made:
            raise UnsupportedOperator(f"{node.label}: its output {name!r} is used; only the first output is supported")


def pair(node: Node, name: str, default: Pair | None) -> Pair:
    """Two whole numbers: an attribute over the two spatial axes. Errors: InvalidInput."""
    value: tuple[float, ...] = attribute(node, name, () if default is None else default)
    if len(value) != 2 or not all(isinstance(each, int) for each in value):
        raise InvalidInput(f"{node.label}: expected two whole numbers for {name} (2-D windows), got {list(value)}")
    return int(value[0]), int(value[1])


def flag(node: Node, name: str) -> bool:
    """An attribute that is 0 or 1 and 0 by default."""
    return bool(attribute(node, name, 0))


def axes_of(node: Node, x: Tensor | int, axes: Sequence[int]) -> list[int]:
    """Axes of a tensor, or of one of a rank, counted from the first one; negative ones count from the end.

    Errors: InvalidInput for axes that it does not have, and for one that is named twice.
    """
    rank, of = (x, "") if isinstance(x, int) else (len(x.shape), f" of {x}")
    wrong = next((axis for axis in axes if not -rank <= axis < rank), None)
    if wrong is not None:
        raise InvalidInput(f"{node.label}: expected an axis{of}, from {-rank} to {rank - 1}, got {wrong}")
    if len({axis % rank for axis in axes}) != len(axes):
        raise InvalidInput(f"{node.label}: expected different axes{of} from {-rank} to {rank - 1}, got {list(axes)}")
    return [axis % rank for axis in axes]


def axis_of(node: Node, x: Tensor, axis: int) -> int:
    """An axis of a tensor counted from the first one.

    Errors: InvalidInput for one that it does not have.
    """
    return axes_of(node, x, (axis,))[0]


def window(node: Node, x: Tensor, kernel: Pair | None = None) -> Window:
    """The window of a convolution or a pool, its padding as given or as `auto_pad` has it.

    The kernel is an attribute unless given.
    Errors: InvalidInput.
    """
    plain = _unpadded(node, pair(node, "kernel_shape", None) if kernel is None else kernel)
    mode, given = auto_pad(node), given_padding(node)
    if mode == "NOTSET":
        return replace(plain, padding=given)
    chosen = plain.padding if mode == "VALID" else _same_padding(node, mode, x, plain)
    if any(given) and given != chosen:
        raise InvalidInput(f"{node.label}: its pads are {list(given)}, but auto_pad is {mode}; leave one of them out")
    return replace(plain, padding=chosen)


def _unpadded(node: Node, kernel: Pair) -> Window:
    return Window(kernel, pair(node, "strides", (1, 1)), pair(node, "dilations", (1, 1)))


def _same_padding(node: Node, mode: str, x: Tensor, window: Window) -> Padding:
    """The padding with which the output has the size of the input, divided by the strides.

    Errors: InvalidInput; UnsupportedOperator for a pool whose padding would be negative.
    """
    if len(x.shape) != 4:
        raise InvalidInput(f"{node.label}: expected an input [n, c, h, w], got {x}")
    pads = []
    for size, s, reach in zip(x.concrete_shape[2:], window.stride, window.reach, strict=True):
        if s < 1:
            raise InvalidInput(f"{node.label}: expected strides of at least 1, got {window.stride}")
        total = (-(-size // s) - 1) * s + reach - size
        if total < 0 and node.operator.endswith("Pool"):
            raise UnsupportedOperator(
                f"{node.label}: {mode} leaves elements out where a stride of {s} is larger than a window of {reach}, "
                "and tools differ in which; use pads"
            )
        pads.append(_shared(max(0, total), mode))
    (top, bottom), (left, right) = pads
    return top, left, bottom, right


def _shared(total: int, mode: str) -> tuple[int, int]:
    """Padding before and after: half of it each, what is odd after for SAME_UPPER, and before for other modes."""
    less, more = total // 2, total - total // 2
    return (less, more) if mode == "SAME_UPPER" else (more, less)


def auto_pad(node: Node) -> str:
    """The attribute auto_pad. Errors: UnsupportedOperator for another word than AUTO_PAD has."""
    mode = text(node, "auto_pad", "NOTSET")
    if mode not in AUTO_PAD:
        raise UnsupportedOperator(f"{node.label}: auto_pad is {mode!r}; supported: {', '.join(AUTO_PAD)}")
    return mode


def given_padding(node: Node) -> Padding:
    """Padding (top, left, bottom, right) as given. Errors: InvalidInput."""
    pads: tuple[float, ...] = attribute(node, "pads", (0, 0, 0, 0))
    if len(pads) != 4 or not all(isinstance(each, int) for each in pads):
        raise InvalidInput(f"{node.label}: expected four whole numbers for pads, got {list(pads)}")
    return int(pads[0]), int(pads[1]), int(pads[2]), int(pads[3])


def spread_window(node: Node, x: Tensor, kernel: Pair) -> tuple[Window, Pair]:
    """Window and output padding of a transposed convolution: as given, or so that the output has the size wanted.

    Errors: InvalidInput, UnsupportedOperator.
    """
    plain = _unpadded(node, kernel)
    mode, more, given = auto_pad(node), pair(node, "output_padding", (0, 0)), given_padding(node)
    wanted = integers(node, "output_shape")
    if wanted is None and mode in ("NOTSET", "VALID"):
        return plain if mode == "VALID" else replace(plain, padding=given), more
    stride = plain.stride
    sizes = (
        wanted[-2:] if wanted is not None else [s * size for s, size in zip(stride, x.concrete_shape[2:], strict=True)]
    )
    if len(sizes) != 2 or len(x.shape) != 4:
        raise InvalidInput(f"{node.label}: expected an output_shape of rows and columns, got {wanted}")
    pads, beyond = [], []
    for axis in range(2):
        reach = stride[axis] * (x.concrete_shape[2 + axis] - 1) + plain.reach[axis]
        total = reach + more[axis] - sizes[axis]
        if total < 0 and wanted is None:
            raise UnsupportedOperator(
                f"{node.label}: {mode} asks for {sizes[axis]} elements, more than the {reach} that the taps reach, and "
                "tools differ in where they begin; use pads and output_padding"
            )
        beyond.append(more[axis] - min(total, 0))
        pads.append(_shared(max(total, 0), mode))
    (top, bottom), (left, right) = pads
    return replace(plain, padding=(top, left, bottom, right)), (beyond[0], beyond[1])


def activation(node: Node, constants: Constants) -> Spec | None:
    """The activation that a node is: `("clip", 0.0, 6.0)`; empty for one that changes nothing; None for other nodes.

    Errors: UnsupportedOperator.
    """
    if node.operator not in ACTIVATION_OPERATORS:
        return None
    if node.operator in SIMPLE:
        return SIMPLE[node.operator]
    if node.operator == "Clip":
        return _clip(node, constants)
    if node.operator == "Gelu":
        mode = attribute(node, "approximate", b"none")
        if mode not in (b"none", b"tanh"):
            raise UnsupportedOperator(f"{node.label}: approximate is {mode!r}; supported: none, tanh")
        return ("gelu_tanh",) if mode == b"tanh" else ("gelu",)
    name, numbers = WITH_NUMBERS[node.operator]
    return name, *(short(attribute(node, each, default)) for each, default in numbers)


def short(value: object) -> float:
    """A float32 as the shortest number that rounds to it."""
    return float(str(np.float32(value)))  # type: ignore[arg-type]


def _clip(node: Node, constants: Constants) -> Spec:
    bounds = [short(attribute(node, "min", -LARGEST)), short(attribute(node, "max", LARGEST))]
    for position in range(2):
        name = node.input(1 + position)
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
    """Whole numbers; None where the attribute is left out. Errors: InvalidInput."""
    if _stored(node, name) is None:
        return None
    value: tuple[int, ...] = attribute(node, name, ())
    if not all(isinstance(each, int) for each in value):
        raise InvalidInput(f"{node.label}: expected whole numbers for {name}, got {value!r}")
    return value


def text(node: Node, name: str, default: str) -> str:
    """A word."""
    return attribute(node, name, default.encode()).decode(errors="replace")


def floats(node: Node, name: str) -> tuple[float, ...]:
    """Numbers; none where the attribute is left out. Errors: InvalidInput."""
    value: tuple[float, ...] = attribute(node, name, ())
    if not all(isinstance(each, float) for each in value):
        raise InvalidInput(f"{node.label}: expected numbers for {name}, got {value!r}")
    return value
