"""Imported first by every tool: a library of an extra that is not installed is told in one line, exit status 2.

Importing this module is what does it, so that it is in force while the tool's other imports run.
"""

from __future__ import annotations

import sys
from types import TracebackType

from pose.errors import missing_line


def tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """An exception hook: the line for a missing library, the traceback for anything else."""
    line = missing_line(error)
    if line is None:
        sys.__excepthook__(kind, error, trace)
        return
    print(f"error: {line}", file=sys.stderr)
    raise SystemExit(2)


sys.excepthook = tell
