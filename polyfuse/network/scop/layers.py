"""A SCoP as a network: every array that it writes is a tensor, and the statements that write it are a layer.

    Scop ──scop_network()──> ScopNetwork: Network, and { Stmt[i] -> statement[p, r] } for each statement

An instance is named by the element that it writes, its point `p`, and by what distinguishes it from others that write
that element, its reduction `r`. It is proved that the layers, one after the other, compute what the program does.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import islpy as isl
import numpy as np

from polyfuse.errors import IllegalSchedule, InvalidInput
from polyfuse.network.custom import access_beyond
from polyfuse.network.dtypes import Array
from polyfuse.network.instances import interpret
from polyfuse.network.layer import Layer, Statement
from polyfuse.network.network import Network
from polyfuse.network.operator import Custom
from polyfuse.network.scop.arrays import ArrayTensor, array_tensors, written_by
from polyfuse.network.scop.order import check_order
from polyfuse.network.scop.scop import Scop, ScopStatement
from polyfuse.network.statements import point_dims
from polyfuse.network.tensor import Tensor, safe_name
from polyfuse.sets.coalescing import coalesced
from polyfuse.sets.limits import operation_limit

SCOP = Custom("scop")
PRODUCT = re.compile(r"acc\+\w+\*\w+")


@dataclass(frozen=True, eq=False)
class ScopNetwork:
    """A network and how it was made from a scop.

    arrays     for each array its tensor, and `{ A[a] -> T[a'] }`
    instances  for each statement of the scop `{ Stmt[i] -> statement[p, r] }`, one to one
    operands   for each statement of the scop, the operand that each of its accesses is; `acc` is what is written
    """

    scop: Scop
    network: Network
    arrays: Mapping[str, ArrayTensor]
    instances: Mapping[str, isl.Map]
    operands: Mapping[str, tuple[str, ...]]

    def __str__(self) -> str:
        return str(self.network)

    __repr__ = __str__


def scop_network(
    scop: Scop,
    expressions: Mapping[str, str] | None = None,
    *,
    name: str = "scop",
    outputs: Sequence[str] | None = None,
) -> ScopNetwork:
    """The network of a scop.

    `expressions` says, by the name of a statement of the scop, what it computes, as in `acc + w * x`: operands have the
    names of their tensors, those of the arrays without MemRef_. A statement without one computes something `unknown`
    of what it reads: it can be scheduled, proved legal and counted, but not run. `outputs` names the arrays that are
    read after the scop: those that it does not read itself where none are given.

    Arrays of rank 3, channels of images, get an axis in front, the batch, so that rows and columns are what tiles cut.

    Errors: InvalidInput for a scop that is not layers: a statement that writes two arrays, elements that are read
    before they are written or made from others of their array, arrays that are made by turns; and for expressions that
    do not fit. TooComplex above isl's operation limit.
    """
    given = dict(expressions or {})
    for name_given in given:
        scop.statement(name_given)
    for statement in scop.statements:
        if not statement.domain.is_bounded():
            raise InvalidInput(
                f"statement {statement.name!r}: expected bounds on every index, got the domain {statement.domain}"
            )
    if scop.scalars:
        raise InvalidInput(
            f"scop {scop.name!r}: expected layers, the value {scop.scalars[0]} is in no array; put it into one"
        )
    with operation_limit(what=f"layers of scop {scop.name!r}"):
        arrays = array_tensors(scop)
        taken = {each.tensor.name for each in arrays.values()}
        parts = [_RenamedStatement.of(scop, statement, arrays, taken) for statement in scop.statements]
        layers = _in_order(scop, [_layer(scop, array, parts, arrays, given) for array in written_by(scop)])
        made = ScopNetwork(
            scop,
            Network(name, _inputs(layers), layers, _outputs(scop, layers, arrays, outputs), {}),
            arrays,
            {part.source.name: part.instances for part in parts},
            {part.source.name: part.operands for part in parts},
        )
        _check_same_order(made)
    return made


@dataclass(frozen=True, eq=False)
class _RenamedStatement:
    """A statement of the scop under its new name and with its new indices."""

    source: ScopStatement
    array: str
    name: str
    dims: tuple[str, ...]
    instances: isl.Map
    anywhere: isl.Map
    operands: tuple[str, ...]

    @staticmethod
    def of(
        scop: Scop, source: ScopStatement, arrays: Mapping[str, ArrayTensor], taken: set[str]
    ) -> "_RenamedStatement":
        writes = source.of_kind("write")
        if len(writes) != 1 or not writes[0].relation.intersect_domain(source.domain).is_single_valued():
            raise InvalidInput(
                f"statement {source.name!r}: expected that each instance writes one element, got "
                f"{len(writes)} writes; split the statement"
            )
        array = writes[0].array
        name = safe_name(source.name, taken)
        taken.add(name)
        to_point = writes[0].relation.apply_range(arrays[array].elements)
        rest = reduction_dims(to_point.intersect_domain(source.domain))
        anywhere = renamed_instances(to_point, rest, name)
        rank = to_point.dim(isl.dim_type.out)
        dims: list[str] = []
        for dim in (*point_dims(rank), *(f"i{d}" for d in rest)):
            dims.append(safe_name(dim, taken | set(dims)))
        instances = anywhere.intersect_domain(source.domain)
        return _RenamedStatement(source, array, name, tuple(dims), instances, anywhere, _operands(source, arrays))

    @property
    def domain(self) -> isl.Set:
        """`{ statement[p, r] }`."""
        found = coalesced(self.instances.range())
        for d, dim in enumerate(self.dims):
            found = found.set_dim_name(isl.dim_type.set, d, dim)
        return found


def reduction_dims(to_point: isl.Map) -> tuple[int, ...]:
    """The indices of a statement that distinguish the instances which write one element.

    >>> reduction_dims(isl.Map("{ S[h, k] -> T[h + 1] : 0 <= h < 8 and 0 <= k < 3 }"))
    (1,)
    """
    rest = list(range(to_point.dim(isl.dim_type.in_)))
    for d in tuple(rest):
        fewer = [other for other in rest if other != d]
        if with_indices(to_point, fewer).is_injective():
            rest = fewer
    return tuple(rest)


def with_indices(to_point: isl.Map, indices: Sequence[int]) -> isl.Map:
    """`{ S[i] -> T[p] }` to `{ S[i] -> [p, i_d..] }`."""
    rank = to_point.dim(isl.dim_type.out)
    found = to_point.add_dims(isl.dim_type.out, len(indices))
    for k, d in enumerate(indices):
        found = found.equate(isl.dim_type.out, rank + k, isl.dim_type.in_, d)
    return found


def renamed_instances(to_point: isl.Map, rest: Sequence[int], name: str) -> isl.Map:
    """`{ S[i] -> name[p, r] }`."""
    return with_indices(to_point, rest).set_tuple_name(isl.dim_type.out, name)


def _operands(source: ScopStatement, arrays: Mapping[str, ArrayTensor]) -> tuple[str, ...]:
    """The names of a statement's accesses in its expression; equal reads share a name."""
    (write,) = source.of_kind("write")
    made = write.relation.intersect_domain(source.domain)
    names: list[str] = []
    found: dict[str, isl.Map] = {}
    for access in source.accesses:
        here = access.relation.intersect_domain(source.domain)
        if access.array == write.array:
            if not here.is_equal(made):
                raise InvalidInput(
                    f"statement {source.name!r}: it makes elements of {access.array} from other elements of it, "
                    f"{access.relation}; expected layers, each of which reads what is complete: use another array"
                )
            names.append("acc")
            continue
        if not here.is_single_valued():
            raise InvalidInput(f"statement {source.name!r}: {access.relation} reads several elements at once; split it")
        same = [operand for operand, relation in found.items() if _equal(relation, here)]
        name = same[0] if same else safe_name(arrays[access.array].tensor.name, set(found))
        found[name] = here
        names.append(name)
    return tuple(names)


def _equal(one: isl.Map, other: isl.Map) -> bool:
    return bool(one.get_space().has_equal_tuples(other.get_space())) and bool(one.is_equal(other))


def _layer(
    scop: Scop,
    array: str,
    parts: Sequence[_RenamedStatement],
    arrays: Mapping[str, ArrayTensor],
    expressions: Mapping[str, str],
) -> Layer:
    """The layer that makes an array."""
    output = arrays[array].tensor
    mine = [part for part in parts if part.array == array]
    statements = [_statement(part, arrays, expressions.get(part.source.name)) for part in mine]
    read = [
        arrays[access.array].tensor for part in mine for access in part.source.of_kind("read") if access.array != array
    ]
    taken = {each.tensor.name for each in arrays.values()} | {part.name for part in parts}
    layer = Layer(
        safe_name(f"make_{output.name}", taken), SCOP, output, tuple(statements), tuple(dict.fromkeys(read)), ()
    )
    _check_started_once(layer, scop)
    return replace(layer, reference=partial(_run, layer))


def _statement(part: _RenamedStatement, arrays: Mapping[str, ArrayTensor], expression: str | None) -> Statement:
    """One statement of a layer."""
    operands = {}
    back = part.anywhere.reverse()
    domain = part.domain
    output = arrays[part.array].tensor
    for operand, access in zip(part.operands, part.source.accesses, strict=True):
        if operand == "acc" or operand in operands:
            continue
        there = arrays[access.array]
        read = back.apply_range(access.relation).apply_range(there.elements)
        if not read.is_single_valued():
            read = part.instances.reverse().apply_range(access.relation).apply_range(there.elements)
        operands[operand] = access_beyond(part.name, there.tensor, read, domain, domain, output)
    if expression is None:
        expression = f"unknown({', '.join(dict.fromkeys(_names_read(part)))})"
    elif unfit := [a for a in part.source.accesses if arrays[a.array].element_type != "float"]:
        raise InvalidInput(
            f"statement {part.source.name!r}: expressions are float32 arithmetic, {unfit[0].array} holds "
            f"{arrays[unfit[0].array].element_type}; leave its expression out"
        )
    macs = int(bool(PRODUCT.fullmatch(re.sub(r"\s", "", expression))))
    return Statement(part.name, part.dims, domain, operands, expression, macs)


def _names_read(part: _RenamedStatement) -> list[str]:
    """The operands of a statement, `acc` where it reads what it writes."""
    return [o for o, a in zip(part.operands, part.source.accesses, strict=True) if a.kind == "read"]


def _check_started_once(layer: Layer, scop: Scop) -> None:
    """Every point is set, by one statement, without a look at what was there before."""
    rank = layer.rank
    started = isl.Set.empty(layer.points.get_space())
    for statement in layer.statements:
        if statement.accumulates:
            continue
        extra = statement.domain.dim(isl.dim_type.set) - rank
        points = statement.domain.project_out(isl.dim_type.set, rank, extra).set_tuple_name(layer.name)
        again = started & points
        if extra or not again.is_empty():
            point = (again if not extra else points).sample()
            raise InvalidInput(
                f"array of {layer.output}: {statement.name} overwrites what was written at {point}; expected that one "
                "instance sets an element and that others add to it"
            )
        started = started.union(points)
    missing = layer.points.intersect_params(scop.context).subtract(started)
    if not missing.is_empty():
        raise InvalidInput(
            f"array of {layer.output}: no statement sets {missing.sample()} without reading it first; set all of the "
            "array in the scop"
        )


def _run(layer: Layer, *arrays: Array) -> Array:
    """A layer from its whole inputs, instance by instance."""
    return interpret(layer, {t.name: np.asarray(a) for t, a in zip(layer.inputs, arrays, strict=True)})


def _in_order(scop: Scop, layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """The layers, each after those that make what it reads, and otherwise as they are in the text."""
    waiting, done = list(layers), []
    while waiting:
        unmade = {layer.output for layer in waiting}
        ready = [layer for layer in waiting if not unmade & set(layer.inputs)]
        if not ready:
            turns = ", ".join(layer.output.name for layer in waiting)
            raise InvalidInput(
                f"scop {scop.name!r}: the arrays {turns} are made from each other by turns; expected layers, each of "
                "which reads what is complete"
            )
        done.append(ready[0])
        waiting.remove(ready[0])
    return tuple(done)


def _inputs(layers: Sequence[Layer]) -> tuple[Tensor, ...]:
    made = {layer.output for layer in layers}
    return tuple(dict.fromkeys(tensor for layer in layers for tensor in layer.inputs if tensor not in made))


def _outputs(
    scop: Scop, layers: Sequence[Layer], arrays: Mapping[str, ArrayTensor], wanted: Sequence[str] | None
) -> tuple[Tensor, ...]:
    read = {tensor for layer in layers for tensor in layer.inputs}
    made = [layer.output for layer in layers]
    if wanted is None:
        return tuple(tensor for tensor in made if tensor not in read)
    for array in wanted:
        if array not in arrays or arrays[array].tensor not in made:
            known = ", ".join(array for array in arrays if arrays[array].tensor in made)
            raise InvalidInput(f"scop {scop.name!r}: output {array!r}: expected one of the arrays it writes, {known}")
    chosen = {arrays[array].tensor for array in wanted}
    return tuple(tensor for tensor in made if tensor in chosen)


def _check_same_order(made: ScopNetwork) -> None:
    """Layer after layer, point after point, statement after statement computes what the scop does."""
    scop, network = made.scop, made.network
    names = {
        statement.name: (k, s, layer)
        for k, layer in enumerate(network.layers)
        for s, statement in enumerate(layer.statements)
    }
    width = max(instances.dim(isl.dim_type.out) for instances in made.instances.values())
    changed = []
    for source in scop.statements:
        instances = made.instances[source.name]
        position, step, layer = names[str(instances.get_tuple_name(isl.dim_type.out))]
        time = instances.reset_tuple_id(isl.dim_type.out)
        time = time.add_dims(isl.dim_type.out, width - time.dim(isl.dim_type.out))
        for d in range(instances.dim(isl.dim_type.out), width):
            time = time.fix_val(isl.dim_type.out, d, isl.Val(0))
        for d, value in ((layer.rank, step), (0, position)):
            time = time.insert_dims(isl.dim_type.out, d, 1).fix_val(isl.dim_type.out, d, isl.Val(value))
        changed.append(replace(source, schedule=time))
    try:
        check_order(scop, replace(scop, statements=tuple(changed)))
    except IllegalSchedule as error:
        raise InvalidInput(
            f"scop {scop.name!r}: expected layers, each of which makes an array from complete ones; {error}"
        ) from None
