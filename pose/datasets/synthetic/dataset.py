"""Drawn people in COCO's layout: a data set of any size from a seed, with exact keypoints and nothing to download.

from pose.datasets.synthetic.dataset import write_dataset
write_dataset("data/synthetic", train_images=2000, val_images=200)
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from pose.datasets.synthetic.scenes import draw_scene
from pose.files import write_json
from pose.skeleton import COCO, PERSON_CATEGORY

DRAWING_VERSION = 2
"""Raised whenever the same seed would give other pictures, so that an older set is not taken for the same."""

_VAL_OFFSET = 10_000_000
_SPLITS = ("train2017", "val2017")
_JPEG_QUALITY = 92
_DETECTIONS = "synthetic_val2017_detections.json"


def draw_image(rng: np.random.Generator, width: int, height: int, max_people: int = 3) -> tuple[np.ndarray, list[dict]]:
    """One picture of drawn people.

    Args:
        rng: The only source of randomness.
        width: Pixels, at least 16.
        height: Pixels, at least 16.
        max_people: The largest number of persons, from 1 to 15; one is drawn at least, but all may be too hidden to be
            annotated.

    Returns:
        The picture, (H, W, 3) uint8 in OpenCV's BGR, and COCO person records without ``id`` and
        ``image_id``. Keypoints are pixels with 2 decimals, (0, 0) being the middle of the first pixel;
        v is 2 visible, 1 hidden by a person, a thing or the own body, 0 outside the picture or, as COCO's
        annotators do it, a part of the face at the far side of the head. ``bbox`` and ``area`` are those of
        the visible pixels. A person without a visible keypoint has none labelled.

    Raises:
        ValueError: A size or ``max_people`` out of range.
    """
    scene = draw_scene(rng, width, height, max_people)
    return scene.image, scene.annotations


def write_dataset(
    root: str | Path,
    train_images: int,
    val_images: int,
    width: int = 256,
    height: int = 192,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Writes a data set in COCO's layout, or returns at once where ``root`` already holds this very set.

    Picture i of a split depends on ``(seed, split, i)`` and the size alone: a larger set begins with the
    smaller one. Everything is written beside ``root`` and moved into place as a whole, so an interrupted
    call leaves no half a set and several processes may call at the same time.

    Args:
        root: The folder, which gets ``annotations/person_keypoints_{train,val}2017.json``, ``train2017/*.jpg``,
            ``val2017/*.jpg`` and ``person_detection_results/synthetic_val2017_detections.json``: jittered,
            missed, doubled and false boxes with scores.
        train_images: Number of training pictures, 0 or more.
        val_images: Number of validation pictures, 0 or more.
        width: The width of each picture in pixels.
        height: The height of each picture in pixels.
        seed: The seed of everything drawn, not negative.
        progress: Called with (pictures done, pictures in all) after each picture.

    Raises:
        FileExistsError: ``root`` exists and holds anything but this very set.
        ValueError: A number out of range.
    """
    counts = dict(zip(_SPLITS, (train_images, val_images), strict=True))
    if min(counts.values()) < 0 or max(counts.values()) >= _VAL_OFFSET or seed < 0:
        raise ValueError(f"need 0 to {_VAL_OFFSET - 1} pictures a split and seed >= 0, got {counts}, seed {seed}")
    arguments = {"version": DRAWING_VERSION, **counts, "width": width, "height": height, "seed": seed}
    root = Path(root)
    if _is_complete(root, arguments):
        return
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{root.name}.", dir=root.parent) as beside:
        staged = Path(beside) / root.name
        _write_all(staged, arguments, progress)
        try:
            if root.exists():
                root.rmdir()  # only ever an empty folder
            staged.rename(root)
        except OSError:
            if not _is_complete(root, arguments):  # another process may have put the same set there
                raise


def _is_complete(root: Path, arguments: dict) -> bool:
    """True where the set is there, False where nothing is; raises FileExistsError for anything else."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    try:
        found = json.loads(_annotation_path(root, "val2017").read_text(encoding="utf-8"))["info"]["synthetic"]
    except (OSError, ValueError, LookupError, TypeError):
        raise FileExistsError(f"{root} holds something other than drawn people: choose another folder") from None
    if found != arguments:
        raise FileExistsError(f"{root} holds drawn people of {found}, not of {arguments}: choose another folder")
    whole = _annotation_path(root, "train2017").is_file() and _detections_path(root).is_file()
    for split in _SPLITS:
        folder = root / split
        whole = whole and folder.is_dir() and len(list(folder.glob("*.jpg"))) == arguments[split]
    if not whole:
        raise FileExistsError(f"{root} holds drawn people with files missing: delete it or choose another folder")
    return True


def _annotation_path(root: Path, split: str) -> Path:
    return root / "annotations" / f"person_keypoints_{split}.json"


def _detections_path(root: Path) -> Path:
    return root / "person_detection_results" / _DETECTIONS


def _write_all(root: Path, arguments: dict, progress: Callable[[int, int], None] | None) -> None:
    """Draws and writes every file of the set under ``root``."""
    width, height, seed = arguments["width"], arguments["height"], arguments["seed"]
    total, done = sum(arguments[split] for split in _SPLITS), 0
    _detections_path(root).parent.mkdir(parents=True)
    _annotation_path(root, "").parent.mkdir()
    for split_index, split in enumerate(_SPLITS):
        images, annotations, detections = [], [], []
        (root / split).mkdir()
        for index in range(arguments[split]):
            image, people = draw_image(np.random.default_rng([seed, split_index, index]), width, height)
            record = _image_record(split_index * _VAL_OFFSET + index + 1, width, height)
            encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1]
            (root / split / record["file_name"]).write_bytes(encoded.tobytes())
            images.append(record)
            for number, person in enumerate(people):
                annotations.append(person | {"image_id": record["id"], "id": 16 * record["id"] + number})
            if split == "val2017":
                detections += _detect(np.random.default_rng([seed, 2, index]), people, record)
            done += 1
            if progress:
                progress(done, total)
        if split == "val2017":
            _detections_path(root).write_text(json.dumps(detections), encoding="utf-8")
        text = json.dumps(_coco_file(images, annotations, arguments))
        _annotation_path(root, split).write_text(text, encoding="utf-8")


def _image_record(image_id: int, width: int, height: int) -> dict:
    return {"license": 1, "file_name": f"{image_id:012d}.jpg", "height": height, "width": width, "id": image_id}


def _coco_file(images: list[dict], annotations: list[dict], arguments: dict) -> dict:
    """The whole annotation file; ``arguments`` lets a later call recognise the set."""
    return {
        "info": {"description": "Drawn people in COCO's layout", "version": "1.0", "synthetic": arguments},
        "licenses": [{"id": 1, "name": "Drawn by a program, free to use", "url": ""}],
        "categories": [
            {
                "supercategory": "person",
                "id": 1,
                "name": "person",
                "keypoints": list(COCO.keypoints),
                "skeleton": [[first + 1, second + 1] for first, second in COCO.limbs],
            }
        ],
        "images": images,
        "annotations": annotations,
    }


def _detect(rng: np.random.Generator, people: list[dict], image: dict) -> list[dict]:
    """What a fair person detector would find: COCO results with ``bbox``, ``score``, ``image_id``, ``category_id``."""
    boxes, scores = [], []
    for person in people:
        x, y, w, h = person["bbox"]
        for copy, score in ((rng.random() < 0.97, rng.beta(12, 1.5)), (rng.random() < 0.15, rng.uniform(0.05, 0.4))):
            if copy:
                jitter = rng.normal(0, 0.03 if score > 0.4 else 0.12, 4) * (w, h, w, h)
                boxes.append(np.array((x, y, x + w, y + h)) + jitter)
                scores.append(score)
    size = np.array((image["width"], image["height"]))
    for _ in range(rng.poisson(1.2)):
        extent = rng.uniform(0.1, 0.7, 2) * size
        corner = rng.uniform(0, 1, 2) * (size - extent)
        boxes.append(np.concatenate([corner, corner + extent]))
        scores.append(0.6 * rng.beta(1, 4))
    found = []
    for box, score in zip(boxes, scores, strict=True):
        x1, y1, x2, y2 = box.clip(0, np.tile(size, 2)).round(2).tolist()
        if x2 - x1 >= 1 and y2 - y1 >= 1:
            bbox = [x1, y1, round(x2 - x1, 2), round(y2 - y1, 2)]
            entry = {
                "bbox": bbox,
                "category_id": PERSON_CATEGORY,
                "image_id": image["id"],
                "score": round(float(score), 6),
            }
            found.append(entry)
    return found


# Where the keypoints of a person standing in a unit box lie, facing the camera.
_STANDING = np.array([
    (.50, .08), (.55, .06), (.45, .06), (.60, .08), (.40, .08), (.72, .20), (.28, .20), (.82, .35), (.18, .35),
    (.86, .49), (.14, .49), (.64, .51), (.36, .51), (.66, .74), (.34, .74), (.67, .95), (.33, .95),
])  # fmt: skip


def write_annotations_only(path: str | Path, images: int, persons: int, seed: int = 0) -> None:
    """Writes a COCO annotation file without pictures, to try loading at any size (train2017: 56,599 and 149,813).

    Args:
        path: The JSON file, replaced if there.
        images: Pictures of 640 x 480 pixels, at least 1.
        persons: Records, each with at least one labelled keypoint and integer coordinates like COCO's; where
            there are as many persons as pictures or more, no picture is without one.
        seed: The seed of everything drawn, not negative.

    Raises:
        ValueError: A number out of range.
        OutputError: The place cannot be written.
    """
    if images < 1 or persons < 0 or seed < 0:
        raise ValueError(f"need images >= 1, persons >= 0 and seed >= 0, got {images}, {persons}, {seed}")
    rng = np.random.default_rng(seed)
    width, height = 640, 480
    extra = rng.integers(0, images, max(persons - images, 0))
    image_ids = 1 + np.sort(np.concatenate([np.arange(min(images, persons)), extra]))
    tall = np.exp(rng.uniform(np.log(32), np.log(height - 2), persons))
    extent = np.stack([np.minimum(tall * rng.uniform(0.3, 0.9, persons), width - 2), tall], 1)
    corner = rng.uniform(0, 1, (persons, 2)) * ((width, height) - extent)
    xy = corner[:, None] + (_STANDING + rng.normal(0, 0.02, (persons, *_STANDING.shape))).clip(0, 1) * extent[:, None]
    flags = rng.choice(3, (persons, COCO.num_keypoints), p=(0.35, 0.1, 0.55))
    flags[np.arange(persons), rng.integers(0, COCO.num_keypoints, persons)] = 2
    keypoints = np.concatenate([xy.astype(np.int64), flags[..., None]], 2) * (flags > 0)[..., None]
    columns = (
        (flags > 0).sum(1),
        (extent.prod(1) * rng.uniform(0.35, 0.65, persons)).round(2),
        keypoints.reshape(persons, -1),
        image_ids,
        np.concatenate([corner, extent], 1).round(2),
        np.arange(1, persons + 1),
    )
    names = ("num_keypoints", "area", "keypoints", "image_id", "bbox", "id")
    fixed = {"segmentation": [], "iscrowd": 0, "category_id": PERSON_CATEGORY}
    rows = zip(*(column.tolist() for column in columns), strict=True)
    annotations = [fixed | dict(zip(names, row, strict=True)) for row in rows]
    records = [_image_record(image_id, width, height) for image_id in range(1, images + 1)]
    arguments = {"version": DRAWING_VERSION, "images": images, "persons": persons, "seed": seed}
    write_json(path, _coco_file(records, annotations, arguments))
