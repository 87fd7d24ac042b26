"""Things and backgrounds: what stands around drawn people, and the textures both are painted with."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np

DIRECTIONS = np.stack([np.cos(np.arange(24) * np.pi / 12), np.sin(np.arange(24) * np.pi / 12)])
SKINS = np.array([(197, 220, 248), (160, 195, 235), (120, 160, 210), (85, 120, 175), (55, 85, 130), (35, 52, 85)])


@cache
def grain() -> np.ndarray:
    """(768, 1024, 3) int16, fixed noise of standard deviation 1 in 1/64, from which pictures cut windows."""
    return (np.random.default_rng(0).standard_normal((768, 1024, 3), np.float32) * 64).astype(np.int16)


def stripes(rng: np.random.Generator, left: int, top: int, width: int, height: int, angle: float) -> np.ndarray:
    """(height, width) uint8 of 0 and 1: stripes, checks or blotches with a random period."""
    kind = rng.integers(3)
    if kind == 2:
        side = int(rng.integers(3, 14))
        cells = rng.integers(0, 2, (height // side + 1, width // side + 1), dtype=np.uint8)
        return cv2.resize(cells, (width, height), interpolation=cv2.INTER_NEAREST)
    period = rng.uniform(4, 18)
    cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    x = (np.arange(left, left + width) / period).astype(np.float32)[None] + 1000
    y = (np.arange(top, top + height) / period).astype(np.float32)[:, None] + 1000
    across = (cosine * x + sine * y).astype(np.int32)
    if kind == 1:
        across += (cosine * y - sine * x).astype(np.int32)
    return (across & 1).astype(np.uint8)


def _random_outline(rng: np.random.Generator, low: float, high: float) -> np.ndarray:
    """(n, 2) float32 points around the origin: a rectangle, an ellipse, a bar or a convex polygon."""
    a, b = rng.uniform(low, high, 2)
    kind = rng.integers(4)
    if kind == 0:
        points = np.array([(-a, -b), (a, -b), (a, b), (-a, b)])
    elif kind == 1:
        points = (DIRECTIONS * [[a], [b]]).T
    elif kind == 2:
        points = (DIRECTIONS * (0.15 * b)).T + np.where(DIRECTIONS[0] > 0, 1.5 * a, -1.5 * a)[:, None] * (1, 0)
    else:
        points = cv2.convexHull(rng.uniform((-a, -b), (a, b), (7, 2)).astype(np.float32))[:, 0]
    angle = rng.uniform(0, np.pi) if kind or rng.random() < 0.3 else 0.0
    cosine, sine = np.cos(angle), np.sin(angle)
    return (points @ [[cosine, sine], [-sine, cosine]]).astype(np.float32)


def muted(rng: np.random.Generator, colors: np.ndarray) -> np.ndarray:
    """(..., 3) colours moved towards gray by a random share, as most things are."""
    gray = colors.mean(-1, keepdims=True)
    return gray + (colors - gray) * rng.uniform(0.15, 1, gray.shape)


def _random_color(rng: np.random.Generator) -> np.ndarray:
    """(3,) BGR; one in five is the colour of some skin, so that skin alone means nothing."""
    if rng.random() < 0.2:
        return SKINS[rng.integers(len(SKINS))] + rng.integers(-20, 20, 3)
    return muted(rng, rng.uniform(0, 256, (1, 3)))[0]


def draw_thing(
    rng: np.random.Generator, canvas: np.ndarray, owner: np.ndarray, low: float, high: float, middle: np.ndarray
) -> None:
    """Draws one thing of ``low`` to ``high`` pixels around ``middle`` and takes its pixels from other owners."""
    height, width = owner.shape
    points = _random_outline(rng, low, high) + middle.astype(np.float32)
    left, top, w, h = cv2.boundingRect(points)
    right, bottom = min(left + w, width), min(top + h, height)
    left, top = max(left, 0), max(top, 0)
    if left >= right or top >= bottom:
        return
    points = np.round((points - (left, top)) * 16).astype(np.int32)
    mask = np.zeros((bottom - top, right - left), np.uint8)
    cv2.fillConvexPoly(mask, points, 1, shift=4)
    if rng.random() < 0.4:
        mask *= 1 + stripes(rng, left, top, right - left, bottom - top, rng.uniform(0, np.pi))
    colors = np.clip([_random_color(rng), _random_color(rng)], 0, 255)
    for value, color in enumerate(colors, 1):
        canvas[top:bottom, left:right][mask == value] = color
    owner[top:bottom, left:right][mask > 0] = 0


def draw_background(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """(height, width, 3) uint8: soft colours, often a floor, clutter."""
    base, spread, tint = rng.uniform(40, 215), rng.uniform(3, 30), rng.uniform(0, 22)
    soft = np.zeros((height, width, 3), np.int16)
    for finer, share in ((1, 1.0), (6, rng.uniform(0, 0.5))):
        shape = (*(finer * rng.integers(2, 9, 2)), 1)
        cells = rng.normal(0, share * spread, shape) + rng.normal(0, share * tint, (*shape[:2], 3))
        soft += cv2.resize(cells.astype(np.int16), (width, height), interpolation=cv2.INTER_LINEAR).astype(np.int16)
    tinted = cv2.add(soft, base + rng.normal(0, tint, 3))
    canvas: np.ndarray = cv2.convertScaleAbs(np.maximum(tinted, 0))
    unowned = np.zeros((height, width), np.uint8)
    if rng.random() < 0.5:
        horizon = int(height * rng.uniform(0.35, 0.85))
        floor = (rng.uniform(50, 200) + rng.normal(0, 25, 3)).clip(0, 255)
        canvas[horizon:] = canvas[horizon:] // 3 + (floor * 0.66).astype(np.uint8)
    if rng.random() < 0.3:
        wall = stripes(rng, 0, 0, width, height, rng.choice((0.0, np.pi / 2, rng.uniform(0, np.pi))))
        canvas = cv2.add(canvas, cv2.cvtColor(wall * int(rng.integers(6, 30)), cv2.COLOR_GRAY2BGR))
    for _ in range(rng.integers(0, 8)):
        draw_thing(rng, canvas, unowned, 0.015 * width, 0.16 * width, rng.uniform((0, 0), (width, height)))
    return canvas
