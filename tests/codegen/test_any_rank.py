"""Programs of tensors of any rank, of copies, products and reductions: right, and counted as predicted."""

from collections.abc import Callable, Sequence

import pytest

from polyfuse.codegen.build import Options
from polyfuse.codegen.kernel import build_many
from polyfuse.codegen.program import generate
from polyfuse.network.activated import with_activation
from polyfuse.network.layer import Layer
from polyfuse.network.layers import copies, matrices, normalisation, reductions
from polyfuse.network.layers.deconvolution import conv_transpose
from polyfuse.network.layers.resizing import resize
from polyfuse.network.network import Builder, Network
from polyfuse.network.reference import max_relative_error, random_inputs, run
from polyfuse.network.resampling import Resampling
from polyfuse.network.tensor import Tensor
from polyfuse.network.window import Window
from polyfuse.schedule.counts import counts
from polyfuse.schedule.groups import fused, layer_by_layer
from polyfuse.schedule.storage import Storage
from polyfuse.schedule.strategy import Strategy
from tests.schedule.touched import bytes_touched

QUICK = Options(flags=("-std=c11", "-O0"))
Make = Callable[[Builder, Tensor], Tensor]


def last(build: Builder, layers: Sequence[Layer]) -> Tensor:
    return [build.add(layer) for layer in layers][-1]


def weight(build: Builder, name: str, *shape: int) -> Tensor:
    return build.weight(name, shape, 1)


def products(build: Builder, x: Tensor) -> Tensor:
    y = build.add(with_activation(matrices.gemm("one", x, weight(build, "v", 4, 5), weight(build, "b", 4)), "relu"))
    return build.add(matrices.gemm("two", y, weight(build, "u", 3, 4)))


def by_itself(build: Builder, x: Tensor) -> Tensor:
    return build.add(matrices.matmul("square", x, build.add(copies.transpose("turned", x, (0, 2, 1)))))


def classifier(build: Builder, x: Tensor) -> Tensor:
    y = build.add(copies.reshape("flat", build.conv("conv", x, 4, kernel=3), (1, 144)))
    return last(build, reductions.softmax("s", build.add(matrices.gemm("fc", y, weight(build, "v", 5, 144))), (1,)))


def shuffled(build: Builder, x: Tensor) -> Tensor:
    y = build.add(copies.reshape("apart", build.conv("conv1", x, 6, kernel=3, padding=1), (1, 2, 3, 8, 8)))
    y = build.add(copies.reshape("together", build.add(copies.transpose("turned", y, (0, 2, 1, 3, 4))), (1, 6, 8, 8)))
    return build.conv("conv2", y, 4, kernel=3, padding=1)


def normalised(build: Builder, x: Tensor) -> Tensor:
    scale, shift = weight(build, "scale", 1, 3, 1, 1), weight(build, "shift", 1, 3, 1, 1)
    *moments, norm = normalisation.instance_norm("norm", x, scale, shift)
    return last(build, (*moments, with_activation(norm, "relu")))


def excited(build: Builder, x: Tensor) -> Tensor:
    mean = build.add(reductions.reduce("mean", "mean", x, (2, 3)))
    return build.arithmetic("scaled", "mul", x, build.conv("gate", mean, 6, kernel=1, activation="sigmoid"))


def split_and_joined(build: Builder, x: Tensor) -> Tensor:
    first, second = (build.add(copies.split(f"part{k}", x, 1, 3 * k, 3)) for k in range(2))
    return build.concat("joined", build.activation("act", second, "relu"), first)


def between(layer: Callable[[Tensor], Layer], channels: int = 4) -> Make:
    """A convolution, a layer, and a convolution of 3x3."""

    def make(build: Builder, x: Tensor) -> Tensor:
        return build.conv("after", build.add(layer(build.conv("before", x, channels, kernel=1))), 3, kernel=3)

    return make


def resized(how: Resampling, *sizes: int) -> Make:
    """A convolution, a resized image, and a convolution of 3x3."""

    def make(build: Builder, x: Tensor) -> Tensor:
        layer, weights = resize("r", build.conv("before", x, 4, kernel=1), (*x.concrete_shape[:1], 4, *sizes), how=how)
        return build.conv("after", build.add(layer, weights), 3, kernel=3)

    return make


def spread(build: Builder, x: Tensor) -> Tensor:
    y = build.conv("before", x, 4, kernel=1)
    w, b = weight(build, "spread_weight", 4, 3, 3, 4), weight(build, "spread_bias", 6)
    window = Window((3, 4), stride=(2, 3), padding=(1, 0, 2, 1))
    y = build.add(with_activation(conv_transpose("spread", y, w, b, window, 2, (1, 0)), "relu"))
    return build.conv("after", y, 3, kernel=3)


NETWORKS: dict[str, tuple[tuple[int, ...], Make]] = {
    "products": ((2, 5), products),
    "by itself": ((2, 3, 4), by_itself),
    "classifier": ((1, 2, 8, 8), classifier),
    "log softmax": ((3, 7), lambda b, x: last(b, reductions.log_softmax("s", x, (1,)))),
    "softmax of all": ((2, 3, 4, 5), lambda b, x: last(b, reductions.softmax("s", x, (1, 2, 3)))),
    "log sum exp": ((3, 7), lambda b, x: last(b, reductions.log_sum_exp("s", x, (1,), False))),
    "local response": ((2, 2, 5, 6), between(lambda x: normalisation.lrn("lrn", x, 3), 6)),
    "instance norm": ((2, 3, 4, 5), normalised),
    "shuffled": ((1, 6, 8, 8), shuffled),
    "excited": ((1, 6, 5, 5), excited),
    "split": ((2, 6, 8, 7), split_and_joined),
    "slice": ((1, 2, 9, 7), between(lambda x: copies.slice_of("s", x, (0, 1, 8, 0), (1, 3, 4, 7), (1, 1, -2, 1)))),
    "pad": ((1, 2, 5, 6), between(lambda x: copies.pad("p", x, (0, 0, 1, 2), (0, 1, 2, 1), value=0.5))),
    "reflect": ((1, 2, 5, 6), between(lambda x: copies.pad("p", x, (0, 0, 1, 2), (0, 0, 0, 1), "reflect"))),
    "space to depth": ((1, 2, 8, 8), between(lambda x: copies.space_to_depth("s", x, 2), 2)),
    "nearest": ((1, 2, 5, 4), resized(Resampling("nearest"), 10, 8)),
    "nearest of fewer": ((1, 2, 9, 7), resized(Resampling("nearest", "align_corners"), 6, 5)),
    "linear": ((1, 2, 5, 4), resized(Resampling("linear"), 10, 8)),
    "cubic": ((1, 2, 6, 5), resized(Resampling("cubic", "align_corners"), 9, 7)),
    "transposed convolution": ((1, 2, 4, 5), spread),
    "expand": ((2, 3, 1, 1), lambda b, x: b.add(copies.expand("e", x, (2, 3, 4, 5)))),
    "axes left out": ((2, 3, 4, 5), lambda b, x: b.add(reductions.reduce("r", "l2", x, (1, 3), keepdims=False))),
    "five axes": ((2, 2, 3, 2, 4), lambda b, x: b.add(reductions.reduce("r", "max", x, (1, 3)))),
    "vector": ((5,), lambda b, x: last(b, reductions.softmax("s", b.activation("act", x, "relu"), (0,)))),
    "concat of rows": ((2, 3), lambda b, x: b.concat("joined", x, b.activation("act", x, "relu"), x, axis=0)),
    "loops": ((1, 2, 4, 4), lambda b, x: b.arithmetic("i0", "add", x, b.input("c", (1, 2, 4, 4)))),
}
"""Shapes of inputs, and what is made of them; the last one has an input that is called like a loop."""


def network(name: str) -> Network:
    shape, make = NETWORKS[name]
    build = Builder("net")
    return build.network(make(build, build.input("x", shape)))


def every_group(net: Network) -> list[tuple[Storage, ...]]:
    shape = net.outputs[-1].concrete_shape
    rows = shape[2] if len(shape) == 4 else shape[0]
    chosen = [Strategy(), Strategy.named("recompute", (1,)), Strategy.named("local", (min(2, rows),), "shifted")]
    if len(shape) == 4:
        tile = min(3, shape[2]), min(3, shape[3])
        chosen.append(Strategy(tile, ("local", "recompute"), placement="shifted"))
    return [layer_by_layer(net), *(fused(net, strategy) for strategy in chosen)]


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_scalar_and_row_leaves_agree_with_the_reference(name: str) -> None:
    net = network(name)
    groups = every_group(net)
    scalar = [generate(net, each, kernels="scalar", staged=k % 2 == 0) for k, each in enumerate(groups)]
    rows = [generate(net, each) for each in groups[:2]]
    inputs = random_inputs(net, 5)
    expected = run(net, inputs)
    for kernel in [*build_many(scalar, options=QUICK), *build_many(rows)]:
        kernel.set_inputs(inputs)
        kernel.poison()
        kernel.run()
        for tensor in net.outputs:
            assert max_relative_error(kernel.outputs[tensor.name], expected[tensor.name]) <= 1e-5, kernel.built.source


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_counters_equal_predictions(name: str) -> None:
    net = network(name)
    groups = every_group(net)
    inputs = random_inputs(net, 5)
    programs = [generate(net, each, instrumented=True) for each in groups]
    for kernel, storages in zip(build_many(programs, options=QUICK), groups, strict=True):
        kernel.set_inputs(inputs)
        kernel.run()
        expected: dict[tuple[int, str, str], int] = {}
        for k, (storage, group) in enumerate(zip(storages, kernel.program.groups, strict=True)):
            predicted = counts(storage)
            expected |= {(k, "executions", name): n for name, n in predicted.steps.items()}
            for step in (*group.steps, *group.preload):
                for kind, array, amount in bytes_touched(step, predicted.steps[step.name]):
                    expected[k, kind, array] = expected.get((k, kind, array), 0) + amount
        assert {(c.group, c.kind, c.name): n for c, n in kernel.counts.items()} == expected
