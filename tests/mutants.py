"""`python -m tests.mutants [--only TEXT]`: breaks polyfuse on purpose in one place at a time; named tests must notice.

Each mutant changes one piece of text in a copy of the package and runs the tests that are to fail on it. A mutant that
survives, or whose tests do not pass on the code as it is, ends the run with exit status 1.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
COPIED = ("polyfuse", "kernels", "tests", "docs", "setup.cfg", "pyproject.toml", "README.md")
FAILED = 1
"""pytest's exit status where tests ran and some failed; errors in collecting have another."""


@dataclass(frozen=True)
class Mutant:
    """One fault: in `path`, relative to the package, `right` becomes `wrong`; `tests` are what must fail."""

    name: str
    path: str
    right: str
    wrong: str
    tests: tuple[str, ...]

    def broken(self, text: str) -> str:
        """The module's text with the fault. Errors: ValueError where what is to be broken is not there exactly once."""
        if text.count(self.right) != 1:
            raise ValueError(f"mutant {self.name!r}: expected {self.right!r} once in {self.path}")
        return text.replace(self.right, self.wrong)


MUTANTS = (
    Mutant(
        "a ring one short",
        "schedule/storage.py",
        "        return 1 + max(finite(highest, where), -finite(lowest, where))",
        "        return max(1, max(finite(highest, where), -finite(lowest, where)))",
        ("tests/schedule/test_rings.py",),
    ),
    Mutant(
        "a halo one short in the planner's tiles",
        "plan/tiles/axis.py",
        "np.where(some, reads.ends(made.new[1]), -NONE)",
        "np.where(some, reads.ends(made.new[1]) - 1, -NONE)",
        ("tests/plan/tiles/test_tiles.py",),
    ),
    Mutant(
        "a proof of plans in which rings do not turn",
        "plan/proof/relations.py",
        "each.mod_val(isl.Val(sizes[axis])) if sizes[axis] else each",
        "each",
        ("tests/plan/proof/test_proof.py::test_a_witness_says_what_is_wrong",),
    ),
    Mutant(
        "a proof of plans that does not see transfers under way",
        "schedule/valueflow.py",
        "lost = lost.union(reader.during(writer).domain())",
        "lost = lost.union(reader.during(writer).domain() & lost)",
        ("tests/plan/proof/test_proof.py::test_a_witness_says_what_is_wrong",),
    ),
    Mutant(
        "a proof of plans whose operations run in any order",
        "plan/proof/relations.py",
        "1 + self.placed.operations.index(operation)",
        "1 + self.placed.group.operations.index(operation)",
        ("tests/plan/proof/test_proof.py::test_a_witness_says_what_is_wrong",),
    ),
    Mutant(
        "a proof of plans that stores outputs twice",
        "plan/proof/prove.py",
        "        if not once:\n            return",
        "        if once:\n            return",
        ("tests/plan/proof/test_proof.py::test_a_witness_says_what_is_wrong",),
    ),
    Mutant(
        "a proof of plans in which sums never start again",
        "plan/proof/prove.py",
        "begun = np.cumsum(self.placed.starts)[:, None]",
        "begun = 0 * np.cumsum(self.placed.starts)[:, None]",
        ("tests/plan/proof/test_proof.py::test_a_witness_says_what_is_wrong",),
    ),
    Mutant(
        "a wait for loads lost",
        "codegen/scratchpad/steps.py",
        """        *computations(group),
        "dma_wait(loading);",
        "dma_wait(storing);",
""",
        """        *computations(group),
        "dma_wait(storing);",
""",
        ("tests/codegen/scratchpad/test_scratchpad_programs.py",),
    ),
    Mutant(
        "an address that overlaps its neighbour's last bytes",
        "plan/memory/addresses.py",
        "            address = max(address, aligned_up(end, alignment))",
        "            address = max(address, aligned_up(end, alignment) - alignment)",
        ("tests/plan/memory/test_addresses.py",),
    ),
    Mutant(
        "a block of weights loaded over the one that is read",
        "plan/proof/placed.py",
        "    held = 2 if machine.double_buffer and blocks > 1 else 1",
        "    held = 1",
        ("tests/plan/proof/test_weights.py",),
    ),
    Mutant(
        "integers rounded half up",
        "network/quantised/text.py",
        """    return more(f"rintf({within(f'{sums} * {multiplier}', low - y.zero, high - y.zero)})", y.zero)""",
        """    return more(f"floor({within(f'{sums} * {multiplier}', low - y.zero, high - y.zero)} + 0.5)", y.zero)""",
        ("tests/network/quantised/test_sums.py",),
    ),
    Mutant(
        "inputs swapped where they are given in order",
        "network/signature.py",
        "        given = {**named, **dict(zip(self.input_names, arrays, strict=False))}",
        "        given = {**named, **dict(zip(self.input_names, arrays[::-1], strict=False))}",
        ("tests/deploy/test_ends.py",),
    ),
    Mutant(
        "names of weights cut",
        "rewrite/rule.py",
        """        return Tensor(self.fresh(f"{layer}_{part}"), tuple(shape))""",
        """        return Tensor(f"{layer}_{part}"[:48], tuple(shape))""",
        ("tests/rewrite/rules/test_rule_names.py",),
    ),
    Mutant(
        "a certificate that is believed",
        "plan/scratchplan.py",
        "        return self.certificate.digest != self.seal",
        "        return False",
        ("tests/plan/test_edited.py",),
    ),
    Mutant(
        "a wrong pixel at ties",
        "network/resampling.py",
        """    "round_prefer_floor": lambda at: ceil(at - HALF),""",
        """    "round_prefer_floor": lambda at: floor(at + HALF),""",
        ("tests/network/layers/test_resize_positions.py",),
    ),
    Mutant(
        "attributes that nothing reads",
        "network/onnx/attributes.py",
        """        if each.name not in node.read and each.name not in without:""",
        """        if each.name not in node.read and each.name == "" and each.name not in without:""",
        ("tests/network/onnx/test_unread.py",),
    ),
    Mutant(
        "cells outside of their buffer",
        "schedule/legality.py",
        """    if buffer is not None:
        check_bounds(""",
        """    if buffer is None:
        check_bounds(""",
        ("tests/schedule/test_edited_storage.py",),
    ),
    Mutant(
        "a peer that failed counted as beaten",
        "bench/peers/results.py",
        """return seconds if row.state == "timed" and seconds""",
        """return seconds if seconds""",
        ("tests/bench/test_best_peer.py",),
    ),
)
"""Faults of twelve kinds, on all floors."""


def passes(folder: Path, tests: tuple[str, ...]) -> bool:
    """Whether tests pass in a copy of the project. Errors: RuntimeError where none ran."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "POLYFUSE_CACHE": str(folder / "cache")}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode not in (0, FAILED):
        raise RuntimeError(f"{' '.join(tests)}: no test ran\n{done.stdout[-2000:]}")
    return done.returncode == 0


def survives(mutant: Mutant) -> bool:
    """Whether the tests pass although the code is broken."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name in COPIED:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, folder / name)
        if not passes(folder, mutant.tests):
            raise RuntimeError(f"mutant {mutant.name!r}: its tests fail on the code as it is")
        path = folder / "polyfuse" / mutant.path
        path.write_text(mutant.broken(path.read_text()))
        return passes(folder, mutant.tests)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--only", default="", metavar="TEXT", help="Only mutants with this in their names.")
    only = parser.parse_args().only
    chosen = [mutant for mutant in MUTANTS if only in mutant.name]
    survivors = []
    for number, mutant in enumerate(chosen, 1):
        alive = survives(mutant)
        survivors += [mutant.name] if alive else []
        verdict = "SURVIVES" if alive else "noticed"
        print(f"{number}/{len(chosen)} {mutant.name}: {verdict} by {' '.join(mutant.tests)}", flush=True)
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} mutants noticed")
    return 1 if survivors or not chosen else 0


if __name__ == "__main__":
    sys.exit(main())
