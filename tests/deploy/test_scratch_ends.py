"""Constant outputs of a plan for a scratchpad machine: arrays of the C file, to the bit."""

import ctypes
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np

from polyfuse.codegen.compiler import find_compiler
from polyfuse.deploy.scratchends import constant_arrays, ends_described
from polyfuse.deploy.scratchpad import compiled, scratch_files
from polyfuse.machines.accelerator import accelerator
from polyfuse.network.network import Builder
from polyfuse.network.signature import Input, Output, Signature
from polyfuse.plan.graph.operations import graph_of
from polyfuse.plan.planning import plan_for

VALUES = {
    "floats": np.float32([[0.1, -0.0, np.inf], [-np.inf, np.nan, 1e-45]]),
    "doubles": np.float64([0.1, 1e300, -np.inf]),
    "whole": np.int64([-(2**63), 2**63 - 1, 0]),
    "unsigned": np.uint64([2**64 - 1, 2**63]),
    "small": np.int8([-128, 127]),
    "truth": np.bool_([True, False]),
    "none": np.zeros((0, 3), np.float32),
    "number": np.array(7, np.int32),
    "*/ x": np.uint16([65535]),
}


def test_constant_outputs_are_arrays_of_the_c(tmp_path: Path) -> None:
    build = Builder("net")
    network = build.network(build.activation("act", build.input("x", (1, 2, 4, 4)), "relu"))
    ends = Signature(
        (Input("left", None), Input("x", 0)), (Output("y", 0), *(Output(k, value=v) for k, v in VALUES.items()))
    )
    network = replace(network, signature=ends)
    plan = plan_for(graph_of(network), accelerator("npu"))
    for name, data in scratch_files(compiled(plan, network)).items():
        (tmp_path / name).write_bytes(data)
    strict = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-include", "net.h", "-shared", "-fPIC"]
    command = [str(find_compiler().path), *strict, "net_simulated.c", "-lm", "-o", "net.so"]
    subprocess.run(command, cwd=tmp_path, check=True)
    library = ctypes.CDLL(str(tmp_path / "net.so"))
    names = [line.split()[-1].split("[")[0] for line in constant_arrays(network, "net", declared=True)]
    for name, value in zip(names, VALUES.values(), strict=True):
        data = (ctypes.c_char * max(1, value.nbytes)).in_dll(library, name)
        assert np.array_equal(np.frombuffer(data, value.dtype, value.size), value.ravel(), equal_nan=value.dtype.kind == "f")  # fmt: skip  # noqa: E501


def test_the_header_lists_ends_in_the_order_of_the_model() -> None:
    build = Builder("net")
    a, b = build.input("a", (1, 1, 2, 2)), build.input("b", (1, 1, 2, 2))
    network = build.network(build.arithmetic("s", "sub", a, b))
    ends = Signature(
        (Input("q", 1), Input("p", None), Input("o", 0)),
        (Output("c", value=np.int64([1, 2])), Output("s", 0), Output("t", 0), Output("r", given=1)),
    )
    lines = ends_described(replace(network, signature=ends), {"a": 1, "b": 2, "s_out": 3}, "net")
    assert lines == [
        *("input  'q': tensor 2", "input  'p': not read", "input  'o': tensor 1"),
        *("output 'c': constant, int64 [2], net_output_c", "output 's': tensor 3", "output 't': tensor 3"),
        "output 'r': the input 'p' as it is",
    ]
