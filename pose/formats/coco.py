"""COCO's keypoint annotations, and the files that other data sets and tools write in that form.

CrowdPose has no areas, Halpe 136 keypoints without names, COCO-WholeBody its other keypoints in fields of their own,
and CVAT packs the file into an archive.
"""

from __future__ import annotations

import json
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pose.datasets.coco import check_tables, read_tables
from pose.errors import DataError
from pose.files import replacing, write_json
from pose.formats.dataset import ImageRecord, PoseDataset, make_dataset, relative_name
from pose.formats.names import skeleton_from_names
from pose.formats.options import ReadOptions, WriteOptions
from pose.formats.skeletons import HALPE_BODY
from pose.skeleton import COCO, CROWDPOSE, PERSON_CATEGORY, Skeleton

_WITHOUT_NAMES = {17: COCO, 14: CROWDPOSE, 136: HALPE_BODY, 26: HALPE_BODY}
"""Skeletons of known data sets whose categories may not name their keypoints, by how many an annotation has."""

_WHOLE_BODY = ("foot_kpts", "face_kpts", "lefthand_kpts", "righthand_kpts")
ARCHIVED = "annotations/person_keypoints_default.json"
"""Where CVAT's archives of COCO keypoints have their file: its importer goes by this name."""


def recognizes(path: Path) -> bool:
    """Whether it is a JSON object with COCO's lists, or an archive with one."""
    if path.suffix == ".zip":
        return bool(_members(path))
    if path.suffix != ".json":
        return False
    with open(path, "rb") as file:
        start = file.read(1 << 12).lstrip(b"\xef\xbb\xbf \t\r\n")
    return start.startswith(b"{") and not start.startswith(b'{"version"')


def read(path: Path, options: ReadOptions) -> PoseDataset:
    """Reads an annotation file or an archive with one or several.

    Raises:
        DataError: It is not in COCO's keypoint format; the message names the record.
    """
    if path.suffix != ".zip":
        return from_tables(read_tables(path), path, options)
    names = _members(path)
    if not names:
        raise DataError(f"{path}: no annotation file for keypoints in this archive ({ARCHIVED})")
    if len(names) > 1:
        raise DataError(f"{path}: holds {len(names)} annotation files ({', '.join(names)}); unpack it and name one")
    with zipfile.ZipFile(path) as archive:
        try:
            tables = json.loads(archive.read(names[0]))
        except ValueError as error:
            raise DataError(f"{path}: {names[0]} is not JSON ({error})") from error
    return from_tables(check_tables(tables, f"{path}: {names[0]}"), path, options)


def _members(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return [
                name for name in archive.namelist() if name.endswith(".json") and "keypoints" in name.split("/")[-1]
            ]
    except (zipfile.BadZipFile, OSError):
        return []


def from_tables(tables: Mapping[str, Any], path: Path, options: ReadOptions) -> PoseDataset:
    """:func:`read` of a file that is read already; ``path`` is for messages."""
    left_out: Counter[str] = Counter()
    category = _category(tables, path, options.category)
    chosen = []
    for annotation in tables["annotations"]:
        if category is not None and annotation.get("category_id") != category["id"]:
            left_out[f"annotations of category {annotation.get('category_id')}"] += 1
        else:
            chosen.append(annotation)
    width = max((len(annotation.get("keypoints") or ()) for annotation in chosen), default=0) // 3
    skeleton = options.skeleton or _skeleton(tables, path, category, width)
    beyond = width - skeleton.num_keypoints if skeleton is HALPE_BODY else 0
    try:
        images = [
            ImageRecord(relative_name(each["file_name"]), int(each["width"]), int(each["height"]), int(each["id"]))
            for each in tables["images"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: an image record needs id, file_name, width and height ({error!r})") from error
    rows = {image.id: row for row, image in enumerate(images)}
    owners, keypoints, boxes, areas, crowd, ids, scores, tracks = [], [], [], [], [], [], [], []
    for annotation in chosen:
        name = f"{path}: annotation {annotation.get('id')}"
        if annotation.get("image_id") not in rows:
            raise DataError(f"{name} names the unknown image {annotation.get('image_id')}")
        points = _points(annotation, skeleton, beyond, name)
        left_out["face, hand and foot keypoints"] += beyond * bool(annotation.get("keypoints"))
        left_out["face, hand and foot keypoints"] += sum(len(annotation.get(key) or ()) // 3 for key in _WHOLE_BODY)
        left_out["outlines (segmentation)"] += bool(annotation.get("segmentation"))
        box, area = annotation.get("bbox"), annotation.get("area")
        owners.append(rows[annotation["image_id"]])
        keypoints.append(points)
        boxes.append(box if isinstance(box, list) and len(box) == 4 else [np.nan] * 4)
        areas.append(area if isinstance(area, (int, float)) else np.nan)
        crowd.append(bool(annotation.get("iscrowd")))
        ids.append(annotation["id"] if isinstance(annotation.get("id"), int) else -1)
        scores.append(annotation.get("score", np.nan))
        tracks.append(annotation.get("track_id", -1))
    try:
        return make_dataset(
            skeleton, images, owners, np.reshape(keypoints, (len(owners), skeleton.num_keypoints, 3)), left_out,
            boxes=boxes, areas=areas, crowd=crowd, ids=ids, scores=scores, tracks=tracks,
        )  # fmt: skip
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{path}: an annotation is not in COCO's keypoint format ({error!r})") from error


def _category(tables: Mapping[str, Any], path: Path, name: str | None) -> Mapping[str, Any] | None:
    """The category of the persons: the named one, the only one with keypoints, or 'person'; None for a lone one."""
    categories: Sequence[Mapping[str, Any]] = tables.get("categories") or ()
    if not isinstance(categories, list | tuple) or not all(isinstance(each, Mapping) for each in categories):
        raise DataError(f"{path}: 'categories' must be a list of records")
    if name is not None:
        for category in categories:
            if name in (category.get("name"), str(category.get("id"))):
                return category
        raise DataError(f"{path}: no category {name!r}; there are {', '.join(str(c.get('name')) for c in categories)}")
    with_keypoints = [category for category in categories if category.get("keypoints")]
    named = [category for category in with_keypoints or categories if category.get("name") == "person"]
    found = named or with_keypoints or categories
    if len(found) > 1:
        raise DataError(
            f"{path}: {len(found)} categories may be the persons ({', '.join(str(c.get('name')) for c in found)}); "
            "choose one by --category"
        )
    return found[0] if found else None


def _skeleton(tables: Mapping[str, Any], path: Path, category: Mapping[str, Any] | None, width: int) -> Skeleton:
    if category is not None and category.get("keypoints") and width in (0, len(category["keypoints"])):
        return skeleton_from_names(path.stem, category["keypoints"], category.get("skeleton") or ())
    if width in _WITHOUT_NAMES:
        return _WITHOUT_NAMES[width]
    raise DataError(f"{path}: does not name its {width} keypoints; name their skeleton by --source")


def _points(annotation: Mapping[str, Any], skeleton: Skeleton, beyond: int, name: str) -> np.ndarray:
    """(K, 3) keypoints of an annotation, zeros where it has none."""
    values = annotation.get("keypoints") or [0] * (3 * skeleton.num_keypoints)
    if len(values) != 3 * (skeleton.num_keypoints + beyond):
        raise DataError(
            f"{name} has {len(values)} keypoint numbers, the skeleton {skeleton.name!r} needs "
            f"{3 * skeleton.num_keypoints}; name this data set's own by --source"
        )
    try:
        points = np.array(values, np.float64).reshape(-1, 3)[: skeleton.num_keypoints]
    except (TypeError, ValueError) as error:
        raise DataError(f"{name}: a keypoint is no number ({error})") from error
    return points


def write(dataset: PoseDataset, path: Path, options: WriteOptions) -> Counter[str]:
    """Writes an annotation file; boxes and areas that nobody drew are made and counted.

    Returns:
        What the format cannot hold, and what was made.

    Raises:
        OutputError: The place cannot be written.
    """
    tables, lost = to_tables(dataset)
    write_json(path, tables)
    return lost


def write_archive(dataset: PoseDataset, path: Path, options: WriteOptions) -> Counter[str]:
    """Writes the archive that CVAT imports as 'COCO Keypoints 1.0', where the task has a skeleton of these names.

    Persons without a labeled keypoint are left out: there is nothing to correct in them.

    Raises:
        OutputError: The place cannot be written.
    """
    tables, lost = to_tables(dataset.take(dataset.persons))
    lost["persons and regions without keypoints"] = int((~dataset.persons).sum())
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(ARCHIVED, json.dumps(tables, allow_nan=False))
    return lost


def to_tables(dataset: PoseDataset) -> tuple[dict[str, Any], Counter[str]]:
    """The annotation file as a Python object, and what it cannot hold or what was made for it."""
    boxes = dataset.boxes_or_extents()
    made_boxes = ~np.isfinite(dataset.boxes).all(1)
    nowhere = ~np.isfinite(boxes).all(1)
    areas = np.where(np.isfinite(dataset.areas), dataset.areas, boxes[:, 2] * boxes[:, 3])
    image_ids, ids = dataset.image_ids(), dataset.person_ids()
    annotations = []
    for row in np.flatnonzero(~nowhere).tolist():
        record: dict[str, Any] = {
            "id": int(ids[row]),
            "image_id": int(image_ids[dataset.owners[row]]),
            "category_id": PERSON_CATEGORY,
            "iscrowd": int(dataset.crowd[row]),
            "bbox": boxes[row].round(6).tolist(),
            "area": round(float(areas[row]), 6),
            "num_keypoints": int(dataset.labeled[row].sum()),
            "keypoints": _plain(dataset.keypoints[row]),
        }
        if np.isfinite(dataset.scores[row]):
            record["score"] = float(dataset.scores[row])
        if dataset.tracks[row] >= 0:
            record["track_id"] = int(dataset.tracks[row])
        annotations.append(record)
    skeleton = dataset.skeleton
    category = {
        "id": PERSON_CATEGORY,
        "name": "person",
        "supercategory": "person",
        "keypoints": list(skeleton.keypoints),
        "skeleton": [[first + 1, second + 1] for first, second in skeleton.limbs],
    }
    images = [
        {"id": int(number), "file_name": image.file_name, "width": image.width, "height": image.height}
        for number, image in zip(image_ids, dataset.images, strict=True)
    ]
    lost = Counter(
        {
            "scores of joints": int(np.isfinite(dataset.joint_scores).all(1).sum()),
            "persons with neither box nor keypoint": int(nowhere.sum()),
            "boxes made of keypoints": int((made_boxes & ~nowhere).sum()),
            "areas made of boxes (AP reads higher)": int((~np.isfinite(dataset.areas) & ~nowhere).sum()),
        }
    )
    return {"images": images, "annotations": annotations, "categories": [category]}, lost


def _plain(keypoints: np.ndarray) -> list[float | int]:
    """3K numbers, rounded to what a pixel needs, whole visibilities."""
    flat = keypoints.round(6).ravel().tolist()
    return [int(value) if index % 3 == 2 else value for index, value in enumerate(flat)]
