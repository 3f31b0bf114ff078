"""Random programs as networks: every element ends with the value that the program, run as it stands, leaves in it."""

import json
import random

import islpy as isl
import numpy as np
import pytest

import polyfuse as pf
from polyfuse.network.scop.jscop import parse_jscop
from polyfuse.network.scop.layers import ScopNetwork, scop_network
from polyfuse.schedule.interpreter import interpret
from tests.oracles.scops import Access, Affine, Index, Program, Statement, document, drawn_program, in_order

Values = dict[tuple[str, Index], float]


def weights(statement: Statement) -> list[float]:
    """A factor for each read of a statement."""
    return [0.25 + 0.125 * k for k, access in enumerate(statement.accesses) if access.kind == "read"]


def run(program: Program, values: Values) -> dict[tuple[str, Index], tuple[str, Index]]:
    """Run a program on what its arrays hold; the instance that was the last one to write each element."""
    last = {}
    for statement, point in in_order(program):
        read = [values[a.array, a.at(point)] for a in statement.accesses if a.kind == "read"]
        value = 1.0 + sum(w * v for w, v in zip(weights(statement), read, strict=True))
        for access in statement.accesses:
            if access.kind == "write":
                values[access.array, access.at(point)] = value
                last[access.array, access.at(point)] = (statement.name, point)
    return last


def expressions(program: Program, made: ScopNetwork) -> dict[str, str]:
    """What `run` computes, in terms of the operands."""
    found = {}
    for statement in program:
        write = next(a for a in statement.accesses if a.kind == "write")
        same = {k for k, a in enumerate(statement.accesses) if cells(statement, a) == cells(statement, write)}
        names = {k: n for part in made.parts[statement.name] for k, n in part.operands.items() if n != "acc"}
        reads = [k for k, a in enumerate(statement.accesses) if a.kind == "read"]
        terms = [f"{w} * {'acc' if k in same else names[k]}" for w, k in zip(weights(statement), reads, strict=True)]
        found[statement.name] = " + ".join(["1.0", *terms])
    return found


def cells(statement: Statement, access: object) -> tuple[str, list[Index]]:
    """What an access touches, instance by instance."""
    return access.array, [access.at(point) for point in statement.points]


def network_of(program: Program, ranks: dict[str, int]) -> ScopNetwork:
    """The network, with what its statements compute."""
    scop = parse_jscop(json.dumps(document(program, ranks, "float")))
    return scop_network(scop, expressions(program, scop_network(scop)))


def inputs_of(made: ScopNetwork, values: Values) -> dict[str, np.ndarray]:
    """What the arrays hold before the program."""
    found = {}
    for tensor in made.network.inputs:
        array = tensor.name.removesuffix("_in")
        found[tensor.name] = np.zeros(tensor.concrete_shape)
        for index in np.ndindex(tensor.concrete_shape):
            found[tensor.name][index] = values[array, () if array == "s" else index]
    return found


def place_of(made: ScopNetwork, name: str, point: Index) -> tuple[str, Index]:
    """The tensor and the element that hold the value of an instance."""
    at = isl.Set(f"{{ {name}[{', '.join(map(str, point))}] }}")
    for part in made.parts[name]:
        image = at.apply(part.instances)
        if not image.is_empty():
            layer = next(layer for layer in made.network.layers if part.name in [s.name for s in layer.statements])
            found = image.sample_point()
            values = [int(found.get_coordinate_val(isl.dim_type.set, d).to_python()) for d in range(layer.rank)]
            return layer.output.name, tuple(values)
    raise AssertionError(f"{name}{point} is in no layer")


def initial(draw: random.Random, ranks: dict[str, int]) -> Values:
    """Values of all arrays."""
    return {
        (array, index): float(np.float32(draw.uniform(-1, 1)))
        for array, rank in ranks.items()
        for index in np.ndindex((12,) * rank if rank < 2 else (12, 32))
    }


def checked(
    draw: random.Random, program: Program, ranks: dict[str, int]
) -> tuple[ScopNetwork, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The network of a program, whose tensors hold at the end what the program leaves; inputs, and all values."""
    made = network_of(program, ranks)
    values = initial(draw, ranks)
    given = inputs_of(made, values)
    last = run(program, values)
    found = pf.reference(made.network, given)
    for element, instance in last.items():
        tensor, index = place_of(made, *instance)
        assert np.isclose(found[tensor][index], values[element], rtol=1e-9), (program, element, str(made))
    return made, given, found


def test_random_programs_become_networks_that_compute_the_same() -> None:
    draw = random.Random(4)
    tiled = recurring = partly = 0
    for _ in range(60):
        program, ranks = drawn_program(draw)
        made, given, found = checked(draw, program, ranks)
        recurring += any(layer.recurs for layer in made.network.layers)
        partly += any(layer.made is not None for layer in made.network.layers)
        executed = sum(pf.count(s.domain) for layer in made.network.layers for s in layer.statements)
        assert executed == sum(len(list(statement.points)) for statement in program), "each instance is one execution"
        output = made.network.outputs[-1]
        tile = tuple(draw.randint(1, size) for size in output.concrete_shape[: draw.randint(0, 2)])
        (group,) = pf.fused(made.network, pf.Strategy.named(draw.choice(["recompute", "local", "global"]), tile))
        for name, value in interpret(group, given).outputs.items():
            np.testing.assert_allclose(value, found[name], rtol=1e-9)
            tiled += 1
    assert tiled > 60 and recurring > 10 and partly > 10


@pytest.mark.parametrize(
    "first, step, goes_on", [(0, 1, True), (2, 1, True), (0, 2, False)], ids=["first", "last", "by turns"]
)
def test_sums_keep_their_order_where_terms_come_from_several_tensors(first: int, step: int, goes_on: bool) -> None:
    """`A[i] = 1 + A[i] / 4 + 3 X[k] / 8` for k = 0 to 3, two of which the program makes."""
    set_x = Statement(
        "set", (2,), False, (Affine((0,), 0), Affine((1,), 0)), (Access("write", "X", (Affine((step,), first),)),)
    )
    reads = (Access("read", "A", (Affine((1, 0), 0),)), Access("read", "X", (Affine((0, 1), 0),)))
    times = (Affine((1, 0), 1), Affine((0, 1), 0))
    add = Statement("add", (3, 4), False, times, (*reads, Access("write", "A", (Affine((1, 0), 0),))))
    made, _, _ = checked(random.Random(0), (set_x, add), {"A": 1, "X": 1})
    layer = made.network.layers[-1]
    assert layer.recurs != goes_on and layer.output.concrete_shape == ((3,) if goes_on else (4, 4))
