"""Training pictures put together: several on one canvas, at many scales, so that persons of all sizes are seen.

The data sets show mostly one large person a picture; streets show many small ones. A canvas is a grid of one to nine
cells (after the mosaics of Bochkovskiy, arXiv 2004.10934, 3.3), and each cell a part of a picture at a random scale.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from pose.detection.letterbox import GRAY
from pose.detection.targets import PERSON, UNSURE


@dataclass(frozen=True)
class CanvasSettings:
    """How pictures are put together.

    Args:
        grids: How often a canvas is of 1 x 1, 2 x 2, 3 x 3 ... cells, relative to each other.
        scale: The longest side of a picture over that of its cell: the least and the most.
        aspect: Width and height are scaled apart by a factor up to this.
        kept: A person cut by a cell's border stays a person if this share of the box is left.
        doubtful: Below ``kept`` and above this share nobody knows; below it, background.
        least_side: A box with a shorter side, in canvas pixels, is doubtful.
        gain, contrast: The largest change of a color channel's and of all channels' brightness, as a fraction.
        gray: How often a picture loses its color.
    """

    grids: tuple[float, ...] = (0.4, 0.4, 0.2)
    scale: tuple[float, float] = (0.7, 2.0)
    aspect: float = 1.15
    kept: float = 0.35
    doubtful: float = 0.1
    least_side: float = 4.0
    gain: float = 0.15
    contrast: float = 0.3
    gray: float = 0.05

    def __post_init__(self) -> None:
        if not self.grids or min(self.grids) < 0 or not sum(self.grids) > 0:
            raise ValueError(f"grids must be shares of which one is positive, got {self.grids}")
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"scale must be two positive numbers, the smaller first, got {self.scale}")
        if not self.aspect >= 1:
            raise ValueError(f"aspect must be at least 1, got {self.aspect}")
        if not 0 <= self.least_side < math.inf:
            raise ValueError(f"least_side must be a number of pixels, at least 0, got {self.least_side}")
        for name in ("kept", "doubtful", "gain", "contrast", "gray"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be between 0 and 1, got {getattr(self, name)}")


Take = Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray, np.ndarray]]
"""Draws a picture (h, w, 3) uint8 BGR with its boxes (P, 4), x1, y1, x2, y2, and kinds (P,)."""


def compose(
    take: Take, size: tuple[int, int], settings: CanvasSettings, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A canvas.

    Args:
        take: Where pictures come from.
        size: Width and height of the canvas.
        settings: How the canvas is put together.
        rng: The source of all chance.

    Returns:
        (height, width, 3) uint8 BGR, boxes (P, 4) float32 x1, y1, x2, y2 in its pixels, and their kinds (P,).
    """
    shares = np.array(settings.grids)
    side = 1 + rng.choice(len(shares), p=shares / shares.sum())
    columns, rows = (_cuts(length, side, rng) for length in size)
    canvas = np.full((size[1], size[0], 3), GRAY, np.uint8)
    boxes, kinds = [], []
    for top, bottom in zip(rows[:-1], rows[1:], strict=True):
        for left, right in zip(columns[:-1], columns[1:], strict=True):
            cell = canvas[top:bottom, left:right]
            box, kind = _fill(cell, *take(rng), settings, rng)
            boxes.append(box + np.array([left, top, left, top], np.float32))
            kinds.append(kind)
    return canvas, np.concatenate(boxes), np.concatenate(kinds)


def _cuts(length: int, parts: int, rng: np.random.Generator) -> list[int]:
    """Where a side is cut: parts of random shares, none below half of an equal one."""
    shares = rng.uniform(0.5, 1.5, parts)
    return [0, *(length * np.cumsum(shares) / shares.sum()).round().astype(int).tolist()]


def _fill(
    cell: np.ndarray,
    image: np.ndarray,
    boxes: np.ndarray,
    kinds: np.ndarray,
    settings: CanvasSettings,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Draws a part of a picture into a cell; the boxes there, in the cell's pixels, and their kinds."""
    height, width = cell.shape[:2]
    low, high = np.log(settings.scale)
    factor = max(width, height) * np.exp(rng.uniform(low, high)) / max(image.shape[:2])
    stretch = np.exp(rng.uniform(-1, 1) * np.log(settings.aspect) / 2)
    scale = np.array([factor * stretch, factor / stretch])
    room = np.array([width, height]) - scale * (image.shape[1], image.shape[0])
    offset = np.minimum(room, 0) + rng.uniform(size=2) * np.abs(room)
    if rng.uniform() < 0.5:
        scale[0], offset[0] = -scale[0], width - offset[0]
    shift = offset + 0.5 * scale - 0.5  # a pixel's center is half a pixel from its corner
    affine = np.array([[scale[0], 0, shift[0]], [0, scale[1], shift[1]]])
    if factor < 0.5:
        image, affine = _shrunk(image, affine, factor)
    drawn = cv2.warpAffine(image, affine, (width, height), flags=cv2.INTER_LINEAR, borderValue=(GRAY,) * 3)
    cell[:] = _recolored(drawn, settings, rng)
    placed = boxes * np.tile(scale, 2) + np.tile(offset, 2)
    if scale[0] < 0:
        placed = placed[:, [2, 1, 0, 3]]
    return _cut(placed, kinds, (width, height), settings)


def _shrunk(image: np.ndarray, affine: np.ndarray, factor: float) -> tuple[np.ndarray, np.ndarray]:
    """A picture that is to be shrunk by more than 2, halved by averages first; the map from its pixels."""
    part = 2.0 ** np.ceil(np.log2(factor))
    size = tuple(max(round(side * part), 1) for side in (image.shape[1], image.shape[0]))
    step = np.array([image.shape[1] / size[0], image.shape[0] / size[1]])
    shift = affine[:, 2] + affine[:, :2] @ ((step - 1) / 2)
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.column_stack([affine[:, :2] * step, shift])


def _recolored(image: np.ndarray, settings: CanvasSettings, rng: np.random.Generator) -> np.ndarray:
    """Other brightness of the channels, other contrast; sometimes gray."""
    if rng.uniform() < settings.gray:
        image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    gain = 1 + settings.gain * rng.uniform(-1, 1, 3)
    contrast = 1 + settings.contrast * rng.uniform(-1, 1)
    level = 128 + 128 * settings.contrast * rng.uniform(-1, 1)
    table = (np.arange(256)[:, None] - 128) * contrast * gain + level
    return cv2.LUT(image, table.clip(0, 255).astype(np.uint8)[:, None])


def _cut(
    boxes: np.ndarray, kinds: np.ndarray, size: tuple[int, int], settings: CanvasSettings
) -> tuple[np.ndarray, np.ndarray]:
    """Boxes clipped to a cell, and what they are then."""
    clipped = boxes.clip(0, np.tile(size, 2))
    extent = (clipped[:, 2:] - clipped[:, :2]).clip(0)
    left = extent.prod(1) / np.maximum((boxes[:, 2:] - boxes[:, :2]).prod(1), 1e-9)
    doubtful = (left < settings.kept) | (extent.min(1) < settings.least_side)
    kinds = np.where((kinds == PERSON) & doubtful, UNSURE, kinds)
    seen = (left > settings.doubtful) & (extent > 0).all(1)
    return clipped[seen].astype(np.float32), kinds[seen]
