"""Locks between processes, which the system lets go when their holder ends, however it ends."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from pose.errors import OutputError


class HeldError(OutputError):
    """Another process holds the lock; ``holder`` says which."""

    def __init__(self, path: Path, holder: str) -> None:
        super().__init__(f"{path}: is held by {holder}")
        self.holder = holder


@contextmanager
def lock_file(path: Path, wait: bool) -> Iterator[None]:
    """Holds a file for this process; workers that it forks do not hold it.

    Args:
        path: Made if it is not there; it stays. Who holds it is written beside it, since Windows lets nobody read a
            locked file.
        wait: Whether to wait for another process that holds it.

    Raises:
        HeldError: Another process holds it and ``wait`` is False.
        OutputError: It cannot be made or locked.
    """
    path = Path(path)
    holder = path.with_name(f"{path.name}.holder")
    lock = FileLock(path)
    try:
        lock.acquire(timeout=-1 if wait else 0)
    except Timeout as error:
        raise HeldError(path, _read(holder) or "another process") from error
    except OSError as error:
        raise OutputError(f"{path}: cannot be locked ({error.strerror or error}); choose another place") from error
    try:
        with suppress(OSError):  # it only helps whoever finds the lock held
            holder.write_text(f"process {os.getpid()} on {socket.gethostname()}\n", encoding="utf-8")
        yield
    finally:
        with suppress(OSError):
            holder.unlink()
        lock.release()


def _read(holder: Path) -> str:
    try:
        return holder.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
