"""Layers that are no convolutions and pools, computed by row kernels in programs: right, and counted exactly."""

import pytest

from polyfuse.codegen.lower.selection import select_kernels
from polyfuse.codegen.lower.work import work_of
from polyfuse.codegen.program import Program, generate
from polyfuse.codegen.rows.channels import channel_sources
from polyfuse.network.activated import with_activation
from polyfuse.network.custom import statement_layer
from polyfuse.network.layer import Layer
from polyfuse.network.layers import pointwise
from polyfuse.network.layers.copies import slice_of, transpose
from polyfuse.network.layers.normalisation import lrn
from polyfuse.network.network import Builder, Network
from polyfuse.network.tensor import Tensor
from polyfuse.schedule.counts import counts
from polyfuse.schedule.groups import fused, layer_by_layer
from polyfuse.schedule.strategy import Strategy
from tests.codegen.test_row_programs import NARROW, check


def kinds_of(program: Program) -> list[str]:
    """The kind of every row kernel that computes a layer, in order."""
    return [step.shape.kind.name for group in program.groups for step in group.rows if step.makes]


def check_everywhere(network: Network, kinds: set[str]) -> None:
    """Layer by layer, fused in bands of rows and in tiles; row kernels of these kinds compute every layer."""
    tiles = [Strategy((3,)), Strategy.named("local", (2,), "shifted"), Strategy((3, 4), ("local", "recompute"))]
    every = []
    for k, groups in enumerate([layer_by_layer(network), *(fused(network, strategy) for strategy in tiles)]):
        kernels = select_kernels(network, NARROW, ("nchw", "blocked")[k % 2], exact=True)
        every.append(generate(network, groups, kernels=kernels, instrumented=True))
    for program in every:
        made = {tensor.name for group in program.groups for step in group.rows for tensor in step.makes}
        assert made == {layer.output.name for layer in network.layers} and kinds <= set(kinds_of(program))
    check(network, every)


def affine(build: Builder, name: str, x: Tensor, shapes: tuple[tuple[int, ...], ...], activation: str | None) -> Tensor:
    scale, shift = (build.weight(f"{name}_{k}", shape, 1) for k, shape in enumerate(shapes))
    return build.add(with_activation(pointwise.affine(name, x, scale, shift), activation))


@pytest.mark.parametrize("shapes", [((1, 10, 1, 1), (1, 10, 1, 1)), ((10, 1, 1), (1, 1, 1, 1)), ((1,), (10, 1, 1))])
def test_scales_and_shifts_of_channels_are_depthwise_kernels(shapes: tuple[tuple[int, ...], ...]) -> None:
    build = Builder("scaled")
    x = build.input("x", (2, 10, 9, 11))
    first = affine(build, "first", x, shapes, "relu")
    conv = build.conv("conv", first, 10, kernel=3, padding=1)
    check_everywhere(build.network(affine(build, "last", conv, shapes, None)), {"depthwise", "direct"})


@pytest.mark.parametrize("shape", [(1, 10, 9, 1), (1, 10, 1, 11), (11,)])
def test_scales_that_are_not_of_channels_keep_scalar_leaves(shape: tuple[int, ...]) -> None:
    build = Builder("scaled")
    x = build.input("x", (1, 10, 9, 11))
    conv = build.conv("conv", x, 10, kernel=3, padding=1)
    network = build.network(affine(build, "last", conv, (shape, shape), None))
    assert select_kernels(network, NARROW).kinds.keys() == {"conv"}
    check(
        network,
        [generate(network, layer_by_layer(network), kernels=select_kernels(network, NARROW), instrumented=True)],
    )


def test_activations_by_themselves_are_row_kernels_where_others_want_blocks() -> None:
    build = Builder("applied")
    x = build.input("x", (1, 10, 9, 11))
    conv = build.conv("conv", x, 10, kernel=3, padding=1)
    soft = build.activation("soft", conv, ("leaky_relu", 0.25))
    both = build.arithmetic("both", "add", soft, conv)
    check_everywhere(build.network(both, soft), {"apply", "add", "direct"})


def test_activations_of_planar_rows_keep_scalar_leaves() -> None:
    build = Builder("planar")
    x = build.input("x", (1, 10, 9, 11))
    network = build.network(build.activation("soft", x, "relu"))
    assert not select_kernels(network, NARROW).kinds


@pytest.mark.parametrize("kind", ["mul", "add"])
@pytest.mark.parametrize("first", [True, False])
def test_a_column_is_spread_over_all_columns_of_an_image(kind: str, first: bool) -> None:
    build = Builder("excited")
    x, gate = build.input("x", (2, 10, 9, 11)), build.input("gate", (2, 6, 1, 1))
    deep = build.depthwise("deep", x, kernel=3, padding=1)
    soft = build.conv("soft", gate, 10, kernel=1, activation="sigmoid")
    scaled = build.arithmetic("scaled", kind, *((soft, deep) if first else (deep, soft)), activation="relu")
    network = build.network(build.conv("thin", scaled, 6, kernel=1))
    check_everywhere(network, {"depthwise", kind, "direct"})


def test_a_block_that_squeezes_and_excites() -> None:
    build = Builder("squeezed")
    x = build.input("x", (1, 10, 5, 38))
    deep = build.depthwise("deep", x, kernel=3, padding=1, activation="silu")
    few = build.conv("few", build.global_average_pool("squeezed", deep), 4, kernel=1, activation="silu")
    gate = build.conv("gate", few, 10, kernel=1, activation="sigmoid")
    network = build.network(build.conv("thin", build.arithmetic("scaled", "mul", gate, deep), 6, kernel=1))
    check_everywhere(network, {"depthwise", "average_pool", "mul", "direct"})


@pytest.mark.parametrize(("size", "beta"), [(5, 0.75), (4, 0.6)])
def test_local_response_normalisation_crosses_blocks_of_channels(size: int, beta: float) -> None:
    build = Builder("normalised")
    x = build.input("x", (2, 6, 9, 11))
    conv = build.conv("conv", x, 14, kernel=3, padding=1)
    normal = build.add(lrn("normal", conv, size, alpha=0.5, beta=beta, bias=1.5))
    last = build.add(lrn("last", build.max_pool("pool", normal, kernel=3, stride=2, padding=1), size, beta=beta))
    check_everywhere(build.network(build.activation("soft", last, "relu")), {"direct", "lrn", "max_pool"})


@pytest.mark.parametrize("shape", [(12, 1, 1), (1,)])
def test_slopes_of_channels_are_finished_by_the_kernel_before_them(shape: tuple[int, ...]) -> None:
    build = Builder("sloped")
    x = build.input("x", (2, 3, 9, 11))
    for k, (channels, kernel) in enumerate(((12, 5), (12, 1), (12, 3))):
        conv = build.conv(f"conv{k}", x, channels, kernel=kernel, padding=kernel // 2, bias=k != 1)
        x = build.add(pointwise.prelu(f"prelu{k}", conv, build.weight(f"slope{k}", shape, 4)))
    network = build.network(x)
    check_everywhere(network, {"few_channels", "direct"})
    kernels = select_kernels(network, NARROW, winograd={"conv2": 2})
    program = generate(network, fused(network, Strategy((4,))), kernels=kernels, instrumented=True)
    assert "apply" not in kinds_of(program) and "winograd" in kinds_of(program)
    check(network, [program])


def test_slopes_by_themselves_are_row_kernels() -> None:
    build = Builder("sloped")
    x = build.input("x", (1, 10, 9, 11))
    conv = build.conv("conv", x, 10, kernel=3, padding=1)
    both = build.arithmetic("both", "add", build.prelu("soft", conv), conv)
    check_everywhere(build.network(build.prelu("last", build.max_pool("pool", both, kernel=2))), {"apply", "direct"})


TRANSPOSED = {
    "doubled": {"kernel": 2, "stride": 2},
    "wide": {"kernel": 9, "stride": 2, "padding": 4, "output_padding": 1},
    "uneven": {"kernel": (4, 3), "stride": (3, 2), "padding": (1, 0, 2, 1)},
    "plain": {"kernel": 3, "padding": 1},
    "far": {"kernel": (5, 4), "stride": (1, 3), "padding": (0, 3, 0, 3), "output_padding": (0, 1)},
}


@pytest.mark.parametrize("name", TRANSPOSED)
def test_transposed_convolutions_are_direct_ones_for_each_phase(name: str) -> None:
    build = Builder("transposed")
    x = build.input("x", (2, 7, 5, 6))
    wider = build.conv_transpose("wider", x, 6, **TRANSPOSED[name])
    soft = build.activation("soft", wider, "relu")
    network = build.network(
        build.conv("last", soft, 5, kernel=3, padding=1), build.conv_transpose("one", soft, 1, **TRANSPOSED[name])
    )
    check_everywhere(network, {"direct"})
    kernels = select_kernels(network, NARROW, exact=True)
    groups = layer_by_layer(network)
    assert work_of(groups, kernels).macs == sum(counts(storage).macs for storage in groups)


def test_what_follows_a_transposed_convolution_is_finished_by_its_kernels() -> None:
    build = Builder("decoder")
    x, skip = build.input("x", (1, 8, 5, 6)), build.input("skip", (1, 6, 10, 12))
    wider = build.conv_transpose("wider", x, 6, kernel=2, stride=2)
    both = build.prelu("soft", build.arithmetic("both", "add", wider, skip))
    again = build.conv_transpose("again", both, 5, kernel=4, stride=2, padding=1)
    network = build.network(build.activation("smooth", again, "softplus"))
    kernels = select_kernels(network, NARROW, "blocked", exact=True)
    every = []
    for groups in (layer_by_layer(network), *(fused(network, Strategy(tile)) for tile in ((3,), (3, 5)))):
        every.append(generate(network, groups, kernels=kernels, instrumented=True))
    assert {kind for program in every[1:] for kind in kinds_of(program)} == {"direct"}
    check(network, every)


@pytest.mark.parametrize(("channels", "groups"), [((12, 28), 4), ((10, 10), 5), ((6, 9), 3)])
def test_groups_that_do_not_fill_blocks_are_parts_of_them(channels: tuple[int, int], groups: int) -> None:
    build = Builder("grouped")
    x = build.input("x", (2, channels[0], 7, 9))
    first = build.conv("first", x, channels[1], kernel=3, padding=1, groups=groups, activation="relu6")
    both = build.arithmetic("both", "add", first, build.conv("second", x, channels[1], kernel=1, groups=groups))
    network = build.network(build.activation("soft", both, "relu"))
    check_everywhere(network, {"grouped"})
    kernels = select_kernels(network, NARROW, exact=True)
    groups_of_layers = layer_by_layer(network)
    assert work_of(groups_of_layers, kernels).macs == sum(counts(storage).macs for storage in groups_of_layers)


def test_moved_channels_are_row_kernels_where_others_want_blocks() -> None:
    build = Builder("shuffled")
    x = build.input("x", (2, 6, 7, 9))
    first = build.conv("first", x, 12, kernel=1, groups=2)
    mixed = build.add(shuffle("mixed", first, 3))
    deep = build.depthwise("deep", mixed, kernel=3, padding=1)
    joined = build.concat("joined", build.conv("second", deep, 6, kernel=1, groups=3), first)
    soft = build.activation("soft", joined, "relu")
    network = build.network(build.conv("last", soft, 5, kernel=1))
    check_everywhere(network, {"grouped", "gather", "depthwise", "direct"})


def shuffle(name: str, x: Tensor, groups: int) -> Layer:
    """Channels of groups by turns."""
    batch, channels, rows, columns = x.concrete_shape
    domain = f"0 <= n < {batch} and 0 <= c < {channels} and 0 <= h < {rows} and 0 <= w < {columns}"
    channel = f"{channels // groups} * (c mod {groups}) + floor(c / {groups})"
    return statement_layer(
        name,
        domain=f"{{ {name}[n, c, h, w] : {domain} }}",
        output=Tensor(f"{name}_out", x.shape),
        reads={"x": (x, f"{{ {name}[n, c, h, w] -> {x.name}[n, {channel}, h, w] }}")},
        expression="x",
        reference=lambda image: image.reshape(batch, groups, -1, rows, columns).swapaxes(1, 2).reshape(image.shape),
    )


@pytest.mark.parametrize("kind", ["rows", "values", "two"])
def test_copies_that_do_more_than_move_channels_are_not_gathered(kind: str) -> None:
    build = Builder("copied")
    x = build.input("x", (2, 6, 8, 8))
    layer = {
        "rows": lambda: slice_of("copied", x, (0, 0, 7, 0), (2, 6, 8, 8), (1, 1, -1, 1)),
        "values": lambda: pointwise.activation("copied", x, "relu"),
        "two": lambda: transpose("copied", x, (0, 1, 3, 2)),
    }[kind]()
    assert channel_sources(layer) is None
    assert channel_sources(slice_of("picked", x, (0, 5, 0, 0), (2, 3, 8, 8), (1, -2, 1, 1))) == ((0, 5), (0, 3), (0, 1))
