"""Options as calls: a mapping becomes keyword arguments, and a key that nothing takes is an error."""

from __future__ import annotations

import difflib
import inspect
import types
import typing
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pose.errors import PoseError


class OptionError(PoseError, ValueError):
    """An option that does not exist, is missing, or has a value that cannot be; one line, names the option."""


@contextmanager
def errors_of(path: str | Path) -> Iterator[None]:
    """Adds the configuration file to an OptionError that is raised within the block."""
    try:
        yield
    except OptionError as error:
        raise OptionError(f"{path}: {error}") from error


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of an error message: the nearest known name, or all of them."""
    known = list(known)
    close = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known) or 'none'}"


def check_keys(options: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    """Raises OptionError for the first key that is not known.

    Args:
        options: The options that were given.
        known: Names that may be given.
        where: What the options belong to, as a dotted path such as ``model.head``; may be empty.
    """
    known = list(known)
    for key in options:
        if key not in known:
            raise OptionError(f"unknown option {f'{where}.{key}' if where else key!r}: {nearest(key, known)}")


def parameters(function: Callable) -> dict[str, inspect.Parameter]:
    """The keyword parameters that a function or a class's constructor takes."""
    found = inspect.signature(function).parameters
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {name: parameter for name, parameter in found.items() if parameter.kind in kinds}


def call(function: Callable, options: Mapping[str, Any], where: str, **given: Any) -> Any:
    """Calls ``function(**options, **given)``.

    Args:
        function: A function or class.
        options: The options of a configuration.
        where: The dotted path of ``options``, for messages.
        given: Arguments that the program supplies; a configuration may not name them.

    Raises:
        OptionError: An option is unknown or missing, or the function refuses a value.
    """
    known = parameters(function)
    check_keys(options, [name for name in known if name not in given], where)
    for name, parameter in known.items():
        if parameter.default is parameter.empty and name not in options and name not in given:
            raise OptionError(f"missing option {where}.{name}")
    try:
        return function(**options, **given)
    except OptionError:
        raise
    except (TypeError, ValueError, OverflowError) as error:
        raise OptionError(f"{where}: {error}") from error


def call_typed(choices: Mapping[str, Callable], options: Mapping[str, Any], where: str, **given: Any) -> Any:
    """Like :func:`call` for a function that ``options["type"]`` names.

    Raises:
        OptionError: There is no such type, or as in :func:`call`.
    """
    if not isinstance(options, Mapping):
        raise OptionError(f"{where}: needs a dict with a 'type', got {options!r}")
    rest = dict(options)
    kind = rest.pop("type", None)
    if kind is None:
        raise OptionError(f"missing option {where}.type: known are {', '.join(choices)}")
    if not isinstance(kind, str) or kind not in choices:
        raise OptionError(f"unknown {where}.type {kind!r}: {nearest(kind, choices)}")
    return call(choices[kind], rest, where, **given)


def build(section: type, options: Mapping[str, Any], where: str) -> Any:
    """Like :func:`call` for a dataclass, and its fields' types are checked too.

    Raises:
        OptionError: As in :func:`call`, or a value is of another type than its field.
    """
    if not isinstance(options, Mapping):
        raise OptionError(f"{where}: needs a dict, got {options!r}")
    hints = typing.get_type_hints(section)
    check_keys(options, parameters(section), where)
    for name, value in options.items():
        if not _fits(value, hints[name]):
            hint = hints[name]
            wanted = hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)
            raise OptionError(f"{where}.{name}: needs {wanted}, got {value!r}")
    return call(section, options, where)


def build_sections(
    sections: Mapping[str, Any], classes: Mapping[str, type], optional: Collection[str] = ()
) -> dict[str, Any]:
    """The sections of a configuration that are there, each made by :func:`build`.

    Args:
        sections: The configuration.
        classes: The dataclass of each section.
        optional: The sections that may be None, and stay it.

    Raises:
        OptionError: As in :func:`build`.
    """
    there = {name: sections[name] for name in classes if name in sections}
    return {
        name: None if section is None and name in optional else build(classes[name], section, name)
        for name, section in there.items()
    }


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is of a type that a configuration can hold; a list may stand for a tuple."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return any(_fits(value, argument) for argument in arguments)
    if origin is tuple:
        if not isinstance(value, (tuple, list)):
            return False
        if arguments[-1] is Ellipsis:
            return all(_fits(item, arguments[0]) for item in value)
        return len(value) == len(arguments) and all(map(_fits, value, arguments))
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, origin or hint)
