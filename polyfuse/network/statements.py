"""From a layer's index text to its statements: the only module, with layers and tests, that writes isl text.

Points are `[n, c, h, w]`, or `[d0, d1, …]` where they have another rank. An access is written once, without the borders
of the image, and clipped to them here.
"""

import re
from collections.abc import Collection, Mapping, Sequence

import islpy as isl

from polyfuse.network.layer import Access, Statement
from polyfuse.network.tensor import Size, Tensor, box, parameters

POINT = ("n", "c", "h", "w")


def clipped(tensor: Tensor, domain: isl.Set, extended: isl.Map) -> Access:
    """The access whose relation is the extended one inside the image."""
    return Access(tensor, extended.intersect_domain(domain).intersect_range(tensor.box), extended)


def point_dims(rank: int) -> tuple[str, ...]:
    """The names of the indices of a point: `n, c, h, w` for images, `d0, d1, …` for tensors of another rank.

    >>> point_dims(4), point_dims(2)
    (('n', 'c', 'h', 'w'), ('d0', 'd1'))
    """
    return POINT if rank == len(POINT) else tuple(f"d{d}" for d in range(rank))


def window_statement(
    name: str,
    out: Tensor,
    bounds: Mapping[str, Size],
    reads: Mapping[str, tuple[Tensor, str]],
    windowed: str,
    expression: str,
    macs: int,
    where: str = "true",
) -> Statement:
    """One reduction statement: instances where a condition holds and whose `windowed` operand is inside the image."""
    point = point_dims(len(out.shape))
    dims, sizes = (*point, *bounds), (*out.shape, *bounds.values())
    everything = box(name, dims, sizes)
    operands = {}
    for operand, (tensor, index) in reads.items():
        inner = {d: s for d, s in zip(point, out.shape, strict=True) if d in _bounded(point, index)} | dict(bounds)
        extended = _extended(name, dims, (*sizes, *tensor.shape), tensor, index, inner, where)
        operands[operand] = clipped(tensor, everything, extended)
    domain = operands[windowed].relation.domain()
    existing = {o: Access(a.tensor, a.relation.intersect_domain(domain), a.extended) for o, a in operands.items()}
    return Statement(name, dims, domain, existing, expression, macs)


def point_statement(
    name: str,
    out: Tensor,
    reads: Mapping[str, tuple[Tensor, str]],
    expression: str,
    where: str = "true",
    inside: Collection[str] = (),
    tables: Mapping[str, Tensor] | None = None,
) -> Statement:
    """One statement with an instance for each point where a condition on the point holds.

    Beyond the borders of the image nothing is read along an axis that is named in `inside`, since the index would mean
    another element there, nor along one that an operand is broadcast along: infinitely many points would read its one
    element, and no tile would be the first to need it. Of `tables` each point may read any element.
    """
    dims = point_dims(len(out.shape))
    domain = box(name, dims, out.shape) & isl.Set(f"{{ {name}[{', '.join(dims)}] : {where} }}")
    operands = {}
    for operand, (tensor, index) in reads.items():
        bounded = _bounded(dims, index) | set(inside)
        inner = {d: size for d, size in zip(dims, out.shape, strict=True) if d in bounded}
        extended = _extended(name, dims, (*out.shape, *tensor.shape), tensor, index, inner, where)
        operands[operand] = clipped(tensor, domain, extended)
    for operand, table in (tables or {}).items():
        extended = isl.Map.from_domain_and_range(domain, table.box)
        operands[operand] = Access(table, extended, extended)
    return Statement(name, dims, domain, operands, expression)


def _bounded(point: Sequence[str], index: str) -> frozenset[str]:
    """The indices of a point that stay in the image: images and channels, and those that a read does not depend on."""
    return frozenset(d for d in point if d in ("n", "c") or not re.search(rf"\b{d}\b", index))


def _extended(
    name: str,
    dims: Sequence[str],
    sizes: Sequence[Size],
    tensor: Tensor,
    index: str,
    inner: Mapping[str, Size],
    where: str,
) -> isl.Map:
    """`{ S[dims] -> A[index] }` where some dims are inside of their sizes and the others anywhere."""
    bounds = " and ".join([f"0 <= {d} < {size}" for d, size in inner.items()] + [f"({where})"])
    head = parameters(tuple(sizes))
    return isl.Map(f"{head} {{ {name}[{', '.join(dims)}] -> {tensor.name}[{index}] : {bounds} }}")
