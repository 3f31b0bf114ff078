"""Sums and products of two blocked rows, and one row by itself; the activation and a last row as everywhere."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

from polyfuse.codegen.c.text import braces
from polyfuse.codegen.rows.accumulate import pointers
from polyfuse.codegen.rows.activation import finished, finished_later
from polyfuse.codegen.rows.chunked import Chunked
from polyfuse.codegen.rows.chunks import Chunk
from polyfuse.codegen.rows.shape import PRELU, Kind, RowShape, RowWork, Site, Tuning, check_pitch
from polyfuse.codegen.rows.windows import is_per_channel
from polyfuse.network.activation import Spec
from polyfuse.network.layer import Layer
from polyfuse.network.operator import Activate, Arithmetic, Prelu
from polyfuse.network.tensor import Tensor

SUM, PRODUCT = Arithmetic("add"), Arithmetic("mul")


class Elementwise(Chunked):
    """Element by element, without a window."""

    lanewise = True
    has_window = False

    @abstractmethod
    def value(self, v: int) -> str:
        """An element of the result before it is finished, as C."""

    def second(self, shape: RowShape, v: int) -> list[str]:
        """What is declared of a second operand."""
        return []

    def chunk(self, shape: RowShape, tuning: Tuning, floats: int, chunk: Chunk) -> list[str]:
        v = floats
        place = f"(group * (ptrdiff_t){shape.in_pitch} + from) * {v}"
        body = [f"vec{v} t = {self.value(v)};", *finished(shape, "t", v, "i")]
        if tuning.prefetch_in:
            body.append("__builtin_prefetch(ahead + i, 0);")
        return [
            f"const float *a = in[0] + {place};",
            *self.second(shape, v),
            *([f"const float *ahead = next_in + {place};"] if tuning.prefetch_in else []),
            *pointers(shape, v, "group"),
            *braces(f"for (int i = 0; i < {chunk.pixels * v}; i += {v})", body),
            *finished_later(shape, chunk.pixels, v),
        ]


@dataclass(frozen=True)
class Paired(Elementwise):
    """Two rows; of the second, blocks are `second_pitch` columns apart, 0 for as many as in the first.

    `spread`: the second operand is one column, which all columns of the first are joined with.
    """

    spread: bool = False
    second_pitch: int = 0

    operator = SUM
    sign = "+"

    def claim(self, site: Site) -> Kind | None:
        layer = site.layer
        if layer.operator != self.operator or layer.weights or not site.is_wide:
            return None
        if all(tensor.shape == layer.output.shape for tensor in layer.inputs):
            return self
        return replace(self, spread=True) if spread_operand(layer) else None

    def operands(self, layer: Layer) -> tuple[Tensor, ...]:
        """Two tensors, of which one that is spread comes last."""
        first, second = (*layer.inputs, *layer.inputs)[:2]
        return (second, first) if first == spread_operand(layer) else (first, second)

    def column(self, layer: Layer) -> Tensor | None:
        return spread_operand(layer) if self.spread else None

    def placed(self, padding: tuple[int, int], outside: tuple[int, int], pitches: Sequence[int]) -> Kind:
        return replace(self, second_pitch=pitches[1])

    def check(self, shape: RowShape) -> None:
        super().check(shape)
        where = f"row kernel {shape.name!r}"
        check_pitch(where, "of the second operand", self.second_pitch, 1 if self.spread else shape.columns)

    def rows_read(self, shape: RowShape) -> int:
        return 2

    def row_uses(self, shape: RowShape) -> tuple[int, ...]:
        return (1,)

    def work(self, shape: RowShape, tuning: Tuning, floats: int) -> RowWork:
        work = super().work(shape, tuning, floats)
        return replace(work, loads=work.loads / 2) if self.spread else work

    def value(self, v: int) -> str:
        return f"GET{v}(a, i) {self.sign} {'b' if self.spread else f'GET{v}(b, i)'}"

    def second(self, shape: RowShape, v: int) -> list[str]:
        pitch = self.second_pitch or (1 if self.spread else shape.in_pitch)
        if self.spread:
            return [f"const vec{v} b = GET{v}(in[1], group * (ptrdiff_t){pitch * v});"]
        return [f"const float *b = in[1] + (group * (ptrdiff_t){pitch} + from) * {v};"]


@dataclass(frozen=True)
class Add(Paired):
    """Sums of two rows."""

    name = "add"

    def joins(self, layer: Layer, blocked: frozenset[str], made: frozenset[str]) -> bool:
        return layer.operator == SUM and has_blocks_alike(layer, blocked, made)


@dataclass(frozen=True)
class Mul(Paired):
    """Products of two rows."""

    name = "mul"
    operator = PRODUCT
    sign = "*"


@dataclass(frozen=True)
class Apply(Elementwise):
    """Activations by themselves, where what they read and make is in blocks for the sake of others."""

    name = "apply"
    follows = True

    def claim(self, site: Site) -> Kind | None:
        return self if is_applied(site.layer) else None

    def joins(self, layer: Layer, blocked: frozenset[str], made: frozenset[str]) -> bool:
        return is_applied(layer) and has_blocks_alike(layer, blocked, made)

    def value(self, v: int) -> str:
        return f"GET{v}(a, i)"


def has_blocks_alike(layer: Layer, blocked: frozenset[str], made: frozenset[str]) -> bool:
    """Whether a layer reads a tensor of its output's shape that another layer makes in blocks."""
    return any(t.name in blocked and t.name in made and t.shape == layer.output.shape for t in layer.inputs)


def spread_operand(layer: Layer) -> Tensor | None:
    """The operand of a sum or a product that has one value for each channel of an image; the other is the image."""
    if layer.operator not in (SUM, PRODUCT) or layer.weights:
        return None
    whole = [tensor for tensor in layer.inputs if tensor.shape == layer.output.shape]
    column = (*layer.output.shape[:2], 1, 1)
    found = [tensor for tensor in layer.inputs if tensor.shape == column and tensor not in whole]
    return found[0] if len(whole) == len(found) == 1 else None


def is_applied(layer: Layer) -> bool:
    """An activation and nothing else, perhaps one whose slopes are weights, one for each channel."""
    return layer.operator == Activate() or has_slopes(layer)


def has_slopes(layer: Layer) -> bool:
    """A PRelu of images with a slope for each channel."""
    same = layer.operator == Prelu() and [tensor.shape for tensor in layer.inputs] == [layer.output.shape]
    return same and len(layer.output.shape) == 4 and is_per_channel(layer, layer.weights[0])


def activation_of(layer: Layer) -> Spec | None:
    """The activation that a layer ends with, or is."""
    if has_slopes(layer):
        return PRELU
    return None if layer.activation is None else layer.activation.spec
