"""What a front door accepts, said once in its annotations and used for the check, the help and the tests.

>>> @front_door
... def fit(A, *, rows: Annotated[int, AtLeast(1)] = 10, delta: Annotated[float, Fraction()] = 0.05):
...     return rows
>>> fit(None, rows=0)
Traceback (most recent call last):
ValueError: rows must be at least 1, got 0
"""

from __future__ import annotations

import functools
import inspect
import math
import types
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

from whp.validate import SMALLEST, as_bool, as_int, as_real, as_rng

__all__ = [
    "Above",
    "AtLeast",
    "Between",
    "Fraction",
    "Range",
    "check_fields",
    "describe",
    "front_door",
    "ranges",
]

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Range:
    """Finite numbers from `low` to `high`; with an open end the end itself is outside."""

    low: float
    high: float
    open_low: bool = False
    open_high: bool = False

    def __contains__(self, number: float) -> bool:
        above = number > self.low if self.open_low else number >= self.low
        below = number < self.high if self.open_high else number <= self.high
        return above and below

    def __str__(self) -> str:
        if self.high == math.inf:
            return f"above {_shown(self.low)}" if self.open_low else f"at least {_shown(self.low)}"
        if self.low == SMALLEST:
            return f"at least {SMALLEST:g} and below 1"
        if self.open_low or self.open_high:
            left, right = "(["[not self.open_low], ")]"[not self.open_high]
            return f"in {left}{_shown(self.low)}, {_shown(self.high)}{right}"
        return f"from {_shown(self.low)} to {_shown(self.high)}"


def _shown(end: float) -> str:
    """Thousands apart; what is larger still in powers of ten."""
    return f"{end:,.0f}" if 1000 <= end < 1e10 and end == int(end) else f"{end:g}"


def AtLeast(low: float) -> Range:
    """Finite numbers from `low` on."""
    return Range(low, math.inf, open_high=True)


def Above(low: float) -> Range:
    """Finite numbers larger than `low`."""
    return Range(low, math.inf, open_low=True, open_high=True)


def Between(low: float, high: float) -> Range:
    """Numbers from `low` to `high`, both ends included."""
    return Range(low, high)


def Fraction() -> Range:
    """Numbers strictly between 0 and 1, and not so small that a share of them would vanish."""
    return Range(SMALLEST, 1.0, open_low=True, open_high=True)


@dataclass(frozen=True)
class _Rule:
    """The alternatives of one annotation."""

    anything: bool = False  # Any and object take whatever comes
    none: bool = False  # None is one
    other: bool = False  # so are values that are no scalars, or of types that are not checked here
    text: bool = False
    truth: bool = False
    choices: tuple[Any, ...] = ()
    whole: tuple[Range | None, ...] = ()
    real: tuple[Range | None, ...] = ()
    options: tuple[type, ...] = ()  # dataclasses

    def __or__(self, more: _Rule) -> _Rule:
        joined = {f.name: getattr(self, f.name) for f in fields(self)}
        for name, value in joined.items():
            joined[name] = (value or getattr(more, name)) if isinstance(value, bool) else value
            if isinstance(value, tuple):
                joined[name] = value + getattr(more, name)
        return _Rule(**joined)

    @property
    def scalar(self) -> bool:
        found = self.text or self.truth or self.choices or self.whole or self.real or self.options
        return bool(found) and not self.anything

    def check(self, value: Any, name: str) -> Any:
        if (value is None and self.none) or not self.scalar or isinstance(value, self.options):
            return value
        simple = value is None or isinstance(
            value, str | bytes | bool | int | float | complex | np.generic
        )
        if self.other and (not simple or isinstance(value, bytes)):
            return value
        if isinstance(value, str) and (self.text or value in self.choices):
            return value
        if isinstance(value, bool | np.bool_) and (self.truth or bool(value) in self.choices):
            return bool(value)
        errors: list[Exception] = []
        if not isinstance(value, str | bytes | bool | np.bool_):
            # A number that is meant to be whole is told so, whatever else a parameter takes.
            for accepted, convert in ((self.whole, as_int), (self.real, as_real)):
                for limits in accepted:
                    try:
                        number = convert(value, name)
                        if limits is not None and number not in limits:
                            raise ValueError(f"{name} must be {limits}, got {number:g}")
                        if not math.isfinite(number) and limits is None:
                            raise ValueError(f"{name} must be finite, got {number:g}")
                        return number
                    except (TypeError, ValueError) as error:
                        errors.append(error)
        if errors and not self.choices:
            raise next((e for e in errors if isinstance(e, ValueError)), errors[0])
        if self.truth and not (self.choices or self.text or errors):
            return as_bool(value, name)
        raise self._refusal(value, name)

    def _refusal(self, value: Any, name: str) -> Exception:
        try:
            shown = repr(value)
        except ValueError:  # a whole number of thousands of digits
            shown = "a very long number"
        shown = shown if len(shown) <= 80 else f"{shown[:60]}…"
        known = isinstance(value, str) and self.choices and not self.other
        kind = ValueError if known else TypeError
        return kind(f"{name} must be {self}, got {shown}")

    def __str__(self) -> str:
        parts = [f"one of {', '.join(map(repr, self.choices))}"] if self.choices else []
        parts += ["text"] * self.text + ["True or False"] * self.truth
        parts += [f"a whole number{f' {r}' if r else ''}" for r in self.whole if r not in self.real]
        parts += [f"a number{f' {r}' if r else ''}" for r in self.real]
        parts += [f"a {option.__name__}" for option in self.options]
        return " or ".join(parts + ["None"] * self.none)


def _rule(annotation: Any, limits: Range | None = None) -> _Rule:
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *metadata = get_args(annotation)
        found = (m() if m is Fraction else m for m in metadata)
        return _rule(inner, next((m for m in found if isinstance(m, Range)), limits))
    if origin in (Union, types.UnionType):
        joined = _Rule()
        for part in get_args(annotation):
            joined |= _rule(part, limits)
        return joined
    if origin is Literal:
        named = tuple(a for a in get_args(annotation) if a is not None)
        return _Rule(choices=named, none=None in get_args(annotation))
    if annotation is None or annotation is type(None):
        return _Rule(none=True)
    if annotation in (Any, object):
        return _Rule(anything=True)
    if annotation is bool:
        return _Rule(truth=True)
    if annotation is int:
        return _Rule(whole=(limits,))
    if annotation is float:
        return _Rule(real=(limits,))
    if annotation is str:
        return _Rule(text=True)
    if annotation is Path:
        return _Rule(text=True, other=True)
    if isinstance(annotation, type) and is_dataclass(annotation):
        return _Rule(options=(annotation,))
    return _Rule(other=True)


@functools.cache
def _rules(function: Any) -> dict[str, _Rule]:
    hints = get_type_hints(function, include_extras=True)
    parameters = inspect.signature(function).parameters
    rules = {}
    for name, parameter in parameters.items():
        variadic = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        if name in hints and name != "rng" and not variadic:
            rule = _rule(hints[name])
            if rule.scalar:
                rules[name] = rule | _Rule(none=parameter.default is None)
    return rules


def front_door(function: F) -> F:
    """Check the scalar arguments of a function by their annotations before its body runs.

    Bools, whole and real numbers with their :class:`Range`, ``Literal`` choices, text, dataclasses of options, and ``rng`` by
    SPEC 7. Numbers of numpy arrive as Python's, and a whole number given for a float as a float. Arrays, tables and other
    objects are the body's business.

    Raises
    ------
    TypeError
        If an argument has a wrong type; the message names it.
    ValueError
        If it is out of range or none of the choices; the message names it and what is accepted.
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        rules = _rules(function)
        for name, value in bound.arguments.items():
            if name == "rng":
                as_rng(value, name)
            elif name in rules:
                bound.arguments[name] = rules[name].check(value, name)
        return function(*bound.args, **bound.kwargs)

    return checked  # type: ignore[return-value]


def check_fields(instance: Any) -> None:
    """The same check for the fields of a dataclass of options, to be called in its ``__post_init__``."""
    assert is_dataclass(instance)
    rules = _rules(type(instance))
    for field in fields(instance):
        if field.name in rules:
            value = rules[field.name].check(getattr(instance, field.name), field.name)
            object.__setattr__(instance, field.name, value)


def ranges(function: Callable[..., Any]) -> dict[str, tuple[Range | tuple[Any, ...], ...]]:
    """Ranges and choices of each parameter that has some, for tests and documentation."""
    found = {}
    for name, rule in _rules(inspect.unwrap(function)).items():
        limits: list[Any] = [r for r in dict.fromkeys((*rule.whole, *rule.real)) if r is not None]
        if rule.choices:
            limits.append(rule.choices)
        if limits:
            found[name] = tuple(limits)
    return found


def describe(annotation: Any) -> str:
    """The range that an annotation states, in words for a help text; empty where it states none."""
    rule = _rule(annotation)
    return " or ".join(dict.fromkeys(str(r) for r in (*rule.whole, *rule.real) if r is not None))
