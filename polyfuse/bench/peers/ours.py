"""polyfuse as a contender: a network and a configuration to a kernel that is ready to run."""

from dataclasses import dataclass
from typing import Literal

from polyfuse.bench.peers.contender import FOLDER, Contender, Prepared, Settings, Values
from polyfuse.codegen.kernel import Kernel, Options, build
from polyfuse.codegen.program import generate
from polyfuse.errors import InvalidInput
from polyfuse.network.network import Network
from polyfuse.schedule.groups import fused, layer_by_layer
from polyfuse.schedule.retention import Place
from polyfuse.schedule.schedule import Strategy

STRATEGIES = ("local", "recompute", "unfused")
STRIP_ROWS = 4


@dataclass(frozen=True)
class Configuration:
    """How polyfuse computes a network.

    strategy           `unfused`: layer by layer; `local`, `recompute`: fused, in strips of rows
    leaf               what computes a row: `scalar` C
    layout             of inputs and outputs in memory: `nchw`
    exact_arithmetic   no algorithm but the direct one
    """

    strategy: str = "local"
    leaf: Literal["scalar"] = "scalar"
    layout: Literal["nchw"] = "nchw"
    exact_arithmetic: bool = False
    threads: int = 1

    def __post_init__(self) -> None:
        if self.strategy not in STRATEGIES:
            raise InvalidInput(
                f"configuration: expected a strategy of {', '.join(STRATEGIES)}, got {self.strategy!r}; correct it"
            )

    @property
    def name(self) -> str:
        """What tables call it."""
        return f"polyfuse {self.strategy}"

    def contender(self) -> Contender:
        """The contender that runs it."""
        chosen = {key: getattr(self, key) for key in ("strategy", "leaf", "layout", "exact_arithmetic")}
        return Contender(self.name, f"{FOLDER}.ours", None, chosen)


def ours(network: Network, configuration: Configuration) -> Kernel:
    """The kernel of a network, compiled; calling it, or `run()` after `set_inputs`, computes.

    Errors: those of scheduling and of the compiler; IllegalSchedule where threads find nothing to share.
    """
    if configuration.strategy == "unfused":
        groups = layer_by_layer(network)
    else:
        groups = fused(network, strips(network, configuration))
    return build(generate(network, groups), threads=configuration.threads, options=Options())


def strips(network: Network, configuration: Configuration) -> Strategy:
    """Strips of a few rows; several threads take columns each, which nothing is kept along."""
    *_, rows, columns = network.outputs[-1].concrete_shape
    place: Place = "local" if configuration.strategy == "local" else "recompute"
    height = min(STRIP_ROWS, rows)
    if configuration.threads == 1:
        return Strategy((height,), (place,), placement="shifted" if place == "local" else "first")
    if place == "recompute":
        return Strategy((height,), (place,))
    width = -(-columns // configuration.threads)
    return Strategy((height, width), (place, "recompute"), placement="shifted", order=(1, 0))


def prepare(network: Network, inputs: Values, settings: Settings) -> Prepared:
    """A kernel with its inputs set."""
    configuration = Configuration(threads=settings.threads, **settings.options)  # type: ignore[arg-type]
    kernel = ours(network, configuration)
    kernel.set_inputs(inputs)
    kernel.poison()
    return Prepared(kernel.run, lambda: kernel.outputs, configuration.layout, f"{configuration.leaf} leaves")
