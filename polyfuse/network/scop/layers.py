"""A SCoP as a network: values become tensors, and the statements that make them are layers.

    Scop ──scop_network()──> ScopNetwork: Network, and { Stmt[i] -> statement[p, r] } for each part of each statement

An instance is named by the value that it makes, its point `p`, and by what distinguishes it from others that go on with
that value, its reduction `r`. A statement whose instances read from several tensors, the value of an earlier instance
or what an array held before the scop, has a part for each of them. What reads find is exact (versions.py), so that the
layers compute what the program does.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import islpy as isl
import numpy as np

from polyfuse.errors import InvalidInput
from polyfuse.network.custom import access_beyond
from polyfuse.network.dtypes import Array
from polyfuse.network.instances import interpret
from polyfuse.network.layer import Layer, Statement
from polyfuse.network.network import Network
from polyfuse.network.operator import Custom
from polyfuse.network.scop.arrays import Place, input_tensor, made_tensor, region_read
from polyfuse.network.scop.dataflow import Key, read_of
from polyfuse.network.scop.scop import Scop, ScopStatement
from polyfuse.network.scop.versions import Family, Versions, families, points_of, versions_of
from polyfuse.network.statements import point_dims
from polyfuse.network.tensor import Tensor, safe_name
from polyfuse.sets.coalescing import coalesced
from polyfuse.sets.limits import operation_limit
from polyfuse.sets.spaces import union

SCOP = Custom("scop")
PRODUCT = re.compile(r"acc\+\w+\*\w+")
IN, OUT = isl.dim_type.in_, isl.dim_type.out


@dataclass(frozen=True, eq=False)
class StatementPart:
    """Instances of a statement of a scop that are a statement of a layer.

    write      the access whose values they make
    name       the statement of the layer
    instances  `{ Stmt[i] -> name[p, r] }`, one to one
    operands   the operand that each access is, by its position; `acc` is what is written
    """

    write: int
    name: str
    instances: isl.Map
    operands: Mapping[int, str]


@dataclass(frozen=True, eq=False)
class ScopNetwork:
    """A network and how it was made from a scop.

    parts  for each statement of the scop the statements of the network that it is
    whole  the arrays of which each element has one value, which no instance reads before it is set: they are tensors,
           under these names
    """

    scop: Scop
    network: Network
    parts: Mapping[str, tuple[StatementPart, ...]]
    whole: Mapping[str, Tensor]

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
    names of their arrays without MemRef_, `acc` is the element that is written. A statement without one computes
    something `unknown` of what it reads: it can be scheduled, proved legal and counted, but not run. `outputs` names
    the arrays that are read after the scop: those that it does not read itself where none are given.

    Arrays of rank 3, channels of images, get an axis in front, the batch, so that rows and columns are what tiles cut.

    Errors: InvalidInput for a statement that writes or reads several elements at once, bounds that are missing, a scop
    that writes nothing, and expressions that do not fit. TooComplex above isl's operation limit.
    """
    given = dict(expressions or {})
    for name_given in given:
        scop.statement(name_given)
    _check_statements(scop)
    with operation_limit(what=f"layers of scop {scop.name!r}"):
        made, layers = _made(scop, given, ())
    whole = {array: place.tensor for array, place in made.whole().items()}
    parts = {statement.name: tuple(made.parts[statement.name]) for statement in scop.statements}
    network = Network(name, _inputs(layers), layers, made.outputs(layers, outputs), {})
    return ScopNetwork(scop, network, parts, whole)


def _made(scop: Scop, expressions: Mapping[str, str], broken: Collection[Key]) -> tuple["_Making", tuple[Layer, ...]]:
    """The layers of a scop. Writes that a layer would run in another order begin a new value each time."""
    made = _Making(scop, expressions, broken)
    try:
        return made, tuple(made.layer(k) for k in range(len(made.families)))
    except _Interleaved as found:
        return _made(scop, expressions, {*broken, *found.keys})


def _check_statements(scop: Scop) -> None:
    """Instances are finitely many, and each access of each is one element. Errors: InvalidInput."""
    for statement in scop.statements:
        where = f"statement {statement.name!r}"
        if not statement.domain.is_bounded():
            raise InvalidInput(f"{where}: expected bounds on every index, got the domain {statement.domain}")
        for access in statement.accesses:
            if not access.relation.intersect_domain(statement.domain).is_single_valued():
                raise InvalidInput(
                    f"{where}: expected that each instance {access.kind}s one element, {access.relation} is several; "
                    "split the statement"
                )
    if all(access.kind == "read" or s.domain.is_empty() for s in scop.statements for access in s.accesses):
        raise InvalidInput(f"scop {scop.name!r}: expected an instance that writes something; is it cut short?")


@dataclass(frozen=True, eq=False)
class _Piece:
    """Instances of a write that read from the same tensors: the reads that are `acc`, and the tensors of others.

    A tensor is the number of a family, or None for what was there before the scop.
    """

    key: Key
    domain: isl.Set
    own: tuple[int, ...]
    sources: Mapping[int, int | None]


class _Interleaved(Exception):
    """Parts of some writes go on with one another's values by turns; a layer runs one after the other."""

    def __init__(self, keys: Sequence[Key]) -> None:
        super().__init__(keys)
        self.keys = tuple(keys)


class _Making:
    """The tensors of a scop, and its layers one after the other; writes that are `broken` go on with no value."""

    def __init__(self, scop: Scop, expressions: Mapping[str, str], broken: Collection[Key]) -> None:
        domains = {s.name: s.domain.intersect_params(scop.context) for s in scop.statements}
        scop = replace(scop, statements=tuple(replace(s, domain=domains[s.name]) for s in scop.statements))
        self.scop, self.expressions = scop, expressions
        self.versions: Versions = versions_of(scop, broken)
        self.families: tuple[Family, ...] = families(self.versions)
        self.parts: dict[str, list[StatementPart]] = {statement.name: [] for statement in scop.statements}
        self.family_of: dict[Key, int] = {key: k for k, family in enumerate(self.families) for key in family.keys}
        taken: set[str] = set()
        self.made: list[Place] = []
        for family in self.families:
            arrays = list(dict.fromkeys(map(self.versions.array, family.keys)))
            name = safe_name("_".join(map(plain, arrays)), taken)
            taken.add(name)
            self.made.append(made_tensor(scop, family, arrays, name))
        self.points: dict[Key, isl.Map] = {
            key: points_of(self.versions, self.families[k], key).apply_range(self.made[k].elements)
            for key, k in self.family_of.items()
        }
        self.given: dict[str, Place] = {}
        for array, region in self._live_in().items():
            name = safe_name(plain(array), taken)
            if name != plain(array) and plain(array) in taken:
                name = safe_name(f"{plain(array)}_in", taken)
            taken.add(name)
            self.given[array] = input_tensor(scop, array, region, name)
        self.taken = taken

    def _live_in(self) -> dict[str, isl.Set]:
        """What is read of each array as it is before the scop."""
        found: dict[str, list[isl.Map]] = {}
        for statement in self.scop.statements:
            for k, access in enumerate(statement.accesses):
                if access.kind == "read" and not (before := self.versions.live_in[statement.name, k]).is_empty():
                    found.setdefault(access.array, []).append(access.relation.intersect_domain(before))
        return {array: region_read(self.scop, array, relations) for array, relations in found.items()}

    def layer(self, number: int) -> Layer:
        """The layer that makes a tensor."""
        family, place = self.families[number], self.made[number]
        pieces = self._in_order([piece for key in family.keys for piece in self._pieces(key)])
        statements = [self._statement(piece, place) for piece in pieces]
        read = (access.tensor for statement in statements for access in statement.operands.values())
        inputs = tuple(dict.fromkeys(tensor for tensor in read if tensor != place.tensor))
        name = safe_name(f"make_{place.tensor.name}", self.taken)
        self.taken.add(name)
        layer = Layer(name, SCOP, place.tensor, tuple(statements), inputs, (), made=place.made, runs_all=True)
        return replace(layer, reference=partial(_run, layer))

    def _in_order(self, pieces: Sequence["_Piece"]) -> list["_Piece"]:
        """The pieces, each after those whose values it goes on with, and otherwise as they are.

        Errors: _Interleaved where pieces go on with values by turns.
        """
        before = {
            k: {j for j, other in enumerate(pieces) if j != k and self._goes_on(p, other)} for k, p in enumerate(pieces)
        }
        done: list[int] = []
        while len(done) < len(pieces):
            ready = [k for k in before if k not in done and before[k].issubset(done)]
            if not ready:
                raise _Interleaved([pieces[k].key for k in before if k not in done and pieces[k].own])
            done.append(ready[0])
        return [pieces[k] for k in done]

    def _goes_on(self, piece: "_Piece", other: "_Piece") -> bool:
        """Whether a piece goes on with values of another one."""
        for k in piece.own:
            pairs = self.versions.flow[piece.key[0], k].get(other.key)
            if pairs is not None and not (pairs.intersect_domain(piece.domain).range() & other.domain).is_empty():
                return True
        return False

    def _statement(self, piece: "_Piece", place: Place) -> Statement:
        """The statement of a layer that is a piece of one of the scop."""
        key, statement = piece.key, self.scop.statement(piece.key[0])
        names = self._names(key)
        label = safe_name(statement.name, self.taken)
        self.taken.add(label)
        to_point = self._to_point(key, piece.domain)
        rest = reduction_dims(to_point)
        instances = renamed_instances(to_point, rest, label)
        dims: list[str] = []
        for dim in (*point_dims(len(place.tensor.shape)), *(f"i{d}" for d in rest)):
            dims.append(safe_name(dim, self.taken | set(dims)))
        executed = coalesced(instances.range()).gist_params(self.scop.context)
        for d, dim in enumerate(dims):
            executed = executed.set_dim_name(isl.dim_type.set, d, dim)
        operands = {}
        for k, source in sorted(piece.sources.items()):
            if names[k] not in operands:
                read = instances.reverse().apply_range(self._read(statement, k, source, piece.domain))
                there = self._place(source, statement, k).tensor
                read = read.gist_params(self.scop.context)
                operands[names[k]] = access_beyond(label, there, read, executed, executed, place.tensor)
        expression, macs = self._expression(statement, names, piece.own)
        own = dict.fromkeys((key[1], *piece.own), "acc")
        self.parts[statement.name].append(StatementPart(key[1], label, instances, {**names, **own}))
        return Statement(label, tuple(dims), executed, operands, expression, macs)

    def _to_point(self, key: Key, domain: isl.Set) -> isl.Map:
        """`{ Stmt[i] -> T[p] }` in a short form."""
        return coalesced(self.points[key].intersect_domain(domain))

    def _names(self, key: Key) -> dict[int, str]:
        """The operand that each read is; equal reads share a name."""
        statement = self.scop.statement(key[0])
        found: list[tuple[str, isl.Map]] = []
        names: dict[int, str] = {}
        for k, access in enumerate(statement.accesses):
            if access.kind != "read":
                continue
            cells = read_of(statement, k)[0]
            same = [name for name, other in found if _equal(other, cells)]
            name = same[0] if same else safe_name(plain(access.array), {name for name, _ in found})
            found.append((name, cells))
            names[k] = name
        return names

    def _pieces(self, key: Key) -> Iterator["_Piece"]:
        """The instances of a write by where they read; those that begin values come first."""
        versions, domain = self.versions, self.scop.statement(key[0]).domain
        own = versions.continuing.get(key, ())
        yield from self._split(_Piece(key, domain & versions.begins[key], (), {}), (*versions.reads(key), *own))
        yield from self._split(_Piece(key, domain.subtract(versions.begins[key]), own, {}), versions.reads(key))

    def _split(self, piece: "_Piece", reads: Sequence[int]) -> Iterator["_Piece"]:
        """A piece by the tensors that its instances read from."""
        pieces = [piece]
        for k in reads:
            tensors: dict[int | None, isl.Set] = {None: self.versions.live_in[piece.key[0], k]}
            for source, pairs in self.versions.flow[piece.key[0], k].items():
                number = self.family_of[source]
                found = pairs.domain()
                tensors[number] = tensors[number].union(found) if number in tensors else found
            pieces = [
                replace(each, domain=coalesced(each.domain & region), sources={**each.sources, k: number})
                for each in pieces
                for number, region in tensors.items()
                if not (each.domain & region).is_empty()
            ]
        yield from (each for each in pieces if not each.domain.is_empty())

    def _place(self, source: int | None, statement: ScopStatement, k: int) -> Place:
        """The tensor that a read finds its value in."""
        return self.given[statement.accesses[k].array] if source is None else self.made[source]

    def _read(self, statement: ScopStatement, k: int, source: int | None, domain: isl.Set) -> isl.Map:
        """`{ Stmt[i] -> T[a] }` for instances that read from that tensor."""
        relation = statement.accesses[k].relation
        if source is None:
            return relation.apply_range(self.given[statement.accesses[k].array].elements).intersect_domain(domain)
        if self.families[source].array is not None:
            elements = self.made[source].elements.set_tuple_name(IN, statement.accesses[k].array)
            return relation.apply_range(elements).intersect_domain(domain)
        flow = self.versions.flow[statement.name, k].items()
        found = (pairs.apply_range(self.points[key]) for key, pairs in flow if self.family_of[key] == source)
        return coalesced(union(found).intersect_domain(domain))

    def _expression(self, statement: ScopStatement, names: Mapping[int, str], own: Sequence[int]) -> tuple[str, int]:
        """What a part of a statement computes, and its multiply-accumulates."""
        given = self.expressions.get(statement.name)
        if given is None:
            read = dict.fromkeys("acc" if k in own else name for k, name in names.items())
            return f"unknown({', '.join(read)})", 0
        macs = int(bool(PRODUCT.fullmatch(re.sub(r"\s", "", given))))
        written = [read_of(statement, k)[0] for k, a in enumerate(statement.accesses) if a.kind == "write"]
        same = [name for k, name in names.items() if _equal(read_of(statement, k)[0], written[0])]
        if own or not same:
            return given, macs
        return re.sub(r"\bacc\b", same[0], given), macs

    def whole(self) -> dict[str, Place]:
        """The arrays that are tensors: nothing is read of them before the scop, each element has one value."""
        found: dict[str, list[int]] = {}
        several = {s.name for s in self.scop.statements if len(self._kept(s)) > 1}
        for key, k in self.family_of.items():
            array = self.versions.array(key)
            by_array = self.families[k].array is not None and key[0] not in several
            found.setdefault(array, []).extend([k] if by_array else [-1])
        return {
            array: self.made[numbers[0]]
            for array, numbers in found.items()
            if set(numbers) == {numbers[0]} != {-1} and array not in self.given
        }

    def _kept(self, statement: ScopStatement) -> list[Key]:
        return [key for key in self.versions.kept if key[0] == statement.name]

    def outputs(self, layers: Sequence[Layer], wanted: Sequence[str] | None) -> tuple[Tensor, ...]:
        """The tensors that are read after the scop: those of the arrays that are wanted, or what no layer reads.

        The last one, whose axes tiles cut, is the largest.
        """
        if wanted is None:
            read = {tensor for layer in layers for tensor in layer.inputs}
            found = [layer.output for layer in layers if layer.output not in read]
            numbers = all(isinstance(size, int) for tensor in found for size in tensor.shape)
            return tuple(sorted(found, key=lambda tensor: tensor.concrete_shape) if numbers else found)
        arrays = {k: {self.versions.array(key) for key in family.keys} for k, family in enumerate(self.families)}
        known = set().union(*arrays.values())
        for array in wanted:
            if array not in known:
                raise InvalidInput(
                    f"scop {self.scop.name!r}: output {array!r}: expected one of the arrays it writes, "
                    f"{', '.join(sorted(known))}"
                )
        return tuple(layer.output for k, layer in enumerate(layers) if arrays[k] & set(wanted))


def plain(array: str) -> str:
    """The name of an array without what Polly puts before it."""
    return array.removeprefix("MemRef_")


def reduction_dims(to_point: isl.Map) -> tuple[int, ...]:
    """The indices of a statement in which instances of one point differ.

    >>> reduction_dims(isl.Map("{ S[h, k] -> T[h + 1] : 0 <= h < 8 and 0 <= k < 3 }"))
    (1,)
    """
    pairs = to_point.apply_range(to_point.reverse())
    different = pairs.subtract(isl.Map.identity(pairs.get_space()))
    same = [different.is_subset(different.equate(IN, d, OUT, d)) for d in range(pairs.dim(IN))]
    return tuple(d for d, alike in enumerate(same) if not alike)


def with_indices(to_point: isl.Map, indices: Sequence[int]) -> isl.Map:
    """`{ S[i] -> T[p] }` to `{ S[i] -> [p, i_d..] }`."""
    rank = to_point.dim(OUT)
    found = to_point.add_dims(OUT, len(indices))
    for k, d in enumerate(indices):
        found = found.equate(OUT, rank + k, IN, d)
    return found


def renamed_instances(to_point: isl.Map, rest: Sequence[int], name: str) -> isl.Map:
    """`{ S[i] -> name[p, r] }`."""
    return with_indices(to_point, rest).set_tuple_name(OUT, name)


def _equal(one: isl.Map, other: isl.Map) -> bool:
    return bool(one.get_space().has_equal_tuples(other.get_space())) and bool(one.is_equal(other))


def _run(layer: Layer, *arrays: Array) -> Array:
    """A layer from its whole inputs, instance by instance."""
    return interpret(layer, {t.name: np.asarray(a) for t, a in zip(layer.inputs, arrays, strict=True)})


def _inputs(layers: Sequence[Layer]) -> tuple[Tensor, ...]:
    made = {layer.output for layer in layers}
    return tuple(dict.fromkeys(tensor for layer in layers for tensor in layer.inputs if tensor not in made))
