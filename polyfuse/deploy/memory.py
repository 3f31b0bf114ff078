"""What a planned network moves and needs, counted exactly: off-chip bytes, and memory for tensors between groups.

    LoweredProgram ──footprint()──> Footprint

Off-chip bytes are those of a machine whose fast memory holds what the groups keep on chip, as `polyfuse compare` counts
them: tensors between groups are written once and read once by each group, a tile's halo again where it is not kept;
concats that need no copies move nothing. An instrumented run of the staged form counts the same. Memory is that of the
C that is compiled, byte for byte: `NAME_ARENA_BYTES` of its header, inputs and outputs.
"""

from dataclasses import dataclass

from polyfuse.codegen.lower.program import LoweredProgram
from polyfuse.deploy.library import ArenaBytes
from polyfuse.network.network import Network
from polyfuse.network.tensor import Tensor
from polyfuse.schedule.counts import counts, total


@dataclass(frozen=True)
class Footprint:
    """What the C of a program moves and needs, in bytes.

    onchip: the buffers of the largest group and the workspace in which it computes, of all threads. arena: tensors
    between groups. ends: inputs and outputs.
    """

    offchip_read: int
    offchip_write: int
    onchip: int
    arena: int
    ends: int

    @property
    def offchip(self) -> int:
        """Off-chip bytes read and written."""
        return self.offchip_read + self.offchip_write

    @property
    def memory(self) -> int:
        """The tensors between groups, buffers and workspace, inputs and outputs: all but weights and the stack."""
        return self.arena + self.onchip + self.ends


def footprint(program: LoweredProgram, threads: int = 1) -> Footprint:
    """The bytes that a program's groups move, and its memory when so many threads run it."""
    moved = total(counts(group.storage) for group in program.groups)
    ends = sum(program.array(tensor).bytes for tensor in (*program.network.inputs, *program.network.outputs))
    memory = ArenaBytes.of(program, threads)
    onchip = memory.bytes - memory.scratch
    return Footprint(moved.offchip_read_bytes, moved.offchip_write_bytes, onchip, memory.scratch, ends)


def least_layer_by_layer(network: Network) -> int:
    """The bytes of activations that are alive at once when layers run one by one, in the network's order.

    What any way of running whole layers needs: inputs until their last reader, outputs from their maker on.

    >>> from polyfuse.network.network import Builder
    >>> build = Builder("pair")
    >>> x = build.input("x", (1, 1, 20, 20))
    >>> least_layer_by_layer(build.network(build.conv("b", build.conv("a", x, 2, kernel=3), 1, kernel=3)))
    4192
    """
    last: dict[Tensor, int] = {}
    for step, layer in enumerate(network.layers):
        last |= dict.fromkeys((*layer.inputs, layer.output), step)
    last |= dict.fromkeys(network.outputs, len(network.layers))
    alive = [tensor for tensor in network.inputs if tensor in last]
    most = 0
    for step, layer in enumerate(network.layers):
        alive.append(layer.output)
        most = max(most, sum(tensor.element_bytes * tensor.elements for tensor in alive))
        alive = [tensor for tensor in alive if last[tensor] > step]
    return most
