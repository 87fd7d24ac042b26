"""Files of published data sets that are not in COCO's form: MPII and AI Challenger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pose.errors import DataError, require
from pose.files import read_json
from pose.formats.dataset import ImageRecord, PoseDataset, make_dataset
from pose.formats.image_files import measured
from pose.formats.options import ReadOptions
from pose.formats.skeletons import AIC, MPII

_AIC_VISIBILITY = {1: 2, 2: 1, 3: 0}
"""AI Challenger's seen, hidden and outside, as COCO says it."""


def recognizes_mpii(path: Path) -> bool:
    """Whether it is MPII's annotations, its own or as SimpleBaseline and HRNet publish them."""
    if path.suffix == ".mat":
        with open(path, "rb") as file:
            return b"MATLAB" in file.read(116)
    return _begins(path, b'"joints_vis"') or _begins(path, b'"joints"')


def recognizes_aic(path: Path) -> bool:
    """Whether it is AI Challenger's list."""
    return _begins(path, b'"keypoint_annotations"')


def _begins(path: Path, word: bytes) -> bool:
    if path.suffix != ".json":
        return False
    with open(path, "rb") as file:
        start = file.read(1 << 16).lstrip()
    return start.startswith(b"[") and word in start


def read_mpii(path: Path, options: ReadOptions) -> PoseDataset:
    """Reads MPII's persons; its places count from 1 as MATLAB's do, so that 1 is taken off.

    The JSON files know seen-or-not, but not hidden: every labeled joint counts as seen. No file has images' sizes.

    Raises:
        DataError: It is not in that form, or the image folder is not given.
    """

    if path.suffix == ".mat":
        return _read_mpii_release(path, options)

    def person(record: dict[str, Any]) -> np.ndarray:
        places = np.array(record["joints"], np.float64).reshape(16, 2) - 1
        shown = np.array(record["joints_vis"], np.float64).reshape(16, 1) > 0
        return np.hstack([places, 2.0 * shown])

    records = _records(path)
    images = _Images(path, options)
    owners, points = [], []
    for number, record in enumerate(records):
        points.append(_checked(path, number, partial(person, record)))
        owners.append(images.row(record["image"]))
    left_out = Counter({"centers and scales": len(records)})
    return make_dataset(options.skeleton or MPII, images.records, owners, np.reshape(points, (-1, 16, 3)), left_out)


def _read_mpii_release(path: Path, options: ReadOptions) -> PoseDataset:
    """MPII's own file: labeled joints that are not visible are hidden; head joints, of which it does not say, seen.

    Raises:
        DataError: It is no such file, or the image folder is not given.
        MissingExtra: SciPy is not installed.
    """
    scipy_io = require("scipy.io", "MPII's .mat", extra="formats")
    try:
        release = scipy_io.loadmat(path, struct_as_record=False, squeeze_me=True)["RELEASE"]
        annotated = [(entry.image.name, _listed(entry.annorect)) for entry in _listed(release.annolist)]
    except (KeyError, AttributeError, TypeError, ValueError, OSError, NotImplementedError) as error:
        raise DataError(f"{path}: not MPII's release, whose RELEASE has an annolist ({error!r})") from error
    images = _Images(path, options)
    owners, points = [], []
    left_out: Counter[str] = Counter()
    for number, (name, persons) in enumerate(annotated):
        labeled = [each for each in persons if hasattr(getattr(each, "annopoints", None), "point")]
        left_out["images without labeled persons, such as the test split's"] += not labeled
        left_out["head boxes, scales and centers"] += len(labeled)
        left_out["persons without joints"] += len(persons) - len(labeled) if labeled else 0
        for each in labeled:
            points.append(_checked(path, number, partial(_mpii_joints, each.annopoints.point)))
            owners.append(images.row(str(name)))
    return make_dataset(options.skeleton or MPII, images.records, owners, np.reshape(points, (-1, 16, 3)), left_out)


def _mpii_joints(listed: Any) -> np.ndarray:
    """(16, 3) of a person's points, each with x, y, id and is_visible, which is a number, text, empty or missing."""
    joints = np.zeros((16, 3))
    for point in _listed(listed):
        visible = getattr(point, "is_visible", "")
        hidden = np.size(visible) == 1 and str(visible).strip() == "0"
        joints[int(point.id)] = float(point.x) - 1, float(point.y) - 1, 1 if hidden else 2
    return joints


def _listed(value: Any) -> list[Any]:
    """A MATLAB struct array as a list: SciPy gives a single struct as itself."""
    return list(value.ravel()) if isinstance(value, np.ndarray) else [value]


def read_aic(path: Path, options: ReadOptions) -> PoseDataset:
    """Reads AI Challenger's persons with their boxes.

    Raises:
        DataError: It is not in that form, or the image folder is not given.
    """

    def persons(record: dict[str, Any]) -> list[tuple[np.ndarray, list[float]]]:
        found = []
        for name, values in record["keypoint_annotations"].items():
            rows = np.array(values, np.float64).reshape(14, 3)
            rows[:, 2] = [_AIC_VISIBILITY[int(value)] for value in rows[:, 2]]
            x1, y1, x2, y2 = map(float, record["human_annotations"][name])
            found.append((rows, [x1, y1, x2 - x1, y2 - y1]))
        return found

    images = _Images(path, options)
    owners, points, boxes = [], [], []
    left_out: Counter[str] = Counter()
    for number, record in enumerate(_records(path)):
        row = images.row(f"{record['image_id']}.jpg")
        for rows, box in _checked(path, number, partial(persons, record)):
            owners.append(row)
            points.append(rows)
            boxes.append(box)
        left_out["persons without keypoints"] += len(
            record["human_annotations"].keys() - record["keypoint_annotations"]
        )
    keypoints = np.reshape(points, (-1, 14, 3))
    return make_dataset(options.skeleton or AIC, images.records, owners, keypoints, left_out, boxes=boxes)


def _records(path: Path) -> list[dict[str, Any]]:
    records = read_json(path, "annotation file")
    if not isinstance(records, list):
        raise DataError(f"{path}: needs a list of records")
    return records


def _checked(path: Path, number: int, parse: Callable[[], Any]) -> Any:
    try:
        return parse()
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path}: record {number} is not in its data set's format ({error!r})") from error


class _Images:
    """The images in the order of their coming, measured at their first."""

    def __init__(self, path: Path, options: ReadOptions) -> None:
        self.path, self.options = path, options
        self.records: list[ImageRecord] = []
        self._rows: dict[str, int] = {}

    def row(self, name: str) -> int:
        if name not in self._rows:
            self._rows[name] = len(self.records)
            self.records.append(measured(name, self.options.images))
        return self._rows[name]
