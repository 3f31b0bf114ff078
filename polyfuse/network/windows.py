"""The arithmetic of windows: how many positions they have, what padding they need, how many of their taps count.

Sizes, kernels, strides, dilations and padding (top, left, bottom, right) enter; sizes, padding and index text leave.
"""

from polyfuse.errors import InvalidInput
from polyfuse.network.operators import Padding, Pair
from polyfuse.network.tensor import Size, Tensor, plus


def positions(size: Size, kernel: int, stride: int, dilation: int, before: int, after: int, ceil: bool = False) -> Size:
    """The number of window positions along one axis (ONNX's formula), in the parameters where the size is symbolic."""
    reach = (kernel - 1) * dilation + 1
    if isinstance(size, str):
        if ceil and stride > 1:
            raise InvalidInput(f"size {size!r} is symbolic: expected floor mode, got ceil mode; fix the size")
        room_text = plus(size, before + after - reach)
        return plus(room_text, 1) if stride == 1 else f"floor(({room_text})/{stride}) + 1"
    room = size + before + after - reach
    if room < 0:
        raise InvalidInput(f"a window of {reach} does not fit in {size} elements padded by {before}+{after}")
    count = (room + stride - 1 if ceil else room) // stride + 1
    if ceil and (count - 1) * stride >= size + before:
        count -= 1
    return count


def spatial(x: Tensor, kernel: Pair, stride: Pair, dilation: Pair, padding: Padding, ceil: bool = False) -> list[Size]:
    """Output rows and columns of a window layer."""
    return [
        positions(x.shape[2 + d], kernel[d], stride[d], dilation[d], padding[d], padding[2 + d], ceil) for d in range(2)
    ]


def check_window(name: str, x: Tensor, kernel: Pair, stride: Pair, dilation: Pair, padding: Padding) -> None:
    """Refuse inputs that are not `[n, c, h, w]` and windows that are not positive."""
    if len(x.shape) != 4:
        raise InvalidInput(f"layer {name!r}: expected an input [n, c, h, w], got {x}")
    if min(*kernel, *stride, *dilation) < 1 or min(padding) < 0:
        raise InvalidInput(
            f"layer {name!r}: expected kernel, stride and dilation of at least 1 and padding of at least 0, got "
            f"{kernel}, {stride}, {dilation}, {padding}"
        )


def ceil_padding(x: Tensor, out: Tensor, kernel: Pair, stride: Pair, dilation: Pair, padding: Padding) -> Padding:
    """Padding grown at the end so that the last window of ceil mode fits."""
    top, left, bottom, right = padding
    ends = []
    for d, after in enumerate((bottom, right)):
        reach = (kernel[d] - 1) * dilation[d] + 1
        size, made = x.shape[2 + d], out.shape[2 + d]
        if isinstance(size, int) and isinstance(made, int):
            after = max(after, (made - 1) * stride[d] + reach - size - padding[d])
        ends.append(after)
    return top, left, ends[0], ends[1]


def taps(dim: str, size: Size, kernel: int, stride: int, dilation: int, before: int, low: int, high: int) -> str:
    """How many taps of a window along one axis count: an index expression of the point.

    The k-th tap is at `stride*dim + dilation*k - before` and counts from `-low` to `size + high - 1`.
    """
    if isinstance(size, str):
        if before > low or (kernel - 1) * dilation > low + high:
            raise InvalidInput(
                f"size {size!r} is symbolic: how many taps of an average count would depend on it; expected padding "
                "that is counted (count_include_pad) or a window of 1"
            )
        return str(kernel)
    first = f"{stride} * {dim} - {before}"
    if dilation == 1:
        return f"(min({first} + {kernel}, {size + high}) - max({first}, {-low}))"
    return " + ".join(
        f"max(0, min(1, min({size + high} - ({first} + {dilation * k}), {first} + {dilation * k} + {low + 1})))"
        for k in range(kernel)
    ).join("()")
