"""Errors a user can act on.

Every message says where, what was expected, what was got, and what to do.
"""


class PolyfuseError(Exception):
    """Base of all errors polyfuse raises on purpose; the command line prints it as one line and exits with 1."""


class InvalidInput(PolyfuseError):
    """A value, file or name given by the user is not usable; one line, whatever it is that the message shows."""

    def __str__(self) -> str:
        return " ".join(super().__str__().split())


class UnsupportedOperator(PolyfuseError):
    """A model holds an operator, or an attribute of one, that polyfuse does not know."""


class IllegalSchedule(PolyfuseError):
    """A schedule or a storage mapping would compute wrong values; the message holds a witness."""


class Unbounded(PolyfuseError):
    """A set that must be finite is not: a schedule, a count, a number of copies."""


class TooComplex(PolyfuseError):
    """An isl operation passed its operation limit."""


class DoesNotFit(PolyfuseError):
    """A network needs more on-chip memory than the machine has, however it is planned."""


class BuildError(PolyfuseError):
    """The C compiler is missing, failed, or its result could not be stored."""


class SimulationError(PolyfuseError):
    """Code for a simulated machine did something that the machine cannot do, or read what was not there."""
