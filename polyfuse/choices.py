"""What users choose among by name, and what they get where they say nothing.

Options of commands read this module, so that help imports nothing of the floors that act on a choice.
"""

from pathlib import Path
from typing import Literal, get_args

Place = str
"""What happens to a value that two tiles need, by name."""
BUFFER, OFF_CHIP = "chip", "offchip"
MEMORIES = ("l2", "l3", "l4")
"""Memories between the buffers and off-chip memory, the nearest first; tiles that hold others may lie there."""
RETAINED_IN: dict[Place, str | None] = {"recompute": None, "local": BUFFER, "global": OFF_CHIP} | {
    m: m for m in MEMORIES
}
"""The memory in which each place retains values: none, so that they are computed again; the buffer of their tensor; or
another one, to which they are stored once and from which later tiles load them. A line here is a place."""
PLACES = tuple(place for place in RETAINED_IN if place not in MEMORIES)
Axis = int | str
AXES = ("n", "c", "h", "w")
"""The names of the axes of images, in their order; those of other tensors are numbers."""
STRATEGIES = (*PLACES, "mixed")
"""Strategies by name: one place for every tensor along every tile dimension, or mixed."""

KernelsName = Literal["rows", "scalar"]
"""What computes a layer in C: kernels of whole rows, or loops over single statements."""
KERNELS_NAMES: tuple[KernelsName, ...] = get_args(KernelsName)
LAYOUTS = ("nchw", "nchw4c", "nchw8c", "nchw16c", "blocked")
"""Layouts of inputs and outputs; `blocked` is the one of these that fits the machine's vectors."""
DEFAULT_FLAGS = ("-std=c11", "-O3", "-march=native", "-ffp-contract=fast")
"""C as it is generated, vectorised for this CPU, with fused multiply-add.

-std=c11 turns contraction off in gcc, and -ffp-contract=fast brings it back: without it a convolution has no FMA.
Nothing here lets the compiler reorder additions, so a result does not depend on how it vectorised. Max and ReLU already
vectorise with -O3 when written as `a > b ? a : b`, and -fno-math-errno and -fno-trapping-math changed no loop, so
neither these nor -ffast-math are here.
"""

Groups = Literal["planned", "published", "single"]
"""Whose groups: those of the planner, those of DNNFusion's plan, or one for each layer."""
LONGEST = 8
"""The most layers of a group."""
MOST_THREADS = 1024
"""The most threads that may be asked for."""
PROFILES = ("model", "measured", "never", "always")
"""What decides the cases that the fusion table leaves open."""

Goal = Literal["latency", "bytes", "energy", "macs", "peak"]
"""What a plan for a scratchpad machine should have least of."""
DTYPE_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "int8": 1}
"""The types that elements are stored in; sums are made in 4 bytes whatever they are."""
HOST_CACHE = "host-cache"
"""The second cache of this host, taken for a scratchpad."""

CONFIGURATIONS = ("tuned", "plan", "published", "local", "recompute", "unfused")
"""How polyfuse computes a network that it races other tools with."""
RaceLayout = Literal["preferred", "nchw"]
RACE_LAYOUTS: tuple[RaceLayout, ...] = get_args(RaceLayout)
"""Layouts of inputs and outputs in a race: what each contender prefers, or one for all."""
SEARCH_SECONDS = 120.0
"""How long a contender that tries schedules may search."""
MEASURED = 8
"""Choices that tuning measures, the unfused one apart."""
PROBE_SECONDS = 6.0
"""How long measuring a host takes."""
PICTURES = (".png", ".svg")
"""How the names of pictures end."""


def accelerators() -> tuple[str, ...]:
    """The shipped accelerators, and `host-cache`, which is made of this host's machine file.

    >>> accelerators()
    ('ethos-u65', 'eyeriss', 'gemmini', 'host-cache', 'mcu-320k', 'npu', 'npu-memory-bound')
    """
    shipped = (path.stem for path in (Path(__file__).parent / "machines" / "files").glob("*.toml"))
    return tuple(sorted({HOST_CACHE, *shipped} - {"typical"}))
