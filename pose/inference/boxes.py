"""Person boxes as arrays, and where they come from when nothing detects them: a COCO file, or the image itself.

Boxes are (N, 5) float64: x, y, width, height in pixels of the image, and the detector's score.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from pose.errors import DataError
from pose.files import read_json
from pose.geometry import clip_boxes

if TYPE_CHECKING:
    from pose.datasets.image_names import ImageNames

NO_BOXES = np.zeros((0, 5))

DEFAULT_THRESHOLD = 0.5
"""The least score of a detector's box, where nobody chooses another."""

PERSON_CLASS = "person"
"""What a detector looks for, where nobody chooses another class."""


def whole_image(image: np.ndarray) -> np.ndarray:
    """One box around all of an image (H, W, 3), score 1: (1, 5)."""
    return np.array([[0.0, 0.0, image.shape[1], image.shape[0], 1.0]])


def as_boxes(boxes: ArrayLike) -> np.ndarray:
    """Boxes with or without scores as (N, 5) float64; a missing score is 1.

    Args:
        boxes: (N, 4) x, y, width, height in pixels or (N, 5) with the score; an empty list is no box.

    Raises:
        DataError: Another shape, NaN or infinity, or a width or height that is not positive.
    """
    try:
        boxes = np.asarray(boxes, np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"boxes must be numbers, (N, 4) or (N, 5) ({error})") from error
    if not boxes.size:
        return NO_BOXES
    if boxes.ndim != 2 or boxes.shape[1] not in (4, 5):
        raise DataError(f"boxes must be (N, 4) x, y, width, height or (N, 5) with a score, got {boxes.shape}")
    wrong = ~np.isfinite(boxes).all(1) | (boxes[:, 2:4] <= 0).any(1)
    if wrong.any():
        raise DataError(f"the box {boxes[wrong.argmax()].tolist()} has no size; a width and height must be positive")
    return boxes if boxes.shape[1] == 5 else np.concatenate([boxes, np.ones((len(boxes), 1))], axis=1)


def person_boxes(
    corners: np.ndarray, scores: np.ndarray, person: np.ndarray, threshold: float, shape: tuple[int, ...]
) -> np.ndarray:
    """Persons' boxes out of a detector's boxes of all classes.

    Args:
        corners: (N, 4) x1, y1, x2, y2 in pixels.
        scores: (N,).
        person: (N,) bool, which of them are persons.
        threshold: Boxes of a lower score are left out.
        shape: The image's height, width and channels.

    Returns:
        (M, 5) float64 x, y, width, height and score, inside the image, the best score first.
    """
    corners = corners.astype(np.float64).clip(0, (shape[1], shape[0]) * 2)
    size = corners[:, 2:] - corners[:, :2]
    kept = np.flatnonzero(person & (scores >= threshold) & (size > 0).all(axis=1))
    kept = kept[np.argsort(-scores[kept], kind="stable")]
    return np.concatenate([corners[kept, :2], size[kept], scores[kept, None].astype(np.float64)], axis=1)


def touching(boxes: np.ndarray, image: np.ndarray) -> np.ndarray:
    """(N,) bool: which of (N, 5) boxes touch the picture (H, W, 3)."""
    height, width = image.shape[:2]
    return (boxes[:, :2] < (width, height)).all(1) & (boxes[:, :2] + boxes[:, 2:4] > 0).all(1)


def check_inside(boxes: np.ndarray, image: np.ndarray) -> None:
    """Raises DataError for the first of (N, 5) boxes that does not touch the picture (H, W, 3)."""
    height, width = image.shape[:2]
    outside = ~touching(boxes, image)
    if outside.any():
        box = boxes[outside.argmax(), :4].tolist()
        raise DataError(f"the box {box} lies outside the picture of {width} x {height} pixels")


def trailing_number(name: str) -> int | None:
    """The number that a file's stem ends with, COCO's way of naming pictures: 73 for COCO_val2014_000000000073.jpg."""
    found = re.search(r"\d+$", Path(name).stem, flags=re.ASCII)
    return int(found.group()) if found else None


class CocoBoxes:
    """Person boxes of a COCO-format file, by picture or by frame.

    Two kinds are told apart by their content. An annotation file (``images`` and ``annotations``)
    belongs to pictures by ``file_name``, and its boxes are clipped to the picture as in testing; where records
    of several ids name one picture, it has the boxes of all. Of absolute names, which may be of another machine, and
    of names in another case the last part is enough where it is the only such name. A
    results list (``image_id``, ``bbox``, ``score``) belongs to the picture whose file name ends
    with the number ``image_id``. In a video either belongs to the frame of that number, from 0.

    Records are read by the rules of training and testing: category, crowds, ids and boxes. Boxes of no size are left
    out.

    Args:
        path: The file.
        threshold: Boxes of a lower score are left out; annotated ones have the score 1.

    Attributes:
        notices: A line for each rule that changed or left out something, with its count.

    Raises:
        DataError: The file is missing, of neither kind, or holds no box that has a size.
    """

    def __init__(self, path: str | Path, threshold: float = 0.0) -> None:
        self.path = Path(path)
        content = read_json(path, "boxes file")
        self._images: ImageNames | None = None
        self._sizes: dict[int, tuple[int, int]] = {}
        self._id_by_frame: dict[int, int] | None = None
        self.notices: tuple[str, ...] = ()
        self._named: set[int] = set()  # every picture that the file speaks of, whatever the scores
        try:
            if isinstance(content, list):
                self._boxes = self._read_results(content, threshold)
            elif not content:
                raise TypeError("an empty object")
            else:
                self._boxes = self._read_annotations(content)
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(
                f"{path}: needs COCO's annotations (images, annotations) or a results list of image_id, bbox and "
                f"score ({error!r})"
            ) from error
        if not self._boxes:
            self.notices = (*self.notices, f"{path}: holds no box that can be used: nobody is looked for")

    def _read_results(self, records: list[Mapping[str, Any]], threshold: float) -> dict[int, np.ndarray]:
        from pose.datasets.detections import detected_boxes

        found = detected_boxes(records, self.path)
        self._named = {int(record["image_id"]) for record in records}
        kept = found.scores >= threshold
        less = int((~kept).sum())
        told = f"{self.path}: {less:,} boxes score below the box threshold of {threshold:g}: left out"
        self.notices = (*found.notices, told) if less else found.notices
        return _by_image(found.image_ids[kept], np.column_stack([found.boxes, found.scores])[kept])

    def _read_annotations(self, content: Mapping[str, Any]) -> dict[int, np.ndarray]:
        from pose.datasets.annotations import boxes_in
        from pose.datasets.coco import check_tables
        from pose.datasets.detections import DetectedBoxes
        from pose.datasets.image_names import ImageNames
        from pose.datasets.image_records import listed_images

        check_tables(content, self.path)
        self._sizes = {image.id: image.size for image in listed_images(content, self.path)}
        self._named = set(self._sizes)
        self._images = ImageNames(content["images"])
        numbered = ((trailing_number(name), image_id) for name, image_id in self._images.ids.items())
        self._id_by_frame = {number: image_id for number, image_id in numbered if number is not None}
        persons = boxes_in(content, self.path)
        kept = [person for person in persons.records if not person["iscrowd"]]
        owners = np.array([person["image_id"] for person in kept], np.int64)
        boxes = np.array([person["bbox"] for person in kept], np.float64).reshape(-1, 4)
        sizes = np.array([self._sizes[owner] for owner in owners.tolist()], np.int64).reshape(-1, 2)
        known = (sizes > 0).any(1, keepdims=True)
        clipped = np.where(known, clip_boxes(boxes, np.where(known, sizes, 1)), boxes)
        empty: np.ndarray = np.any(clipped[:, 2:] <= 0, 1)
        found = DetectedBoxes(owners, boxes, np.ones(len(boxes)), persons.notices)
        found = found.without(empty, self.path, "has no size inside its picture")
        crowds = len(persons.records) - len(kept)
        told = (f"{self.path}: {crowds:,} crowd regions: left out, they are no person's box",) if crowds else ()
        self.notices = (*found.notices, *told)
        first = [self._images.first.get(owner, owner) for owner in found.image_ids.tolist()]
        return _by_image(np.array(first, np.int64), np.column_stack([clipped[~empty], found.scores]))

    def image_id(self, image: str | Path) -> int | None:
        """The file's id of a picture; None where the file does not speak of it."""
        return trailing_number(str(image)) if self._images is None else self._images.id_of(image)

    def size_of(self, image: str | Path) -> tuple[int, int] | None:
        """Width and height that the file says of a picture, 0, 0 where it does not know; None for a results list."""
        image_id = self.image_id(image)
        return None if image_id is None else self._sizes.get(image_id)

    def of_image(self, image: str | Path) -> np.ndarray:
        """(N, 5) boxes of a picture; none where the file has none for it."""
        return self._of(self.image_id(image))

    def of_frame(self, frame: int) -> np.ndarray:
        """(N, 5) boxes of a video's frame, counted from 0; none where the file has none for it."""
        return self._of(self._frame_id(frame))

    def _of(self, image_id: int | None) -> np.ndarray:
        return NO_BOXES if image_id is None else self._boxes.get(image_id, NO_BOXES)

    def _frame_id(self, frame: int) -> int | None:
        return frame if self._id_by_frame is None else self._id_by_frame.get(frame)

    def check_images(self, images: Sequence[Path], warn: Callable[[str], None]) -> None:
        """Tells how many of these pictures the file does not speak of.

        Raises:
            DataError: It speaks of pictures, but of none of these.
        """
        absent = [image for image in images if self.image_id(image) not in self._named]
        if self._named and len(absent) == len(images):
            called = "" if self._images is None else f", its pictures are called {next(iter(self._images.ids))!r}"
            raise DataError(
                f"{self.path}: no box is on {images[0]}{' or the other pictures' if len(images) > 1 else ''}{called}; "
                "choose the boxes made for these pictures, or their folder"
            )
        if absent:
            warn(
                f"{self.path}: does not speak of {len(absent):,} of {len(images):,} pictures, {absent[0]} among them; "
                "nobody is looked for there"
            )

    def check_frames(self, video: str | Path, count: int) -> None:
        """Raises DataError if the file speaks of frames, but of none of this video's ``count``."""
        if self._named and not any(self._frame_id(frame) in self._named for frame in range(count)):
            raise DataError(
                f"{self.path}: no box is on any of the {count} frames of {video}; image_id must be the frame's number, "
                "counted from 0"
            )


def _by_image(ids: np.ndarray, boxes: np.ndarray) -> dict[int, np.ndarray]:
    """(N, 5) boxes of images (N,) to the boxes of each image, in their order."""
    order = np.argsort(ids, kind="stable")
    unique, starts = np.unique(ids[order], return_index=True)
    return dict(zip(unique.tolist(), np.split(boxes[order], starts[1:]), strict=True)) if len(ids) else {}
