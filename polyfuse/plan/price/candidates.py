"""The tiles of a group that are tried first, by kind; none depends on the capacity of a machine.

`OperationGroup` + kind + `Accelerator` ──CANDIDATES──> `TiledGroup`s
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Literal, get_args

from polyfuse.machines.accelerator import Accelerator
from polyfuse.plan.graph.group import OperationGroup
from polyfuse.plan.memory.addresses import aligned_up
from polyfuse.plan.price.costs import TiledGroup, channel_bytes, tiled_group
from polyfuse.plan.price.space import blocks_of
from polyfuse.plan.tiles.tables import AxisRetention, Tile

TileKind = Literal["rows", "strips", "recompute", "blocks", "mixed"]
KINDS: tuple[TileKind, ...] = get_args(TileKind)
"""Tiles of rows with kept halos; strips of columns; recomputed halos; blocks of channels; and, for the least memory,
patches of a few elements, narrow tensors kept along both axes and others along columns alone."""
USUAL_KINDS: tuple[TileKind, ...] = KINDS[:-1]
PARTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
"""Images are cut into so many tiles of rows, and blocks of channels, at least; and into single rows."""
FEW_PARTS = (1, 2, 4, 8, 16, 32)
STRIPS = (2, 4, 8)
WIDE_BYTES = 4096
"""Strips are tried for groups with more bytes in a row of each tensor; blocks of fewer channels than lanes for weights
with more bytes in as many channels as there are lanes."""
MOST_PATCHES = 1024
AGAIN: AxisRetention = ("recompute", "recompute")
KEPT: AxisRetention = ("local", "local")
ALONG_COLUMNS: AxisRetention = ("recompute", "local")
Candidates = Iterator[TiledGroup]


def in_one(group: OperationGroup, tile: Tile, machine: Accelerator) -> TiledGroup:
    """All rows in one step."""
    return tiled_group(group, tile, [group.graph.tensors[group.reference].shape[2]], machine)


def in_several(group: OperationGroup, tile: Tile, parts: Sequence[int], machine: Accelerator) -> Candidates:
    """Tiles that cut the rows of the reference into so many parts, and single rows, the tallest first; not all rows."""
    rows = group.graph.tensors[group.reference].shape[2]
    if heights := {1, *(-(-rows // n) for n in parts)} - {rows}:
        yield tiled_group(group, tile, sorted(heights, reverse=True), machine)


def by_rows(group: OperationGroup, machine: Accelerator) -> Candidates:
    """All rows in one step, or tiles of rows that are kept; weights loaded once, or in every step."""
    for tiled in (in_one(group, Tile(0), machine), *in_several(group, Tile(0), PARTS, machine)):
        yield tiled
        early = (operation for operation in group.operations if operation.name not in group.late)
        if not machine.weights_in_place and any(channel_bytes(group.graph, operation) for operation in early):
            yield TiledGroup(replace(tiled.tile, weights="streamed"), tiled.measures)


def again(group: OperationGroup, machine: Accelerator) -> Candidates:
    """Tiles of rows that each make and load their whole need."""
    if len(group.operations) > 1:
        yield from in_several(group, Tile(0, retention=dict.fromkeys(group.links, AGAIN)), FEW_PARTS, machine)


def by_strips(group: OperationGroup, machine: Accelerator) -> Candidates:
    """Strips of columns that keep their rows, where rows are large; not where operations are late."""
    rows, columns = group.graph.tensors[group.reference].shape[2:]
    if rows == 1 or group.late or sum(row_bytes(group, name) for name in group.links) <= WIDE_BYTES:
        return
    for width in sorted({-(-columns // n) for n in STRIPS if n < columns}, reverse=True):
        yield from in_several(group, Tile(0, width), FEW_PARTS, machine)


def row_bytes(group: OperationGroup, tensor: str) -> int:
    """The bytes of one row of a tensor."""
    found = group.graph.tensors[tensor]
    return found.bytes // (found.shape[0] * found.shape[2])


def by_patches(group: OperationGroup, machine: Accelerator) -> Candidates:
    """Patches, one row of them after the other; none, one, half, all but one or all narrow tensors are kept."""
    rows, columns = group.graph.tensors[group.reference].shape[2:]
    if len(group.operations) == 1 or group.late or rows == 1:
        return
    narrow = sorted(narrow_tensors(group), key=lambda name: row_bytes(group, name))
    for kept in sorted({0, min(1, len(narrow)), len(narrow) // 2, max(0, len(narrow) - 1), len(narrow)}):
        retention = dict.fromkeys(group.links, ALONG_COLUMNS) | dict.fromkeys(narrow[:kept], KEPT)
        for width in (1, 2, 4):
            heights = [height for height in (4, 2, 1) if height < rows]
            heights = [height for height in heights if -(-rows // height) * -(-columns // width) <= MOST_PATCHES]
            if width < columns and heights:
                yield tiled_group(group, Tile(0, width, retention=retention), heights, machine)


def narrow_tensors(group: OperationGroup) -> list[str]:
    """The tensors within a group whose rows are no larger than those of its maker's inputs and its readers' outputs."""
    found = []
    for name, maker in group.makers.items():
        size = row_bytes(group, name)
        before = [row_bytes(group, other) for other in maker.reads]
        after = [row_bytes(group, link.reader.output) for link in group.links[name]]
        if name not in group.outputs and size < max(before) and size <= min(before + after):
            found.append(name)
    return found


def by_blocks(group: OperationGroup, machine: Accelerator) -> Candidates:
    """Blocks of output channels of one operation, all rows at once or some."""
    operation, channels = group.operations[0], len(blocks_of(group))
    sizes = {aligned_up(-(-channels // n), machine.lanes) for n in FEW_PARTS}
    if channel_bytes(group.graph, operation) * machine.lanes > WIDE_BYTES:
        sizes |= {-(-machine.lanes // n) for n in FEW_PARTS}
    for size in sorted((size for size in sizes if 0 < size < channels), reverse=True):
        yield in_one(group, Tile(0, channels=size), machine)
        yield from in_several(group, Tile(0, channels=size), FEW_PARTS, machine)


CANDIDATES: dict[TileKind, Callable[[OperationGroup, Accelerator], Candidates]] = {
    "rows": by_rows,
    "strips": by_strips,
    "recompute": again,
    "blocks": by_blocks,
    "mixed": by_patches,
}
