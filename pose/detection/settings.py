"""What a detector's configuration says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from pose import options
from pose.config import changed, read_sections
from pose.detection.canvas import CanvasSettings
from pose.detection.detector import read_checkpoint, trained_network
from pose.detection.labels import Source
from pose.detection.letterbox import SIZE_DIVISOR, TestSettings
from pose.detection.network import DetectionNet
from pose.options import OptionError, errors_of
from pose.train_settings import Schedule


@dataclass(frozen=True)
class DataSettings:
    """The pictures; paths are relative to ``root``, which is relative to the current folder.

    Args:
        root: A folder.
        sources: The data sets to train on, see :class:`pose.detection.labels.Source`.
        cache: The folder of the decoded pictures, some GB.
        longest_side: Pictures are kept no larger than this, in pixels.
        held_out: About one picture in this many is not trained on but validated on, and the threshold is chosen on
            these.
        held_out_by: How these are told: ``name``, by where they lie below ``root`` alone, see
            :func:`pose.detection.data.is_held_out`; ``place``, every so many-th, as trainings of before did it.
        category: The persons' in the annotation files, by name or id; None takes the category that has keypoints, or is
            called person.
        test_annotations, test_images: What ``tools/test_detector.py`` measures on: a COCO file and its pictures.
        workers: Processes that put canvases together; 0 does it in the main process.
    """

    root: str = "data/people"
    sources: tuple[dict, ...] = ()
    cache: str = "data/people/cache"
    longest_side: int = 320
    held_out: int = 50
    held_out_by: str = "name"
    category: str | int | None = None
    test_annotations: str = "coco_val2017_dev.json"
    test_images: str = "val2017"
    workers: int = 0

    def __post_init__(self) -> None:
        for name, least in (("longest_side", 1), ("held_out", 2), ("workers", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if self.held_out_by not in ("name", "place"):
            raise ValueError(f"held_out_by must be name or place, got {self.held_out_by!r}")

    def make_sources(self) -> list[Source]:
        """The data sets.

        Raises:
            OptionError: A key or value is wrong.
        """
        if not self.sources:
            raise OptionError("missing option data.sources: the data sets to train on")
        return [options.build(Source, section, f"data.sources[{row}]") for row, section in enumerate(self.sources)]


@dataclass(frozen=True)
class TrainSettings(Schedule):
    """How a detector is trained; what is not named here is :class:`~pose.train_settings.Schedule`'s.

    Args:
        canvases: The number of canvases in an epoch.
        canvas_size: Width and height of a canvas, multiples of 32.
        repeats: Epochs that see the same canvases; above 1 needs ``model.frozen``: what frozen stages make of them is
            kept in memory and not computed again, and no workers.
        initial_backbone: A detector's checkpoint, of which the backbone is taken: a larger head can so be tried; or a
            file of torchvision's names with a MobileNetV2's weights, of width 1; None for chance.
        initial_weights: A checkpoint of this network to start from instead.
    """

    epochs: int = 20
    canvases: int = 2048
    canvas_size: tuple[int, int] = (256, 256)
    repeats: int = 1
    batch_size: int = 16
    schedule: str = "cosine"
    warm_up: float = 0.8
    validate_every: int = 5
    initial_backbone: str | None = None
    max_gradient_norm: float | None = 10.0
    average_decay: float = 0.998
    channels_last: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("canvases", "repeats"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if any(side < SIZE_DIVISOR or side % SIZE_DIVISOR for side in self.canvas_size):
            raise ValueError(f"canvas_size must be two multiples of {SIZE_DIVISOR}, got {self.canvas_size}")
        if self.warm_up > self.epochs:
            raise ValueError(f"warm_up counts epochs, of which there are {self.epochs}; got {self.warm_up:g}")


@dataclass(frozen=True)
class DetectorSettings:
    """Everything a detector's configuration says.

    Args:
        model: The arguments of :class:`pose.detection.network.DetectionNet`.
        data, canvas, train, test: See their classes.
    """

    model: dict[str, Any] = field(default_factory=dict)
    data: DataSettings = field(default_factory=DataSettings)
    canvas: CanvasSettings = field(default_factory=CanvasSettings)
    train: TrainSettings = field(default_factory=TrainSettings)
    test: TestSettings = field(default_factory=TestSettings)

    def __post_init__(self) -> None:
        if self.train.repeats > 1 and (not self.model.get("frozen") or self.data.workers):
            raise OptionError("train.repeats: above 1 needs model.frozen of at least 1 and data.workers 0")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as a checkpoint keeps them; :func:`make_detector_settings` takes them back."""
        return asdict(self)

    def build_model(self) -> DetectionNet:
        """The network, freshly initialised.

        Raises:
            OptionError: A key or value of ``model`` is wrong.
        """
        return options.call(DetectionNet, self.model, "model")


def make_detector_settings(sections: Mapping[str, Any]) -> DetectorSettings:
    """Checks every key and type and builds the settings.

    Raises:
        OptionError: A key is unknown or a value cannot be; names the nearest right key.
    """
    options.check_keys(sections, [section.name for section in fields(DetectorSettings)], "")
    classes = {"data": DataSettings, "canvas": CanvasSettings, "train": TrainSettings, "test": TestSettings}
    made = options.build_sections(sections, classes)
    model = sections.get("model", {})
    if not isinstance(model, Mapping):
        raise OptionError(f"model: needs a dict, got {model!r}")
    return DetectorSettings(model=dict(model), **made)


def stored_detector_settings(sections: Mapping[str, Any]) -> DetectorSettings:
    """The settings of a checkpoint's sections.

    The warm-up was counted in steps once, and has the name of it still; pictures were held out by their place.

    Raises:
        OptionError: A key is unknown or a value cannot be; names the nearest right key.
    """
    train, data = sections.get("train"), sections.get("data", {})
    if isinstance(data, Mapping) and "held_out_by" not in data:
        sections = {**sections, "data": {**data, "held_out_by": "place"}}
    if isinstance(train, Mapping) and "warm_up" in train and "schedule" not in train:
        default = TrainSettings()
        steps = train.get("canvases", default.canvases) // train.get("batch_size", default.batch_size)
        sections = {**sections, "train": {**train, "warm_up": train["warm_up"] / max(steps, 1)}}
    return make_detector_settings(sections)


def load_detector_settings(path: str | Path, overrides: Mapping[str, Any] | None = None) -> DetectorSettings:
    """Reads a detector's configuration, a Python, JSON or YAML file with the sections of :class:`DetectorSettings`.

    Args:
        path: The file; ``_base_`` names files it builds on.
        overrides: Dotted keys to values.

    Raises:
        OptionError: The file is missing or cannot be executed, or a key or value is wrong.
    """
    path, sections = read_sections(path, overrides)
    with errors_of(path):
        return make_detector_settings(sections)


def load_network(path: str | Path, overrides: Mapping[str, Any] | None = None) -> tuple[DetectionNet, DetectorSettings]:
    """A trained network, on the CPU in float32, and the settings it was trained with.

    Of a training that goes on (``last.pth``) the averaged weights, where there are any.

    Args:
        path: A checkpoint.
        overrides: Dotted keys to values of settings that differ here, e.g. where the data are.

    Raises:
        CheckpointError: The file is missing, damaged or not a detector's.
        OptionError: A setting that differs cannot be.
    """
    checkpoint, sections = read_checkpoint(path)
    settings = stored_detector_settings(changed(sections, overrides or {}))
    return trained_network(checkpoint, settings.model, path), settings
