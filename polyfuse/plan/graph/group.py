"""Groups of operations that run together in steps: their tensors, and the reads of each.

    `Graph` + names ──group_of()──> `OperationGroup`

The reads of layers along each axis are tabulated once for a graph.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache

import numpy as np

from polyfuse.errors import InvalidInput
from polyfuse.plan.graph.access import NONE, AxisRead, LayerTables, layer_tables, whole_read
from polyfuse.plan.graph.operations import Graph, Operation, Part, image_shape
from polyfuse.typed_json import digest_of

AxisReads = tuple[AxisRead, AxisRead, AxisRead]


@dataclass(frozen=True, eq=False)
class Link:
    """An operation reads a part: along channels, rows and columns of the tensor."""

    tensor: str
    reader: Operation
    reads: AxisReads


@dataclass(frozen=True, eq=False)
class Analysis:
    """The layers of a graph analysed: their tables, and the links of each operation by its name."""

    graph: Graph
    tables: Mapping[str, LayerTables]
    links: Mapping[str, tuple[Link, ...]]


@lru_cache(maxsize=16)
def analysis_of(graph: Graph) -> Analysis:
    """The tables and links of a graph, derived once."""
    tables = layer_tables([operation.layer for operation in graph.operations])
    links = {operation.name: links_of(graph, operation, tables[operation.name]) for operation in graph.operations}
    return Analysis(graph, tables, links)


def links_of(graph: Graph, operation: Operation, tables: LayerTables) -> tuple[Link, ...]:
    """A link for each part of each operand."""
    made = image_shape(operation.layer.output)[1:]
    found = []
    for tensor, parts, reads in zip(operation.layer.inputs, operation.operands, tables.reads, strict=True):
        for part in parts:
            shape = graph.tensors[part.tensor].shape
            if shape[1:] == (part.channels, *image_shape(tensor)[2:]):
                found.append(Link(part.tensor, operation, (of_part(reads[0], part), reads[1], reads[2])))
            else:
                channels, rows, columns = (whole_read(pair) for pair in zip(made, shape[1:], strict=True))
                found.append(Link(part.tensor, operation, (channels, rows, columns)))
    return tuple(found)


def of_part(channels: AxisRead, part: Part) -> AxisRead:
    """The channels of a part that are read, counted from its first one."""
    first = np.clip(channels.first - part.offset, 0, part.channels)
    end = np.clip(channels.end - part.offset, 0, part.channels)
    some = first < end
    later = np.minimum.accumulate(np.where(some, first, NONE)[::-1])[::-1]
    return AxisRead(later, np.maximum.accumulate(np.where(some, end, -NONE)), channels.ahead)


@dataclass(frozen=True, eq=False)
class OperationGroup:
    """Operations in order, and the tensors between them.

    inputs     read and not made; outputs: made, and read outside of the group or wanted of the network
    late       operations that need all of an accumulating one: they run in the last step
    reference  the tensor whose rows and columns tiles cut: the last output that is not late, else what is accumulated
    """

    graph: Graph
    operations: tuple[Operation, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    late: frozenset[str]
    reference: str

    @cached_property
    def analysis(self) -> Analysis:
        """The analysis of the whole graph."""
        return analysis_of(self.graph)

    @cached_property
    def makers(self) -> dict[str, Operation]:
        """The operation that makes each tensor of the group, in order."""
        return {operation.output: operation for operation in self.operations}

    @cached_property
    def links(self) -> dict[str, list[Link]]:
        """The reads of each tensor within the group."""
        found: dict[str, list[Link]] = {name: [] for name in (*self.inputs, *self.makers)}
        for operation in self.operations:
            for link in self.analysis.links[operation.name]:
                found[link.tensor].append(link)
        return found

    def is_late(self, tensor: str) -> bool:
        """Whether a tensor is made in the last step alone: by a late operation, or by one that accumulates."""
        maker = self.makers.get(tensor)
        return maker is not None and (maker.name in self.late or maker.accumulates)

    def accumulates(self, operation: Operation) -> bool:
        """Whether an operation adds up rows as they arrive: not where these arrive in the last step."""
        return operation.accumulates and operation.name not in self.late

    def added_up(self, operation: Operation) -> tuple[str, ...]:
        """The tensors that an operation adds up as they arrive: several where its operand is joined, mostly none."""
        return operation.reads if self.accumulates(operation) else ()


def group_of(graph: Graph, names: Sequence[str]) -> OperationGroup:
    """The group of some operations.

    Errors: InvalidInput for no names, unknown ones, and one twice.
    """
    wanted = {graph.operation(name).name for name in names}
    if not wanted or len(wanted) != len(names):
        raise InvalidInput(f"group {', '.join(names) or 'of nothing'}: expected each operation once; correct the names")
    operations = tuple(operation for operation in graph.operations if operation.name in wanted)
    made = {operation.output for operation in operations}
    inputs = tuple(dict.fromkeys(name for operation in operations for name in operation.reads if name not in made))
    outputs = tuple(
        operation.output
        for operation in operations
        if operation.output in graph.outputs
        or any(reader not in wanted for reader in graph.readers(operation.output))
        or not graph.readers(operation.output)
    )
    late = late_in(operations)
    return OperationGroup(graph, operations, inputs, outputs, late, reference_of(operations, outputs, late))


def graph_digest(graph: Graph) -> str:
    """A digest of all that plans of a graph depend on; names, shapes and relations, but not the values of weights."""
    tables = analysis_of(graph).tables
    operations = [(o.name, o.operands, o.output, o.weight_bytes, tables[o.name].key) for o in graph.operations]
    tensors = [asdict(info) for info in graph.tensors.values()]
    return digest_of(repr((tensors, operations, graph.inputs, graph.outputs)))


def late_in(operations: Sequence[Operation]) -> frozenset[str]:
    """The operations that read what an accumulating one makes, or what one of these makes."""
    done: set[str] = set()
    late = set()
    for operation in operations:
        if done.intersection(operation.reads):
            late.add(operation.name)
        if operation.accumulates or operation.name in late:
            done.add(operation.output)
    return frozenset(late)


def reference_of(operations: Sequence[Operation], outputs: Sequence[str], late: frozenset[str]) -> str:
    """The last output that is made tile by tile; without one, what the first accumulating operation reads."""
    tiled = [o.output for o in operations if o.output in outputs and not o.accumulates and o.name not in late]
    return tiled[-1] if tiled else next(o.reads[-1] for o in operations if o.accumulates)
