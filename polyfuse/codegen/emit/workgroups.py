"""The text of a file for a device that runs work groups: one kernel for each group of layers.

    Groups ──device_file()──> C of the dialect of their target

Tiles along the parallel coordinate are shared by work groups, so they must be independent. Inside of one, work items
share the outermost loop over points of each stage, which makes all of a point, and wait for each other after it; what
is outside of such loops is done by the first item alone. On-chip buffers are those of the work group, workspace is each
item's own.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import islpy as isl

from polyfuse.codegen.c.dialect import Dialect, Share, WorkGroups
from polyfuse.codegen.c.elements import FLOAT
from polyfuse.codegen.c.prelude import prelude
from polyfuse.codegen.c.text import braces, function, words
from polyfuse.codegen.emit.arrays import declared
from polyfuse.codegen.emit.cfile import header, offchip_parameter
from polyfuse.codegen.emit.group import Group
from polyfuse.codegen.emit.loops import TreePrinter, for_lines, kind_of
from polyfuse.codegen.emit.rowcalls import WORKSPACE
from polyfuse.codegen.emit.sums import helpers
from polyfuse.network.network import Network


def device_file(network: Network, groups: Sequence[Group], dialect: Dialect) -> str:
    """The whole file, in the dialect of the target that the groups are for."""
    body = [line for group in groups for line in ("", *kernel(group))]
    sums = helpers(FLOAT.name) if any(group.lowered.sums for group in groups) else ""
    head = header(network, groups, f"in place, in {dialect.name}")
    return "\n".join([*head, prelude(words([*body, sums]), dialect=dialect) + sums, *body[1:], ""])


def kernel(group: Group) -> list[str]:
    """The kernel of a group: its buffers, and the tiles of one work group."""
    lowered, dialect = group.lowered, group.lowered.dialect
    own = [f"{dialect.chip}{declared(array, '', dialect)};" for array in lowered.chip]
    if lowered.workspace_bytes:
        own.append(f"{FLOAT.name} {WORKSPACE}[{lowered.workspace_bytes // FLOAT.bytes}];")
    parameters = [offchip_parameter(group, array) for array in group.offchip]
    assert dialect.device is not None, f"{dialect.name} has no work groups"
    body = WorkGroupPrinter(group, dialect.device).lines(group.nest.root)
    return function(f"{dialect.function} group{group.index}", parameters, [*own, *body])


class ItemPrinter(TreePrinter[list[str]]):
    """Prints what one work item does without the others."""

    def leaf(self, leaf: list[str]) -> list[str]:
        return leaf


@dataclass(frozen=True)
class SharedLines:
    """Lines that the items of a work group run; with `ends`, the last of them is a barrier already."""

    lines: list[str]
    ends: bool = False


class WorkGroupPrinter:
    """Prints what the items of a work group do together: each is at the same place whenever they wait.

    They wait outside of conditions: PoCL copies all that follows a barrier under one.
    """

    def __init__(self, group: Group, device: WorkGroups) -> None:
        self.alone, self.device, self.tiles = ItemPrinter(group.nest.leaves), device, group.lowered.parallel
        self.outer, self.points = frozenset(group.lowered.outer_loops), frozenset(group.lowered.point_loops)

    def lines(self, node: isl.AstNode, around: tuple[str, ...] = ()) -> list[str]:
        """The lines of a node; all items wait at their end."""
        parts = self.parts(node, around)
        return [line for part in parts for line in (*part.lines, *([] if part.ends else [self.device.barrier]))]

    def parts(self, node: isl.AstNode, around: tuple[str, ...]) -> list[SharedLines]:
        """The parts of a node between which items wait."""
        kind = kind_of(node)
        if kind == "block":
            children = node.block_get_children()
            return [p for k in range(children.n_ast_node()) for p in self.parts(children.get_at(k), around)]
        if kind == "if_":
            condition = node.if_get_cond().to_C_str()
            found = self.under(f"if ({condition})", node.if_get_then_node(), around)
            if node.if_has_else_node():
                found += self.under(f"if (!({condition}))", node.if_get_else_node(), around)
            return found
        if kind == "for_":
            name, body = node.for_get_iterator().to_C_str(), node.for_get_body()
            inside = (*around, name)
            if name in self.points and not node.for_is_degenerate():
                return [SharedLines(item_lines(node, self.alone.lines(body, inside), self.device.items))]
            if name in self.points:
                return [replace(part, lines=for_lines(node, part.lines)) for part in self.parts(body, inside)]
            if name in self.outer:
                groups = self.device.groups if name == self.tiles else None
                return [SharedLines(for_lines(node, self.lines(body, inside), groups), ends=True)]
        first = f"if ({self.device.items.number} == 0)"
        return [SharedLines(braces(first, self.alone.lines(node, around)))]

    def under(self, head: str, node: isl.AstNode, around: tuple[str, ...]) -> list[SharedLines]:
        """The parts of a node, each under a condition, which is the same for all items."""
        return [replace(part, lines=braces(head, part.lines)) for part in self.parts(node, around)]


def item_lines(node: isl.AstNode, body: Sequence[str], items: Share) -> list[str]:
    """A loop that work items share, with as many iterations for each: one that has none left does nothing in the last.

    Loops of which some items have fewer iterations than others are legal in front of a barrier, but PoCL 3.1 does not
    run all iterations of some.
    """
    name, condition = node.for_get_iterator().to_C_str(), node.for_get_cond().to_C_str()
    assert condition.startswith(f"{name} "), condition
    first, start, step = f"{name}_first", node.for_get_init().to_C_str(), node.for_get_inc().to_C_str()
    times = "" if step == "1" else f"{step} * "
    mine = [f"const int {name} = {first} + {times}{items.number};", *braces(f"if ({condition})", body)]
    until = f"{first}{condition.removeprefix(name)}"
    return braces(f"for (int {first} = {start}; {until}; {first} += {times}{items.count})", mine)
