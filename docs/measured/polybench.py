"""Writes the table of PolyBench/C in docs/use/polly.md: `python docs/measured/polybench.py FOLDER [KERNEL ...]`.

FOLDER holds the sources of PolyBench/C 4.2, which are not part of polyfuse; clang-16, opt-16 and Polly do the rest. For
each of its kernels, at the size MINI: the SCoP that Polly exports is judged with its own schedule and with each of the
dimensions of its times reversed; it becomes a network, is tiled, and counted; the schedule goes back through Polly,
whose code counts its executions and dumps the arrays as PolyBench does, for comparison with the C as it is written.
"""

import argparse
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import islpy as isl

from polyfuse.codegen.scop.export import rescheduled
from polyfuse.errors import IllegalSchedule, PolyfuseError
from polyfuse.network.scop.jscop import read_jscop, write_jscop
from polyfuse.network.scop.layers import ScopNetwork, scop_network
from polyfuse.network.scop.order import check_changed
from polyfuse.network.scop.scop import Scop
from polyfuse.schedule.counts import counts
from polyfuse.schedule.groups import fused
from polyfuse.schedule.strategy import Strategy
from polyfuse.sets.counting import count

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.oracles.polly import CLANG, OPT, counted, flags

PAGE = Path(__file__).parents[1] / "use" / "polly.md"
BEGIN, END = "<!-- polybench: made by docs/measured/polybench.py -->\n", "<!-- end of polybench -->\n"
PASSES = "sroa,early-cse,instcombine,simplifycfg,loop-simplify,loop-rotate,indvars,instcombine"
DEFINED = ("-DMINI_DATASET", "-DPOLYBENCH_USE_SCALAR_LB", "-DPOLYBENCH_DUMP_ARRAYS")
IN_TIME = Strategy((4,), ("local",), axes=(0,))
STRATEGIES = {
    "adi": Strategy((1, 1), ("local", "local")),
    "covariance": Strategy((1, 1), ("local", "local")),
    "doitgen": Strategy((1, 1), ("local", "local"), axes=(1, 2)),
    "jacobi-1d": Strategy((8, 2), ("local", "local")),
    "durbin": Strategy((1, 1), ("local", "local"), axes=(0, 1)),
    "fdtd-2d": Strategy((1,), ("local",), axes=(0,)),
    "gramschmidt": Strategy((1,), ("local",), axes=(0,)),
    "ludcmp": IN_TIME,
    "symm": Strategy((1, 1), ("local", "local"), axes=(0, 1)),
    "lu": Strategy((1, 1), ("local", "local")),
} | dict.fromkeys(("floyd-warshall", "heat-3d", "jacobi-2d", "nussinov", "seidel-2d"), IN_TIME)
"""Tiles; those of all other kernels are 8x8, or 8 where they make vectors, of `local`."""


@dataclass(frozen=True)
class Row:
    """What became of one kernel."""

    name: str
    refused: str
    network: str
    tile: str
    executions: str
    result: str

    def __str__(self) -> str:
        cells = (self.name, self.refused, self.network, self.tile, self.executions, self.result)
        return f"| {' | '.join(cells)} |"


def done(*command: str | Path, folder: Path) -> str:
    """What a command that must succeed prints to its standard error."""
    found = subprocess.run(list(map(str, command)), cwd=folder, capture_output=True, text=True, check=True)
    return found.stderr


def exported(source: Path, sources: Path, folder: Path) -> Path:
    """The JSCoP file of a kernel; `prepared.ll` is the IR."""
    made = ["-O0", "-Xclang", "-disable-O0-optnone", "-fno-discard-value-names", "-fno-math-errno", "-S", "-emit-llvm"]
    done(CLANG, *made, *DEFINED, f"-I{sources}/utilities", f"-I{source.parent}", source, "-o", "raw.ll", folder=folder)
    done(OPT, "-S", f"-passes={PASSES}", "raw.ll", "-o", "prepared.ll", folder=folder)
    done(OPT, *polly(source.stem), "-passes=polly-export-jscop", "-disable-output", "prepared.ll", folder=folder)
    (found,) = folder.glob("*.jscop")
    return found


def polly(kernel: str) -> list[str]:
    """The options of Polly."""
    return [*flags(f"kernel_{kernel.replace('-', '_')}"), "-polly-ignore-aliasing"]


def reversals(scop: Scop) -> str:
    """How many dimensions of the times may not run backwards; the scop as it is must be legal."""
    check_changed(scop, scop)
    width = scop.statements[0].schedule.dim(isl.dim_type.out)
    refused = 0
    for d in range(width):
        back = isl.MultiAff.identity_on_domain_space(isl.Space.set_alloc(isl.DEFAULT_CONTEXT, 0, width))
        back = back.set_at(d, back.get_at(d).neg())
        changed = (replace(s, schedule=s.schedule.apply_range(isl.Map.from_multi_aff(back))) for s in scop.statements)
        try:
            check_changed(scop, replace(scop, statements=tuple(changed)))
        except IllegalSchedule:
            refused += 1
    return f"{refused} of {width}"


def strategy_of(name: str, made: ScopNetwork) -> Strategy:
    """The tiles of a kernel."""
    shape = made.network.outputs[-1].concrete_shape
    return STRATEGIES.get(name, Strategy((8,) * min(2, len(shape)), ("local",) * min(2, len(shape))))


def compared(name: str, folder: Path, sources: Path, predicted: dict[str, int]) -> tuple[str, str]:
    """Executions that the code of Polly counts, and whether it dumps the same arrays as the C does."""
    done(CLANG, "-O1", "-c", f"-I{sources}/utilities", *DEFINED, sources / "utilities" / "polybench.c", folder=folder)
    passes = ["-polly-import-jscop-postfix=tiled", "-passes=polly-import-jscop,polly-codegen"]
    said = done(OPT, "-S", *polly(name), *passes, "prepared.ll", "-o", "tiled.ll", folder=folder)
    if "JScop file" in said:
        return "", f"Polly: {said.strip().splitlines()[-1]}"
    labels = [statement.removeprefix("Stmt_") for statement in predicted]
    (folder / "counted.ll").write_text(counted((folder / "tiled.ll").read_text(), labels))
    told = "".join(f'  printf("{label} %lld\\n", ran_{label});\n' for label in labels)
    globals_ = "".join(f"extern long long ran_{label};\n" for label in labels)
    ending = f"#include <stdio.h>\n{globals_}__attribute__((destructor)) static void tell(void) {{\n{told}}}\n"
    (folder / "tell.c").write_text(ending)
    done(CLANG, "-O1", "prepared.ll", "polybench.o", "-lm", "-o", "plain", folder=folder)
    done(CLANG, "-O1", "counted.ll", "tell.c", "polybench.o", "-lm", "-o", "tiled", folder=folder)
    plain, tiled = (
        subprocess.run([folder / program], capture_output=True, text=True, check=True) for program in ("plain", "tiled")
    )
    ran = {f"Stmt_{label}": int(number) for label, number in re.findall(r"^(\w+) (\d+)$", tiled.stdout, re.MULTILINE)}
    executions = "= counted" if sum(ran.values()) == sum(predicted.values()) else f"counted {sum(ran.values()):,}"
    return executions, "same dump" if plain.stderr == tiled.stderr and plain.stderr else "other dump"


def row(source: Path, sources: Path) -> Row:
    """One kernel."""
    name = source.stem
    with TemporaryDirectory() as place:
        folder = Path(place)
        file = exported(source, sources, folder)
        scop = read_jscop(file)
        refused = reversals(scop)
        try:
            made = scop_network(scop)
        except PolyfuseError as error:
            return Row(name, refused, str(error), "", "", "")
        layers = made.network.layers
        text = f"{len(layers)} layer{'s' * (len(layers) > 1)}"
        if itself := sum(layer.recurs for layer in layers):
            text += f", {itself} of itself"
        strategy = strategy_of(name, made)
        tile = "x".join(map(str, strategy.tile))
        try:
            (group,) = fused(made.network, strategy)
            steps = counts(group).steps
            write_jscop(rescheduled(made, group), Path(f"{file}.tiled"))
        except PolyfuseError as error:
            return Row(name, refused, text, tile, "", str(error).split(";")[0])
        first = {s: [p for p in parts if p.write == parts[0].write] for s, parts in made.parts.items()}
        predicted = {s: sum(steps[part.name] for part in parts) for s, parts in first.items()}
        assert predicted == {s.name: count(s.domain) for s in scop.statements}
        executions, result = compared(name, folder, sources, predicted)
        return Row(name, refused, text, tile, f"{sum(predicted.values()):,} {executions}", result)


def table(rows: Sequence[Row]) -> str:
    """The rows, and how many of them went all the way."""
    good = sum(each.result == "same dump" and each.executions.endswith("= counted") for each in rows)
    head = "| kernel | reversals refused | network | tile | executions predicted | through Polly |\n" + "|---" * 6 + "|"
    return (
        f"{head}\n"
        + "\n".join(map(str, rows))
        + f"\n\n{good} of {len(rows)} are tiled, execute what is predicted, and "
        "dump the same.\n"
    )


def main() -> None:
    """Make the rows of some kernels, or of all, and put them into the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sources", type=Path)
    parser.add_argument("kernels", nargs="*")
    asked = parser.parse_args()
    sources = asked.sources.resolve()
    kernels = [path for path in sources.rglob("*.c") if path.parent.name == path.stem]
    rows = []
    for path in sorted(kernels, key=lambda path: path.stem):
        if not asked.kernels or path.stem in asked.kernels:
            rows.append(row(path, sources))
            print(rows[-1], flush=True)
    if not asked.kernels:
        page = PAGE.read_text(encoding="utf-8")
        start, end = page.index(BEGIN) + len(BEGIN), page.index(END)
        PAGE.write_text(page[:start] + "\n" + table(rows) + "\n" + page[end:], encoding="utf-8")


if __name__ == "__main__":
    main()
