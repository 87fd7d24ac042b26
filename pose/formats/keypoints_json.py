"""This project's own ``keypoints.json``: found persons, a record each, in COCO's keypoint results format."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from pose.errors import DataError
from pose.files import read_json, write_json
from pose.formats.dataset import ImageRecord, PoseDataset, below_threshold, found_joints, make_dataset
from pose.formats.image_files import measured
from pose.formats.options import ReadOptions, WriteOptions
from pose.poses import to_coco_results
from pose.skeleton import COCO


def recognizes(path: Path) -> bool:
    """Whether it is a JSON list whose first record has COCO's keypoint result."""
    if path.suffix != ".json":
        return False
    with open(path, "rb") as file:
        start = file.read(1 << 13).lstrip(b"\xef\xbb\xbf \t\r\n")
    first = start.split(b"}", 1)[0]
    return start.startswith(b"[") and b'"keypoints"' in first and b'"score"' in first and b'"image_id"' in first


def read(path: Path, options: ReadOptions) -> PoseDataset:
    """Reads found persons; joints from the threshold on become labeled as seen.

    Images without persons are not in such a file. Sizes are the records' own or those of the image files.

    Raises:
        DataError: It is not of this format, or an image's size is not known.
    """
    skeleton = options.skeleton or COCO
    records: list[dict[str, Any]] = read_json(path, "keypoints file")
    if not isinstance(records, list):
        raise DataError(f"{path}: not a keypoints file: needs a list of records with image_id, keypoints and score")
    images: dict[int, ImageRecord] = {}
    rows: dict[int, int] = {}
    owners, points, scores, boxes, tracks = [], [], [], [], []
    for number, record in enumerate(records):
        try:
            values = np.array(record["keypoints"], np.float64)
            key = int(record["image_id"])
            score = float(record["score"])
            box = np.array(record.get("box") or [np.nan] * 4, np.float64).reshape(4)
            track = int(record.get("track_id", -1))
            image = images.get(key) or _image(record, key, options)
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(
                f"{path}: record {number} needs image_id, keypoints and score, and numbers wherever it has a box, a "
                f"track_id, a width and a height ({error!r})"
            ) from error
        if values.size != 3 * skeleton.num_keypoints:
            raise DataError(
                f"{path}: record {number} has {values.size // 3} keypoints, the skeleton {skeleton.name!r} "
                f"{skeleton.num_keypoints}; name the network's own by --source"
            )
        images[key] = image
        owners.append(rows.setdefault(key, len(rows)))
        points.append(values.reshape(-1, 3))
        scores.append(score)
        boxes.append(box)
        tracks.append(track)
    keypoints = np.reshape(points, (len(points), skeleton.num_keypoints, 3))
    seen = found_joints(keypoints[..., 2], options.joint_threshold)
    left_out = Counter({below_threshold(options.joint_threshold): int((seen == 0).sum())})
    return make_dataset(
        skeleton, images.values(), owners, np.dstack([keypoints[..., :2], seen]), left_out,
        boxes=boxes, scores=scores, joint_scores=keypoints[..., 2], tracks=tracks,
    )  # fmt: skip


def _image(record: dict[str, Any], key: int, options: ReadOptions) -> ImageRecord:
    name = str(record.get("file_name", f"{record.get('frame', key):06}.jpg"))
    if "width" in record and "height" in record:
        return ImageRecord(name, int(record["width"]), int(record["height"]), key)
    return measured(name, options.images, key)


def write(dataset: PoseDataset, path: Path, options: WriteOptions) -> Counter[str]:
    """Writes persons as if they had been found: labeled joints and persons have the score 1 where none is known.

    Returns:
        What the format cannot hold.

    Raises:
        OutputError: The place cannot be written.
    """
    kept = dataset.take(dataset.persons)
    ids = dataset.image_ids()[kept.owners]
    joints = np.where(np.isfinite(kept.joint_scores), kept.joint_scores, kept.labeled)
    joints[~kept.labeled] = 0
    scores = np.where(np.isfinite(kept.scores), kept.scores, 1.0)
    records = to_coco_results(ids, np.dstack([kept.keypoints[..., :2], joints]), scores)
    boxes = kept.boxes_or_extents().round(3).tolist()
    for row, record in enumerate(records):
        image = kept.images[kept.owners[row]]
        record |= {"box": boxes[row], "box_score": 1.0, "file_name": image.file_name}
        record |= {"width": image.width, "height": image.height}
        if kept.tracks[row] >= 0:
            record["track_id"] = int(kept.tracks[row])
    write_json(path, records)
    with_persons = len(np.unique(kept.owners))
    return Counter(
        {
            "areas": int(np.isfinite(kept.areas).sum()),
            "hidden joints (seen now)": int((kept.keypoints[..., 2] == 1).sum()),
            "persons and regions without keypoints": int((~dataset.persons).sum()),
            "images without persons": len(dataset.images) - with_persons,
        }
    )
