"""Augmentation of a crop's pixels: colors, blur and erased patches; geometry stays."""

from __future__ import annotations

import cv2
import numpy as np

from pose.datasets.augment import Augmentation

GRAY = np.array((0.114, 0.587, 0.299))
"""What blue, green and red add to brightness (ITU-R BT.601)."""

MIDDLE = 127.5
"""The gray that a change of contrast leaves as it is."""

MOST_OBLONG = 3.0
"""The longest side of an erased patch over its shortest one."""


def changes_pixels(settings: Augmentation) -> bool:
    """Whether there is anything for :func:`augment_pixels` to do."""
    return any((settings.color_probability, settings.blur_probability, settings.erase_probability))


def augment_pixels(crop: np.ndarray, settings: Augmentation, rng: np.random.Generator) -> None:
    """Changes the pixels of a crop in place.

    Args:
        crop: (H, W, 3) uint8 BGR.
        settings: How likely and how large each change is.
        rng: Source of all random numbers.
    """
    if rng.random() < settings.color_probability:
        brightness, contrast, saturation = 1 + rng.uniform(-1, 1, 3) * (
            settings.brightness,
            settings.contrast,
            settings.saturation,
        )
        cv2.transform(crop, color_matrix(brightness, contrast, saturation), dst=crop)
    if rng.random() < settings.blur_probability:
        cv2.GaussianBlur(crop, (0, 0), settings.blur_sigma * rng.uniform(0.25, 1), dst=crop)
    if rng.random() < settings.erase_probability:
        height, width = crop.shape[:2]
        area = settings.erase_share * rng.uniform(0.1, 1) * height * width
        oblong = MOST_OBLONG ** rng.uniform(-1, 1)
        w, h = min(round(np.sqrt(area * oblong)), width), min(round(np.sqrt(area / oblong)), height)
        x, y = rng.integers(0, width - w + 1), rng.integers(0, height - h + 1)
        crop[y : y + h, x : x + w] = rng.integers(0, 256, 3)


def color_matrix(brightness: float, contrast: float, saturation: float) -> np.ndarray:
    """(3, 4): what ``cv2.transform`` does to BGR; each factor is 1 for no change.

    Saturation moves colors from their gray, contrast then from :data:`MIDDLE`, and brightness multiplies the result.
    """
    linear = contrast * (saturation * np.eye(3) + (1 - saturation) * np.tile(GRAY, (3, 1)))
    offset = np.full((3, 1), (1 - contrast) * MIDDLE)
    return brightness * np.hstack([linear, offset])
