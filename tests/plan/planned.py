"""Small networks for plans: a chain, a residual, branches that are joined, a squeeze-and-excite block."""

from polyfuse.machines.accelerator import Accelerator, accelerator
from polyfuse.network.network import Builder, Network

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


def inception() -> Network:
    """A module of four branches that are concatenated, and the first convolution of the next."""
    build = Builder("inception")
    x = build.input("x", (1, 16, SIDE, SIDE))
    one = build.conv("one", x, 8, kernel=1)
    three = build.conv("three", build.conv("three_reduce", x, 8, kernel=1), 16, kernel=3, padding=1)
    five = build.conv("five", build.conv("five_reduce", x, 4, kernel=1), 8, kernel=5, padding=2)
    pool = build.conv("project", build.max_pool("pool", x, kernel=3, stride=1, padding=1), 8, kernel=1)
    joined = build.concat("joined", one, three, five, pool)
    return build.network(build.conv("next", joined, 16, kernel=1))


def squeeze_and_excite() -> Network:
    """A block of EfficientNet: expanded, depthwise, scaled by what its average says, projected and added."""
    build = Builder("squeeze")
    x = build.input("x", (1, CHANNELS, SIDE, SIDE))
    wide = build.conv("expand", x, 4 * CHANNELS, kernel=1)
    deep = build.depthwise("depthwise", wide, kernel=3, padding=1)
    mean = build.global_average_pool("mean", deep)
    scale = build.conv("excite", build.conv("squeeze", mean, 4, kernel=1), 4 * CHANNELS, kernel=1)
    scaled = build.arithmetic("scaled", "mul", deep, scale)
    return build.network(build.arithmetic("sum", "add", build.conv("project", scaled, CHANNELS, kernel=1), x))


NETWORKS = {"chain": chain, "residual": residual, "branches": branches}


def machine(capacity_bytes: int = 16384, name: str = "npu-memory-bound") -> Accelerator:
    """A shipped machine with little memory."""
    return accelerator(name).with_capacity(capacity_bytes)
