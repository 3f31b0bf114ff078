"""From a layer's index text to its statements: the only module, with layers and tests, that writes isl text.

Points are `[n, c, h, w]`. An access is written once, without the borders of the image, and clipped to them here.
"""

from collections.abc import Mapping, Sequence

import islpy as isl
import numpy as np

from polyfuse.errors import InvalidInput
from polyfuse.network import operators
from polyfuse.network.layer import Access, Statement
from polyfuse.network.operators import ACTIVATIONS
from polyfuse.network.tensor import Size, Tensor, box, parameters

POINT = ("n", "c", "h", "w")


class Activation:
    """A pointwise function fused into the last statement of a layer: `"relu"`, `("clip", 0, 6)`, …"""

    def __init__(self, spec: str | Sequence[object]) -> None:
        name, *arguments = (spec,) if isinstance(spec, str) else tuple(spec)
        if not isinstance(name, str) or name not in ACTIVATIONS:
            raise InvalidInput(f"activation {name!r}: expected one of {', '.join(sorted(ACTIVATIONS))}")
        self.template, self.function, wanted = ACTIVATIONS[name]
        if len(arguments) != wanted or not all(isinstance(a, int | float) and np.isfinite(a) for a in arguments):
            raise InvalidInput(f"activation {name!r}: expected {wanted} finite numbers, got {arguments}")
        self.name = name
        self.arguments = tuple(float(str(a)) for a in arguments)

    def text(self, operand: str) -> str:
        """The expression that applies it."""
        return self.template.format(operand, *(f"({a!r})" for a in self.arguments))

    def __reduce__(self) -> tuple[type["Activation"], tuple[object, ...]]:
        """Pickled as what it was made of, since its function has no name."""
        return Activation, ((self.name, *self.arguments),)

    def __call__(self, x: operators.Array) -> operators.Array:
        return np.asarray(self.function(x, *self.arguments), dtype=np.float64)


def clipped(tensor: Tensor, domain: isl.Set, extended: isl.Map) -> Access:
    """The access whose relation is the extended one inside the image."""
    return Access(tensor, extended.intersect_domain(domain).intersect_range(tensor.box), extended)


def window_statement(
    name: str,
    out: Tensor,
    bounds: Mapping[str, Size],
    reads: Mapping[str, tuple[Tensor, str]],
    windowed: str,
    expression: str,
    macs: int,
) -> Statement:
    """One reduction statement: instances whose `windowed` operand is inside the image."""
    dims = (*POINT, *bounds)
    sizes = (*out.shape, *bounds.values())
    everything = box(name, dims, sizes)
    inner = " and ".join(f"0 <= {d} < {s}" for d, s in {"n": out.shape[0], "c": out.shape[1], **bounds}.items())
    operands = {}
    for operand, (tensor, index) in reads.items():
        head = parameters((*sizes, *tensor.shape))
        extended = isl.Map(f"{head} {{ {name}[{', '.join(dims)}] -> {tensor.name}[{index}] : {inner} }}")
        operands[operand] = clipped(tensor, everything, extended)
    domain = operands[windowed].relation.domain()
    existing = {o: Access(a.tensor, a.relation.intersect_domain(domain), a.extended) for o, a in operands.items()}
    return Statement(name, dims, domain, existing, expression, macs)


def point_statement(
    name: str, out: Tensor, reads: Mapping[str, tuple[Tensor, str]], expression: str, where: str = "true"
) -> Statement:
    """One statement with an instance for each point where a condition on the point holds.

    An operand of size 1 along an axis is broadcast: beyond the image, too, infinitely many points would read its one
    element, so that no tile would be the first to need it. Only points of the image are said to.
    """
    domain = box(name, POINT, out.shape) & isl.Set(f"{{ {name}[{', '.join(POINT)}] : {where} }}")
    operands = {}
    for operand, (tensor, index) in reads.items():
        axes = zip(POINT, out.shape, tensor.shape if len(tensor.shape) == len(POINT) else out.shape, strict=True)
        finite = [(d, size) for d, size, read in axes if d in "nc" or (read == 1 and size != 1)]
        inside = " and ".join(f"0 <= {d} < {size}" for d, size in finite)
        head = parameters((*out.shape, *tensor.shape))
        point = f"{name}[{', '.join(POINT)}]"
        extended = isl.Map(f"{head} {{ {point} -> {tensor.name}[{index}] : {inside} and ({where}) }}")
        operands[operand] = clipped(tensor, domain, extended)
    return Statement(name, POINT, domain, operands, expression)
