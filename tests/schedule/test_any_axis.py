"""Tiles along any axis, and tiles inside of tiles: legal, right by an interpreter and in C, counted as predicted.

`python -m tests.schedule.test_any_axis 1000 --seed 1` draws more of them than the suite does.
"""

import argparse
import random
from collections.abc import Sequence

import pytest

import polyfuse as pf
from polyfuse.choices import AXES, PLACES, Axis
from polyfuse.codegen.kernel import build_many
from polyfuse.codegen.program import generate
from polyfuse.errors import InvalidInput
from polyfuse.network.custom import statement_layer
from polyfuse.network.network import Builder, Network
from polyfuse.network.reference import max_relative_error, random_inputs, run
from polyfuse.network.tensor import Tensor
from polyfuse.schedule.counts import counts, halos
from polyfuse.schedule.groups import fused
from polyfuse.schedule.interpreter import interpret
from polyfuse.schedule.schedule import scheduled
from polyfuse.schedule.storage import Storage
from polyfuse.schedule.strategy import Strategy
from tests.codegen.test_any_rank import NETWORKS, QUICK, network
from tests.schedule.touched import bytes_touched


def drawn_axes(rng: random.Random, shape: Sequence[int]) -> tuple[tuple[int, ...], tuple[Axis, ...]]:
    """Sizes and axes of a random tile; one in three has tiles inside of tiles."""
    cut = rng.sample(range(len(shape)), rng.randint(1, min(3, len(shape))))
    sizes = [rng.randint(1, shape[axis]) for axis in cut]
    if rng.random() < 0.34:
        nested = [k for k, size in enumerate(sizes) if size > 1]
        sizes += [rng.randint(1, sizes[k] - 1) for k in nested]
        cut += [cut[k] for k in nested]
    named = len(shape) == 4 and rng.random() < 0.5
    return tuple(sizes), tuple(AXES[axis] if named else axis for axis in cut)


def drawn(rng: random.Random, net: Network) -> Strategy:
    """A random strategy for tiles along random axes."""
    sizes, axes = drawn_axes(rng, net.outputs[-1].concrete_shape)
    names = [tensor.name for tensor in (*net.inputs, *(layer.output for layer in net.layers))]
    retention = {name: places(rng, len(sizes)) for name in rng.sample(names, rng.randint(0, 1))}
    order = None if len({*axes}) < len(axes) or rng.random() < 0.5 else tuple(rng.sample(range(len(sizes)), len(sizes)))
    return Strategy(
        sizes,
        places(rng, len(sizes)),
        retention,
        rng.choice(("first", "shifted")),
        order if len({*axes}) == len(axes) else tuple(range(len(sizes))),
        rng.choice(("once", "tile")),
        axes,
    )


def places(rng: random.Random, rank: int) -> tuple[str, ...]:
    """One place for each size; at most one memory besides the buffer."""
    return tuple(rng.choice(PLACES) for _ in range(rank))


def judge(net: Network, strategies: Sequence[Strategy]) -> None:
    """Groups in tiles agree with the reference."""
    agrees(net, [tuple(fused(net, strategy)) for strategy in strategies])


def agrees(net: Network, groups: Sequence[tuple[Storage, ...]], interpreted: bool = True) -> None:
    """The interpreter, C whose accesses are counted, and C with row kernels agree with the reference."""
    inputs = random_inputs(net, 5)
    expected = run(net, inputs)
    for (group,) in groups if interpreted else ():
        ran = interpret(group, inputs)
        for tensor in net.outputs:
            assert max_relative_error(ran.outputs[tensor.name], expected[tensor.name]) <= 1e-9, group.schedule.strategy
        assert ran.executions == counts(group).steps, group.schedule.strategy
    counting = [generate(net, each, instrumented=True) for each in groups]
    rows = [generate(net, each) for each in groups]
    for kernel in build_many([*counting, *rows], options=QUICK):
        kernel.set_inputs(inputs)
        kernel.poison()
        kernel.run()
        for tensor in net.outputs:
            assert max_relative_error(kernel.outputs[tensor.name], expected[tensor.name]) <= 1e-5, kernel.built.source
        if not kernel.counts:
            continue
        (group,) = kernel.program.groups
        predicted = counts(group.storage)
        wanted = {("executions", name): n for name, n in predicted.steps.items()}
        for step in (*group.steps, *group.preload):
            for kind, array, amount in bytes_touched(step, predicted.steps[step.name]):
                wanted[kind, array] = wanted.get((kind, array), 0) + amount
        assert {(c.kind, c.name): n for c, n in kernel.counts.items()} == wanted, group.storage.schedule.strategy


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_drawn_axes(name: str) -> None:
    rng = random.Random(name)
    net = network(name)
    judge(net, [drawn(rng, net)])


def pair(batch: int = 2) -> Network:
    build = pf.Builder("pair")
    x = build.input("x", (batch, 3, 9, 8))
    return build.network(build.conv("c2", build.conv("c1", x, 4, kernel=3), 6, kernel=3))


def test_output_channels_need_all_channels_of_what_they_read() -> None:
    net = pair()
    assert halos(net, (2,), ("c",)) == {"x": (3,), "c1_out": (4,), "c2_out": (0,)}
    found = counts(fused(net, Strategy.named("recompute", (2,), axes=("c",)))[0])
    first, second = 2 * 4 * 7 * 6, 2 * 6 * 5 * 4
    assert (found.executions, found.recomputed) == (3 * first + second, 2 * first)


def test_weights_of_a_tile_are_those_of_its_channels() -> None:
    net = pair(1)
    group = fused(net, Strategy((2,), ("local",), weights="tile", axes=("c",)))[0]
    moves = {name: n for name, n in counts(group).steps.items() if name.startswith("load_c2")}
    assert moves == {"load_c2_weight": 6 * 4 * 9, "load_c2_bias": 6}


def test_tiles_inside_of_tiles_are_those_of_both() -> None:
    net = pair(1)
    group = fused(net, Strategy((3, 2), ("recompute", "local"), axes=("h", "h"), order=(0, 1)))[0]
    alone = fused(net, Strategy((3,), ("recompute",)))[0]
    assert counts(group).executions == counts(alone).executions
    assert group.buffers["c1_out"].bytes < alone.buffers["c1_out"].bytes
    assert [dim.name for dim in group.schedule.tiling.dims] == ["tn", "ty", "tyi"]
    assert halos(net, (3, 2), ("h", "h"))["c1_out"] == (2, 2)


@pytest.mark.parametrize(
    ("tile", "axes", "message"),
    [
        ((2,), ("q",), "axis 'q' of tiles: expected one of 0, 1, 2, 3, n, c, h, w"),
        ((2,), (4,), "axis 4 of tiles"),
        ((2, 2), ("c",), "expected a size for each of the axes c"),
        ((2, 2, 2), (), "expected at most 2 sizes, rows or rows x columns"),
        ((0,), ("c",), "tile c=0: expected whole sizes of at least 1"),
        ((7,), ("c",), "tile c=7: larger than the output"),
        ((2, 3), ("h", 2), "tile h=2,2=3: expected smaller tiles inside of larger ones"),
        ((2, 3), ("h", "h"), "expected smaller tiles inside of larger ones where an axis comes twice, got 3 inside"),
    ],
)
def test_axes_that_there_are_not(tile: tuple[int, ...], axes: tuple[Axis, ...], message: str) -> None:
    with pytest.raises(InvalidInput) as error:
        scheduled(pair(), Strategy(tile, axes=axes))
    assert message in str(error.value)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("count", type=int)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    rng = random.Random(chosen.seed)
    for k in range(chosen.count):
        name = rng.choice(sorted(NETWORKS))
        net = network(name)
        strategy = drawn(rng, net)
        try:
            judge(net, [strategy])
        except Exception as error:
            print(f"{k}: {name}, {strategy}: {type(error).__name__}: {str(error)[:300]}", flush=True)
    print(f"{chosen.count} drawn")


if __name__ == "__main__":
    main()


def heads(count: int) -> Network:
    """Two products of matrices for each of some heads, which have nothing to do with one another."""
    build = Builder("heads")
    q, k, v = (build.input(name, (1, count, 8, 8)) for name in "qkv")
    domain = f"{{ S[b, h, i, j, r] : b = 0 and 0 <= h < {count} and 0 <= i, j, r < 8 }}"
    tensor = q
    for name, other, read in (("s", k, "b, h, j, r"), ("o", v, "b, h, r, j")):
        reads = {
            "p": (tensor, f"{{ S[b, h, i, j, r] -> {tensor.name}[b, h, i, r] }}"),
            "t": (other, f"{{ S[b, h, i, j, r] -> {other.name}[{read}] }}"),
        }
        output = Tensor(f"{name}_out", (1, count, 8, 8))
        made = {"domain": domain, "output": output, "reads": reads, "expression": "acc + p * t", "init": "0.0"}
        tensor = build.add(statement_layer(name, **made))  # type: ignore[arg-type]
    return build.network(tensor)


@pytest.mark.parametrize("place", PLACES)
def test_one_head_is_on_chip_at_a_time_where_tiles_cut_heads(place: str) -> None:
    one, four = (
        counts(fused(heads(count), Strategy.named(place, (1, 4), axes=(1, 2)))[0])  # type: ignore[arg-type]
        for count in (1, 4)
    )
    assert one.onchip_bytes == four.onchip_bytes and one.recomputed == four.recomputed == 0
    assert 4 * one.offchip_read_bytes == four.offchip_read_bytes
    by_rows = counts(fused(heads(4), Strategy.named(place, (4,)))[0])  # type: ignore[arg-type]
    assert by_rows.onchip_bytes == 4 * one.onchip_bytes
