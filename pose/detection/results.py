"""Boxes of many pictures, in COCO's results format."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from pose.datasets.orientation import read_named, size_of
from pose.errors import DataError
from pose.files import read_json
from pose.skeleton import PERSON_CATEGORY

Detector = Callable[[np.ndarray], np.ndarray]


def detect_arrays(detector: Detector, images: Iterable[np.ndarray], ids: Sequence[int]) -> list[dict[str, Any]]:
    """Results of pictures (H, W, 3) uint8 BGR, with the ids given."""
    found: list[dict[str, Any]] = []
    for identity, image in zip(ids, images, strict=True):
        found += records(identity, detector(image))
    return found


def records(identity: int, boxes: np.ndarray) -> list[dict[str, Any]]:
    """The boxes (N, 5) of the picture with an id."""
    return [
        {"image_id": identity, "category_id": PERSON_CATEGORY, "bbox": box[:4], "score": box[4]}
        for box in boxes.round(4).tolist()
    ]


def detect_data_set(detector: Detector, annotations: str | Path, images: str | Path) -> list[dict[str, Any]]:
    """Results of all pictures of a COCO file.

    Args:
        detector: A picture in, boxes out.
        annotations: The file; only its list of pictures is used.
        images: The folder of the pictures.

    Raises:
        DataError: The file is not a COCO file, or a picture is absent or broken.
    """
    try:
        records = read_json(annotations, "annotation file")["images"]
        table = [(image["id"], (image["file_name"], size_of(image))) for image in records]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{annotations}: not a COCO annotation file ({error!r})") from error
    ids, files = zip(*table, strict=True) if table else ((), ())
    shown = tqdm(files, unit="picture", leave=False, disable=None)
    arrays = (read_named(images, *file).image for file in shown)
    return detect_arrays(detector, arrays, ids)
