"""One C file, written for one machine and compiled for many: every build computes what the reference does.

The library is generated once for each width of vectors, whatever this host has, then built by gcc, clang, g++ and cross
compilers, with the flags that people use. Where a compiler or an emulator is not installed the case is skipped.
"""

import functools
import platform
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from polyfuse.codegen.lower.selection import select_kernels
from polyfuse.codegen.program import generate
from polyfuse.codegen.target import Target
from polyfuse.deploy.library import Library, library
from polyfuse.network.layers.normalisation import lrn
from polyfuse.network.layers.reductions import softmax
from polyfuse.network.network import Builder, Network
from polyfuse.network.reference import max_relative_error, random_inputs, run
from polyfuse.schedule.groups import layer_by_layer

WARNINGS = ("-Wall", "-Wextra", "-Werror")
WAYS: dict[str, tuple[str, ...]] = {
    "gcc": ("gcc",),
    "gcc-O0": ("gcc", "-O0", "-std=c11"),
    "gcc-O1-fma-off": ("gcc", "-O1", "-ffp-contract=off"),
    "gcc-O2": ("gcc", "-O2"),
    "gcc-O3": ("gcc", "-O3", "-std=gnu17"),
    "gcc-v2": ("gcc", "-O2", "-march=x86-64-v2"),
    "gcc-v3": ("gcc", "-O3", "-march=x86-64-v3"),
    "gcc-native": ("gcc", "-std=c11", "-O3", "-march=native", "-ffp-contract=fast"),
    "clang": ("clang",),
    "clang-O2": ("clang", "-O2", "-std=c11"),
    "clang-v3": ("clang", "-O3", "-march=x86-64-v3"),
    "clang-native": ("clang", "-O3", "-march=native"),
    "aarch64": ("aarch64-linux-gnu-gcc", "-O2", "-static"),
    "armhf": ("arm-linux-gnueabihf-gcc", "-O2", "-static"),
    "armhf-neon": ("arm-linux-gnueabihf-gcc", "-O3", "-mfpu=neon-vfpv4", "-static"),
    "riscv64": ("riscv64-linux-gnu-gcc", "-O2", "-static"),
}
EMULATORS = {"aarch64": "qemu-aarch64", "arm": "qemu-arm", "riscv64": "qemu-riscv64"}


def many_kinds() -> Network:
    """Layers of many kinds of row kernels, and scalar ones."""
    build = Builder("kinds")
    x = build.conv("first", build.input("x", (1, 3, 10, 9)), 24, kernel=3, padding=1, activation="relu6")
    y = build.conv("tiles", x, 24, kernel=3, padding=1, activation="silu")
    y = build.conv("narrow", y, 20, kernel=1, activation="hard_swish")
    z = build.depthwise("lanes", y, kernel=3, padding=1, activation=("leaky_relu", 0.1))
    z = build.arithmetic("sum", "add", z, y, activation="tanh")
    z = build.conv("grouped", z, 20, kernel=3, padding=1, groups=2, activation="sigmoid")
    z = build.add(lrn("local", z, 5))
    z = build.conv_transpose("larger", build.max_pool("most", z, kernel=2), 12, kernel=2, stride=2, activation="gelu")
    z = build.conv("strided", z, 20, kernel=3, stride=2, padding=1, activation=("elu", 1.0))
    for layer in softmax("soft", build.linear("scores", build.global_average_pool("mean", z), 30), (1,)):
        z = build.add(layer)
    return build.network(z)


def single_channel() -> Network:
    """Stencils: planar rows."""
    build = Builder("stencils")
    x = build.conv("s1", build.input("x", (1, 1, 20, 50)), 1, kernel=3, padding=1, activation="relu")
    return build.network(build.conv("s2", x, 1, kernel=5, padding=2))


NETWORKS = {"kinds": many_kinds, "stencils": single_channel}


@functools.cache
def made(name: str, floats: int) -> Library:
    """The library of a network for vectors of so many floats."""
    network = NETWORKS[name]()
    tiles = {"tiles": 4} if name == "kinds" else {}
    chosen = select_kernels(network, Target(floats, 32), winograd=tiles)
    return library(generate(network, layer_by_layer(network), kernels=chosen))


MAIN = """\
#include <stdio.h>
#include "{name}.h"
#ifdef __cplusplus
#define ALIGNED alignas({big}_ALIGNMENT)
#else
#define ALIGNED _Alignas({big}_ALIGNMENT)
#endif
ALIGNED static unsigned char weights[{big}_WEIGHTS_BYTES], arena[{big}_ARENA_BYTES];
ALIGNED static float x[{big}_X_FLOATS], y[{big}_{out}_FLOATS];
int main() {{
  int error = {name}_load("{name}.weights", weights);
  if (error) return error;
  if (fread(x, 4, {big}_X_FLOATS, stdin) != {big}_X_FLOATS) return 9;
  for (int k = 0; k < 2; k++) {name}_run(weights, arena, x, y);
  return fwrite(y, 4, {big}_{out}_FLOATS, stdout) != {big}_{out}_FLOATS;
}}
"""


def emulator(compiler: str) -> list[str]:
    """What runs a compiler's programs here; skips where something is missing."""
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    if not compiler.endswith("-gcc"):
        return []
    name = next(found for prefix, found in EMULATORS.items() if compiler.startswith(prefix))
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    return [name]


def check(name: str, floats: int, way: tuple[str, ...], folder: Path, main: str = "main.c") -> None:
    """Build a library with a program around it, silently, and run it."""
    runner, network, files = emulator(way[0]), NETWORKS[name](), made(name, floats)
    if any("march=x86" in flag for flag in way) and platform.machine() != "x86_64":
        pytest.skip("not an x86 machine")
    (folder / f"{name}.c").write_text(files.source)
    (folder / f"{name}.h").write_text(files.header)
    (folder / f"{name}.weights").write_bytes(files.weights)
    out = network.outputs[0].name
    (folder / main).write_text(MAIN.format(name=name, big=name.upper(), out=out.upper()))
    subprocess.run([*way, *WARNINGS, "-c", f"{name}.c", "-o", "library.o"], cwd=folder, check=True)
    link = [way[0].replace("gcc", "g++") if main.endswith("cpp") else way[0], *way[1:]]
    subprocess.run([*link, main, "library.o", "-o", "program", "-lm"], cwd=folder, check=True)
    inputs = random_inputs(network, seed=3)
    ran = subprocess.run(
        [*runner, "./program"], cwd=folder, input=inputs["x"].tobytes(), capture_output=True, check=True
    )
    found = np.frombuffer(ran.stdout, np.float32).reshape(network.outputs[0].concrete_shape)
    assert max_relative_error(found, run(network, inputs)[out]) < 2e-5


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_c_written_for_the_widest_vectors_is_right_however_it_is_compiled(way: tuple[str, ...], tmp_path: Path) -> None:
    check("kinds", 16, way, tmp_path)


@pytest.mark.parametrize("way, floats", [("gcc", 8), ("clang", 4), ("armhf", 4)])
def test_c_written_for_narrower_vectors_is_right_elsewhere(way: str, floats: int, tmp_path: Path) -> None:
    check("kinds", floats, WAYS[way], tmp_path)


@pytest.mark.parametrize("way", ["gcc", "clang-v3"])
def test_stencils_are_right_however_they_are_compiled(way: str, tmp_path: Path) -> None:
    check("stencils", 16, WAYS[way], tmp_path)


def test_a_cpp_program_calls_the_library(tmp_path: Path) -> None:
    check("stencils", 16, WAYS["gcc"], tmp_path, "main.cpp")
