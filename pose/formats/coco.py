"""COCO's keypoint annotations, and the files that other data sets and tools write in that form.

CrowdPose has no areas, Halpe 136 keypoints without names, COCO-WholeBody its other keypoints in fields of their own,
and CVAT packs the file into an archive.
"""

from __future__ import annotations

import json
import zipfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pose.datasets.annotations import AREAS_FILLED, persons_as_written
from pose.datasets.coco import check_tables, read_tables
from pose.datasets.image_records import listed_images
from pose.errors import DataError
from pose.files import json_text, replacing, write_json
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
    """:func:`read` of a file that is read already; ``path`` is for messages.

    Records are read by the rules of training and scoring (docs/custom_dataset.md#rules); what they changed or left out
    is in ``left_out``, but nobody is left out for having area 0 or no box.
    """
    persons = persons_as_written(tables, path, options.skeleton, options.category)
    width = max((len(record["keypoints"]) for record in persons.records), default=0) // 3
    skeleton = options.skeleton or _skeleton(path, persons.category, width)
    count = skeleton.num_keypoints
    beyond = max(width - count, 0)  # Halpe's, whose body is the first of them
    left_out = Counter({what: count for what, count in persons.told.items() if what != AREAS_FILLED})
    left_out.update(line.removeprefix(f"{path}: ") for line in persons.order)
    images = [ImageRecord(relative_name(each.name), *each.size, each.id) for each in listed_images(tables, path)]
    rows = {image.id: row for row, image in enumerate(images)}
    written = [tables["annotations"][row] for row in persons.rows]
    left_out["face, hand and foot keypoints"] += sum(
        beyond * bool(each.get("keypoints")) + sum(len(each.get(key) or ()) // 3 for key in _WHOLE_BODY)
        for each in written
    )
    left_out["outlines (segmentation)"] += sum(bool(each.get("segmentation")) for each in written)
    keypoints = [record["keypoints"][: 3 * count] for record in persons.records]
    try:
        return make_dataset(
            skeleton, images, [rows[record["image_id"]] for record in persons.records],
            np.reshape(np.array(keypoints, np.float64), (len(keypoints), count, 3)), left_out,
            boxes=[record["bbox"] or [np.nan] * 4 for record in persons.records],
            areas=[np.nan if each.get("area") is None else each["area"] for each in written],
            crowd=[record["iscrowd"] for record in persons.records],
            ids=[record["id"] for record in persons.records],
            scores=[each.get("score", np.nan) for each in written],
            tracks=[each.get("track_id", -1) for each in written],
        )  # fmt: skip
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{path}: an annotation is not in COCO's keypoint format ({error!r})") from error


def _skeleton(path: Path, category: Mapping[str, Any], width: int) -> Skeleton:
    if category.get("keypoints") and width in (0, len(category["keypoints"])):
        return skeleton_from_names(path.stem, category["keypoints"], category.get("skeleton") or ())
    if width in _WITHOUT_NAMES:
        return _WITHOUT_NAMES[width]
    raise DataError(f"{path}: does not name its {width} keypoints; name their skeleton by --source")


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
    text = json_text(path, tables)
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(ARCHIVED, text)
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
