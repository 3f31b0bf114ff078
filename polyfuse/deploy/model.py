"""A whole network, planned, compiled and callable: `load("model.onnx")(x)`.

path, Network or Source ──load()──> Model;  Model(x) -> numpy arrays
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from numpy.typing import ArrayLike

from polyfuse.codegen.kernel import Kernel, build
from polyfuse.codegen.program import Program
from polyfuse.deploy.algorithms import algorithms_of
from polyfuse.deploy.plan import Plan, planned, program
from polyfuse.deploy.prices import seconds_on
from polyfuse.deploy.settings import Settings
from polyfuse.deploy.source import Source, read_source, source_of
from polyfuse.deploy.tuning import with_tuned
from polyfuse.doors import public
from polyfuse.errors import InvalidInput
from polyfuse.loading import Workload
from polyfuse.machines.host import known_machine, usable_cores
from polyfuse.network.dtypes import Values
from polyfuse.network.network import Network, require_float32
from polyfuse.progress import Progress


@public
class Model:
    """A compiled network. Calls of one model are not concurrent; results are copies.

    >>> import numpy as np
    >>> import polyfuse as pf
    >>> build = pf.Builder("two_convs")
    >>> y = build.conv("conv2", build.conv("conv1", build.input("x", (1, 1, 20, 20)), 1, kernel=3), 1, kernel=3)
    >>> pf.load(build.network(y))(np.zeros((1, 1, 20, 20), np.float32)).shape
    (1, 1, 16, 16)
    """

    def __init__(self, source: Source, plan: Plan, code: Program, kernel: Kernel) -> None:
        self.source = source
        self.network = source.network
        self.plan = plan
        self.program = code
        self.kernel = kernel
        self.inputs = self.network.ends.input_names
        self.outputs = self.network.ends.output_names

    def run(self, /, *arrays: ArrayLike, **named: ArrayLike) -> dict[str, Values]:
        """The outputs by name, in the model's order; inputs in its order, or by name. Names are those of the model.

        Inputs that nothing reads may be left out. Outputs that are constant have the model's type, others are float32.
        Errors: InvalidInput for too many or unknown inputs, wrong shapes, and what is not an array of real numbers.
        """
        ends = self.network.ends
        bound = ends.bound(f"model {self.network.name!r}", arrays, named)
        found = self.kernel(**ends.entering(bound, self.network.inputs))
        return ends.leaving(found, self.network.outputs, bound)

    def __call__(self, /, *arrays: ArrayLike, **named: ArrayLike) -> Values | dict[str, Values]:
        """The output, or the outputs by name where there are several. Errors: as `run`."""
        found = self.run(*arrays, **named)
        return next(iter(found.values())) if len(self.outputs) == 1 else found

    def __reduce__(self) -> NoReturn:
        """Errors: InvalidInput: loaded code is of this process."""
        raise InvalidInput(
            f"model {self.network.name!r}: loaded code cannot be pickled or copied; keep its plan, and load the model "
            "with that"
        )

    def __repr__(self) -> str:
        ends = f"{', '.join(map(str, self.network.inputs))} -> {', '.join(map(str, self.network.outputs))}"
        return f"Model({self.network.name}: {ends}; {len(self.plan.groups)} groups)"


def load(
    source: str | Path | Network | Source,
    *,
    first: str | None = None,
    last: str | None = None,
    random_weights: int | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    dimensions: Mapping[str, int] | None = None,
    values: Mapping[str, ArrayLike] | None = None,
    plan: Plan | None = None,
    settings: Settings | None = None,
    progress: Progress | None = None,
) -> Model:
    """Plan a network, compile it and load it; with a `plan`, compile what that says.

    `source` is an ONNX model, a kernel file or its name, or a network; `first` and `last` name the ends of a part;
    `random_weights` is a seed. Models and networks are rewritten first.

    Inputs of a model whose sizes are open, or are to be others, get them by `shapes`, such as
    {"x": (1, 3, 480, 640)}, or by `dimensions`, such as {"batch": 1}. Those that have a value, such as {"n": 3}, are no
    inputs any more.

    Errors: InvalidInput for files that cannot be used, and for what would have no effect: weights, sizes and values
    for a network, settings that a plan decides; UnsupportedOperator; BuildError.
    """
    if isinstance(source, Network | Source) and (shapes or dimensions or values):
        raise InvalidInput("load: shapes, dimensions and values are for model files; a network has its own sizes")
    if isinstance(source, Network | Source) and (first, last) != (None, None):
        raise InvalidInput("load: first and last are for files; take the part of a network with Network.between")
    if random_weights is not None and isinstance(source, Network | Source):
        raise InvalidInput(
            "load: random_weights has no effect on a network, which has weights; give a model, or drop it"
        )
    if plan is not None and settings is not None:
        check_undecided(settings, plan)
    if isinstance(source, Network):
        source = source_of(source)
    elif not isinstance(source, Source):
        source = read_source(Workload(str(source), first, last, dimensions, random_weights, shapes, values))
    network = source.network
    chosen = (settings or Settings()).ready
    made = plan or plan_of(network, chosen, progress)
    code = program_of(network, made, chosen, progress)
    return Model(source, made, code, build(code, threads=chosen.threads_of(code), options=chosen.options))


def check_undecided(settings: Settings, plan: Plan) -> None:
    """Refuse settings other than the default ones that a plan has decided otherwise.

    Errors: InvalidInput.
    """
    usual = Settings()
    decides = ("groups", "longest", "untuned", "machine")
    void = [name for name in decides if getattr(settings, name) != getattr(usual, name)]
    for name, decided in (("interface", plan.interface), ("exact", plan.arithmetic == "exact")):
        if getattr(settings, name) not in (getattr(usual, name), decided):
            void.append(name)
    if void:
        raise InvalidInput(
            f"load: the settings {', '.join(void)} have no effect with a plan, which decides them; leave them out, or "
            "plan again"
        )


def plan_of(network: Network, settings: Settings, progress: Progress | None = None) -> Plan:
    """The plan of a network on this host. Errors: as `planned`, BuildError; InvalidInput where it is not float32."""
    require_float32(network, "compiling for this host")
    single, machine = settings.groups == "single", settings.machine or known_machine()
    price = None if single else seconds_on(machine, settings.threads)
    algorithms, target = {}, settings.target
    if machine.costs is not None and not settings.exact:
        algorithms = algorithms_of(network, target, settings.interface, seconds_on(machine))
    made = planned(
        network,
        target,
        price,
        groups=settings.groups,
        interface=settings.interface,
        exact=settings.exact,
        algorithms=algorithms,
        longest=settings.longest,
        workers=usable_cores(),
        progress=progress,
    )
    if settings.untuned or settings.groups != "planned":
        return made
    return with_tuned(made, network, settings)


def program_of(network: Network, plan: Plan, settings: Settings, progress: Progress | None = None) -> Program:
    """The C of a plan, for this host's compiler. Errors: as `program`, and BuildError."""
    if progress is not None:
        progress("generating", 0, 1)
    return program(network, plan, settings.target)
