"""The algorithm of each 3x3 layer by what the machine's fitted costs say of it.

    Network + Target + Price ──algorithms_of()──> {layer: tile of Winograd's algorithm, 0 for the direct one}

The tile that kernel selection takes follows constants of one microarchitecture; where the machine was measured, its own
costs decide. Only layers that this changes are in the result: for others kernel selection goes on, in every group anew.
"""

from dataclasses import replace

from polyfuse.codegen.lower.selection import Interface, Selection, select_kernels
from polyfuse.codegen.rows.interpolation import TILES
from polyfuse.codegen.rows.winograd import is_suitable
from polyfuse.codegen.target import Target
from polyfuse.deploy.prices import Price
from polyfuse.errors import PolyfuseError
from polyfuse.network.layer import Layer
from polyfuse.network.network import Network
from polyfuse.schedule.groups import layer_by_layer

GAIN = 0.95
"""A larger tile, which loses more digits, must cost at most this share of a smaller one, and of what is chosen now."""


def algorithms_of(network: Network, target: Target, interface: Interface, price: Price) -> dict[str, int]:
    """The tile of each layer that should have another one than kernel selection takes.

    Errors: those of a layer that cannot be scheduled even by itself.
    """
    usual = select_kernels(network, target, interface)
    found: dict[str, int] = {}
    known: dict[tuple[object, ...], int] = {}
    for layer in network.layers:
        if not is_suitable(layer, usual.kind(layer)):
            continue
        now = usual.tiles.get(layer.name, 0)
        key = (layer.operator, layer.inputs[0].shape, layer.output.shape, len(layer.inputs), now)
        if key not in known:
            known[key] = cheapest_tile(network, layer, usual, target, price)
        if known[key] != now:
            found[layer.name] = known[key]
    return found


def cheapest_tile(network: Network, layer: Layer, usual: Selection, target: Target, price: Price) -> int:
    """The tile that a layer by itself is cheapest with, unless the usual one is nearly as cheap."""
    alone, now = network.select([layer.name]), usual.tiles.get(layer.name, 0)

    def price_with(tile: int) -> float:
        chosen = select_kernels(alone, target, "blocked", exact=True, winograd={layer.name: tile})
        return price(layer_by_layer(alone, chosen.tallest), replace(chosen, interface=usual.interface))

    prices = {now: price_with(now)}
    for tile in (0, *TILES):
        try:
            prices.setdefault(tile, price_with(tile))
        except PolyfuseError:
            continue
    best = 0
    for tile in sorted(prices):
        best = tile if prices[tile] <= GAIN * prices[best] else best
    return best if prices[best] <= GAIN * prices[now] else now
