"""The text of a file for a device that runs work groups: one kernel for each group of layers.

    Groups ──device_file()──> C of the dialect of their target

Tiles along the parallel coordinate are shared by work groups, so they must be independent. Inside of one, work items
share the outermost loop over points of each stage, which makes all of a point, and wait for each other after it; what
is outside of such loops is done by the first item alone. On-chip buffers are those of the work group, workspace is each
item's own.
"""

from collections.abc import Sequence

import islpy as isl

from polyfuse.codegen.c.dialect import Dialect, WorkGroups
from polyfuse.codegen.c.elements import FLOAT
from polyfuse.codegen.c.prelude import prelude
from polyfuse.codegen.c.text import braces, function, words
from polyfuse.codegen.emit.arrays import declared
from polyfuse.codegen.emit.cfile import header, offchip_parameter
from polyfuse.codegen.emit.group import Group
from polyfuse.codegen.emit.loops import TreePrinter, for_lines, kind_of
from polyfuse.codegen.emit.rowcalls import WORKSPACE
from polyfuse.codegen.emit.sums import HELPERS
from polyfuse.network.network import Network


def device_file(network: Network, groups: Sequence[Group], dialect: Dialect) -> str:
    """The whole file, in the dialect of the target that the groups are for."""
    body = [line for group in groups for line in ("", *kernel(group))]
    sums = HELPERS if any(group.lowered.sums for group in groups) else ""
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


class WorkGroupPrinter(ItemPrinter):
    """Prints what the items of a work group do together: each is at the same place whenever they wait."""

    def __init__(self, group: Group, device: WorkGroups) -> None:
        super().__init__(group.nest.leaves)
        self.device, self.tiles, self.points = device, group.lowered.parallel, group.lowered.point_loops
        self.together = {*group.lowered.outer_loops, *self.points}

    def lines(self, node: isl.AstNode, around: tuple[str, ...] = ()) -> list[str]:
        kind = kind_of(node)
        name = node.for_get_iterator().to_C_str() if kind == "for_" else ""
        if name in self.together if name else kind != "user":
            return super().lines(node, around)
        first = f"if ({self.device.items.number} == 0)"
        return [*braces(first, ItemPrinter(self.leaves).lines(node, around)), self.device.barrier]

    def loop(self, node: isl.AstNode, around: tuple[str, ...]) -> list[str]:
        body = node.for_get_body()
        if around[-1] in self.points and not node.for_is_degenerate():
            shared = for_lines(node, ItemPrinter(self.leaves).lines(body, around), self.device.items)
            return [*shared, self.device.barrier]
        groups = self.device.groups if around[-1] == self.tiles else None
        return for_lines(node, self.lines(body, around), groups)
