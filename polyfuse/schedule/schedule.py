"""A schedule of one group: for every tensor, at which tiles its elements are computed, loaded and stored.

    Network + Strategy ──scheduled()──> Schedule

A tile runs its stages in order: a layer's stage is preceded by the loads of what it reads and followed by the store
of what it makes, where there are any. Time is `[tile coordinates, stage]`; weights that are loaded once are loaded
before the first tile.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import islpy as isl

from polyfuse.choices import BUFFER, RETAINED_IN, Place
from polyfuse.doors import public
from polyfuse.errors import InvalidInput
from polyfuse.network.layer import Layer
from polyfuse.network.network import Network
from polyfuse.network.tensor import Tensor
from polyfuse.schedule.retention import Retained, retain, stored_in
from polyfuse.schedule.strategy import Strategy
from polyfuse.schedule.tiling import Tiling
from polyfuse.sets.closure import closed
from polyfuse.sets.coalescing import coalesced, simplified
from polyfuse.sets.limits import operation_limit
from polyfuse.sets.spaces import freed, relation_space
from polyfuse.text import html_table, tile_label

Role = Literal["input", "weight", "made"]
Action = Literal["load", "make", "store"]
WEIGHTS = {"once": "group", "tile": "tile"}


@dataclass(frozen=True)
class Mark:
    """What is asked of the loops over a dimension of given times: that they are unrolled, vectors or shared by threads.

    `factor` is how many iterations are unrolled, or in a vector.
    """

    kind: Literal["unroll", "vectorize", "parallel"]
    factor: int = 0

    def __str__(self) -> str:
        return f"{self.kind} {self.factor}" if self.factor else self.kind


@dataclass(frozen=True)
class Stage:
    """One step of a tile: load, make or store one tensor."""

    action: Action
    tensor: Tensor

    def __str__(self) -> str:
        return f"{self.action} {self.tensor.name}"


@dataclass(frozen=True, eq=False)
class Flow:
    """The moments of one tensor in a group; all relations are `{ A[a] -> tile[t] }`.

    need        tiles whose stages read the element, or whose outputs hold it
    extended    the same as if the image had no borders
    arrivals    when it enters its on-chip buffer: executions and loads together
    executions  when it is computed (none for an input)
    loads       when it is loaded from off-chip
    stores      when it is written off-chip, or to the memory in which it is retained: at most once
    """

    tensor: Tensor
    role: Role
    places: tuple[Place, ...]
    need: isl.Map
    extended: isl.Map
    arrivals: isl.Map
    executions: isl.Map
    loads: isl.Map
    stores: isl.Map

    def __str__(self) -> str:
        return f"{self.tensor} ({self.role}): {', '.join(self.places)}"

    __repr__ = __str__


@public
@dataclass(frozen=True, eq=False)
class Schedule:
    """A group's layers with the tiles at which everything happens. Made by `schedule`; see the module.

    `tile_to_time`, `{ tile[t] -> [time] }`, is the order of the tiles: the lexicographic one unless replaced.
    `times`, `{ S[p, r] -> [t, time] }` by statement, are times inside of the tile that were given (see `given`); the
    layers that have them run together, and `reorder` says that their sums may be added up in another order. `marks` are
    those of dimensions of these times (see `transform`).
    """

    network: Network
    strategy: Strategy
    tiling: Tiling
    flows: Mapping[str, Flow]
    stages: tuple[Stage, ...]
    preloaded: tuple[Tensor, ...]
    tile_to_time: isl.Map
    times: Mapping[str, isl.Map] = field(default_factory=dict)
    reorder: bool = False
    marks: Mapping[int, Mark] = field(default_factory=dict)

    def executions(self, layer: Layer) -> isl.Map:
        """`{ L[p] -> tile[t] }`: the schedule of a layer's points, non-singular where they are recomputed.

        Errors: InvalidInput for a layer of another network.
        """
        if layer.output.name not in self.flows:
            layer = self.network.layer(layer.name)
        return layer.makes.apply_range(self.flows[layer.output.name].executions)

    def reads(self, layer: Layer, tensor: Tensor) -> isl.Map:
        """`{ A[a] -> tile[t] }`: at which tiles a layer's executions read an element."""
        return coalesced(layer.reads(tensor).reverse().apply_range(self.executions(layer)))

    def stage(self, action: Action, tensor: Tensor) -> int | None:
        """The position of a stage; None where the tile has none. Layers whose times are given run in one."""
        wanted = Stage(action, tensor)
        if wanted not in self.stages:
            return None
        return self.together if wanted in self._given else self.stages.index(wanted)

    def is_given(self, layer: Layer) -> bool:
        """Whether the times of a layer inside of the tile are given."""
        return any(statement.name in self.times for statement in layer.statements)

    @property
    def is_explicit(self) -> bool:
        """Whether all times inside of tiles are given, and tiles run in the order of their coordinates."""
        return bool(self.times) and self.is_in_order and all(map(self.is_given, self.network.layers))

    @cached_property
    def _given(self) -> frozenset[Stage]:
        return frozenset(Stage("make", layer.output) for layer in self.network.layers if self.is_given(layer))

    @cached_property
    def together(self) -> int:
        """The position of the stage in which the layers run whose times are given; 0 where none are."""
        return min(map(self.stages.index, self._given), default=0)

    @cached_property
    def is_in_order(self) -> bool:
        """Whether tiles run in the order of their coordinates."""
        same = isl.Map.identity(self.tiling.space.map_from_set()).reset_tuple_id(isl.dim_type.out)
        return bool(self.tile_to_time.is_equal(same))

    @property
    def time_names(self) -> tuple[str, ...]:
        """Names of the dimensions of times that are given: `t0` and so on, the tile's first."""
        lengths = {times.dim(isl.dim_type.out) for times in self.times.values()}
        return tuple(f"t{d}" for d in range(max(lengths, default=0)))

    def cut_axes(self, flow: Flow) -> tuple[int, ...]:
        """The axes of a tensor that tiles cut; of tiles that were given, those on which something depends."""
        rank = len(flow.tensor.shape)
        if not self.tiling.given:
            return tuple(sorted({dim.axis for dim in self.tiling.dims if dim.axis < rank}))
        moments = (flow.need, flow.arrivals, flow.executions, flow.loads, flow.stores)
        return tuple(axis for axis in range(rank) if any(depends(moment, flow.tensor, axis) for moment in moments))

    @property
    def in_order(self) -> tuple[Flow, ...]:
        """The flows in the order in which a tile first does something with them."""
        return tuple(self.flows[name] for name in dict.fromkeys(stage.tensor.name for stage in self.stages))

    def __str__(self) -> str:
        names = [dim.name for dim in self.tiling.dims]
        weights = f"weights loaded once a {WEIGHTS[self.strategy.weights]}"
        head = f"{self.network.name}: tile {self.tiling} of {self.network.outputs[-1]}, "
        head += f"coordinates {', '.join(names)}, placement {self.strategy.placement}, {weights}"
        if self.times:
            head = f"{self.network.name}: times [{', '.join(self.time_names)}], tile {self.tiling}, {weights}"
        lines = [head, f"a tile: {', '.join(map(str, self.stages))}"]
        for flow in self.in_order:
            along = [f"{place} along {name}" for place, name in zip(flow.places, names, strict=True)]
            same = len(set(flow.places)) == 1
            lines.append(f"{flow.tensor} ({flow.role}): {flow.places[0] if same else ', '.join(along)}")
        lines += [f"{mark} along t{dim}" for dim, mark in sorted(self.marks.items())]
        lines += [str(times) for times in self.times.values()]
        return "\n  ".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        names = [dim.name for dim in self.tiling.dims]
        rows = [(flow.tensor, flow.role, *flow.places) for flow in self.in_order]
        return html_table(str(self).splitlines()[0], ("tensor", "role", *(f"along {n}" for n in names)), rows)


def depends(moments: isl.Map, tensor: Tensor, axis: int) -> bool:
    """Whether `{ A[a] -> tile[t] }` differs along an axis of the tensor."""
    free = freed(moments, isl.dim_type.in_, [axis]).intersect_domain(tensor.box)
    return bool(free != moments)


def scheduled(network: Network, strategy: Strategy) -> Schedule:
    """Tile the outputs of a group and pull everything else: layers backwards, each after its readers.

    Errors: InvalidInput for a strategy that does not fit the network, TooComplex above isl's operation limit.
    """
    reference = network.outputs[-1]
    check_strategy(network, strategy)
    tiling = tiling_of(strategy, reference)
    flows: dict[str, Flow] = {}
    with operation_limit(what=f"schedule of {network.name!r} in tiles of {tiling}"):
        for layer in reversed(network.layers):
            flows[layer.output.name] = made_flow(network, strategy, tiling, layer, flows)
        flows |= loaded_flows(network, strategy, tiling, flows)
    preloaded = weights_of(network) if strategy.weights == "once" else ()
    in_order = isl.Map.identity(tiling.space.map_from_set()).reset_tuple_id(isl.dim_type.out)
    return Schedule(network, strategy, tiling, flows, stages_of(network, flows), preloaded, in_order)


def weights_of(network: Network) -> tuple[Tensor, ...]:
    """Every weight once, in the order of the layers."""
    return tuple(dict.fromkeys(weight for layer in network.layers for weight in layer.weights))


def loaded_flows(network: Network, strategy: Strategy, tiling: Tiling, flows: Mapping[str, Flow]) -> dict[str, Flow]:
    """The flows of the inputs, and of the weights that tiles load."""
    loaded = {tensor.name: input_flow(network, strategy, tiling, tensor, flows) for tensor in network.inputs}
    if strategy.weights == "tile":
        loaded |= {weight.name: weight_flow(network, tiling, weight, flows) for weight in weights_of(network)}
    return loaded


def tiling_of(strategy: Strategy, reference: Tensor) -> Tiling:
    """The tiles of an output of a group. Errors: InvalidInput for sizes, axes and orders that do not fit it."""
    return Tiling.of(strategy.tile, len(reference.shape), strategy.running_order(), strategy.axes)


def check_strategy(network: Network, strategy: Strategy) -> None:
    """Refuse retention of unknown tensors and tiles larger than the image. Errors: InvalidInput."""
    check_names(network, strategy)
    reference = network.outputs[-1]
    for dim in tiling_of(strategy, reference).dims:
        largest = reference.shape[dim.axis]
        if isinstance(largest, int) and dim.size > largest:
            raise InvalidInput(
                f"tile {tile_label(strategy.tile, strategy.axes)}: larger than the output {reference}; the largest "
                f"size of axis {dim.axis} is {largest}"
            )


def check_names(network: Network, strategy: Strategy) -> None:
    """Refuse retention of unknown tensors. Errors: InvalidInput."""
    known = {tensor.name for tensor in network.inputs} | {layer.output.name for layer in network.layers}
    for name in strategy.retention:
        if name not in known:
            raise InvalidInput(
                f"retention: network {network.name!r} has no tensor {name!r}; it has {', '.join(sorted(known))}"
            )


def pulled(network: Network, tiling: Tiling, tensor: Tensor, flows: Mapping[str, Flow]) -> tuple[isl.Map, isl.Map]:
    """The need of a tensor's readers, and the need that they would have without borders."""
    empty = isl.Map.empty(relation_space(tensor.box.get_space(), tiling.space))
    need, extended = empty, empty
    for reader in (layer for layer in network.layers if tensor in (*layer.inputs, *layer.weights)):
        flow = flows[reader.output.name]
        read = reader.reads(tensor).reverse().apply_range(reader.makes.apply_range(flow.executions))
        anywhere = reader.extended_reads(tensor).reverse().apply_range(without_borders(reader, flow))
        need = need.union(read)
        extended = extended.union(anywhere if has_first_tile(anywhere) else read)
    return simplified(coalesced(need)), simplified(coalesced(extended))


def has_first_tile(extended: isl.Map) -> bool:
    """Every element is needed by finitely many tiles, in and outside of the image; not so where it is broadcast."""
    rank, parameters = extended.dim(isl.dim_type.in_), extended.dim(isl.dim_type.param)
    tiles_of_one = extended.move_dims(isl.dim_type.param, parameters, isl.dim_type.in_, 0, rank).range()
    return bool(tiles_of_one.is_bounded())


def without_borders(layer: Layer, flow: Flow) -> isl.Map:
    """`{ L[p] -> tile[t] }`: the extended executions of a layer: the first extended need along what is retained."""
    kept = tuple("recompute" if RETAINED_IN[place] is None else "local" for place in flow.places)
    executions = retain(flow.extended, flow.extended, kept, "first").executions
    return layer.makes_anywhere.apply_range(executions)


def made_flow(network: Network, strategy: Strategy, tiling: Tiling, layer: Layer, flows: Mapping[str, Flow]) -> Flow:
    """The flow of a layer's output: needed by its readers and, if it is an output, by the tile that holds it."""
    tensor = layer.output
    need, extended = needed(network, tiling, tensor, flows)
    wanted = coordinate_places(strategy, tiling, tensor.name)
    if layer.recurs:
        need, extended = with_own_reads(layer, need, wanted)
    places = effective_places(wanted, extended)
    return flow_of_made(network, layer, places, need, extended, retain(need, extended, places, strategy.placement))


def with_own_reads(layer: Layer, need: isl.Map, wanted: tuple[Place, ...]) -> tuple[isl.Map, isl.Map]:
    """The need of the output of a layer that recurs, with and without borders.

    A tile that makes an element needs the elements that this is made from, and so on: `every` is the need if all that
    tiles need they make. What is made at the first tile alone, by `wanted`, needs others at that one alone; where those
    are made by then anyway, nothing is needed any earlier.
    """
    read = layer.makes.reverse().apply_range(layer.reads(layer.output)).reverse()
    if all(RETAINED_IN[place] is not None for place in wanted):
        executions = first_along_all(need)
        readers = executions.reverse().apply_range(read.apply_range(executions))
        if readers.is_subset(isl.Map.lex_le(need.get_space().range())) and read.domain().is_subset(need.domain()):
            every = coalesced(need.union(read.apply_range(executions)))
            return every, every
    every = closed(need, read)
    executions = retain(every, every, effective_places(wanted, every), "first").executions
    return coalesced(need.union(read.apply_range(executions))), every


def needed(network: Network, tiling: Tiling, tensor: Tensor, flows: Mapping[str, Flow]) -> tuple[isl.Map, isl.Map]:
    """The need of a layer's output with and without borders.

    An element of an output that nothing reads is needed by one tile, and so is one of a layer all of whose points run;
    a tensor of which nothing is read is taken for an output.
    """
    need, extended = pulled(network, tiling, tensor, flows)
    maker = network.makers[tensor]
    made = maker.makes.range()
    if need.is_empty():
        extended = tiling.tiles_of(tensor, network.outputs[-1])
        need = extended.intersect_domain(made)
    elif tensor in network.outputs or maker.runs_all:
        reference = network.outputs[-1] if tensor in network.outputs else tensor
        holes = tiling.tiles_of(tensor, reference).subtract_domain(extended.domain())
        if not holes.intersect_domain(made).is_empty():
            extended = extended.union(holes)
        missing = made.subtract(need.domain())
        need = coalesced(need.union(first_along_all(extended.intersect_domain(missing))))
    return need, extended


def flow_of_made(
    network: Network, layer: Layer, places: tuple[Place, ...], need: isl.Map, extended: isl.Map, kept: Retained
) -> Flow:
    """The flow of a layer's output whose arrivals are known: outputs, and what other tiles load, are stored once."""
    tensor = layer.output
    stored = isl.Set.empty(tensor.box.get_space())
    if tensor in network.outputs:
        stored = layer.makes.range()
    elif stored_in(places):
        stored = kept.loads.domain()
    stores = first_along_all(kept.executions.intersect_domain(stored))
    return Flow(tensor, "made", places, need, extended, kept.arrivals, kept.executions, kept.loads, stores)


def input_flow(network: Network, strategy: Strategy, tiling: Tiling, tensor: Tensor, flows: Mapping[str, Flow]) -> Flow:
    """The flow of an input: nothing computes it, every arrival is a load; what no buffer retains is loaded again."""
    need, extended = pulled(network, tiling, tensor, flows)
    wanted = effective_places(coordinate_places(strategy, tiling, tensor.name), extended)
    places = tuple("local" if RETAINED_IN[place] == BUFFER else "recompute" for place in wanted)
    arrivals = retain(need, extended, places, strategy.placement).arrivals
    nothing = isl.Map.empty(need.get_space())
    return Flow(tensor, "input", places, need, extended, arrivals, nothing, arrivals, nothing)


def weight_flow(network: Network, tiling: Tiling, weight: Tensor, flows: Mapping[str, Flow]) -> Flow:
    """The flow of a weight that every tile loads again."""
    need, extended = pulled(network, tiling, weight, flows)
    nothing = isl.Map.empty(need.get_space())
    places = ("recompute",) * len(tiling.dims)
    return Flow(weight, "weight", places, need, extended, need, nothing, need, nothing)


def first_along_all(relation: isl.Map) -> isl.Map:
    """The lexmin: one tile for each element."""
    return coalesced(relation.lexmin())


def coordinate_places(strategy: Strategy, tiling: Tiling, name: str) -> tuple[Place, ...]:
    """The places of a tensor for each coordinate of a tile; images of a batch share nothing.

    Values outlive loops around given tiles that are no tiles themselves.
    """
    places: list[Place] = ["local" if tiling.given else "recompute"] * len(tiling.dims)
    for k, place in enumerate(strategy.places(name)):
        places[tiling.positions[k]] = place
    return tuple(places)


def effective_places(places: tuple[Place, ...], need: isl.Map) -> tuple[Place, ...]:
    """The places, with nothing retained along coordinates in which no two tiles share an element."""
    shared = need.reverse().apply_range(need).deltas()
    return tuple(
        place if shared.is_empty() or shared.dim_max_val(d) != isl.Val(0) else "recompute"
        for d, place in enumerate(places)
    )


def stages_of(network: Network, flows: Mapping[str, Flow]) -> tuple[Stage, ...]:
    """Each layer's stage, the loads of what it reads before it, the store of what it makes after it."""
    stages: list[Stage] = []
    for layer in network.layers:
        for tensor in (*layer.inputs, *layer.weights):
            flow = flows.get(tensor.name)
            if flow is not None and flow.role != "made" and Stage("load", tensor) not in stages:
                stages.append(Stage("load", tensor))
        flow = flows[layer.output.name]
        if not flow.loads.is_empty():
            stages.append(Stage("load", layer.output))
        stages.append(Stage("make", layer.output))
        if not flow.stores.is_empty():
            stages.append(Stage("store", layer.output))
    return tuple(stages)
