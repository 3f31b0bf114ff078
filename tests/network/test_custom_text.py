"""Sets and relations as people write them: names of dimensions and pieces that hold nothing are decoration."""

import random
from dataclasses import dataclass
from itertools import pairwise, product

import islpy as isl
import numpy as np
import pytest

import polyfuse as pf
from polyfuse.schedule.executions import with_executions, with_tile_order
from polyfuse.schedule.interpreter import interpret
from polyfuse.schedule.tiling import footprints
from polyfuse.sets.reading import MapLike, SetLike
from polyfuse.sets.spaces import OUT, unnamed

NOTHING = (
    "1 = 0",
    "false",
    "{0} > 5 and {0} < 5",
    "exists e: 2e = 1",
    "4 < {0} < 6 and 2{0} = 11",
    "3{0} >= 4 and 3{0} <= 5",
    "exists e: {0} = 2e and {0} = 2e + 1",
)


@dataclass(frozen=True)
class Case:
    """A layer of one or two reads as text, and what each read takes of x for an instance (i, k)."""

    size: int
    reduction: bool
    domain: str
    reads: tuple[str, ...]
    offsets: tuple[tuple[int, int], ...]


def void(rng: random.Random, head: str, dim: str) -> str:
    return f"{head} : {rng.choice(NOTHING).format(dim)}"


def shuffled(rng: random.Random, pieces: list[str]) -> str:
    rng.shuffle(pieces)
    return "{ " + "; ".join(pieces) + " }"


def a_read(rng: random.Random, reduction: bool, offset: int, factor: int) -> str:
    """`x[i + offset + factor k]` in one piece or two, each with its own names, and perhaps one that holds nothing."""
    pieces = []
    for where in rng.choice([("true",), ("{0} < 4", "{0} >= 4"), ("{0} mod 2 = 0", "{0} mod 2 = 1")]):
        names = rng.choice([("i", "k"), ("a", "b"), ("k", "i"), ("m", "x")])[: 1 + reduction]
        index = " + ".join([names[0], str(offset), *([f"{factor}{names[1]}"] if reduction else [])])
        named = rng.choice([None, "j", "t", "z"])
        target = index if named is None else named
        bound = "" if named is None else f" and {named} = {index}"
        pieces.append(f"S[{', '.join(names)}] -> x[{target}] : {where.format(names[0])}{bound}")
    if rng.random() < 0.6:
        names = ("p", "q")[: 1 + reduction]
        pieces.append(void(rng, f"S[{', '.join(names)}] -> x[p]", "p"))
    return shuffled(rng, pieces)


def drawn(seed: int) -> Case:
    rng = random.Random(seed)
    size, reduction = rng.choice([6, 9]), rng.random() < 0.5
    head, more = ("S[i, k]", " and 0 <= k < 3") if reduction else ("S[i]", "")
    ends = rng.choice([(0, size), (0, size // 2, size)])
    pieces = [f"{head} : {a} <= i < {b}{more}" for a, b in pairwise(ends)]
    if rng.random() < 0.5:
        pieces.append(void(rng, head, "i"))
    offsets = tuple((rng.randrange(3), rng.choice([0, 1])) for _ in range(rng.choice([1, 2])))
    reads = tuple(a_read(rng, reduction, *offset) for offset in offsets)
    return Case(size, reduction, shuffled(rng, pieces), reads, offsets)


def network(case: Case) -> pf.Network:
    build = pf.Builder("custom")
    x = build.input("x", (case.size + 5,))
    y = pf.Tensor("y", (case.size,))
    layer = pf.statement_layer(
        "layer",
        domain=case.domain,
        output=y,
        reads={f"a{k}": (x, text) for k, text in enumerate(case.reads)},
        expression=("acc + " if case.reduction else "") + " * ".join(f"a{k}" for k in range(len(case.reads))),
        init="0.0" if case.reduction else None,
    )
    return build.network(build.add(layer))


def expected(case: Case, x: np.ndarray) -> np.ndarray:
    y = np.zeros(case.size)
    for i, k in product(range(case.size), range(3 if case.reduction else 1)):
        y[i] += np.prod([x[i + offset + factor * k * case.reduction] for offset, factor in case.offsets])
    return y


STRATEGIES = (pf.Strategy((4,)), pf.Strategy.named("local", (3,), "shifted"), pf.Strategy.named("global", (3,)))


@pytest.mark.parametrize("seed", range(24))
def test_decoration_changes_nothing(seed: int) -> None:
    case = drawn(seed)
    net = network(case)
    inputs = pf.random_inputs(net, seed=1)
    wanted = expected(case, inputs["x"].astype(np.float64))
    assert pf.max_relative_error(pf.reference(net, inputs)["y"], wanted) < 1e-12
    (group,) = pf.fused(net, STRATEGIES[seed % 3])
    assert pf.counts(group).instances == case.size
    pf.lower(group.schedule.executions(net.layers[0])).check()
    assert "polyfuse_run" in pf.generate(net, [group], kernels="scalar").source
    assert pf.max_relative_error(interpret(group, inputs).outputs["y"], wanted) < 1e-12


def test_the_reads_of_the_issue() -> None:
    x, y = pf.Tensor("x", (20,)), pf.Tensor("y", (16,))
    layer = pf.statement_layer(
        "pairs",
        domain="{ S[i] : 0 <= i < 16; S[i] : i > 20 and i < 10 }",
        output=y,
        reads={"a": (x, "{S[i]->x[j]:j=i}"), "b": (x, "{S[i]->x[i+1]; S[i] -> x[i] : 1 = 0}")},
        expression="a + b",
    )
    net = pf.Network("net", (x,), (layer,), (y,), {})
    values = pf.random_inputs(net, seed=1)
    for strategy in STRATEGIES:
        (group,) = pf.fused(net, strategy)
        wanted = values["x"][:16].astype(np.float64) + values["x"][1:17]
        assert pf.max_relative_error(interpret(group, values).outputs["y"], wanted) < 1e-12


@pytest.mark.parametrize(
    "reads", ["{ S[i] -> x[i] : false }", "{ S[i] -> x[i] : i > 99 }", "{ S[j] -> x[k] : 2k = 1 }"]
)
@pytest.mark.parametrize("init", [None, "0.0"])
def test_a_read_of_nothing_is_refused(reads: str, init: str | None) -> None:
    x, y = pf.Tensor("x", (20,)), pf.Tensor("y", (16,))
    with pytest.raises(pf.InvalidInput, match="no instance of its domain has all of a to read"):
        pf.statement_layer(
            "layer",
            domain="{ S[i] : 0 <= i < 16 }",
            output=y,
            reads={"a": (x, reads)},
            expression="acc + a" if init else "a",
            init=init,
        )


def test_relations_of_the_user_may_have_names() -> None:
    """Executions, orders of tiles and regions: all doors for sets that are made outside."""
    build = pf.Builder("pair")
    x = build.input("x", (1, 1, 8, 4))
    net = build.network(build.conv("c2", build.conv("c1", x, 1, kernel=(3, 1)), 1, kernel=(3, 1)))
    rows = pf.scheduled(net, pf.Strategy((2,)))
    text = "0 <= t <= 1 and 2t <= h < 2t + 4 and c = 0 and a = 0 and 0 <= w < 4 and n = 0"
    mine = isl.Map(f"{{ c1[n, c, h, w] -> tile[a, t] : {text}; c1[n, c, h, w] -> tile[b, d] : 2b = 1 }}")
    order = isl.Map("{ tile[n, y] -> [a, b] : a = n and b = y }")
    changed = with_tile_order(with_executions(rows, {"c1": mine}), order)
    pf.check(pf.storage(changed))
    region = isl.Set("{ c2_out[n, c, h, w] : n = 0 and c = 0 and 0 <= h < 2 and w = 1; c2_out[a, b, c, d] : 2a = 1 }")
    (found,) = [f for tensor, f in footprints(net, {net.outputs[0]: region}).items() if tensor == x]
    assert pf.count(found) == 6


def test_unnamed_keeps_the_relation() -> None:
    for text in (
        "[n] -> { S[i] -> x[j] : j = i + n and 0 <= i < 4; S[k] -> x[l] : l = 2k; S[i] -> x[i] : 2i = 1 }",
        "{ S[i, k] -> [j] : exists e : j = 2e and 0 <= j <= i + k }",
        "{ [i] -> B[i] }",
    ):
        relation = isl.Map(text)
        plain = unnamed(relation)
        assert plain == relation
        assert all(piece.get_dim_name(OUT, 0) is None for piece in plain.get_basic_maps())


def the_layer(domain: SetLike, read: MapLike) -> pf.Layer:
    x, y = pf.Tensor("x", (18,)), pf.Tensor("y", (16,))
    return pf.statement_layer(
        "blur", domain=domain, output=y, reads={"x": (x, read)}, expression="acc + x / 3", init="0.0"
    )


def test_objects_of_isl_are_taken_for_their_text() -> None:
    domain, read = "{ S[i, k] : 0 <= i < 16 and 0 <= k < 3 }", "{ S[i, k] -> x[i + k] }"
    wanted = the_layer(domain, read)
    plain = isl.Set(domain).identity().apply_range(isl.Map("{ S[a, b] -> S[a, b] }")).range()
    domains = [isl.Set(domain), isl.BasicSet(domain), isl.UnionSet(domain), plain]
    reads = [isl.Map(read), isl.BasicMap(read), isl.UnionMap(read)]
    for given, relation in product(domains, reads):
        made = the_layer(given, relation)
        assert made.points == wanted.points and made.reads(made.inputs[0]) == wanted.reads(wanted.inputs[0])
    assert pf.count(read[:-1] + ": 0 <= i < 16 and 0 <= k < 3 }") == pf.count(domain) == 48
    assert pf.lower(isl.UnionMap("{ S[i] -> [t] : 0 <= i, t < 2 }")).copies[1] == isl.Map("{ S[i] -> [1] : 0 <= i < 2}")


@pytest.mark.parametrize(
    ("domain", "read", "why"),
    [
        ("{ S[i, k] : 0 <= i < 16 } junk", "{ S[i, k] -> x[i + k] }", "text outside of its braces"),
        ("", "{ S[i, k] -> x[i + k] }", "no braces"),
        ("{ S[i, k] -> [i] }", "{ S[i, k] -> x[i + k] }", "not affine, or not of this form"),
        (isl.UnionSet("{ S[i]; T[i] }"), "{ S[i, k] -> x[i + k] }", "expected one set .* got 2 of different tuples"),
        (isl.Map("{ S[i] -> [i] }"), "{ S[i, k] -> x[i + k] }", "argument 'domain' .* expected"),
        ("{ S[i, k] : 0 <= i < 16 and 0 <= k < 3 }", isl.UnionMap("{ }"), "expected one relation .* got 0"),
        ("{ S[i, k] : 0 <= i < 16 and 0 <= k < 3 }", "{ S[i, k] -> x[" + "(" * 200, "levels of parentheses"),
    ],
)
def test_what_is_no_set_or_relation_is_refused(domain: SetLike, read: MapLike, why: str) -> None:
    with pytest.raises(pf.InvalidInput, match=why):
        the_layer(domain, read)
