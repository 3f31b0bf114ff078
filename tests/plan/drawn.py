"""Random small graphs and machines for certificates: a seed gives both."""

import random
from dataclasses import dataclass, replace

from polyfuse.choices import Goal
from polyfuse.machines.accelerator import Accelerator, accelerator
from polyfuse.network.network import Builder
from polyfuse.plan.graph.operations import Graph, graph_of
from polyfuse.plan.price.objective import Objective

MACHINES = ("npu", "npu-memory-bound", "mcu-320k", "gemmini", "eyeriss", "ethos-u65")
GOALS: tuple[Goal, ...] = ("latency", "bytes", "energy", "macs", "peak")


@dataclass(frozen=True)
class Drawn:
    """A graph on a machine, and what it is planned for."""

    graph: Graph
    machine: Accelerator
    objective: Objective


def drawn(seed: int, layers: int, side: int, channels: int) -> Drawn:
    """A graph of so many layers at most, with images and channels of such sizes at most."""
    rng = random.Random(seed)
    build = Builder("drawn")
    shape = (rng.choice((1, 1, 1, 2)), rng.randint(1, channels), rng.randint(1, side), rng.randint(1, side))
    made = [build.input("x", shape)]
    for k in range(rng.randint(1, layers)):
        read, name = rng.choice(made[-2:]), f"l{k}"
        kind = rng.choice(("conv", "conv", "pointwise", "depthwise", "pool", "add", "mean", "concat"))
        stride = rng.choice((1, 1, 2))
        if kind == "conv":
            made.append(build.conv(name, read, rng.randint(1, channels), kernel=3, padding=1, stride=stride))
        elif kind == "pointwise":
            made.append(build.conv(name, read, rng.randint(1, channels), kernel=1, stride=stride))
        elif kind == "depthwise" and read.shape[1] != 1:
            made.append(build.depthwise(name, read, kernel=3, padding=1))
        elif kind == "pool":
            made.append(build.max_pool(name, read, kernel=3, stride=stride, padding=1))
        elif kind == "mean" and read.shape[2:] != (1, 1):
            made.append(build.global_average_pool(name, read))
        elif kind == "concat":
            alike = [t for t in made if (t.shape[0], t.shape[2:]) == (read.shape[0], read.shape[2:])]
            joined = build.concat(f"{name}_joined", read, rng.choice(alike))
            pools = rng.random() < 0.5 and read.shape[2:] != (1, 1)
            pooled = build.global_average_pool(name, joined) if pools else build.max_pool(name, joined, kernel=1)
            made.append(pooled)
        else:
            made.append(build.arithmetic(name, "add", read, rng.choice([t for t in made if t.shape == read.shape])))
    machine = replace(
        accelerator(rng.choice(MACHINES)),
        double_buffer=rng.random() < 0.7,
        dma_engines=rng.choice((1, 1, 2)),
        weights_in_place=rng.random() < 0.2,
        alignment_bytes=rng.choice((1, 4, 16)),
        lanes=rng.choice((1, 2, 4)),
    )
    weight = rng.choice((0.0, 0.0, 2.5))
    goal = rng.choice(GOALS)
    objective = Objective(goal, weight if goal == "latency" else 0.0)
    dtypes = [dtype for dtype in ("int8", "float16", "float32") if all(dtype in r for r in machine.rates.values())]
    return Drawn(graph_of(build.network(made[-1]), rng.choice(dtypes)), machine, objective)
