"""polyfuse as a contender: a network and a configuration to a kernel that is ready to run."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from polyfuse.bench.peers.contender import FOLDER, Contender, PeerSettings, Prepared, Values
from polyfuse.choices import CONFIGURATIONS, KernelsName, Place
from polyfuse.codegen.build import Options
from polyfuse.codegen.kernel import Kernel, build
from polyfuse.codegen.lower.selection import Selection, named_selection
from polyfuse.codegen.program import Program, generate
from polyfuse.deploy.model import plan_of, program_of
from polyfuse.deploy.settings import Settings
from polyfuse.deploy.space import Choice
from polyfuse.deploy.tuned import best_for
from polyfuse.errors import InvalidInput
from polyfuse.network.network import Network
from polyfuse.rewrite.rewriting import rewrite
from polyfuse.schedule.groups import fused, layer_by_layer
from polyfuse.schedule.storage import Storage
from polyfuse.schedule.strategy import Strategy

STRIP_ROWS = 4
WINOGRAD_ROWS = 12


@dataclass(frozen=True)
class Configuration:
    """How polyfuse computes a network.

    strategy           `unfused`: layer by layer; `local`, `recompute`: fused, in strips of rows; `plan`: rewritten, in
                       groups by price; `published`: in those of DNNFusion's plan; `tuned`: what `polyfuse tune`
                       found, or `plan` where it was not asked
    kernels            what computes a row: `rows`, kernels of vectors, or `scalar` C
    layout             of inputs and outputs in memory: `nchw`, or `blocked` by channels
    exact_arithmetic   no algorithm but the direct one
    """

    strategy: str = "tuned"
    kernels: KernelsName = "rows"
    layout: str = "nchw"
    exact_arithmetic: bool = False
    threads: int = 1

    def __post_init__(self) -> None:
        if self.strategy not in CONFIGURATIONS:
            raise InvalidInput(
                f"configuration: expected a strategy of {', '.join(CONFIGURATIONS)}, got {self.strategy!r}; correct it"
            )

    @property
    def name(self) -> str:
        """What tables call it."""
        words = ["polyfuse", *([self.strategy] if self.strategy != "tuned" else [])]
        words += ["scalar"] if self.kernels == "scalar" else []
        return " ".join([*words, *(["exact"] if self.exact_arithmetic else [])])

    @property
    def settings(self) -> Settings:
        """The same for a planned network, with the compiler found."""
        return Settings(
            groups="published" if self.strategy == "published" else "planned",
            untuned=self.strategy == "plan",
            exact=self.exact_arithmetic,
            interface="blocked" if self.layout == "blocked" else "nchw",
            threads=self.threads,
        ).ready

    def contender(self) -> Contender:
        """The contender that runs it; the interface that all are asked for says how inputs and outputs lie."""
        chosen = {key: getattr(self, key) for key in ("strategy", "kernels", "exact_arithmetic")}
        return Contender(self.name, f"{FOLDER}.ours", options=chosen)


@dataclass(frozen=True, eq=False)
class Chosen:
    """The program of a configuration, what was chosen in a few words, and its name for each output of the network."""

    program: Program
    label: str
    outputs: Mapping[str, str]


def ours(network: Network, configuration: Configuration) -> Kernel:
    """The kernel of a network, compiled; calling it, or `run()` after `set_inputs`, computes.

    Errors: those of scheduling and of the compiler.
    """
    program = chosen(network, configuration).program
    return build(program, threads=configuration.settings.threads_of(program), options=Options())


def chosen(network: Network, configuration: Configuration) -> Chosen:
    """What a configuration runs."""
    known = choice_of(network, configuration)
    if known is not None:
        kernels = known.selection(network, configuration.settings.target, configuration.settings.interface)
        return scheduled(network, kernels, known.groups(network, kernels), known.label)
    if configuration.strategy in ("plan", "published", "tuned") and configuration.kernels == "rows":
        return planned(network, configuration)
    exact = configuration.exact_arithmetic
    kernels = named_selection(network, configuration.kernels, configuration.layout, exact=exact)
    if configuration.strategy == "unfused":
        return scheduled(network, kernels, layer_by_layer(network, kernels.tallest), "unfused")
    strategy = strips(network, configuration, WINOGRAD_ROWS if kernels.tiles else STRIP_ROWS)
    return scheduled(network, kernels, fused(network, strategy), "x".join(map(str, strategy.tile)))


def scheduled(network: Network, kernels: Selection, groups: tuple[Storage, ...], label: str) -> Chosen:
    """The program of some groups of the network itself."""
    return Chosen(
        generate(network, groups, kernels=kernels), label, {tensor.name: tensor.name for tensor in network.outputs}
    )


def planned(network: Network, configuration: Configuration) -> Chosen:
    """The program of the network, rewritten, in groups that the time model finds cheapest."""
    settings = configuration.settings
    rewritten = rewrite(network).network
    plan = plan_of(rewritten, settings)
    names = {old.name: new.name for old, new in zip(network.outputs, rewritten.outputs, strict=True)}
    layers = len(rewritten.layers)
    return Chosen(program_of(rewritten, plan, settings), f"{layers} layers in {len(plan.groups)} groups", names)


def choice_of(network: Network, configuration: Configuration) -> Choice | None:
    """What tuning found."""
    if configuration.strategy != "tuned" or configuration.kernels != "rows":
        return None
    found = best_for(network, configuration.settings)
    return found.choice if found is not None else None


def strips(network: Network, configuration: Configuration, most_rows: int) -> Strategy:
    """Strips of a few rows; several threads take columns each, which nothing is kept along."""
    *_, rows, columns = network.outputs[-1].concrete_shape
    place: Place = "recompute" if configuration.strategy == "recompute" else "local"
    height = min(most_rows, rows)
    if configuration.threads == 1:
        return Strategy((height,), (place,), placement="shifted" if place == "local" else "first")
    if place == "recompute":
        return Strategy((height,), (place,))
    width = -(-columns // configuration.threads)
    return Strategy((height, width), (place, "recompute"), placement="shifted", order=(1, 0))


def prepare(network: Network, inputs: Values, settings: PeerSettings) -> Prepared:
    """A kernel with its inputs set, in blocks of channels unless all contenders take NCHW."""
    configuration = Configuration(threads=settings.threads, **settings.options)  # type: ignore[arg-type]
    if settings.interface == "preferred" and configuration.kernels == "rows":
        configuration = replace(configuration, layout="blocked")
    found = chosen(network, configuration)
    kernel = build(found.program, threads=configuration.settings.threads_of(found.program), options=Options())
    kernel.set_inputs(inputs)
    kernel.poison()
    layouts = found.program.selection.interface.values()
    layout = next((str(layout) for layout in layouts if layout.floats > 1), "nchw")
    return Prepared(
        kernel.run, lambda: {old: kernel.outputs[new] for old, new in found.outputs.items()}, layout, found.label
    )
