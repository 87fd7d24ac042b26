"""The values of options that :mod:`pose.engine.tuning` tries, and how a person says them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pose.options import OptionError

if TYPE_CHECKING:
    import optuna

FIXED = ("data.root", "data.train", "data.val", "data.test", "data.skeleton", "data.category", "test.", "train.seed")
"""Options that decide what is measured; they are not searched."""


@dataclass(frozen=True)
class Range:
    """The values of an option that are tried.

    Args:
        key: The option, dotted.
        low, high: The smallest and the largest number; whole numbers where both are.
        log: Evenly in the logarithm.
        choices: Values instead of numbers between two.
    """

    key: str
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    choices: tuple[Any, ...] = ()

    def suggest(self, trial: optuna.Trial) -> Any:
        """A trial's value."""
        if self.choices:
            return trial.suggest_categorical(self.key, list(self.choices))
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(self.key, self.low, self.high, log=self.log)
        return trial.suggest_float(self.key, self.low, self.high, log=self.log)

    @property
    def ends(self) -> tuple[Any, ...]:
        """Values to try first whether they can be."""
        return self.choices or (self.low, self.high)


def parse_ranges(pairs: Sequence[str]) -> list[Range]:
    """What ``--search`` says: ``KEY=LOW:HIGH``, ``KEY=log:LOW:HIGH`` or ``KEY=VALUE,VALUE``.

    Raises:
        OptionError: A pair is none of these, or its option may not be searched.
    """
    ranges = []
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not key or not equals or not text:
            raise OptionError(f"--search needs KEY=LOW:HIGH, KEY=log:LOW:HIGH or KEY=VALUE,VALUE, got {pair!r}")
        if key.startswith(FIXED):
            raise OptionError(f"--search {key}: decides what is measured and is not searched")
        if "," in text:
            ranges.append(Range(key, choices=tuple(_number(value) for value in text.split(","))))
            continue
        log = text.startswith("log:")
        low, _, high = text.removeprefix("log:").partition(":")
        least, most = _number(low), _number(high)
        if isinstance(least, str) or isinstance(most, str) or not least < most or (log and least <= 0):
            raise OptionError(f"--search {pair}: needs two numbers, the smaller first (with log both above 0)")
        ranges.append(Range(key, least, most, log=log))
    if len({each.key for each in ranges}) < len(ranges):
        raise OptionError("--search: an option stands there twice")
    return ranges


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
