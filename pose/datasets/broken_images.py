"""Pictures that cannot be used: counted, told once, and looked at again after a stop."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from pose.errors import DataError


def still_broken(paths: Iterable[str], read: Callable[[int], object], messages: Sequence[str]) -> list[str]:
    """What is wrong now with the pictures that messages of an earlier run name; those of other pictures stay.

    Args:
        paths: The files of all pictures that may be meant.
        read: Reads one of them by its place there, and raises DataError where it cannot.
        messages: Each begins with a picture's file.
    """
    known = {path: place for place, path in enumerate(paths)} if messages else {}
    found = []
    for message in messages:
        parts = message.split(": ")
        path = next((path for end in range(len(parts)) if (path := ": ".join(parts[:end])) in known), None)
        if path is None:
            found.append(message)
            continue
        try:
            read(known[path])
        except DataError as error:
            found.append(str(error))
    return found


class BrokenImages:
    """Counts pictures that cannot be used, tells each once, and stops where they are too many.

    Args:
        share: The largest share of the pictures that may be broken.
        count: How many there are.
        again: Takes messages of an earlier run and gives those that hold now; None believes them all.

    Attributes:
        found: The messages, each of which names a file.
    """

    def __init__(self, share: float, count: int, again: Callable[[Sequence[str]], list[str]] | None = None) -> None:
        self.again = again
        self.limit = int(share * count)
        self.count = count
        self.found: dict[str, None] = {}
        self._new: list[str] = []

    def add(self, messages: Iterable[str], tell: Callable[[str], None] = print) -> None:
        """Counts and tells those that are new.

        Raises:
            DataError: They are too many now.
        """
        for message in messages:
            if message not in self.found:
                self._new.append(message)
                self.count_in([message])
                tell(f"warning: skipped {message} ({len(self.found)} of at most {self.limit})")

    def resume(self, messages: Sequence[str], tell: Callable[[str], None] = print) -> None:
        """Counts what a run had found before it was stopped; pictures that were mended meanwhile are told.

        Raises:
            DataError: They are too many.
        """
        holding = list(messages) if self.again is None else self.again(messages)
        if len(holding) < len(messages):
            tell(f"{len(messages) - len(holding):,} pictures that could not be used before the stop can be now")
        self.count_in(holding)

    def take_new(self) -> list[str]:
        """The messages that came by :meth:`add` since the last call, for the run's other processes."""
        taken, self._new = self._new, []
        return taken

    def count_in(self, messages: Iterable[str]) -> None:
        """Counts messages of this or another process.

        Raises:
            DataError: They are too many now.
        """
        for message in messages:
            self.found[message] = None
            if len(self.found) > self.limit:
                more = f" ({len(self.found)} of {self.count} pictures cannot be used, up to {self.limit} are skipped)"
                raise DataError(message + more)
