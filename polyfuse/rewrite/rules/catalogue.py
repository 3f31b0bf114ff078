"""The rules, in the order in which they are tried at a layer; and those that are only tried on request."""

from polyfuse.rewrite.rule import Rule
from polyfuse.rewrite.rules.algebra import CONSTANT, SHARED_FACTOR, SUM_OF_CONVOLUTIONS
from polyfuse.rewrite.rules.copies import (
    ACTIVATION_BEFORE_COPY,
    COPY_AS_RESHAPE,
    COPY_CHAIN,
    RESHAPE_CHAIN,
    TRANSPOSE_CHAIN,
)
from polyfuse.rewrite.rules.dense import FLATTENED_PRODUCT, MEAN_OF_IMAGE, PRODUCT_OF_ROWS
from polyfuse.rewrite.rules.normalisation import NORM_THEN_SCALING, SCALING_THEN_NORM, SCALING_THEN_NORM_WITH_EPSILON
from polyfuse.rewrite.rules.pointwise import ACTIVATION_INTO_PRODUCER, HARD_SWISH, IDENTITY, SILU
from polyfuse.rewrite.rules.quantised import (
    CLAMP_INTO_PRODUCER,
    QUANTISED_BINARY,
    QUANTISED_COPY,
    QUANTISED_FUNCTION,
    QUANTISED_MEANS,
    QUANTISED_PAIR,
    QUANTISED_SUMS,
)
from polyfuse.rewrite.rules.scaling import INTO_CONV_AFTER, INTO_CONV_BEFORE, SCALING_CHAIN

RULES: tuple[Rule, ...] = (
    CONSTANT,
    IDENTITY,
    INTO_CONV_BEFORE,
    INTO_CONV_AFTER,
    NORM_THEN_SCALING,
    SCALING_THEN_NORM,
    SCALING_CHAIN,
    SUM_OF_CONVOLUTIONS,
    SHARED_FACTOR,
    SILU,
    HARD_SWISH,
    MEAN_OF_IMAGE,
    FLATTENED_PRODUCT,
    PRODUCT_OF_ROWS,
    RESHAPE_CHAIN,
    TRANSPOSE_CHAIN,
    COPY_AS_RESHAPE,
    ACTIVATION_BEFORE_COPY,
    COPY_CHAIN,
    ACTIVATION_INTO_PRODUCER,
    QUANTISED_SUMS,
    QUANTISED_BINARY,
    QUANTISED_MEANS,
    QUANTISED_COPY,
    QUANTISED_FUNCTION,
    QUANTISED_PAIR,
    CLAMP_INTO_PRODUCER,
)
ON_REQUEST: tuple[Rule, ...] = (SCALING_THEN_NORM_WITH_EPSILON,)
"""Rules that change a constant of the model, and so what it does to data that were not thought of."""


def rule(name: str) -> Rule:
    """The rule of that name.

    >>> rule("silu").law
    'x * sigmoid(x)  ->  silu(x)'
    """
    return next(rule for rule in (*RULES, *ON_REQUEST) if rule.name == name)
