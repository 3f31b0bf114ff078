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
from polyfuse.plan.price.costs import block_channels, channel_bytes, tiled_group
from polyfuse.plan.price.options import Option, option_of
from polyfuse.plan.proof.prove import prove_groups
from polyfuse.plan.tiles.tables import Tile, check_tile
from tests.codegen.scratchpad.placing import Placed, placed
from tests.plan.drawn import Drawn, drawn

SUITE = 24


def groups_of(case: Drawn, rng: random.Random) -> list[tuple[tuple[str, ...], Tile]]:
    """The operations in order, cut in groups, each with a tile that it may have."""
    names = [operation.name for operation in case.graph.operations]
    found = []
    while names:
        size = rng.randint(1, min(3, len(names)))
        group = group_of(case.graph, names[:size])
        found.append((tuple(names[:size]), tile_of(case, group, rng)))
        names = names[size:]
    return found


def tile_of(case: Drawn, group: OperationGroup, rng: random.Random) -> Tile:
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
            rng.randint(0, channels) if blocks else 0,
            retention,  # type: ignore[arg-type]
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


def runs_as_priced(seed: int) -> Placed:
    """A graph in random tiles is proved; simulated, it computes the reference, moves and takes what its prices say."""
    case, rng = drawn(seed, 4, 6, 4), random.Random(seed)
    case = replace(case, machine=replace(case.machine, alignment_bytes=max(4, case.machine.alignment_bytes)))
    dtype = next(info.dtype for info in case.graph.tensors.values())
    plan = placed(case.graph, case.machine, groups_of(case, rng), dtype=dtype)
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
    beyond = sum(blocks_beyond(case, option) for option in plan.options)
    assert plan.cycles - beyond <= taken.cycles * (1 + 1e-9) and taken.cycles <= plan.cycles * (1 + 1e-9)
    return plan


def blocks_beyond(case: Drawn, option: Option) -> float:
    """The transfers that a price counts and the machine does not wait for: a block of streamed weights in each image.

    Behind the last block of weights that are streamed the model loads a first one again.
    """
    group = group_of(case.graph, option.group)
    streams = tiled_group(group, option.tile, [option.tile.rows], case.machine).streams
    sizes = [block_channels(case.graph, o, case.machine) * channel_bytes(case.graph, o) for o in streams]
    return max(map(case.machine.transfer_cycles, sizes), default=0.0) * case.graph.images


@pytest.mark.parametrize("seed", range(SUITE))
def test_random_tiles_run_as_they_are_priced(seed: int) -> None:
    runs_as_priced(seed)


if __name__ == "__main__":
    for number in range(int(sys.argv[1])):
        cut = [f"{', '.join(option.group)} in {option.tile}" for option in runs_as_priced(number).options]
        print(f"{number}: {'; '.join(cut)}", flush=True)
