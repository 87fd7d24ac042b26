"""Configurations: Python, JSON or YAML files with ``_base_``, checked key by key, turned into settings.

A configuration has the sections of :class:`Settings`. Nothing else reads configuration files, and
nothing below the tools takes a configuration: constructors take values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from torch import nn

from pose import options, resources
from pose.config_files import import_mmengine, read_config_file
from pose.data_settings import DataSettings, find_skeletons, make_data_settings, with_new_names
from pose.datasets.augment import Augmentation
from pose.evaluation.protocol import ANNOTATED, TestChoices
from pose.models.pose_net import build_pose_net
from pose.options import OptionError, errors_of
from pose.skeleton import Skeleton, load_skeleton
from pose.train_settings import PRECISIONS as PRECISIONS
from pose.train_settings import Schedule


@dataclass(frozen=True)
class TrainSettings(Schedule):
    """How a pose network is trained.

    Args:
        validation_boxes: ``annotated``, which needs no detector and a sixteenth of the time on val2017,
            or ``detected`` for ``data.val.boxes``.
        sheet_every: Epochs between sheets of validation crops with predictions in TensorBoard, shown after
            validations; 0 for none.
    """

    validation_boxes: str = ANNOTATED
    sheet_every: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.frozen and self.initial_weights is None:
            raise ValueError("frozen needs initial_weights: parts that nothing was loaded into would stay random")
        if self.validation_boxes not in (ANNOTATED, "detected"):
            raise ValueError(f"validation_boxes must be {ANNOTATED} or detected, got {self.validation_boxes!r}")
        if self.sheet_every < 0:
            raise ValueError(f"sheet_every must not be negative, got {self.sheet_every}; the nearest is 0")


@dataclass(frozen=True)
class TestSettings(TestChoices):
    """How a network is tested (docs/protocol.md#testing): the choices that its figures depend on, and how it runs.

    Args:
        batch_size: Crops per forward pass.
        native: On a CPU, run the network by native layers, see :mod:`pose.models.deploy.folding`: the same heatmaps to
            1e-4, sooner. None: a test does not; who draws does where they need not be compiled first.
    """

    batch_size: int = 64
    native: bool | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")


@dataclass(frozen=True)
class Settings:
    """Everything a configuration says.

    Args:
        model: ``backbone``, ``head`` and ``channel_order``, see :func:`pose.models.pose_net.build_pose_net`.
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
    classes = {"augmentation": Augmentation, "train": TrainSettings, "test": TestSettings}
    settings = Settings(**made, **options.build_sections(sections, classes, optional=("augmentation",)))
    if not isinstance(settings.model, Mapping):
        raise OptionError(f"model: needs a dict with backbone and head, got {settings.model!r}")
    options.check_keys(settings.model, ("backbone", "head", "channel_order"), "model")
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
    overrides = dict(overrides or {})
    path, sections = read_sections(path, overrides, _with_new_data_names)
    find_skeletons(sections.get("data"), path, "data.skeleton" in overrides)
    with errors_of(path):
        return make_settings(sections)


def _with_new_data_names(sections: dict[str, Any]) -> dict[str, Any]:
    if isinstance(sections.get("data"), Mapping):
        sections["data"] = with_new_names(sections["data"])
    return sections


def read_sections(
    path: str | Path,
    overrides: Mapping[str, Any] | None = None,
    change: Callable[[dict[str, Any]], dict[str, Any]] = dict,
) -> tuple[Path, dict[str, Any]]:
    """A configuration file's sections, as plain values, unchecked.

    Args:
        path: A Python, JSON or YAML file, see :mod:`pose.config_files`; ``_base_`` names files it builds on.
        overrides: Dotted keys to values, set last.
        change: A function that changes the sections before that.

    Returns:
        Where the file is, and what it says.

    Raises:
        OptionError: The file is missing or cannot be executed.
    """
    path = resources.configuration(path)
    if not path.is_file():
        raise OptionError(f"{path}: configuration not found; configs/ holds the ones that come with the project")
    try:
        return path, changed(change(read_config_file(path)), overrides or {})
    except OptionError as error:
        raise OptionError(f"{path}: {error}") from error
    except Exception as error:  # a Python one is code: anything can happen in it
        raise OptionError(f"{path}: configuration cannot be read ({type(error).__name__}: {error})") from error


def changed(sections: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Sections of a configuration with dotted keys changed."""
    config = import_mmengine().Config(dict(sections))
    config.merge_from_dict(dict(overrides))
    return config.to_dict()


def stored_settings(
    stored: Mapping[str, Any], make: Callable[[Mapping[str, Any]], Any] = make_settings
) -> dict[str, Any]:
    """What ``to_dict`` of settings gave an older version, as this one would give it.

    Options have their new names, and those that did not exist then the defaults, which change nothing.
    Settings that cannot be read any more come back as they are.

    Args:
        stored: Plain values of a checkpoint.
        make: Makes settings of them: of pose networks, of detectors or of classifiers.
    """
    try:
        return make(stored).to_dict()
    except OptionError:
        return dict(stored)
