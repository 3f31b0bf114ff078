"""A whole program, lowered: its groups, their kernels, and the memory that it needs. Nothing is printed.

Network + Storage of each group + selection of kernels ──lowered()──> LoweredProgram
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from polyfuse.choices import MOST_THREADS, KernelsName
from polyfuse.codegen.c.elements import ELEMENTS
from polyfuse.codegen.lower.concats import holder, is_covered
from polyfuse.codegen.lower.group import LoweredGroup, lowered_group
from polyfuse.codegen.lower.kernels import RowKernels
from polyfuse.codegen.lower.layout import Array
from polyfuse.codegen.lower.places import Places
from polyfuse.codegen.lower.selection import Selection, named_selection
from polyfuse.codegen.rows.interpolation import relative_error
from polyfuse.errors import IllegalSchedule, InvalidInput
from polyfuse.network.dtypes import Values
from polyfuse.network.network import Network, float_type
from polyfuse.network.tensor import Tensor
from polyfuse.plan.memory.addresses import Lived, Packing, packed
from polyfuse.schedule.storage import Storage
from polyfuse.whole import whole

ALIGNMENT = 64
"""Bytes: of a cache line, and of the widest vectors."""


@dataclass(frozen=True, eq=False)
class LoweredProgram:
    """What a program executes and what it needs; sizes are in bytes.

    `scratch` are the off-chip tensors between groups, `kernels` the row kernels of all of them.
    """

    network: Network
    groups: tuple[LoweredGroup, ...]
    kernels: RowKernels
    scratch: tuple[Tensor, ...]
    selection: Selection
    staged: bool
    instrumented: bool

    @cached_property
    def constants(self) -> Mapping[str, Values]:
        """What row kernels and scalar code read of weights, by the name of its array."""
        read = {array.name for group in self.groups for array in group.offchip}
        every = not self.selection.target.has_rows
        raw = {name: value for name, value in self.network.weights.items() if name in read or every}
        return raw | dict(self.kernels.constants)

    @property
    def tiles(self) -> Mapping[str, int]:
        """The tiles of Winograd's algorithm, by layer."""
        return self.kernels.tiles

    @property
    def form(self) -> str:
        """In place, staged or instrumented."""
        return "instrumented" if self.instrumented else "staged" if self.staged else "in place"

    def array(self, tensor: Tensor) -> Array:
        """The off-chip array of an input, an output or a scratch tensor."""
        return self.groups[0].places.array(tensor, True)

    @cached_property
    def arena(self) -> Packing:
        """Addresses for scratch arrays in one piece of memory: each lives from its first group to its last."""
        return packed(lifetimes(self), ALIGNMENT)

    @property
    def addresses(self) -> dict[str, int]:
        """Where each scratch tensor begins in the arena."""
        found = {}
        for tensor in self.scratch:
            whole = holder(tensor, self.selection)
            channel = self.selection.inside[tensor.name].channel if whole != tensor else 0
            array = self.array(whole)
            found[tensor.name] = self.arena.addresses[whole.name] + array.element.bytes * array.offset(channel)
        return found

    @property
    def buffer_bytes(self) -> int:
        """The on-chip buffers of the largest group, one thread, as the C has them."""
        return max(group.buffer_bytes for group in self.groups)

    @property
    def workspace_bytes(self) -> int:
        """What computing takes besides buffers, in each thread: transforms of Winograd's algorithm, sums in blocks."""
        return max(group.workspace_bytes for group in self.groups)

    @property
    def error_bound(self) -> float:
        """What Winograd's algorithm may add to the relative error, summed over its layers; 0 without it."""
        used = ((self.network.layer(name), tile) for name, tile in self.tiles.items())
        return sum(relative_error(tile, layer.inputs[0].concrete_shape[1]) for layer, tile in used)

    @property
    def is_parallel(self) -> bool:
        """Whether some group has a loop that threads share."""
        return self._shares_points or any(group.parallel is not None for group in self.groups)

    @property
    def _shares_points(self) -> bool:
        return any(mark.kind == "parallel" for group in self.groups for mark in group.marks.values())

    def threads_of(self, threads: int) -> int:
        """How many of so many threads are used: no more than there are tiles, unless they share loops inside of tiles.

        The same number is asked for several programs at once, such as the rows of a comparison, and a thread without a
        tile would only take memory.
        """
        return threads if self._shares_points else min(threads, max(group.shared_tiles for group in self.groups))


def lowered(
    network: Network,
    groups: Sequence[Storage],
    *,
    kernels: Selection | KernelsName | None = None,
    staged: bool = False,
    instrumented: bool = False,
) -> LoweredProgram:
    """Lower a network whose groups are scheduled and stored, and proved legal, by the caller.

    `kernels` is `"rows"`, `"scalar"` or what `select_kernels()` chose; `"rows"` is the default of the in-place form, if
    the buffers are of the form that row kernels use.
    `instrumented` implies `staged` for scalar code: what is counted is what a machine without caches would do; with
    row kernels, it is the points that they execute.
    Elements are all float32 or all float64; row kernels are of float32, and scalar code takes their place in float64.
    Errors: InvalidInput where the groups do not make the network's outputs, and for other elements; BuildError for row
    kernels where there is no compiler whose vectors they could be made for.
    """
    dtype = float_type(network, "generated C for this host")
    wanted = kernels if kernels is not None else "scalar" if staged or instrumented else "rows"
    selection = named_selection(network, wanted) if isinstance(wanted, str) else wanted
    selection = selection.holding(ELEMENTS[dtype])
    if staged and selection.target.has_rows:
        raise InvalidInput(f"program of {network.name!r}: row kernels work in place; expected staged=False")
    if selection.target.has_rows and (why := why_no_rows(groups, selection)) is not None:
        if kernels is not None:
            raise InvalidInput(
                f"program of {network.name!r}: row kernels work on whole rows; {why}; or use scalar kernels"
            )
        selection = named_selection(network, "scalar")
    fast = selection.target.has_rows
    staged = staged or (instrumented and not fast)
    scratch = scratch_tensors(network, groups, selection)
    row_kernels = RowKernels(network, selection)
    parts = tuple(
        lowered_group(index, Places(storage, staged, selection), row_kernels, not instrumented)
        for index, storage in enumerate(groups)
    )
    return LoweredProgram(network, parts, row_kernels, scratch, selection, staged, instrumented)


def why_no_rows(groups: Sequence[Storage], selection: Selection) -> str | None:
    """Why row kernels cannot compute some group, or use its buffers; None where they can."""
    found = (Places(storage, False, selection).why_no_rows() for storage in groups)
    return next((why for why in found if why is not None), None)


def scratch_tensors(network: Network, groups: Sequence[Storage], selection: Selection) -> tuple[Tensor, ...]:
    """The off-chip tensors that are neither input, weight nor output: between groups, and stored by retention.

    A tensor that others lie in is made with the last of them.
    """
    given = {*network.inputs, *network.outputs}
    made: set[Tensor] = set(network.inputs)
    scratch = []
    for storage in groups:
        for tensor in storage.schedule.network.inputs:
            if tensor not in made and is_covered(tensor, made, selection):
                made.add(tensor)
                scratch.append(tensor)
            if tensor not in made:
                raise InvalidInput(
                    f"group of {storage.schedule.network.name!r}: reads {tensor} before a group stores it"
                )
        for flow in storage.schedule.flows.values():
            if flow.role == "made" and not flow.stores.is_empty():
                made.add(flow.tensor)
                if flow.tensor not in given:
                    scratch.append(flow.tensor)
    if missing := set(network.outputs) - made:
        raise InvalidInput(f"network {network.name!r}: no group stores its output {missing.pop()}")
    return tuple(dict.fromkeys(scratch))


def lifetimes(program: LoweredProgram) -> list[Lived]:
    """The bytes of each scratch array, and the groups between which what lies in it is needed."""
    uses: dict[Tensor, list[int]] = {}
    for tensor in program.scratch:
        found = (group.index for group in program.groups if tensor in group.tensors)
        uses.setdefault(holder(tensor, program.selection), []).extend(found)
    return [Lived(tensor.name, program.array(tensor).bytes, min(steps), max(steps)) for tensor, steps in uses.items()]


def unsupported_threads(program: LoweredProgram, threads: int) -> None:
    """Refuse threads where a program has nothing to share, and numbers of them that make no sense.

    Errors: InvalidInput, IllegalSchedule.
    """
    whole(threads, f"{program.network.name}: threads", 1, MOST_THREADS)
    if threads > 1 and not program.is_parallel:
        raise IllegalSchedule(
            f"{program.network.name}: {threads} threads were asked for, but values are retained along every tile "
            "dimension; recompute along one (2-D tiles: retain rows, recompute columns) or use one thread"
        )
