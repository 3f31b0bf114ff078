"""One case of the fuzzer as plain data: a small network, its groups, and how its program is made.

`repr` of a case is Python that makes it again, which is what a failure prints.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from polyfuse.choices import Place
from polyfuse.network.network import Builder, Network
from polyfuse.network.tensor import Tensor
from polyfuse.schedule.retention import Placement
from polyfuse.schedule.strategy import Strategy

Attributes = Mapping[str, Any]


@dataclass(frozen=True)
class LayerOf:
    """A layer named `l0`, `l1`, …; `reads` counts the inputs of the network first and layers after them."""

    kind: str
    reads: tuple[int, ...]
    attributes: Attributes = field(default_factory=dict)


@dataclass(frozen=True)
class GroupOf:
    """The next `layers` of the network as a group, and its strategy; `retention` is by tensor name."""

    layers: int
    tile: tuple[int, ...] = ()
    others: tuple[Place, ...] = ()
    retention: Mapping[str, tuple[Place, ...]] = field(default_factory=dict)
    placement: Placement = "first"
    order: tuple[int, ...] | None = None
    weights: str = "once"

    @property
    def strategy(self) -> Strategy:
        """What polyfuse is given."""
        return Strategy(
            self.tile,
            self.others,
            self.retention,
            self.placement,
            self.order,
            self.weights,  # type: ignore[arg-type]
        )


@dataclass(frozen=True)
class Case:
    """A network and what is done with it; `outputs` are tensors that are outputs although layers may read them."""

    inputs: tuple[tuple[int, int, int, int], ...]
    layers: tuple[LayerOf, ...]
    groups: tuple[GroupOf, ...]
    outputs: tuple[int, ...] = ()
    form: str = "instrumented"
    threads: int = 1


def network_of(case: Case) -> Network:
    """Build the network; tensors that no layer reads are outputs, in the order of their layers.

    Errors: InvalidInput for attributes that do not fit.
    """
    build = Builder("fuzz")
    tensors = [build.input(f"x{k}", shape) for k, shape in enumerate(case.inputs)]
    for k, layer in enumerate(case.layers):
        tensors.append(add_layer(build, f"l{k}", layer, [tensors[r] for r in layer.reads]))
    read = {r for layer in case.layers for r in layer.reads}
    last = range(len(case.inputs), len(tensors))
    return build.network(*(tensors[k] for k in last if k not in read or k in case.outputs))


def add_layer(build: Builder, name: str, layer: LayerOf, tensors: list[Tensor]) -> Tensor:
    """Add one layer to a network that is being built."""
    options = dict(layer.attributes)
    if layer.kind == "conv":
        return build.conv(name, tensors[0], options.pop("channels"), **options)
    if layer.kind == "activation":
        return build.activation(name, tensors[0], options["spec"])
    if layer.kind in ("add", "sub", "mul"):
        return build.arithmetic(name, layer.kind, tensors[0], tensors[1], **options)
    if layer.kind == "concat":
        return build.concat(name, *tensors)
    made: Tensor = getattr(build, layer.kind)(name, tensors[0], **options)
    return made


def group_networks(case: Case, network: Network) -> list[Network]:
    """The network of each group."""
    if len(case.groups) == 1:
        return [network]
    names = [layer.name for layer in network.layers]
    found = []
    for group in case.groups:
        found.append(network.select(names[: group.layers]))
        names = names[group.layers :]
    return found
