"""The ``data`` section of a configuration: which files each split is, and how their crops are loaded."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pose import options
from pose.datasets.train_set import TrainSet
from pose.evaluation.protocol import ANNOTATED
from pose.options import OptionError
from pose.skeleton import BUILT_IN

LARGEST_SIDE = 4096
"""Pixels of the input's longer side at most: sixteen times COCO's; a batch of larger crops fits into no memory."""


@dataclass(frozen=True)
class Split:
    """Pictures to validate or to test on.

    Args:
        annotations: Annotation file in COCO's format.
        images: Folder of the pictures.
        boxes: The boxes that are tested: a detections file in COCO's results format, or ``annotated``.
    """

    annotations: str
    images: str
    boxes: str = ANNOTATED


COCO_TRAIN = TrainSet("annotations/person_keypoints_train2017.json", "train2017")
COCO_VAL = Split(
    "annotations/person_keypoints_val2017.json",
    "val2017",
    "person_detection_results/COCO_val2017_detections_AP_H_56_person.json",
)


@dataclass(frozen=True)
class DataSettings:
    """Where the data are, and how crops of them are loaded.

    The rule for paths: ``root`` is relative to the current folder, and everything else to ``root``. Skeleton files
    alone are looked for from the configuration's folder upwards, and then in the current folder.

    Args:
        root: Folder of the data.
        train: What is learned from: one set or a list of several.
        val: What epochs are chosen by.
        test: What ``tools/test.py`` tests on and nothing is chosen by. None tests on ``val``, as COCO's users do; what
            is left out is as in ``val``.
        box_threshold: Detections below this score are left out.
        skeleton: A built-in skeleton's name or a skeleton file.
        category: The persons' category in the annotation files, by name or id; None takes the one that has keypoints,
            or that is called person.
        input_size: Width and height of the network's input, multiples of 32.
        workers: Worker processes that load crops, no more than there are processors; 0 loads in the main process.
        broken_share: The share of the training pictures that may be absent or broken: they are skipped with a
            warning, above it the run stops. Testing takes none.
        crop_cache: A folder for the crop regions of the training persons, several GB for COCO, which makes
            loading about two and a half times as fast; None reads the pictures.
        reduced_decode: Decode training pictures smaller where a crop allows it; the pixels are not quite the same.

    Raises:
        ValueError: A value is out of range.
    """

    root: str = "data/coco"
    train: tuple[TrainSet, ...] = (COCO_TRAIN,)
    val: Split = COCO_VAL
    test: Split | None = None
    box_threshold: float = 0.0
    skeleton: str = "coco"
    category: str | int | None = None
    input_size: tuple[int, int] = (192, 256)
    workers: int = 4
    broken_share: float = 0.02
    crop_cache: str | None = None
    reduced_decode: bool = False

    def __post_init__(self) -> None:
        if not self.train:
            raise ValueError("train must hold at least one data set")
        if not 0 <= self.broken_share < 1:
            raise ValueError(f"broken_share must be at least 0 and below 1, got {self.broken_share}")
        if any(size < 32 or size % 32 for size in self.input_size):
            raise ValueError(f"input_size must be two multiples of 32, got {self.input_size}")
        if max(self.input_size) > LARGEST_SIDE:
            raise ValueError(f"input_size must be at most {LARGEST_SIDE} a side, got {self.input_size}")
        if self.workers < 0:
            raise ValueError(f"workers must not be negative, got {self.workers}")
        if not 0 <= self.box_threshold <= 1:
            raise ValueError(f"box_threshold must be between 0 and 1, got {self.box_threshold}")

    @property
    def tested(self) -> Split:
        """What is tested on: the test split, where there is one."""
        return self.test or self.val

    def path(self, name: str) -> Path:
        """A path of this data set, which is relative to ``root``."""
        return Path(self.root, name)

    def files(self) -> list[Path]:
        """Every file of annotations, boxes and joints that is named."""
        splits = [split for split in (self.val, self.test) if split]
        names = [each.annotations for each in self.train] + [split.annotations for split in splits]
        names += [each.extra_joints for each in self.train if each.extra_joints]
        names += [split.boxes for split in splits if split.boxes != ANNOTATED]
        return [self.path(name) for name in names]

    def image_folders(self) -> list[Path]:
        """Every folder of images that is named."""
        return [self.path(each.images) for each in (*self.train, self.val, self.test) if each]


OLD_NAMES = {
    "train_annotations": "train.annotations",
    "train_images": "train.images",
    "val_annotations": "val.annotations",
    "val_images": "val.images",
    "test_annotations": "test.annotations",
    "test_images": "test.images",
    "boxes": "val.boxes",
}
"""Names of options before splits had sections of their own; old configurations, checkpoints and commands have them."""


def make_data_settings(section: Mapping[str, Any], where: str = "data") -> DataSettings:
    """The settings of a ``data`` section: ``train`` is a mapping or a list of them, ``val`` and ``test`` mappings.

    Raises:
        OptionError: A key is unknown, or a value cannot be.
    """
    if not isinstance(section, Mapping):
        raise OptionError(f"{where}: needs a dict, got {section!r}")
    made = with_new_names(section)
    if "train" in made:
        given = made["train"]
        several = isinstance(given, Sequence) and not isinstance(given, str)
        if not several:
            given = _filled(given, COCO_TRAIN, f"{where}.train")
        made["train"] = tuple(
            options.build(TrainSet, entry, f"{where}.train.{number}" if several else f"{where}.train")
            for number, entry in enumerate(given if several else (given,))
        )
    if "val" in made:
        made["val"] = options.build(Split, _filled(made["val"], COCO_VAL, f"{where}.val"), f"{where}.val")
    if made.get("test") is not None:
        if isinstance(made["test"], Mapping) and "annotations" not in made["test"]:
            raise OptionError(f"missing option {where}.test.annotations")
        filled = _filled(made["test"], made.get("val", COCO_VAL), f"{where}.test")
        made["test"] = options.build(Split, filled, f"{where}.test")
    return options.build(DataSettings, made, where)


def _filled(given: Any, default: TrainSet | Split, where: str) -> dict[str, Any]:
    """A split's section with the default's values for what is left out."""
    if not isinstance(given, Mapping):
        raise OptionError(f"{where}: needs a dict with annotations and images, got {given!r}")
    return {**asdict(default), **given}


def with_new_names(section: Mapping[str, Any]) -> dict[str, Any]:
    """A ``data`` section with the options of :data:`OLD_NAMES` by their new names.

    An old name wins over the new one: it is in what a person wrote, on top of a configuration that is up to date.

    Raises:
        OptionError: An old name is given for a training set that is a list now; says the new names.
    """
    made = {name: value for name, value in section.items() if name not in OLD_NAMES}
    for old, new in OLD_NAMES.items():
        split, _, name = new.partition(".")
        value = section.get(old)
        if old not in section or (split == "test" and value is None and old == "test_images"):
            continue
        if old == "test_annotations" and value is None:
            made["test"] = None
            continue
        before = made.get(split) or {}
        if not isinstance(before, Mapping):
            if isinstance(before, Sequence) and len(before) == 1:
                before = before[0]  # one set, as a checkpoint keeps it
            else:
                raise OptionError(f"data.{old}: data.{split} lists several sets; say data.{split}.0.{name}, ...")
        made[split] = {**before, name: value}
        if old == "boxes" and isinstance(made.get("test"), Mapping):
            made["test"] = {**made["test"], name: value}
    return made


def find_skeletons(section: object, config: Path, here_first: bool) -> None:
    """Writes where each skeleton file is into a ``data`` section.

    Args:
        section: What the configuration says; left as it is where it is no mapping or no such file is found.
        config: The configuration's file: folders from its own upwards are looked through, the current one last.
        here_first: The skeleton's name comes from the command line: the current folder is looked through first.
    """
    if not isinstance(section, dict):
        return
    above = list(config.absolute().parents)
    train = section.get("train")
    owners = [section, *(train if isinstance(train, list | tuple) else [train])]
    for owner in owners:
        name = owner.get("skeleton") if isinstance(owner, dict) else None
        if isinstance(name, str) and name not in BUILT_IN:
            folders = [Path.cwd(), *above] if here_first and owner is section else [*above, Path.cwd()]
            files = (Path(os.path.normpath(folder / name)) for folder in folders)
            found = next((file for file in files if os.path.isfile(file)), None)
            if found is not None:
                owner["skeleton"] = str(found.relative_to(Path.cwd()) if found.is_relative_to(Path.cwd()) else found)
