"""How each shape is computed by default, and which tunings suit a shape.

The defaults follow measurements (`python -m polyfuse.bench.rows`), as a rule of registers: accumulators, the weights
held, and one or two for the input.
"""

from polyfuse.codegen.rows.shape import RowShape, Target, Tuning, block_sizes
from polyfuse.errors import InvalidInput


def default_tuning(shape: RowShape, target: Target) -> Tuning:
    """A good tuning of the shape on the target.

    >>> default_tuning(RowShape("conv", "direct", 64, 64, 56, kernel=(3, 3), outside=(1, 1)), Target(16, 32)).pixels
    26
    """
    if shape.kind in ("direct", "few_channels"):
        return _convolution(shape, target)
    if shape.kind == "depthwise":
        return Tuning(pixels=max(4, min(16, target.registers - shape.kernel[1] - 3)))
    if shape.kind in ("max_pool", "average_pool"):
        return Tuning(pixels=target.registers // 4)
    return Tuning(pixels=64)


def _convolution(shape: RowShape, target: Target) -> Tuning:
    blocks = len(block_sizes(shape.out_channels // shape.groups, target.floats))
    taps = min(shape.kernel[1], 3 if target.registers < 32 else 7)
    if shape.kernel[1] == 1:
        wide = next(a for a in (2, 1) if blocks % a == 0)
        pixels = (target.registers - wide - 2) // wide
        return Tuning(blocks=wide, pixels=pixels, taps=1, unroll=_unroll(shape, target.floats, 4))
    return Tuning(pixels=target.registers - taps - (3 if target.registers >= 32 else 1), taps=taps)


def _unroll(shape: RowShape, floats: int, most: int) -> int:
    """The largest power of two up to `most` that divides the channels of every input block."""
    if shape.kind != "direct":
        return 1
    sizes = block_sizes(shape.in_channels // shape.groups, floats)
    return max(u for u in (1, 2, 4) if u <= most and all(size % u == 0 for size in sizes))


def check_tuning(shape: RowShape, floats: int, tuning: Tuning) -> None:
    """Raises InvalidInput where the tuning does not suit the shape."""
    where = f"row kernel {shape.name!r}"
    if min(tuning.blocks, tuning.pixels, tuning.taps, tuning.unroll) < 1:
        raise InvalidInput(f"{where}: expected numbers of at least 1, got {tuning}")
    out_blocks = len(block_sizes(shape.out_channels // shape.groups, floats))
    if out_blocks % tuning.blocks or (tuning.blocks > 1 and shape.kind not in ("direct", "few_channels")):
        raise InvalidInput(
            f"{where}: {tuning.blocks} output blocks at once do not divide its {out_blocks} of {floats} channels a group"
        )
    sizes = block_sizes(shape.in_channels // shape.groups, floats)
    if shape.kind == "direct" and any(size % tuning.unroll for size in sizes):
        raise InvalidInput(f"{where}: {tuning.unroll} channels at once do not divide blocks of {sizes} input channels")
    if shape.kind not in ("direct",) and tuning.unroll > 1:
        raise InvalidInput(f"{where}: only direct convolution unrolls over input channels; set unroll=1")
    channels = (shape.in_channels, shape.out_channels)
    if shape.groups > 1 and any(c % (shape.groups * floats) for c in channels):
        raise InvalidInput(
            f"{where}: {shape.groups} groups of {channels[0]} and {channels[1]} channels expect a multiple of {floats} "
            "channels in each; use narrower vectors, or weights with zeros and groups=1"
        )
