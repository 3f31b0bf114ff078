"""Storage: the on-chip buffer of every tensor of a group, found from liveness or chosen.

Schedule (+ maps from elements to cells) ──storage()──> Storage
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from polyfuse.doors import public
from polyfuse.schedule.cells import Buffer
from polyfuse.schedule.schedule import Schedule
from polyfuse.schedule.storagemaps import chosen
from polyfuse.schedule.windows import buffer, whole
from polyfuse.sets.limits import operation_limit
from polyfuse.sets.reading import MapLike
from polyfuse.text import columns, html_table


@public
@dataclass(frozen=True, eq=False)
class Storage:
    """The buffers of a group: one for every tensor with stages, one for every weight kept on chip."""

    schedule: Schedule
    buffers: Mapping[str, Buffer]

    @property
    def onchip_bytes(self) -> int:
        """The bytes of all buffers together; those of one array count once."""
        return sum({buffer.name: buffer.bytes for buffer in self.buffers.values()}.values())

    def __str__(self) -> str:
        lines = columns([(str(buffer), buffer.bytes) for buffer in self.buffers.values()], indent=2)
        head = f"{self.schedule.network.name}: tile {self.schedule.tiling}, {self.onchip_bytes:,} B on chip"
        return "\n".join([head, *lines])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows = [(buffer, f"{buffer.bytes:,}") for buffer in self.buffers.values()]
        return html_table(str(self).splitlines()[0], ("buffer", "bytes"), rows)


def storage(
    schedule: Schedule, maps: Mapping[str, MapLike] | None = None, shapes: Mapping[str, Sequence[int]] | None = None
) -> Storage:
    """Size the buffers of a schedule; concrete sizes only.

    `maps` has the cells of tensors whose storage you choose, by name, as isl text or relations:

        { A[a] -> array[c] }  or, where they depend on the tile,  { [tile[t] -> A[a]] -> array[c] }

    Tensors whose maps lead to one array share it. An array is as large as the cells that are used, or as `shapes` says,
    by the name of the array. `check` judges all of it.

    Errors: InvalidInput for maps and shapes of something else, Unbounded where infinitely many elements are alive at
    once, TooComplex above isl's operation limit.

    >>> from polyfuse.network.network import Builder
    >>> from polyfuse.schedule.schedule import scheduled
    >>> from polyfuse.schedule.strategy import Strategy
    >>> build = Builder("pair")
    >>> x = build.input("x", (1, 1, 20, 20))
    >>> y = build.conv("b", build.conv("a", x, 2, kernel=3), 1, kernel=3)
    >>> rows = scheduled(build.network(y), Strategy.named("local", (4,), "shifted"))
    >>> storage(rows).buffers["a_out"]
    a_out_buffer[1, 2, 6 (ring), 18]
    >>> storage(rows, maps={"a_out": "{ a_out[n, c, i, j] -> nhwc[i mod 6, j, c] }"}).buffers["a_out"]
    nhwc[6 (ring), 18, 2]
    """
    buffers = {}
    with operation_limit(what=f"storage maps of {schedule.network.name!r}"):
        given = chosen(schedule, maps or {}, shapes)
    for name, flow in schedule.flows.items():
        with operation_limit(what=f"buffer of {name!r}"):
            buffers[name] = given[name] if name in given else buffer(schedule, flow)
    for weight in schedule.preloaded:
        buffers[weight.name] = given[weight.name] if weight.name in given else whole(schedule, weight)
    return Storage(schedule, buffers)
