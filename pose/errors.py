"""Errors that a person can mend, and how the tools tell them: one line and exit status 2."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable


class PoseError(Exception):
    """Something a person can mend. The message is one line: which file or option, what is wrong, what to do."""


class DataError(PoseError, ValueError):
    """Annotations, detections, pictures or results that cannot be used as they are."""


class CheckpointError(PoseError, ValueError):
    """A checkpoint that is broken or belongs to another network."""


class OutputError(PoseError, OSError):
    """A place that cannot be written."""


def command(main: Callable[[], int | None]) -> Callable[[], None]:
    """Makes a tool's ``main``: a :class:`PoseError` is told in one line with exit status 2.

    Ctrl-C leaves with status 130. Any other exception is a defect of ours and keeps its traceback.
    """

    @functools.wraps(main)
    def run() -> None:
        try:
            sys.exit(main() or 0)
        except PoseError as error:
            message = " ".join(str(error).split())
            print(f"error: {message}", file=sys.stderr)
            sys.exit(2)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            sys.exit(130)

    return run
