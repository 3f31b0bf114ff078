"""Small networks of the shapes that whole networks have: chains, branches, residuals."""

from polyfuse.network.network import Builder, Network


def chain(layers: int = 4, size: int = 12) -> Network:
    """3x3 convolutions one after the other, the first with a stride."""
    build = Builder("chain")
    x = build.input("x", (1, 3, size, size))
    for k in range(layers):
        x = build.conv(f"c{k}", x, 16, kernel=3, padding=1, stride=2 if k == 0 else 1, activation="relu")
    return build.network(x)


def block(name: str = "block") -> Network:
    """An inverted residual block between a first and a last convolution, then a mean of channels."""
    build = Builder(name)
    x = build.conv("stem", build.input("x", (1, 3, 16, 16)), 16, kernel=3, stride=2, padding=1, activation="relu6")
    y = build.conv("expand", x, 48, kernel=1, activation="relu6")
    y = build.depthwise("middle", y, kernel=3, padding=1, activation="relu6")
    y = build.conv("project", y, 16, kernel=1)
    y = build.arithmetic("sum", "add", y, x)
    return build.network(build.global_average_pool("mean", build.conv("last", y, 20, kernel=1)))


def branches() -> Network:
    """Two branches from one tensor, written down in turns, that meet in a concat."""
    build = Builder("branches")
    x = build.conv("stem", build.input("x", (1, 3, 10, 10)), 16, kernel=1)
    a = build.conv("a1", x, 16, kernel=1)
    b = build.conv("b1", x, 16, kernel=1)
    a = build.conv("a2", a, 16, kernel=3, padding=1)
    b = build.conv("b2", b, 16, kernel=5, padding=2)
    return build.network(build.conv("end", build.concat("both", a, b), 8, kernel=1))


def growing() -> Network:
    """Every concat has all that came before in it, as in DenseNet; one operand fills no block."""
    build = Builder("growing")
    x = build.conv("stem", build.input("x", (1, 3, 10, 10)), 16, kernel=3, padding=1)
    for k, channels in enumerate((32, 16, 20)):
        y = build.conv(f"y{k}", x, channels, kernel=3 if k % 2 else 1, padding=k % 2, activation="relu")
        x = build.concat(f"x{k}", x, y)
    return build.network(build.conv("end", x, 24, kernel=1))
