"""Where the time goes: seconds per stage, for ``--profile``."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Profiler:
    """Adds up the seconds of named stages; a stage inside another counts in the inner one alone.

    Attributes:
        seconds: The seconds of each stage.
        counts: How often each stage ran.
        exact: Whether work on a GPU is waited for at the end of a stage; it costs a little time.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.counts: dict[str, int] = {}
        self.exact = False
        self._lock = threading.Lock()
        self._inner = threading.local()

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Times the ``with`` block."""
        outer, self._inner.seconds = getattr(self._inner, "seconds", 0.0), 0.0
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - start
            own, self._inner.seconds = spent - self._inner.seconds, outer + spent
            with self._lock:
                self.seconds[stage] = self.seconds.get(stage, 0.0) + own
                self.counts[stage] = self.counts.get(stage, 0) + 1

    def table(self, images: int) -> str:
        """A line per stage: milliseconds a picture and the share of the time, the longest first."""
        total = sum(self.seconds.values())
        lines = [f"{'stage':<16}{'ms/picture':>12}{'share':>8}{'calls':>8}"]
        for stage, seconds in sorted(self.seconds.items(), key=lambda item: -item[1]):
            each = 1000 * seconds / max(images, 1)
            lines.append(f"{stage:<16}{each:>12.2f}{seconds / max(total, 1e-9):>8.1%}{self.counts[stage]:>8}")
        lines.append(f"{'all':<16}{1000 * total / max(images, 1):>12.2f}{'':>8}{images:>8}")
        return "\n".join(lines)
