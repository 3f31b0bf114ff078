"""All memory of generated C is the caller's, and counted: what the compiler and the linker say agrees with totals."""

import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from polyfuse.codegen.compiler import find_compiler
from polyfuse.codegen.kernel import build
from polyfuse.codegen.lower.selection import select_kernels
from polyfuse.codegen.program import Program, generate
from polyfuse.codegen.scratchpad.planned import scratch_program
from polyfuse.codegen.target import Target
from polyfuse.deploy.library import library
from polyfuse.deploy.memory import footprint
from polyfuse.machines.accelerator import accelerator
from polyfuse.network.layers import reductions
from polyfuse.network.network import Builder, Network
from polyfuse.network.reference import max_relative_error, random_inputs, run
from polyfuse.plan.graph.operations import graph_of
from polyfuse.plan.planning import plan_for
from polyfuse.schedule.groups import fused, layer_by_layer
from polyfuse.schedule.strategy import Strategy
from tests.deploy.networks import block, branches

NM = shutil.which("nm")
needs_nm = pytest.mark.skipif(NM is None, reason="nm is not installed")
MOST_STACK = 24 * 1024
"""What docs/use/networks.md promises of the stack of NAME_run, in bytes."""
STACK_OF_A_CALL = 1024
"""What registers, arguments and indices of a function may take besides its arrays."""
FLAGS = ("-O1", "-O2", "-O3 -march=native")


def tiles() -> Network:
    """Winograd's convolution in two groups of different workspaces."""
    build_ = Builder("tiles")
    x = build_.conv("first", build_.input("x", (1, 16, 40, 40)), 32, kernel=3, padding=1, activation="relu")
    return build_.network(build_.conv("second", x, 16, kernel=3, padding=1))


def classes() -> Network:
    """Long sums by scalar code and by row kernels."""
    build_ = Builder("classes")
    x = build_.conv("deep", build_.input("x", (1, 800, 3, 3)), 24, kernel=1)
    x = build_.linear("scores", build_.global_average_pool("mean", x), 400)
    for layer in reductions.softmax("soft", x, (1,)):
        x = build_.add(layer)
    return build_.network(x)


NETWORKS = {"tiles": tiles, "classes": classes, "block": block, "branches": branches}


def program(name: str, floats: int = 16) -> Program:
    """The C of a network, layer by layer, with Winograd's algorithm."""
    network = NETWORKS[name]()
    algorithms = {"first": 6, "second": 4} if name == "tiles" else None
    return generate(
        network, layer_by_layer(network), kernels=select_kernels(network, Target(floats, 32), winograd=algorithms)
    )


def symbols(source: str, folder: Path, *flags: str) -> Counter[str]:
    """How many symbols of each kind, in nm's letters, the object has; names of those that nothing defines."""
    (folder / "code.c").write_text(source)
    compiler = str(find_compiler().path)
    subprocess.run([compiler, *flags, "-fstack-usage", "-c", "code.c", "-o", "code.o"], cwd=folder, check=True)
    assert NM is not None
    listed = subprocess.run([NM, "code.o"], cwd=folder, capture_output=True, text=True, check=True).stdout
    found = (line.split()[-2:] for line in listed.splitlines())
    return Counter(name if kind == "U" else kind for kind, name in found)


def writable(found: Counter[str]) -> Counter[str]:
    """Symbols in memory that the program brings along: zeroed, initialised or thread-local."""
    return Counter({kind: n for kind, n in found.items() if kind in set("bBdDCsS") or "tls" in kind})


def stacks(folder: Path) -> dict[str, int]:
    """The stack of each function, as the compiler has it; none is unbounded."""
    lines = [line.split("\t") for line in (folder / "code.su").read_text().splitlines()]
    assert all("dynamic" not in kind or "bounded" in kind for _, _, kind in lines)
    return {place.rsplit(":", 1)[-1]: int(size) for place, size, _ in lines}


@needs_nm
@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize("name", NETWORKS)
def test_a_library_has_no_memory_of_its_own(name: str, flags: str, tmp_path: Path) -> None:
    made = library(program(name))
    assert not writable(symbols(made.source, tmp_path, *flags.split()))
    assert "_Thread_local" not in made.source
    assert max(stacks(tmp_path).values()) <= MOST_STACK - 2 * STACK_OF_A_CALL


@needs_nm
def test_a_library_without_files_needs_mathematics_and_memory_alone(tmp_path: Path) -> None:
    made = library(program("classes"))
    found = symbols(made.source, tmp_path, "-O2", "-ffreestanding", "-DCLASSES_NO_FILES")
    needed = {name for name in found if len(name) > 1}
    assert needed <= {"expf", "memset", "memcpy", "sqrtf"}


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_totals_are_the_arena_and_its_ends(name: str, threads: int) -> None:
    code = program(name)
    made, found = library(code, threads=threads), footprint(code, threads)
    promised = re.search(r"_ARENA_BYTES (\d+)", made.header)
    assert promised and int(promised[1]) == made.arena_bytes == found.arena + found.onchip
    ends = [*code.network.inputs, *code.network.outputs]
    assert found.memory == made.arena_bytes + 4 * sum(tensor.elements for tensor in ends)
    assert (code.workspace_bytes > 0) == (name in ("tiles", "classes"))
    assert made.arena_bytes >= code.arena.bytes + threads * code.workspace_bytes


def test_kernels_have_the_workspace_of_their_groups() -> None:
    network = tiles()
    strategy = Strategy((8,), ("recompute",))
    code = generate(
        network,
        fused(network, strategy),
        kernels=select_kernels(network, Target(8, 16), winograd={"first": 6, "second": 4}),
    )
    kernel = build(code)
    assert kernel.workspace_bytes == code.workspace_bytes > 0
    assert kernel.group_bytes == tuple(group.buffer_bytes for group in code.groups)
    inputs = random_inputs(network, 1)
    found, exact = kernel(**inputs), run(network, inputs)
    assert max(max_relative_error(found[name], exact[name]) for name in found) < 1e-4


SMALL_STACK = """\
#include <pthread.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include "tiles.h"
static _Alignas(64) unsigned char weights[TILES_WEIGHTS_BYTES], arena[2][TILES_ARENA_BYTES];
static _Alignas(64) float x[TILES_X_FLOATS], y[2][TILES_SECOND_OUT_FLOATS];
static void *work(void *k) { tiles_run(weights, arena[(size_t)k], x, y[(size_t)k]); return NULL; }
int main(void) {
  pthread_t threads[2];
  pthread_attr_t small;
  if (tiles_load("tiles.weights", weights) || fread(x, 4, TILES_X_FLOATS, stdin) != TILES_X_FLOATS) return 1;
  pthread_attr_init(&small);
  if (pthread_attr_setstacksize(&small, 64 * 1024)) return 2;
  for (size_t k = 0; k < 2; k++) if (pthread_create(&threads[k], &small, work, (void *)k)) return 3;
  for (size_t k = 0; k < 2; k++) pthread_join(threads[k], NULL);
  for (size_t k = 0; k < 2; k++) fwrite(y[k], 4, TILES_SECOND_OUT_FLOATS, stdout);
  return 0;
}
"""


@pytest.mark.parametrize("flags", FLAGS)
def test_threads_with_small_stacks_run_it_at_the_same_time(flags: str, tmp_path: Path) -> None:
    code = program("tiles")
    made = library(code)
    for suffix, text in ((".c", made.source), (".h", made.header)):
        (tmp_path / f"tiles{suffix}").write_text(text)
    (tmp_path / "tiles.weights").write_bytes(made.weights)
    (tmp_path / "main.c").write_text(SMALL_STACK)
    command = [str(find_compiler().path), *flags.split(), "main.c", "tiles.c", "-lm", "-pthread", "-o", "main"]
    subprocess.run(command, cwd=tmp_path, check=True)
    inputs = random_inputs(code.network, 2)
    ran = subprocess.run(["./main"], cwd=tmp_path, input=inputs["x"].tobytes(), capture_output=True, check=True)
    exact = run(code.network, inputs)["second_out"]
    for found in np.frombuffer(ran.stdout, np.float32).reshape(2, *exact.shape):
        assert max_relative_error(found, exact) < 1e-4


@needs_nm
@pytest.mark.parametrize("dtype", ["int8", "float32"])
@pytest.mark.parametrize("name", ["block", "branches", "tiles"])
def test_scratchpad_c_has_its_plan_and_a_small_stack_alone(name: str, dtype: str, tmp_path: Path) -> None:
    graph = graph_of(NETWORKS[name](), dtype)
    made = scratch_program(plan_for(graph, accelerator("npu").with_capacity(96 << 10)), graph)
    flags = ("-O2", "-Wall", "-Wextra", "-Werror")
    assert not writable(symbols(made.text, tmp_path, *flags))
    promised = re.search(r"On the stack: at most (\d+) bytes of lines for an operation, and (\d+) bytes of", made.text)
    assert promised and int(promised[1]) <= 4096
    for function, size in stacks(tmp_path).items():
        own = int(promised[1]) + 512 if function.startswith("op") else int(promised[2]) + 2048
        assert size <= own, function
