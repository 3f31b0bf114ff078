"""Prices of random tiles of random graphs against the simulated machine: bytes, cycles, work and what is computed.

python -m tests.codegen.scratchpad.test_drawn_tiles 200
"""

import random
import sys
from dataclasses import replace

import pytest

from polyfuse.codegen.build import Options
from polyfuse.codegen.scratchpad.kernel import build_program
from polyfuse.errors import InvalidInput
from polyfuse.network.reference import max_relative_error, random_inputs, run
from polyfuse.plan.graph.group import OperationGroup, group_of
from polyfuse.plan.price.costs import channel_bytes
from polyfuse.plan.price.options import option_of
from polyfuse.plan.proof.prove import prove_groups
from polyfuse.plan.tiles.tables import Tile, check_tile
from tests.codegen.scratchpad.placing import Placed, placed
from tests.plan.drawn import Drawn, drawn

SUITE, SUITE_STREAMS = 20, 16


def groups_of(case: Drawn, rng: random.Random, streams: bool = False) -> list[tuple[tuple[str, ...], Tile]]:
    """The operations in order, cut in groups, each with a tile that it may have; with streamed weights, or with any."""
    names = [operation.name for operation in case.graph.operations]
    found = []
    while names:
        size = rng.randint(1, min(3, len(names)))
        group = group_of(case.graph, names[:size])
        found.append((tuple(names[:size]), tile_of(case, group, rng, streams)))
        names = names[size:]
    return found


def tile_of(case: Drawn, group: OperationGroup, rng: random.Random, streams: bool) -> Tile:
    """A tile that a plan file may hold."""
    rows, columns = case.graph.tensors[group.reference].shape[2:]
    first = group.operations[0]
    channels = case.graph.tensors[first.output].shape[1]
    blocks = len(group.operations) == 1 and (not first.weight_bytes or channel_bytes(case.graph, first))
    while True:
        keep = [rng.choice(("local", "recompute")) for _ in range(2)]
        mixed = rng.random() < 0.5
        retention = {
            name: tuple(rng.choice(("local", "recompute")) if mixed else place for place in keep)
            for name in group.links
        }
        tile = Tile(
            rng.randint(1, rows),
            rng.choice((0, rng.randint(1, columns))),
            rng.choice((0, rng.randint(0, channels))) if blocks and not streams else 0,
            retention,  # type: ignore[arg-type]
            "streamed" if streams else rng.choice(("resident", "streamed")),
        )
        try:
            check_tile(group, tile)
        except InvalidInput:
            continue
        sources, sinks = dict.fromkeys(group.inputs, "off"), dict.fromkeys(group.outputs, "off")
        try:
            option_of(case.graph, [o.name for o in group.operations], tile, sources, sinks, case.machine)  # type: ignore[arg-type]
        except InvalidInput:
            continue
        return tile


def case_of(seed: int, rng: random.Random, streams: bool = False) -> Drawn:
    """A graph and a machine on which a few channels of weights are several blocks, and transfers are fast or slow."""
    case = drawn(seed, 5, 6, 6)
    offchip = replace(
        case.machine.offchip, latency_cycles=rng.choice((0.0, 1.0, 6.0)), bytes_per_cycle=rng.choice((0.5, 4.0, 32.0))
    )
    machine = replace(case.machine, offchip=offchip, alignment_bytes=max(4, case.machine.alignment_bytes))
    if streams:
        machine = replace(machine, weights_in_place=False, double_buffer=True, lanes=rng.choice((1, 2)))
    return replace(case, machine=machine)


def runs_as_priced(seed: int, streams: bool = False) -> Placed:
    """A graph in random tiles is proved; simulated, it computes the reference, moves and takes what its prices say."""
    rng = random.Random(seed)
    case = case_of(seed, rng, streams)
    dtype = next(info.dtype for info in case.graph.tensors.values())
    plan = placed(case.graph, case.machine, groups_of(case, rng, streams), dtype=dtype)
    assert not prove_groups(plan.groups).unproved
    network = case.graph.network
    inputs = random_inputs(network, seed)
    outputs, taken = build_program(plan.program, Options(flags=("-std=c11", "-O0")))(**inputs)
    if dtype == "float32":
        expected = run(network, inputs)
        for tensor in network.outputs:
            assert max_relative_error(outputs[tensor.name], expected[tensor.name]) < 2e-6
    assert sum(taken.loaded.values()) == sum(option.load_bytes for option in plan.options)
    assert sum(taken.stored.values()) == sum(option.store_bytes for option in plan.options)
    assert taken.weight_bytes == sum(option.weight_bytes for option in plan.options)
    assert taken.cycles == pytest.approx(plan.cycles, rel=1e-9)
    return plan


@pytest.mark.parametrize("seed", range(SUITE))
def test_random_tiles_run_as_they_are_priced(seed: int) -> None:
    runs_as_priced(seed)


@pytest.mark.parametrize("seed", range(SUITE_STREAMS))
def test_random_tiles_with_streamed_weights_run_as_they_are_priced(seed: int) -> None:
    runs_as_priced(seed, streams=True)


if __name__ == "__main__":
    for number in range(int(sys.argv[1])):
        placed_twice = [runs_as_priced(number, streams) for streams in (False, True)]
        cut = [f"{', '.join(option.group)} in {option.tile}" for plan in placed_twice for option in plan.options]
        print(f"{number}: {'; '.join(cut)}", flush=True)
