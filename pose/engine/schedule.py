"""What a ``train`` section does to a run: the trainer that it makes, its learning rate, what an epoch begins with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from pose.engine import distributed
from pose.engine.loggers import check_loggers
from pose.engine.optimizer import optimizer_of
from pose.engine.trainer import Trainer
from pose.models.dynamic.attention import attentions, linear_temperature, set_temperature
from pose.train_settings import Schedule

TRAINER_OPTIONS = (
    *("weight_decay", "frozen", "precision", "accumulate", "max_gradient_norm", "average_decay", "channels_last"),
    *("compile", "sync_batch_norm", "native", "recompute_kernels"),
)
"""Options of the ``train`` section that are :class:`~pose.engine.trainer.Trainer`'s, under the same names."""


def trainer_of(schedule: Schedule, model: nn.Module, device: torch.device, **given: Any) -> Trainer:
    """A network's trainer as the ``train`` section says.

    Args:
        schedule: The ``train`` section.
        model: The network, freshly initialised.
        device: Where to compute.
        given: Further arguments of the trainer.

    Raises:
        OptionError: The device does not offer what is asked for, or a logger is not installed.
    """
    check_loggers(schedule.loggers)
    options = {name: getattr(schedule, name) for name in TRAINER_OPTIONS}
    return Trainer(model, device, optimizer=optimizer_of(schedule), **options, **given)


def scaled_rate(schedule: Schedule) -> Callable[[int, int, int], float]:
    """The learning rate by epoch and batch, both from 0, and batches of an epoch; says what a step is made of."""
    processes = distributed.shard()[1]
    effective = schedule.batch_size * processes * schedule.accumulate
    factor = effective / schedule.base_batch_size if schedule.base_batch_size else 1.0
    rule = f"scaled from a batch of {schedule.base_batch_size}" if schedule.base_batch_size else "not scaled"
    distributed.say(
        f"effective batch {effective} = {schedule.batch_size} x {processes} processes x {schedule.accumulate} "
        f"accumulated; learning rate {schedule.learning_rate * factor:g} ({rule})"
    )
    seeds = ", ".join(str(schedule.seed + rank) for rank in range(processes))
    distributed.say(f"seed of initialisation, order and augmentation {schedule.seed}; of each process {seeds}")
    return lambda epoch, batch, batches: schedule.learning_rate_at(epoch, batch, batches) * factor


def begin_epoch(trainer: Trainer, schedule: Schedule, epoch: int) -> dict[str, float]:
    """Sets what the schedule says for an epoch, counted from 0; what the report says of it."""
    if schedule.freeze_epochs is not None and epoch >= schedule.freeze_epochs:
        trainer.release_frozen()
    if schedule.temperature_start is not None:
        temperature = linear_temperature(
            epoch, schedule.temperature_start, schedule.temperature_end, schedule.temperature_epochs
        )
        set_temperature(trainer.model, temperature)
    softmaxes = [attention for attention in attentions(trainer.model) if attention.activation == "softmax"]
    return {"temperature": softmaxes[0].temperature.item()} if softmaxes else {}
