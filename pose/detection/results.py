"""Boxes of many pictures, in COCO's results format."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from pose.datasets.image_names import find_image
from pose.datasets.image_records import ListedImage
from pose.datasets.orientation import ImageNotices, read_annotated
from pose.detection.annotated import read_images
from pose.skeleton import PERSON_CATEGORY

Detector = Callable[[np.ndarray], np.ndarray]


def detect_arrays(
    detector: Detector, images: Iterable[np.ndarray], ids: Sequence[int], category: int = PERSON_CATEGORY
) -> list[dict[str, Any]]:
    """Results of pictures (H, W, 3) uint8 BGR, with the ids and the persons' category given."""
    found: list[dict[str, Any]] = []
    for identity, image in zip(ids, images, strict=True):
        found += records(identity, detector(image), category)
    return found


def records(identity: int, boxes: np.ndarray, category: int = PERSON_CATEGORY) -> list[dict[str, Any]]:
    """The boxes (N, 5) of the picture with an id."""
    return [
        {"image_id": identity, "category_id": category, "bbox": box[:4], "score": box[4]}
        for box in boxes.round(4).tolist()
    ]


def detect_data_set(
    detector: Detector, annotations: str | Path, images: str | Path, category: str | int | None = None
) -> list[dict[str, Any]]:
    """Results of all pictures of a COCO file, in pixels as its annotations count them.

    Args:
        detector: A picture in, boxes out.
        annotations: The file; only its pictures and the persons' category are used.
        images: The folder of the pictures.
        category: The persons' by name or id, which the results get; None for what
            :func:`pose.datasets.categories.person_category` says.

    Raises:
        DataError: The file is not a COCO file, an id is there twice, or a picture is absent, broken or not the one that
            was annotated.
    """
    listed, number = read_images(annotations, category)
    shown = tqdm(listed, unit="picture", leave=False, disable=None)
    return detect_arrays(detector, _pixels(shown, str(images)), [image.id for image in listed], number)


def _pixels(listed: Iterable[ListedImage], root: str) -> Iterator[np.ndarray]:
    """The pictures; those that were turned are told and counted on standard error."""
    notices, tell = ImageNotices(), partial(tqdm.write, file=sys.stderr)
    for image in listed:
        path = find_image(root, image.name)
        pixels, notice, _ = read_annotated(path, image.size)
        if notice:
            notices.add([(notice, path)], tell)
        yield pixels
    notices.tell_counts(tell)
