"""The rules, in the order in which they are tried at a layer."""

from polyfuse.rewrite.rule import Rule
from polyfuse.rewrite.rules.algebra import CONSTANT, SHARED_FACTOR, SUM_OF_CONVOLUTIONS
from polyfuse.rewrite.rules.pointwise import ACTIVATION_INTO_PRODUCER, HARD_SWISH, IDENTITY, SILU
from polyfuse.rewrite.rules.scaling import INTO_CONV_AFTER, INTO_CONV_BEFORE, SCALING_CHAIN

RULES: tuple[Rule, ...] = (
    CONSTANT,
    IDENTITY,
    INTO_CONV_BEFORE,
    INTO_CONV_AFTER,
    SCALING_CHAIN,
    SUM_OF_CONVOLUTIONS,
    SHARED_FACTOR,
    SILU,
    HARD_SWISH,
    ACTIVATION_INTO_PRODUCER,
)


def rule(name: str) -> Rule:
    """The rule of that name.

    >>> rule("silu").law
    'x * sigmoid(x)  ->  silu(x)'
    """
    return next(rule for rule in RULES if rule.name == name)
