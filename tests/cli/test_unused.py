"""No option is ignored: in every mode of every command, an option has an effect or is refused in one line.

The modes and what is void in them are written down here by hand; options are those that click knows, so a new one must
be classified here and, where a mode does not look at it, in `polyfuse/cli/unused.py`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import islpy as isl
import pytest
from click.testing import CliRunner, Result

import polyfuse as pf
from polyfuse.cli import main
from polyfuse.cli.unused import UNUSED, StrictCommand
from polyfuse.cli.values import PairParam, PictureParam, axes, places, shape, size, sizes, tile
from tests.cli.calls import commands

NET = "kernels/two_convs.py"
DEPLOY = {"groups", "longest", "exact", "layout", "untuned"}
ROWS = {"names", "mixed", "retention", "placement", "order", "weights", "axes"}
HOST = {"groups", "threads", "exact", "layout", "untuned"}
NEW_PLAN = {"machine", "onchip_bytes", "no_external", "goal", "cycles_per_byte", "dtype", "baselines", "early", *HOST}
SWEEP = {"sweep_file", "jobs"}
SCRATCHPAD = {
    *("onchip_bytes", "no_external", "goal", "cycles_per_byte", "dtype", "early", "baselines", "certify"),
    *("capacities", *SWEEP, "report_file", "folder"),
}
ORIGIN = ("first", "last", "random_weights", "parameters", "shapes", "values")
TILED = ("tiles", "names", "mixed", "retention", "order", "weights", "axes")
PLANNABLE = (*ORIGIN, "plan_file")
ALWAYS = {
    "compare": (*ORIGIN, *TILED, "no_run", "json_file", "picture", "folder"),
    "show": (*ORIGIN, *TILED, "picture"),
    "machine": ("wanted", "fitting"),
    "tune": (*ORIGIN, "measured", "threads", "layout", "exact", "path", "json_file"),
    "explain": ORIGIN,
    "compile": (*PLANNABLE, "folder", "prefix"),
    "run": (*PLANNABLE, "inputs", "path"),
    "verify": (*PLANNABLE, "seed"),
    "plan": (*PLANNABLE, "json_file"),
    "bench": (
        *ORIGIN,
        *("peers", "strategies", "exact", "threads", "layout", "repeats"),
        *("machine_file", "json_file", "picture"),
    ),
    "import-scop": ("parameters", "tiles", "changed"),
    "export-scop": (*ORIGIN, *TILED, "folder", "expanded"),
}
"""The options that have an effect in every mode of a command."""


@dataclass(frozen=True)
class Mode:
    """Words of a command, and the options that have no effect after them. PLAN and SCRATCH are files of plans."""

    words: str
    void: frozenset[str] = frozenset()


def mode(words: str, *void: str) -> Mode:
    return Mode(words, frozenset(void))


MODES = (
    mode(f"compare {NET}"),
    mode(f"compare {NET} --no-run", "repeats", "threads", "kernels", "layout", "exact"),
    mode(f"compare {NET} --kernels scalar", "exact"),
    mode(f"compare {NET} --strategy recompute", "placement"),
    mode(f"compare {NET} --strategy recompute --strategy local"),
    mode(f"compare {NET} --strategy mixed"),
    mode(f"compare {NET} --strategy recompute --mixed local,recompute"),
    mode(f"compare {NET} --strategy recompute --mixed recompute,recompute", "placement"),
    mode(f"compare {NET} --retain conv1_out=local"),
    mode(f"show {NET}", "placement"),
    mode(f"show {NET} --strategy global", "placement"),
    mode(f"show {NET} --strategy mixed"),
    mode(f"show {NET} --strategy recompute", "placement"),
    mode(f"show {NET} --mixed local,recompute"),
    mode("machine", "seconds", "path"),
    mode("machine --probe"),
    mode("machine --fit", "seconds"),
    mode(f"tune {NET}"),
    mode(f"explain {NET}", "tensor", "model"),
    mode("explain SCRATCH", "profile", "conv_to_pool", "json_file"),
    mode("explain PLAN", "tensor"),
    mode(f"compile {NET}"),
    mode(f"compile {NET} --groups single", "longest", "untuned"),
    mode(f"compile {NET} --plan PLAN", *DEPLOY),
    mode(f"compile {NET} --plan SCRATCH", *DEPLOY, "threads", "embed", "cc", "cflags"),
    mode(f"run {NET}"),
    mode(f"run {NET} --groups single", "longest", "untuned"),
    mode(f"run {NET} --plan PLAN", *DEPLOY),
    mode(f"run {NET} --plan SCRATCH", *DEPLOY, "threads"),
    mode(f"verify {NET}"),
    mode(f"verify {NET} --groups single", "longest", "untuned", "threads"),
    mode(f"verify {NET} --plan PLAN", *DEPLOY, "threads"),
    mode(f"verify {NET} --plan SCRATCH", *DEPLOY, "threads"),
    mode(f"plan {NET}", *SWEEP, *HOST),
    mode(f"plan {NET} --machine host", *SCRATCHPAD),
    mode(f"plan {NET} --machine host --groups single", *SCRATCHPAD, "longest", "untuned"),
    mode(f"plan {NET} --plan PLAN", *SCRATCHPAD, *HOST, "machine", "longest"),
    mode(f"plan {NET} --sweep 8KiB:16KiB", *HOST),
    mode(f"plan {NET} --plan SCRATCH", *NEW_PLAN, "longest", *SWEEP),
    mode(f"plan {NET} --plan SCRATCH --certify", *NEW_PLAN, *SWEEP),
    mode(f"plan {NET} --plan SCRATCH --sweep 8KiB:16KiB", *NEW_PLAN),
    mode(f"plan {NET} --objective bytes", "early", "cycles_per_byte", *SWEEP, *HOST),
    mode(f"plan {NET} --early", "certify", *SWEEP, *HOST),
    mode(f"bench {NET}"),
    mode(f"bench {NET} --peers none", "search_seconds"),
    mode(f"bench {NET} --peers onnxruntime,ncnn", "search_seconds"),
    mode(f"bench {NET} --peers onnxruntime,halide"),
    mode("import-scop FILE.jscop", *ROWS, "path"),
    mode("import-scop FILE.jscop --tile 8x8"),
    mode("import-scop FILE.jscop --tile 8x8 --strategy recompute", "placement"),
    mode(f"export-scop {NET} --tile 8x8 --strategy local -o DIR"),
    mode(f"export-scop {NET} --tile 8x8 --strategy recompute -o DIR", "placement"),
)


def options_of(command: click.Command) -> dict[str, click.Option]:
    return {str(param.name): param for param in command.params if isinstance(param, click.Option)}


@pytest.fixture(scope="module")
def plans(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A plan for this host and one for a scratchpad, and names of what is not read."""
    folder = tmp_path_factory.mktemp("plans")
    network = pf.load_workload(NET, parameters={"size": "20", "channels": "2"})
    scratch = folder / "scratch.json"
    scratch.write_text(pf.plan_for(network, pf.accelerator("npu")).to_json())
    host = folder / "plan.json"
    host.write_text(pf.load(network).plan.to_json())
    return {
        "PLAN": str(host),
        "SCRATCH": str(scratch),
        "DIR": str(folder / "out"),
        "FILE.jscop": str(folder / "f.jscop"),
    }


def words_for(option: click.Option, folder: Path) -> list[str]:
    """The option with a value that its type takes."""
    if option.is_flag:
        return [option.secondary_opts[0] if option.secondary_opts else option.opts[-1]]
    return [max(option.opts, key=len), value_of(option.type, folder)]


def value_of(kind: Any, folder: Path) -> str:
    texts = {tile: "4x4", axes: "c,h", places: "local,recompute", size: "64KiB", sizes: "64KiB:128KiB", shape: "1x2"}
    function = getattr(kind, "func", kind)
    if function in texts:
        return texts[function]
    if isinstance(kind, PictureParam):
        return "p.png"
    if isinstance(kind, PairParam):
        return f"conv1_out={value_of(kind.value, folder)}"
    if isinstance(kind, click.Choice):
        return str(kind.choices[0])
    if isinstance(kind, click.IntRange | click.FloatRange) or kind in (click.INT, click.FLOAT):
        return "2"
    return str(folder / "file") if isinstance(kind, click.Path) else "name"


def called(monkeypatch: pytest.MonkeyPatch, words: list[str]) -> tuple[Result, list[dict[str, Any]]]:
    """What a command says, and the requests that reach it: none where it was refused before."""
    seen: list[dict[str, Any]] = []
    monkeypatch.setattr(commands()[words[0]], "callback", lambda **request: seen.append(request))
    return CliRunner().invoke(main, words, prog_name="polyfuse"), seen


@pytest.mark.parametrize("case", MODES, ids=lambda case: case.words)
def test_every_option_has_an_effect_or_is_refused(
    case: Mode, plans: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [plans.get(word, word) for word in case.words.split()]
    result, seen = called(monkeypatch, words)
    assert result.exit_code == 0 and len(seen) == 1, result.output
    command = commands()[words[0]]
    given = {name for name, option in options_of(command).items() if {*option.opts} & {*words}}
    assert case.void <= {*options_of(command)}
    for name, option in options_of(command).items():
        if name in given or name == "plan_file":
            continue
        extra = words_for(option, tmp_path)
        result, seen = called(monkeypatch, [*words, *extra])
        if name in case.void:
            assert result.exit_code == 2 and not seen, f"{extra} after {case.words} is ignored"
            assert f"polyfuse: {extra[0]} has no effect" in result.stderr and result.stderr.count("\n") == 1
        elif any(f"polyfuse: {word} has no effect" in result.stderr for word in words):
            assert result.exit_code == 2 and not seen
        else:
            assert result.exit_code == 0 and len(seen) == 1, f"{extra} after {case.words}: {result.stderr}"


@pytest.mark.parametrize("name", sorted(commands()))
def test_every_option_is_classified(name: str) -> None:
    command = commands()[name]
    conditional = {option for rule in UNUSED.get(name, ()) for option in rule.options}
    assert isinstance(command, StrictCommand)
    assert not conditional & {*ALWAYS[name]}
    assert conditional | {*ALWAYS[name]} == {*options_of(command)}


def test_the_default_is_refused_too_where_it_is_said(plans: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What counts is that somebody asked for it."""
    for words in (f"compile {NET} --plan PLAN --longest 8", f"compare {NET} --no-run --repeats 5"):
        result, seen = called(monkeypatch, [plans.get(word, word) for word in words.split()])
        assert result.exit_code == 2 and not seen


def test_the_command_of_the_issue(plans: dict[str, str]) -> None:
    words = f"compile {NET} --plan SCRATCH --threads 4 --layout blocked --longest 3"
    result = CliRunner().invoke(main, [plans.get(word, word) for word in words.split()], prog_name="polyfuse")
    assert result.exit_code == 2
    assert result.stderr == (
        "polyfuse: --longest has no effect with a plan for a scratchpad machine; leave it out "
        "(see polyfuse compile --help)\n"
    )


def executions(name: str, placement: str) -> list[isl.Map]:
    net = pf.load_workload(NET, parameters={"size": "20", "channels": "1"})
    found = pf.scheduled(net, pf.Strategy.named(name, (4,), placement))  # type: ignore[arg-type]
    return [found.executions(layer) for layer in net.layers]


def test_placement_is_refused_where_it_changes_nothing() -> None:
    assert executions("local", "first") != executions("local", "shifted")
    for name in ("recompute", "global"):
        assert executions(name, "first") == executions(name, "shifted")


def test_weights_of_a_network_without_any_are_refused(tmp_path: Path) -> None:
    kernel = tmp_path / "pool.py"
    kernel.write_text(
        "import polyfuse as pf\n\ndef network():\n    build = pf.Builder('pool')\n"
        "    return build.network(build.max_pool('p', build.input('x', (1, 1, 8, 8)), kernel=2))\n"
    )
    result = CliRunner().invoke(main, ["show", str(kernel), "--tile", "2", "--weights", "tile"])
    assert result.exit_code == 1 and "has no weights to load" in result.stderr


def test_threads_that_have_nothing_to_share_are_said(tmp_path: Path) -> None:
    kernel = tmp_path / "one.py"
    kernel.write_text(
        "import polyfuse as pf\n\ndef network():\n    build = pf.Builder('one')\n"
        "    return build.network(build.conv('c', build.input('x', (1, 1, 8, 8)), 1, kernel=3))\n"
    )
    result = CliRunner().invoke(main, ["run", str(kernel), "--threads", "2", "--groups", "single"])
    assert result.exit_code == 0 and "runs on 1 thread, not 2" in result.stdout


NETWORK = pf.Builder("net")
TWO = NETWORK.network(NETWORK.conv("c", NETWORK.input("x", (1, 1, 8, 8)), 1, kernel=3))


def test_load_refuses_what_it_would_ignore() -> None:
    with pytest.raises(pf.InvalidInput, match="random_weights has no effect on a network"):
        pf.load(TWO, random_weights=1)
    with pytest.raises(pf.InvalidInput, match="first and last are for files"):
        pf.load(TWO, last="c")
    assert len(pf.load(NET, dimensions={"size": 20, "channels": 2}, last="conv1").plan.groups) == 1
    plan = pf.load(TWO).plan
    for settings in (
        pf.Settings(groups="single"),
        pf.Settings(longest=3),
        pf.Settings(exact=True),
        pf.Settings(interface="blocked"),
    ):
        with pytest.raises(pf.InvalidInput, match="have no effect with a plan"):
            pf.load(TWO, plan=plan, settings=settings)
    assert pf.load(TWO, plan=plan, settings=pf.Settings(threads=2)).plan is plan


@pytest.mark.parametrize("option", [{"threads": 2}, {"repeats": 3}, {"kernels": "scalar"}, {"exact": True}])
def test_compare_refuses_how_to_run_where_nothing_runs(option: dict[str, Any]) -> None:
    with pytest.raises(pf.InvalidInput, match="say how code is run"):
        pf.compare(TWO, pf.candidates([(2,)], ["recompute"]), run=False, **option)
