"""Generated C of networks in several groups makes no compiler warn, and touches nothing outside of its memory."""

import functools
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from polyfuse.codegen.lower.selection import select_kernels
from polyfuse.codegen.program import generate
from polyfuse.codegen.scratchpad.planned import scratch_program
from polyfuse.codegen.target import Target
from polyfuse.deploy.library import Library, library
from polyfuse.machines.accelerator import accelerator
from polyfuse.network.layers import copies, reductions
from polyfuse.network.network import Builder, Network
from polyfuse.network.reference import max_relative_error, random_inputs, run
from polyfuse.network.tensor import Tensor
from polyfuse.plan.graph.operations import graph_of
from polyfuse.plan.planning import plan_for
from polyfuse.schedule.groups import fused
from polyfuse.schedule.strategy import Strategy
from tests.deploy.test_anywhere import MAIN

BUILDS = (("gcc", "-O2 -std=c11"), ("gcc", "-O3 -march=native"), ("clang", "-O2"))
SANITIZE = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


def detector() -> Network:
    """What YOLOv8 is made of: cross-stage blocks, a pyramid of maxima, upsampling, and heads."""
    build = Builder("detector")

    def unit(name: str, x: Tensor, channels: int, kernel: int = 1, stride: int = 1) -> Tensor:
        return build.conv(name, x, channels, kernel=kernel, stride=stride, padding=kernel // 2, activation="silu")

    def stage(name: str, x: Tensor, channels: int) -> Tensor:
        half, y = channels // 2, unit(f"{name}_in", x, channels)
        parts = [build.add(copies.split(f"{name}_part{k}", y, 1, k * half, half)) for k in range(2)]
        z = unit(f"{name}_b", unit(f"{name}_a", parts[1], half, 3), half, 3)
        parts.append(build.arithmetic(f"{name}_sum", "add", parts[1], z))
        return unit(f"{name}_out", build.concat(f"{name}_all", *parts), channels)

    x = unit("stem", build.input("x", (1, 3, 24, 24)), 16, 3, 2)
    high = stage("high", x, 32)
    x = low = unit("down", high, 48, 3, 2)
    for k in range(3):
        x = build.max_pool(f"most{k}", x, kernel=5, stride=1, padding=2)
        low = build.concat(f"pyramid{k}", low, x)
    x = build.concat("joined", build.resize("up", unit("mixed", low, 32), 2), high)
    x = unit("head", stage("last", x, 32), 32, 3)
    boxes, kinds = build.conv("boxes", x, 16, kernel=1), build.conv("kinds", x, 5, kernel=1, activation="sigmoid")
    return build.network(build.add(copies.reshape("found", build.concat("both", boxes, kinds), (1, 21, 144))))


def groups_apart() -> Network:
    """A chain whose groups have buffers of many sizes."""
    build = Builder("apart")
    x = build.input("x", (1, 16, 40, 40))
    for g in range(3):
        for k, channels in enumerate((16, 96 if g % 2 else 16, 32)):
            x = build.conv(f"g{g}c{k}", x, channels, kernel=1 if k == 1 else 3, padding=k % 2 ^ 1, activation="relu")
    for layer in reductions.softmax("soft", x, (1,)):
        x = build.add(layer)
    return build.network(x)


NETWORKS = {"detector": detector, "apart": groups_apart}


@functools.cache
def made(name: str) -> Library:
    """The library of a network, three layers to a group; groups keep different numbers of rows."""
    network = NETWORKS[name]()
    groups = []
    for k in range(0, len(network.layers), 3):
        part = network.layers[k : k + 3]
        shape = part[-1].output.concrete_shape
        rows = min(2 + k % 4, shape[2 if len(shape) == 4 else 0])
        groups += fused(network.select([layer.name for layer in part]), Strategy.named("local", (rows,)))
    return library(generate(network, groups, kernels=select_kernels(network, Target(16, 32), exact=name == "apart")))


@pytest.mark.parametrize("compiler, flags", BUILDS)
@pytest.mark.parametrize("name", NETWORKS)
def test_libraries_make_no_compiler_warn(name: str, compiler: str, flags: str, tmp_path: Path) -> None:
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    (tmp_path / "code.c").write_text(made(name).source)
    command = [compiler, *flags.split(), "-Wall", "-Wextra", "-Werror", "-c", "code.c"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr


@pytest.mark.parametrize("compiler, dtype", [("gcc", "int8"), ("clang", "float32")])
def test_c_for_a_scratchpad_makes_no_compiler_warn(dtype: str, compiler: str, tmp_path: Path) -> None:
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    (tmp_path / "code.c").write_text(scratch_c(dtype))
    for flags in (flags for name, flags in BUILDS if name == compiler):
        command = [compiler, *flags.split(), "-Wall", "-Wextra", "-Werror", "-c", "code.c"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0 and not done.stderr, done.stderr


@functools.cache
def scratch_c(dtype: str) -> str:
    """The detector for a scratchpad machine, with the simulator."""
    graph = graph_of(detector(), dtype)
    return scratch_program(plan_for(graph, accelerator("npu").with_capacity(96 << 10)), graph).source


@pytest.mark.parametrize("name", NETWORKS)
def test_nothing_outside_is_touched(name: str, tmp_path: Path) -> None:
    files, network = made(name), NETWORKS[name]()
    out = network.outputs[0].name
    (tmp_path / f"{name}.c").write_text(files.source)
    (tmp_path / f"{name}.h").write_text(files.header)
    (tmp_path / f"{name}.weights").write_bytes(files.weights)
    (tmp_path / "main.c").write_text(MAIN.format(name=name, big=name.upper(), out=out.upper()))
    command = ["gcc", "-O1", *SANITIZE, "main.c", f"{name}.c", "-o", "program", "-lm"]
    subprocess.run(command, cwd=tmp_path, check=True)
    inputs = random_inputs(network, 4)
    ran = subprocess.run(["./program"], cwd=tmp_path, input=inputs["x"].tobytes(), capture_output=True, check=True)
    found = np.frombuffer(ran.stdout, np.float32).reshape(network.outputs[0].concrete_shape)
    assert max_relative_error(found, run(network, inputs)[out]) < 2e-5
