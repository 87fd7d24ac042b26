"""SIGTERM and Ctrl-C as a request that training meets when it can."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Stopped(BaseException):
    """Raised where a signal need not wait; no Exception, so that nothing takes it for a failure."""


class StopSignals:
    """While entered, the first SIGINT or SIGTERM is noted, a second one takes effect at once.

    In any thread but the main one it does nothing: Python delivers signals only there.

    Attributes:
        received: The signal that arrived, or None.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._at_once = False
        self._before: dict = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in self.SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        again = self.received is not None
        self.received = signal.Signals(number)
        if again:
            raise KeyboardInterrupt
        if self._at_once:
            raise Stopped

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Lets a signal raise :class:`Stopped` within the block, and one that came before it, too."""
        self._at_once = True
        try:
            if self.received is not None:
                raise Stopped
            yield
        finally:
            self._at_once = False
