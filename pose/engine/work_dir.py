"""The work folder of a run: what lies in it, and that only one training writes to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pose.errors import OutputError
from pose.files import make_folder
from pose.locks import HeldError, lock_file

LAST, PREVIOUS, BEST, METRICS, DATA = "last.pth", "previous.pth", "best.pth", "metrics.csv", "data.json"


class BusyError(OutputError):
    """Another process trains in this folder."""


@contextmanager
def locked(work_dir: str | Path) -> Iterator[Path]:
    """Makes the folder and holds it for this process.

    Half-written files of a process that was killed are removed.

    Raises:
        BusyError: Another process holds it; the message says which.
        OutputError: It cannot be written.
    """
    work_dir = make_folder(work_dir)
    try:
        with lock_file(work_dir / ".lock", wait=False):
            for name in (LAST, PREVIOUS, BEST, METRICS, DATA):
                for half in work_dir.glob(f".{Path(name).stem}.*"):
                    half.unlink()
            yield work_dir
    except HeldError as error:
        raise BusyError(
            f"{work_dir}: a training is running in it ({error.holder}); wait for it or choose another --work-dir"
        ) from error


def run_files(work_dir: Path) -> list[str]:
    """The files of a run that a new one would replace; metrics without a row are of a run that was stopped at once."""
    there = [name for name in (LAST, PREVIOUS, BEST) if (work_dir / name).exists()]
    metrics = work_dir / METRICS
    if metrics.is_file() and metrics.read_bytes().count(b"\n") > 1:
        there.append(METRICS)
    return there
