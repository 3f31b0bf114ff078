"""Layers of single elements as sets and relations: arithmetic, scales and shifts, activations.

Tensors of any rank, which are broadcast as numpy does, enter; a `Layer` leaves.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial, reduce

import numpy as np

from polyfuse.errors import InvalidInput
from polyfuse.network.activated import with_activation
from polyfuse.network.activation import Activation, Spec
from polyfuse.network.dtypes import Array
from polyfuse.network.layer import Layer
from polyfuse.network.operator import (
    Activate,
    Affine,
    Arithmetic,
    BinaryFunction,
    Operator,
    Pointwise,
    Prelu,
    VariadicFunction,
)
from polyfuse.network.statements import point_dims, point_statement
from polyfuse.network.tensor import Size, Tensor, check_float32

# References: functions of modules with arguments bound, so that networks can be pickled and sent to other processes.


def ordered(function: Callable[..., Array], order: Sequence[int], *arrays: Array) -> Array:
    """A function of arrays that come in another order, each of them perhaps several times."""
    return function(*(arrays[k] for k in order))


def arranged(
    function: Callable[..., Array], operands: Iterable[Tensor], constants: Collection[Tensor]
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...], Callable[..., Array]]:
    """The inputs and the weights of a layer, each once, and its reference: a function of operands as one of those."""
    read = tuple(operands)
    inputs = tuple(dict.fromkeys(tensor for tensor in read if tensor not in constants))
    weights = tuple(dict.fromkeys(tensor for tensor in read if tensor in constants))
    return inputs, weights, partial(ordered, function, [(*inputs, *weights).index(tensor) for tensor in read])


def _scaled(x: Array, scale: Array, shift: Array) -> Array:
    """Scale and shift."""
    return x * scale + shift


def _sloped(x: Array, slope: Array) -> Array:
    """PReLU."""
    return np.asarray(np.maximum(x, 0.0) + slope * np.minimum(x, 0.0), dtype=np.float64)


def _joined(join: Callable[[Array, Array], Array], *arrays: Array) -> Array:
    """A function of two, from the first array to the last; the largest and the smallest keep NaN."""
    return reduce(join, arrays)


def _mean(*arrays: Array) -> Array:
    """The mean of arrays."""
    return _joined(np.add, *arrays) / len(arrays)


def broadcast(name: str, tensors: Sequence[Tensor]) -> tuple[Size, ...]:
    """The shape that numpy broadcasts tensors to: axes aligned at the last, sizes that agree or are 1.

    Errors: InvalidInput where they do not fit together.
    """
    rank = max(len(tensor.shape) for tensor in tensors)
    sizes: list[Size] = []
    for axis in zip(*((1,) * (rank - len(tensor.shape)) + tensor.shape for tensor in tensors), strict=True):
        wide = {size for size in axis if size != 1}
        if len(wide) > 1:
            raise InvalidInput(
                f"layer {name!r}: cannot broadcast {', '.join(map(str, tensors))}; sizes must agree or be 1"
            )
        sizes.append(wide.pop() if wide else 1)
    return tuple(sizes)


def broadcast_index(tensor: Tensor, shape: Sequence[Size], dims: Sequence[str]) -> str:
    """Which element of a tensor a point of the broadcast shape reads, as isl text."""
    axes = zip(tensor.shape[::-1], shape[::-1], dims[::-1], strict=False)
    return ", ".join(["0" if read == 1 and size != 1 else d for read, size, d in axes][::-1])


def pointwise(
    name: str,
    operands: Mapping[str, Tensor],
    expression: str,
    reference: Callable[..., Array],
    *,
    operator: Operator = Pointwise(),  # noqa: B008  (frozen)
    constants: Sequence[str] = (),
    dtype: str | None = None,
) -> Layer:
    """`out[p] = expression` over operands of any rank that are broadcast as numpy does.

    `constants` names the operands that are weights. `reference` takes the arrays in the order of `operands`. The
    expression is what the layer computes, and so has to be what the operator does. With `dtype`, operands may be of any
    type and the output is of that one.
    """
    if dtype is None:
        check_float32(name, *operands.values())
    out = Tensor(f"{name}_out", broadcast(name, tuple(operands.values())), dtype or "float32")
    dims = point_dims(len(out.shape))
    reads = {operand: (tensor, broadcast_index(tensor, out.shape, dims)) for operand, tensor in operands.items()}
    statement = point_statement(f"{name}_final", out, reads, expression)
    read = arranged(reference, operands.values(), [operands[operand] for operand in constants])
    return Layer(name, operator, out, (statement,), *read)


def activation(name: str, x: Tensor, spec: Activation | Spec) -> Layer:
    """An activation as a layer of its own."""
    return with_activation(pointwise(name, {"x": x}, "x", np.asarray, operator=Activate()), spec)


def affine(name: str, x: Tensor, scale: Tensor, shift: Tensor) -> Layer:
    """`x * scale + shift` with weights that are broadcast."""
    operands = {"x": x, "scale": scale, "shift": shift}
    constants = ("scale", "shift")
    return pointwise(name, operands, "x * scale + shift", _scaled, operator=Affine(), constants=constants)


def prelu(name: str, x: Tensor, slope: Tensor) -> Layer:
    """`x` where it is positive and `slope * x` elsewhere; the slope is a weight that is broadcast (ONNX PRelu)."""
    text = "maximum(x, 0) + slope * minimum(x, 0)"
    operands = {"x": x, "slope": slope}
    return pointwise(name, operands, text, _sloped, operator=Prelu(), constants=("slope",))


ARITHMETIC: dict[BinaryFunction, tuple[str, Callable[..., Array]]] = {
    "add": ("a + b", np.add),
    "sub": ("a - b", np.subtract),
    "mul": ("a * b", np.multiply),
    "div": ("a / b", np.divide),
    "max": ("maximum(a, b)", np.maximum),
    "min": ("minimum(a, b)", np.minimum),
    "pow": ("powf(a, b)", np.power),
}
"""Functions of two operands: as an expression, and in numpy."""


def arithmetic(name: str, how: BinaryFunction, a: Tensor, b: Tensor, *, constants: Sequence[str] = ()) -> Layer:
    """A function of two operands that are broadcast, one of ARITHMETIC. Errors: InvalidInput."""
    if how not in ARITHMETIC:
        raise InvalidInput(f"layer {name!r}: expected one of {', '.join(ARITHMETIC)}, got {how!r}")
    text, function = ARITHMETIC[how]
    return pointwise(name, {"a": a, "b": b}, text, function, operator=Arithmetic(how), constants=constants)


VARIADIC: dict[VariadicFunction, tuple[str, str, Callable[..., Array]]] = {
    "sum": ("{} + {}", "{}", partial(_joined, np.add)),
    "mean": ("{} + {}", "({}) / {}", _mean),
    "max": ("maximum({}, {})", "{}", partial(_joined, np.maximum)),
    "min": ("minimum({}, {})", "{}", partial(_joined, np.minimum)),
}
"""Functions of any number of operands: of two, of that result and the number of operands, and in numpy."""


def variadic(name: str, how: VariadicFunction, tensors: Sequence[Tensor], *, constants: Sequence[Tensor] = ()) -> Layer:
    """A function of several operands that are broadcast, one of VARIADIC (ONNX Sum, Mean, Max and Min).

    Errors: InvalidInput.
    """
    if how not in VARIADIC or not tensors:
        raise InvalidInput(f"layer {name!r}: expected operands of one of {', '.join(VARIADIC)}, got {how!r}")
    join, finish, function = VARIADIC[how]
    operands = {f"x{k}": tensor for k, tensor in enumerate(tensors)}
    text = finish.format(reduce(join.format, operands), len(tensors))
    weights = [operand for operand, tensor in operands.items() if tensor in constants]
    return pointwise(name, operands, text, function, operator=Arithmetic(how), constants=weights)
