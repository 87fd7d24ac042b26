"""Where the commands begin: one function each, which imports what it needs when it is called.

setup.py names them as console commands; the files in ``tools/`` of the same names call them too.
"""

from __future__ import annotations

import importlib
import sys

from pose.errors import missing_line


def train() -> None:
    """``pose-train``: :mod:`pose.commands.train`."""
    _run("train")


def test() -> None:
    """``pose-test``: :mod:`pose.commands.test`."""
    _run("test")


def demo() -> None:
    """``pose-demo``: :mod:`pose.commands.demo`."""
    _run("demo")


def export() -> None:
    """``pose-export``: :mod:`pose.commands.export`."""
    _run("export")


def serve() -> None:
    """``pose-serve``: :mod:`pose.commands.serve`."""
    _run("serve")


def predict() -> None:
    """``pose-predict``: :mod:`pose.commands.predict`."""
    _run("predict")


def _run(name: str) -> None:
    """Runs a command; a library of an extra that is not installed is told in one line with exit status 2."""
    try:
        importlib.import_module(f"pose.commands.{name}").main()
    except ModuleNotFoundError as error:
        line = missing_line(error)
        if line is None:
            raise
        print(f"error: {line}", file=sys.stderr)
        sys.exit(2)
