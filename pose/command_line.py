"""Arguments that several tools share, and what single values may be."""

from __future__ import annotations

import argparse
import ast
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from pose.options import OptionError

if TYPE_CHECKING:
    from pose.config import Settings


class CommandParser(argparse.ArgumentParser):
    """Arguments of a tool, which says in one line what is wrong with them, as of everything else.

    Args:
        description: What ``--help`` says, line by line as it is: the tool's docstring.
        more: What :class:`argparse.ArgumentParser` takes.
    """

    def __init__(self, description: str | None = None, **more: Any) -> None:
        more.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(description=description, **more)

    def error(self, message: str) -> NoReturn:
        """Raises what :func:`pose.errors.command` makes the one line of, with exit status 2.

        Raises:
            OptionError: Always.
        """
        raise OptionError(f"{message}; --help tells all arguments")


def share(text: str) -> float:
    """A number from 0 to 1, as the ``type`` of an argument.

    Raises:
        argparse.ArgumentTypeError: It is none; names the nearest that is.
    """
    value = _number(text, float)
    if math.isnan(value):
        raise argparse.ArgumentTypeError(f"needs a number from 0 to 1, got {text!r}")
    return _within(value, 0.0, 1.0)


def count(least: int = 1, most: int | None = None) -> Callable[[str], int]:
    """The ``type`` of an argument that is a whole number of at least ``least`` and at most ``most``."""
    return lambda text: _within(_number(text, int), least, most)


def positive(text: str) -> float:
    """A finite number above 0, as the ``type`` of an argument.

    Raises:
        argparse.ArgumentTypeError: It is none.
    """
    value = _number(text, float)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"needs a finite number above 0, got {text!r}")
    return value


def _number(text: str, kind: type) -> Any:
    try:
        return kind(text)
    except ValueError as error:
        what = "a whole number" if kind is int else "a number"
        raise argparse.ArgumentTypeError(f"needs {what}, got {text!r}") from error


def _within(value: Any, least: Any, most: Any) -> Any:
    if value < least or (most is not None and value > most):
        nearest = least if value < least else most
        shown = str if isinstance(value, int) else "{:g}".format  # 2^63 - 1 in all its digits
        words = f"from {shown(least)} to {shown(most)}" if most is not None else f"of at least {least}"
        raise argparse.ArgumentTypeError(f"needs a number {words}, got {value}; the nearest is {shown(nearest)}")
    return value


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds CONFIG, ``--cfg-options`` and ``--device``."""
    parser.add_argument("config", help="configuration file, see configs/")
    add_run_arguments(parser)


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds ``--cfg-options`` and ``--device``."""
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="change single options, e.g. train.epochs=20 data.root=/data/coco",
    )
    add_device_argument(parser)


def add_device_argument(parser: argparse.ArgumentParser) -> None:
    """Adds ``--device``, see :func:`pose.device.choose_device`."""
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, mps (default: a GPU where there is one)")


def add_training_arguments(parser: argparse.ArgumentParser, prefix: str = "") -> None:
    """Adds what :func:`add_config_arguments` does, ``--work-dir`` and ``--resume``; see :func:`work_dir_of`."""
    add_config_arguments(parser)
    parser.add_argument("--work-dir", type=Path, help=f"default: work_dirs/{prefix}<name of the configuration>")
    parser.add_argument("--resume", action="store_true", help="go on after the work folder's last.pth")


def work_dir_of(arguments: argparse.Namespace, prefix: str = "") -> Path:
    """The work folder that arguments of :func:`add_training_arguments` name, with the same prefix."""
    return arguments.work_dir or Path("work_dirs", f"{prefix}{Path(arguments.config).stem}")


def settings_from(arguments: argparse.Namespace, **overrides: Any) -> Settings:
    """The settings that CONFIG and ``--cfg-options`` name.

    Args:
        arguments: Parsed by a parser with :func:`add_config_arguments`.
        overrides: Options that a tool's own flags set, dots written as two underscores; None is skipped.

    Raises:
        OptionError: The file, a key or a value is wrong.
    """
    from pose.config import load_settings  # needs torch, which a tool that takes an exported network does without

    options = parse_options(arguments.cfg_options)
    options.update({key.replace("__", "."): value for key, value in overrides.items() if value is not None})
    return load_settings(arguments.config, options)


def files_read(arguments: argparse.Namespace, settings: Settings) -> list[Path]:
    """Files that a tool with CONFIG reads, for :func:`pose.files.check_outputs`: configuration, checkpoint, data set.

    Args:
        arguments: ``config`` and, where the tool has them, ``checkpoint`` and ``boxes``.
        settings: The settings that they name.
    """
    own = [Path(arguments.config), Path(getattr(arguments, "checkpoint", None) or arguments.config)]
    boxes = getattr(arguments, "boxes", None)
    named = [Path(boxes)] if boxes and Path(boxes).is_file() else []
    return [*own, *named, *settings.data.files(), Path(settings.data.skeleton)]


def parse_options(pairs: list[str]) -> dict[str, Any]:
    """``["train.epochs=20"]`` to ``{"train.epochs": 20}``; values are Python literals, true and false too, else text.

    Raises:
        OptionError: A pair has no key or no "=", or its value is NaN or infinite.
    """
    options = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise OptionError(f"--cfg-options needs KEY=VALUE, got {pair!r}")
        words = {"true": "True", "false": "False"}  # not none: test.decode=none names a decoder
        if value.lower().lstrip("+-") in ("nan", "inf", "infinity"):
            raise OptionError(f"--cfg-options {pair}: needs a finite number")
        try:
            options[key] = ast.literal_eval(words.get(value.lower(), value))
        except (ValueError, SyntaxError):
            options[key] = value
    return options
