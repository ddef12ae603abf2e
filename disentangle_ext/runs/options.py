"""The keyword arguments of a network, an objective or a data set, as options for flags and configuration files."""

from __future__ import annotations

import functools
import inspect
import re
import types
import typing
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from disentangle_ext._errors import MistakeError

REQUIRED: Any = inspect.Parameter.empty
"""The default of an option that has none."""


@dataclass(frozen=True)
class Option:
    """One keyword argument."""

    name: str
    type: Any
    default: Any
    help: str


def options_of(make: Callable[..., Any], *, without: Collection[str] = ()) -> list[Option]:
    """List the keyword arguments of ``make``, with the help from its docstring's "Args:".

    Args:
        make: a class or function.
        without: arguments that the caller supplies.
    """
    return [option for option in _options_of(make) if option.name not in without]


@functools.cache
def _options_of(make: Callable[..., Any]) -> tuple[Option, ...]:
    function = make.__init__ if inspect.isclass(make) else make
    hints = typing.get_type_hints(function)
    help_ = argument_help(inspect.getdoc(make) or "")
    return tuple(
        Option(parameter.name, hints[parameter.name], parameter.default, help_.get(parameter.name, ""))
        for parameter in inspect.signature(make).parameters.values()
        if parameter.kind is not parameter.VAR_KEYWORD
    )


def argument_help(doc: str) -> dict[str, str]:
    """Read the "Args:" section of a Google-style docstring, each entry on one line and without its full stop."""
    section = re.search(r"^Args:\n((?:[ ]+.*\n?|\n)*)", doc, flags=re.MULTILINE)
    if section is None:
        return {}
    entries = re.findall(r"^ {4}(\w+): (.*(?:\n {5,}.*)*)", section.group(1), flags=re.MULTILINE)
    return {name: " ".join(text.split()).removesuffix(".") for name, text in entries}


def coerce(value: Any, kind: Any, where: str) -> Any:
    """Convert ``value``, as a YAML file gives it, to an instance of ``kind``.

    YAML reads 1e-4 as a string and 1 as an integer where a float is meant; both are taken as the float.

    Args:
        value: what the file holds.
        kind: bool, int, float, str, Path, a Literal of strings, a tuple or a union of these.
        where: names the key in the error.

    Raises:
        MistakeError: "config.yaml: lr must be a float, got 'fast'".
    """
    arguments = typing.get_args(kind)
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        return _coerce_union(value, arguments, where)
    if origin is typing.Literal:
        if value in arguments:
            return value
        raise MistakeError(f"{where} must be one of {', '.join(map(str, arguments))}, got {value!r}")
    if origin is tuple and isinstance(value, (list, tuple)):
        kinds = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else list(arguments)
        if len(kinds) == len(value):
            return tuple(coerce(item, each, where) for item, each in zip(value, kinds, strict=True))
    result = _coerce_scalar(value, kind)
    if result is None:
        raise MistakeError(f"{where} must be {_describe(kind)}, got {value!r}")
    return result


def read_text(text: Any, kind: Any, where: str) -> Any:
    """Convert the text of a flag, or the texts of one with several, to an instance of ``kind``.

    Args:
        text: what the command line holds; a bool for a switch.
        kind: as in :func:`coerce`.
        where: names the flag in the error.

    Raises:
        MistakeError: "train: --lr must be a float, got 'fast'".
    """
    is_number = int in (kind, *typing.get_args(kind)) and re.fullmatch(r"[+-]?\d+", str(text))
    return coerce(int(text) if is_number else text, kind, where)


def placeholder(kind: Any) -> str:
    """What stands in the place of a value in --help: "FLOAT|learned"."""
    if typing.get_origin(kind) is typing.Literal:
        return "|".join(map(str, typing.get_args(kind)))
    kinds = [each for each in typing.get_args(kind) if each is not type(None)]
    return "|".join(map(placeholder, kinds)) if kinds else str(kind.__name__).upper()


def _coerce_union(value: Any, kinds: tuple[Any, ...], where: str) -> Any:
    if value is None and type(None) in kinds:
        return None
    for kind in kinds:
        try:
            return coerce(value, kind, where)
        except ValueError:
            continue
    raise MistakeError(f"{where} must be {' or '.join(map(_describe, kinds))}, got {value!r}")


def _coerce_scalar(value: Any, kind: Any) -> Any:
    """Convert a value to ``kind``; None where it is no ``kind``."""
    if kind is float and isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            return float(value)
        except ValueError:
            return None
    if kind is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if kind is Path and isinstance(value, (str, Path)):
        return Path(value)
    is_bool = isinstance(value, bool)
    return value if kind in (bool, int, str) and isinstance(value, kind) and is_bool == (kind is bool) else None


def _describe(kind: Any) -> str:
    if kind is type(None):
        return "null"
    if typing.get_origin(kind) is typing.Literal:
        return " or ".join(map(repr, typing.get_args(kind)))
    name = getattr(kind, "__name__", str(kind))
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"
