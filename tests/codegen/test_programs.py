"""Programs of all kernels with scalar code: right under every strategy and tile, with threads, under sanitizers."""

import subprocess
from pathlib import Path

import pytest

from polyfuse.codegen.build import SANITIZE, Options, compile_program
from polyfuse.codegen.kernel import build_many
from polyfuse.codegen.program import Program, generate
from polyfuse.loading import load_workload
from polyfuse.network.network import Network
from polyfuse.network.reference import max_relative_error, random_inputs, run
from polyfuse.schedule.counts import counts
from polyfuse.schedule.groups import fused, layer_by_layer
from polyfuse.schedule.storage import Storage
from polyfuse.schedule.strategy import Strategy
from tests.schedule.touched import bytes_touched

KERNELS = Path(__file__).parents[2] / "kernels"
SMALL = {
    "stencil3": {"size": 29},
    "vgg_pair": {"size": 18, "channels": 4},
    "mbv2_block": {"size": 15, "channels": 4, "expansion": 2},
    "dwsep": {"size": 13},
    "fsrcnn": {"rows": 11, "columns": 13},
    "sr4": {"rows": 21, "columns": 23, "channels": 3},
    "resnet_block": {"size": 14, "channels": 5},
    "two_convs": {"size": 17, "channels": 3},
}
QUICK = Options(flags=("-std=c11", "-O0"))


def kernel(name: str, **more: int) -> Network:
    parameters = {k: str(v) for k, v in (SMALL[name] | more).items()}
    return load_workload(str(KERNELS / f"{name}.py"), parameters=parameters)


def strategies(tile: tuple[int, ...]) -> list[Strategy]:
    plain = [Strategy.named(name, tile) for name in ("recompute", "local", "global")]
    plain.append(Strategy.named("local", tile, "shifted"))
    plain.append(Strategy(tile, weights="tile"))
    if len(tile) < 2:
        return plain
    mixed = [("local", "recompute"), ("recompute", "local"), ("global", "local"), ("local", "global")]
    return plain + [Strategy(tile, places, placement="shifted") for places in mixed]  # type: ignore[arg-type]


def every_group(network: Network) -> list[tuple[Storage, ...]]:
    rows, columns = network.outputs[-1].concrete_shape[2:]
    chosen = [Strategy(), Strategy.named("local", (rows, columns), "shifted")]
    chosen += [*strategies((1,)), *strategies((min(4, rows),))[:2], *strategies((3, 4))]
    return [layer_by_layer(network), *(fused(network, strategy) for strategy in chosen)]


def check(network: Network, programs: list[Program], threads: int = 1, options: Options = QUICK) -> None:
    inputs = random_inputs(network, 5)
    expected = run(network, inputs)
    for kernel_ in build_many(programs, threads=threads, options=options):
        kernel_.set_inputs(inputs)
        kernel_.poison()
        kernel_.run()
        assert kernel_.group_bytes == tuple(group.buffer_bytes for group in kernel_.program.groups)
        assert kernel_.workspace_bytes == kernel_.program.workspace_bytes
        for tensor in network.outputs:
            assert max_relative_error(kernel_.outputs[tensor.name], expected[tensor.name]) <= 1e-5, kernel_.built.source


@pytest.mark.parametrize("name", SMALL)
def test_all_strategies_and_tiles_agree_with_the_reference(name: str) -> None:
    network = kernel(name)
    groups = every_group(network)
    check(network, [generate(network, each, kernels="scalar") for each in groups])


@pytest.mark.parametrize("name", ["mbv2_block", "vgg_pair"])
def test_optimised_code_agrees_with_the_reference(name: str) -> None:
    network = kernel(name)
    groups = [fused(network, strategy) for strategy in strategies((3, 4))[:4]]
    check(network, [generate(network, each, kernels="scalar") for each in groups], options=Options())


@pytest.mark.parametrize("name", SMALL)
def test_two_threads_agree_with_the_reference(name: str) -> None:
    network = kernel(name, batch=2)
    programs = [
        generate(network, each, kernels="scalar", staged=k % 2 == 0) for k, each in enumerate(every_group(network))
    ]
    shared = [program for program in programs if program.is_parallel]
    assert shared
    check(network, shared, threads=2)


@pytest.mark.parametrize("name", SMALL)
def test_counters_equal_predictions(name: str) -> None:
    network = kernel(name)
    groups = [fused(network, strategy) for strategy in strategies((3, 4))]
    programs = [generate(network, each, instrumented=True) for each in groups]
    inputs = random_inputs(network, 5)
    for built, (storage,) in zip(build_many(programs, options=QUICK), groups, strict=True):
        built.set_inputs(inputs)
        built.run()
        predicted = counts(storage)
        expected: dict[tuple[str, str], int] = {("executions", name): n for name, n in predicted.steps.items()}
        for step in (*built.program.groups[0].steps, *built.program.groups[0].preload):
            for kind, array, amount in bytes_touched(step, predicted.steps[step.name]):
                expected[kind, array] = expected.get((kind, array), 0) + amount
        assert {(c.kind, c.name): n for c, n in built.counts.items()} == expected
        assert built.onchip_bytes == predicted.onchip_bytes


@pytest.mark.parametrize("name", SMALL)
def test_sanitizers_find_nothing(name: str) -> None:
    network = kernel(name)
    groups = [fused(network, strategy) for strategy in strategies((3, 4))]
    for k, each in enumerate(groups):
        compile_and_run(generate(network, each, kernels="scalar", staged=k % 2 == 0))


def compile_and_run(program: Program) -> None:
    """Run a program as an executable under the address and undefined-behaviour sanitizers."""
    built = compile_program(program.source + main_of(program), Options(flags=("-std=c11", "-O0")).with_flags(*SANITIZE))
    finished = subprocess.run([built.executable], capture_output=True, text=True, timeout=60)
    assert finished.returncode == 0, finished.stderr[-2000:]


def main_of(program: Program) -> str:
    """A `main` that allocates exactly what the program asks for and runs it."""
    network = program.network
    lines = ["#include <stdlib.h>", "int main(void) {"]
    kinds = {
        "inputs": [program.array(t).elements for t in network.inputs],
        "weights": [value.size for value in program.constants.values()],
        "outputs": [program.array(t).elements for t in network.outputs],
        "scratch": [program.array(t).elements for t in program.scratch],
    }
    for kind, sizes in kinds.items():
        arrays = ", ".join(f"calloc({size}, 4)" for size in sizes) or "0"
        lines.append(f"  float *{kind}[] = {{{arrays}}};")
    aligned = "aligned_alloc(64, (polyfuse_{}_bytes() + 63) / 64 * 64)"
    lines.append(f"  void *chips = {aligned.format('chip')}, *kept = {aligned.format('kept')};")
    lines.append(f"  static long long counts[{len(program.counters) + 1}];")
    lines.append("  polyfuse_run(inputs, weights, outputs, scratch, chips, kept, 1, counts);")
    for kind, sizes in kinds.items():
        lines += [f"  free({kind}[{k}]);" for k in range(len(sizes))]
    return "\n".join([*lines, "  free(chips); free(kept);", "  return 0;", "}", ""])
