"""Whether a changed SCoP is legal, against every pair of instances: random programs, reversed loops, scalars, files."""

import json
import random
import re
from dataclasses import replace
from pathlib import Path

import pytest

from polyfuse.errors import IllegalSchedule
from polyfuse.network.scop.jscop import parse_jscop
from polyfuse.network.scop.order import check_changed
from tests.cli.calls import call, refused
from tests.oracles.scops import Access, Affine, Program, Statement, disorders, document, drawn_program, redrawn

WITNESS = re.compile(
    r"^illegal: (\w+)\[([\d, ]*)\] must run before (\w+)\[([\d, ]*)\]: the one \w+ (\w+)\[([-\d, ]*)\] and the other"
)


def indices(text: str) -> tuple[int, ...]:
    """`1, 2` as numbers."""
    return tuple(int(part) for part in text.split(",") if part.strip())


def judged(program: Program, changed: Program, ranks: dict[str, int]) -> str | None:
    """The refusal of a changed program; None where it is legal."""
    scop, other = (parse_jscop(json.dumps(document(each, ranks))) for each in (program, changed))
    try:
        check_changed(scop, other)
    except IllegalSchedule as error:
        return str(error)
    return None


def test_changed_orders_of_random_programs_are_judged_as_every_pair_of_instances_says() -> None:
    draw = random.Random(15)
    legal = 0
    for _ in range(150):
        program, ranks = drawn_program(draw)
        changed = redrawn(draw, program)
        wrong = set(disorders(program, changed))
        why = judged(program, changed, ranks)
        assert (why is None) == (not wrong), (program, changed, why)
        legal += why is None
        if why is not None:
            found = WITNESS.match(why)
            assert found is not None, why
            one, i, other, j, array, element = found.groups()
            assert (one, indices(i), other, indices(j), (array, indices(element))) in wrong, why
        assert judged(program, program, ranks) is None
    assert 30 < legal < 120


SUM = (
    Statement("start", (3,), False, (Affine((1,), 0), Affine((0,), 0)), (Access("write", "MemRef_s__phi", ()),)),
    Statement(
        "add",
        (3, 4),
        False,
        (Affine((1, 0), 0), Affine((0, 1), 1)),
        (
            Access("write", "MemRef_s__phi", ()),
            Access("read", "MemRef_s__phi", ()),
            Access("read", "B", (Affine((1, 0), 0), Affine((0, 1), 0))),
            Access("read", "MemRef_alpha", ()),
        ),
    ),
)
RANKS = {"B": 2, "MemRef_s__phi": 0, "MemRef_alpha": 0}


def reversed_loop(statement: Statement, d: int) -> Statement:
    """The statement with one dimension of its time running backwards."""
    dim = statement.schedule[d]
    back = Affine(tuple(-f for f in dim.factors), -dim.constant)
    return replace(statement, schedule=(*statement.schedule[:d], back, *statement.schedule[d + 1 :]))


def test_a_sum_that_is_carried_in_a_scalar_keeps_its_order() -> None:
    """The value is in no array of the file; the constant alpha, which nothing writes, does not hold anything up."""
    assert judged(SUM, SUM, RANKS) is None
    why = judged(SUM, tuple(reversed_loop(each, 0) for each in SUM), RANKS)
    assert why is not None and re.match(
        r"illegal: start\[\d\] must run before start\[\d\]: the one writes MemRef_s__phi\[\] and the other writes it",
        why,
    )
    inner = judged(SUM, (SUM[0], reversed_loop(SUM[1], 1)), RANKS)
    assert inner is not None and "MemRef_s__phi[]" in inner


def test_the_command_judges_what_is_no_layers(tmp_path: Path) -> None:
    """An in-place sweep: a program that reads what it overwrites is judged all the same."""
    reads = [Access("read", "A", (Affine((0, 1), d),)) for d in range(3)]
    times = (Affine((1, 0), 0), Affine((0, 1), 0))
    sweep = Statement("S", (4, 6), False, times, (*reads, Access("write", "A", (Affine((0, 1), 1),))))
    names = {
        "same": sweep,
        "back": reversed_loop(sweep, 1),
        "skewed": replace(sweep, schedule=(Affine((2, 1), 0), Affine((1, 0), 0))),
    }
    for name, statement in names.items():
        (tmp_path / f"{name}.jscop").write_text(json.dumps(document((statement,), {"A": 1})))
    files = {name: str(tmp_path / f"{name}.jscop") for name in names}
    for name in ("same", "skewed"):
        found = call("import-scop", files["same"], "--check", files[name], width=200)
        assert found.exit_code == 0 and f"legal: {files[name]} computes what" in found.stdout
    line = refused(call("import-scop", files["same"], "--check", files["back"]), 1)
    assert WITNESS.match(line.removeprefix("polyfuse: ")), line


def test_parameters_that_are_given_hold_for_both_files(tmp_path: Path) -> None:
    text = (
        json.dumps(document(SUM, RANKS))
        .replace('"{ : }"', '"[n] -> { : n >= 3 }"')
        .replace("{ start[i0] : 0 <= i0 < 3 }", "[n] -> { start[i0] : 0 <= i0 < n }")
    )
    (tmp_path / "one.jscop").write_text(text)
    file = str(tmp_path / "one.jscop")
    found = call("import-scop", file, "--check", file, "--set", "n=5", width=200)
    assert (found.exit_code, found.stderr) == (0, "") and "legal" in found.stdout


@pytest.mark.parametrize("context, legal", [("[n] -> { : n >= 3 }", False), ("[n] -> { : 0 <= n <= 1 }", True)])
def test_only_parameters_of_the_context_are_judged(context: str, legal: bool) -> None:
    box = "{ add[i0, i1] : 0 <= i0 < 3 and 0 <= i1 < 4 }"
    text = json.dumps(document(SUM, RANKS)).replace('"{ : }"', json.dumps(context))
    text = text.replace(box, f"[n] -> {box.replace('4', 'n')}")
    times = ("{ add[i0, i1] -> [1i0 + 0, 1i1 + 1] }", "{ add[i0, i1] -> [1i0 + 0, -1i1 + 9] }")
    assert "i1 < n" in text and times[0] in text
    scop, other = parse_jscop(text), parse_jscop(text.replace(*times))
    if legal:
        check_changed(scop, other)
    else:
        with pytest.raises(IllegalSchedule, match="must run before"):
            check_changed(scop, other)
