"""Small networks for plans: a chain, a residual, branches that are joined, a squeeze-and-excite block."""

from polyfuse.network.network import Builder, Network
from polyfuse.plan.accelerator import Accelerator, accelerator

SIDE, CHANNELS = 24, 16


def chain(length: int = 4) -> Network:
    """Convolutions of 3x3, one after the other."""
    build = Builder("chain")
    x = build.input("x", (1, CHANNELS, SIDE, SIDE))
    for k in range(length):
        x = build.conv(f"c{k}", x, CHANNELS, kernel=3, padding=1)
    return build.network(x)


def residual() -> Network:
    """Two blocks of two convolutions with an addition."""
    build = Builder("residual")
    x = build.conv("stem", build.input("x", (1, 3, SIDE, SIDE)), CHANNELS, kernel=3, padding=1)
    for k in range(2):
        y = build.conv(f"a{k}", x, 2 * CHANNELS, kernel=1)
        x = build.arithmetic(f"add{k}", "add", build.conv(f"b{k}", y, CHANNELS, kernel=3, padding=1), x)
    return build.network(x)


def branches() -> Network:
    """Two branches from one tensor, concatenated and read again."""
    build = Builder("branches")
    x = build.conv("stem", build.input("x", (1, 3, SIDE, SIDE)), CHANNELS, kernel=3, padding=1)
    left = build.conv("left", x, 8, kernel=1)
    right = build.conv("right", build.conv("squeeze", x, 4, kernel=1), 8, kernel=3, padding=1)
    return build.network(build.conv("last", build.concat("both", left, right), CHANNELS, kernel=1))


NETWORKS = {"chain": chain, "residual": residual, "branches": branches}


def machine(capacity_bytes: int = 16384, name: str = "npu-memory-bound") -> Accelerator:
    """A shipped machine with little memory."""
    return accelerator(name).with_capacity(capacity_bytes)
