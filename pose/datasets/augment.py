"""Augmentation of a crop: half body, scale, rotation, flip, in this order.

Sources: docs/protocol.md#half-body, docs/protocol.md#random-scale, docs/protocol.md#random-rotation and
docs/protocol.md#random-flip.

Pure functions of a random generator. They only choose the crop: centre, scale, rotation and flip go
into one affine, so that a picture is resampled once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pose.geometry import boxes_to_centers_scales

HALF_BODY_PADDING = 1.5


class Crop(NamedTuple):
    """Where a crop lies: ``center`` (2,) and ``scale`` (2,) in picture pixels, degrees, mirrored or not."""

    center: np.ndarray
    scale: np.ndarray
    rotation: float = 0.0
    flip: bool = False


@dataclass(frozen=True)
class Augmentation:
    """How crops vary in training; the defaults are those of docs/protocol.md#augmentation.

    Args:
        half_body_probability: Chance of a half-body crop for a person with enough labelled keypoints.
        half_body_above: It needs more labelled keypoints than this.
        half_body_upper_probability: Chance of the upper half where both halves have enough keypoints;
            HRNet's ``randn() < 0.5`` is 0.691.
        scale_std: The scale is multiplied by clip(N(1, std), 1 - std, 1 + std).
        rotation_probability: Chance of a rotation.
        rotation_degrees: Its range, see ``rotation_distribution``.
        rotation_distribution: ``hrnet``: clip(N(0, degrees), -2 degrees, 2 degrees). ``uniform``:
            U(-degrees, degrees), as the dynamic-convolution paper words it.
        flip_probability: Chance of a mirrored crop.
        color_probability: Chance of other colors, see :mod:`pose.datasets.pixels`; the protocol has none of the
            following changes.
        brightness, contrast, saturation: Each is multiplied by U(1 - value, 1 + value) then.
        blur_probability: Chance of a Gaussian blur.
        blur_sigma: Its largest standard deviation, in pixels of the crop; the smallest is a quarter of it.
        erase_probability: Chance that a patch of one random color covers part of the crop (arXiv 1708.04896); what
            is behind it stays labelled.
        erase_share: The patch's largest share of the crop's area; the smallest is a tenth of it.

    Raises:
        ValueError: A probability is outside [0, 1] or a value cannot be.
    """

    half_body_probability: float = 0.3
    half_body_above: int = 8
    half_body_upper_probability: float = 0.691
    scale_std: float = 0.35
    rotation_probability: float = 0.6
    rotation_degrees: float = 45.0
    rotation_distribution: str = "hrnet"
    flip_probability: float = 0.5
    color_probability: float = 0.0
    brightness: float = 0.3
    contrast: float = 0.3
    saturation: float = 0.3
    blur_probability: float = 0.0
    blur_sigma: float = 2.0
    erase_probability: float = 0.0
    erase_share: float = 0.2

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name.endswith("probability") and not 0 <= value <= 1:
                raise ValueError(f"{name} must be between 0 and 1, got {value}")
        if not 0 <= self.rotation_degrees <= 180:
            raise ValueError(f"rotation_degrees must be from 0 to 180, got {self.rotation_degrees}")
        if not self.half_body_above >= 0:
            raise ValueError(f"half_body_above must not be negative, got {self.half_body_above}")
        for name in ("scale_std", "brightness", "contrast", "saturation"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 0 and below 1, got {getattr(self, name)}")
        if not 0 < self.blur_sigma < math.inf:
            raise ValueError(f"blur_sigma must be positive and finite, got {self.blur_sigma}")
        if not 0 < self.erase_share <= 1:
            raise ValueError(f"erase_share must be above 0 and at most 1, got {self.erase_share}")
        if self.rotation_distribution not in ("hrnet", "uniform"):
            raise ValueError(f"rotation_distribution must be hrnet or uniform, got {self.rotation_distribution!r}")


def half_body(
    points: np.ndarray, upper: np.ndarray, aspect_ratio: float, upper_probability: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray] | None:
    """Centre and scale of a crop around the upper or the lower body.

    The chosen half needs more than two keypoints, else the other is taken.

    Args:
        points: (P, 2) labelled keypoints in picture pixels.
        upper: (P,) bool, which of them belong to the upper body.
        aspect_ratio: Width over height of the crop.
        upper_probability: Chance of the upper half.
        rng: Source of the one random number that is drawn.

    Returns:
        center (2,) and scale (2,), or None where neither half spans a crop.
    """
    prefer_upper = rng.random() < upper_probability
    halves = [points[upper], points[~upper]] if prefer_upper else [points[~upper], points[upper]]
    chosen = halves[0] if len(halves[0]) > 2 else halves[1]
    if len(chosen) < 2:
        return None
    low, extent = chosen.min(axis=0), np.ptp(chosen, axis=0)
    if not extent.any():
        return None
    _, scale = boxes_to_centers_scales(np.concatenate([low, extent]), aspect_ratio, HALF_BODY_PADDING)
    return chosen.mean(axis=0, dtype=np.float64), scale


def random_scale(std: float, rng: np.random.Generator) -> float:
    """A factor, clip(N(1, std), 1 - std, 1 + std)."""
    return float(np.clip(1 + std * rng.standard_normal(), 1 - std, 1 + std))


def random_rotation(probability: float, degrees: float, distribution: str, rng: np.random.Generator) -> float:
    """Degrees; 0 with chance 1 - probability. See :class:`Augmentation` for the distributions."""
    if rng.random() >= probability:
        return 0.0
    if distribution == "uniform":
        return float(rng.uniform(-degrees, degrees))
    return float(np.clip(degrees * rng.standard_normal(), -2 * degrees, 2 * degrees))


def augment(
    plain: Crop,
    keypoints: np.ndarray,
    upper_body: np.ndarray,
    aspect_ratio: float,
    settings: Augmentation,
    rng: np.random.Generator,
) -> Crop:
    """The crop of one training sample.

    Args:
        plain: The crop of the person's box.
        keypoints: (K, 3) with COCO's visibility.
        upper_body: (K,) bool; all False switches half-body crops off.
        aspect_ratio: Width over height of the crop.
        settings: What may happen.
        rng: Source of all random numbers.
    """
    center, scale = plain.center, plain.scale
    labeled = keypoints[:, 2] > 0
    if upper_body.any() and labeled.sum() > settings.half_body_above and rng.random() < settings.half_body_probability:
        half = half_body(
            keypoints[labeled, :2], upper_body[labeled], aspect_ratio, settings.half_body_upper_probability, rng
        )
        center, scale = half if half is not None else (center, scale)
    scale = scale * random_scale(settings.scale_std, rng)
    rotation = random_rotation(
        settings.rotation_probability, settings.rotation_degrees, settings.rotation_distribution, rng
    )
    return Crop(center, scale, rotation, rng.random() < settings.flip_probability)
