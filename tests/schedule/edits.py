"""Random edits of a legal group: every field of its storage, and some of its schedule."""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace

import islpy as isl

import polyfuse as pf
from polyfuse.schedule.cells import Buffer, Index

Edit = Callable[[random.Random, pf.Storage], pf.Storage]


def with_buffer(group: pf.Storage, name: str, buffer: Buffer) -> pf.Storage:
    return replace(group, buffers={**group.buffers, name: buffer})


def some_index(rng: random.Random, group: pf.Storage, change: Callable[[Index], Index]) -> pf.Storage:
    """The storage with one index of one buffer changed; buffers of more than one cell come first."""
    name = rng.choice([name for name in group.buffers if not name.endswith("bias")])
    buffer = group.buffers[name]
    k = rng.randrange(len(buffer.indices))
    indices = list(buffer.indices)
    indices[k] = change(indices[k])
    return with_buffer(group, name, replace(buffer, indices=tuple(indices)))


def window(rng: random.Random, group: pf.Storage) -> pf.Storage:
    wanted = rng.choice([-3, -2, -1, -1, 1, 2, 5])
    return some_index(rng, group, lambda index: replace(index, window=max(1, index.window + wanted)))


def ring(rng: random.Random, group: pf.Storage) -> pf.Storage:
    more = rng.choice([-2, -1, 0, 0, 1, 3])
    return some_index(
        rng, group, lambda index: replace(index, folded=not index.folded, window=max(1, index.window + more))
    )


def shift(rng: random.Random, group: pf.Storage) -> pf.Storage:
    by, more = rng.choice([-4, -1, 1, 1, 2, 7]), rng.choice([0, 0, 3, 8])
    return some_index(
        rng,
        group,
        lambda index: replace(index, origin=index.origin.add_constant_val(isl.Val(by)), window=index.window + more),
    )


def slope(rng: random.Random, group: pf.Storage) -> pf.Storage:
    """Another factor of one variable: of a coordinate of the tile, or of an element."""
    factor, position, more = rng.choice([-2, -1, 0, 1, 2, 4]), rng.randrange(8), rng.choice([0, 4, 30])

    def changed(index: Index) -> Index:
        d = position % index.origin.dim(isl.dim_type.in_)
        origin = index.origin.set_coefficient_val(isl.dim_type.in_, d, isl.Val(factor))
        return replace(index, origin=origin, window=index.window + more)

    return some_index(rng, group, changed)


def fraction(rng: random.Random, group: pf.Storage) -> pf.Storage:
    """A floor or a quotient."""
    half = isl.Val("1/2")
    floor = rng.random() < 0.5

    def changed(index: Index) -> Index:
        origin = index.origin.scale_val(half)
        return replace(index, origin=origin.floor() if floor else origin)

    return some_index(rng, group, changed)


def order(rng: random.Random, group: pf.Storage) -> pf.Storage:
    name = rng.choice(list(group.buffers))
    buffer = group.buffers[name]
    indices = list(buffer.indices)
    rng.shuffle(indices)
    return with_buffer(group, name, replace(buffer, indices=tuple(indices)))


def count(rng: random.Random, group: pf.Storage) -> pf.Storage:
    """An index dropped, doubled, or a coordinate of the tile in front."""
    name = rng.choice(list(group.buffers))
    buffer = group.buffers[name]
    indices = list(buffer.indices)
    k = rng.randrange(len(indices))
    what = rng.choice(["drop", "double", "copy"])
    if what == "drop":
        del indices[k]
    elif what == "double":
        indices.insert(k, indices[k])
    else:
        space = isl.LocalSpace.from_space(indices[0].origin.get_domain_space())
        d = rng.randrange(len(group.schedule.tiling.dims))
        indices.insert(0, Index(isl.Aff.var_on_domain(space, isl.dim_type.set, d), rng.choice([1, 2, 9]), True))
    return with_buffer(group, name, replace(buffer, indices=tuple(indices)))


def swap(rng: random.Random, group: pf.Storage) -> pf.Storage:
    """The buffers of two tensors exchanged, or only their tensors."""
    first, second = rng.sample(list(group.buffers), 2)
    a, b = group.buffers[first], group.buffers[second]
    if rng.random() < 0.5:
        return replace(group, buffers={**group.buffers, first: b, second: a})
    return with_buffer(group, first, replace(a, tensor=b.tensor))


def drop(rng: random.Random, group: pf.Storage) -> pf.Storage:
    name = rng.choice(list(group.buffers))
    return replace(group, buffers={key: value for key, value in group.buffers.items() if key != name})


def stranger(rng: random.Random, group: pf.Storage) -> pf.Storage:
    name = rng.choice(list(group.buffers))
    return replace(group, buffers={**group.buffers, "stranger": group.buffers[name]})


def retyped(rng: random.Random, group: pf.Storage) -> pf.Storage:
    """A buffer of a tensor of the same name and another shape or type."""
    name = rng.choice(list(group.buffers))
    buffer = group.buffers[name]
    tensor = rng.choice(
        [replace(buffer.tensor, dtype="int8"), replace(buffer.tensor, shape=tuple(2 * n for n in buffer.tensor.shape))]
    )
    return with_buffer(group, name, replace(buffer, tensor=tensor))


EDITS: Sequence[Edit] = (
    window,
    window,
    window,
    ring,
    ring,
    shift,
    shift,
    slope,
    slope,
    fraction,
    order,
    count,
    swap,
    drop,
    stranger,
    retyped,
)


def edited(rng: random.Random, group: pf.Storage, others: Sequence[pf.Storage]) -> pf.Storage:
    """The group with one edit or two; or its schedule with the buffers of another group, and the other way round."""
    if rng.random() < 0.08:
        return replace(group, buffers=rng.choice(others).buffers)
    for _ in range(rng.choice([1, 1, 2])):
        group = rng.choice(EDITS)(rng, group)
    return group
