"""Differences between networks, and how sure they are: over seeds, and over the pictures they were tested on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

LEVEL = 0.95
"""The level of every confidence interval here."""


class Interval(NamedTuple):
    """A mean and its confidence interval; ``low`` and ``high`` are NaN where one value says nothing of the spread."""

    mean: float
    low: float
    high: float


def over_seeds(differences: Sequence[float]) -> Interval:
    """Student's t interval of the mean of paired differences, one a seed.

    It says how a difference would vary with other initializations and orders of the data, not with other pictures.
    Needs scipy.

    Args:
        differences: (S,) of the two networks trained with the same seed.

    Raises:
        ValueError: There is none.
    """
    from scipy import stats  # costs most of a second to import

    values = np.asarray(differences, np.float64)
    if not len(values):
        raise ValueError("no differences to average")
    mean = float(values.mean())
    if len(values) < 2:
        return Interval(mean, float("nan"), float("nan"))
    half = stats.t.ppf((1 + LEVEL) / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return Interval(mean, float(mean - half), float(mean + half))


def over_images(correct: np.ndarray, other: np.ndarray, image_ids: np.ndarray, resamples: int = 2000) -> Interval:
    """Percentile bootstrap over pictures of the difference in the mean share of correct keypoints.

    It says how the difference would vary with other test pictures, the trained networks staying what they are. Whole
    pictures are drawn, since persons on one picture are hard or easy together.

    Args:
        correct: (S, N, K) of S seeds: 1 where a keypoint is correct, 0 where it is not, NaN where none is labelled.
        other: The same persons by the network that is subtracted.
        image_ids: (N,) the persons' pictures.
        resamples: Draws of as many pictures.

    Raises:
        ValueError: The shapes differ or there is no person.
    """
    shares = _share_gains(correct, other, image_ids, resamples)
    return of_draws(np.nanmean(shares, axis=1))


def each_over_images(
    correct: np.ndarray, other: np.ndarray, image_ids: np.ndarray, resamples: int = 2000
) -> tuple[Interval, ...]:
    """:func:`over_images` for each of K keypoints by itself; NaN for one that is nowhere labelled."""
    shares = _share_gains(correct, other, image_ids, resamples)
    return tuple(of_draws(column) for column in shares.T)


def image_draws(images: int, resamples: int) -> np.ndarray:
    """(R + 1, P): how often each of P pictures is in each of R draws of P; row 0 is the pictures themselves."""
    draws = np.random.default_rng(0).multinomial(images, np.full(images, 1 / images), resamples)
    return np.concatenate([np.ones((1, images), draws.dtype), draws])


def of_draws(values: np.ndarray) -> Interval:
    """The percentile interval of (R + 1,) figures, the first of which is that of the pictures themselves."""
    if np.isnan(values[0]):
        return Interval(float("nan"), float("nan"), float("nan"))
    low, high = np.nanquantile(values[1:], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(values[0]), float(low), float(high))


def _share_gains(correct: np.ndarray, other: np.ndarray, image_ids: np.ndarray, resamples: int) -> np.ndarray:
    """(R + 1, K): how much larger each keypoint's share of correct ones is in each of :func:`image_draws`."""
    if correct.shape != other.shape or correct.size == 0:
        raise ValueError(f"needs the same persons of both networks, got shapes {correct.shape} and {other.shape}")
    gain = np.nan_to_num(correct - other).mean(axis=0)  # (N, K), averaged over the seeds
    images, rows = np.unique(image_ids, return_inverse=True)
    gains, labeled = np.zeros((2, len(images), gain.shape[1]))
    np.add.at(gains, rows, gain)
    np.add.at(labeled, rows, ~np.isnan(correct[0]))
    draws = image_draws(len(images), resamples)
    counts = draws @ labeled
    return (draws @ gains) / np.where(counts > 0, counts, np.nan)
