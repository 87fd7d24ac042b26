"""What the files of a YOLO-pose folder say: the data file, where images and labels lie, a label's rows."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pose.errors import DataError, require
from pose.files import LISTED_SUFFIXES
from pose.formats.names import skeleton_from_names
from pose.formats.options import ReadOptions
from pose.skeleton import Skeleton

DATA_FILE = "data.yaml"
SPLITS = ("train", "val", "test")
NO_IMAGE = "persons of label files whose image is in no split"


def find_data_file(path: Path) -> Path | None:
    candidates = [path] if path.suffix in (".yaml", ".yml") else []
    if path.is_dir():
        candidates = [path / DATA_FILE, *sorted(path.glob("*.y*ml"))]
    for candidate in candidates:
        if candidate.is_file() and "kpt_shape" in candidate.read_text(encoding="utf-8", errors="replace"):
            return candidate
    return None


def read_fields(path: Path) -> dict[str, Any]:
    yaml = require("yaml", "the format yolo", extra="formats")
    try:
        fields = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: is no YAML ({error})") from error
    if not isinstance(fields, dict):
        raise DataError(f"{path}: needs fields such as kpt_shape and names")
    return fields


def keypoint_shape(path: Path, fields: Mapping[str, Any]) -> tuple[int, int]:
    try:
        count, columns = (int(value) for value in fields["kpt_shape"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: kpt_shape must be [keypoints, 2 or 3], got {fields.get('kpt_shape')}") from error
    if count < 1 or columns not in (2, 3):
        raise DataError(f"{path}: kpt_shape must be [keypoints, 2 or 3], got {fields['kpt_shape']}")
    return count, columns


def class_names(path: Path, fields: Mapping[str, Any]) -> dict[int, str]:
    names = fields.get("names") or {}
    try:
        pairs = names.items() if isinstance(names, dict) else enumerate(names)
        return {int(number): str(name) for number, name in pairs}
    except (TypeError, ValueError) as error:
        raise DataError(f"{path}: names must be the classes in a list or by number, got {str(names)[:80]}") from error


def person_class(path: Path, classes: Mapping[int, str], category: str | None) -> int:
    if category is not None:
        for number, name in classes.items():
            if category in (name, str(number)):
                return number
        raise DataError(f"{path}: no class {category!r}; there are {', '.join(classes.values())}")
    if len(classes) <= 1:
        return next(iter(classes), 0)
    for number, name in classes.items():
        if name.lower() == "person":
            return number
    raise DataError(f"{path}: has the classes {', '.join(classes.values())}; choose one by --category")


def skeleton_of(path: Path, fields: Mapping[str, Any], count: int, options: ReadOptions) -> Skeleton:
    if options.skeleton is not None:
        if options.skeleton.num_keypoints != count:
            raise DataError(
                f"{path}: has {count} keypoints, the skeleton {options.skeleton.name!r} "
                f"{options.skeleton.num_keypoints}; name this data set's own"
            )
        return options.skeleton
    names = fields.get("kpt_names") or {}
    per_class = list(names.values()) if isinstance(names, dict) else [names]
    chosen = per_class[0] if per_class and len(per_class[0]) == count else [f"keypoint_{k}" for k in range(count)]
    return skeleton_from_names(path.parent.name or "yolo", chosen, flip_index=fields.get("flip_idx"))


class ImagePair(NamedTuple):
    """An image of a folder.

    Attributes:
        split: The first of :data:`SPLITS` that has it.
        name: Relative to the folder.
        image: Its file.
        label: Its label file, which may be absent.
    """

    split: str
    name: str
    image: Path
    label: Path


def image_pairs(path: Path, fields: Mapping[str, Any]) -> tuple[list[ImagePair], set[str]]:
    """The images of all splits, each once, and the splits that have none.

    A place ``../train/images`` is looked for beside the data file, too, as Ultralytics 8.4.190 does
    (``ultralytics/data/utils.py``, ``check_det_dataset``): Roboflow's exports have such.
    """
    said = Path(str(fields.get("path") or "."))
    root = next((each for each in (path.parent / said, said, path.parent) if each.is_dir()), path.parent)
    if not (root / "labels").is_dir() and (path.parent / "labels").is_dir():
        root = path.parent  # moved since it was written
    found: dict[Path, ImagePair] = {}
    empty = {split for split in SPLITS if fields.get(split)}
    places = [(split, place) for split in SPLITS for place in _listed(fields.get(split))]
    for split, place in places:
        folder = root / place
        if not folder.exists() and place.startswith("../"):
            folder = root / place.removeprefix("../")
        if folder.suffix == ".txt" and folder.is_file():
            lines = folder.read_text(encoding="utf-8").split("\n")
            files = [folder.parent / line.strip() for line in lines if line.strip()]
        else:
            files = sorted(each for each in folder.rglob("*") if each.suffix.lower() in LISTED_SUFFIXES)
        empty -= {split} if files else set()
        for image in files:
            parts = list(image.parts)
            last = max((index for index, part in enumerate(parts) if part == "images"), default=-1)
            parts[last] = "labels" if last >= 0 else parts[last]
            name = image.relative_to(root) if image.is_relative_to(root) else image
            found.setdefault(image, ImagePair(split, name.as_posix(), image, Path(*parts).with_suffix(".txt")))
    if not found:
        listed = ", ".join(place for _, place in places) or "train, val and test"
        raise DataError(f"{path}: no images in {listed} of {root}")
    return list(found.values()), empty


def chosen_split(
    path: Path, pairs: Sequence[ImagePair], split: str | None, left_out: Counter[str]
) -> Iterator[tuple[str, Path, Path]]:
    """Name, image and label of a split, or of all, which are counted by split where there are several."""
    counted = Counter(pair.split for pair in pairs)
    if split is not None and split not in counted:
        raise DataError(f"{path}: has no images of the split {split!r}; there are {', '.join(counted)}")
    if split is None and len(counted) > 1:
        left_out.update({f"images of {name!r} in one with other splits": number for name, number in counted.items()})
    yield from (pair[1:] for pair in pairs if split in (None, pair.split))


def count_without_image(pairs: Sequence[ImagePair], columns: int, person: int) -> int:
    """Persons in label files whose image is in no split, in the folders of the others' label files."""
    known = {pair.label for pair in pairs}
    persons = 0
    for folder in {label.parent for label in known}:
        for label in folder.glob("*.txt"):
            with contextlib.suppress(DataError):  # such as a list of class names: no label file
                persons += 0 if label in known else sum(row[0] == person for row in label_rows(label, columns))
    return persons


def _listed(value: Any) -> list[str]:
    return [] if not value else [value] if isinstance(value, str) else list(value)


def label_rows(path: Path, columns: int) -> Iterator[np.ndarray]:
    if not path.is_file():
        return
    for number, line in enumerate(path.read_text(encoding="utf-8-sig", errors="replace").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = np.array(line.split(), np.float64)
        except ValueError as error:
            raise DataError(f"{path}, line {number}: not a row of numbers") from error
        if len(row) != columns:
            raise DataError(f"{path}, line {number}: has {len(row)} numbers, the kpt_shape means {columns}")
        if not np.isfinite(row).all():
            raise DataError(f"{path}, line {number}: a number is not finite")
        yield row
