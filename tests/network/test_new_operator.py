"""An operator that polyfuse lacks is added by two files, as docs/inside/adding-a-layer.md says, and nothing else."""

import shutil
import subprocess
import sys
from pathlib import Path

import polyfuse

LAYER = '''
"""Pooling by the sum of magnitudes."""

from dataclasses import dataclass
from functools import partial

import numpy as np

from polyfuse.network.dtypes import Array
from polyfuse.network.layer import Layer
from polyfuse.network.layers.pooling import pool_output, pool_update, windows
from polyfuse.network.operator import Operator
from polyfuse.network.statements import point_statement
from polyfuse.network.tensor import Tensor
from polyfuse.network.window import Window


@dataclass(frozen=True)
class MagnitudePool(Operator):
    """The sum of the magnitudes in each window; padding counts nothing."""

    window: Window


def magnitude_pool(name: str, x: Tensor, window: Window) -> Layer:
    """A layer of it (ONNX LpPool with p = 1)."""
    out = pool_output(name, x, window)
    statements = point_statement(f"{name}_init", out, {}, "0.0"), pool_update(name, x, out, window, "acc + fabsf(x)")
    return Layer(name, MagnitudePool(window), out, statements, (x,), (), partial(_magnitudes, window))


def _magnitudes(window: Window, x: Array) -> Array:
    return np.asarray(np.abs(windows(x, window, 0.0)).sum(axis=(4, 5)))
'''
ONNX = '''
"""LpPool with p = 1 as a layer, and back."""

from polyfuse.errors import UnsupportedOperator
from polyfuse.network.layer import Layer
from polyfuse.network.layers.magnitudes import MagnitudePool, magnitude_pool
from polyfuse.network.onnx import attributes
from polyfuse.network.onnx.graph import Node
from polyfuse.network.onnx.importing import Import
from polyfuse.network.onnx.writing import Parts, Writers, single


def pool(state: Import, node: Node) -> None:
    """LpPool."""
    if attributes.attribute(node, "p", 2) != 1:
        raise UnsupportedOperator(f"{node.label}: p is not 1")
    x = state.tensor(node)
    state.add(node, magnitude_pool(node.name, x, attributes.window(node, x)))


def _pool(made: MagnitudePool, layer: Layer, y: str) -> Parts:
    kernel, strides, pads = made.window.kernel, made.window.stride, made.window.padding
    return single("LpPool", layer, y, p=1, kernel_shape=kernel, strides=strides, pads=pads)


READS = {"LpPool": pool}
WRITES: Writers = {MagnitudePool: _pool}
'''
USE = """
import sys
import numpy as np
import onnxruntime
import polyfuse as pf
from polyfuse.network.activated import with_activation
from polyfuse.network.instances import interpret
from polyfuse.network.layers.magnitudes import magnitude_pool
from polyfuse.network.window import Window

build = pf.Builder("energy")
x = build.conv("features", build.input("x", (1, 2, 13, 12)), 2, kernel=3)
layer = with_activation(magnitude_pool("pool", x, Window((3, 2), (2, 2), padding=(1, 1, 1, 0))), "relu6")
net = build.network(build.conv("after", build.add(layer), 3, kernel=3))
values = np.random.default_rng(0).standard_normal(x.concrete_shape)
assert np.allclose(interpret(layer, {x.name: values}), layer.reference(values))

pf.save_onnx(net, "energy.onnx")
again = pf.load_onnx("energy.onnx")
assert [each.kind for each in again.layers] == ["conv", "magnitude_pool", "clip", "conv"]
assert again.layer("pool").operator == layer.operator

inputs = pf.random_inputs(again, seed=1)
session = onnxruntime.InferenceSession("energy.onnx", providers=["CPUExecutionProvider"])
(expected,) = session.run(None, inputs)
assert pf.max_relative_error(pf.reference(again, inputs)["after_out"], expected) < 1e-5
groups = pf.fused(again, pf.Strategy.named("local", (2, 2), "shifted"))
kernel = pf.build(pf.generate(again, groups, instrumented=True))
assert pf.max_relative_error(kernel(**inputs)["after_out"], expected) < 1e-5
counted = {counter.name: n for counter, n in kernel.counts.items() if counter.kind == "executions"}
assert counted == dict(pf.counts(groups[0]).steps)
print("added by", sys.argv[1], "files")
"""


def test_an_operator_is_added_by_its_layer_file_and_its_onnx_file(tmp_path: Path) -> None:
    package = tmp_path / "polyfuse"
    shutil.copytree(Path(polyfuse.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    added = {"network/layers/magnitudes.py": LAYER, "network/onnx/converters/magnitudes.py": ONNX}
    for name, text in added.items():
        assert not (package / name).exists()
        (package / name).write_text(text.lstrip(), encoding="utf-8")
    command = [sys.executable, "-c", USE, str(len(added))]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert found.stdout == "added by 2 files\n", found.stderr
