"""Buffers on chip: the cell of each element of a tensor, as a list of indices.

    cell : { [tile[t] -> A[a]] -> buffer[c] }

`windows` finds them from liveness, `storagemaps` reads them from text, `legality` judges them.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from math import prod

import islpy as isl

from polyfuse.errors import InvalidInput
from polyfuse.network.tensor import Tensor
from polyfuse.schedule.schedule import Schedule
from polyfuse.sets.spaces import relation_space
from polyfuse.whole import shown
from polyfuse.whole import whole as whole_number

LARGEST_WINDOW = 1 << 30
"""Generated code counts in 32 bits."""


@dataclass(frozen=True, eq=False)
class Index:
    """One index of a cell: `origin mod window`; no modulo where `folded` is False.

    `origin` is any expression over `[tile[t] -> A[a]]`, such as `a - 4t`; one in pieces is an isl.PwAff.

    Errors: InvalidInput for a window that is no whole number from 1 to LARGEST_WINDOW.
    """

    origin: isl.Aff | isl.PwAff
    window: int
    folded: bool

    def __post_init__(self) -> None:
        if not isinstance(self.origin, isl.Aff | isl.PwAff) or not isinstance(self.folded, bool):
            raise InvalidInput(
                "index of a buffer: expected an isl.Aff or isl.PwAff as its origin and folded True or False, got "
                f"{shown(self.origin)} and {shown(self.folded)}"
            )
        window = whole_number(self.window, "index of a buffer: window", 1, LARGEST_WINDOW)
        object.__setattr__(self, "window", window)

    @property
    def pieces(self) -> tuple[isl.Aff, ...]:
        """The expressions of the origin, without their domains."""
        return (self.origin,) if isinstance(self.origin, isl.Aff) else tuple(aff for _, aff in self.origin.get_pieces())

    @property
    def affine(self) -> isl.Aff:
        """The origin where it is one expression, as those of rows are."""
        assert isinstance(self.origin, isl.Aff), f"{self.origin}: in pieces"
        return self.origin

    @property
    def unfolded(self) -> isl.PwAff:
        """`{ [tile[t] -> A[a]] -> [c] }`: the index without its modulo."""
        return isl.PwAff.from_aff(self.origin) if isinstance(self.origin, isl.Aff) else self.origin

    @property
    def value(self) -> isl.PwAff:
        """`{ [tile[t] -> A[a]] -> [c] }`: the index, modulo its window where it is a ring."""
        return self.unfolded.mod_val(isl.Val(self.window)) if self.folded else self.unfolded

    def involves(self, position: int) -> bool:
        """Whether a variable of `[tile[t] -> A[a]]` has a part in the index."""
        return bool(self.origin.involves_dims(isl.dim_type.in_, position, 1))


@dataclass(frozen=True, eq=False)
class Buffer:
    """The on-chip cells of one tensor, row-major.

    Buffers of one `array`, which then has a name, share their cells: they have one shape and one type of element.
    """

    tensor: Tensor
    indices: tuple[Index, ...]
    array: str | None = None

    @property
    def name(self) -> str:
        """The name of the array: as given, or that of the tensor's own."""
        return f"{self.tensor.name}_buffer" if self.array is None else self.array

    @property
    def shape(self) -> tuple[int, ...]:
        """The window of every index."""
        return tuple(index.window for index in self.indices)

    @property
    def bytes(self) -> int:
        """The size of the buffer."""
        return prod(self.shape) * self.tensor.element_bytes

    def widened(self, cut: Collection[int]) -> "Buffer":
        """The buffer as row kernels have it, in which rows, and all axes but those that tiles `cut`, are whole.

        An array of the user's own stays as it is.
        """
        copies = len(self.indices) - len(self.tensor.shape)
        if self.array is not None or copies < 0:
            return self
        whole = {copies + axis for axis in range(len(self.tensor.shape)) if axis not in cut}
        whole |= {len(self.indices) - 1} if self.indices[-1].folded else set()
        return replace(
            self, indices=tuple(self.whole(k) if k in whole else self.indices[k] for k in range(len(self.indices)))
        )

    def whole(self, k: int) -> Index:
        """The index of an axis with no ring: the element itself."""
        index, rank, size = self.indices[k], len(self.tensor.shape), self.tensor.concrete_shape[k - len(self.indices)]
        space = index.origin.get_domain_space()
        element = variable(space, space.dim(isl.dim_type.set) - rank + k - (len(self.indices) - rank))
        same = not index.folded and index.window >= size and index.unfolded.is_equal(isl.PwAff.from_aff(element))
        return index if same else Index(element, size, False)

    def forms(self, cut: Collection[int]) -> tuple["Buffer", ...]:
        """The buffer as it is, and widened where that may not be as legal: where what changes begins with the tile."""
        widened = self.widened(cut)
        tiles = range(self.indices[0].origin.dim(isl.dim_type.in_) - len(self.tensor.shape))
        changed = (mine for mine, other in zip(self.indices, widened.indices, strict=True) if mine is not other)
        return (self, widened) if any(index.involves(d) for index in changed for d in tiles) else (self,)

    @property
    def cell(self) -> isl.PwMultiAff:
        """`{ [tile[t] -> A[a]] -> buffer[c] }`."""
        space = self.indices[0].origin.get_domain_space()
        range_ = isl.Space.set_alloc(isl.DEFAULT_CONTEXT, 0, len(self.indices))
        space = space.map_from_domain_and_range(range_.set_tuple_name(isl.dim_type.set, self.name))
        result = isl.PwMultiAff.from_multi_aff(isl.MultiAff.zero(space))
        for k, index in enumerate(self.indices):
            result = result.set_pw_aff(k, index.value)
        return result

    def __str__(self) -> str:
        sizes = ", ".join(f"{i.window}{' (ring)' if i.folded else ''}" for i in self.indices)
        return f"{self.name}[{sizes}]"

    __repr__ = __str__


def tile_and_element(schedule: Schedule, tensor: Tensor) -> isl.Space:
    """`[tile[t] -> A[a]]`."""
    return relation_space(schedule.tiling.space, tensor.box.get_space()).wrap()


def variable(space: isl.Space, position: int) -> isl.Aff:
    """One dimension of a set space, as an expression."""
    return isl.Aff.var_on_domain(isl.LocalSpace.from_space(space), isl.dim_type.set, position)
