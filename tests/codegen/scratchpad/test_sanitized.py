"""Generated code and the simulator under the address and undefined-behaviour sanitizers."""

import logging
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from polyfuse.codegen.build import SANITIZE, WARNINGS, Options, compile_program
from polyfuse.codegen.scratchpad.program import ScratchProgram
from polyfuse.machines.accelerator import accelerator
from polyfuse.network.onnx.load import imported
from polyfuse.plan.graph.operations import graph_of
from polyfuse.plan.tiles.tables import Tile
from polyfuse.rewrite.rewriting import rewrite
from tests.codegen.scratchpad.networks import chain, classifier, squeeze
from tests.codegen.scratchpad.placing import Placed, placed
from tests.network.quantised.models import NETWORKS, quantised

NPU = accelerator("npu").with_capacity(1 << 16)


def with_main(program: ScratchProgram) -> str:
    """The C with a `main` that runs it on memory of its own, and prints what the simulator says."""
    graph, wide = program.graph, program.storing.wide
    sizes = [max(1, len(program.weights) // wide), *(graph.tensors[name].bytes for name in program.tensors)]
    rows = [f'{{"weights", data0, 0, 1, 1, 1, {sizes[0]}, 1, {sizes[0]}, 0, 0, 0}}']
    for k, name in enumerate(program.tensors):
        info = graph.tensors[name]
        images, channels, height, width = info.shape
        written = "0" if name in graph.inputs else f"written{k + 1}"
        numbers = (images, channels, height, width, info.element_bytes, info.bytes // images)
        rows.append(f'{{"{name}", data{k + 1}, {written}, {", ".join(map(str, numbers))}, 0, 0, 0}}')
    arrays = [
        f"static _Alignas(64) unsigned char data{k}[{size * wide}], written{k}[{size}];" for k, size in enumerate(sizes)
    ]
    names = ", ".join(f'"{name}"' for name in program.operations)
    count = len(program.operations)
    return "\n".join(
        [
            program.source,
            *arrays,
            f"static region regions[] = {{{', '.join(rows)}}};",
            f"static const char *names[] = {{{names}}};",
            f"static long long macs[{count}], elements[{count}];",
            "int main(void) {",
            *(f"  (void)written{k};" for k in range(len(sizes))),
            f"  simulation s = {{.alignment = 64, .engines = 1, .regions = {len(rows)}, .operations = {count},",
            "    .bytes_per_cycle = 16, .latency = 64, .region = regions, .names = names, .macs = macs,",
            "    .elements = elements};",
            "  const char *wrong = simulate(&s);",
            '  puts(wrong ? wrong : "done");',
            "  return wrong != 0;",
            "}",
        ]
    )


def sanitized(program: ScratchProgram) -> str:
    built = compile_program(with_main(program), Options(flags=("-std=c11", "-O0")).with_flags(*WARNINGS, *SANITIZE))
    done = subprocess.run([built.executable], capture_output=True, text=True, timeout=60, check=False)
    return done.stdout + done.stderr


def plans() -> dict[str, Callable[[], Placed]]:
    chained = ("c1", "dw", "pool", "c2")
    again = dict.fromkeys(("x", "c1_out", "dw_out", "pool_out", "c2_out"), ("recompute", "recompute"))
    alone = [((o.name,), Tile(1)) for o in graph_of(classifier()).operations]
    priced = graph_of(chain(), "int8")
    return {
        "rows": lambda: placed(graph_of(chain()), NPU, [(chained, Tile(1))]),
        "patches": lambda: placed(priced, NPU, [(chained, Tile(2, 4, retention=again))], dtype="int8"),  # type: ignore[arg-type]
        "streamed": lambda: placed(priced, NPU, [(chained, Tile(2, weights="streamed"))], dtype="int8"),
        "a batch": lambda: placed(
            graph_of(squeeze(2)), NPU, [(("e", "d", "g", "s1"), Tile(2)), (("s2", "m", "p"), Tile(2))]
        ),
        "one by one": lambda: placed(graph_of(classifier()), NPU, alone),
    }


@pytest.mark.parametrize("name", plans())
def test_programs_are_clean(name: str) -> None:
    assert sanitized(plans()[name]().program) == "done\n"


def test_quantised_programs_are_clean(tmp_path: Path) -> None:
    logging.disable(logging.WARNING)
    network = rewrite(
        imported(quantised(NETWORKS["branches"](), tmp_path, "QOperator", "QUInt8", True)).network
    ).network
    graph = graph_of(network)
    alone = [((operation.name,), Tile(1)) for operation in graph.operations]
    assert sanitized(placed(graph, NPU, alone).program) == "done\n"
