"""The schedule of a training: epochs, learning rate, optimizer, and how a step is computed."""

from __future__ import annotations

import math
from dataclasses import dataclass

MAX_SEED = 2**63 - 1
"""The largest that torch takes."""

PRECISIONS = ("float32", "bfloat16", "float16")
"""What autocast computes in; float32 is without it."""

SCHEDULES = ("step", "cosine")
"""How the learning rate falls."""

LOGGERS = ("tensorboard", "wandb", "mlflow")
"""Where figures may go, see :mod:`pose.engine.loggers`."""

OPTIMIZERS = ("adam", "adamw", "sgd")
"""What takes the steps, see :mod:`pose.engine.optimizer`."""


@dataclass(frozen=True)
class Schedule:
    """What trainings of every kind of network have in common; the defaults are those of docs/protocol.md#schedule.

    Args:
        epochs: Passes over the training samples.
        batch_size: Samples per batch of each process; an incomplete last batch of an epoch is left out.
        learning_rate: The optimizer's learning rate at its highest.
        schedule: How the learning rate falls. ``step``: after ``milestones``. ``cosine``: with every batch, along
            half a cosine from ``learning_rate`` to 0 over all epochs (arXiv 1608.03983, without restarts).
        warm_up: Epochs, or a part of one, in which the learning rate grows in a straight line from 0 to what
            ``schedule`` has it to be, with every batch.
        milestones: Finished epochs after which the learning rate is multiplied by ``gamma``.
        gamma: The factor of each milestone.
        optimizer: ``adam``, ``adamw``, which takes weight decay apart from the gradient (arXiv 1711.05101), or ``sgd``.
        momentum: The momentum of ``sgd``.
        weight_decay: The decay of kernels and matrices; biases and normalisation do not decay.
        frozen: Parts of the network that stay as they are, e.g. ``("backbone.stem", "backbone.blocks.[0-5]")``.
        freeze_epochs: Epochs after which those parts learn, too; None keeps them frozen.
        validate_every: Epochs between validations; the last epoch is always validated.
        patience: How many validations in a row without a better figure end the run; None trains all epochs.
        seed: The seed of initialisation, order and augmentation.
        loggers: Where figures go beside ``metrics.csv``: ``tensorboard``, ``wandb``, ``mlflow``, see
            :mod:`pose.engine.loggers`; none will do.
        initial_weights: What to start from instead of chance, see :func:`pose.engine.initial.load_initial`: a
            checkpoint, also of the static network or of other keypoints, the name of weights that come with the
            project, or ``torchvision:NAME`` for the backbone.
        initial_noise: Parts the kernels that are copies of a static one, as a fraction of its deviation.
        initial_balanced: Rescale the kernels of a ``torchvision:`` start so that Adam can move them alike: the
            network stays the same, see :func:`pose.models.balance.balance`.
        checkpoint_minutes: The longest time without a checkpoint; every epoch ends with one.
        base_batch_size: The effective batch (``batch_size`` x processes x ``accumulate``) that the learning
            rate is meant for; it is scaled in proportion (arXiv 1706.02677). None takes it as it is.
        accumulate, max_gradient_norm, average_decay, precision, channels_last, sync_batch_norm, compile, native,
            recompute_kernels: See :class:`pose.engine.trainer.Trainer`.
        temperature_start, temperature_end, temperature_epochs: Dynamic convolution's temperature falls in a
            straight line over the first epochs (the paper's ImageNet training: 30, 1, 10); None as start
            leaves it as ``model`` has it, which is the paper's pose training (docs/protocol.md#temperature).
    """

    epochs: int = 210
    batch_size: int = 128
    learning_rate: float = 1e-3
    schedule: str = "step"
    warm_up: float = 0.0
    milestones: tuple[int, ...] = (170, 200)
    gamma: float = 0.1
    optimizer: str = "adam"
    momentum: float = 0.9
    weight_decay: float = 0.0
    frozen: tuple[str, ...] = ()
    freeze_epochs: int | None = None
    validate_every: int = 10
    patience: int | None = None
    seed: int = 0
    loggers: tuple[str, ...] = ("tensorboard",)
    initial_weights: str | None = None
    initial_noise: float = 0.01
    initial_balanced: bool = False
    checkpoint_minutes: float = 10.0
    base_batch_size: int | None = None
    accumulate: int = 1
    max_gradient_norm: float | None = None
    average_decay: float = 0.0
    precision: str = "float32"
    channels_last: bool = False
    sync_batch_norm: bool = False
    compile: bool = False
    native: bool = False
    recompute_kernels: bool = False
    temperature_start: float | None = None
    temperature_end: float = 1.0
    temperature_epochs: int = 10

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "validate_every", "accumulate", "base_batch_size", "patience"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("learning_rate", "gamma", "max_gradient_norm", "temperature_start", "temperature_end"):
            if getattr(self, name) is not None and not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be positive and finite, got {getattr(self, name)}")
        names = ("initial_noise", "checkpoint_minutes", "temperature_epochs", "seed")
        for name in (*names, "warm_up", "weight_decay", "freeze_epochs"):
            if getattr(self, name) is not None and not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}; the nearest is 0")
        for name in ("initial_noise", "warm_up", "weight_decay"):
            if math.isinf(getattr(self, name)):
                raise ValueError(f"{name} must be finite, got {getattr(self, name)}")
        if any(milestone < 0 for milestone in self.milestones):
            raise ValueError(f"milestones count finished epochs, from 0 on, got {self.milestones}")
        if self.seed > MAX_SEED:
            raise ValueError(f"seed must be at most {MAX_SEED}, got {self.seed}")
        for name in ("average_decay", "momentum"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 0 and below 1, got {getattr(self, name)}")
        for name, known in {"precision": PRECISIONS, "schedule": SCHEDULES, "optimizer": OPTIMIZERS}.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}")
        for name in self.loggers:
            if name not in LOGGERS:
                raise ValueError(f"loggers may be {', '.join(LOGGERS)}, got {name!r}")
        if self.freeze_epochs is not None and not self.frozen:
            raise ValueError("freeze_epochs needs frozen, the names of the parts")

    def learning_rate_at(self, epoch: int, batch: int = 0, batches: int = 1) -> float:
        """The learning rate of a batch.

        Args:
            epoch: The epoch, counted from 0.
            batch: Its number in the epoch, from 0.
            batches: How many an epoch has.
        """
        done = epoch + batch / batches
        if self.schedule == "cosine":
            rate = self.learning_rate * 0.5 * (1 + math.cos(math.pi * min(done / self.epochs, 1)))
        else:
            rate = self.learning_rate * self.gamma ** sum(epoch >= milestone for milestone in self.milestones)
        return rate * min((done + 1 / batches) / self.warm_up, 1) if self.warm_up else rate
