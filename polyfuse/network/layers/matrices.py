"""Products of matrices: of a tensor and a weight, and of two tensors.

Tensors of concrete sizes enter; a `Layer` of one reduction leaves.
"""

from collections.abc import Collection

import numpy as np

from polyfuse.errors import InvalidInput
from polyfuse.network.dtypes import Array
from polyfuse.network.layer import Layer
from polyfuse.network.layers.convolution import SumForm, Sums, biased_start
from polyfuse.network.layers.pointwise import arranged, broadcast, broadcast_index
from polyfuse.network.operator import Gemm, Matmul
from polyfuse.network.statements import point_dims, point_statement, window_statement
from polyfuse.network.tensor import Tensor, check_float32


def gemm(name: str, x: Tensor, w: Tensor, bias: Tensor | None = None) -> Layer:
    """`out[n, m] = sum over k of x[n, k] * w[m, k], + bias`, with weights and a bias that is broadcast (ONNX Gemm).

    Errors: InvalidInput where shapes do not fit together.
    """
    check_float32(name, x, w, bias)
    return gemm_sums(name, x, w, bias).layer(name, x, w, bias)


def gemm_sums(
    name: str,
    x: Tensor,
    w: Tensor,
    bias: Tensor | None,
    form: SumForm = SumForm(),  # noqa: B008  (frozen)
) -> Sums:
    """What a product of matrices adds to a bias, or to zero, at each point of its output.

    Errors: InvalidInput where shapes do not fit together.
    """
    if len(x.shape) != 2 or len(w.shape) != 2 or x.shape[1] != w.shape[1]:
        raise InvalidInput(f"layer {name!r}: expected an input [n, k] and weights [m, k], got {x} and {w}")
    out = Tensor(f"{name}_out", (x.shape[0], w.shape[0]), form.dtype)
    if bias is not None and broadcast(name, (out, bias)) != out.shape:
        raise InvalidInput(f"layer {name!r}: expected a bias that is broadcast to {out}, got {bias}")
    init = biased_start(
        name, out, bias, "" if bias is None else broadcast_index(bias, out.shape, point_dims(2)), form.zero
    )
    operands = {"x": (x, "d0, k"), "weight": (w, "d1, k"), **{o: (t, "d1") for o, t in form.more.items()}}
    taken = window_statement(f"{name}_update", out, {"k": x.shape[1]}, operands, "x", form.update, macs=1)
    return Sums(Gemm(), out, (init, taken), _affine)


def matmul(name: str, a: Tensor, b: Tensor, constants: Collection[Tensor] = ()) -> Layer:
    """`out[…, i, j] = sum over k of a[…, i, k] * b[…, k, j]`, the axes in front broadcast (ONNX MatMul).

    A vector is a row on the left and a column on the right, and its axis is left out of the result; where that leaves
    none, the result has one element. `constants` are those that are weights.
    Errors: InvalidInput where shapes do not fit together.
    """
    check_float32(name, a, b)
    sums = matmul_sums(name, a, b, SumForm(update="acc + a * b"))
    return Layer(name, sums.operator, sums.out, sums.statements, *arranged(sums.computed, (a, b), constants))


def matmul_sums(name: str, a: Tensor, b: Tensor, form: SumForm) -> Sums:
    """What a product of tensors adds to zero at each point of its output.

    Errors: InvalidInput where shapes do not fit together.
    """
    left, right = a.concrete_shape, b.concrete_shape
    if not left or not right or left[-1] != right[-2 if len(right) > 1 else 0]:
        raise InvalidInput(f"layer {name!r}: expected operands [.., i, k] and [.., k, j], got {a} and {b}")
    fronts = [Tensor(t.name, t.concrete_shape[:-2]) for t in (a, b)]
    front = broadcast(name, fronts)
    rows, columns = left[-2:-1], right[-1:] if len(right) > 1 else ()
    out = Tensor(f"{name}_out", (*front, *rows, *columns) or (1,), form.dtype)
    dims = point_dims(len(out.shape))
    batch, row, column = dims[: len(front)], dims[len(front) : len(front) + len(rows)], dims[len(dims) - len(columns) :]
    a_batch, b_batch = (filter(None, [broadcast_index(t, front, batch)]) for t in fronts)
    reads = {
        "a": (a, ", ".join([*a_batch, *row, "k"])),
        "b": (b, ", ".join([*b_batch, "k", *(column if columns else ())])),
        **{operand: (tensor, dims[-1]) for operand, tensor in form.more.items()},
    }
    taken = window_statement(f"{name}_update", out, {"k": left[-1]}, reads, "a", form.update, macs=1)
    return Sums(Matmul(), out, (point_statement(f"{name}_init", out, {}, form.zero), taken), _product)


# References: functions of modules with arguments bound, so that networks can be pickled and sent to other processes.


def _affine(x: Array, w: Array, bias: Array | None = None) -> Array:
    y: Array = x @ w.T
    return y if bias is None else y + bias


def _product(a: Array, b: Array) -> Array:
    return np.asarray(a @ b, dtype=np.float64).reshape(np.shape(a @ b) or (1,))
