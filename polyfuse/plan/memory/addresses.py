"""Addresses in one piece of memory for buffers with different live ranges.

    `Lived` (a name, bytes, the first and the last step at which it is needed) ──packed()──> `Packing`

Buffers that are live at the same step never share a byte. The most bytes alive at any step bound every packing from
below, so a packing says how far it is from the best that there can be.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from polyfuse.errors import InvalidInput


@dataclass(frozen=True)
class Allocation:
    """A piece of the on-chip arena."""

    address: int
    bytes: int


@dataclass(frozen=True)
class Lived:
    """So many bytes that are needed from a first step to a last one, both included."""

    name: str
    bytes: int
    first: int
    last: int

    def __post_init__(self) -> None:
        if self.bytes < 0 or self.last < self.first:
            raise InvalidInput(
                f"buffer {self.name!r}: expected 0 bytes or more and a first step before the last, got {self.bytes} "
                f"bytes, {self.first} to {self.last}"
            )

    def meets(self, other: "Lived") -> bool:
        """Whether both are alive at some step."""
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True)
class Packing:
    """The address of each buffer by name, the bytes of all, and the bytes that are alive at once at most."""

    addresses: Mapping[str, int]
    bytes: int
    live_bytes: int

    @property
    def gap(self) -> float:
        """How much more memory this takes than any packing must: 0 is optimal.

        >>> packed([Lived("a", 64, 0, 1), Lived("b", 128, 1, 2), Lived("c", 64, 2, 3)]).gap
        0.0
        """
        return self.bytes / self.live_bytes - 1 if self.live_bytes else 0.0


def packed(buffers: Sequence[Lived], alignment: int = 64) -> Packing:
    """Pack buffers: each at the lowest free address, in the order, of several, that ends up smallest.

    Errors: InvalidInput for two buffers of one name, and for a negative size or lifetime.

    >>> packed([Lived("a", 100, 0, 1), Lived("b", 100, 1, 2), Lived("c", 100, 2, 3)]).addresses
    {'a': 0, 'b': 128, 'c': 0}
    """
    if len({buffer.name for buffer in buffers}) != len(buffers):
        raise InvalidInput("buffers to pack: two share a name; give each a name of its own")
    orders: tuple[Callable[[Lived], tuple[int, ...]], ...] = (
        lambda b: (-b.bytes, b.first),
        lambda b: (b.first - b.last, -b.bytes),
        lambda b: (b.first, -b.bytes),
        lambda b: (-b.last, -b.bytes),
        lambda b: ((b.first - b.last - 1) * b.bytes,),
    )
    found = (placed(sorted(buffers, key=order), alignment) for order in orders)
    addresses, size = min(found, key=lambda packing: packing[1])
    return Packing({b.name: addresses[b.name] for b in buffers}, size, most_alive(buffers, alignment))


def placed(buffers: Sequence[Lived], alignment: int) -> tuple[dict[str, int], int]:
    """Each buffer at the lowest address that is free while it lives, one after the other, and the bytes of all."""
    addresses: dict[str, int] = {}
    done: list[Lived] = []
    for buffer in buffers:
        taken = sorted((addresses[b.name], addresses[b.name] + b.bytes) for b in done if b.meets(buffer))
        address = 0
        for start, end in taken:
            if address + buffer.bytes <= start:
                break
            address = max(address, aligned_up(end, alignment))
        addresses[buffer.name] = address
        done.append(buffer)
    return addresses, max((aligned_up(addresses[b.name] + b.bytes, alignment) for b in buffers), default=0)


def most_alive(buffers: Sequence[Lived], alignment: int) -> int:
    """The most bytes that are alive at once, each buffer a multiple of the alignment."""
    steps = {buffer.first for buffer in buffers}
    return max(
        (sum(aligned_up(b.bytes, alignment) for b in buffers if b.first <= s <= b.last) for s in steps), default=0
    )


def aligned_up(size: int, alignment: int) -> int:
    """The next multiple of an alignment.

    >>> aligned_up(65, 64), aligned_up(64, 64)
    (128, 64)
    """
    return -(-size // alignment) * alignment
