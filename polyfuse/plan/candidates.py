"""The tiles that are tried for a group, by kind; none depends on the capacity of a machine.

`Group` + kind + `Accelerator` ──candidates()──> `Cut`s
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Literal, get_args

from polyfuse.plan.accelerator import Accelerator
from polyfuse.plan.addresses import aligned_up
from polyfuse.plan.group import Group
from polyfuse.plan.pricing import Cut, channel_bytes, cut_of
from polyfuse.plan.tiles import Places, Tile

Kind = Literal["rows", "strips", "recompute", "blocks", "patches"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""Tiles of rows that are kept; strips of columns; halos that are made again; blocks of channels; patches whose wide
tensors are made again along rows."""
PARTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
"""Images are cut into so many tiles of rows, and blocks of channels, at least; and into single rows."""
FEW_PARTS = (1, 2, 4, 8, 16, 32)
STRIPS = (2, 4, 8)
WIDE_BYTES = 4096
"""Strips are tried for groups whose tensors have more than this in a row of each; blocks of fewer channels than there
are lanes for weights that have more than this in so many."""
AGAIN: Places = ("recompute", "recompute")
ALONG: Places = ("recompute", "local")
KEPT: Places = ("local", "local")
PATCHES = (1, 2, 4)
NARROW = (0, 8, 4)
"""Patches have so many columns. Tensors are kept along both axes whose rows have at most a so many-th part of the bytes
of the widest; 0: none is."""
Candidates = Iterator[Cut]


def heights_of(group: Group, parts: Sequence[int]) -> list[int]:
    """The heights of tiles that cut the reference into so many, the tallest first, all of it left out."""
    rows = group.graph.tensors[group.reference].shape[2]
    return sorted({1, *(-(-rows // n) for n in parts)} - {rows}, reverse=True)


def in_one(group: Group, tile: Tile, machine: Accelerator) -> Cut:
    """All rows in one step."""
    return cut_of(group, tile, [group.graph.tensors[group.reference].shape[2]], machine)


def in_several(group: Group, tile: Tile, parts: Sequence[int], machine: Accelerator) -> Candidates:
    """Tiles of fewer rows than there are, where there are several."""
    if heights := heights_of(group, parts):
        yield cut_of(group, tile, heights, machine)


def by_rows(group: Group, machine: Accelerator) -> Candidates:
    """All rows in one step, or tiles of rows that are kept; weights loaded once, or in every step."""
    for cut in (in_one(group, Tile(0), machine), *in_several(group, Tile(0), PARTS, machine)):
        yield cut
        early = (operation for operation in group.operations if operation.name not in group.late)
        if not machine.weights_in_place and any(channel_bytes(group.graph, operation) for operation in early):
            yield Cut(replace(cut.tile, weights="streamed"), cut.measures)


def again(group: Group, machine: Accelerator) -> Candidates:
    """Tiles of rows that each make and load all that they need."""
    if len(group.operations) > 1:
        yield from in_several(group, Tile(0, retention=dict.fromkeys(group.links, AGAIN)), FEW_PARTS, machine)


def by_strips(group: Group, machine: Accelerator) -> Candidates:
    """Strips of columns that keep their rows, where rows are large; not where operations are late."""
    rows, columns = group.graph.tensors[group.reference].shape[2:]
    if rows == 1 or group.late or row_bytes(group) <= WIDE_BYTES:
        return
    for width in sorted({-(-columns // n) for n in STRIPS if n < columns}, reverse=True):
        yield from in_several(group, Tile(0, width), FEW_PARTS, machine)


def row_bytes(group: Group) -> int:
    """The bytes of one row of every tensor."""
    tensors = [group.graph.tensors[name] for name in group.links]
    return sum(tensor.bytes // (tensor.shape[0] * tensor.shape[2]) for tensor in tensors)


def by_patches(group: Group, machine: Accelerator) -> Candidates:
    """Patches in the order of their rows, which keep columns and make rows again, but for those of narrow tensors.

    For machines that read weights where they are: others have memory enough for whole rows. Inputs are loaded again.
    """
    shape = group.graph.tensors[group.reference].shape
    if not machine.weights_in_place or len(group.operations) == 1 or group.late or min(shape[2:]) == 1:
        return
    tensors = {name: group.graph.tensors[name] for name in group.links}
    wide = {name: tensor.bytes // (tensor.shape[0] * tensor.shape[2]) for name, tensor in tensors.items()}
    most = max(wide.values())
    narrow = {
        frozenset(name for name in wide if part and name not in group.inputs and wide[name] * part <= most)
        for part in NARROW
    }
    for kept in sorted(narrow, key=len):
        places = {name: KEPT if name in kept else ALONG for name in wide}
        for columns in (columns for columns in PATCHES if columns < shape[3]):
            yield from in_several(group, Tile(0, columns, retention=places), FEW_PARTS, machine)


def by_blocks(group: Group, machine: Accelerator) -> Candidates:
    """Blocks of output channels of one operation, all rows at once or some."""
    (operation, *others) = group.operations
    channels = group.graph.tensors[operation.output].shape[1]
    if others or (operation.weight_bytes and not channel_bytes(group.graph, operation)):
        return
    sizes = {aligned_up(-(-channels // n), machine.lanes) for n in FEW_PARTS}
    if channel_bytes(group.graph, operation) * machine.lanes > WIDE_BYTES:
        sizes |= {-(-machine.lanes // n) for n in FEW_PARTS}
    for size in sorted((size for size in sizes if 0 < size < channels), reverse=True):
        yield in_one(group, Tile(0, channels=size), machine)
        yield from in_several(group, Tile(0, channels=size), FEW_PARTS, machine)


CANDIDATES: dict[Kind, Callable[[Group, Accelerator], Candidates]] = {
    "rows": by_rows,
    "strips": by_strips,
    "recompute": again,
    "blocks": by_blocks,
    "patches": by_patches,
}


def candidates(group: Group, kind: Kind, machine: Accelerator) -> Candidates:
    """The tiles of one kind."""
    return CANDIDATES[kind](group, machine)
