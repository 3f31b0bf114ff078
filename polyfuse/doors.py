"""The public door: every public function, constructor and method checks what it is given against its annotations.

    class    ──@public──> the same class, its constructor and public methods guarded
    function ──guarded()──> the function that `import polyfuse as pf` gives

What fits is taken as annotated: numpy's integers become `int`, lists become tuples, text becomes a path. What does not
fit is an InvalidInput that names the argument. Modules of polyfuse call one another without passing through the door;
methods of data look at their arguments only once something has gone wrong.
"""

import inspect
import os
import sys
import types
import typing
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import Field, fields, is_dataclass
from functools import cache, wraps
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import islpy as isl
import numpy as np
from numpy.typing import ArrayLike

from polyfuse.errors import InvalidInput, PolyfuseError
from polyfuse.text import displayed
from polyfuse.whole import is_whole_number, shown, whole

Taker = Callable[[Any], Any]
Function = TypeVar("Function", bound=Callable[..., Any])
Class = TypeVar("Class", bound=type)

RAW = (
    *(TypeError, AttributeError, LookupError, ValueError, ArithmeticError, AssertionError, RuntimeError),
    *(isl.Error, OSError, MemoryError),
)
"""What Python, numpy and isl raise where something is not as expected."""
FOLDER = os.path.dirname(os.path.abspath(__file__)) + os.sep
CALLED = ("__call__",)
SAY_THEMSELVES = ("pf.Builder", "pf.Tensor")
"""Classes whose own checks name the layer or the tensor: the door is only for what these let through."""


class Mismatch(Exception):
    """A value is not what an annotation says."""


def public(kind: Class) -> Class:
    """Put the door in front of a public class, where it is defined.

    What is compared can be hashed; everything has a short text and a form for notebooks.
    """
    guard_class(kind, f"pf.{kind.__name__}")
    composed = is_dataclass(kind) and any(map(is_composed, fields(kind)))
    displayed(kind, short=composed)
    if composed and is_compared(kind):
        setattr(kind, "__hash__", lambda self: hash(hashable(self)))  # noqa: B010
    return kind


def is_composed(field: Field[Any]) -> bool:
    """Whether a field is a mapping, or of a class of polyfuse; values without keep their faster hash and whole repr."""
    return any(word in str(field.type) for word in ("Mapping", "dict", "polyfuse."))


def is_compared(kind: type) -> bool:
    """Whether objects of a class are equal where their fields are."""
    return getattr(kind, "__eq__") is not getattr(object, "__eq__")  # noqa: B009


def hashable(value: Any) -> Any:
    """A value for which equality and hash go together: mappings, which have no hash, as sets of pairs.

    >>> hashable({"x": ("local", {"y": 1})}) == hashable({"x": ("local", {"y": 1})})
    True
    """
    if isinstance(value, Mapping):
        return frozenset((key, hashable(each)) for key, each in value.items())
    if isinstance(value, list | tuple):
        return tuple(map(hashable, value))
    if is_dataclass(value) and is_compared(type(value)):
        return (type(value), *(hashable(getattr(value, each.name)) for each in fields(value) if each.compare))
    return value


def guard_class(kind: type, name: str) -> None:
    """Guard a class where it is: what makes objects of it, and its public methods."""
    data, says = is_dataclass(kind), name in SAY_THEMSELVES
    hints = kind if data else None
    if "__init__" in vars(kind):
        setattr(kind, "__init__", guarded(vars(kind)["__init__"], name, later=says, hints=hints))  # noqa: B010
    for key, value in list(vars(kind).items()):
        if key.startswith("_") and key not in CALLED:
            continue
        wrap = type(value) if isinstance(value, staticmethod | classmethod) else None
        function = value.__func__ if wrap is not None else value
        if inspect.isfunction(function):
            made = guarded(function, f"{name}.{key}" if key not in CALLED else name, later=data or says)
            setattr(kind, key, made if wrap is None else wrap(made))


def guarded(function: Function, name: str, *, later: bool = False, hints: type | None = None) -> Function:
    """A function behind the door; `later` looks at its arguments only where it fails. `hints` has its annotations."""
    door = Door(function, name, hints or function)

    @wraps(function)
    def call(*args: Any, **named: Any) -> Any:
        if not later:
            args, named = door.taken(args, named)
        try:
            return function(*args, **named)
        except PolyfuseError:
            raise
        except RAW as error:
            if door.is_ours(error):
                door.taken(args, named)
                raise InvalidInput(door.told(error)) from error
            raise

    return typing.cast(Function, call)


class Door:
    """The annotations of a function, looked at when it is first called."""

    def __init__(self, function: Callable[..., Any], name: str, source: Any) -> None:
        self.function, self.name, self.source = function, name, source
        self.positional: list[str] = []
        self.takers: dict[str, Taker] | None = None
        self.hints: dict[str, Any] = {}
        self.rest: str | None = None
        self.others: str | None = None

    def taken(self, args: Sequence[Any], named: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments as they are annotated.

        Errors: InvalidInput that names the argument.
        """
        if self.takers is None:
            self._look()
        count = len(self.positional)
        kept = tuple(self._take(key, value) for key, value in zip(self.positional, args, strict=False))
        kept += tuple(self._take(self.rest, value) if self.rest else value for value in args[count:])
        return kept, {key: self._take(key, value) for key, value in named.items()}

    def _look(self) -> None:
        kinds = inspect.Parameter
        parameters = inspect.signature(self.function).parameters
        try:
            self.hints = get_type_hints(self.source)
        except Exception:  # an annotation that only a type checker can look up
            self.hints = {}
        self.positional = [
            key for key, p in parameters.items() if p.kind in (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD)
        ]
        self.rest = next((key for key, p in parameters.items() if p.kind is kinds.VAR_POSITIONAL), None)
        self.others = next((key for key, p in parameters.items() if p.kind is kinds.VAR_KEYWORD), None)
        self.takers = {key: taker(self.hints.get(key, Any)) for key in parameters}

    def _take(self, key: str | None, value: Any) -> Any:
        assert self.takers is not None
        hint = key if key in self.takers else self.others
        if hint is None or hint == "self":
            return value
        try:
            return self.takers[hint](value)
        except Mismatch:
            wanted = described(self.hints[hint])
            raise InvalidInput(
                f"argument {key!r} of {self.name}: expected {wanted}, got {shown(value)}; see help({self.name})"
            ) from None

    def is_ours(self, error: BaseException) -> bool:
        """Whether an error was raised within polyfuse: not by the call itself, and not by a function of the user's."""
        trace = error.__traceback__
        trace = trace.tb_next if trace is not None else None
        if trace is None:
            return False
        found = True
        while trace is not None:
            file = trace.tb_frame.f_code.co_filename
            if file.startswith(FOLDER):
                found = True
            elif not is_library(file):
                found = False
            trace = trace.tb_next
        return found

    def told(self, error: BaseException) -> str:
        """An error of Python, numpy or isl in one line."""
        text = " ".join(str(error).split())
        if isinstance(error, OSError) and error.strerror:
            where = f"'{error.filename}': " if error.filename else ""
            return f"{self.name}: {where}{error.strerror}; check the path and the space left"
        if isinstance(error, MemoryError):
            return f"{self.name}: out of memory; take smaller sizes"
        return (
            f"{self.name}: cannot work with these arguments ({type(error).__name__}: {shown_text(text)}); check their "
            f"values, see help({self.name})"
        )


def shown_text(text: str) -> str:
    """The text of an error, without where in isl it was raised."""
    return text.split(" in /")[0][:200] or "no reason given"


@cache
def is_library(file: str) -> bool:
    """Whether a file is Python's or of an installed package, of which compiled ones have no whole path."""
    return not os.path.isabs(file) or any(file.startswith(folder) for folder in libraries())


@cache
def libraries() -> tuple[str, ...]:
    """The folders of Python and of installed packages."""
    found = {os.path.dirname(os.__file__), os.path.dirname(os.path.dirname(np.__file__)), sys.prefix}
    return tuple(folder + os.sep for folder in found)


def taker(hint: Any) -> Taker:
    """What takes a value as an annotation says, or raises Mismatch."""
    if hint in (Any, object, ArrayLike) or isinstance(hint, TypeVar):
        return anything
    if hint in SIMPLE:
        return SIMPLE[hint]
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return one_of(tuple(taker(arg) for arg in args))
    if origin is Literal:
        return of_class(str) if all(isinstance(arg, str) for arg in args) else anything
    if origin is tuple:
        if len(args) == 2 and args[1] is Ellipsis:
            return items(taker(args[0]), None)
        return items(None, tuple(taker(arg) for arg in args))
    kind = origin or hint
    if not isinstance(kind, type):
        return anything
    if kind is not type and issubclass(kind, Mapping):
        return pairs(*(taker(arg) for arg in args or (Any, Any)))
    if kind in (Sequence, list, Collection, set, frozenset, Iterable, Iterator):
        return elements(kind, taker(args[0] if args else Any))
    return of_class(kind)


def anything(value: Any) -> Any:
    """Whatever it is."""
    return value


def of_class(kind: type) -> Taker:
    """An object of a class."""

    def take(value: Any) -> Any:
        try:
            fits = isinstance(value, kind)
        except TypeError:  # a protocol that cannot be asked
            return value
        if not fits:
            raise Mismatch
        return value

    return take


def one_of(takers: tuple[Taker, ...]) -> Taker:
    """What the first of several takes."""

    def take(value: Any) -> Any:
        for each in takers:
            try:
                return each(value)
            except Mismatch:
                continue
        raise Mismatch

    return take


def items(each: Taker | None, fixed: tuple[Taker, ...] | None) -> Taker:
    """A tuple, of any length or of a fixed one, from whatever is a sequence."""

    def take(value: Any) -> Any:
        if not is_sequence(value):
            raise Mismatch
        if fixed is None:
            assert each is not None
            return tuple(each(item) for item in value)
        if len(value) != len(fixed):
            raise Mismatch
        return tuple(one(item) for one, item in zip(fixed, value, strict=True))

    return take


def is_sequence(value: Any) -> bool:
    """Whether a value has items in an order; text is one value, not many."""
    if isinstance(value, np.ndarray):
        return value.ndim == 1
    return isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray)


def elements(kind: type, each: Taker) -> Taker:
    """A collection as it is, with its elements looked at; those of an iterator when they come."""

    def take(value: Any) -> Any:
        if isinstance(value, str | bytes | bytearray | Mapping) or not isinstance(value, Iterable):
            raise Mismatch
        if (kind is Sequence or isinstance(value, np.ndarray)) and not is_sequence(value):
            raise Mismatch
        if isinstance(value, Collection):
            made = [each(item) for item in value]
            unchanged = all(a is b for a, b in zip(made, value, strict=True))
            return value if unchanged and isinstance(value, kind) else tuple(made)
        if kind is not Iterable and kind is not Iterator:
            raise Mismatch
        return lazily(value, each)

    return take


def lazily(values: Iterable[Any], each: Taker) -> Iterator[Any]:
    """The elements of an iterator, looked at when they come.

    Errors: InvalidInput.
    """
    for value in values:
        try:
            yield each(value)
        except Mismatch:
            raise InvalidInput(f"an element that was given is not what is expected: {shown(value)}") from None


def pairs(key: Taker, value: Taker) -> Taker:
    """A mapping, with its keys and values looked at."""

    def take(given: Any) -> Any:
        if not isinstance(given, Mapping):
            raise Mismatch
        made = {key(k): value(v) for k, v in given.items()}
        return given if all(made[k] is v for k, v in given.items()) else made

    return take


def take_whole(value: Any) -> Any:
    """A whole number as Python's own."""
    if not is_whole_number(value):
        raise Mismatch
    return whole(value, "")


def take_number(value: Any) -> Any:
    """A real number."""
    if is_whole_number(value):
        return whole(value, "")
    if not isinstance(value, float | np.floating):
        raise Mismatch
    return float(value)


def take_bool(value: Any) -> Any:
    """True or False."""
    if not isinstance(value, bool | np.bool_):
        raise Mismatch
    return bool(value)


def take_path(value: Any) -> Any:
    """A path, or its text."""
    if not isinstance(value, str | Path):
        raise Mismatch
    return Path(value)


def take_function(value: Any) -> Any:
    """Something to call."""
    if not callable(value):
        raise Mismatch
    return value


SIMPLE: Mapping[Any, Taker] = {
    int: take_whole,
    float: take_number,
    bool: take_bool,
    str: of_class(str),
    Path: take_path,
    None: of_class(type(None)),
    type(None): of_class(type(None)),
    Callable: take_function,
}
WORDS: Mapping[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "True or False",
    str: "text",
    Path: "a path",
    type(None): "None",
    ArrayLike: "an array of numbers",
    Any: "anything",
    object: "anything",
}


def described(hint: Any) -> str:
    """An annotation in words.

    >>> described(tuple[int, ...]), described(int | None), described(Mapping[str, Sequence[int]])
    ('a sequence of whole numbers', 'a whole number or None', 'a mapping from text to sequences of whole numbers')
    """
    if hint in WORDS:
        return WORDS[hint]
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(described(arg) for arg in args))
    if origin is Literal:
        return " or ".join(map(repr, args))
    if origin is tuple and not (len(args) == 2 and args[1] is Ellipsis):
        return f"({', '.join(described(arg) for arg in args)})"
    kind = origin or hint
    if isinstance(kind, type) and issubclass(kind, Mapping) and args:
        return f"a mapping from {described(args[0])} to {several(described(args[1]))}"
    if args and kind in (tuple, Sequence, list, Collection, set, frozenset, Iterable, Iterator):
        return f"a sequence of {several(described(args[0]))}"
    if kind is Callable or origin is Callable:
        return "a function"
    name = getattr(kind, "__name__", str(kind))
    return f"{'an' if name[0] in 'AEIOU' else 'a'} {name}"


def several(words: str) -> str:
    """More than one of what words describe.

    >>> several("a whole number"), several("text"), several("a sequence of text")
    ('whole numbers', 'text', 'sequences of text')
    """
    article, _, rest = words.partition(" ")
    if article not in ("a", "an") or " or " in words:
        return words
    head, of, tail = rest.partition(" of ")
    return f"{head}{'' if head.endswith('s') else 's'}{of}{tail}"
