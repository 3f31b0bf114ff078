"""The table and the plan as published; the counts of a literal prototype; blocks are convex and cover the graph."""

import numpy as np
import pytest

from polyfuse.network.network import Builder, Network
from polyfuse.rewrite.fusion import (
    TABLE,
    Block,
    FusionOperator,
    Verdict,
    always,
    by_traffic,
    fusion_plan,
    never,
    operators_of,
)
from polyfuse.rewrite.mapping import MappingType
from tests.rewrite.operator_graphs import LIGHT, operators

PROTOTYPE = {
    "vgg19": (26, 26),
    "resnet50": (58, 57),
    "densenet121": (126, 126),
    "inception_v1": (76, 75),
    "shufflenet": (73, 56),
    "squeezenet": (31, 31),
}
"""Groups that a literal prototype of the published plan found on the raw operators: Y refused, Y accepted."""


@pytest.mark.parametrize("model", PROTOTYPE)
def test_the_plan_finds_as_many_groups_as_the_literal_prototype(model: str) -> None:
    graph = operators(LIGHT / f"light_{model}.onnx")
    assert (len(fusion_plan(graph, never)), len(fusion_plan(graph, always))) == PROTOTYPE[model]


def test_the_table_is_the_published_one() -> None:
    """Cells that have rules of their own: all of One-to-One fuse, Many-to-Many never follows anything that repeats."""
    one, many, pairs = MappingType.ONE_TO_ONE, MappingType.MANY_TO_MANY, set(TABLE)
    assert pairs == {(first, second) for first in MappingType for second in MappingType}
    for kind in MappingType:
        assert TABLE[one, kind] == (Verdict.FUSE, kind) and TABLE[kind, one] == (Verdict.FUSE, kind)
    refused = {pair for pair, (verdict, _) in TABLE.items() if verdict is Verdict.NEVER}
    assert refused == {(MappingType.ONE_TO_MANY, many), (many, many)}
    asked = [pair for pair, (verdict, _) in TABLE.items() if verdict is Verdict.ASK]
    assert len(asked) == 10 and all({MappingType.ONE_TO_MANY, many} & set(pair) for pair in asked)
    moves = (MappingType.REORGANIZE, MappingType.SHUFFLE)
    for first in moves:
        for second in moves:
            assert TABLE[first, second] == (Verdict.FUSE, MappingType.REORGANIZE)


def random_graph(seed: int) -> tuple[FusionOperator, ...]:
    """Operators of random types that read random earlier ones."""
    random = np.random.default_rng(seed)
    kinds = list(MappingType)
    graph = []
    for k in range(int(random.integers(2, 14))):
        reads = (
            {f"t{int(random.integers(max(0, k - 4), k))}" for _ in range(int(random.integers(1, 3)))} if k else {"x"}
        )
        mapping = kinds[int(random.choice(5, p=[0.5, 0.1, 0.1, 0.1, 0.2]))]
        elements = int(random.integers(1, 50))
        graph.append(FusionOperator(f"o{k}", "any", mapping, tuple(sorted(reads)), (f"t{k}",), 10, elements, "any"))
    return tuple(graph)


def depends(graph: tuple[FusionOperator, ...]) -> dict[str, set[str]]:
    """Everything that each operator needs, directly or not."""
    makers, needs = {each.outputs[0]: each.name for each in graph}, dict[str, set[str]]()
    for each in graph:
        direct = {makers[name] for name in each.inputs if name in makers}
        needs[each.name] = direct.union(*(needs[name] for name in direct))
    return needs


def is_convex(names: set[str], needs: dict[str, set[str]]) -> bool:
    """No operator outside is between two inside: a second definition, by transitive closure."""
    return not any(
        outside not in names and needs[outside] & names and any(outside in needs[inside] for inside in names)
        for outside in needs
    )


@pytest.mark.parametrize("seed", range(150))
def test_blocks_are_convex_and_hold_every_operator_once(seed: int) -> None:
    graph = random_graph(seed)
    for profitable in (never, always):
        blocks = fusion_plan(graph, profitable)
        held = [name for block in blocks for name in block.names]
        assert sorted(held) == sorted(each.name for each in graph)
        needs = depends(graph)
        assert all(is_convex(set(block.names), needs) for block in blocks)
        for block in blocks:
            assert sum(each.mapping is MappingType.MANY_TO_MANY for each in block.operators) <= 1


def residual() -> Network:
    """x -> conv -> relu -> conv -> + x."""
    build = Builder("residual")
    x = build.activation("first", build.input("x", (1, 4, 8, 8)), "relu")
    y = build.activation("act", build.conv("conv1", x, 4, kernel=3, padding=1), "relu")
    y = build.conv("conv2", y, 4, kernel=3, padding=1)
    return build.network(build.arithmetic("sum", "add", y, x))


def test_a_block_does_not_enclose_another() -> None:
    """`first` and `sum` are neighbours, and conv1 to conv2 lie between them."""
    blocks = fusion_plan(operators_of(residual()), always)
    assert [block.names for block in blocks] == [("first", "conv1", "act"), ("conv2", "sum")]


@pytest.mark.parametrize("order", [("act", "pool"), ("pool", "act")])
def test_pools_follow_convolutions_only_where_that_is_switched_on(order: tuple[str, str]) -> None:
    build = Builder("pooled")
    y = build.conv("conv", build.input("x", (1, 4, 8, 8)), 4, kernel=3)
    for name in order:
        y = build.activation("act", y, "relu") if name == "act" else build.max_pool("pool", y, kernel=2)
    graph = operators_of(build.network(y))
    assert names(fusion_plan(graph, always)) == [("conv",), order]
    assert names(fusion_plan(graph, never, conv_to_pool=True)) == [("conv",), order]
    assert names(fusion_plan(graph, always, conv_to_pool=True)) == [("conv", *order)]


def test_the_switch_is_for_pools_after_something_else() -> None:
    """Two convolutions stay apart, whatever is switched on."""
    build = Builder("pair")
    y = build.activation("act", build.conv("conv1", build.input("x", (1, 4, 8, 8)), 4, kernel=3), "relu")
    graph = operators_of(build.network(build.conv("conv2", y, 4, kernel=3)))
    assert names(fusion_plan(graph, always, conv_to_pool=True)) == [("conv1",), ("act", "conv2")]


def names(blocks: tuple[Block, ...]) -> list[tuple[str, ...]]:
    return [block.names for block in blocks]


def test_traffic_decides_where_nothing_is_measured() -> None:
    """A broadcast of one column saves nothing; a broadcast of as much as is read saves a third."""
    read, small, large = (
        FusionOperator("read", "conv", MappingType.MANY_TO_MANY, ("x",), ("y",), 1000, elements, "conv")
        for elements in (1000, 10, 1000)
    )
    after = FusionOperator("after", "add", MappingType.ONE_TO_MANY, ("y",), ("z",), 1000, 1000, "add")
    assert not by_traffic([small], after) and by_traffic([large], after) and by_traffic([read], after)
