"""Options of the GNU C library's memory, where it is the C library."""

from __future__ import annotations

import contextlib
import ctypes

TRIM_THRESHOLD, MMAP_THRESHOLD, ARENA_MAX = -1, -3, -8
"""Numbers of mallopt(3): free bytes from which on the heap shrinks; sizes mapped apart; how many heaps there are."""


def set_option(option: int, value: int) -> bool:
    """Sets an option of mallopt(3).

    Returns:
        Whether it was taken: not by another C library, nor a value that this version does not have.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        return bool(ctypes.CDLL(None).mallopt(option, value))
    return False
