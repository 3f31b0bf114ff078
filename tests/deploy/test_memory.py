"""Bytes that a planned network moves: predicted, counted by running it, and bounded by what must be alive."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from polyfuse.choices import Groups
from polyfuse.codegen.kernel import build
from polyfuse.codegen.lower.selection import SCALAR, Selection
from polyfuse.codegen.program import generate
from polyfuse.deploy.grouping import grouped, ungrouped
from polyfuse.deploy.memory import footprint, least_layer_by_layer
from polyfuse.deploy.model import plan_of, program_of
from polyfuse.deploy.settings import Settings
from polyfuse.network.network import Network
from polyfuse.network.reference import random_inputs
from polyfuse.schedule.counts import counts
from polyfuse.schedule.storage import Storage
from tests.deploy.networks import block, branches, chain, growing


@pytest.mark.parametrize("network", [block(), branches(), chain(), growing()], ids=lambda network: network.name)
@pytest.mark.parametrize("groups", ["planned", "published", "single"])
def test_predicted_bytes_are_counted_bytes(network: Network, groups: Groups) -> None:
    settings = Settings(groups=groups).ready
    plan = plan_of(network, settings)
    program = program_of(network, plan, settings)
    predicted = footprint(program)
    scalar = replace(SCALAR, inside=program.selection.inside)
    stored = [group.storage for group in program.groups]
    kernel = build(generate(program.network, stored, kernels=scalar, instrumented=True))
    kernel(**random_inputs(network, seed=1))
    counted = {"read_bytes": 0, "write_bytes": 0}
    for counter, value in kernel.counts.items():
        if counter.kind in counted and not counter.name.startswith("chip_"):
            counted[counter.kind] += value
    assert (predicted.offchip_read, predicted.offchip_write) == (counted["read_bytes"], counted["write_bytes"])


def test_fusing_moves_and_needs_less() -> None:
    def bytes_of(groups: Sequence[Storage], selection: Selection) -> float:
        return float(sum(counts(group).offchip_bytes for group in groups))

    network = block()
    found = []
    for grouping in (grouped(network, SCALAR, bytes_of), ungrouped(network)):
        found.append(footprint(generate(grouping.network, grouping.groups(SCALAR), kernels=SCALAR)))
    assert found[0].offchip < found[1].offchip
    assert found[0].arena < found[1].arena
    assert found[0].memory < found[1].memory


def test_the_least_is_what_lives_at_the_fullest_layer() -> None:
    network = block()
    # the depthwise layer: 48 channels in and out, and the 16 channels that the sum reads later
    assert least_layer_by_layer(network) == 4 * 8 * 8 * (48 + 48 + 16)
