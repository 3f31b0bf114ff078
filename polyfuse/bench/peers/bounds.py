"""What a network costs at least: work, bytes, and how fast a machine does them.

A `Network` and a `Machine` enter; the numbers of a bound leave.
"""

from polyfuse.machines.host import Bandwidth, Level, Machine
from polyfuse.network.network import Network
from polyfuse.schedule.counts import macs_of


def direct_flops(network: Network) -> int:
    """Two for each multiply-accumulate of the direct algorithm; taps on padding are none.

    >>> from polyfuse.network.network import Builder
    >>> build = Builder("one")
    >>> direct_flops(build.network(build.conv("c", build.input("x", (1, 2, 4, 4)), 3, kernel=3)))
    432
    """
    return 2 * macs_of(network.layers)


def compulsory_bytes(network: Network) -> int:
    """Inputs, outputs and weights, each once.

    >>> from polyfuse.network.network import Builder
    >>> build = Builder("one")
    >>> compulsory_bytes(build.network(build.conv("c", build.input("x", (1, 2, 4, 4)), 3, kernel=3)))
    404
    """
    weights = {tensor for layer in network.layers for tensor in layer.weights}
    return sum(tensor.elements * tensor.element_bytes for tensor in (*network.inputs, *network.outputs, *weights))


def peak_of(machine: Machine, threads: int) -> float:
    """GFLOP/s of so many threads, each on a core of its own."""
    return max(peak.gflop_per_second for peak in machine.peaks) * min(threads, machine.cores)


def level_for(machine: Machine, size: int) -> Level:
    """The nearest level that holds so many bytes: where they come from when a run follows another."""
    return next((level for level in machine.levels if size <= level.capacity_bytes), machine.levels[-1])


def bandwidth_of(level: Level, machine: Machine, threads: int) -> float:
    """GB/s that so many threads get from a level at best: reading, writing or copying."""
    one, every = best_rate(level.one_core), best_rate(level.all_cores)
    return min(one * threads, every) if min(threads, machine.cores) > 1 else one


def best_rate(bandwidth: Bandwidth) -> float:
    """The fastest of the three ways to move bytes."""
    return max(bandwidth.read_gb_per_second, bandwidth.write_gb_per_second, bandwidth.copy_gb_per_second)
