"""A JSCoP file as a workload: a path and parameters, as a user types them, enter; a `ScopNetwork` leaves."""

import re
from collections.abc import Mapping
from pathlib import Path

from polyfuse.errors import InvalidInput
from polyfuse.network.scop.jscop import read_jscop
from polyfuse.network.scop.layers import ScopNetwork, scop_network
from polyfuse.network.scop.scop import Scop, with_parameters
from polyfuse.network.tensor import safe_name

WHOLE = re.compile(r"-?[0-9]{1,18}")


def load_scop(path: str | Path, parameters: Mapping[str, str] | None = None) -> ScopNetwork:
    """The network of a JSCoP file.

    `parameters` has numbers for parameters of the scop, and expressions for statements: `n` as `32`, `Stmt_for_body` as
    `acc + w * x`. The network has the name of the function, which Polly's file names begin with.

    Errors: InvalidInput for a file or a parameter that is not usable, and what `scop_network` refuses.
    """
    scop, expressions = read_with(path, parameters or {})
    function = Path(path).name.split("___")[0].split(".")[0]
    return scop_network(scop, expressions, name=safe_name(function))


def read_with(path: str | Path, parameters: Mapping[str, str]) -> tuple[Scop, dict[str, str]]:
    """The scop of a file for given values of its parameters, and the expressions among what was given.

    Errors: InvalidInput for a file or a parameter that is not usable.
    """
    scop = read_jscop(path)
    statements = {statement.name for statement in scop.statements}
    numbers: dict[str, int] = {}
    expressions: dict[str, str] = {}
    for name, value in parameters.items():
        if name in statements:
            expressions[name] = value
        elif name not in scop.parameters:
            known = ", ".join((*scop.parameters, *sorted(statements)))
            raise InvalidInput(
                f"scop file {str(path)!r}: has no parameter or statement {name!r} to set; it has {known}"
            )
        elif WHOLE.fullmatch(value):
            numbers[name] = int(value)
        else:
            raise InvalidInput(f"scop file {str(path)!r}: {name}: expected a whole number, got {value!r}")
    return with_parameters(scop, numbers), expressions
