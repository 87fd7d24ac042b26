"""How detectors in ONNX files write their boxes, told by the shapes of the outputs and by the file's metadata.

A layout reads a detector's outputs for one image as corner boxes (N, 4) x1, y1, x2, y2 in pixels of the input, scores
(N,) and class numbers (N,). Which file is which is the table in docs/detector.md; a file of no known layout is refused.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from pose.skeleton import COCO

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]

_COCO_KEYPOINTS = 3 * len(COCO.keypoints)
"""Columns of a keypoint detector of COCO's persons: x, y and visibility of each."""


class UnknownLayoutError(Exception):
    """Why outputs cannot be read; the detector that knows the file's name tells it."""


@dataclass(frozen=True)
class DetectorMetadata:
    """What Ultralytics' exporter writes into a file; empty where another one wrote it.

    Args:
        task: ``detect``, ``pose``, ``segment`` ...
        names: The classes' names by number.
        keypoint_columns: Columns that a row has for keypoints.
        image_size: Width and height of the images that a file of any size was exported for.
    """

    task: str = ""
    names: Mapping[int, str] | None = None
    keypoint_columns: int = 0
    image_size: tuple[int, int] | None = None

    @classmethod
    def read(cls, entries: Mapping[str, str]) -> DetectorMetadata:
        """Reads an ONNX file's metadata; what is written in another way counts as missing."""
        names, shape, size = (_literal(entries.get(key)) for key in ("names", "kpt_shape", "imgsz"))
        if isinstance(names, (list, tuple)):
            names = dict(enumerate(names))
        known = isinstance(names, dict) and bool(names) and all(isinstance(number, int) for number in names)
        return cls(
            entries.get("task", ""),
            {number: str(name) for number, name in names.items()} if known else None,
            int(np.prod(shape)) if _are_two_counts(shape) else 0,
            (size[1], size[0]) if _are_two_counts(size) else None,
        )


def _literal(text: str | None) -> Any:
    try:
        return ast.literal_eval(text) if text else None
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


def _are_two_counts(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 2 and all(type(x) is int and x > 0 for x in value)


@dataclass(frozen=True)
class CenterRows:
    """YOLO's grid: a row is center x, y, width, height, the scores of the classes, and keypoints or mask weights.

    Args:
        classes: The number of classes.
        rows_last: The array is (1, columns, n), else (1, n, columns).
        objectness: A column before the classes' that multiplies them, as up to YOLOv7.
    """

    classes: int
    rows_last: bool = True
    objectness: bool = False
    person: ClassVar[int] = 0
    overlapping: ClassVar[bool] = True
    pixels: ClassVar[str] = "rgb"

    def read(self, outputs: Sequence[np.ndarray]) -> Arrays:
        """(1, columns, n) or (1, n, columns); a row's class is the one of the best score."""
        rows = outputs[0][0].T if self.rows_last else outputs[0][0]
        first = 4 + self.objectness
        scores = rows[:, first : first + self.classes]
        labels = scores.argmax(axis=1)
        best = scores.max(axis=1) * (rows[:, 4] if self.objectness else 1)
        corner = rows[:, :2] - rows[:, 2:4] / 2
        return np.concatenate([corner, corner + rows[:, 2:4]], axis=1), best, labels


@dataclass(frozen=True)
class CornerRows:
    """Chosen boxes: a row is x1, y1, x2, y2, score, class, and keypoints or mask weights; filled up with zeros."""

    classes: int | None = None
    person: ClassVar[int] = 0
    overlapping: ClassVar[bool] = False
    pixels: ClassVar[str] = "rgb"

    def read(self, outputs: Sequence[np.ndarray]) -> Arrays:
        """(1, n, 6 or more)."""
        rows = outputs[0][0]
        return rows[:, :4], rows[:, 4], rows[:, 5].round().astype(np.int64)


@dataclass(frozen=True)
class ScoredBoxes:
    """MMDeploy's chosen boxes: (1, n, 5) x1, y1, x2, y2, score and (1, n) integer classes."""

    classes: int | None = None
    person: ClassVar[int] = 0
    overlapping: ClassVar[bool] = False
    pixels: ClassVar[str] = "rtmdet"

    def read(self, outputs: Sequence[np.ndarray]) -> Arrays:
        """The two in any order."""
        labels, boxes = sorted(outputs, key=lambda array: array.dtype.kind == "f")
        rows = boxes.reshape(-1, 5)
        return rows[:, :4], rows[:, 4], labels.reshape(-1)


@dataclass(frozen=True)
class ThreeLists:
    """Torchvision's chosen boxes: (n, 4) x1, y1, x2, y2, (n,) scores and (n,) integer classes, 0 the background."""

    classes: int | None = None
    person: ClassVar[int] = 1
    overlapping: ClassVar[bool] = False
    pixels: ClassVar[str] = "rgb"

    def read(self, outputs: Sequence[np.ndarray]) -> Arrays:
        """The three in any order, with a batch of one before them or without."""
        labels = next(array for array in outputs if array.dtype.kind in "iu").reshape(-1)
        floats = [array for array in outputs if array.dtype.kind == "f"]
        boxes, scores = sorted(floats, key=lambda array: array.size != 4 * len(labels))
        return boxes.reshape(-1, 4), scores.reshape(-1), labels


Layout = CenterRows | CornerRows | ScoredBoxes | ThreeLists


def tell_layout(
    shapes: Sequence[Sequence[int | None]], integer: Sequence[bool], size: tuple[int, int], metadata: DetectorMetadata
) -> Layout:
    """The layout of a detector's outputs.

    Args:
        shapes: The shape of each output; None where a dimension is not known.
        integer: Whether each holds integers.
        size: Width and height of the input that gave these shapes.
        metadata: The file's metadata.

    Raises:
        UnknownLayoutError: It is none of those that are known.
    """
    if metadata.task not in ("", "detect", "pose", "segment"):
        raise UnknownLayoutError(f"its task is {metadata.task!r}, not detection")
    ranks = [len(shape) for shape in shapes]
    if len(shapes) == 3 and sum(integer) == 1 and max(ranks) in (2, 3) and min(ranks) == max(ranks) - 1:
        return ThreeLists()
    if len(shapes) == 2 and sum(integer) == 1:
        boxes, labels = (shapes[place] for place in np.argsort(integer, kind="stable"))
        if len(boxes) in (2, 3) and boxes[-1] == 5 and len(labels) == len(boxes) - 1:
            return ScoredBoxes()
    masks = 0
    if ranks == [3, 4]:  # rows, and the masks that a segmenting detector weighs
        masks = shapes[1][1] or 0
    elif ranks != [3]:
        raise UnknownLayoutError("")
    return _tell_rows(shapes[0], size, metadata, masks)


def _tell_rows(shape: Sequence[int | None], size: tuple[int, int], metadata: DetectorMetadata, masks: int) -> Layout:
    """The layout of one array of rows, (1, a, b)."""
    _, a, b = shape
    if a is None or b is None:
        raise UnknownLayoutError("")
    names = len(metadata.names) if metadata.names else None
    more = metadata.keypoint_columns + masks
    grid = _grid_rows(size)
    if names is None and not more and (b == 6 + _COCO_KEYPOINTS or a == 5 + _COCO_KEYPOINTS):
        more, names = _COCO_KEYPOINTS, 1
    if b == 6 + more and a not in grid:
        return CornerRows(names)
    if b in grid and not (a in grid and a > b) or a < b and a not in grid:
        layout = CenterRows(a - 4 - more)
    elif a in grid:
        layout = CenterRows(b - 4 - grid[a] - more, rows_last=False, objectness=bool(grid[a]))
        if names is None and b == 85 and not grid[a]:
            raise UnknownLayoutError("YOLOX's boxes before they are decoded; export it with decoding and suppression")
    else:
        raise UnknownLayoutError("")
    if layout.classes < 1 or names not in (None, layout.classes):
        raise UnknownLayoutError(f"{layout.classes} columns for classes" + (f", {names} names" if names else ""))
    return layout


def _grid_rows(size: tuple[int, int]) -> dict[int, int]:
    """How many rows a YOLO grid has for an input: without anchors (0) and with three a cell, and objectness (1)."""
    cells = [-(-size[0] // stride) * -(-size[1] // stride) for stride in (8, 16, 32, 64)]
    levels = (sum(cells[:3]), sum(cells))
    return dict.fromkeys(levels, 0) | {3 * count: 1 for count in levels}
