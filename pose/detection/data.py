"""A training's pictures: read, decoded once, and parted into those to learn from and those held out."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pose.detection.image_cache import ImageCache, open_image_cache
from pose.detection.labels import LabeledImages, read_sources
from pose.detection.settings import DataSettings
from pose.detection.targets import PERSON
from pose.errors import DataError
from pose.skeleton import PERSON_CATEGORY


@dataclass(frozen=True)
class TrainingData:
    """The pictures of a training.

    Attributes:
        images: The pictures' files and boxes.
        cache: The pictures' pixels.
        train_rows, held_out_rows: The pictures that are learned from, and those held out.
        broken: What is wrong with pictures that cannot be read; none of the rows is one of them.
    """

    images: LabeledImages
    cache: ImageCache
    train_rows: np.ndarray
    held_out_rows: np.ndarray
    broken: list[str]

    def truth(self, rows: np.ndarray) -> dict[str, Any]:
        """The boxes on some pictures as a COCO file's contents, in pixels of the cache; image ids are rows.

        What is no person for certain is a crowd: boxes there do not count.
        """
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for row in rows.tolist():
            image, scale = self.cache[row]
            images.append({"id": row, "width": image.shape[1], "height": image.shape[0]})
            corners = self.images.boxes[row] * np.tile(scale, 2)
            for (x1, y1, x2, y2), kind in zip(corners.tolist(), self.images.kinds[row].tolist(), strict=True):
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": row,
                        "category_id": PERSON_CATEGORY,
                        "bbox": [x1, y1, x2 - x1, y2 - y1],
                        "area": (x2 - x1) * (y2 - y1),
                        "iscrowd": int(kind != PERSON),
                    }
                )
        return {"images": images, "annotations": annotations}


def open_training_data(settings: DataSettings) -> TrainingData:
    """Reads labels and opens the cache, which the first time decodes every picture.

    Raises:
        DataError: A file is missing or not of its format, or there is no usable picture to learn from or to hold out.
        OptionError: ``sources`` is wrong.
        OutputError: The cache cannot be written.
    """
    images = read_sources(settings.make_sources(), settings.root, settings.category)
    cache, broken = open_image_cache(settings.cache, images.paths, settings.longest_side, images.sizes)
    rows = np.arange(len(images))
    if settings.held_out_by == "name":
        held_out = np.array([is_held_out(path, settings.root, settings.held_out) for path in images.paths], bool)
    else:
        held_out = rows % settings.held_out == settings.held_out - 1
    learned, held = rows[~held_out & cache.usable], rows[held_out & cache.usable]
    if not len(learned) or not len(held):
        raise DataError(
            f"{settings.root}: {len(learned)} usable pictures to learn from and {len(held)} held out of {len(images)}, "
            f"and both are needed; data.held_out={settings.held_out} holds out one in about so many: "
            "change it, or give more"
        )
    return TrainingData(images, cache, learned, held, broken)


def is_held_out(path: str, root: str, one_in: int) -> bool:
    """Whether a picture is held out, by where it lies below the data's folder alone.

    So it stays on its side when other pictures come or go, and where several data sets name it.

    Args:
        path: The picture's file.
        root: The folder of all data sets.
        one_in: About one in so many is held out.
    """
    name = Path(os.path.relpath(path, root)).as_posix().encode(errors="surrogateescape")
    return int.from_bytes(hashlib.sha256(name).digest()[:8], "big") % one_in == 0
