"""Configurations: Python files with ``_base_``, read by mmengine, checked key by key, turned into settings.

A configuration has the sections of :class:`Settings`. Nothing else reads configuration files, and
nothing below the tools takes a configuration: constructors take values.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from mmengine.config import Config
from torch import nn

from pose import options, resources
from pose.datasets.augment import Augmentation
from pose.evaluation.protocol import ANNOTATED, CHOICES
from pose.models.pose_net import build_pose_net
from pose.options import OptionError
from pose.skeleton import Skeleton, load_skeleton

MAX_SEED = 2**63 - 1
"""The largest that torch takes."""

PRECISIONS = ("float32", "bfloat16", "float16")
"""What autocast computes in; float32 is without it."""


@dataclass(frozen=True)
class DataSettings:
    """Where the data are; paths are relative to ``root``, which is relative to the current folder.

    Args:
        root: Folder of a data set in COCO's layout.
        train_annotations, train_images, val_annotations, val_images: File and folder of each split.
        test_annotations, test_images: Where there is a third, which nothing is chosen by: what ``tools/test.py`` tests
            on. None tests on the validation split, as COCO's users do; without ``test_images`` its pictures lie with
            the validation split's. A file of detected boxes serves both splits.
        boxes: The boxes that are tested: a detections file in COCO's results format, or ``annotated``.
        box_threshold: Detections below this score are left out.
        skeleton: A built-in skeleton's name or a skeleton file (relative to the current folder).
        input_size: Width and height of the network's input, multiples of 32.
        workers: Worker processes that load crops; 0 loads in the main process.
        broken_share: The share of the training pictures that may be absent or broken: they are skipped with a
            warning, above it the run stops. Testing takes none.
        crop_cache: A folder for the crop_regions of the training persons, several GB for COCO, which makes
            loading about two and a half times as fast; None reads the pictures.
        reduced_decode: Decode training pictures smaller where a crop allows it; the pixels are not quite the same.
    """

    root: str = "data/coco"
    train_annotations: str = "annotations/person_keypoints_train2017.json"
    train_images: str = "train2017"
    val_annotations: str = "annotations/person_keypoints_val2017.json"
    val_images: str = "val2017"
    test_annotations: str | None = None
    test_images: str | None = None
    boxes: str = "person_detection_results/COCO_val2017_detections_AP_H_56_person.json"
    box_threshold: float = 0.0
    skeleton: str = "coco"
    input_size: tuple[int, int] = (192, 256)
    workers: int = 4
    broken_share: float = 0.02
    crop_cache: str | None = None
    reduced_decode: bool = False

    def __post_init__(self) -> None:
        if self.test_images is not None and self.test_annotations is None:
            raise ValueError("test_images needs test_annotations")
        if not 0 <= self.broken_share < 1:
            raise ValueError(f"broken_share must be at least 0 and below 1, got {self.broken_share}")
        if any(size < 32 or size % 32 for size in self.input_size):
            raise ValueError(f"input_size must be two multiples of 32, got {self.input_size}")
        if self.workers < 0:
            raise ValueError(f"workers must not be negative, got {self.workers}")
        if not 0 <= self.box_threshold <= 1:
            raise ValueError(f"box_threshold must be between 0 and 1, got {self.box_threshold}")

    def for_testing(self) -> DataSettings:
        """These settings with the test split, where there is one, in the validation split's place."""
        annotations, images = self.test_annotations or self.val_annotations, self.test_images or self.val_images
        return replace(self, val_annotations=annotations, val_images=images, test_annotations=None, test_images=None)

    def path(self, name: str) -> Path:
        """A path of this data set, by the name of its field or as given."""
        return Path(self.root, getattr(self, name, name))


@dataclass(frozen=True)
class TrainSettings:
    """The training schedule; the defaults are those of docs/protocol.md#schedule.

    Args:
        epochs: Passes over the training persons.
        batch_size: Persons per batch of each process; an incomplete last batch of an epoch is left out.
        learning_rate: Of Adam.
        milestones: Finished epochs after which the learning rate is multiplied by ``gamma``.
        gamma: That factor.
        validate_every: Epochs between validations; the last epoch is always validated.
        validation_boxes: ``annotated``, which needs no detector and a sixteenth of the time on val2017,
            or ``detected`` for ``data.boxes``.
        seed: Of initialisation, order and augmentation.
        initial_weights: What to start from instead of chance, see :func:`pose.engine.initial.load_initial`: a
            checkpoint, also of the static network, or ``torchvision:NAME`` for the backbone.
        initial_noise: Parts the kernels that are copies of a static one, as a fraction of its deviation.
        sheet_every: Epochs between sheets of validation crops with predictions in TensorBoard, shown after
            validations; 0 for none.
        checkpoint_minutes: The longest time without a checkpoint; every epoch ends with one.
        base_batch_size: The effective batch (``batch_size`` x processes x ``accumulate``) that the learning
            rate is meant for; it is scaled in proportion (arXiv 1706.02677). None takes it as it is.
        accumulate, max_gradient_norm, average_decay, precision, channels_last, sync_batch_norm: See
            :class:`pose.engine.trainer.Trainer`.
        compile: Compile the network with ``torch.compile``.
        native, recompute_kernels: See :class:`pose.engine.trainer.Trainer`.
        temperature_start, temperature_end, temperature_epochs: Dynamic convolution's temperature falls in a
            straight line over the first epochs (the paper's ImageNet training: 30, 1, 10); None as start
            leaves it as ``model`` has it, which is the paper's pose training (docs/protocol.md#temperature).
    """

    epochs: int = 210
    batch_size: int = 128
    learning_rate: float = 1e-3
    milestones: tuple[int, ...] = (170, 200)
    gamma: float = 0.1
    validate_every: int = 10
    validation_boxes: str = ANNOTATED
    seed: int = 0
    initial_weights: str | None = None
    initial_noise: float = 0.01
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
            if getattr(self, name) is not None and not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        for name in ("initial_noise", "sheet_every", "checkpoint_minutes", "temperature_epochs", "seed"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if self.seed > MAX_SEED:
            raise ValueError(f"seed must be at most {MAX_SEED}, got {self.seed}")
        if not 0 <= self.average_decay < 1:
            raise ValueError(f"average_decay must be at least 0 and below 1, got {self.average_decay}")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {self.precision!r}")
        if self.validation_boxes not in (ANNOTATED, "detected"):
            raise ValueError(f"validation_boxes must be {ANNOTATED} or detected, got {self.validation_boxes!r}")

    def learning_rate_at(self, epoch: int) -> float:
        """The learning rate of an epoch, counted from 0."""
        return self.learning_rate * self.gamma ** sum(epoch >= milestone for milestone in self.milestones)


@dataclass(frozen=True)
class TestSettings:
    """How heatmaps become scored persons; the defaults are those of docs/protocol.md#testing.

    Args:
        batch_size: Crops per forward pass.
        flip: Average with the heatmaps of the mirrored crop.
        flip_shift: Pixels that those are shifted to the right: 0, 1 or 2.
        decode: One of :data:`pose.heatmap.DECODERS`.
        rescore: Person score = box score x mean joint score, else the box score.
        rescore_threshold: Joints above this score count in that mean.
        nms: ``greedy``, ``soft`` or ``off``: OKS non-maximum suppression.
        nms_threshold: Its OKS threshold.
        backend: Which library computes the figures: one of :data:`pose.evaluation.protocol.BACKENDS`.
        native: On a CPU, run the network by native layers, see :mod:`pose.models.deploy.folding`: the same heatmaps to
            1e-4, sooner.
    """

    __test__ = False  # not a test class, whatever pytest thinks of its name

    batch_size: int = 64
    flip: bool = True
    flip_shift: int = 1
    decode: str = "sign"
    rescore: bool = True
    rescore_threshold: float = 0.2
    nms: str = "greedy"
    nms_threshold: float = 0.9
    backend: str = "pycocotools"
    native: bool = False

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")
        for name in ("rescore_threshold", "nms_threshold"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be between 0 and 1, got {getattr(self, name)}")
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(map(str, known))}, got {getattr(self, name)!r}")


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
    classes = {"data": DataSettings, "augmentation": Augmentation, "train": TrainSettings, "test": TestSettings}
    made: dict[str, Any] = {"model": sections["model"]}
    for name, section in classes.items():
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
        path: A Python file with the sections of :class:`Settings`; ``_base_`` names files it builds on.
        overrides: Dotted keys to values, e.g. ``{"train.epochs": 20}``.

    Raises:
        OptionError: The file is missing or cannot be executed, or a key or value is wrong.
    """
    path = resources.configuration(path)
    if not path.is_file():
        raise OptionError(f"{path}: configuration not found; configs/ holds the ones that come with the project")
    try:
        config = Config.fromfile(os.fspath(path))
        config.merge_from_dict(dict(overrides or {}))
        sections = config.to_dict()
    except Exception as error:  # a configuration is code: anything can happen in it
        raise OptionError(f"{path}: configuration cannot be read ({type(error).__name__}: {error})") from error
    try:
        return make_settings(sections)
    except OptionError as error:
        raise OptionError(f"{path}: {error}") from error
