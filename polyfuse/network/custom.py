"""Layers that a user defines by isl text: any rank, any affine access, any expression.

Text, tensors and an expression enter; a `Layer` of one or two statements leaves.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import islpy as isl
import numpy as np

from polyfuse.errors import InvalidInput
from polyfuse.network.dtypes import Array
from polyfuse.network.expression import names_in
from polyfuse.network.instances import interpret
from polyfuse.network.layer import Access, Layer, Statement
from polyfuse.network.operator import Custom
from polyfuse.network.tensor import Tensor, checked_name
from polyfuse.sets.coalescing import coalesced
from polyfuse.sets.interrupts import interrupts_held
from polyfuse.sets.reading import MapLike, SetLike, as_map, as_set
from polyfuse.sets.spaces import coordinates, dimension_names, tidied, union, unnamed
from polyfuse.whole import shown

Reads = Mapping[str, tuple[Tensor, MapLike]]


def statement_layer(
    name: str,
    *,
    domain: SetLike,
    output: Tensor,
    reads: Reads,
    expression: str,
    init: str | None = None,
    weights: Sequence[str] = (),
    macs: int = 0,
    reference: Callable[..., Array] | None = None,
) -> Layer:
    """A layer made from isl text, or from isl's objects: `acc = expression` for every instance of a domain.

        domain   { S[p, r] : ... }            the first rank(output) dims are the point, the others a reduction
        reads    operand: (A, { S[p, r] -> A[a] : ... })

    A reduction starts from `init`, an expression for every point of the output; it may use operands whose read does
    not depend on the reduction. Where a read is left out by the constraints of its map (padding), the instance does
    not exist; a read outside of its tensor is an error. `weights` names the operands that are weights. `reference`
    takes the arrays in the order of `reads`; where none is given the layer is run instance by instance.

    A read of `output` itself makes a recurrence: points run in lexicographic order and read what earlier ones made;
    where the domain and the map leave a read out, `init` is what the point becomes.

    Errors: InvalidInput for text that isl cannot read, tuples that do not fit together, unbounded domains, reads of
    several elements or outside of the tensor, and outputs that are not covered.

    >>> x, y = Tensor("x", (18,)), Tensor("y", (16,))
    >>> layer = statement_layer(
    ...     "blur", domain="{ S[i, k] : 0 <= i < 16 and 0 <= k < 3 }", output=y,
    ...     reads={"x": (x, "{ S[i, k] -> x[i + k] }")}, expression="acc + x / 3", init="0.0")
    >>> print(layer)
    blur (custom): x[18] -> y[16]
    >>> float(layer.reference(np.arange(18.0))[4])
    5.0
    """
    instances, dims = _domain(name, domain, len(output.shape), reads)
    rank = len(output.shape)
    if len(dims) > rank and init is None:
        raise InvalidInput(
            f"layer {name!r}: dims {', '.join(dims[rank:])} are a reduction; expected init, the value it starts from "
            '(such as "0.0")'
        )
    everything = instances
    relations = {operand: _relation(name, everything, operand, *read) for operand, read in reads.items()}
    if unused := sorted(set(relations) - names_in(expression) - names_in(init or "0.0")):
        raise InvalidInput(f"layer {name!r}: no expression uses the operand {unused[0]!r}; remove its read")
    updates = {operand: relation for operand, relation in relations.items() if operand in names_in(expression)}
    for relation in updates.values():
        instances = instances & relation.domain()
    if instances.is_empty():
        raise InvalidInput(
            f"layer {name!r}: no instance of its domain has all of {', '.join(updates)} to read; correct the reads"
        )
    _check_cover(name, output, instances.project_out(isl.dim_type.set, rank, len(dims) - rank), init is not None)
    started = output.box.reset_tuple_id()
    if "acc" not in names_in(expression) and len(dims) == rank:
        started = coalesced(started.subtract(instances.reset_tuple_id()))
    statements = []
    if init is not None and not started.is_empty():
        statements.append(_init(name, init, started, output, dims[:rank], reads, relations, everything))
    update = f"{name}_final" if init is None else f"{name}_update"
    operands = {
        operand: access_beyond(update, reads[operand][0], relation, everything, instances, output)
        for operand, relation in updates.items()
    }
    statements.append(Statement(update, dims, instances.set_tuple_name(update), operands, expression, macs))
    return _layer(name, output, reads, weights, tuple(statements), reference)


def _domain(name: str, given: SetLike, rank: int, reads: Reads) -> tuple[isl.Set, tuple[str, ...]]:
    """`{ S[p, r] }` and the names of its dims."""
    checked_name(name)
    where, form = f"layer {name!r}: its domain", "{ S[i, k] : 0 <= i < 16 and 0 <= k < 3 }"
    instances, text = as_set(given, where, form), shown(given)
    if instances.is_params() or not instances.has_tuple_name() or instances.is_wrapping():
        raise InvalidInput(f"{where}: expected one named tuple, such as {form}, got {text}")
    arity = instances.dim(isl.dim_type.set)
    names = [instances.get_dim_name(isl.dim_type.set, d) for d in range(arity)]
    dims = names if isinstance(given, str) else list(dimension_names(instances.get_space(), isl.dim_type.set))
    if arity < rank:
        raise InvalidInput(f"{where}: expected at least {rank} dims, one for each axis of the output, got {arity}")
    if None in dims or len(set(dims)) != arity:
        raise InvalidInput(f"{where}: expected a different name for each dim, such as {form}, got {text}")
    for dim in map(str, dims):
        checked_name(dim)
        if dim in reads:
            raise InvalidInput(f"{where}: {dim!r} is a dim and an operand; rename one")
    instances = tidied(instances)
    if instances.is_empty() or not instances.is_bounded():
        state = "empty" if instances.is_empty() else "unbounded"
        raise InvalidInput(f"{where}: expected bounds on every dim that leave some instances, got the {state} {text}")
    return instances, tuple(map(str, dims))


def _relation(name: str, instances: isl.Set, operand: str, tensor: Tensor, given: MapLike) -> isl.Map:
    """`{ S[p, r] -> A[a] }` of an operand, checked against the domain and the tensor."""
    where = f"layer {name!r}: the read {operand!r}"
    checked_name(operand)
    wanted = f"{{ {instances.get_tuple_name()}[...] -> {tensor.name}[...] }}"
    relation = as_map(given, where, wanted)
    if not relation.range().is_wrapping() and not relation.domain().is_wrapping():
        relation = unnamed(relation)
    ends = [
        (relation.get_tuple_name(end) if relation.has_tuple_name(end) else None, relation.dim(end))
        for end in (isl.dim_type.in_, isl.dim_type.out)
    ]
    expected = [(instances.get_tuple_name(), instances.dim(isl.dim_type.set)), (tensor.name, len(tensor.shape))]
    if ends != expected:
        got, need = (" -> ".join(f"{n or ''}[{k} dims]" for n, k in pair) for pair in (ends, expected))
        raise InvalidInput(f"{where}: expected {need}, got {got}")
    read = relation.intersect_domain(instances)
    if not read.is_single_valued():
        raise InvalidInput(
            f"{where}: {shown(given)} reads several elements an instance; name one operand for each of them"
        )
    outside = read.subtract_range(tensor.box)
    if not outside.is_empty():
        pair = coordinates(outside.wrap().flatten().sample_point())
        arity = instances.dim(isl.dim_type.set)
        raise InvalidInput(
            f"{where}: {instances.get_tuple_name()}{pair[:arity]} reads {tensor.name}{pair[arity:]}, which "
            f"is outside of {tensor}; add constraints to the map to leave such reads out"
        )
    return relation if relation.is_single_valued() else read


def _check_cover(name: str, output: Tensor, made: isl.Set, starts: bool) -> None:
    """Every point made is an element of the output, and without a start every element is made."""
    box, made = output.box.reset_tuple_id(), made.reset_tuple_id()
    if not made <= box:
        point = coordinates((made - box).sample_point())
        raise InvalidInput(
            f"layer {name!r}: makes {output.name}{point}, which is outside of {output}; tighten its domain"
        )
    if not starts and not box <= made:
        point = coordinates((box - made).sample_point())
        raise InvalidInput(
            f"layer {name!r}: nothing makes {output.name}{point} of {output}; widen its domain or give init"
        )


def access_beyond(
    statement: str, tensor: Tensor, relation: isl.Map, everything: isl.Set, instances: isl.Set, output: Tensor
) -> Access:
    """The access of a statement: `relation` on the instances that exist; extended past the borders of both tensors.

    Of the constraints of the domain and of the map, `extended` keeps those that the boxes of the output and of the
    tensor do not imply: the bounds of the reduction, and strides.
    """
    rank = len(output.shape)
    anywhere = output.box.reset_tuple_id().insert_dims(isl.dim_type.set, rank, everything.dim(isl.dim_type.set) - rank)
    anywhere = anywhere.set_tuple_name(everything.get_tuple_name())
    inside = relation.intersect_range(tensor.box).domain() & anywhere
    kept = everything.gist(anywhere)
    found: list[tuple[isl.Set, isl.MultiAff]] = []
    with interrupts_held():
        relation.as_pw_multi_aff().foreach_piece(lambda piece, index: found.append((piece, index)))
    pieces = [index.as_map().intersect_domain(piece.gist(inside) & kept) for piece, index in found]
    extended = coalesced(union(pieces))
    here, beyond = (
        part.set_tuple_name(isl.dim_type.in_, statement) for part in (relation.intersect_domain(instances), extended)
    )
    return Access(tensor, here, beyond)


def _init(
    name: str,
    init: str,
    started: isl.Set,
    output: Tensor,
    dims: tuple[str, ...],
    reads: Reads,
    relations: Mapping[str, isl.Map],
    instances: isl.Set,
) -> Statement:
    """The statement that starts points, with the reads it uses."""
    statement, rank = f"{name}_init", len(dims)
    domain = started.set_tuple_name(statement)
    operands = {}
    for operand in sorted(names_in(init) & set(relations)):
        relation = relations[operand].intersect_domain(instances).reset_tuple_id(isl.dim_type.in_)
        start = relation.project_out(isl.dim_type.in_, rank, relation.dim(isl.dim_type.in_) - rank)
        start = start.set_tuple_name(isl.dim_type.in_, statement)
        if not start.is_single_valued() or not domain <= start.domain():
            raise InvalidInput(
                f"layer {name!r}: init {init!r} uses {operand!r}, which has no one element for every point; expected "
                "a read that depends on the point alone"
            )
        operands[operand] = access_beyond(statement, reads[operand][0], start, domain, domain, output)
    made = Statement(statement, dims, domain, operands, init)
    if made.accumulates:
        raise InvalidInput(
            f"layer {name!r}: init {init!r} reads acc before anything is written; expected a start value"
        )
    return made


def _layer(
    name: str,
    output: Tensor,
    reads: Reads,
    weights: Sequence[str],
    statements: tuple[Statement, ...],
    reference: Callable[..., Array] | None,
) -> Layer:
    if unknown := sorted(set(weights) - set(reads)):
        raise InvalidInput(f"layer {name!r}: the weight {unknown[0]!r} is not one of the reads {', '.join(reads)}")
    inputs = tuple(dict.fromkeys(tensor for operand, (tensor, _) in reads.items() if operand not in weights))
    constants = tuple(dict.fromkeys(reads[operand][0] for operand in weights))
    if output in constants:
        raise InvalidInput(f"layer {name!r}: takes its own output {output} for a weight; leave it out of weights")
    inputs = tuple(tensor for tensor in inputs if tensor != output)
    layer = Layer(name, Custom(), output, statements, inputs, constants)
    order = tuple(tensor.name for tensor, _ in reads.values() if tensor != output)
    return replace(layer, reference=partial(_run, layer, order, reference))


def _run(layer: Layer, order: tuple[str, ...], reference: Callable[..., Array] | None, *arrays: Array) -> Array:
    """A layer from its whole inputs and weights: by the reference, given in the order of its reads, or by instances."""
    values = {t.name: np.asarray(a) for t, a in zip((*layer.inputs, *layer.weights), arrays, strict=True)}
    if reference is None:
        return interpret(layer, values)
    return np.asarray(reference(*(values[name] for name in order)), dtype=np.float64)
