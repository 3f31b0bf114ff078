"""The shell script that compiles exported C through Polly.

No two arrays of exported C overlap: those that are given are `restrict`. Polly is told, since it gives up on runtime
checks of aliasing where the conditions of a padded layer are many. Its bound on the work of finding dependences is
lifted: it stops with an internal error where it is passed.
"""

PASSES = "sroa,instcombine,simplifycfg,loop-simplify,loop-rotate,indvars,instcombine"
"""What prepares unoptimised IR for Polly: it must keep the names of blocks, and loops as they are written."""

SCRIPT = r"""#!/bin/sh
# Leaves {name}.o, {name} as {name}.jscop schedules it, and {name}_plain.o, {name} as it is written in C.
# Polly is inside of Debian's opt-16: nothing is loaded into it.
set -eu
cd "$(dirname "$0")"
: "${{CLANG:=clang-16}}" "${{OPT:=opt-16}}" "${{CFLAGS:=-O3 -march=native -ffp-contract=fast}}"
polly="-polly-use-llvm-names -polly-process-unprofitable -polly-ignore-aliasing -polly-dependences-computeout=0"
polly="$polly -polly-only-func=^{name}\$"
rm -f {name}___*.jscop {name}___*.jscop.polyfuse

"$CLANG" $CFLAGS -O0 -Xclang -disable-O0-optnone -finline-functions -fno-math-errno -fno-discard-value-names \
  -S -emit-llvm {name}.c -o {name}.ll
"$OPT" -S -passes={passes} {name}.ll -o {name}.prepared.ll
"$OPT" $polly -passes=polly-export-jscop -disable-output {name}.prepared.ll 2>{name}.log
set -- {name}___*.jscop
if [ $# -ne 1 ] || [ ! -f "$1" ]; then
  echo "build.sh: expected that Polly finds one SCoP in {name}.c, got $*; see {name}.log" >&2
  exit 1
fi
cp {name}.jscop "$1.polyfuse"
if ! "$OPT" -S $polly -polly-import-jscop-postfix=polyfuse -passes=polly-import-jscop,polly-codegen \
  {name}.prepared.ll -o {name}.polly.ll 2>{name}.log || grep -q -v "^Reading JScop" {name}.log; then
  echo "build.sh: Polly has refused {name}.jscop: $(grep -m 1 -v "^Reading JScop" {name}.log)" >&2
  exit 1
fi
"$CLANG" $CFLAGS -c {name}.polly.ll -o {name}.o
"$CLANG" $CFLAGS -c {name}.c -o {name}_plain.o
"""


def build_script(name: str) -> str:
    """The script for the function NAME in NAME.c: it leaves NAME.o and NAME_plain.o."""
    return SCRIPT.format(name=name, passes=PASSES)
