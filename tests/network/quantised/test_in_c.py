"""Statements of integer layers, printed as C and compiled, make the same bits as in Python."""

import ctypes
import subprocess
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from polyfuse.codegen.c.expression import to_c
from polyfuse.codegen.emit.cfile import start
from polyfuse.network.layer import Layer, Statement
from polyfuse.network.quantised import elements, sums
from polyfuse.network.quantised.scheme import Quantisation
from polyfuse.network.tensor import Tensor
from tests.network.quantised.onnx_operators import drawn, pairs, scales, value

C_TYPES = {"int8": "signed char", "uint8": "unsigned char", "int32": "int", "float32": "float"}
COUNT = 4096


def compiled(layer: Layer, statement: Statement, folder: Path) -> ctypes.CDLL:
    """A library with `run(n, made, acc, operand, ...)`: one statement at n points, each operand with an array."""
    whole = {name: f"{name}_[i]" for name in statement.whole} | {"acc": "acc[i]"}
    whole |= {name: f"{name}_" for name in statement.tables}
    floats = {name: f"{name}_[i]" for name in statement.operands if name not in whole}
    text = to_c(statement.expression, floats, whole, whole=True)
    arrays = [f"const {C_TYPES[read.tensor.dtype]} *{name}_" for name, read in statement.operands.items()]
    arguments = ", ".join(["int n", f"{C_TYPES[layer.output.dtype]} *made", "const int *acc", *arrays])
    source, library = folder / "s.c", folder / "s.so"
    source.write_text(f"{start()}\nvoid run({arguments}) {{ for (int i = 0; i < n; i++) made[i] = {text}; }}\n")
    flags = ["-std=c11", "-O3", "-march=native", "-ffp-contract=off", "-w", "-fPIC", "-shared"]
    subprocess.run(["gcc", *flags, str(source), "-o", str(library), "-lm"], check=True)
    return ctypes.CDLL(str(library))


def made_in_c(layer: Layer, folder: Path, arrays: Mapping[str, np.ndarray], acc: np.ndarray) -> np.ndarray:
    """What the last statement of a layer makes of arrays of operands."""
    statement = layer.statements[-1]
    made = np.empty(acc.size, np.dtype(layer.output.dtype))
    given = [np.ascontiguousarray(arrays[name]) for name in statement.operands]
    pointers = [array.ctypes.data_as(ctypes.c_void_p) for array in (made, acc.astype(np.int32), *given)]
    compiled(layer, statement, folder).run(ctypes.c_int(acc.size), *pointers)
    return made


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("ties", [False, True])
def test_elements_are_the_same_in_c(dtype: str, ties: bool, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    a, b = (side.ravel() for side in pairs(dtype))
    x, y = Tensor("x", a.shape, dtype), Tensor("y", b.shape, dtype)
    p, q, r = (scales(generator, dtype, ties) for _ in range(3))
    floats = (generator.standard_normal(a.size) * 3).astype(np.float32)
    floats[:512] = (np.arange(512) - 256 + 0.5) * p.scale
    cases = [
        (elements.arithmetic("f", "add", x, y, scales=(p, q, r)), {}),
        (elements.arithmetic("f", "mul", x, y, scales=(p, q, r)), {}),
        elements.function("f", x, np.tanh, scales=(p, r)),
        elements.quantize("f", Tensor("z", a.shape), p),
        elements.dequantize("f", x, p),
        (elements.clamp("f", x, 5, 77), {}),
    ]
    given = {"x": a, "y": b, "z": floats}
    for number, (layer, weights) in enumerate(cases):
        folder = tmp_path / str(number)
        folder.mkdir()
        values = {**given, **weights}
        arrays = {name: values[read.tensor.name] for name, read in layer.statements[-1].operands.items()}
        inputs = {tensor.name: given[tensor.name] for tensor in layer.inputs}
        found = made_in_c(layer, folder, arrays, np.zeros(a.size))
        np.testing.assert_array_equal(found, value(layer, weights, **inputs), str(layer))


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_sums_are_the_same_in_c(dtype: str, tmp_path: Path) -> None:
    """The last statement of a product, of sums that a bias gives it: small ones, large ones, and ties."""
    generator = np.random.default_rng(1)
    acc = np.concatenate([generator.integers(-m, m, COUNT) for m in (300, 30_000, 2**30)]).astype(np.int32)
    for number in range(6):
        p, r = scales(generator, dtype, number % 2 == 0), scales(generator, dtype, number % 2 == 0)
        w = scales(generator, "int8", number % 2 == 0, acc.size)
        tensors = Tensor("x", (1, 1), dtype), Tensor("w", (acc.size, 1), "int8"), Tensor("b", acc.shape, "int32")
        layer, more = sums.gemm("f", *tensors, scales=(p, w, r))
        weights = {"w": np.zeros((acc.size, 1), np.int8), "b": acc, **more}
        folder = tmp_path / str(number)
        folder.mkdir()
        found = made_in_c(layer, folder, {"multiplier": more["f_multiplier"]}, acc)
        expected = value(layer, weights, x=drawn(generator, dtype, (1, 1)))
        np.testing.assert_array_equal(found, expected.ravel())
        assert len(set(found.tolist())) > 100


def test_what_is_stored_is_converted_exactly() -> None:
    """Every last statement ends in whole numbers of the type, so that C's conversion of a float loses nothing."""
    scale = Quantisation(1e-3, 7, "uint8")
    layer, _ = elements.quantize("f", Tensor("z", (4,)), scale)
    assert value(layer, {}, z=np.array([-1e30, 1e30, 0.0, 5e-4], np.float32)).tolist() == [0, 255, 7, 7]
