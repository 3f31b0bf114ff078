"""A program for a device that runs work groups, in the dialect of its target: scalar code, float32, in place.

Network + Storage of each group + Target ──device_program()──> DeviceProgram
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from polyfuse.codegen.emit.group import Emitter, Group
from polyfuse.codegen.emit.workgroups import device_file
from polyfuse.codegen.lower.independent import check_distinct_cells, independent_tiles
from polyfuse.codegen.lower.program import LoweredProgram, lowered
from polyfuse.codegen.lower.selection import Selection
from polyfuse.codegen.target import Target
from polyfuse.errors import InvalidInput
from polyfuse.network.network import Network, require_float32
from polyfuse.schedule.storage import Storage


@dataclass(frozen=True, eq=False)
class DeviceProgram:
    """A kernel for each group, to be run in order.

    The parameters of a kernel are the off-chip arrays of its group; `work_groups` says how many tiles each has that
    work groups can share: as many work groups as these keep them all busy, and any number computes all.
    """

    lowered: LoweredProgram
    groups: tuple[Group, ...]
    work_groups: tuple[int, ...]

    @cached_property
    def source(self) -> str:
        """The whole file."""
        return device_file(self.lowered.network, self.groups, self.lowered.selection.target.dialect)


def device_program(network: Network, groups: Sequence[Storage], target: Target) -> DeviceProgram:
    """The program of a network whose groups are scheduled and stored, and proved legal, by the caller.

    Errors: InvalidInput where the groups do not make the network's outputs, for elements that are not float32 and times
    inside of tiles; IllegalSchedule where tiles of a group depend on one another.
    """
    if any(storage.schedule.times for storage in groups):
        raise InvalidInput(
            f"program of {network.name!r}: work items share the points of a stage, times inside of tiles order them; "
            "build C for this host, or leave the times out"
        )
    require_float32(network, target.dialect.name)
    program = lowered(network, groups, kernels=Selection(target))
    work_groups = tuple(independent_tiles(group) for group in program.groups)
    for group in program.groups:
        check_distinct_cells(group)
    emitter = Emitter(instrumented=False)
    return DeviceProgram(program, tuple(emitter.group(group, {}) for group in program.groups), work_groups)
