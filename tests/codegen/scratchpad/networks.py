"""Small networks that hold what plans are hard on: residuals, concatenations, squeeze and excitation, batches."""

from polyfuse.network.layers.copies import transpose
from polyfuse.network.layers.reductions import softmax
from polyfuse.network.network import Builder, Network


def chain() -> Network:
    """Strides, padding, a depthwise convolution and a pool."""
    build = Builder("chain")
    x = build.input("x", (1, 4, 40, 24))
    y = build.conv("c1", x, 8, kernel=3, stride=2, padding=1, activation="relu")
    y = build.depthwise("dw", y, kernel=3, padding=(1, 0, 2, 1), activation="relu6")
    y = build.max_pool("pool", y, kernel=3, stride=2, padding=1)
    return build.network(build.conv("c2", y, 6, kernel=(3, 1), dilation=(2, 1), groups=2, activation="silu"))


def squeeze(images: int = 1) -> Network:
    """Squeeze and excitation: what is scaled is read twice, and once as a whole."""
    build = Builder("squeeze")
    x = build.input("x", (images, 6, 14, 13))
    e = build.conv("e", x, 12, kernel=1, activation="hard_swish")
    d = build.depthwise("d", e, kernel=5, padding=2, stride=2, activation="relu6")
    s = build.conv("s1", build.global_average_pool("g", d), 4, kernel=1, activation="silu")
    s = build.conv("s2", s, 12, kernel=1, activation=("hard_sigmoid", 1 / 6, 0.5))
    return build.network(build.conv("p", build.arithmetic("m", "mul", d, s), 6, kernel=1))


def branches() -> Network:
    """A concatenation, a residual, and an output that others read, too."""
    build = Builder("branches")
    x = build.input("x", (1, 5, 12, 12))
    a = build.conv("a", x, 4, kernel=1, activation="relu")
    b = build.conv("b", build.conv("b0", x, 3, kernel=1), 5, kernel=3, padding=1)
    q = build.conv("q", build.max_pool("q0", x, kernel=3, stride=1, padding=1), 3, kernel=1)
    z = build.conv("z", build.concat("all", a, b, q), 6, kernel=3, padding=1)
    r = build.arithmetic("r", "add", z, build.conv("y", z, 6, kernel=3, padding=1), activation="relu")
    return build.network(build.average_pool("end", r, kernel=2, stride=2), z)


def classifier() -> Network:
    """Up, down, flat: a transposed convolution, a resize, a flatten, a product of matrices, a softmax."""
    build = Builder("classifier")
    x = build.input("x", (1, 3, 9, 7))
    y = build.conv_transpose("up", x, 4, kernel=3, stride=2, padding=1)
    y = build.conv("down", build.prelu("act", build.resize("big", y, 2)), 5, kernel=3, stride=3)
    y = build.add(transpose("turned", y, (0, 2, 3, 1)))
    y = build.linear("classes", y, 10, "relu")
    for layer in softmax("share", y, (1,)):
        y = build.add(layer)
    return build.network(y)
