"""Storage: the on-chip buffer of every tensor of a group.

Schedule ──storage()──> Storage
"""

from collections.abc import Mapping
from dataclasses import dataclass

from polyfuse.doors import public
from polyfuse.schedule.cells import Buffer
from polyfuse.schedule.schedule import Schedule
from polyfuse.schedule.windows import buffer, whole
from polyfuse.sets.limits import operation_limit
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


def storage(schedule: Schedule) -> Storage:
    """Size the buffers of a schedule; concrete sizes only.

    Errors: Unbounded where infinitely many elements are alive at once, TooComplex above isl's operation limit.
    """
    buffers = {}
    for name, flow in schedule.flows.items():
        with operation_limit(what=f"buffer of {name!r}"):
            buffers[name] = buffer(schedule, flow)
    for weight in schedule.preloaded:
        buffers[weight.name] = whole(schedule, weight)
    return Storage(schedule, buffers)
