"""Schedules with executions or an order of tiles that the user made.

    Schedule + { L[p] -> tile[t] } for some layers ──with_executions()──> Schedule ──storage()──> legality.check()

Nothing is believed: legality judges the result like any other schedule.
"""

from collections.abc import Mapping
from dataclasses import replace

import islpy as isl

from polyfuse.errors import InvalidInput
from polyfuse.network.layer import Layer
from polyfuse.network.network import Network
from polyfuse.schedule.retention import Retained, first_along, in_buffer, stored_in
from polyfuse.schedule.schedule import (
    Flow,
    Schedule,
    coordinate_places,
    effective_places,
    first_along_all,
    flow_of_made,
    loaded_flows,
    made_flow,
    needed,
    pulled,
    stages_of,
)
from polyfuse.schedule.strategy import Strategy
from polyfuse.schedule.tiling import Tiling
from polyfuse.sets.coalescing import coalesced
from polyfuse.sets.limits import operation_limit
from polyfuse.sets.reading import MapLike, as_map
from polyfuse.sets.spaces import unnamed


def with_executions(schedule: Schedule, executions: Mapping[str, MapLike], *, pull: bool = True) -> Schedule:
    """The schedule with other executions of some layers, by name: `{ L[p] -> tile[t] }`, as isl text or objects.

    Where values wait is still the strategy's choice: a tensor retained nowhere must be made by every tile that reads
    it, one retained locally waits in a ring, one retained globally is loaded by tiles that need and do not make it.
    What is no point of a layer is left out. With `pull`, layers that are not named and inputs make and load what their
    readers now need; without, they make and load what they did.

    Errors: InvalidInput for an unknown layer, text that isl cannot read, a relation between other tuples or of no point
    at all; TooComplex above isl's limit.

    >>> from polyfuse.network.network import Builder
    >>> from polyfuse.schedule.schedule import scheduled
    >>> from polyfuse.schedule.strategy import Strategy
    >>> build = Builder("pair")
    >>> x = build.input("x", (1, 1, 8, 4))
    >>> y = build.conv("c2", build.conv("c1", x, 1, kernel=(3, 1)), 1, kernel=(3, 1))
    >>> rows = scheduled(build.network(y), Strategy((2,)))
    >>> changed = with_executions(rows, {"c1": "{ c1[n, c, h, w] -> tile[0, t] : 0 <= t <= 1 and 2t <= h < 2t + 3 }"})
    >>> [int(str(s.flows["c1_out"].executions.wrap().count_val())) for s in (rows, changed)]
    [32, 24]
    """
    network, strategy, tiling = schedule.network, schedule.strategy, schedule.tiling
    given = {name: checked(schedule, network.layer(name), relation) for name, relation in executions.items()}
    flows: dict[str, Flow] = {}
    with operation_limit(what=f"schedule of {network.name!r} with given executions"):
        for layer in reversed(network.layers):
            name = layer.output.name
            if layer.name in given:
                made = coalesced(layer.makes.reverse().apply_range(given[layer.name]))
                flows[name] = given_flow(network, strategy, tiling, layer, made, flows)
            elif pull:
                flows[name] = made_flow(network, strategy, tiling, layer, flows)
            else:
                flows[name] = kept_flow(schedule, schedule.flows[name], flows)
        if pull:
            flows |= loaded_flows(network, strategy, tiling, flows)
        else:
            loaded = (flow for flow in schedule.flows.values() if flow.role != "made")
            flows |= {flow.tensor.name: kept_flow(schedule, flow, flows) for flow in loaded}
    return replace(schedule, flows=flows, stages=stages_of(network, flows))


def given_flow(
    network: Network, strategy: Strategy, tiling: Tiling, layer: Layer, made: isl.Map, flows: Mapping[str, Flow]
) -> Flow:
    """The flow of a layer's output whose executions are given, `{ T[p] -> tile[t] }`; other needs of tiles are loaded.

    An element of which tiles that are given say nothing is needed where it is first made.
    """
    tensor = layer.output
    need, extended = needed(network, tiling, tensor, flows)
    if tiling.given and (tensor in network.outputs or need.is_empty()):
        need = coalesced(need.union(first_along_all(made.subtract_domain(need.domain()))))
    if layer.recurs:
        executions = layer.makes.apply_range(made)
        need = coalesced(need.union(layer.reads(tensor).reverse().apply_range(executions)))
    if layer.recurs or tiling.given:
        extended = extended.union(need)
    extended = coalesced(extended.union(made))
    places = effective_places(coordinate_places(strategy, tiling, tensor.name), extended)
    loads = isl.Map.empty(need.get_space())
    if stored_in(places):
        loads = coalesced(first_along(need.union(made), in_buffer(places)).subtract(made))
    kept = Retained(coalesced(made.union(loads)), made, loads)
    return flow_of_made(network, layer, places, need, extended, kept)


def kept_flow(schedule: Schedule, flow: Flow, flows: Mapping[str, Flow]) -> Flow:
    """The flow as it was, alive for as long as its readers now need it."""
    need = needed if flow.role == "made" else pulled
    return replace(flow, need=need(schedule.network, schedule.tiling, flow.tensor, flows)[0])


def checked(schedule: Schedule, layer: Layer, executions: MapLike) -> isl.Map:
    """The executions of points of a layer at tiles of the schedule. Errors: InvalidInput."""
    where = f"executions of layer {layer.name!r}"
    form = f"{{ {layer.name}[{numbered('i', layer.rank)}] -> tile[{numbered('t', len(schedule.tiling.dims))}] }}"
    relation = as_map(executions, where, form)
    if not relation.get_space().has_equal_tuples(schedule.executions(layer).get_space()):
        raise InvalidInput(f"{where}: expected {form}, got {relation}")
    found = unnamed(relation).intersect_domain(layer.points)
    if found.is_empty() and not relation.is_empty():
        raise InvalidInput(f"{where}: expected points of {layer.points}, got none in {relation}")
    return found


def numbered(letter: str, count: int) -> str:
    """Names of indices.

    >>> numbered("i", 3)
    'i0, i1, i2'
    """
    return ", ".join(f"{letter}{d}" for d in range(count))


def layer_of(schedule: Schedule, layer: Layer | str) -> Layer:
    """The layer of a schedule that has a name, or the name of that layer. Errors: InvalidInput."""
    return schedule.network.layer(layer if isinstance(layer, str) else layer.name)


def with_tile_order(schedule: Schedule, tile_to_time: MapLike) -> Schedule:
    """The schedule with its tiles in another order: `{ tile[t] -> [time] }`, compared lexicographically.

    Executions stay at their tiles, so a tile may now run before the one that makes what it reads.

    Errors: InvalidInput for text that isl cannot read, and for a relation that does not start at the schedule's tiles.
    """
    where, form = "order of tiles", f"{{ tile[{numbered('t', len(schedule.tiling.dims))}] -> [time] }}"
    order = as_map(tile_to_time, where, form)
    if not order.get_space().domain().has_equal_tuples(schedule.tiling.space):
        raise InvalidInput(f"{where}: expected {form}, got {order}")
    if order.has_tuple_id(isl.dim_type.out):
        order = order.reset_tuple_id(isl.dim_type.out)
    return replace(schedule, tile_to_time=unnamed(order))
