"""What a training is of: the network, its data, a batch's step and the test that epochs are chosen by."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from torch import Tensor, nn
from torch.utils.data import DataLoader

from pose.datasets.broken_images import BrokenImages
from pose.datasets.loading.order import EpochBatches
from pose.engine.trainer import Trainer


class RunSchedule(Protocol):
    """What every ``train`` section says of a run."""

    epochs: int
    validate_every: int
    patience: int | None
    checkpoint_minutes: float
    seed: int
    loggers: tuple[str, ...]


class RunSettings(Protocol):
    """The settings of a run, which its checkpoints keep."""

    @property
    def train(self) -> Any:  # of a protocol whose attributes are read only
        """A :class:`RunSchedule`."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""


def _nothing(epoch: int) -> dict[str, float]:
    return {}


def _never(epoch: int, figures: Mapping[str, float]) -> bool:
    return False


@dataclass(frozen=True)
class Task:
    """What :func:`pose.engine.loop.run` trains: pose networks, detectors and classifiers differ in nothing else.

    Attributes:
        settings: The run's settings.
        trainer: The network and its optimizer.
        loader: Loads training batches; its ``batch_sampler`` is an :class:`~pose.datasets.loading.order.EpochBatches`.
        learn: Learns from a batch; the loss before the step, a scalar on the device.
        rate_at: The learning rate by epoch and batch, both from 0, and the number of batches of an epoch.
        test: Tests a network; the figures by name.
        figures: The names of the figures.
        chosen_by: The figure by which the best epoch is chosen, the larger the better.
        shown: The figures in an epoch's line.
        unit: What a batch is of, in the plural.
        batches: The loader's batches, one epoch of them.
        broken: Counts pictures that cannot be used, which a batch names as ``problems``; None where there are none.
        enough: Takes the epoch, from 1, and the figures of each validation; True ends the run there.
        begin_epoch: Sets what the schedule says of an epoch, from 0; what to report of it.
        told: Gives what was said so far of each split's data, who was left out and why among it, for the work folder.
        stated: What checkpoints state beside weights and settings: what the network's outputs are.
        stored_settings: Reads the settings of an older checkpoint as this version would write them.
        sheet: A picture (H, W, 3) uint8 BGR of what a network does, for TensorBoard.
        sheet_every: Epochs between two of them, shown after validations; 0 for none.
    """

    settings: RunSettings
    trainer: Trainer
    loader: DataLoader
    learn: Callable[[Trainer, Any], Tensor]
    rate_at: Callable[[int, int, int], float]
    test: Callable[[nn.Module], dict[str, float]]
    figures: tuple[str, ...]
    chosen_by: str
    shown: tuple[str, ...]
    unit: str
    batches: Callable[[DataLoader], Iterable[Any]] = iter
    broken: BrokenImages | None = None
    enough: Callable[[int, Mapping[str, float]], bool] = _never
    begin_epoch: Callable[[int], dict[str, float]] = _nothing
    told: Callable[[], Mapping[str, Sequence[str]]] | None = None
    stated: Mapping[str, Any] = field(default_factory=dict)
    stored_settings: Callable[[Mapping[str, Any]], dict[str, Any]] = dict
    sheet: Callable[[nn.Module], np.ndarray] | None = None
    sheet_every: int = 0

    @property
    def order(self) -> EpochBatches:
        """The order of training."""
        order = self.loader.batch_sampler
        assert isinstance(order, EpochBatches)
        return order

    @property
    def schedule(self) -> RunSchedule:
        """The ``train`` section."""
        return self.settings.train
