"""Which layers of a network are computed by row kernels, and how the arrays between them are laid out.

    Network + Target ──leaves()──> Leaves

Layers that no row kernel suits keep scalar leaves and work on whatever layout their neighbours want.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Literal

from polyfuse.choices import DEFAULT_FLAGS, LAYOUTS, LEAF_NAMES, LeafName
from polyfuse.codegen.channels import channel_sources
from polyfuse.codegen.compiler import Compiler, find_compiler
from polyfuse.codegen.layout import PLANAR, Layout
from polyfuse.codegen.rows.folds import MOST
from polyfuse.codegen.rows.interpolation import TILES
from polyfuse.codegen.rows.pricing import worthwhile
from polyfuse.codegen.rows.shape import PRELU, WIDEST_WINDOW, Kind, RowShape, Target
from polyfuse.codegen.rows.tune import default_tuning
from polyfuse.codegen.rows.width import probe
from polyfuse.errors import InvalidInput
from polyfuse.network.activation import Spec
from polyfuse.network.layer import Layer
from polyfuse.network.network import Network, require_float32
from polyfuse.network.operator import (
    Activate,
    Affine,
    Arithmetic,
    Conv,
    ConvTranspose,
    GlobalPool,
    LocalResponse,
    Pool,
    Prelu,
    window_of,
)
from polyfuse.network.tensor import Tensor
from polyfuse.network.window import Window

Interface = Literal["nchw", "blocked"]
TALLEST: Mapping[Kind, int] = {"stencil": 8, "winograd": 24}
"""The most rows that are computed at once."""
JOINED_WIDTH, JOINED_COLUMNS = 14, 112
"""The widest rows that are joined, and how many columns joined rows have at most."""
SUM, PRODUCT = Arithmetic("add"), Arithmetic("mul")
FEW_CHANNELS = 4
"""Inputs with at most so many channels stay planar: blocks of them would be mostly empty."""


@dataclass(frozen=True)
class ChannelSlice:
    """Some channels of a tensor, from the first one on."""

    whole: Tensor
    channel: int


@dataclass(frozen=True, eq=False)
class Leaves:
    """The row kernel of each layer that has one, by name, and the layouts of tensors, by name: planar if not there.

    `tiles` holds the size m of Winograd's tiles for the layers that use his algorithm, by name; for layers in `priced`
    it is what suits whole rows; what a group executes of them may make another tile, or the direct algorithm, cheaper.
    `edges` holds the smaller tiles (`Tuning.edge`) of layers with a tile of their own, where price is not to choose.
    `onchip` is what layers work on, in buffers and in scratch arrays; `interface` is for inputs and outputs; `inside`
    holds the tensors that lie in the array of another.
    """

    target: Target | None = None
    kinds: Mapping[str, Kind] = field(default_factory=dict)
    tiles: Mapping[str, int] = field(default_factory=dict)
    priced: frozenset[str] = frozenset()
    edges: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    onchip: Mapping[str, Layout] = field(default_factory=dict)
    interface: Mapping[str, Layout] = field(default_factory=dict)
    inside: Mapping[str, ChannelSlice] = field(default_factory=dict)

    def layout(self, tensor: Tensor, offchip: bool) -> Layout:
        """The layout of a tensor's array."""
        inner = self.onchip.get(tensor.name, PLANAR)
        return self.interface.get(tensor.name, inner) if offchip else inner

    def converts(self, tensor: Tensor) -> bool:
        """Whether what is off chip must be converted before layers can work on it."""
        return (self.layout(tensor, True) == PLANAR) != (self.layout(tensor, False) == PLANAR)

    def kind(self, layer: Layer) -> Kind | None:
        """The row kernel of a layer; None where it has scalar leaves."""
        return self.kinds.get(layer.name)

    def tallest(self, layer: Layer) -> int:
        """How many rows of a layer are worth computing at once."""
        kind = self.kinds.get(layer.name)
        return joined_rows(layer, self.target) if kind == "direct" and self.target else TALLEST.get(kind or "direct", 1)

    def reads_offchip(self, layer: Layer, tensor: Tensor) -> bool:
        """Whether a layer takes planar rows of an input straight from its off-chip array."""
        return self.kinds.get(layer.name) in ("few_channels", "stencil") and self.interface.get(tensor.name) == PLANAR


SCALAR = Leaves()


def named_leaves(
    network: Network,
    leaf: LeafName = "rows",
    layout: str = "nchw",
    *,
    exact: bool = False,
    compiler: Compiler | None = None,
    flags: Sequence[str] = DEFAULT_FLAGS,
) -> Leaves:
    """The leaves by name: `scalar`, or row kernels as wide as the vectors that the compiler has under its flags.

    `exact` keeps to the direct algorithm.
    Errors: InvalidInput for unknown names, and for a layout in blocks that are not as wide as a vector; BuildError.
    """
    if leaf not in LEAF_NAMES or layout not in LAYOUTS:
        raise InvalidInput(
            f"leaf {leaf!r} and layout {layout!r}: expected a leaf of {', '.join(LEAF_NAMES)} and a layout of "
            f"{', '.join(LAYOUTS)}"
        )
    if leaf == "scalar":
        if layout != "nchw":
            raise InvalidInput(f"layout {layout!r}: scalar leaves work on nchw; use rows for blocks of channels")
        return SCALAR
    target = probe(compiler or find_compiler(), tuple(flags))
    if layout not in ("nchw", "blocked", f"nchw{target.floats}c"):
        raise InvalidInput(
            f"layout {layout!r}: the compiler's vectors hold {target.floats} floats; use nchw{target.floats}c or "
            "blocked"
        )
    return leaves(network, target, "nchw" if layout == "nchw" else "blocked", exact=exact)


def leaves(
    network: Network,
    target: Target,
    interface: Interface = "nchw",
    *,
    exact: bool = False,
    winograd: Mapping[str, int] | None = None,
) -> Leaves:
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
    tiles = winograd_tiles(network, kinds, target, exact, winograd or {})
    kinds |= dict.fromkeys(tiles, "winograd")
    outside = {}
    for tensor in (*network.inputs, *network.outputs):
        inside = interface == "blocked" and tensor.name in blocked and not is_thin(network, tensor)
        outside[tensor.name] = Layout("blocks", target.floats) if inside else PLANAR
    priced = frozenset(tiles) - frozenset(winograd or {})
    onchip = dict.fromkeys(blocked, Layout("rows", target.floats))
    return Leaves(target, kinds, tiles, priced, onchip=onchip, interface=outside)


def winograd_tiles(
    network: Network, kinds: Mapping[str, Kind], target: Target, exact: bool, given: Mapping[str, int]
) -> dict[str, int]:
    """The tiles of the layers that Winograd's algorithm computes, by name."""
    suitable = {layer.name: layer for layer in network.layers if kinds.get(layer.name) == "direct" and is_3x3(layer)}
    if unfit := [name for name, tile in given.items() if tile and (name not in suitable or tile not in TILES)]:
        raise InvalidInput(
            f"winograd of layer {unfit[0]!r}: expected a 3x3 convolution with stride and dilation 1, one group and "
            f"blocks of channels, and a tile of 0, {', '.join(map(str, TILES))}; got {given[unfit[0]]}"
        )
    chosen = {name: given[name] if name in given else 0 if exact else best_tile(layer, target)
              for name, layer in suitable.items()}  # fmt: skip
    return {name: tile for name, tile in chosen.items() if tile}


def is_3x3(layer: Layer) -> bool:
    """A 3x3 convolution that Winograd's algorithm can compute."""
    match layer.operator:
        case Conv(window=Window(kernel=(3, 3), stride=(1, 1), dilation=(1, 1)), groups=1):
            return True
    return False


def best_tile(layer: Layer, target: Target) -> int:
    """The cheapest tile for whole rows of a layer, several at once; 0 where the direct algorithm is expected to win."""
    _, channels, rows, columns = layer.output.concrete_shape
    left, right = window_or_point(layer).padding[1::2]
    shape = RowShape(
        "row",
        "winograd",
        layer.inputs[0].concrete_shape[1],
        channels,
        columns,
        (3, 3),
        outside=(min(left, columns + 1), min(right, columns + 1 - left)),
        height=min(rows, TALLEST["winograd"]),
    )
    tuning = default_tuning(shape, target)
    return tuning.tile if worthwhile(shape, tuning, target.floats) else 0


def joined_rows(layer: Layer, target: Target) -> int:
    """How many rows of a pointwise layer are computed as one, so that its weights are read once for all of them.

    Narrow maps only, on vectors with enough registers, and outputs that fill their blocks.
    """
    _, channels, rows, columns = layer.output.concrete_shape
    match layer.operator:
        case Conv(window=Window(kernel=(1, 1), padding=(0, 0, 0, 0)), groups=1):
            is_pointwise = True
        case _:
            is_pointwise = False
    if not is_pointwise or target.registers < 32 or channels % target.floats:
        return 1
    return min(rows, JOINED_COLUMNS // columns) if columns <= JOINED_WIDTH else 1


def is_wide(layer: Layer) -> bool:
    """Whether the channels of an image are worth blocks."""
    return layer.output.concrete_shape[1] > FEW_CHANNELS


def is_thin(network: Network, tensor: Tensor) -> bool:
    """An input of few channels."""
    return tensor in network.inputs and len(tensor.shape) == 4 and tensor.concrete_shape[1] <= FEW_CHANNELS


def kinds_and_blocked(network: Network, target: Target) -> tuple[dict[str, Kind], frozenset[str]]:
    """The row kernel of each layer, and the tensors that are in blocks, by name.

    Convolutions of one channel work on planar rows unless a neighbour needs blocks.
    """
    stencils = {layer.name for layer in network.layers if is_stencil(layer)}
    while True:
        kinds = {layer.name: kind for layer in network.layers if (kind := row_kind(network, layer, target, stencils))}
        blocked = blocked_tensors(network, kinds)
        unfit = {name for name in stencils if not is_planar(network, network.layer(name), blocked)}
        if not unfit:
            return kinds | kinds_between(network, blocked), blocked
        stencils -= unfit


def kinds_between(network: Network, blocked: frozenset[str]) -> dict[str, Kind]:
    """Activations by themselves, and moved channels, where what they read and make is in blocks for others' sake."""
    found: dict[str, Kind] = {}
    for layer in network.layers:
        if not blocked.issuperset({layer.output.name, *(tensor.name for tensor in layer.inputs)}):
            continue
        if is_applied(layer):
            found[layer.name] = "apply"
        elif is_gathered(layer):
            found[layer.name] = "gather"
    return found


def is_gathered(layer: Layer) -> bool:
    """Whether a layer takes channels of images in another order, and nothing else."""
    return len(layer.output.shape) == 4 and channel_sources(layer) is not None


def is_planar(network: Network, layer: Layer, blocked: frozenset[str]) -> bool:
    """Whether a layer can read and write planar rows: inputs of the network are planar, or have a planar form too."""
    made = [tensor for tensor in (*layer.inputs, layer.output) if tensor not in network.inputs]
    return not any(tensor.name in blocked for tensor in made)


def blocked_tensors(network: Network, kinds: Mapping[str, Kind]) -> frozenset[str]:
    """What row kernels want in blocks, and what additions, activations and moved channels make of that."""
    found: set[str] = set()
    for layer in network.layers:
        kind = kinds.get(layer.name)
        if kind not in (None, "stencil"):
            found |= {layer.output.name, *(t.name for t in layer.inputs if kind != "few_channels")}
    made = network.makers.keys()
    for layer in network.layers:
        all_in = all(tensor.name in found for tensor in layer.inputs)
        same = any(t.name in found and t.shape == layer.output.shape for t in layer.inputs if t in made)
        if (same and (layer.operator == SUM or is_applied(layer))) or (all_in and is_gathered(layer)):
            found.add(layer.output.name)
    for layer in reversed(network.layers):
        if layer.output.name in found and (is_applied(layer) or is_gathered(layer)):
            found |= {tensor.name for tensor in layer.inputs if tensor in made}
    return frozenset(found)


def is_applied(layer: Layer) -> bool:
    """An activation and nothing else, perhaps one whose slopes are weights, one for each channel."""
    return layer.operator == Activate() or has_slopes(layer)


def has_slopes(layer: Layer) -> bool:
    """A PRelu of images with a slope for each channel."""
    same = layer.operator == Prelu() and [tensor.shape for tensor in layer.inputs] == [layer.output.shape]
    return same and len(layer.output.shape) == 4 and is_per_channel(layer, layer.weights[0])


def activation_of(layer: Layer) -> Spec | None:
    """The activation that a layer ends with, or is."""
    if has_slopes(layer):
        return PRELU
    return None if layer.activation is None else layer.activation.spec


def row_kind(network: Network, layer: Layer, target: Target, stencils: Collection[str]) -> Kind | None:
    """The row kernel that computes a layer; None where there is none."""
    if len(layer.output.shape) != 4:
        return None
    if layer.name in stencils:
        return "stencil"
    same = all(tensor.shape == layer.output.shape for tensor in layer.inputs)
    match layer.operator:
        case Conv() as conv:
            return convolution_kind(network, layer, conv, target)
        case ConvTranspose() as conv:
            return transposed_kind(conv)
        case Pool() | GlobalPool() as pool:
            return pool_kind(pool) if is_wide(layer) else None
        case Affine() if same and len(layer.weights) == 2:
            return (
                "depthwise"
                if is_wide(layer) and all(is_per_channel(layer, weight) for weight in layer.weights)
                else None
            )
        case LocalResponse(size=size):
            return "lrn" if size // 2 <= target.floats and is_wide(layer) else None
        case Arithmetic(how="add" | "mul" as how) if not layer.weights and is_wide(layer):
            return how if same or spread_operand(layer) else None
    return None


def spread_operand(layer: Layer) -> Tensor | None:
    """The operand of a sum or a product that has one value for each channel of an image; the other is the image."""
    if layer.operator not in (SUM, PRODUCT) or layer.weights:
        return None
    whole = [tensor for tensor in layer.inputs if tensor.shape == layer.output.shape]
    column = (*layer.output.shape[:2], 1, 1)
    found = [tensor for tensor in layer.inputs if tensor.shape == column and tensor not in whole]
    return found[0] if len(whole) == len(found) == 1 else None


def is_per_channel(layer: Layer, weight: Tensor) -> bool:
    """Whether a weight that is broadcast to images has one value for each channel, or one for all."""
    whole = (1,) * (4 - len(weight.shape)) + weight.concrete_shape
    return whole in ((1, layer.output.concrete_shape[1], 1, 1), (1, 1, 1, 1))


def convolution_kind(network: Network, layer: Layer, conv: Conv, target: Target) -> Kind | None:
    """Direct, depthwise, grouped, or of few planar channels."""
    x, groups = layer.inputs[0], conv.groups
    channels, made = x.concrete_shape[1], layer.output.concrete_shape[1]
    if conv.window.kernel[1] > WIDEST_WINDOW:
        return None
    if groups == 1:
        return "few_channels" if is_thin(network, x) else "direct"
    if groups == channels == made:
        return "depthwise"
    return "direct" if channels % (groups * target.floats) == made % (groups * target.floats) == 0 else "grouped"


def transposed_kind(conv: ConvTranspose) -> Kind | None:
    """Direct, for each phase of outputs that the same taps reach; None for groups, and where outputs have no tap."""
    window = conv.window
    every = window.dilation == (1, 1) and all(k >= s for k, s in zip(window.kernel, window.stride, strict=True))
    narrow = window.kernel[1] <= WIDEST_WINDOW * window.stride[1]
    return "direct" if every and narrow and conv.groups == 1 else None


def pool_kind(pool: Pool | GlobalPool) -> Kind | None:
    """The pool of an operator; None where the divisor of a mean counts rows that are not there."""
    match pool:
        case Pool(window=window) if window.kernel[1] > WIDEST_WINDOW:
            return None
        case Pool(window=Window(padding=padding), counts_padding=True) if padding[0] or padding[2]:
            return None
        case Pool(how="max"):
            return "max_pool"
    return "average_pool"


def window_or_point(layer: Layer) -> Window:
    """The window of a layer; 1x1 where it has none."""
    return window_of(layer.operator) or Window()


def is_stencil(layer: Layer) -> bool:
    """A convolution of one channel to one, with stride 1 and a window that needs no blocks of terms."""
    match layer.operator:
        case Conv(window=Window(stride=(1, 1), kernel=kernel, dilation=(down, across))):
            if layer.inputs[0].shape[1] != 1 or layer.output.shape[1] != 1:
                return False
            return down == across and kernel[1] <= WIDEST_WINDOW and prod(kernel) <= MOST
    return False
