"""The fusion table and the fusion plan of DNNFusion (Niu et al., PLDI 2021, sections 3.2 and 4.3).

Enters: `FusionOperator`s in topological order, and a function that decides where the table says "if it pays". Leaves:
`Block`s.

A plan begins at a One-to-One operator with the smallest result, takes in successors for as long as the table allows it,
then predecessors, and begins again with what is left. Blocks are convex: no path leaves one and comes back.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property

from polyfuse.network.layer import Layer
from polyfuse.network.network import Network
from polyfuse.network.operator import GlobalPool, Pool
from polyfuse.rewrite.mapping import MappingType, mapping_type

WORTH = 0.1
BOTH_MANY = (MappingType.MANY_TO_MANY, MappingType.MANY_TO_MANY)


class Verdict(Enum):
    """The verdict of the table on two operators: fuse, fuse if it pays, never."""

    FUSE = "G"
    ASK = "Y"
    NEVER = "X"


def _table(text: str) -> dict[tuple[MappingType, MappingType], tuple[Verdict, MappingType | None]]:
    head, *rows = (line.split() for line in text.strip().splitlines())
    return {
        (MappingType(row[0]), MappingType(second)): (
            Verdict(cell[0]),
            MappingType(cell[2:]) if len(cell) > 1 else None,
        )
        for row in rows
        for second, cell in zip(head, row[1:], strict=True)
    }


TABLE = _table(
    """
            1-1      1-M    M-M    Reorg    Shuf
    1-1     G:1-1    G:1-M  G:M-M  G:Reorg  G:Shuf
    1-M     G:1-M    Y:1-M  X      Y:1-M    Y:1-M
    M-M     G:M-M    Y:M-M  X      Y:M-M    Y:M-M
    Reorg   G:Reorg  Y:1-M  Y:M-M  G:Reorg  G:Reorg
    Shuf    G:Shuf   Y:1-M  Y:M-M  G:Reorg  G:Reorg
    """
)
"""The verdict on a first (row) and a second (column) operator, and the type of the two fused; as published."""


@dataclass(frozen=True)
class FusionOperator:
    """A layer as the fusion plan sees it; `signature` is what it computes and on which shapes, without names.

    `read_elements` counts the elements of its inputs and weights.
    """

    name: str
    kind: str
    mapping: MappingType
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    read_elements: int
    result_elements: int
    signature: str
    is_pool: bool = False


@dataclass(frozen=True)
class Block:
    """Operators that run as one, in topological order, and the type of the whole."""

    operators: tuple[FusionOperator, ...]
    mapping: MappingType

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its operators."""
        return tuple(operator.name for operator in self.operators)


Profitable = Callable[[Sequence[FusionOperator], FusionOperator], bool]
"""Whether fusing a block (first) with a neighbour (second) pays: asked where the table says Y."""


def never(block: Sequence[FusionOperator], neighbour: FusionOperator) -> bool:
    """Refuses every Y."""
    return False


def always(block: Sequence[FusionOperator], neighbour: FusionOperator) -> bool:
    """Accepts every Y."""
    return True


def by_traffic(block: Sequence[FusionOperator], neighbour: FusionOperator) -> bool:
    """The model that stands in where nothing is measured: fusing pays where it saves a tenth of the traffic or more.

    Apart, what one makes and the other reads is written and read again; together it is neither. The saving is compared
    with all that the operators on both sides of it read and write apart.
    """
    both_ways = (pair for operator in block for pair in ((operator, neighbour), (neighbour, operator)))
    pairs = [(first, second) for first, second in both_ways if set(first.outputs) & set(second.inputs)]
    between = {first.name: first.result_elements for first, _ in pairs}
    touched = {each.name: each.read_elements + each.result_elements for pair in pairs for each in pair}
    return 2 * sum(between.values()) >= WORTH * sum(touched.values())


def operators_of(network: Network) -> tuple[FusionOperator, ...]:
    """The layers of a network as operators, their types derived from their relations.

    Errors: TooComplex.
    """
    return tuple(
        FusionOperator(
            layer.name,
            layer.kind,
            mapping_type(layer),
            tuple(tensor.name for tensor in layer.inputs),
            (layer.output.name,),
            sum(tensor.elements for tensor in (*layer.inputs, *layer.weights)),
            layer.output.elements,
            _signature(layer),
            isinstance(layer.operator, Pool | GlobalPool),
        )
        for layer in network.layers
    )


def _signature(layer: Layer) -> str:
    shapes = " ".join(str(tensor.shape) for tensor in (*layer.inputs, *layer.weights))
    ending = "" if layer.activation is None else f" {layer.activation}"
    return f"{layer.kind} {shapes} {layer.operator}{ending}"


@dataclass(frozen=True, eq=False)
class OperatorGraph:
    """Operators, who follows whom, and which blocks are convex."""

    operators: tuple[FusionOperator, ...]

    @cached_property
    def position(self) -> Mapping[str, int]:
        """The position of each operator in the order."""
        return {operator.name: k for k, operator in enumerate(self.operators)}

    @cached_property
    def makers(self) -> Mapping[str, FusionOperator]:
        """The operator that makes each tensor."""
        return {name: operator for operator in self.operators for name in operator.outputs}

    @cached_property
    def _readers(self) -> Mapping[str, list[FusionOperator]]:
        found: dict[str, list[FusionOperator]] = defaultdict(list)
        for operator in self.operators:
            for name in dict.fromkeys(operator.inputs):
                found[name].append(operator)
        return found

    def successors(self, operator: FusionOperator) -> tuple[FusionOperator, ...]:
        """The operators that read what one makes, in the order of the graph."""
        found = {reader.name: reader for name in operator.outputs for reader in self._readers.get(name, ())}
        return tuple(found.values())

    def predecessors(self, operator: FusionOperator) -> tuple[FusionOperator, ...]:
        """The operators that make what one reads, in the order of its inputs."""
        return tuple({m.name: m for name in operator.inputs if (m := self.makers.get(name)) is not None}.values())

    def is_convex(self, names: set[str]) -> bool:
        """No path leaves these operators and comes back to them."""
        inside = sorted(self.position[name] for name in names)
        escaped: set[str] = set()
        for operator in self.operators[inside[0] : inside[-1] + 1]:
            before = {each.name for each in self.predecessors(operator)}
            if operator.name not in names and before & (names | escaped):
                escaped.add(operator.name)
            elif operator.name in names and before & escaped:
                return False
        return True


def _pools_only(second: Sequence[FusionOperator]) -> bool:
    """The second operators are Many-to-Many because of pooling alone."""
    return all(each.is_pool for each in second if each.mapping is MappingType.MANY_TO_MANY)


@dataclass
class _Growth:
    """A block while it grows, and what is still free."""

    graph: OperatorGraph
    profitable: Profitable
    conv_to_pool: bool
    free: set[str]
    names: set[str]
    mapping: MappingType

    def block(self) -> Block:
        chosen = sorted(self.names, key=self.graph.position.__getitem__)
        return Block(tuple(self.graph.operators[self.graph.position[name]] for name in chosen), self.mapping)

    def takes(self, neighbour: FusionOperator, after: bool) -> bool:
        """Take a neighbour in, if it may be: one that runs after the block or before it."""
        if neighbour.name not in self.free or not self.graph.is_convex({*self.names, neighbour.name}):
            return False
        pair = (self.mapping, neighbour.mapping) if after else (neighbour.mapping, self.mapping)
        verdict, fused = TABLE[pair]
        if self.conv_to_pool and pair == BOTH_MANY and _pools_only([neighbour] if after else self.block().operators):
            verdict, fused = Verdict.ASK, MappingType.MANY_TO_MANY
        if fused is None or (verdict is Verdict.ASK and not self.profitable(self.block().operators, neighbour)):
            return False
        self.names.add(neighbour.name)
        self.free.discard(neighbour.name)
        self.mapping = fused
        return True

    def grow_forward(self, operator: FusionOperator) -> None:
        """Take successors in, depth first."""
        paths = [iter(self.graph.successors(operator))]
        while paths:
            successor = next(paths[-1], None)
            if successor is None:
                paths.pop()
            elif self.takes(successor, after=True):
                paths.append(iter(self.graph.successors(successor)))

    def grow_backward(self, operator: FusionOperator | None) -> None:
        """Take one predecessor in, then one of that one's, and so on."""
        while operator is not None:
            operator = next((p for p in self.graph.predecessors(operator) if self.takes(p, after=False)), None)


def fusion_plan(
    operators: Sequence[FusionOperator], profitable: Profitable = never, conv_to_pool: bool = False
) -> tuple[Block, ...]:
    """The blocks of the published plan, in the order of their first operators; every operator is in one of them.

    `conv_to_pool` has it ask, as for a Y, whether pooling is fused with the Many-to-Many operator before it, which the
    table never allows.
    """
    graph = OperatorGraph(tuple(operators))
    free = {operator.name for operator in operators}
    blocks: list[Block] = []
    for seed in _seeds(graph, free):
        free.discard(seed.name)
        growth = _Growth(graph, profitable, conv_to_pool, free, {seed.name}, seed.mapping)
        growth.grow_forward(seed)
        growth.grow_backward(seed)
        blocks.append(growth.block())
    blocks += [Block((o,), o.mapping) for o in operators if o.name in free]
    return tuple(sorted(blocks, key=lambda block: graph.position[block.operators[0].name]))


def _seeds(graph: OperatorGraph, free: set[str]) -> Iterator[FusionOperator]:
    """One-to-One operators that are still free when their turn comes, those of the smallest results first."""
    candidates = [o for o in graph.operators if o.mapping is MappingType.ONE_TO_ONE]
    for seed in sorted(candidates, key=lambda o: o.result_elements):
        if seed.name in free:
            yield seed
