"""Plans and code that are broken on purpose: the simulated machine says what is wrong, where, and what it found."""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest

from polyfuse.codegen.build import Options
from polyfuse.codegen.scratchpad.kernel import build_program
from polyfuse.codegen.scratchpad.program import ScratchProgram
from polyfuse.errors import SimulationError
from polyfuse.machines.accelerator import accelerator
from polyfuse.network.network import Network
from polyfuse.network.reference import random_inputs
from polyfuse.plan.graph.operations import graph_of
from polyfuse.plan.memory.addresses import Allocation
from polyfuse.plan.tiles.tables import Tile
from tests.codegen.scratchpad.networks import branches, chain, squeeze
from tests.codegen.scratchpad.placing import Edit, Placed, placed

NPU = accelerator("npu")
CHAIN = ("c1", "dw", "pool", "c2")


def whole(edited: Mapping[str, Edit] | None = None, tile: Tile = Tile(1)) -> Placed:  # noqa: B008  (frozen)
    return placed(graph_of(chain(), "int8"), NPU, [(CHAIN, tile)], dtype="int8", edited=edited)


def run(program: ScratchProgram) -> None:
    build_program(program, Options(flags=("-std=c11", "-O0")))(**random_inputs(program.graph.network, 0))


def edited(program: ScratchProgram, old: str, new: str, count: int = 1) -> ScratchProgram:
    """The program with some of its C replaced."""
    assert old in program.text
    return replace(program, text=program.text.replace(old, new, count))


def shifted(by: int) -> Edit:
    return lambda room, _: Allocation(room.address + by, room.bytes)


def onto(other: str, by: int = 0) -> Edit:
    return lambda room, rooms: Allocation(rooms[other].address + by, room.bytes)


def lower(rows: int) -> Edit:
    """A ring with fewer rows, of 8 channels and 12 columns."""
    return lambda room, _: Allocation(room.address, room.bytes - rows * 8 * 12)


def test_what_is_broken_here_is_whole_before() -> None:
    run(whole().program)


ROOMS = {
    "a ring shifted by a byte": ({"ring_c1_out": shifted(1)}, r"c1_out at address \d+: expected a multiple of 64"),
    "weights shifted by a byte": ({"weights_dw": shifted(1)}, r"the weights at address \d+: expected a multiple of 64"),
    "a ring shifted onto its neighbour": (
        {"ring_c1_out": onto("ring_dw_out")},
        r"\(dw\): read at address \d+: expected c1_out\[0, \d+, \d+, \d+\], found dw_out\[",
    ),
    "a ring half on its neighbour": ({"ring_c1_out": onto("ring_dw_out", 128)}, r"expected .*, found "),
    "weights over a ring": ({"weights_dw": onto("ring_x")}, r"expected no transfer under way|expected .*, found "),
    "sums over weights": ({"scratch": onto("weights_c1")}, r"expected the weights\[.*\], found accumulators of c1"),
    "an output over an input": ({"ring_c2_out": onto("ring_pool_out")}, r"expected .*, found "),
    "a ring one row too short": (
        {"ring_c1_out": lower(1)},
        r"\(dw\): read at address \d+: expected c1_out\[0, 0, (\d+), 0\], found c1_out\[0, 0, \d+, 0\]",
    ),
    "beyond the end": ({"ring_c1_out": shifted(1 << 19)}, r"c1_out: expected addresses 0 to 524288, got 52"),
    "before the start": ({"ring_c1_out": shifted(-(1 << 19))}, r"c1_out: expected addresses 0 to 524288, got -"),
}


@pytest.mark.parametrize(("rooms", "message"), ROOMS.values(), ids=ROOMS.keys())
def test_misplaced_buffers_are_found(rooms: dict[str, Edit], message: str) -> None:
    with pytest.raises(SimulationError, match=message):
        run(whole(rooms).program)


def test_an_input_ring_that_has_no_room_for_the_next_step_is_found() -> None:
    short: Edit = lambda room, _: Allocation(room.address, room.bytes - 4 * 24)  # noqa: E731
    with pytest.raises(SimulationError, match=r"found what is still being loaded|expected x\[.*\], found x\["):
        run(whole({"ring_x": short}).program)


C = {
    "a load that is not waited for": (
        "    dma_wait(loading);\n",
        "",
        r"expected x\[.*\], found what is still being loaded|expected no transfer under way there",
    ),
    "a store that is not waited for": (
        "    dma_wait(storing);\n",
        "",
        r"c2_out .*expected no transfer under way there, found c2_out\[.*\], which is still being stored",
    ),
    "the last store": ("  dma_wait(storing);\n}", "}", r"expected every transfer to be waited for, 1 are not"),
    "weights that are not loaded": (
        "  loading = dma_load(",
        "  (void)sizeof dma_load(",
        r"the weights\[.*\], found nothing",
    ),
    "a store of another row": ("fresh_c2_out[step - 1])", "fresh_c2_out[step])", r"expected c2_out\[.*\], found"),
    "an operation left out": (
        "op1_dw(&at_dw_out",
        "if (0) op1_dw(&at_dw_out",
        r"\(pool\): read .* dw_out\[.*found nothing",
    ),
    "an unknown tensor": ("dma_store(v->tensor", "dma_store(v->tensor + 90", r"expected tensors 0 to 5, got 9\d"),
    "an unknown ticket": ("    dma_wait(storing);", "    dma_wait(12345);", r"expected tickets up to \d+, got 12345"),
    "more of a tensor than there is": (
        "dma_load(address, v->tensor, offset",
        "dma_load(address, v->tensor, offset + 3840",
        r"load of x: expected bytes 0 to 3840 of it, got 3840",
    ),
}


@pytest.mark.parametrize(("old", "new", "message"), C.values(), ids=C.keys())
def test_wrong_code_is_found(old: str, new: str, message: str) -> None:
    with pytest.raises(SimulationError, match=message):
        run(edited(whole().program, old, new))


def pinned_plan(make: Callable[[], Network]) -> Placed:
    graph = graph_of(make(), "int8")
    names = [operation.name for operation in graph.operations]
    cut = names.index("s1") if "s1" in names else 5
    tensor = "d_out" if "s1" in names else graph.operations[4].output
    return placed(graph, NPU, [(names[:cut], Tile(1)), (names[cut:], Tile(1))], (tensor,), (), "int8")


@pytest.mark.parametrize("make", [squeeze, branches])
def test_a_pinned_tensor_that_is_overwritten_is_found(make: Callable[[], Network]) -> None:
    """The group that makes it puts it elsewhere than where others read it."""
    plan = pinned_plan(make)
    run(plan.program)
    pinned = re.search(r"  (\w+): whole at 0$", plan.program.text.replace(" *   ", "  "), re.MULTILINE)
    assert pinned is not None
    moving = re.compile(rf"(view at_{pinned[1]} = \{{\d+, )0,")
    text = moving.sub(rf"\g<1>{NPU.alignment_bytes},", plan.program.text, count=1)
    assert text != plan.program.text
    with pytest.raises(SimulationError, match=rf"(expected|found) {pinned[1]}\["):
        run(replace(plan.program, text=text))


def test_an_output_that_is_never_stored_is_missed() -> None:
    with pytest.raises(SimulationError, match=r"expected all of c2_out off chip in the end, 252 bytes are not"):
        run(edited(whole().program, "storing = max(storing, move_box(", "storing += 0 * sizeof(move_box(", -1))
