"""polyfuse: fuse, tile and recompute networks of convolution and pooling layers, exactly.

The public names, by what one does; `help(pf.NAME)` says more, with shapes, units and errors:

Build a network
    Builder                 adds layer after layer and ends with a network
    statement_layer         a layer of your own, from isl text or isl's objects
    Network, Layer, Tensor  what is built: layers in order, the sets and relations of each, named arrays
    load_workload           the network of a kernel file, a bare name in ./kernels, a model or a SCoP
    load_onnx               the network of an ONNX model, or of a part of it
    read_jscop              the SCoP in a file that Polly exported
    scop_network            the network of a SCoP
    with_storage            the same network with tensors and weights in half or double precision
    onnx_model, save_onnx   a network as an ONNX model, in memory or in a file
    write_jscop             a SCoP as a file that Polly imports

Know the right values
    random_inputs           seeded values of every input
    reference               the value of every tensor in float64
    max_relative_error      how far values are from those

Schedule a group of layers
    Strategy                tile sizes, and where what two tiles need is kept or whether it is computed again
    scheduled               tiles and everything that they pull: a network and a strategy to a schedule
    Schedule                at which tiles each tensor is made, loaded and stored
    schedule_from           any schedule: isl text, a relation or a tree, from instances to times
    union_map               when every instance of a group runs, as one relation to edit and give back
    schedule_tree           the same as a schedule tree
    with_executions         other executions of some layers, written by hand
    with_tile_order         another order of the tiles, such as a wavefront
    overlapped              the overlapped form of a domain, as in the paper
    overlapped_executions   the executions of a layer in overlapped tiles
    shaped                  tiles of a shape by its name: overlapped, uniform, parallelogram, split, hexagonal
    Overlap                 how one index is cut into overlapping tiles
    lower, Lowered          a schedule with recomputation as singular copies
    storage, Storage        the buffers and rings of a schedule, found or chosen
    fused                   the whole network as one group: scheduled, stored and proved legal
    layer_by_layer          every layer a group of its own: what fusion is compared with
    hierarchy, Hierarchy    tiles inside of tiles, each in a memory of its own

Transform a schedule, step by step
    split, tile             a loop in pieces; loops in tiles
    interchange, reverse    loops exchanged; a loop from its end
    shift, skew             a layer later along a loop; wavefronts
    fuse, fission           the loops of layers as one; each layer with loops of its own
    compute_at              a layer computed in every iteration that reads it
    unroll, unroll_and_jam  loops that the compiler unrolls
    vectorize, parallel     iterations at once: in vectors, by threads
    with_retention          other dimensions that name the tile, other places where values wait

Judge
    check                   proof that every read finds its value, in any buffer, or a witness
    prove_overlap           proof that an overlap is neither too small nor too large

Count
    counts, Counts          executions, multiply-accumulates, bytes moved and bytes on chip, exactly
    total                   the counts of several groups
    halos                   what neighbouring tiles share of every tensor
    count                   the number of points of any set or relation
    predicted_seconds       how long a program takes by the time model of a machine

Generate C and run it
    generate, Program       the C of scheduled groups
    build, Kernel           compiled C, called on arrays
    rebuild                 the same from a C file that was edited by hand
    Options                 compiler, flags and limits
    opencl_source           OpenCL C: tiles in work groups
    build_opencl            the same, compiled for a device

Compare strategies
    candidates, Choices     strategies for some tiles, and options of their rows
    default_tiles           tiles worth trying
    compare                 predicted, counted, checked and timed rows
    Comparison, Row         the results
    read_comparison         results from a file
    strategies              every choice of tiles and places
    experiment              many strategies counted in parallel, with costs of one's own; resumable
    Experiment, Trial       the results, as rows that pandas reads

Compile a whole network for this host
    load, Model             a planned network, compiled and called on arrays
    Settings                how a network is planned and built
    explain, Explanation    which rewrites and groups were chosen, and why others were not
    verify                  the outputs beside those of onnxruntime
    tune, tuned             measured choices of tiles, and the kernel of the best one
    best_known              the best choice that was measured here
    Plan, read_plan         what was decided, as a value and as a file

Plan a network for a scratchpad
    accelerator             a shipped machine by its name, or one from a file
    Accelerator             on-chip memory, transfer engines and rates
    graph_of                the operations of a network
    Objective               what is made least
    plan_for, ScratchPlan   groups, tiles, pins and addresses
    check_plan              whether a plan, edited or not, runs on a machine
    prove_plan, Proof       isl's proof of a plan
    sweep, Sweep            plans at several capacities
    read_sweep              the same from a file

Know this machine
    probe                   measures rates and bandwidths
    fit                     fits the time model
    Machine, read_machine   what was measured, and its file

Errors
    PolyfuseError           every error that is raised on purpose
    InvalidInput            a value, a name or a file is not usable
    IllegalSchedule         wrong values would be computed; with a witness
    Unbounded, TooComplex   an infinite set; more work than the limit of isl
    UnsupportedOperator     a model holds what is not known
    BuildError              the compiler is missing or failed

An example, from layers to C:

>>> import numpy as np
>>> import polyfuse as pf

Two convolutions, cut into tiles of 8x8; between tiles, rows of the first one's output are kept and columns computed
again:

>>> build = pf.Builder("two_convs")
>>> x = build.input("x", (1, 1, 20, 20))
>>> y = build.conv("conv2", build.conv("conv1", x, 1, kernel=3), 1, kernel=3)
>>> net = build.network(y)
>>> group = pf.storage(pf.scheduled(net, pf.Strategy((8, 8), others=("local", "recompute"), placement="shifted")))

The schedule runs some points of conv1 twice; lowering names the copies. It is proved legal, storage included, and
counted exactly:

>>> [pf.count(copy) for copy in pf.lower(group.schedule.executions(net.layer("conv1"))).copies]
[324, 36]
>>> pf.check(group)
>>> print(pf.counts(group))
616 executions of 580 instances (36 recomputed), 5,544 of 5,220 MACs, 2,000 B read and 1,024 B written off-chip, \
1,216 B on chip

C is generated, compiled and called on arrays:

>>> kernel = pf.build(pf.generate(net, [group]))
>>> image = np.ones((1, 1, 20, 20), np.float32)
>>> kernel(x=image)["conv2_out"].shape
(1, 1, 16, 16)
>>> pf.max_relative_error(kernel(x=image)["conv2_out"], pf.reference(net, {"x": image})["conv2_out"]) < 1e-6
True
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from polyfuse.errors import (
    BuildError,
    IllegalSchedule,
    InvalidInput,
    PolyfuseError,
    TooComplex,
    Unbounded,
    UnsupportedOperator,
)

if TYPE_CHECKING:
    from polyfuse.bench.compare import Choices, candidates, compare, default_tiles
    from polyfuse.bench.experiments import Experiment, Trial, experiment, strategies
    from polyfuse.bench.fit import fit
    from polyfuse.bench.probe import probe
    from polyfuse.bench.results import Comparison, Row, read_comparison
    from polyfuse.bench.tune import tune
    from polyfuse.codegen.build import Options
    from polyfuse.codegen.kernel import Kernel, build, rebuild
    from polyfuse.codegen.lower.work import predicted_seconds
    from polyfuse.codegen.opencl import build_opencl, opencl_source
    from polyfuse.codegen.program import Program, generate
    from polyfuse.deploy.explain import Explanation, explain
    from polyfuse.deploy.model import Model, load
    from polyfuse.deploy.plan import Plan, read_plan
    from polyfuse.deploy.settings import Settings
    from polyfuse.deploy.tuned import best_known, tuned
    from polyfuse.deploy.verify import verify
    from polyfuse.loading import load_onnx, load_workload
    from polyfuse.machines.accelerator import Accelerator, accelerator
    from polyfuse.machines.host import Machine, read_machine
    from polyfuse.network.custom import statement_layer
    from polyfuse.network.halves import with_storage
    from polyfuse.network.layer import Layer
    from polyfuse.network.network import Builder, Network
    from polyfuse.network.onnx.export import onnx_model, save_onnx
    from polyfuse.network.reference import max_relative_error, random_inputs
    from polyfuse.network.reference import run as reference
    from polyfuse.network.scop.jscop import read_jscop, write_jscop
    from polyfuse.network.scop.layers import scop_network
    from polyfuse.network.tensor import Tensor
    from polyfuse.plan.checking import check_plan
    from polyfuse.plan.graph.operations import graph_of
    from polyfuse.plan.planning import plan_for
    from polyfuse.plan.price.objective import Objective
    from polyfuse.plan.proof.prove import Proof, prove_plan
    from polyfuse.plan.scratchplan import ScratchPlan
    from polyfuse.plan.sweep import Sweep, read_sweep, sweep
    from polyfuse.schedule.attaching import compute_at
    from polyfuse.schedule.counts import Counts, counts, halos, total
    from polyfuse.schedule.executions import with_executions, with_tile_order
    from polyfuse.schedule.given import schedule_from, schedule_tree, union_map
    from polyfuse.schedule.groups import fused, layer_by_layer
    from polyfuse.schedule.hierarchy import Hierarchy, hierarchy
    from polyfuse.schedule.legality import check
    from polyfuse.schedule.lower import Lowered, lower
    from polyfuse.schedule.marking import parallel, unroll, unroll_and_jam, vectorize
    from polyfuse.schedule.overlapped import Overlap, overlapped, overlapped_executions, prove_overlap
    from polyfuse.schedule.schedule import Schedule, scheduled
    from polyfuse.schedule.shapes import shaped
    from polyfuse.schedule.storage import Storage, storage
    from polyfuse.schedule.strategy import Strategy
    from polyfuse.schedule.transform import (
        fission,
        fuse,
        interchange,
        reverse,
        shift,
        skew,
        split,
        tile,
        with_retention,
    )
    from polyfuse.sets.counting import count

    __version__: str

__all__ = [
    "Accelerator",
    "BuildError",
    "Builder",
    "Choices",
    "Comparison",
    "Counts",
    "Experiment",
    "Explanation",
    "Hierarchy",
    "IllegalSchedule",
    "InvalidInput",
    "Kernel",
    "Layer",
    "Lowered",
    "Machine",
    "Model",
    "Network",
    "Objective",
    "Options",
    "Overlap",
    "Plan",
    "PolyfuseError",
    "Program",
    "Proof",
    "Row",
    "Schedule",
    "ScratchPlan",
    "Settings",
    "Storage",
    "Strategy",
    "Sweep",
    "Tensor",
    "TooComplex",
    "Trial",
    "Unbounded",
    "UnsupportedOperator",
    "__version__",
    "accelerator",
    "best_known",
    "build",
    "build_opencl",
    "candidates",
    "check",
    "check_plan",
    "compare",
    "compute_at",
    "count",
    "counts",
    "default_tiles",
    "experiment",
    "explain",
    "fission",
    "fit",
    "fuse",
    "fused",
    "generate",
    "graph_of",
    "halos",
    "hierarchy",
    "interchange",
    "layer_by_layer",
    "load",
    "load_onnx",
    "load_workload",
    "lower",
    "max_relative_error",
    "onnx_model",
    "opencl_source",
    "overlapped",
    "overlapped_executions",
    "parallel",
    "plan_for",
    "predicted_seconds",
    "probe",
    "prove_overlap",
    "prove_plan",
    "random_inputs",
    "read_comparison",
    "read_jscop",
    "read_machine",
    "read_plan",
    "read_sweep",
    "rebuild",
    "reference",
    "reverse",
    "save_onnx",
    "schedule_from",
    "schedule_tree",
    "scheduled",
    "scop_network",
    "shaped",
    "shift",
    "skew",
    "split",
    "statement_layer",
    "storage",
    "strategies",
    "sweep",
    "tile",
    "total",
    "tune",
    "tuned",
    "union_map",
    "unroll",
    "unroll_and_jam",
    "vectorize",
    "verify",
    "with_executions",
    "with_retention",
    "with_storage",
    "with_tile_order",
    "write_jscop",
]

_MODULES = {
    "bench.compare": ("Choices", "candidates", "compare", "default_tiles"),
    "bench.fit": ("fit",),
    "bench.probe": ("probe",),
    "bench.experiments": ("Experiment", "Trial", "experiment", "strategies"),
    "bench.results": ("Comparison", "Row", "read_comparison"),
    "bench.tune": ("tune",),
    "deploy.tuned": ("best_known", "tuned"),
    "codegen.build": ("Options",),
    "codegen.kernel": ("Kernel", "build", "rebuild"),
    "codegen.program": ("Program", "generate"),
    "codegen.lower.work": ("predicted_seconds",),
    "codegen.opencl": ("build_opencl", "opencl_source"),
    "deploy.explain": ("Explanation", "explain"),
    "deploy.model": ("Model", "load"),
    "deploy.plan": ("Plan", "read_plan"),
    "deploy.settings": ("Settings",),
    "deploy.verify": ("verify",),
    "network.custom": ("statement_layer",),
    "network.layer": ("Layer",),
    "network.network": ("Builder", "Network"),
    "network.onnx.export": ("onnx_model", "save_onnx"),
    "network.reference": ("max_relative_error", "random_inputs", "reference"),
    "network.scop.jscop": ("read_jscop", "write_jscop"),
    "network.scop.layers": ("scop_network",),
    "network.halves": ("with_storage",),
    "network.tensor": ("Tensor",),
    "machines.accelerator": ("Accelerator", "accelerator"),
    "plan.checking": ("check_plan",),
    "machines.host": ("Machine", "read_machine"),
    "plan.price.objective": ("Objective",),
    "plan.graph.operations": ("graph_of",),
    "plan.planning": ("plan_for",),
    "plan.proof.prove": ("Proof", "prove_plan"),
    "plan.scratchplan": ("ScratchPlan",),
    "plan.sweep": ("Sweep", "read_sweep", "sweep"),
    "loading": ("load_onnx", "load_workload"),
    "schedule.attaching": ("compute_at",),
    "schedule.counts": ("Counts", "counts", "halos", "total"),
    "schedule.executions": ("with_executions", "with_tile_order"),
    "schedule.overlapped": ("Overlap", "overlapped", "overlapped_executions", "prove_overlap"),
    "schedule.given": ("schedule_from", "schedule_tree", "union_map"),
    "schedule.groups": ("fused", "layer_by_layer"),
    "schedule.hierarchy": ("Hierarchy", "hierarchy"),
    "schedule.legality": ("check",),
    "schedule.lower": ("Lowered", "lower"),
    "schedule.marking": ("parallel", "unroll", "unroll_and_jam", "vectorize"),
    "schedule.schedule": ("Schedule", "scheduled"),
    "schedule.shapes": ("shaped",),
    "schedule.storage": ("Storage", "storage"),
    "schedule.strategy": ("Strategy",),
    "schedule.transform": (
        "fission",
        "fuse",
        "interchange",
        "reverse",
        "shift",
        "skew",
        "split",
        "tile",
        "with_retention",
    ),
    "sets.counting": ("count",),
}
"""Where each public name is: its module is imported when the name is first asked for."""
_HOMES = {name: module for module, names in _MODULES.items() for name in names}
_OWN_NAMES = {"reference": "run"}
"""What a name is called in its module, where that is something else."""

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """A public name, looked up once; functions are behind the door, as classes are where they are defined."""
        if name == "__version__":
            value = _version()
        elif name in _HOMES:
            value = getattr(import_module(f"polyfuse.{_HOMES[name]}"), _OWN_NAMES.get(name, name))
            if not isinstance(value, type):
                from polyfuse.doors import guarded

                value = guarded(value, f"pf.{name}")
        else:
            raise AttributeError(f"module 'polyfuse' has no attribute {name!r}")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _version() -> str:
    """The version of the installed package."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("polyfuse")
    except PackageNotFoundError:  # a checkout that was never installed
        return "unknown"
