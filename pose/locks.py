"""Locks between processes, which the system lets go when their holder ends, however it ends."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
        path: Made if it is not there; it stays.
        wait: For another process that holds it.

    Raises:
        HeldError: Another process holds it and ``wait`` is False.
        OutputError: It cannot be made or locked.
    """
    try:
        file = open(path, "a+", encoding="utf-8")  # noqa: SIM115, closed below
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); choose another place") from error
    with file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except (BlockingIOError, PermissionError) as error:
            file.seek(0)
            raise HeldError(path, file.read().strip() or "another process") from error
        except OSError as error:
            raise OutputError(f"{path}: cannot be locked ({error.strerror}); choose another place") from error
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)
