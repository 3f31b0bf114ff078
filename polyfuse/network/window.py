"""Windows: where each output of a convolution or a pool reads, as one value.

Sizes of kernels, strides, dilations and padding enter; a `Window` leaves, which says how many positions it has, what
padding it needs, which elements it reads and how many of its taps count.
"""

from dataclasses import dataclass, replace

from polyfuse.errors import InvalidInput
from polyfuse.network.tensor import Size, Tensor, plus

Pair = tuple[int, int]
Padding = tuple[int, int, int, int]


@dataclass(frozen=True)
class Window:
    """The geometry of a layer with a window: pairs are (rows, columns), padding is top, left, bottom, right."""

    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    dilation: Pair = (1, 1)
    padding: Padding = (0, 0, 0, 0)

    @property
    def reach(self) -> Pair:
        """The rows and columns from the first tap of a window to the last one, both included."""
        rows, columns = ((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilation, strict=True))
        return rows, columns

    def check(self, name: str, x: Tensor) -> None:
        """Refuse inputs that are not `[n, c, h, w]` and windows that are not positive.

        Errors: InvalidInput.
        """
        if len(x.shape) != 4:
            raise InvalidInput(f"layer {name!r}: expected an input [n, c, h, w], got {x}")
        if min(*self.kernel, *self.stride, *self.dilation) < 1 or min(self.padding) < 0:
            raise InvalidInput(
                f"layer {name!r}: expected kernel, stride and dilation of at least 1 and padding of at least 0, got "
                f"{self.kernel}, {self.stride}, {self.dilation}, {self.padding}"
            )

    def outputs(self, x: Tensor, ceil: bool = False) -> tuple[Size, Size]:
        """The rows and columns of the output.

        Errors: InvalidInput where a window does not fit.
        """
        return self._positions(0, x.shape[2], ceil), self._positions(1, x.shape[3], ceil)

    def _positions(self, axis: int, size: Size, ceil: bool) -> Size:
        """The number of positions along an axis (ONNX's formula), in the parameters if the size is symbolic."""
        reach, stride, before, after = self.reach[axis], self.stride[axis], self.padding[axis], self.padding[2 + axis]
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

    def grown(self, x: Tensor, out: Tensor) -> "Window":
        """The window whose padding is grown at the end so that the last position of ceil mode fits."""
        ends = list(self.padding[2:])
        for d in range(2):
            size, made = x.shape[2 + d], out.shape[2 + d]
            if isinstance(size, int) and isinstance(made, int):
                ends[d] = max(ends[d], (made - 1) * self.stride[d] + self.reach[d] - size - self.padding[d])
        return replace(self, padding=(self.padding[0], self.padding[1], ends[0], ends[1]))

    @property
    def index(self) -> str:
        """The row and the column that tap (kh, kw) of the window of a point reads, as isl text."""
        return ", ".join(
            f"{self.stride[a]} * {d} + {self.dilation[a]} * k{d} - {self.padding[a]}" for a, d in enumerate("hw")
        )

    def divisor(self, x: Tensor, counted: Padding) -> str:
        """The number of taps that count, those in the `counted` part of the padding too: an expression of the point.

        Errors: InvalidInput for symbolic sizes that it would depend on.
        """
        return " * ".join(self._taps(axis, x.shape[2 + axis], counted[axis], counted[2 + axis]) for axis in range(2))

    def _taps(self, axis: int, size: Size, low: int, high: int) -> str:
        """The number of taps along an axis that count: those at elements from `-low` to `size + high - 1`."""
        kernel, stride, dilation, before = (
            self.kernel[axis], self.stride[axis], self.dilation[axis], self.padding[axis],
        )  # fmt: skip
        if isinstance(size, str):
            if before > low or (kernel - 1) * dilation > low + high:
                raise InvalidInput(
                    f"size {size!r} is symbolic: how many taps of an average count would depend on it; expected "
                    "padding that is counted (count_include_pad) or a window of 1"
                )
            return str(kernel)
        first = f"{stride} * {'hw'[axis]} - {before}"
        if dilation == 1:
            return f"(min({first} + {kernel}, {size + high}) - max({first}, {-low}))"
        return " + ".join(
            f"max(0, min(1, min({size + high} - ({first} + {dilation * k}), {first} + {dilation * k} + {low + 1})))"
            for k in range(kernel)
        ).join("()")
