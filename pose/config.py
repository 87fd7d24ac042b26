"""Configurations: Python, JSON or YAML files with ``_base_``, checked key by key, turned into settings.

A configuration has the sections of :class:`Settings`. Nothing else reads configuration files, and
nothing below the tools takes a configuration: constructors take values.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from mmengine.config import Config
from torch import nn

from pose import options, resources
from pose.config_files import read_sections
from pose.data_settings import DataSettings, find_skeletons, make_data_settings, with_new_names
from pose.datasets.augment import Augmentation
from pose.evaluation.protocol import ANNOTATED, TestChoices
from pose.models.pose_net import build_pose_net
from pose.options import OptionError
from pose.skeleton import Skeleton, load_skeleton

MAX_SEED = 2**63 - 1
"""The largest that torch takes."""

PRECISIONS = ("float32", "bfloat16", "float16")
"""What autocast computes in; float32 is without it."""

SCHEDULES = ("step", "cosine")
"""How the learning rate falls."""


@dataclass(frozen=True)
class TrainSettings:
    """The training schedule; the defaults are those of docs/protocol.md#schedule.

    Args:
        epochs: Passes over the training persons.
        batch_size: Persons per batch of each process; an incomplete last batch of an epoch is left out.
        learning_rate: Of the optimizer, at its highest.
        schedule: How the learning rate falls. ``step``: after ``milestones``. ``cosine``: with every batch, along
            half a cosine from ``learning_rate`` to 0 over all epochs (arXiv 1608.03983, without restarts).
        warm_up: Epochs, or a part of one, in which the learning rate grows in a straight line from 0 to what
            ``schedule`` has it to be, with every batch.
        milestones: Finished epochs after which the learning rate is multiplied by ``gamma``.
        gamma: The factor of each milestone.
        optimizer: ``adam`` or ``adamw``, which takes weight decay apart from the gradient (arXiv 1711.05101).
        weight_decay: Of kernels and matrices; biases and normalisation do not decay.
        frozen: Parts of the network that stay as they are, e.g. ``("backbone.stem", "backbone.blocks.[0-5]")``.
        freeze_epochs: Epochs after which those parts learn, too; None keeps them frozen.
        validate_every: Epochs between validations; the last epoch is always validated.
        validation_boxes: ``annotated``, which needs no detector and a sixteenth of the time on val2017,
            or ``detected`` for ``data.val.boxes``.
        seed: Of initialisation, order and augmentation.
        initial_weights: What to start from instead of chance, see :func:`pose.engine.initial.load_initial`: a
            checkpoint, also of the static network, or ``torchvision:NAME`` for the backbone.
        initial_noise: Parts the kernels that are copies of a static one, as a fraction of its deviation.
        initial_balanced: Rescale the kernels of a ``torchvision:`` start so that Adam can move them alike: the
            network stays the same, see :func:`pose.models.balance.balance`.
        sheet_every: Epochs between sheets of validation crops with predictions in TensorBoard, shown after
            validations; 0 for none.
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
    weight_decay: float = 0.0
    frozen: tuple[str, ...] = ()
    freeze_epochs: int | None = None
    validate_every: int = 10
    validation_boxes: str = ANNOTATED
    seed: int = 0
    initial_weights: str | None = None
    initial_noise: float = 0.01
    initial_balanced: bool = False
    sheet_every: int = 10
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
        for name in ("epochs", "batch_size", "validate_every", "accumulate", "base_batch_size"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("learning_rate", "gamma", "max_gradient_norm", "temperature_start", "temperature_end"):
            if getattr(self, name) is not None and not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be positive and finite, got {getattr(self, name)}")
        names = ("initial_noise", "sheet_every", "checkpoint_minutes", "temperature_epochs", "seed")
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
        if not 0 <= self.average_decay < 1:
            raise ValueError(f"average_decay must be at least 0 and below 1, got {self.average_decay}")
        for name, known in {"precision": PRECISIONS, "schedule": SCHEDULES, "optimizer": ("adam", "adamw")}.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}")
        if self.freeze_epochs is not None and not self.frozen:
            raise ValueError("freeze_epochs needs frozen, the names of the parts")
        if self.validation_boxes not in (ANNOTATED, "detected"):
            raise ValueError(f"validation_boxes must be {ANNOTATED} or detected, got {self.validation_boxes!r}")

    def learning_rate_at(self, epoch: int, batch: int = 0, batches: int = 1) -> float:
        """The learning rate of a batch.

        Args:
            epoch: Counted from 0.
            batch: Its number in the epoch, from 0.
            batches: How many an epoch has.
        """
        done = epoch + batch / batches
        if self.schedule == "cosine":
            rate = self.learning_rate * 0.5 * (1 + math.cos(math.pi * min(done / self.epochs, 1)))
        else:
            rate = self.learning_rate * self.gamma ** sum(epoch >= milestone for milestone in self.milestones)
        return rate * min((done + 1 / batches) / self.warm_up, 1) if self.warm_up else rate


@dataclass(frozen=True)
class TestSettings(TestChoices):
    """How a network is tested (docs/protocol.md#testing): the choices that its figures depend on, and how it runs.

    Args:
        batch_size: Crops per forward pass.
        native: On a CPU, run the network by native layers, see :mod:`pose.models.deploy.folding`: the same heatmaps to
            1e-4, sooner.
    """

    batch_size: int = 64
    native: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")


@dataclass(frozen=True)
class Settings:
    """Everything a configuration says.

    Args:
        model: ``backbone`` and ``head``, see :func:`pose.models.pose_net.build_pose_net`.
        data, train, test: See their classes.
        augmentation: None trains on the plain crops.
    """

    model: dict[str, Any]
    data: DataSettings = field(default_factory=DataSettings)
    augmentation: Augmentation | None = field(default_factory=Augmentation)
    train: TrainSettings = field(default_factory=TrainSettings)
    test: TestSettings = field(default_factory=TestSettings)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as a checkpoint keeps them; :func:`make_settings` takes them back."""
        return asdict(self)

    def skeleton(self) -> Skeleton:
        """What the keypoints are.

        Raises:
            OptionError: There is no such skeleton or its file is wrong.
        """
        try:
            return load_skeleton(self.data.skeleton)
        except (ValueError, OSError) as error:
            raise OptionError(f"data.skeleton: {error}") from error

    def build_model(self) -> nn.Module:
        """The network, freshly initialised.

        Raises:
            OptionError: A key or value of ``model`` is wrong.
        """
        return options.call(build_pose_net, self.model, "model", num_keypoints=self.skeleton().num_keypoints)


def make_settings(sections: Mapping[str, Any]) -> Settings:
    """Checks every key and type and builds the settings.

    Raises:
        OptionError: A key is unknown, missing or has a value that cannot be; names the nearest right key.
    """
    options.check_keys(sections, [section.name for section in fields(Settings)], "")
    if "model" not in sections:
        raise OptionError("missing option model: a dict with backbone and head")
    made: dict[str, Any] = {"model": sections["model"]}
    if "data" in sections:
        made["data"] = make_data_settings(sections["data"])
    for name, section in {"augmentation": Augmentation, "train": TrainSettings, "test": TestSettings}.items():
        if name in sections:
            skip = name == "augmentation" and sections[name] is None
            made[name] = None if skip else options.build(section, sections[name], name)
    settings = Settings(**made)
    if not isinstance(settings.model, Mapping):
        raise OptionError(f"model: needs a dict with backbone and head, got {settings.model!r}")
    options.check_keys(settings.model, ("backbone", "head"), "model")
    return settings


def load_settings(path: str | Path, overrides: Mapping[str, Any] | None = None) -> Settings:
    """Reads a configuration file.

    Args:
        path: A file with the sections of :class:`Settings`, Python, JSON or YAML (:mod:`pose.config_files`); ``_base_``
            names files it builds on.
        overrides: Dotted keys to values, e.g. ``{"train.epochs": 20}``.

    Raises:
        OptionError: The file is missing or cannot be executed, or a key or value is wrong.
    """
    path = resources.configuration(path)
    if not path.is_file():
        raise OptionError(f"{path}: configuration not found; configs/ holds the ones that come with the project")
    overrides = dict(overrides or {})
    try:
        sections = read_sections(path)
        if isinstance(sections.get("data"), Mapping):
            sections["data"] = with_new_names(sections["data"])
        config = Config(sections)
        config.merge_from_dict(overrides)
        sections = config.to_dict()
    except OptionError as error:
        raise OptionError(f"{path}: {error}") from error
    except Exception as error:  # a Python one is code: anything can happen in it
        raise OptionError(f"{path}: configuration cannot be read ({type(error).__name__}: {error})") from error
    find_skeletons(sections.get("data"), path, "data.skeleton" in overrides)
    try:
        return make_settings(sections)
    except OptionError as error:
        raise OptionError(f"{path}: {error}") from error


def stored_settings(stored: Mapping[str, Any]) -> dict[str, Any]:
    """What :meth:`Settings.to_dict` gave an older version, as this one would give it.

    Options have their new names, and those that did not exist then the defaults, which change nothing.
    Settings that cannot be read any more come back as they are.
    """
    try:
        return make_settings(stored).to_dict()
    except OptionError:
        return dict(stored)
