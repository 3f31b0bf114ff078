"""Normalisation by what is in the image: across neighbouring channels, and of each channel of each image.

Tensors of concrete sizes and weights enter; a `Layer`, or several, leave.
"""

from functools import partial

import numpy as np

from polyfuse.errors import InvalidInput
from polyfuse.network.dtypes import Array
from polyfuse.network.layer import Layer
from polyfuse.network.layers.pointwise import pointwise
from polyfuse.network.layers.reductions import reduce, variance
from polyfuse.network.operator import InstanceNorm, LocalResponse
from polyfuse.network.statements import point_dims, point_statement, window_statement
from polyfuse.network.tensor import Tensor, check_float32


def lrn(name: str, x: Tensor, size: int, *, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0) -> Layer:
    """`x / (bias + alpha/size * s)**beta`, where s is the sum of the squares of `size` channels around (ONNX LRN).

    Errors: InvalidInput for sizes below 1 and tensors without channels.
    """
    check_float32(name, x)
    if size < 1 or len(x.shape) < 2:
        raise InvalidInput(f"layer {name!r}: expected a size of at least 1 and a tensor with channels, got {size}, {x}")
    out = Tensor(f"{name}_out", x.shape)
    dims = point_dims(len(x.shape))
    here = ", ".join(dims)
    near = ", ".join(f"{d} + k - {(size - 1) // 2}" if axis == 1 else d for axis, d in enumerate(dims))
    update = window_statement(f"{name}_update", out, {"k": size}, {"x": (x, near)}, "x", "acc + x * x", macs=0)
    divisor = f"powf({float(bias)!r} + {alpha / size!r} * acc, {float(beta)!r})"
    return Layer(
        name,
        LocalResponse(size, alpha, beta, bias),
        out,
        (
            point_statement(f"{name}_init", out, {}, "0.0"),
            update,
            point_statement(f"{name}_final", out, {"x": (x, here)}, f"x / {divisor}"),
        ),
        (x,),
        (),
        partial(_normalised_locally, size, alpha, beta, bias),
    )


def instance_norm(name: str, x: Tensor, scale: Tensor, shift: Tensor, *, epsilon: float = 1e-5) -> tuple[Layer, ...]:
    """`(x - mean) / sqrt(variance + epsilon) * scale + shift` over all axes behind the channels, for each image.

    Three layers: NAME_mean, NAME_var, and the last, an InstanceNorm. `scale` and `shift` are weights that are
    broadcast (ONNX InstanceNormalization).
    Errors: InvalidInput for tensors without such axes.
    """
    axes = range(2, len(x.shape))
    if not axes:
        raise InvalidInput(f"layer {name!r}: expected a tensor [n, c, ..] with axes behind the channels, got {x}")
    mean = reduce(f"{name}_mean", "mean", x, axes)
    spread = variance(f"{name}_var", x, mean.output, axes)
    last = pointwise(
        name,
        {"x": x, "m": mean.output, "v": spread.output, "scale": scale, "shift": shift},
        f"((x - m) / sqrtf(v + {float(epsilon)!r}) * scale + shift)",
        partial(_normalised, epsilon),
        operator=InstanceNorm(epsilon),
        constants=("scale", "shift"),
    )
    return mean, spread, last


# References: functions of modules with arguments bound, so that networks can be pickled and sent to other processes.


def _normalised_locally(size: int, alpha: float, beta: float, bias: float, x: Array) -> Array:
    low = (size - 1) // 2
    padding = [(0, 0), (low, size - 1 - low), *[(0, 0)] * (x.ndim - 2)]
    squares = np.pad(x**2, padding)
    total = sum(squares[:, k : k + x.shape[1]] for k in range(size))
    return np.asarray(x / (bias + alpha / size * total) ** beta, dtype=np.float64)


def _normalised(epsilon: float, x: Array, mean: Array, spread: Array, scale: Array, shift: Array) -> Array:
    return (x - mean) / np.sqrt(spread + epsilon) * scale + shift
