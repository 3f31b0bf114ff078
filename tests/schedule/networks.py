"""Networks the schedule tests share, and what their layers read, written down in plain Python.

Nothing below the line `Plain Python` imports polyfuse: it is what the relations are checked against.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product

import islpy as isl
from hypothesis import strategies as st

from polyfuse.network.layer import Access, Layer, Statement
from polyfuse.network.network import Builder, Network
from polyfuse.network.operator import Custom
from polyfuse.network.tensor import Size, Tensor

Element = tuple[int, ...]
Pairs = set[tuple[Element, Element]]


def pair(size: int = 20) -> Network:
    """Two valid 3x3 convolutions: the worked example where the size is 20."""
    build = Builder("pair")
    x = build.input("x", (1, 1, size, size))
    return build.network(build.conv("conv2", build.conv("conv1", x, 1, kernel=3), 1, kernel=3))


def same_chain(count: int, rows: Size, columns: Size, names: str = "c") -> Network:
    """3x3 convolutions with padding 1."""
    build = Builder("same")
    tensor = build.input("x", (1, 1, rows, columns))
    for k in range(count):
        tensor = build.conv(f"{names}{k}", tensor, 1, kernel=3, padding=1)
    return build.network(tensor)


def stencil_layer(name: str, source: Tensor, output: Tensor, taps: int) -> Layer:
    """A statement of rank 1: the sum of `taps` neighbours."""
    (rows,) = output.concrete_shape
    init = isl.Set(f"{{ {name}_init[i] : 0 <= i < {rows} }}")
    update = isl.Set(f"{{ {name}_update[i, k] : 0 <= i < {rows} and 0 <= k < {taps} }}")
    extended = isl.Map(f"{{ {name}_update[i, k] -> {source.name}[i + k] : 0 <= k < {taps} }}")
    access = Access(source, extended.intersect_domain(update).intersect_range(source.box), extended)
    statements = (
        Statement(f"{name}_init", ("i",), init, {}, "0.0"),
        Statement(f"{name}_update", ("i", "k"), update, {"x": access}, "acc + x", macs=1),
    )
    return Layer(name, Custom("stencil"), output, statements, (source,), ())


def stencils() -> Network:
    """Two stencils of three taps over 20 elements, rank 1."""
    x, y, z = Tensor("x", (20,)), Tensor("y", (18,)), Tensor("z", (16,))
    return Network("stencils", (x,), (stencil_layer("A", x, y, 3), stencil_layer("B", y, z, 3)), (z,), {})


@dataclass(frozen=True)
class Window:
    """A layer with one channel that reads windows, as numbers per axis."""

    kind: str
    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    padding: tuple[int, int]

    def add(self, build: Builder, name: str, x: Tensor) -> Tensor:
        """The layer in a builder."""
        shape = {
            "kernel": self.kernel,
            "stride": self.stride,
            "dilation": self.dilation,
            "padding": self.padding,
        }
        if self.kind == "conv":
            return build.conv(name, x, 1, **shape)
        return build.max_pool(name, x, **shape) if self.kind == "max" else build.average_pool(name, x, **shape)

    def positions(self, size: int, axis: int) -> int:
        """How many outputs an axis has."""
        reach = (self.kernel[axis] - 1) * self.dilation[axis] + 1
        return (size + 2 * self.padding[axis] - reach) // self.stride[axis] + 1

    def taps(self, position: int, size: int, axis: int) -> set[int]:
        """What one output reads along an axis of the image."""
        first = position * self.stride[axis] - self.padding[axis]
        return {i for k in range(self.kernel[axis]) if 0 <= (i := first + k * self.dilation[axis]) < size}

    def reads(self, point: Element, size: Element) -> set[Element]:
        """What one output reads of the image."""
        return set(product(*(self.taps(point[axis], size[axis], axis) for axis in range(2))))


@dataclass(frozen=True)
class Chain:
    """Windows one after another on an image of some rows and columns."""

    windows: tuple[Window, ...]
    size: tuple[int, int]

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Rows and columns of the input and of every output."""
        sizes = [self.size]
        for window in self.windows:
            rows, columns = sizes[-1]
            sizes.append((window.positions(rows, 0), window.positions(columns, 1)))
        return sizes

    def network(self) -> Network:
        """The network of these layers: x, l0_out, l1_out, …"""
        build = Builder("chain")
        tensor = build.input("x", (1, 1, *self.size))
        for k, window in enumerate(self.windows):
            tensor = window.add(build, f"l{k}", tensor)
        return build.network(tensor)


@st.composite
def windows(draw: st.DrawFn) -> Window:
    """Kernels of 1 to 3, strides of 1 to 3, dilations of 1 and 2, padding smaller than the window."""
    two = st.tuples
    kernel = draw(two(st.integers(1, 3), st.integers(1, 3)))
    dilation = draw(two(st.integers(1, 2), st.integers(1, 2)))
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    padding = draw(two(*(st.integers(0, min(2, r - 1)) for r in reach)))
    return Window(
        draw(st.sampled_from(["conv", "max", "average"])),
        kernel,
        draw(two(*[st.integers(1, 3)] * 2)),
        dilation,
        padding,
    )


@st.composite
def chains(draw: st.DrawFn, most: int = 3, largest: int = 9) -> Chain:
    """Up to `most` layers; layers whose window does not fit any more, or reads only padding, are left out."""
    size = draw(st.tuples(st.integers(1, largest), st.integers(1, largest)))
    kept: list[Window] = []
    for window in draw(st.lists(windows(), min_size=1, max_size=most)):
        before, after = Chain((*kept, window), size).sizes[-2:]
        if min(after) >= 1 and any(window.reads(point, before) for point in product(*map(range, after))):
            kept.append(window)
    return Chain(tuple(kept) or (Window("conv", (1, 1), (1, 1), (1, 1), (0, 0)),), size)


def elements(region: isl.Set) -> set[Element]:
    """All points of a bounded set."""
    assert region.is_bounded()
    found: set[Element] = set()
    count = region.dim(isl.dim_type.set)
    region.foreach_point(
        lambda point: found.add(tuple(point.get_coordinate_val(isl.dim_type.set, d).to_python() for d in range(count)))
    )
    return found


def pairs(relation: isl.Map) -> Pairs:
    """All pairs of a bounded map."""
    rank = relation.dim(isl.dim_type.in_)
    return {(point[:rank], point[rank:]) for point in elements(relation.wrap().flatten())}


def image_pairs(relation: isl.Map) -> Pairs:
    """The pairs of `{ A[0, 0, h, w] -> tile[0, t] }` without batch and channel."""
    return {(element[2:], tile[1:]) for element, tile in pairs(relation)}


def size_of(relation: isl.Set | isl.Map) -> int:
    """The number of points or pairs of a bounded relation."""
    region = relation.wrap() if isinstance(relation, isl.Map) else relation
    assert region.is_bounded()
    return int(str(region.count_val()))


def relation_of(found: Iterable[tuple[Element, Element]], domain: str, range_: str, ranks: tuple[int, int]) -> isl.Map:
    """The map of some pairs."""
    ins, outs = (", ".join(f"{letter}{d}" for d in range(rank)) for letter, rank in zip("io", ranks, strict=True))
    relation = isl.Map(f"{{ {domain}[{ins}] -> {range_}[{outs}] : false }}")
    for source, target in found:
        text = f"{{ {domain}[{', '.join(map(str, source))}] -> {range_}[{', '.join(map(str, target))}] }}"
        relation = relation.union(isl.Map(text))
    return relation


# Plain Python


def first_of_groups(found: Pairs, kept: Sequence[int]) -> Pairs:
    """Of the pairs (element, tile) that agree in the element and in the coordinates outside of `kept`, the first."""
    groups: dict[tuple[Element, Element], list[Element]] = {}
    for element, tile in found:
        rest = tuple(t for d, t in enumerate(tile) if d not in kept)
        groups.setdefault((element, rest), []).append(tile)
    return {(element, min(tiles, key=lambda t: [t[d] for d in kept])) for (element, _), tiles in groups.items()}


def retained(need: Pairs, anywhere: Pairs, places: Sequence[str], placement: str) -> tuple[Pairs, Pairs, Pairs]:
    """Arrivals, executions and loads."""
    local = [d for d, place in enumerate(places) if place == "local"]
    kept = [d for d, place in enumerate(places) if place != "recompute"]
    arrivals = first_of_groups(need if placement == "first" else need | anywhere, local)
    outside = {(element, tuple(t for d, t in enumerate(tile) if d not in local)) for element, tile in need}
    arrivals = {
        (element, tile)
        for element, tile in arrivals
        if (element, tuple(t for d, t in enumerate(tile) if d not in local)) in outside
    }
    executions = first_of_groups(arrivals, kept)
    return arrivals, executions, arrivals - executions
