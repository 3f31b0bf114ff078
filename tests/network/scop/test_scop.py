"""SCoPs: files that are read, written and refused; whether changed ones are legal; scops as layers."""

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import islpy as isl
import numpy as np
import pytest

import polyfuse as pf
from polyfuse.errors import IllegalSchedule, InvalidInput, PolyfuseError
from polyfuse.network.scop.jscop import MOST_BYTES, jscop_text, parse_jscop, read_jscop, write_jscop
from polyfuse.network.scop.layers import scop_network
from polyfuse.network.scop.load import load_scop
from polyfuse.network.scop.order import check_changed, moved_arrays
from polyfuse.network.scop.scop import Scop, with_parameters

TWO_CONVS = Path(__file__).parent / "data" / "two_convs.jscop"
"""What Polly of LLVM 16 exports of two_convs.c, beside it."""

EXPRESSIONS = {
    "Stmt_set_t": "0.0",
    "Stmt_add_t": "acc + w1 * x",
    "Stmt_set_y": "0.0",
    "Stmt_add_y": "acc + w2 * t",
}


def entry(name: str, domain: str, schedule: str, *accesses: str) -> dict[str, Any]:
    """A statement of a file: accesses as `read A[i0]`, over the indices i0, i1."""
    indices = domain.split("]")[0].split("[")[1]
    return {
        "name": name,
        "domain": f"[n] -> {{ {domain} }}",
        "schedule": f"[n] -> {{ {name}[{indices}] -> {schedule} }}",
        "accesses": [
            {"kind": kind, "relation": f"[n] -> {{ {name}[{indices}] -> {element} }}"}
            for kind, element in (access.split(" ", 1) for access in accesses)
        ],
    }


def document(*statements: dict[str, Any], **sizes: list[str]) -> dict[str, Any]:
    """A file with the arrays A, B and C of one axis, or of the sizes that are given."""
    arrays = {"A": ["*"], "B": ["*"], "C": ["*"], **sizes}
    return {
        "name": "f",
        "context": "[n] -> { : 8 <= n <= 1000 }",
        "arrays": [{"name": name, "sizes": size, "type": "float"} for name, size in arrays.items()],
        "statements": list(statements),
    }


BLUR = document(
    entry("S", "S[i] : 0 <= i < n - 2", "[0, i]", "read A[i]", "read A[i + 2]", "write B[i + 1]"),
    entry("T", "T[i] : 0 <= i < n - 4", "[1, i]", "read B[i + 1]", "read B[i + 3]", "write C[i]"),
)


def blur() -> Scop:
    """Two stencils, one after the other, for any n."""
    return parse_jscop(json.dumps(BLUR))


def changed(scop: Scop, **schedules: str) -> Scop:
    """The scop with other schedules of some statements."""
    return replace(
        scop,
        statements=tuple(
            replace(s, schedule=isl.Map(schedules[s.name])) if s.name in schedules else s for s in scop.statements
        ),
    )


def same(one: Scop, other: Scop) -> bool:
    """Equality, relations as isl compares them."""
    pairs = list(zip(one.statements, other.statements, strict=True))
    return (
        one.name == other.name
        and one.arrays == other.arrays
        and one.context == other.context
        and all(a.name == b.name and a.domain == b.domain and a.schedule == b.schedule for a, b in pairs)
        and all(
            (x.kind, x.array) == (y.kind, y.array) and x.relation == y.relation
            for a, b in pairs
            for x, y in zip(a.accesses, b.accesses, strict=True)
        )
    )


@pytest.mark.parametrize("scop", [read_jscop(TWO_CONVS), blur()], ids=["of Polly", "with parameters"])
def test_what_is_written_is_read_as_it_was(scop: Scop, tmp_path: Path) -> None:
    write_jscop(scop, tmp_path / "again.jscop")
    assert same(read_jscop(tmp_path / "again.jscop"), scop)


def test_a_file_of_polly_is_read_as_it_says() -> None:
    scop = read_jscop(TWO_CONVS)
    assert [s.name for s in scop.statements] == list(EXPRESSIONS)
    assert str(scop.array("MemRef_t")) == "float MemRef_t[*, 18]"
    add = scop.statement("Stmt_add_y")
    box = "0 <= h, w < 16 and 0 <= a, b < 3"
    assert add.domain == isl.Set(f"{{ Stmt_add_y[h, w, a, b] : {box} }}")
    assert [access.kind for access in add.accesses] == ["read", "read", "read", "write"]
    assert add.accesses[1].relation == isl.Map("{ Stmt_add_y[h, w, a, b] -> MemRef_t[h + a, w + b] }")


def test_parameters_are_fixed_everywhere() -> None:
    fixed = with_parameters(blur(), {"n": 20})
    assert fixed.parameters == () and pf.count(fixed.statement("S").domain) == 18
    with pytest.raises(InvalidInput, match="n = 3 is not in its context"):
        with_parameters(blur(), {"n": 3})
    with pytest.raises(InvalidInput, match="no parameter 'm'; it has n"):
        with_parameters(blur(), {"m": 3})


def edited(edit: Callable[[dict[str, Any]], object]) -> str:
    """The text of BLUR after an edit."""
    copy = json.loads(json.dumps(BLUR))
    edit(copy)
    return json.dumps(copy)


def put(path: str, value: object) -> Callable[[dict[str, Any]], object]:
    """An edit that sets one place, such as `statements.0.name`."""

    def edit(top: dict[str, Any]) -> None:
        *folders, last = (int(key) if key.isdigit() else key for key in path.split("."))
        place: Any = top
        for key in folders:
            place = place[key]
        place[last] = value

    return edit


BROKEN = [
    (edited(lambda top: top.pop("context")), "'context' is missing"),
    (edited(lambda top: top["statements"][0].pop("schedule")), r"statements\[0\].*'schedule' is missing"),
    (edited(put("statements.0.colour", "red")), "'colour'; take it out"),
    (edited(put("statements", {})), "statements: expected a list"),
    (edited(put("statements", [])), "at least one statement"),
    (edited(put("statements.0", 3)), r"statements\[0\]: expected an object"),
    (edited(put("statements.0.domain", 3)), r"statements\[0\]\.domain: expected text"),
    (edited(put("statements.0.domain", "{ S[i] : i * i < 4 }")), "not affine, or not of this form"),
    (edited(put("statements.0.domain", "{ S[i] : i < m }")), "not affine, or not of this form"),
    (edited(put("statements.0.domain", "{ S[i] : 0 <= i < 8 } and more")), "text outside of its braces"),
    (edited(put("statements.0.domain", "{ U[i] : 0 <= i < 8 }")), "expected the tuple S"),
    (edited(put("statements.0.domain", "[m] -> { S[i] : 0 <= i < m }")), "'m' is not in the context"),
    (edited(put("statements.0.domain", "{ [i] : 0 <= i < 8 }")), "expected the tuple S"),
    (edited(put("statements.0.domain", "{ S[" + "(" * 9999 + "i" + ")" * 9999 + "] }")), "levels of parentheses"),
    (edited(put("statements.0.domain", "{ S[i] : " + "0 <= i and " * 9999 + "i < 9 }")), "at most 50,000 characters"),
    (edited(put("statements.0.schedule", "{ S[i] -> [0, i, 0] }")), r"statement 'T'.*expected the tuple \[3 indices\]"),
    (edited(put("statements.0.schedule", "{ T[i] -> [0, i] }")), r"expected the tuple S\[1 indices\]"),
    (edited(put("statements.0.schedule", "{ S[i, j] -> [0, i] }")), r"expected the tuple S\[1 indices\]"),
    (edited(put("statements.0.schedule", "{ S[i] -> [0, i] : i > 0 }")), "is missing"),
    (edited(put("statements.0.schedule", "{ S[i] }")), r"isl cannot read .* \(a set\)"),
    (edited(put("statements.0.accesses.0.kind", "may_write")), "expected read or write"),
    (edited(put("statements.0.accesses.0.kind", ["read"])), "expected read or write"),
    (edited(put("statements.0.accesses.0.relation", "{ S[i] -> D[i] }")), "one of the arrays A, B, C"),
    (edited(put("statements.0.accesses.0.relation", "{ S[i] -> [i] }")), "one of the arrays A, B, C"),
    (edited(put("statements.0.accesses.0.relation", "{ S[i] -> A[i, i] }")), r"expected the tuple A\[1 indices\]"),
    (edited(put("statements.1.name", "S")), "called 'S'|expected the tuple S"),
    (edited(put("statements.1.name", "T; rm")), "expected a name"),
    (edited(put("arrays.1.name", "A")), "called 'A'"),
    (edited(put("arrays.1.sizes", ["*", "*"])), "expected a size for every axis but the first"),
    (edited(put("arrays.1.sizes", ["-3"])), "a whole number such as '18', or a parameter"),
    (edited(put("arrays.1.allocation", "sky")), "expected heap or stack"),
    (edited(put("context", "{ S[i] }")), "conditions on parameters"),
    ("", "expected JSON"),
    ("[" * 100_000, "levels of JSON"),
    ('{"a":' * 100_000, "levels of JSON"),
    ('{"name": "f", "name": "g"}', "the key 'name' twice"),
    ('"just text"', "expected an object"),
    (json.dumps(BLUR)[:-40], "expected JSON"),
    ("1" * 100_000, "expected JSON"),
]


@pytest.mark.parametrize("text, why", BROKEN, ids=range(len(BROKEN)))
def test_a_broken_file_is_refused_in_one_line(text: str, why: str) -> None:
    with pytest.raises(InvalidInput, match=why) as error:
        parse_jscop(text)
    assert "\n" not in str(error.value) and len(str(error.value)) < 500


def test_files_that_are_no_files_or_too_large_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no such file"):
        read_jscop(tmp_path / "none.jscop")
    with pytest.raises(InvalidInput, match="no such file"):
        read_jscop(tmp_path)
    large = tmp_path / "large.jscop"
    with large.open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(InvalidInput, match=f"at most {MOST_BYTES:,} bytes"):
        read_jscop(large)
    (tmp_path / "latin.jscop").write_bytes(b'{"name": "\xe9"}')
    with pytest.raises(InvalidInput, match="UTF-8"):
        read_jscop(tmp_path / "latin.jscop")


def test_damaged_files_are_read_or_refused_in_one_line() -> None:
    """Characters of a real file are lost, doubled and changed."""
    text = TWO_CONVS.read_text()
    draw = random.Random(0)
    refused = 0
    for _ in range(300):
        at = draw.randrange(len(text))
        damage = draw.choice(["", text[at] * 2, draw.choice('{}[]():",-+*0129 ixSM_>=<'), text[at : at + 40]])
        try:
            scop_network(parse_jscop(text[:at] + damage + text[at + 1 :]))
        except PolyfuseError as error:
            refused += 1
            assert "\n" not in str(error)
    assert 100 < refused < 300


def test_a_legal_schedule_is_accepted() -> None:
    scop = blur()
    check_changed(scop, scop)
    fused = changed(scop, S="[n] -> { S[i] -> [i, 0] }", T="[n] -> { T[i] -> [i + 2, 1] }")
    check_changed(scop, fused)


@pytest.mark.parametrize(
    "schedules",
    [
        {"S": "[n] -> { S[i] -> [i, 0] }", "T": "[n] -> { T[i] -> [i + 1, 1] }"},
        {"S": "[n] -> { S[i] -> [2, i] }"},
        {"S": "[n] -> { S[i] -> [i, 0] }", "T": "[n] -> { T[i] -> [i + 2, 0] }"},
    ],
    ids=["too early", "all before", "at the same time"],
)
def test_an_illegal_schedule_is_refused_with_two_instances_that_conflict(schedules: dict[str, str]) -> None:
    scop = blur()
    with pytest.raises(IllegalSchedule, match=r"S\[(\d+)\].* must run before .*T\[(\d+)\].* B\[\d+\]") as error:
        check_changed(scop, changed(scop, **schedules))
    s, t = (int(str(error.value).split(f"{name}[")[1].split("]")[0]) for name in "ST")
    assert s - t in (0, 2), "T[t] reads B[t + 1] and B[t + 3], which S[t] and S[t + 2] write"


def test_an_instance_with_two_times_is_refused() -> None:
    scop = blur()
    twice = changed(scop, S="[n] -> { S[i] -> [t, i] : 0 <= t <= 1 }", T="[n] -> { T[i] -> [2, i] }")
    with pytest.raises(IllegalSchedule, match=r"S\[\d+\].* runs at several times"):
        check_changed(scop, twice)


def ring(size: int) -> Scop:
    """The stencils fused, with B in a ring of some elements."""
    scop = changed(blur(), S="[n] -> { S[i] -> [i, 0] }", T="[n] -> { T[i] -> [i + 2, 1] }")
    text = jscop_text(scop)
    for index in ("1 + i", "3 + i"):
        for name in "ST":
            text = text.replace(f"{name}[i] -> B[{index}]", f"{name}[i] -> R[({index}) mod {size}]")
    top = json.loads(text)
    top["arrays"].append({"name": "R", "sizes": [str(size)], "type": "float", "allocation": "stack"})
    return parse_jscop(json.dumps(top))


@pytest.mark.parametrize("size", [3, 4, 7])
def test_values_may_wait_in_a_ring_that_is_large_enough(size: int) -> None:
    check_changed(blur(), ring(size))
    assert moved_arrays(blur(), ring(size)) == ("B",)


@pytest.mark.parametrize("size", [1, 2])
def test_a_ring_that_is_too_small_is_refused_although_the_order_is_legal(size: int) -> None:
    with pytest.raises(IllegalSchedule, match=r"T\[\d+\].* reads what .*S\[\d+\].* has written, but not in R"):
        check_changed(blur(), ring(size))


def test_other_statements_or_domains_are_no_changed_schedule() -> None:
    scop = blur()
    with pytest.raises(InvalidInput, match="expected the statements S, T"):
        check_changed(scop, replace(scop, statements=scop.statements[:1]))
    smaller = replace(scop.statements[0], domain=isl.Set("[n] -> { S[i] : 0 <= i < 3 }"))
    with pytest.raises(InvalidInput, match="a changed schedule keeps the instances"):
        check_changed(scop, replace(scop, statements=(smaller, scop.statements[1])))


def test_arrays_become_tensors_and_statements_layers() -> None:
    made = scop_network(read_jscop(TWO_CONVS), EXPRESSIONS)
    assert str(made.network).splitlines() == [
        "scop: w1[3, 3], x[20, 20], w2[3, 3] -> y[16, 16]",
        "  make_t (scop): w1[3, 3], x[20, 20] -> t[18, 18]",
        "  make_y (scop): w2[3, 3], t[18, 18] -> y[16, 16]",
    ]
    assert [s.macs for layer in made.network.layers for s in layer.statements] == [0, 1, 0, 1]


@pytest.mark.parametrize("name, executions", [("recompute", 656), ("local", 580), ("global", 580)])
def test_a_scop_is_tiled_and_counted_as_the_same_layers_are(name: str, executions: int) -> None:
    """The worked example: 400 or 324 executions of t, 256 of y; its halo is 2x2; MACs as those of built-in layers."""
    made = scop_network(read_jscop(TWO_CONVS), EXPRESSIONS)
    build = pf.Builder("pair")
    x = build.input("x", (1, 1, 20, 20))
    y = build.conv("y", build.conv("t", x, 1, kernel=3, bias=False), 1, kernel=3, bias=False)
    strategy = pf.Strategy.named(name, (8, 8))
    (group,), (same_group,) = pf.fused(made.network, strategy), pf.fused(build.network(y), strategy)
    found, wanted = pf.counts(group), pf.counts(same_group)
    assert found.executions == executions == wanted.executions
    assert (found.macs_executed, found.recomputed) == (wanted.macs_executed, wanted.recomputed)
    assert group.buffers["t"].bytes <= same_group.buffers["t_out"].bytes
    assert pf.halos(made.network, (8, 8))["t"] == (2, 2)
    if name == "recompute":
        copies = pf.lower(group.schedule.executions(made.network.layers[0])).copies
        assert [pf.count(copy) for copy in copies] == [324, 68, 4, 4]


def test_a_scop_with_expressions_runs() -> None:
    made = scop_network(read_jscop(TWO_CONVS), EXPRESSIONS)
    (group,) = pf.fused(made.network, pf.Strategy.named("local", (4, 8), "shifted"))
    inputs = pf.random_inputs(made.network, seed=1)
    kernel = pf.build(pf.generate(made.network, [group]))
    windows = np.lib.stride_tricks.sliding_window_view
    t = np.einsum("hwab,ab->hw", windows(inputs["x"].astype(float), (3, 3)), inputs["w1"])
    y = np.einsum("hwab,ab->hw", windows(t, (3, 3)), inputs["w2"])
    assert pf.max_relative_error(kernel(**inputs)["y"], y) < 1e-5


def test_a_scop_without_expressions_is_counted_but_not_run() -> None:
    made = scop_network(read_jscop(TWO_CONVS))
    (group,) = pf.fused(made.network, pf.Strategy.named("recompute", (8, 8)))
    assert pf.counts(group).executions == 656
    with pytest.raises(InvalidInput, match="only what it reads is known"):
        pf.generate(made.network, [group])
    with pytest.raises(InvalidInput, match="only what it reads is known"):
        pf.reference(made.network, pf.random_inputs(made.network, 0))


def test_sizes_may_be_parameters() -> None:
    made = scop_network(blur())
    assert str(made.network).splitlines()[1:] == [
        "  make_B (scop): A[n] -> B[-2 + n]",
        "  make_C (scop): B[-2 + n] -> C[-4 + n]",
    ]
    symbolic = pf.scheduled(made.network, pf.Strategy.named("recompute", (4,))).executions(made.network.layers[0])
    concrete = scop_network(with_parameters(blur(), {"n": 23})).network
    fixed = pf.scheduled(concrete, pf.Strategy.named("recompute", (4,))).executions(concrete.layers[0])
    at = symbolic.fix_val(isl.dim_type.param, 0, isl.Val(23)).project_out(isl.dim_type.param, 0, 1)
    assert at == fixed and pf.count(fixed) == 4 * 6 + 5, "tiles of 4 need 6 elements of B, and the last, of 3, needs 5"


def test_images_without_a_batch_are_cut_in_rows_and_columns() -> None:
    image = document(
        entry("S", "S[c, h, w] : 0 <= c < 2 and 0 <= h, w < 8", "[c, h, w]", "read A[c, h, w]", "write B[c, h, w]"),
        A=["*", "8", "8"],
        B=["*", "8", "8"],
    )
    network = scop_network(parse_jscop(json.dumps(image))).network
    assert str(network.outputs[0]) == "B[1, 2, 8, 8]"
    assert pf.counts(pf.fused(network, pf.Strategy.named("recompute", (4, 4)))[0]).executions == 128


TAKEN = {
    "two arrays written at once": (
        [entry("S", "S[i] : 0 <= i < n", "[i, 0]", "write A[i]", "write B[i]")],
        "scop:  -> A[20], B[20]; make_A (scop):  -> A[20]; make_B (scop):  -> B[20]",
    ),
    "written twice at once": (
        [entry("S", "S[i] : 0 <= i < n", "[i, 0]", "write A[i]", "write A[i]")],
        "scop:  -> A[20]; make_A (scop):  -> A[20]",
    ),
    "a recurrence": (
        [
            entry("S", "S[i] : i = 0", "[0, i]", "write A[i]"),
            entry("T", "T[i] : 1 <= i < n", "[1, i]", "read A[i - 1]", "write A[i]"),
        ],
        "scop:  -> A[20]; make_A (scop):  -> A[20] by itself",
    ),
    "a recurrence along a falling index": (
        [entry("T", "T[i] : 0 <= i < n", "[1, -i]", "read A[i + 1]", "write A[i]")],
        "scop: A_in[21] -> A[20]; make_A (scop): A_in[21] -> A[20] by itself",
    ),
    "updated": (
        [entry("S", "S[i, j] : 0 <= i < n and 0 <= j < 3", "[i, j]", "read A[i]", "read B[j]", "write A[i]")],
        "scop: A_in[20], B[3] -> A[20]; make_A (scop): A_in[20], B[3] -> A[20]",
    ),
    "set in part": (
        [
            entry("S", "S[i] : 0 <= i < 4", "[0, i]", "write A[i]"),
            entry("T", "T[i] : 0 <= i < n", "[1, i]", "read A[i]", "write A[i]"),
        ],
        "scop: A_in[20] -> A[20]; make_A (scop): A_in[20] -> A[20]",
    ),
    "set twice": (
        [entry(name, f"{name}[i] : 0 <= i < n", f"[{k}, i]", "write A[i]") for k, name in enumerate("ST")],
        "scop:  -> A[20], A_2[20]; make_A (scop):  -> A[20]; make_A_2 (scop):  -> A_2[20]",
    ),
    "set again in a loop": (
        [
            entry("S", "S[i, j] : 0 <= i < n and 0 <= j < 3", "[2i, j]", "write A[j]"),
            entry("T", "T[i, j] : 0 <= i < n and 0 <= j < 3", "[2i + 1, j]", "read A[j]", "write D[i, j]"),
        ],
        "scop:  -> D[20, 3]; make_A (scop):  -> A[39, 3] in part; make_D (scop): A[39, 3] -> D[20, 3]",
    ),
    "in a triangle": (
        [entry("S", "S[i, j] : 0 <= j <= i < n", "[i, j]", "write D[i, j]")],
        "scop:  -> D[20, 20]; make_D (scop):  -> D[20, 20] in part",
    ),
    "holes": (
        [entry("S", "S[i] : 0 <= i < n", "[i, 0]", "write A[2i]")],
        "scop:  -> A[39]; make_A (scop):  -> A[39] in part",
    ),
    "read before and behind what is written": (
        [
            entry("S", "S[i] : 0 <= i < n", "[0, i]", "write A[i + 1]"),
            entry("T", "T[i] : 0 <= i < n + 2", "[1, i]", "read A[i]", "write C[i]"),
        ],
        "scop: A_in[22] -> C[22]; make_A (scop):  -> A[20]; make_C (scop): A_in[22], A[20] -> C[22]",
    ),
    "by turns": (
        [
            entry("S", "S[t, i] : 0 <= t < 3 and 0 <= i < n", "[2t, i]", "read C[i]", "write A[i]"),
            entry("T", "T[t, i] : 0 <= t < 3 and 0 <= i < n", "[2t + 1, i]", "read A[i]", "write C[i]"),
        ],
        "scop: C[20] -> A_C[6, 20]; make_A_C (scop): C[20] -> A_C[6, 20] by itself",
    ),
    "read and then written": (
        [
            entry("S", "S[i] : 0 <= i < n", "[0, i]", "read C[i]", "write A[i]"),
            entry("T", "T[i] : 0 <= i < n", "[1, i]", "write C[i]"),
        ],
        "scop: C_in[20] -> A[20], C[20]; make_A (scop): C_in[20] -> A[20]; make_C (scop):  -> C[20]",
    ),
    "a constant, and a sum in no array": (
        [
            entry("S", "S[i] : 0 <= i < n", "[2i, 0]", "write s__phi[]"),
            entry(
                "T", "T[i, j] : 0 <= i < n and 0 <= j < 3", "[2i + 1, j]", "read s__phi[]", "read k[]", "write s__phi[]"
            ),
            entry("U", "U[i] : 0 <= i < n", "[2i + 1, 3]", "read s__phi[]", "write A[i]"),
        ],
        "scop: k[1] -> A[20]; make_s_phi (scop): k[1] -> s_phi[39] in part; make_A (scop): s_phi[39] -> A[20]",
    ),
}
"""Kinds of programs, and the network of each for n = 20: layers that read themselves, or make but a part."""


@pytest.mark.parametrize("statements, network", TAKEN.values(), ids=TAKEN)
def test_values_become_tensors(statements: list[dict[str, Any]], network: str) -> None:
    scop = parse_jscop(json.dumps(document(*statements, D=["*", "20"])))
    made = scop_network(with_parameters(scop, {"n": 20})).network
    head, *layers = str(made).splitlines()
    marked = [
        line.strip() + " in part" * (layer.made is not None) + " by itself" * layer.recurs
        for line, layer in zip(layers, made.layers, strict=True)
    ]
    assert "; ".join([head, *marked]) == network
    (group,) = pf.fused(made, pf.Strategy.named("local", (1,)))
    assert pf.counts(group).executions == sum(pf.count(layer.points) for layer in made.layers)


REFUSED = {
    "unbounded": ([entry("S", "S[i] : 0 <= i", "[i, 0]", "write A[i]")], "expected bounds on every index"),
    "before the array": (
        [entry("S", "S[i] : 0 <= i < n", "[i, 0]", "read A[i - 1]", "write B[i]")],
        r"A\[-1\].* is read, which is outside of it",
    ),
    "anywhere": (
        [entry("S", "S[i] : 0 <= i < n", "[i, 0]", "read A[j]", "write B[i]")],
        "expected that each instance reads one element",
    ),
    "of two types": (
        [
            entry("S", "S[i] : 0 <= i < n", "[2i, 0]", "read W[i]", "write A[i]"),
            entry("T", "T[i] : 0 <= i < n", "[2i + 1, 0]", "read A[i]", "write W[i + 1]"),
        ],
        "arrays A, W: are made from each other and hold float and double",
    ),
}


@pytest.mark.parametrize("statements, why", REFUSED.values(), ids=REFUSED)
def test_what_is_no_network_is_refused_in_one_line(statements: list[dict[str, Any]], why: str) -> None:
    with pytest.raises(InvalidInput, match=why) as error:
        top = document(*statements)
        top["arrays"].append({"name": "W", "sizes": ["*"], "type": "double"})
        scop_network(parse_jscop(json.dumps(top).replace("A[j]", "A[o0]")))
    assert "\n" not in str(error.value)


def test_parameters_and_expressions_come_as_text() -> None:
    made = load_scop(TWO_CONVS, EXPRESSIONS)
    assert made.network.name == "two_convs" and made.network.layers[1].statements[1].expression == "acc + w2 * t"
    with pytest.raises(InvalidInput, match="no parameter or statement 'Stmt_add' to set; it has Stmt_add_t"):
        load_scop(TWO_CONVS, {"Stmt_add": "0.0"})
    with pytest.raises(InvalidInput, match="neither arithmetic"):
        load_scop(TWO_CONVS, {"Stmt_add_t": "acc + w1 * w2"})


def test_the_file_says_the_type_of_elements() -> None:
    text = TWO_CONVS.read_text().replace('"float"', '"double"')
    assert scop_network(parse_jscop(text), EXPRESSIONS).network.dtypes == {"float64"}
    with pytest.raises(InvalidInput, match=r"type float, double, half, i8, i32"):
        scop_network(parse_jscop(text.replace('"double"', '"i1"')))
