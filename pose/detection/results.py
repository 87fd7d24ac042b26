"""Boxes of many pictures, in COCO's results format."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from pose.datasets.image_names import find_image
from pose.datasets.image_records import ListedImage
from pose.datasets.orientation import ImageNotices, read_annotated
from pose.detection.annotated import read_images
from pose.errors import DataError
from pose.skeleton import PERSON_CATEGORY

Detector = Callable[[np.ndarray], np.ndarray]


def detect_arrays(
    detector: Detector, pictures: Iterable[tuple[int, np.ndarray]], category: int = PERSON_CATEGORY
) -> list[dict[str, Any]]:
    """Results of ids and pictures (H, W, 3) uint8 BGR, with the persons' category given."""
    found: list[dict[str, Any]] = []
    for identity, image in pictures:
        found += records(identity, detector(image), category)
    return found


def records(identity: int, boxes: np.ndarray, category: int = PERSON_CATEGORY) -> list[dict[str, Any]]:
    """The boxes (N, 5) of the picture with an id."""
    return [
        {"image_id": identity, "category_id": category, "bbox": box[:4], "score": box[4]}
        for box in boxes.round(4).tolist()
    ]


def detect_data_set(
    detector: Detector,
    annotations: str | Path,
    images: str | Path,
    category: str | int | None = None,
    skip: Callable[[DataError], None] | None = None,
) -> list[dict[str, Any]]:
    """Results of all pictures of a COCO file, in pixels as its annotations count them.

    Args:
        detector: A picture in, boxes out.
        annotations: The file; only its pictures and the persons' category are used.
        images: The folder of the pictures.
        category: The persons' by name or id, which the results get; None for what
            :func:`pose.datasets.categories.person_category` says.
        skip: Takes what is wrong with a picture that is absent, broken or not the one that was annotated, which is left
            out then; None raises it.

    Raises:
        DataError: The file is not a COCO file, an id is there twice, there is no such folder, a picture cannot be used
            and none may be skipped, or none can be used.
    """
    listed, number = read_images(annotations, category)
    if not Path(images).is_dir():
        raise DataError(f"{images}: picture folder not found; name the one that the pictures of {annotations} are in")
    shown = tqdm(listed, unit="picture", leave=False, disable=None)
    return detect_arrays(detector, _pixels(shown, str(images), skip), number)


def _pixels(
    listed: Iterable[ListedImage], root: str, skip: Callable[[DataError], None] | None
) -> Iterator[tuple[int, np.ndarray]]:
    """Ids and pictures, see :func:`detect_data_set`; those that were turned are told and counted on standard error."""
    notices, tell = ImageNotices(), partial(tqdm.write, file=sys.stderr)
    usable, first = 0, None
    for image in listed:
        path = find_image(root, image.name)
        try:
            pixels, notice, _ = read_annotated(path, image.size)
        except DataError as error:
            if skip is None:
                raise
            first = first or error
            skip(error)
            continue
        if notice:
            notices.add([(notice, path)], tell)
        usable += 1
        yield image.id, pixels
    notices.tell_counts(tell)
    if first and not usable:
        raise DataError(f"{root}: none of the pictures can be used, the first: {first}")
