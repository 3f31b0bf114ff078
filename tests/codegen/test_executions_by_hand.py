"""Chains of four steps whose executions were drawn: their loops are little work for isl, and their code is right."""

import random
from collections.abc import Iterator
from itertools import islice

import pytest

import polyfuse as pf
from polyfuse.codegen.kernel import build_many
from polyfuse.codegen.program import generate
from polyfuse.sets.limits import operation_limit

QUICK = pf.Options(flags=("-std=c11", "-O0"))
MOST_OPERATIONS = 3_000_000
"""Of isl, for the instrumented form of one of these chains; one took twice as many before."""


def step(rng: random.Random, name: str, source: pf.Tensor) -> pf.Layer:
    (size,) = source.concrete_shape
    taps = rng.randint(1, 3)
    first = rng.randint(0, taps - 1)
    index = f"i + k - {first}"
    return pf.statement_layer(
        name,
        domain=f"{{ {name}[i, k] : 0 <= i < {size} and 0 <= k < {taps} }}",
        output=pf.Tensor(f"{name}_out", (size,)),
        reads={"x": (source, f"{{ {name}[i, k] -> {source.name}[{index}] : 0 <= {index} < {size} }}")},
        expression="acc + x / 3",
        init="0.0",
    )


def executions(rng: random.Random, name: str, tile: int, before: int, behind: int) -> str:
    """An interval around each tile, and up to three sets with holes, at some tiles, or of the tile before."""
    around = f"{tile}t - {before} <= i < {tile}t + {tile + behind}"
    wide = f"{tile}t - {2 * tile} <= i < {tile}t + {2 * tile}"
    more = [
        f"i mod {rng.randint(2, 4)} = 0 and {tile}t - {before + 2} <= i < {tile}t + {tile + behind + 2}",
        f"t >= 1 and {tile}t - {tile} <= i < {tile}t - {tile} + {rng.randint(1, 3)}",
        f"i < {rng.randint(1, 5)} and t >= {rng.randint(0, 2)}",
        f"t mod 2 = 0 and {wide}",
        f"(i + {rng.randint(0, 3)}t) mod {rng.choice([3, 5])} = {rng.randint(0, 2)} and {wide}",
    ]
    pieces = [around, *rng.sample(more, rng.randint(0, 3))]
    return f"{{ {name}[i] -> tile[t] : 0 <= t < TILES and ({' or '.join(f'({piece})' for piece in pieces)}) }}"


def drawn(rng: random.Random) -> pf.Schedule:
    """A chain in tiles with other executions of some of its steps, legal or not."""
    build = pf.Builder("chain")
    size = rng.choice([16, 24, 40])
    tensor = build.input("x", (size,))
    for k in range(4):
        tensor = build.add(step(rng, f"s{k}", tensor))
    net = build.network(tensor)
    tile = rng.randint(3, 8)
    place = rng.choice(["local", "global", "recompute"])
    found = pf.scheduled(net, pf.Strategy((tile,), (place,), placement=rng.choice(["first", "shifted"])))
    before = behind = 0
    mine = {}
    for layer in reversed(net.layers):
        before, behind = before + rng.randint(0, 2), behind + rng.randint(0, 2)
        if layer is net.layers[-1]:
            before = behind = 0
        else:
            mine[layer.name] = executions(rng, layer.name, tile, before, behind).replace("TILES", str(-(-size // tile)))
        before, behind = before + 2, behind + 2
    return pf.with_executions(found, mine)


def legal(seed: int) -> Iterator[pf.Storage]:
    rng = random.Random(seed)
    while True:
        group = pf.storage(drawn(rng))
        try:
            pf.check(group)
        except pf.IllegalSchedule:
            continue
        yield group


@pytest.mark.parametrize("seed", [0, 9, 32])
def test_drawn_executions_are_generated_and_run(seed: int) -> None:
    groups = list(islice(legal(seed), 4))
    programs = []
    for group in groups:
        with operation_limit(MOST_OPERATIONS, what=f"seed {seed}"):
            programs.append(generate(group.schedule.network, [group], instrumented=True))
    for group, kernel in zip(groups, build_many(programs, options=QUICK), strict=True):
        inputs = pf.random_inputs(group.schedule.network, seed)
        expected = pf.reference(group.schedule.network, inputs)["s3_out"]
        assert pf.max_relative_error(kernel(**inputs)["s3_out"], expected) < 1e-5, group.schedule
        counted = {c.name: n for c, n in kernel.counts.items() if c.kind == "executions"}
        assert counted == pf.counts(group).steps, group.schedule
