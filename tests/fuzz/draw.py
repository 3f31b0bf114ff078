"""Random cases: networks of one to six small layers, and strategies for them.

A seeded `random.Random` enters, a `Case` whose network can be built leaves.
"""

import random
from dataclasses import replace
from typing import Any

from polyfuse.choices import PLACES
from polyfuse.errors import InvalidInput
from polyfuse.network.network import Network
from tests.fuzz.case import Case, GroupOf, LayerOf, group_networks, network_of

LARGEST = 14
MOST_CHANNELS = 9
WINOGRAD_CHANNELS = 5
"""Fewer are taken for those of a first layer."""
FORMS = ("instrumented", "staged", "in place", "rows", "blocked rows", "winograd rows")
MOST_TILES = 60
Shape = tuple[int, int, int, int]
ACTIVATIONS: tuple[Any, ...] = ("relu", "relu6", ("leaky_relu", 0.1), "tanh", ("clip", -0.5, 0.5))
KINDS = (
    *("conv",) * 5,
    *("add", "mul", "sub", "concat") * 2,
    *("max_pool", "average_pool", "activation", "global_average_pool"),
)


def draw(seed: int) -> Case:
    """The case of a seed."""
    rng = random.Random(seed)
    while True:
        form = rng.choices(FORMS, (5, 1, 1, 3, 2, 2))[0]
        case = with_groups(rng, draw_network(rng, form), form)
        if case is not None:
            return case


def draw_network(rng: random.Random, form: str = "rows") -> Case:
    """Inputs, layers and outputs; for Winograd's algorithm most layers are what it suits."""
    fewest = WINOGRAD_CHANNELS if form == "winograd rows" else 1
    batch = rng.choice((1, 1, 1, 2))
    count = rng.choices(range(1, 7), (6, 7, 4, 2, 1, 1))[0]
    shapes = [draw_input(rng, batch, fewest)]
    inputs = [shapes[0]]
    layers: list[LayerOf] = []
    while len(layers) < count:
        suitable = form == "winograd rows" and rng.random() < 0.7
        layer = draw_3x3(rng, len(shapes) - 1) if suitable else draw_layer(rng, shapes)
        alone = replace(layer, reads=tuple(range(len(layer.reads))))
        try:
            shape = network_of(Case(tuple(shapes[r] for r in layer.reads), (alone,), ())).outputs[0].concrete_shape
        except InvalidInput:
            continue
        if max(shape) <= LARGEST + 2:
            shapes.append(shape)  # type: ignore[arg-type]
            layers.append(layer)
    case = Case((*inputs,), (*layers,), ())
    if rng.random() < 0.3:
        case = with_second_input(rng, case, shapes)
    made = range(len(case.inputs), len(case.inputs) + len(case.layers))
    extra = tuple(k for k in made if rng.random() < 0.15)
    return replace(case, outputs=extra)


def draw_input(rng: random.Random, batch: int, fewest: int) -> Shape:
    """The shape of an input."""
    channels = rng.randint(fewest, max(fewest, rng.choice((3, MOST_CHANNELS))))
    return batch, channels, rng.randint(2, LARGEST), rng.randint(2, LARGEST)


def draw_3x3(rng: random.Random, at: int) -> LayerOf:
    """A convolution that Winograd's algorithm can compute."""
    padding = tuple(rng.choice((0, 1, 1, 2)) for _ in range(4))
    found: dict[str, Any] = {"kernel": 3, "padding": padding, "channels": rng.randint(WINOGRAD_CHANNELS, MOST_CHANNELS)}
    if rng.random() < 0.3:
        found["activation"] = rng.choice(ACTIVATIONS)
    return LayerOf("conv", (at,), found)


def with_second_input(rng: random.Random, case: Case, shapes: list[Shape]) -> Case:
    """The case with one more layer that combines a tensor with an input of its own."""
    at = rng.randrange(len(shapes))
    n, c, h, w = shapes[at]
    shape = rng.choice(((n, c, h, w), (1, c, h, w), (n, 1, h, w), (n, c, 1, 1), (n, c, 1, w), (n, c, h, 1)))
    moved = tuple(replace(x, reads=tuple(r + (r >= len(case.inputs)) for r in x.reads)) for x in case.layers)
    at += at >= len(case.inputs)
    layer = LayerOf(rng.choice(("add", "mul")), rng.choice(((at, len(case.inputs)), (len(case.inputs), at))))
    return replace(case, inputs=(*case.inputs, shape), layers=(*moved, layer))


def draw_layer(rng: random.Random, shapes: list[Shape]) -> LayerOf:
    """A layer that reads some of the tensors; the latest most often."""
    kind = rng.choice(KINDS)
    at = len(shapes) - 1 if rng.random() < 0.7 else rng.randrange(len(shapes))
    if kind in ("add", "mul", "sub"):
        other = rng.randrange(len(shapes))
        attributes = {"activation": rng.choice(ACTIVATIONS)} if rng.random() < 0.2 else {}
        return LayerOf(kind, rng.choice(((at, other), (other, at))), attributes)
    if kind == "concat":
        others = [k for k in range(len(shapes)) if k != at and shapes[k][2:] == shapes[at][2:]]
        return LayerOf(kind, (at, *rng.sample(others, min(len(others), rng.randint(0, 2)))))
    if kind == "activation":
        return LayerOf(kind, (at,), {"spec": rng.choice(ACTIVATIONS)})
    if kind == "global_average_pool":
        return LayerOf(kind, (at,))
    attributes = draw_window(rng)
    if kind == "conv":
        attributes |= draw_conv(rng, shapes[at][1])
    else:
        if rng.random() < 0.4:
            attributes["ceil"] = True
        if kind == "average_pool" and rng.random() < 0.4:
            attributes["count_include_pad"] = True
    return LayerOf(kind, (at,), attributes)


def draw_window(rng: random.Random) -> dict[str, Any]:
    """Kernel, stride, padding and dilation: often plain, sometimes anything."""
    if rng.random() < 0.4:
        kernel = rng.choice((1, 2, 3))
        return {"kernel": kernel, "padding": rng.choice((0, kernel // 2)), "stride": rng.choice((1, 1, 2))}
    found = {
        "kernel": (rng.randint(1, 4), rng.randint(1, 4)),
        "stride": (rng.choice((1, 1, 2, 3)), rng.choice((1, 1, 2, 3))),
        "padding": tuple(rng.choice((0, 0, 1, 2)) for _ in range(4)),
    }
    if rng.random() < 0.3:
        found["dilation"] = (rng.choice((1, 2, 3)), rng.choice((1, 2, 3)))
    return found


def draw_conv(rng: random.Random, channels: int) -> dict[str, Any]:
    """Channels, groups, activation and bias of a convolution."""
    groups = rng.choice((1, 1, channels))
    most = rng.choice((4, MOST_CHANNELS))
    found: dict[str, Any] = {"channels": groups * rng.randint(1, max(1, most // groups)), "groups": groups}
    if rng.random() < 0.3:
        found["activation"] = rng.choice(ACTIVATIONS)
    if rng.random() < 0.3:
        found["bias"] = False
    return found


def with_groups(rng: random.Random, case: Case, form: str) -> Case | None:
    """The case cut into one or two groups, each with a strategy; None where there are too many tiles."""
    layers = len(case.layers)
    first = rng.randint(1, layers - 1) if layers > 1 and rng.random() < 0.2 else layers
    counts = (first,) if first == layers else (first, layers - first)
    case = replace(case, groups=tuple(GroupOf(count) for count in counts))
    networks = group_networks(case, network_of(case))
    groups = []
    for count, network in zip(counts, networks, strict=True):
        group = draw_group(rng, count, network)
        if group is None:
            return None
        groups.append(group)
    return replace(case, groups=tuple(groups), form=form, threads=rng.choice((1, 1, 2)))


def draw_group(rng: random.Random, layers: int, network: Network) -> GroupOf | None:
    """A strategy for a group."""
    shape = network.outputs[-1].concrete_shape
    dims = rng.choices((0, 1, 2), (1, 6, 4))[0]
    tile = tuple(draw_size(rng, shape[2 + d]) for d in range(dims))
    tiles = shape[0]
    for d in range(dims):
        tiles *= -(-shape[2 + d] // tile[d])
    if tiles > MOST_TILES:
        return None
    favourites = [tuple(rng.choice(PLACES) for _ in tile) for _ in range(2)]
    names = [t.name for t in network.inputs] + [layer.output.name for layer in network.layers]
    retention = {name: tuple(rng.choice(PLACES) for _ in tile) for name in names if rng.random() < 0.3}
    order = rng.choice((None, tuple(rng.sample(range(dims), dims))))
    return GroupOf(
        layers,
        tile,
        favourites[0],  # type: ignore[arg-type]
        retention,  # type: ignore[arg-type]
        rng.choice(("first", "shifted")),  # type: ignore[arg-type]
        order,
        rng.choice(("once", "once", "tile")),
    )


def draw_size(rng: random.Random, extent: int) -> int:
    """A tile size: small ones and ragged ones are likely."""
    return min(extent, rng.choice((1, 2, 2, 3, 3, 4, 5, rng.randint(1, extent))))
