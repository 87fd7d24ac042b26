"""What people look at while a network trains: a file of figures, TensorBoard's curves, a line an epoch."""

from __future__ import annotations

import contextlib
import csv
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from pose.errors import DataError, OutputError
from pose.files import replacing
from pose.models.dynamic.inspection import KernelUse

TRAINED = ("epoch", "loss", "learning_rate", "temperature", "seconds", "samples_per_second", "data_wait")
"""The first columns of ``metrics.csv``: what training gives. The task's own figures follow."""

ENTROPY = "attention_entropy"
"""The last column: the validation's mean over dynamic layers, 0 to 1."""


class Report:
    """Writes ``metrics.csv`` and TensorBoard's files.

    Args:
        path: The file of figures.
        epochs: Epochs that are done: rows and points of later ones are dropped.
        figures: The names of what a validation measures.

    Attributes:
        uses: How each dynamic layer used its kernels in the last validation of this process.

    Raises:
        OutputError: The place cannot be written.
        DataError: What is there is no such table.
    """

    def __init__(self, path: Path, epochs: int, figures: Sequence[str]) -> None:
        from torch.utils.tensorboard import SummaryWriter  # costs a second to import

        self.path = path
        self.columns = (*TRAINED, *figures, ENTROPY)
        self.uses: list[KernelUse] = []
        self._keep_rows(epochs)
        self.board = SummaryWriter(str(path.parent), purge_step=epochs + 1)

    def _keep_rows(self, epochs: int) -> None:
        rows = []
        if epochs and self.path.exists():
            kept = {str(epoch) for epoch in range(1, epochs + 1)}  # a row that a full disk cut off is not
            try:
                with open(self.path, newline="", encoding="utf-8") as file:
                    rows = [row for row in csv.DictReader(file) if row["epoch"] in kept]
            except (OSError, ValueError, KeyError, csv.Error) as error:
                raise DataError(
                    f"{self.path}: not the table of figures of a training run ({error!r}); move it away, and the run "
                    "goes on with a new one"
                ) from error
        with replacing(self.path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self.columns, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)

    def add(self, row: Mapping[str, float]) -> None:
        """Writes the figures of an epoch; ``row`` has some of the columns.

        Raises:
            OutputError: It cannot be written, e.g. because the disk is full.
        """
        with self._told():
            with open(self.path, "a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, self.columns).writerow(row)
            for name, value in row.items():
                if name != "epoch":
                    self.board.add_scalar(f"{'train' if name in TRAINED else 'val'}/{name}", value, row["epoch"])
            self.board.flush()

    def add_attention(self, epoch: int, uses: Sequence[KernelUse]) -> None:
        """Shows TensorBoard how evenly each dynamic layer used its kernels in a validation: 0 one, 1 all alike.

        Raises:
            OutputError: It cannot be written.
        """
        self.uses = list(uses)
        with self._told():
            for use in uses:
                self.board.add_scalar(f"attention_entropy/{use.name}", use.entropy, epoch)

    def add_sheet(self, epoch: int, image: np.ndarray) -> None:
        """Shows TensorBoard a picture, (H, W, 3) uint8 BGR.

        Raises:
            OutputError: It cannot be written.
        """
        with self._told():
            self.board.add_image("validation crops", image[..., ::-1], epoch, dataformats="HWC")

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OutputError(f"{self.path.parent}: cannot be written ({error.strerror or error})") from error

    def close(self) -> None:
        """Ends TensorBoard's thread; what it can no longer write is lost."""
        with contextlib.suppress(OSError):  # told before, by add
            self.board.close()


class Eta:
    """The time that is left, from how long the epochs took that this process trained.

    Args:
        epoch: Epochs done when it starts.
        epochs: Epochs in all.
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
