"""Schedules that were given: from instances to times, with the times inside of a tile too.

    Network + times ──schedule_from()──> Schedule ──storage()──> legality.check()
    Schedule ──union_map()──> { S[p, r] -> [t, time] } ──schedule_from()──> the same Schedule
    Schedule ──schedule_tree()──> isl.Schedule ──schedule_from()──> the same Schedule

Times are compared lexicographically. Their first dimensions name the tile: what is loaded arrives before the tile's
executions and what is stored leaves after them; where values wait between tiles is said as in a `Strategy`. An instance
with several times runs at each of them. Nothing is believed: legality judges the result (see `inside`).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import islpy as isl

from polyfuse.choices import Place
from polyfuse.errors import InvalidInput
from polyfuse.network.layer import Layer, Statement
from polyfuse.network.network import Network
from polyfuse.network.tensor import Tensor
from polyfuse.schedule.executions import given_flow
from polyfuse.schedule.lower import lower
from polyfuse.schedule.schedule import (
    Flow,
    Schedule,
    Stage,
    check_names,
    loaded_flows,
    made_flow,
    stages_of,
    weights_of,
)
from polyfuse.schedule.steps import inside_tile, steps
from polyfuse.schedule.strategy import Strategy
from polyfuse.schedule.tiling import Tiling
from polyfuse.sets.coalescing import coalesced
from polyfuse.sets.limits import operation_limit
from polyfuse.sets.reading import as_union_map
from polyfuse.sets.spaces import latest, union, unnamed

Times = str | isl.BasicMap | isl.Map | isl.UnionMap | isl.Schedule
FORM = "{ S[p, r] -> [t, time] }, from instances to times, or the text of a schedule tree"
TREE = re.compile(r"""\s*\{?\s*["']?domain["']?\s*:""")
IN, OUT, SET = isl.dim_type.in_, isl.dim_type.out, isl.dim_type.set


def schedule_from(
    network: Network,
    times: Times,
    *,
    tile: int | tuple[int, ...] = 0,
    others: tuple[Place, ...] = (),
    retention: Mapping[str, tuple[Place, ...]] | None = None,
    weights: Literal["once", "tile"] = "once",
    reorder: bool = False,
) -> Schedule:
    """A schedule from instances to times, as it is written.

        { S[p, r] -> [t, time] }   or   { L[p] -> [t, time] }, for all statements of a layer   or a schedule tree

    times      text of isl, a relation or a schedule tree; instances outside of a layer have no time. Statements of a
               layer that are not named run before those that are, or behind them; layers that are not named at all make
               what their readers need, before or after those that are
    tile       how many dimensions, the first ones, name the tile; or the positions of those that do: values outlive
               the loops between them
    others     a place for each dimension of the tile, and `retention` for tensors by name, as in a `Strategy`
    weights    `once`: loaded before the first tile and kept; `tile`: loaded again by every tile that reads them
    reorder    sums may be added up in another order than the layer's own, so that rounding may change

    Source: the explicit form of Jongen et al., "Optimization Through Recomputation in the Polyhedral Model", IMPACT
    2018.
    Errors: InvalidInput for times of something else than instances of the network; TooComplex above isl's operation
    limit.

    >>> from polyfuse.network.network import Builder
    >>> build = Builder("pair")
    >>> x = build.input("x", (1, 1, 20, 20))
    >>> net = build.network(build.conv("conv2", build.conv("conv1", x, 1, kernel=3), 1, kernel=3))
    >>> rows = '''{ conv1[n, c, h, w] -> [t, h, 0, w] : 8t <= h < 8t + 10 and 0 <= t < 2;
    ...             conv2[n, c, h, w] -> [t, h + 2, 1, w] : 8t <= h < 8t + 8 }'''
    >>> group = schedule_from(net, rows, tile=1)
    >>> print(group.executions(net.layer("conv1")).is_single_valued())
    False
    """
    relations = read(network, times)
    named, count = tile_of(tile, relations)
    strategy = Strategy((0,) * len(named), others, retention or {}, weights=weights)
    check_names(network, strategy)
    with operation_limit(what=f"given schedule of {network.name!r}"):
        wanted = statement_times(network, relations, count)
        return assembled(network, strategy, Tiling.of_times(count, named), wanted, reorder)


def read(network: Network, times: Times) -> list[isl.Map]:
    """The relations of each layer or statement to times of one length, without parameters.

    Errors: InvalidInput.
    """
    where = f"times for {network.name!r}"
    relations = [unnamed(each) for each in parts(parsed(times, where))]
    if not relations:
        raise InvalidInput(f"{where}: expected {FORM}, got no relation at all")
    for each in relations:
        if each.dim(isl.dim_type.param) or not each.has_tuple_name(IN) or each.range().is_wrapping():
            raise InvalidInput(f"{where}: expected {FORM}, without parameters, got {each}")
    plain = [each.reset_tuple_id(OUT) if each.has_tuple_name(OUT) else each for each in relations]
    lengths = {each.get_tuple_name(IN): each.dim(OUT) for each in plain}
    if len({*lengths.values()}) > 1:
        found = ", ".join(f"{length} for {name}" for name, length in lengths.items())
        raise InvalidInput(f"{where}: expected times of one length, got {found}; put zeros where they are shorter")
    return plain


def parsed(times: Times, where: str) -> isl.UnionMap:
    """Times as one relation. Errors: InvalidInput for text that isl cannot read."""
    if isinstance(times, str) and TREE.match(times):
        try:
            times = isl.Schedule(times)
        except (isl.Error, TypeError, ValueError) as error:
            reason = " ".join(str(error).split()).split(" failed: ")[-1].split(" in /")[0]
            raise InvalidInput(f"{where}: isl cannot read the schedule tree ({reason}); expected {FORM}") from None
    if isinstance(times, isl.Schedule):
        return times.get_map().intersect_domain(times.get_domain())
    return as_union_map(times, where, "{ S[i, k] -> [0, i, k] }")


def parts(relation: isl.UnionMap) -> list[isl.Map]:
    """The relations of a union, in the order of their names."""
    maps = relation.get_map_list()
    found = [maps.get_at(k) for k in range(maps.n_map())]
    return sorted(found, key=lambda each: (str(each.get_tuple_name(IN)), each.dim(IN)))


def tile_of(tile: int | tuple[int, ...], relations: Sequence[isl.Map]) -> tuple[tuple[int, ...], int]:
    """The positions of the dimensions that name the tile, and how many come before the last of them, it included.

    Errors: InvalidInput.
    """
    length = relations[0].dim(OUT)
    named = tuple(range(min(tile, length + 1))) if isinstance(tile, int) else tile
    in_order = all(one < other for one, other in pairwise(named))
    if not in_order or any(not 0 <= d < length for d in named) or (isinstance(tile, int) and tile < 0):
        raise InvalidInput(
            f"tile {tile}: expected how many of the {length} dimensions of times name the tile, or their positions in "
            "their order"
        )
    return named, max(named, default=-1) + 1


@dataclass(frozen=True, eq=False)
class GivenLayer:
    """What is said about one layer: times of all its statements together, or of some of them by their names."""

    layer: Layer
    points: isl.Map | None
    statements: Mapping[str, isl.Map]

    @property
    def is_complete(self) -> bool:
        """Whether each statement has its own times."""
        return len(self.statements) == len(self.layer.statements)


def given_layers(network: Network, relations: Sequence[isl.Map]) -> list[GivenLayer]:
    """The relations by the layer that they belong to.

    Errors: InvalidInput for names of neither layers nor statements, and for other numbers of indices than they have.
    """
    points: dict[str, isl.Map] = {}
    statements: dict[str, dict[str, isl.Map]] = {}
    for relation in relations:
        layer, statement = subject(network, relation)
        if statement is None:
            points[layer.name] = relation.set_tuple_name(IN, layer.name).intersect_domain(layer.points)
            continue
        found = statements.setdefault(layer.name, {})
        if relation.dim(IN) > len(statement.dims):
            relation = relation.project_out(IN, len(statement.dims), 1)
        relation = relation.set_tuple_name(IN, statement.name).intersect_domain(statement.domain)
        found[statement.name] = relation.union(found[statement.name]) if statement.name in found else relation
    if both := {*points} & {*statements}:
        raise InvalidInput(
            f"times of layer {min(both)!r}: given for all its statements and for {min(statements[min(both)])}; give "
            "either"
        )
    named = (layer for layer in network.layers if layer.name in {*points, *statements})
    return [GivenLayer(layer, points.get(layer.name), statements.get(layer.name, {})) for layer in named]


def subject(network: Network, relation: isl.Map) -> tuple[Layer, Statement | None]:
    """The layer of a relation, and its statement where the relation is of one alone.

    The name of a layer with as many indices as its sum has is that of the sum. A statement may have one index more, the
    number of its copy, as `Lowered.renamed` has.
    Errors: InvalidInput.
    """
    name, count = str(relation.get_tuple_name(IN)), relation.dim(IN)
    for layer in network.layers:
        for statement in layer.statements:
            if statement.name == name and count in (len(statement.dims), len(statement.dims) + 1):
                return layer, statement
    layers = {layer.name: layer for layer in network.layers}
    if name in layers:
        if count == layers[name].rank:
            return layers[name], None
        sums = [s for s in layers[name].statements if len(s.dims) == count]
        if len(sums) == 1:
            return layers[name], sums[0]
    known = [f"{layer.name}[{layer.rank}]" for layer in network.layers]
    known += [f"{s.name}[{len(s.dims)}]" for layer in network.layers for s in layer.statements]
    raise InvalidInput(
        f"times of {name}[{count} indices]: network {network.name!r} has no layer or statement like that; it has "
        f"{', '.join(known)}"
    )


def statement_times(network: Network, relations: Sequence[isl.Map], count: int) -> dict[str, isl.Map]:
    """`{ S[p, r] -> [t, time] }` of every statement of the layers that have times, all of one length.

    Of layers that have tiles alone, statements run as in a schedule that is derived. Where else not every statement has
    times of its own, the number of the statement follows, and behind it its indices of a reduction where the whole
    layer has one time for them all.
    """
    layers = given_layers(network, relations)
    only_tiles = relations[0].dim(OUT) == count
    for each in layers:
        if only_tiles and each.points is None:
            raise InvalidInput(
                f"times of {min(each.statements)}: they have no dimension besides those of the tile; add some, or give "
                f"times to layer {each.layer.name!r} as a whole"
            )
    complete = only_tiles or all(each.is_complete for each in layers)
    others = ((each.layer, s) for each in layers for s in each.layer.statements if s.name not in each.statements)
    width = 0 if complete else 1 + max((len(s.dims) - layer.rank for layer, s in others), default=0)
    found: dict[str, isl.Map] = {}
    for each in layers:
        for k, statement in enumerate(each.layer.statements):
            own = each.statements.get(statement.name)
            times = own if own is not None else beside(each, k, count)
            if width:
                times = numbered(times, k, each.layer.rank if own is None else len(statement.dims), width)
            found[statement.name] = coalesced(times)
    return found


def beside(given: GivenLayer, k: int, count: int) -> isl.Map:
    """The times of a statement that has none of its own, `{ S[p, r] -> [t, time] }`.

    Those of its layer; or, in each tile, those of the first execution of the statement behind it, or of the last one of
    the statement before it.
    """
    layer = given.layer
    statement = layer.statements[k]
    points = layer.instances_of_points(statement).reverse().intersect_domain(statement.domain)
    if given.points is not None:
        return points.apply_range(given.points)
    names = [s.name for s in layer.statements]
    after = [name for name in names[k:] if name in given.statements]
    before = [name for name in names[:k] if name in given.statements]
    times = given.statements[after[0] if after else before[-1]]
    inside = inside_tile(times, count)
    rank = count + layer.rank
    inside = inside.project_out(IN, rank, inside.dim(IN) - rank)
    first = inside.lexmin() if after else latest(inside)
    whole = first.move_dims(OUT, 0, IN, 0, count).set_tuple_name(IN, layer.name)
    return points.apply_range(whole)


def numbered(times: isl.Map, k: int, rank: int, width: int) -> isl.Map:
    """`{ S[p, r] -> [time] }` to `{ S[p, r] -> [time, k, r] }`, with zeros behind and `rank` indices left out."""
    length, indices = times.dim(OUT), times.dim(IN)
    times = times.add_dims(OUT, width).fix_val(OUT, length, isl.Val(k))
    for d in range(width - 1):
        if rank + d < indices:
            times = times.equate(OUT, length + 1 + d, IN, rank + d)
        else:
            times = times.fix_val(OUT, length + 1 + d, isl.Val(0))
    return times


def assembled(
    network: Network, strategy: Strategy, tiling: Tiling, times: Mapping[str, isl.Map], reorder: bool
) -> Schedule:
    """The schedule of a group with given times of some layers; the others make what their readers need.

    Errors: InvalidInput for outputs without times, and for a layer without them between two that have some.
    """
    flows: dict[str, Flow] = {}
    for layer in reversed(network.layers):
        if layer.statements[0].name in times:
            made = union(made_by(layer, times[s.name], s, tiling) for s in layer.statements)
            flows[layer.output.name] = given_flow(network, strategy, tiling, layer, coalesced(made), flows)
        elif layer.output in network.outputs:
            raise InvalidInput(
                f"times for {network.name!r}: none for layer {layer.name!r}, which makes an output; give some"
            )
        else:
            flows[layer.output.name] = made_flow(network, strategy, tiling, layer, flows)
    flows |= loaded_flows(network, strategy, tiling, flows)
    preloaded = weights_of(network) if strategy.weights == "once" else ()
    in_order = isl.Map.identity(tiling.space.map_from_set()).reset_tuple_id(OUT)
    inside = {name: each for name, each in times.items() if each.dim(OUT) > len(tiling.dims)}
    stages = stages_of(network, flows)
    if inside:
        given = {layer.output for layer in network.layers if layer.statements[0].name in inside}
        stages = stages_together(network, stages, given)
    return Schedule(network, strategy, tiling, flows, stages, preloaded, in_order, inside, reorder)


def made_by(layer: Layer, times: isl.Map, statement: Statement, tiling: Tiling) -> isl.Map:
    """`{ T[p] -> tile[t] }`: the tiles in which a statement runs for an element."""
    count = len(tiling.dims)
    tiles = times.project_out(OUT, count, times.dim(OUT) - count)
    relation = layer.makes.reverse().apply_range(layer.instances_of_points(statement)).apply_range(tiles)
    return relation.set_tuple_name(OUT, tiling.space.get_tuple_name(SET))


def stages_together(network: Network, stages: Sequence[Stage], inside: set[Tensor]) -> tuple[Stage, ...]:
    """The stages of a tile, with the layers whose times are given as one: their loads, what they make, stores.

    Layers without times come before them, but for those that read what they make.
    Errors: InvalidInput for a layer that would have to run in between.
    """
    later: set[Tensor] = set()
    for layer in network.layers:
        if layer.output not in inside and any(tensor in inside or tensor in later for tensor in layer.inputs):
            later.add(layer.output)
        for tensor in layer.inputs:
            if layer.output in inside and tensor in later:
                raise InvalidInput(
                    f"times for {network.name!r}: layer {network.makers[tensor].name!r} has none, but reads and is "
                    "read by layers that have; give it times too"
                )
    groups: tuple[list[Stage], ...] = ([], [], [], [], [])
    for stage in stages:
        groups[place_of(network, stage, inside, later)].append(stage)
    return tuple(stage for group in groups for stage in group)


def place_of(network: Network, stage: Stage, inside: set[Tensor], later: set[Tensor]) -> int:
    """Before the layers whose times are given, their loads, these layers, their stores, or behind them."""
    if stage.tensor in inside:
        return {"load": 1, "make": 2, "store": 3}[stage.action]
    if stage.tensor in later:
        return 4
    if stage.tensor in network.makers:
        return 0
    readers = [layer.output for layer in network.layers if stage.tensor in (*layer.inputs, *layer.weights)]
    if all(reader in later for reader in readers):
        return 4
    return 1 if all(reader in inside or reader in later for reader in readers) else 0


def union_map(schedule: Schedule) -> isl.UnionMap:
    """When every instance of the group runs, `{ S[p, r] -> [t, time] }`: what `schedule_from` takes.

    Of a schedule that was not given, `time` is the stage, then the order inside of the stage. The first dimensions are
    the coordinates of the tile in their order: `tile=len(schedule.tiling.dims)`.

    >>> from polyfuse.network.network import Builder
    >>> from polyfuse.schedule.schedule import scheduled
    >>> build = Builder("mean")
    >>> y = build.max_pool("top", build.input("x", (1, 1, 8, 8)), kernel=2, stride=2)
    >>> print(union_map(scheduled(build.network(y), Strategy((2,)))).range().sample().dim(isl.dim_type.set))
    12
    """
    found = isl.UnionMap.empty(isl.Space.params_alloc(isl.DEFAULT_CONTEXT, 0))
    for statement, times in statement_relations(schedule):
        found = found.union(isl.UnionMap.from_map(times.set_tuple_name(IN, statement)))
    return found


def statement_relations(schedule: Schedule) -> Iterator[tuple[str, isl.Map]]:
    """`{ S[p, r] -> [t, time] }` of every statement of the group."""
    if schedule.is_explicit:
        yield from schedule.times.items()
        return
    count = len(schedule.tiling.dims)
    for step in steps(schedule):
        if step.statement is not None:
            yield step.statement.name, coalesced(step.time.project_out(IN, 0, count))


def schedule_tree(schedule: Schedule) -> isl.Schedule:
    """The schedule of a group as a tree: a band of the tiles' coordinates over one of the times inside.

    Instances that run several times are copies, which have their number as a last index: `{ S[p, r, k] }`.
    Errors: TooComplex where an instance has too many copies.
    """
    whole = union_map(schedule)
    copies = isl.UnionMap.empty(whole.get_space())
    for times in parts(whole):
        single = times.is_single_valued()
        copies = copies.union(isl.UnionMap.from_map(times) if single else lower(times).renamed())
    order = isl.MultiUnionPwAff.from_union_map(copies)
    node = isl.Schedule.from_domain(copies.domain()).insert_partial_schedule(order).get_root().child(0)
    coordinates = schedule.tile_to_time.dim(OUT)
    return (node.band_split(coordinates) if 0 < coordinates < order.dim(OUT) else node).get_schedule()
