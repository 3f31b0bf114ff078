"""Operators: what a layer computes, as types.

The module of an operator in layers/ makes statements, relations and reference of it. Code that needs to know what a
layer is matches on the operator:

    match layer.operator:
        case Conv(window=Window(kernel=(3, 3)), groups=1): ...
        case Pool(how="max") | GlobalPool(): ...

An operator of your own is a frozen dataclass of `Operator`; nothing else has to know it.
"""

import re
from dataclasses import dataclass
from typing import ClassVar, Literal

from polyfuse.network.quantised.scheme import Quantisation
from polyfuse.network.resampling import Resampling
from polyfuse.network.window import Pair, Window

Sizes = tuple[int, ...]
BinaryFunction = Literal["add", "sub", "mul", "div", "max", "min", "pow"]
VariadicFunction = Literal["sum", "mean", "max", "min"]
Reduction = Literal["sum", "mean", "max", "min", "prod", "sum_square", "l1", "l2"]


@dataclass(frozen=True)
class Operator:
    """What a layer computes. Operators that are equal compute the same of operands of the same shapes.

    `kind` is the name for people, in messages and reports; nothing is decided by it. It is that of the class unless
    another is given, which may have fields in braces.
    """

    naming: ClassVar[str]

    def __init_subclass__(cls, kind: str = "") -> None:
        cls.naming = kind or re.sub("(?<!^)(?=[A-Z])", "_", cls.__name__).lower()

    @property
    def kind(self) -> str:
        """The name for people."""
        return self.naming.format_map(vars(self))


# Windows.


@dataclass(frozen=True)
class Conv(Operator):
    """Convolution of images."""

    window: Window
    groups: int = 1


@dataclass(frozen=True)
class ConvTranspose(Operator):
    """Transposed convolution of images."""

    window: Window
    groups: int = 1
    output_padding: Pair = (0, 0)


@dataclass(frozen=True)
class Pool(Operator, kind="{how}_pool"):
    """The `max` or the `average` of each window; `counts_padding` says that padding counts for the average."""

    how: Literal["max", "average"]
    window: Window
    ceil: bool = False
    counts_padding: bool = False


@dataclass(frozen=True)
class GlobalPool(Operator, kind="global_average_pool"):
    """The average of each channel of an image; the window is the image."""

    window: Window


# Sums of products, and along axes.


@dataclass(frozen=True)
class Gemm(Operator):
    """The product of a matrix and transposed weights, and a bias."""


@dataclass(frozen=True)
class Matmul(Operator):
    """The product of two tensors."""


@dataclass(frozen=True)
class Reduce(Operator, kind="reduce_{how}"):
    """A reduction along axes."""

    how: Reduction
    axes: Sizes
    keepdims: bool = True


@dataclass(frozen=True)
class Variance(Operator):
    """The mean square of what is left of a tensor and its means along axes."""

    axes: Sizes


# Element by element.


@dataclass(frozen=True)
class Arithmetic(Operator, kind="{how}"):
    """A function of two operands, or of several."""

    how: BinaryFunction | VariadicFunction


@dataclass(frozen=True)
class Affine(Operator):
    """A scale and a shift by weights."""


@dataclass(frozen=True)
class Prelu(Operator):
    """A slope below zero by weights."""


@dataclass(frozen=True)
class Activate(Operator):
    """The activation that the layer ends in, and nothing else."""


@dataclass(frozen=True)
class Pointwise(Operator):
    """Any other function of single elements."""


@dataclass(frozen=True)
class LocalResponse(Operator, kind="lrn"):
    """Normalisation by the squares of neighbouring channels."""

    size: int
    alpha: float
    beta: float
    bias: float


@dataclass(frozen=True)
class InstanceNorm(Operator):
    """Normalisation by means and variances that are operands, with a scale and a shift by weights."""

    epsilon: float


# Elements moved.


@dataclass(frozen=True)
class Copy(Operator):
    """The tensor itself."""


@dataclass(frozen=True)
class Reshape(Operator):
    """The same elements in the same order in another shape."""

    shape: Sizes


@dataclass(frozen=True)
class Transpose(Operator):
    """The axes in another order."""

    order: Sizes


@dataclass(frozen=True)
class Slice(Operator):
    """`sizes` elements of every axis from `starts` on, `steps` apart."""

    starts: Sizes
    sizes: Sizes
    steps: Sizes


@dataclass(frozen=True)
class Split(Slice):
    """A slice that is one of the parts of a tensor along an axis."""

    axis: int


@dataclass(frozen=True)
class Gather(Operator):
    """The elements at some indices along an axis."""

    axis: int
    indices: Sizes


@dataclass(frozen=True)
class Expand(Operator):
    """The tensor broadcast to a shape."""

    shape: Sizes


@dataclass(frozen=True)
class DepthToSpace(Operator):
    """Channels as blocks of rows and columns; the mode is DCR or CRD."""

    block: int
    mode: str


@dataclass(frozen=True)
class SpaceToDepth(Operator):
    """Blocks of rows and columns as channels; the mode is DCR or CRD."""

    block: int
    mode: str


@dataclass(frozen=True)
class Pad(Operator):
    """Elements added before and after every axis, or cut off where negative."""

    before: Sizes
    after: Sizes
    mode: str
    value: float


@dataclass(frozen=True)
class Concat(Operator):
    """Tensors one after the other along an axis."""

    axis: int


@dataclass(frozen=True)
class Resize(Operator):
    """Another resolution."""

    sizes: Sizes
    scales: tuple[float, ...]
    how: Resampling


@dataclass(frozen=True)
class Shuffle(Operator):
    """Several permutations of all elements in one."""


@dataclass(frozen=True)
class View(Operator):
    """Several copies in one, some of which leave out or repeat elements."""


# Whole numbers.


@dataclass(frozen=True)
class Quantize(Operator):
    """Floats as elements of whole numbers, with one scale or one along an axis."""

    scale: Quantisation
    axis: int


@dataclass(frozen=True)
class Dequantize(Operator):
    """Elements of whole numbers as floats."""

    scale: Quantisation
    axis: int


@dataclass(frozen=True)
class Quantised(Operator, kind="qlinear_{of.kind}"):
    """An operator of whole numbers: `scales` are those of its operands and then of its result, which has `limits`."""

    of: Operator
    scales: tuple[Quantisation, ...]
    limits: Pair


@dataclass(frozen=True)
class Clamp(Operator):
    """Elements of whole numbers between two bounds."""

    low: int
    high: int


@dataclass(frozen=True)
class Lookup(Operator):
    """A table of what elements of eight bits become."""


# What is none of these.


@dataclass(frozen=True)
class Custom(Operator, kind="{name}"):
    """A layer of a user's own statements."""

    name: str = "custom"


def window_of(operator: Operator) -> Window | None:
    """The window that an operator moves over images, its field `window`; None where it has none."""
    if isinstance(operator, Quantised):
        return window_of(operator.of)
    window = getattr(operator, "window", None)
    return window if isinstance(window, Window) else None
