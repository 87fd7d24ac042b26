"""What a classifier's configuration says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from pose import options
from pose.config import read_sections
from pose.models.classifier import ImageClassifier, build_classifier
from pose.options import OptionError, errors_of
from pose.train_settings import Schedule

INPUT_DIVISOR = 32
"""What the input's side is a multiple of."""


@dataclass(frozen=True)
class DataSettings:
    """The images: a folder for each split, and in it one for each class, as torchvision's ``ImageFolder`` has them.

    Args:
        root: The folder of the splits, relative to the current folder.
        train, val: The splits' folders, relative to ``root``.
        input_size: Side of the network's square input, a multiple of 32.
        resize: The shorter side, in pixels, of an image to be tested after it is resized; its middle is the input.
        workers: Worker processes that load images; 0 loads in the main process.
        broken_share: The share of the training images that may be broken: they are skipped with a warning, above it
            the run stops. Testing takes none.
    """

    root: str = "data/imagenet"
    train: str = "train"
    val: str = "val"
    input_size: int = 224
    resize: int = 256
    workers: int = 4
    broken_share: float = 0.001

    def __post_init__(self) -> None:
        if self.input_size < INPUT_DIVISOR or self.input_size % INPUT_DIVISOR:
            raise ValueError(f"input_size must be a multiple of {INPUT_DIVISOR}, got {self.input_size}")
        if self.resize < self.input_size:
            raise ValueError(f"resize must be at least input_size {self.input_size}, got {self.resize}")
        if self.workers < 0:
            raise ValueError(f"workers must not be negative, got {self.workers}")
        if not 0 <= self.broken_share < 1:
            raise ValueError(f"broken_share must be at least 0 and below 1, got {self.broken_share}")

    def folder(self, split: str) -> Path:
        """The folder of ``train`` or ``val``."""
        return Path(self.root, getattr(self, split))


@dataclass(frozen=True)
class ImageAugmentation:
    """How training images vary, by the rules of ``torchvision.transforms.v2``: a random part, flipped half the time.

    Args:
        scale: The part's share of the image's area, from and to.
        ratio: Its width over its height, from and to.
        flip_probability: The chance of a left-right flip.
        brightness, contrast, saturation: Factors vary by up to so much about 1; 0 leaves them.
    """

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip_probability: float = 0.5
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ValueError(f"scale must rise within 0 and 1, got {self.scale}")
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise ValueError(f"ratio must be positive and rise, got {self.ratio}")
        if not 0 <= self.flip_probability <= 1:
            raise ValueError(f"flip_probability must be between 0 and 1, got {self.flip_probability}")
        for name in ("brightness", "contrast", "saturation"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be between 0 and 1, got {getattr(self, name)}")


@dataclass(frozen=True)
class TrainSettings(Schedule):
    """How a classifier is trained; the defaults are those of DY-CNN's ResNet (docs/models.md#imagenet).

    Args:
        label_smoothing: The share of each target that is spread over all classes (arXiv 1512.00567).
        mixup: Alpha of mixup (arXiv 1710.09412): images and labels of a batch are mixed in pairs by a share from
            Beta(alpha, alpha); 0 leaves them.
        mixup_epochs: The epochs in which alpha rises to ``mixup`` in a straight line; 0 has it from the first on.
    """

    epochs: int = 100
    batch_size: int = 256
    learning_rate: float = 0.1
    milestones: tuple[int, ...] = (30, 60, 90)
    optimizer: str = "sgd"
    weight_decay: float = 1e-4
    validate_every: int = 1
    label_smoothing: float = 0.0
    mixup: float = 0.0
    mixup_epochs: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing must be at least 0 and below 1, got {self.label_smoothing}")
        for name in ("mixup", "mixup_epochs"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")

    def mixup_at(self, epoch: int) -> float:
        """Alpha of an epoch, counted from 0."""
        return self.mixup * min(epoch / self.mixup_epochs, 1.0) if self.mixup_epochs else self.mixup


@dataclass(frozen=True)
class TestSettings:
    """How a classifier is tested.

    Args:
        batch_size: Images per forward pass.
    """

    __test__ = False  # not a test class, whatever pytest thinks of its name

    batch_size: int = 128

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")


@dataclass(frozen=True)
class ClassifierSettings:
    """Everything a classifier's configuration says.

    Args:
        model: ``backbone`` and ``dropout``, see :func:`pose.models.classifier.build_classifier`.
        data, train, test: See their classes.
        augmentation: None trains on what is tested: the image's middle.
    """

    model: dict[str, Any]
    data: DataSettings = field(default_factory=DataSettings)
    augmentation: ImageAugmentation | None = field(default_factory=ImageAugmentation)
    train: TrainSettings = field(default_factory=TrainSettings)
    test: TestSettings = field(default_factory=TestSettings)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as a checkpoint keeps them; :func:`make_classifier_settings` takes them back."""
        return asdict(self)

    def build_model(self, num_classes: int = 1000) -> ImageClassifier:
        """The network, freshly initialised.

        Args:
            num_classes: Which the data say, not the configuration.

        Raises:
            OptionError: A key or value of ``model`` is wrong.
        """
        return options.call(build_classifier, self.model, "model", num_classes=num_classes)


def make_classifier_settings(sections: Mapping[str, Any]) -> ClassifierSettings:
    """Checks every key and type and builds the settings.

    Raises:
        OptionError: A key is unknown, missing or has a value that cannot be; names the nearest right key.
    """
    options.check_keys(sections, [section.name for section in fields(ClassifierSettings)], "")
    if not isinstance(sections.get("model"), Mapping):
        raise OptionError("missing option model: a dict with backbone and, where it drops out, dropout")
    options.check_keys(sections["model"], ("backbone", "dropout"), "model")
    classes = {"data": DataSettings, "augmentation": ImageAugmentation, "train": TrainSettings, "test": TestSettings}
    made = options.build_sections(sections, classes, optional=("augmentation",))
    return ClassifierSettings(model=dict(sections["model"]), **made)


def load_classifier_settings(path: str | Path, overrides: Mapping[str, Any] | None = None) -> ClassifierSettings:
    """Reads a classifier's configuration, a Python file with the sections of :class:`ClassifierSettings`.

    Args:
        path: The file; ``_base_`` names files it builds on.
        overrides: Dotted keys to values.

    Raises:
        OptionError: The file is missing or cannot be executed, or a key or value is wrong.
    """
    path, sections = read_sections(path, overrides)
    with errors_of(path):
        return make_classifier_settings(sections)
