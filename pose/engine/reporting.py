"""What people look at while a network trains: a file of figures, a logger's curves, a line an epoch."""

from __future__ import annotations

import csv
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pose.engine.distributed import say
from pose.engine.loggers import open_loggers, output_errors
from pose.errors import DataError
from pose.files import replacing
from pose.models.dynamic.inspection import KernelUse

TRAINED = ("epoch", "loss", "learning_rate", "temperature", "seconds", "samples_per_second", "data_wait")
"""The first columns of ``metrics.csv``: what training gives. The task's own figures follow."""

ENTROPY = "attention_entropy"
"""The last column: the validation's mean over dynamic layers, 0 to 1."""


class Report:
    """Writes ``metrics.csv`` and what the loggers keep.

    Args:
        path: The file of figures.
        epochs: Epochs that are done: rows and points of later ones are dropped.
        figures: The names of what a validation measures.
        loggers: Some of :data:`pose.train_settings.LOGGERS`.
        settings: The run's settings as plain values, for loggers that keep them.

    Attributes:
        uses: How each dynamic layer used its kernels in the last validation of this process.

    Raises:
        OutputError: The place cannot be written.
        DataError: What is there is no such table.
    """

    def __init__(
        self,
        path: Path,
        epochs: int,
        figures: Sequence[str],
        loggers: Sequence[str] = ("tensorboard",),
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.path = path
        self.columns = (*TRAINED, *figures, ENTROPY)
        self.uses: list[KernelUse] = []
        self._keep_rows(epochs)
        with output_errors(path.parent):
            self.loggers = open_loggers(loggers, path.parent, epochs, settings or {})

    def _keep_rows(self, epochs: int) -> None:
        rows: list[dict[str, str]] = []
        if epochs and self.path.exists():
            kept = {str(epoch) for epoch in range(1, epochs + 1)}  # a row that a full disk cut off is not
            try:
                with open(self.path, newline="", encoding="utf-8") as file:
                    table = csv.DictReader(file)
                    if not table.fieldnames or not {"epoch", "loss"} <= set(table.fieldnames):
                        raise ValueError("its first line does not name the columns")
                    rows = [row for row in table if row["epoch"] in kept]
            except (OSError, ValueError, KeyError, csv.Error) as error:
                raise DataError(
                    f"{self.path}: not the table of figures of a training run ({error!r}); move it away, and the run "
                    "goes on with a new one"
                ) from error
        if len({row["epoch"] for row in rows}) < epochs:
            say(f"warning: {self.path}: has figures of {len(rows)} of the {epochs} epochs that are done, no others")
        with replacing(self.path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self.columns, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)

    def add(self, row: Mapping[str, float]) -> None:
        """Writes the figures of an epoch; ``row`` has some of the columns.

        Raises:
            OutputError: It cannot be written, e.g. because the disk is full.
        """
        values = {f"{'train' if name in TRAINED else 'val'}/{name}": value for name, value in row.items()}
        epoch = int(values.pop("train/epoch"))
        with output_errors(self.path.parent):
            with open(self.path, "a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, self.columns).writerow(row)
            for logger in self.loggers:
                logger.add_scalars(values, epoch)

    def add_attention(self, epoch: int, uses: Sequence[KernelUse]) -> None:
        """Shows how evenly each dynamic layer used its kernels in a validation: 0 one, 1 all alike.

        Raises:
            OutputError: It cannot be written.
        """
        self.uses = list(uses)
        with output_errors(self.path.parent):
            for logger in self.loggers if uses else ():
                logger.add_scalars({f"attention_entropy/{use.name}": use.entropy for use in uses}, epoch)

    def add_sheet(self, epoch: int, image: np.ndarray) -> None:
        """Shows a picture, (H, W, 3) uint8 BGR.

        Raises:
            OutputError: It cannot be written.
        """
        with output_errors(self.path.parent):
            for logger in self.loggers:
                logger.add_image("validation crops", np.ascontiguousarray(image[..., ::-1]), epoch)

    def close(self) -> None:
        """Ends the loggers; what they can no longer write is lost."""
        for logger in self.loggers:
            logger.close()


class Eta:
    """The time that is left, from how long the epochs took that this process trained.

    Args:
        epoch: Epochs done when it starts.
        epochs: The number of epochs in all.
    """

    def __init__(self, epoch: int, epochs: int) -> None:
        self.first = epoch
        self.epochs = epochs
        self.started = time.perf_counter()

    def left(self, epoch: int) -> str:
        """H:MM:SS until the last epoch is done, after ``epoch`` of them."""
        seconds = (time.perf_counter() - self.started) / max(epoch - self.first, 1) * (self.epochs - epoch)
        minutes, seconds = divmod(round(seconds), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}:{minutes:02}:{seconds:02}"


def line(row: Mapping[str, float], epochs: int, left: str, unit: str, shown: Sequence[str]) -> str:
    """An epoch in a line, with the figures to be shown where it has them; ``unit`` is what there are many of."""
    parts = [
        f"epoch {row['epoch']}/{epochs}",
        f"loss {row['loss']:.6f}",
        f"lr {row['learning_rate']:g}",
        f"{row['samples_per_second']:.{0 if row['samples_per_second'] >= 10 else 1}f} {unit}/s",
        f"waiting for data {row['data_wait']:.0%}",
    ]
    parts += [f"{name} {row[name]:.3f}" for name in shown if name in row]
    return "  ".join([*parts, f"left {left}"])


def mean_entropy(uses: Sequence[KernelUse]) -> float:
    """The mean entropy of the attention over all layers."""
    return sum(use.entropy for use in uses) / len(uses)


def attention_summary(uses: Sequence[KernelUse], temperature: float) -> str:
    """How dynamic layers used their kernels, in a line; the layer that comes nearest to one kernel is named."""
    lowest = min(uses, key=lambda use: use.entropy)
    return (
        f"attention at temperature {temperature:g}, as entropy from 0 (one kernel) to 1 (all alike): "
        f"mean {mean_entropy(uses):.3f} of {len(uses)} layers, lowest {lowest.entropy:.3f} in {lowest.name}"
    )
