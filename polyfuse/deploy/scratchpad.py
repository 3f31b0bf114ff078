"""A plan for a scratchpad machine compiled: its files, and a run on the simulated machine that checks the plan.

ScratchPlan + Network ──compiled()──> Compiled ──scratch_files()──> {file name: bytes}
                                      Compiled ──checked_run()──> CheckedRun
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from polyfuse.codegen.build import Options
from polyfuse.codegen.scratchpad.kernel import ScratchKernel, Simulated, build_program
from polyfuse.codegen.scratchpad.planned import scratch_program
from polyfuse.codegen.scratchpad.program import ScratchProgram
from polyfuse.codegen.scratchpad.runtime import part
from polyfuse.deploy.scratchends import constant_arrays, ends_described
from polyfuse.errors import PolyfuseError
from polyfuse.network.network import Network
from polyfuse.network.reference import max_relative_error, random_inputs
from polyfuse.network.reference import run as reference
from polyfuse.network.tensor import checked_name
from polyfuse.plan.checking import check_plan
from polyfuse.plan.graph.operations import Graph
from polyfuse.plan.planning import graph_of_plan
from polyfuse.plan.proof.prove import Proof, prove_plan
from polyfuse.plan.scratchplan import OffchipBytes, ScratchPlan

MOST_ERROR = {"float32": 1e-5, "float16": 2e-2, "bfloat16": 1e-1}
"""The largest relative error of a result that is taken for rounding; whole numbers may be one off."""


@dataclass(frozen=True, eq=False)
class Compiled:
    """A legal plan, its operations, and its C with the simulator, built."""

    plan: ScratchPlan
    graph: Graph
    kernel: ScratchKernel

    @property
    def proof(self) -> Proof:
        """What isl says of the plan."""
        return prove_plan(self.plan, self.graph)

    @property
    def program(self) -> ScratchProgram:
        """The C of the plan."""
        return self.kernel.program


@dataclass(frozen=True)
class CheckedRun:
    """A run on random inputs, compared with the plan.

    error   of the results: relative to float64 arithmetic, or in steps of whole numbers
    """

    simulated: Simulated
    planned_cycles: float
    planned_bytes: int
    error: float
    most_error: float

    @property
    def cycles_error(self) -> float:
        """How much longer the simulated run takes than planned, as a part of it."""
        return self.simulated.cycles / self.planned_cycles - 1


def compiled(plan: ScratchPlan, network: Network, options: Options | None = None) -> Compiled:
    """The plan of a network, found legal, as C, built with the simulator of its machine.

    Errors: InvalidInput, DoesNotFit and IllegalSchedule for a plan that is not legal or of another network; BuildError.
    """
    graph = graph_of_plan(plan, network)
    plan = check_plan(plan, graph, plan.machine)
    return Compiled(plan, graph, build_program(scratch_program(plan, graph), options))


def checked_run(made: Compiled, seed: int = 0) -> CheckedRun:
    """A run on seeded random inputs, whose results are those of the reference and whose bytes are those of the plan.

    Errors: SimulationError for a command that the machine cannot do; PolyfuseError for bytes or results that differ.
    """
    network, plan = made.graph.network, made.plan
    inputs = random_inputs(network, seed)
    outputs, simulated = made.kernel(**inputs)
    planned = plan.totals.offchip_bytes
    moved = OffchipBytes(simulated.offchip_bytes - simulated.weight_bytes, simulated.weight_bytes)
    where = f"plan of {plan.network!r} on {plan.machine.name!r}"
    if moved != planned:
        raise PolyfuseError(
            f"{where}: planned {planned.feature_maps:,} B of feature maps and {planned.weights:,} B of weights, "
            f"simulated {moved.feature_maps:,} and {moved.weights:,}; this is a polyfuse bug, please report it"
        )
    error, most = worst_error(network, outputs, reference(network, inputs))
    if not error <= most:
        raise PolyfuseError(
            f"{where}: expected results within {most:g} of the reference, got {error:.2g}; this is a polyfuse bug, "
            "please report it"
        )
    return CheckedRun(simulated, plan.totals.latency_cycles, planned.all, error, most)


def worst_error(
    network: Network, outputs: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]
) -> tuple[float, float]:
    """The error of the output that is worst by what it may be, and that."""
    found = []
    for tensor in network.outputs:
        value, wanted = outputs[tensor.name], expected[tensor.name]
        if tensor.dtype in MOST_ERROR:
            found.append((max_relative_error(value, wanted), MOST_ERROR[tensor.dtype]))
        else:
            found.append((float(np.abs(value.astype(np.int64) - wanted.astype(np.int64)).max()), 1.0))
    return max(found, key=lambda pair: pair[0] / pair[1] if pair[0] == pair[0] else np.inf)


def scratch_files(made: Compiled, prefix: str | None = None) -> dict[str, bytes]:
    """The files by name: the C, the interface that a machine provides, the simulator of it, weights, plan and library.

    Errors: InvalidInput for a prefix that is no name.
    """
    program = made.program
    name = checked_name(prefix) if prefix is not None else program.graph.network.name
    given = constant_arrays(program.graph.network, name)
    arrays = "\n".join(["", "#include <math.h>", "#include <stdint.h>", *given, ""]) if given else ""
    run = f"{arrays}\nvoid {name}_run(void) {{ plan(); }}\n"
    both = (
        f"/* {name}.c on the simulated machine: cc -std=c11 -O2 -shared -fPIC {name}_simulated.c -lm */\n"
        f'#include "{name}.c"\n#include "simulator.c"\n'
    )
    return {
        f"{name}.c": (program.text + run).encode(),
        f"{name}.h": header(program, name).encode(),
        f"{name}.weights": program.weights.tobytes(),
        "scratchpad.h": part("scratchpad.h").encode(),
        "simulator.c": part("simulator.c").encode(),
        f"{name}_simulated.c": both.encode(),
        f"lib{name}_simulated.so": Path(made.kernel.built.library).read_bytes(),
        "plan.json": made.plan.to_json().encode(),
    }


def header(program: ScratchProgram, name: str) -> str:
    """What a caller needs: the entry, the arena, and the number, shape and bytes of each tensor off chip."""
    guard = f"{name.upper()}_H"
    wide, declared = program.storing.wide, constant_arrays(program.graph.network, name, declared=True)
    held = f"; on this host each byte is {wide}, since values are those of a wider type" if wide > 1 else ""
    tensors = [
        f" * {number:4}  {each}: {list(program.graph.tensors[each].shape)}, {program.graph.tensors[each].bytes} bytes"
        for each, number in program.tensors.items()
    ]
    weight_bytes = len(program.weights) // wide
    lines = [
        f"/* {program.graph.network.name} on {program.machine.name}: {program.machine.capacity_bytes} bytes on chip.",
        " * The machine provides what scratchpad.h declares. The tensors off chip, by the numbers that dma_load and",
        f" * dma_store are given, in bytes of the machine{held}:",
        f" *    0  the weights, {name}.weights: {weight_bytes} bytes",
        *tensors,
        " * The model's inputs and outputs, in its order:",
        *(f" *   {line}" for line in ends_described(program.graph.network, program.tensors, name)),
        " */",
        f"#ifndef {guard}",
        f"#define {guard}",
        *(["#include <stdint.h>", *declared] if declared else []),
        "/* Run the network once: inputs are off chip before, outputs after. */",
        f"void {name}_run(void);",
        "#endif",
    ]
    return "\n".join(lines) + "\n"
