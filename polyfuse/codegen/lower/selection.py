"""Which layers of a network are computed by row kernels, and how the arrays between them are laid out.

    Network + Target ──select_kernels()──> Selection

Layers that no row kernel suits keep scalar code and work on whatever layout their neighbours want.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from polyfuse.choices import DEFAULT_FLAGS, KERNELS_NAMES, LAYOUTS, KernelsName
from polyfuse.codegen.c.elements import Element
from polyfuse.codegen.compiler import Compiler, find_compiler
from polyfuse.codegen.lower.layout import PLANAR, Layout
from polyfuse.codegen.rows.interpolation import TILES
from polyfuse.codegen.rows.shape import Kind, Site, is_thin
from polyfuse.codegen.rows.winograd import Winograd, best_tile, is_suitable
from polyfuse.codegen.target import SCALAR_C, Target, probe
from polyfuse.errors import InvalidInput
from polyfuse.network.layer import Layer
from polyfuse.network.network import Network, require_float32
from polyfuse.network.operator import window_of
from polyfuse.network.tensor import Tensor
from polyfuse.network.window import Window

Interface = Literal["nchw", "blocked"]


@dataclass(frozen=True)
class ChannelSlice:
    """Some channels of a tensor, from the first one on."""

    whole: Tensor
    channel: int


@dataclass(frozen=True, eq=False)
class Selection:
    """The row kernel of each layer that has one, by name, and the layouts of tensors, by name: planar if not there.

    `onchip` is what layers work on, in buffers and in scratch arrays; `interface` is for inputs and outputs; `inside`
    holds the tensors that lie in the array of another.
    """

    target: Target = SCALAR_C
    kinds: Mapping[str, Kind] = field(default_factory=dict)
    onchip: Mapping[str, Layout] = field(default_factory=dict)
    interface: Mapping[str, Layout] = field(default_factory=dict)
    inside: Mapping[str, ChannelSlice] = field(default_factory=dict)

    @property
    def tiles(self) -> dict[str, int]:
        """The tile of each layer that Winograd's algorithm computes, by name."""
        return {name: kind.tile for name, kind in self.kinds.items() if isinstance(kind, Winograd)}

    def holding(self, element: Element) -> "Selection":
        """The same with arrays of other elements. Errors: InvalidInput for row kernels, which are of float32."""
        if element == self.target.element:
            return self
        if self.target.has_rows:
            raise InvalidInput(f"row kernels: expected elements of float32, got {element.name}; use scalar kernels")
        return replace(self, target=replace(self.target, element=element))

    def layout(self, tensor: Tensor, offchip: bool) -> Layout:
        """The layout of a tensor's array."""
        inner = self.onchip.get(tensor.name, PLANAR)
        return self.interface.get(tensor.name, inner) if offchip else inner

    def converts(self, tensor: Tensor) -> bool:
        """Whether what is off chip must be converted before layers can work on it."""
        return (self.layout(tensor, True) == PLANAR) != (self.layout(tensor, False) == PLANAR)

    def kind(self, layer: Layer) -> Kind | None:
        """The row kernel of a layer; None where it has scalar code."""
        return self.kinds.get(layer.name)

    def tallest(self, layer: Layer) -> int:
        """How many rows of a layer are worth computing at once."""
        kind = self.kinds.get(layer.name)
        return 1 if kind is None else kind.tallest(layer, self.target)

    def reads_offchip(self, layer: Layer, tensor: Tensor) -> bool:
        """Whether a layer takes planar rows of an input straight from its off-chip array."""
        kind = self.kinds.get(layer.name)
        return kind is not None and kind.planar_in and self.interface.get(tensor.name) == PLANAR


SCALAR = Selection()


def named_selection(
    network: Network,
    kernels: KernelsName = "rows",
    layout: str = "nchw",
    *,
    exact: bool = False,
    compiler: Compiler | None = None,
    flags: Sequence[str] = DEFAULT_FLAGS,
) -> Selection:
    """The selection by name: `scalar`, or row kernels as wide as the vectors that the compiler has under its flags.

    Row kernels compute in float32: a network of other elements gets scalar code. `exact` keeps to the direct algorithm.
    Errors: InvalidInput for unknown names, and for a layout in blocks that are not as wide as a vector; BuildError.
    """
    if kernels not in KERNELS_NAMES or layout not in LAYOUTS:
        raise InvalidInput(
            f"kernels {kernels!r} and layout {layout!r}: expected kernels of {', '.join(KERNELS_NAMES)} and a layout "
            f"of {', '.join(LAYOUTS)}"
        )
    if kernels == "scalar" or network.dtypes == {"float64"}:
        if layout != "nchw":
            raise InvalidInput(f"layout {layout!r}: scalar code works on nchw; use rows for blocks of channels")
        return SCALAR
    target = probe(compiler or find_compiler(), tuple(flags))
    if layout not in ("nchw", "blocked", f"nchw{target.floats}c"):
        raise InvalidInput(
            f"layout {layout!r}: the compiler's vectors hold {target.floats} floats; use nchw{target.floats}c or "
            "blocked"
        )
    return select_kernels(network, target, "nchw" if layout == "nchw" else "blocked", exact=exact)


def select_kernels(
    network: Network,
    target: Target,
    interface: Interface = "nchw",
    *,
    exact: bool = False,
    winograd: Mapping[str, int] | None = None,
) -> Selection:
    """Choose the row kernels of a network.

    `interface` says how inputs and outputs are laid out: all planar, or in blocks where layers work on blocks.
    `winograd` gives the tile of Winograd's algorithm for layers by name, 0 for the direct one; for others it is chosen
    by price, or not used where `exact`.
    Errors: InvalidInput for an unknown interface, for a layer that Winograd's algorithm does not suit, and for elements
    that are not float32.
    """
    require_float32(network, "a row kernel")
    if interface not in ("nchw", "blocked"):
        raise InvalidInput(f"layout {interface!r}: expected 'nchw' or 'blocked'")
    kinds, blocked = kinds_and_blocked(network, target)
    kinds |= winograd_kinds(network, kinds, target, exact, winograd or {})
    outside = {}
    for tensor in (*network.inputs, *network.outputs):
        inside = interface == "blocked" and tensor.name in blocked and not is_thin(network, tensor)
        outside[tensor.name] = Layout("blocks", target.floats) if inside else PLANAR
    return Selection(target, kinds, dict.fromkeys(blocked, Layout("rows", target.floats)), outside)


def winograd_kinds(
    network: Network, kinds: Mapping[str, Kind], target: Target, exact: bool, given: Mapping[str, int]
) -> dict[str, Winograd]:
    """The kinds of the layers that Winograd's algorithm computes, by name: with tiles that are given, or by price."""
    suitable = {layer.name: layer for layer in network.layers if is_suitable(layer, kinds.get(layer.name))}
    if unfit := [name for name, tile in given.items() if tile and (name not in suitable or tile not in TILES)]:
        raise InvalidInput(
            f"winograd of layer {unfit[0]!r}: expected a 3x3 convolution with stride and dilation 1, one group and "
            f"blocks of channels, and a tile of 0, {', '.join(map(str, TILES))}; got {given[unfit[0]]}"
        )
    chosen = {name: Winograd(tile) for name, tile in given.items() if tile}
    for name, layer in suitable.items() if not exact else ():
        if name not in given and (tile := best_tile(layer, window_or_point(layer), target)):
            chosen[name] = Winograd(tile, priced=True)
    return chosen


def kinds_and_blocked(network: Network, target: Target) -> tuple[dict[str, Kind], frozenset[str]]:
    """The row kernel of each layer, and the tensors that are in blocks, by name.

    A kind that makes planar rows gives way to others where a neighbour needs blocks; inputs of the network have a
    planar form, too.
    """
    withdrawn, given = set[tuple[str, Kind]](), {tensor.name for tensor in network.inputs}
    while True:
        kinds = dict(claims(network, target, withdrawn))
        blocked = blocked_tensors(network, target, kinds)
        unfit = {
            (name, kind)
            for name, kind in kinds.items()
            if kind.planar_out and not blocked.isdisjoint(ends_of(network.layer(name)) - given)
        }
        if not unfit:
            return kinds | following(network, target, blocked), blocked
        withdrawn |= unfit


def claims(network: Network, target: Target, withdrawn: Collection[tuple[str, Kind]]) -> Iterator[tuple[str, Kind]]:
    """For each layer that makes an image, the first kind that claims it."""
    for layer in network.layers:
        if len(layer.output.shape) != 4:
            continue
        site = Site(network, layer, target)
        claimed = (kind.claim(site) for kind in target.kinds if not kind.follows)
        if kind := next((kind for kind in claimed if kind and (layer.name, kind) not in withdrawn), None):
            yield layer.name, kind


def following(network: Network, target: Target, blocked: frozenset[str]) -> dict[str, Kind]:
    """The kinds that follow others, where what a layer reads and makes is in blocks for their sake."""
    found: dict[str, Kind] = {}
    for layer in network.layers:
        if blocked.issuperset(ends_of(layer)):
            kind = follower(network, layer, target)
            found |= {layer.name: kind} if kind is not None else {}
    return found


def follower(network: Network, layer: Layer, target: Target) -> Kind | None:
    """The first kind that follows others and claims a layer."""
    claimed = (kind.claim(Site(network, layer, target)) for kind in target.kinds if kind.follows)
    return next((kind for kind in claimed if kind is not None), None)


def ends_of(layer: Layer) -> set[str]:
    """The names of what a layer reads and makes."""
    return {layer.output.name, *(tensor.name for tensor in layer.inputs)}


def blocked_tensors(network: Network, target: Target, kinds: Mapping[str, Kind]) -> frozenset[str]:
    """What row kernels want in blocks, and what additions, activations and moved channels make of that."""
    found: frozenset[str] = frozenset()
    for layer in network.layers:
        if kind := kinds.get(layer.name):
            found |= set() if kind.planar_out else {layer.output.name}
            found |= set() if kind.planar_in else {tensor.name for tensor in layer.inputs}
    made = frozenset(tensor.name for tensor in network.makers)
    for layer in network.layers:
        if any(kind.joins(layer, found, made) for kind in target.kinds):
            found |= {layer.output.name}
    for layer in reversed(network.layers):
        if layer.output.name in found and follower(network, layer, target) is not None:
            found |= {tensor.name for tensor in layer.inputs if tensor.name in made}
    return found


def window_or_point(layer: Layer) -> Window:
    """The window of a layer; 1x1 where it has none."""
    return window_of(layer.operator) or Window()
