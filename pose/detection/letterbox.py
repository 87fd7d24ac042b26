"""How a picture becomes boxes: drawn in the network's shape, and boxes brought back. Nothing here needs torch."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from pose.detection.suppression import OVERLAP

GRAY = 114
"""What a canvas is where no picture is."""

SIZE_DIVISOR = 32
"""Input height and width are multiples of it: the coarsest features' stride."""

LONGEST_SIDE = 416
"""No side of the network's input is longer."""

FIGURES_THRESHOLD = 0.01
"""Boxes of a lower score are no part of any figure."""

STRIDE = 8
"""Input pixels per cell of the maps."""


@dataclass(frozen=True)
class TestSettings:
    """How a picture becomes boxes.

    Args:
        input_area: The largest number of pixels of the network's input, whose shape is the picture's.
        threshold: Boxes of a lower score are left out.
        overlap: The worse of two boxes with a larger IoU is left out.

    Raises:
        ValueError: A value is out of range.
    """

    __test__ = False  # not a test class, whatever pytest thinks of its name

    input_area: int = 320 * 256
    threshold: float = 0.3
    overlap: float = OVERLAP

    def __post_init__(self) -> None:
        if self.input_area < SIZE_DIVISOR**2:
            raise ValueError(f"input_area must be at least {SIZE_DIVISOR**2}, got {self.input_area}")
        for name in ("threshold", "overlap"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be between 0 and 1, got {getattr(self, name)}")

    def for_figures(self) -> TestSettings:
        """These with a threshold so low that figures over all scores mean something."""
        return replace(self, threshold=FIGURES_THRESHOLD)


def input_size(width: int, height: int, area: int) -> tuple[int, int]:
    """The network's input for a picture: multiples of 32 within an area in which the picture is drawn largest.

    Of several that draw it equally large, the smallest.
    """
    sides = np.arange(SIZE_DIVISOR, LONGEST_SIDE + 1, SIZE_DIVISOR)
    across, down = (side.ravel() for side in np.meshgrid(sides, sides))
    fits = across * down <= area
    factor = np.minimum(across / width, down / height).round(6)
    best = np.lexsort((across * down, -factor, ~fits))[0]
    return int(across[best]), int(down[best])


def letterbox(image: np.ndarray, area: int) -> tuple[np.ndarray, np.ndarray]:
    """A picture at the top left of a canvas of the network's input size, the rest gray.

    Args:
        image: (H, W, 3) uint8.
        area: See :class:`TestSettings`.

    Returns:
        (h, w, 3) uint8, and by what (2,) the picture's width and height were scaled: a point p of the picture lies at
        p * scale, with the top left pixel's corner at 0.
    """
    height, width = image.shape[:2]
    size = input_size(width, height, area)
    factor = min(size[0] / width, size[1] / height)
    drawn = [min(max(round(side * factor), 1), limit) for side, limit in zip((width, height), size, strict=True)]
    canvas = np.full((size[1], size[0], 3), GRAY, np.uint8)
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    canvas[: drawn[1], : drawn[0]] = cv2.resize(image, drawn, interpolation=how)
    return canvas, np.array(drawn) / (width, height)


def to_image(found: np.ndarray, scale: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Boxes in input pixels to the picture's.

    Args:
        found: (N, 5) x1, y1, x2, y2, score.
        scale: The factors that :func:`letterbox` gave.
        shape: The picture's shape.

    Returns:
        (M, 5) float64 x, y, width, height inside the picture, score; those outside it are left out.
    """
    start, end = (np.clip(side / scale, 0, (shape[1], shape[0])) for side in (found[:, :2], found[:, 2:4]))
    boxes = np.concatenate([start, end - start, found[:, 4:]], 1)
    return boxes[(boxes[:, 2:4] > 0).all(1)]
