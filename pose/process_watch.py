"""What a process holds while it runs, seen from outside: memory, open files, threads. Needs psutil."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import psutil

from pose.tables import table_lines

MEGABYTE = 1 << 20

FEWEST_SAMPLES = 9
"""Three for each third of a run, so that a median is one."""

SLACK_BYTES = 24 * MEGABYTE
"""What memory may grow by between the halves of a run that counts as flat: allocators give pages back late."""


@dataclass(frozen=True)
class Sample:
    """What a process held at a moment.

    Args:
        at: How far the work was, in its own unit.
        resident: Bytes of memory.
        files: Open files, sockets among them.
        threads: The number of its threads.
    """

    at: int
    resident: int
    files: int
    threads: int


class ProcessWatch:
    """Samples of one process.

    Args:
        pid: The process.

    Attributes:
        samples: In the order of time.
    """

    def __init__(self, pid: int) -> None:
        self.process = psutil.Process(pid)
        self.samples: list[Sample] = []

    def sample(self, at: int) -> Sample:
        """Takes a sample; ``at`` says how far the work is.

        Raises:
            psutil.NoSuchProcess: The process has ended.
        """
        with self.process.oneshot():
            files = self.process.num_fds() if hasattr(self.process, "num_fds") else self.process.num_handles()
            found = Sample(at, self.process.memory_info().rss, files, self.process.num_threads())
        self.samples.append(found)
        return found

    def wait_for_threads(self, most: int, seconds: float) -> bool:
        """Waits until the process has at most ``most`` threads; False where that takes longer than ``seconds``."""
        end = time.monotonic() + seconds
        while self.process.num_threads() > most:
            if time.monotonic() > end:
                return False
            time.sleep(0.05)
        return True


def growth(samples: Sequence[Sample]) -> tuple[int, int, int]:
    """How much more a process held in the last third of a run than in the middle third: bytes, files, threads.

    The first third is left out: caches and pools fill in it. Medians, so that one sample amid work counts little.

    Raises:
        ValueError: There are fewer than :data:`FEWEST_SAMPLES`.
    """
    if len(samples) < FEWEST_SAMPLES:
        raise ValueError(f"{FEWEST_SAMPLES} samples are needed to speak of growth, got {len(samples)}")
    third = len(samples) // 3
    middle, last = samples[third : 2 * third], samples[-third:]
    names = ("resident", "files", "threads")
    medians = [
        [statistics.median_low([getattr(one, name) for one in part]) for name in names] for part in (middle, last)
    ]
    resident, files, threads = (after - before for before, after in zip(*medians, strict=True))
    return resident, files, threads


def is_flat(samples: Sequence[Sample]) -> bool:
    """Whether :func:`growth` is within what allocators make: :data:`SLACK_BYTES`, no file and no thread."""
    resident, files, threads = growth(samples)
    return resident <= SLACK_BYTES and files <= 0 and threads <= 0


def growth_words(samples: Sequence[Sample]) -> str:
    """:func:`growth` in words."""
    resident, files, threads = growth(samples)
    return f"{resident / MEGABYTE:+.1f} MiB, {files:+d} open files, {threads:+d} threads"


def watch_table(samples: Sequence[Sample], unit: str, rows: int = 10) -> list[str]:
    """A table of at most so many evenly spaced samples, the first and the last among them."""
    places = sorted({round(number * (len(samples) - 1) / max(rows - 1, 1)) for number in range(rows)})
    chosen = [samples[place] for place in places]
    lines = [(one.at, f"{one.resident / MEGABYTE:.1f}", one.files, one.threads) for one in chosen]
    return table_lines([unit, "memory, MiB", "open files", "threads"], lines, 0)
