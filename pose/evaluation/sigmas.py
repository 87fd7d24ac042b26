"""OKS sigmas from repeated annotations, as COCO's were made from 5,000 of its pictures.

sigma_k^2 = E[d_k^2 / s^2]: d is how far an annotator puts keypoint k from its place, s^2 the person's area
(cocodataset.org/#keypoints-eval, section 1.2).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pose.errors import DataError
from pose.evaluation.matching import Truth
from pose.geometry import box_iou

SAME_PERSON = 0.5
"""Boxes of this intersection over union, on the same image, are of the same person."""

FEW = 30
"""Below this many repeated labels a sigma says little."""


def gather_repeats(truths: Sequence[Truth]) -> tuple[np.ndarray, np.ndarray]:
    """The same persons in several annotators' files.

    Args:
        truths: R of them; persons of the others go to the first's by the best overlap of boxes.

    Returns:
        keypoints (R, P, K, 3) of the first file's P counted persons, visibility 0 where another has no such
        person, and areas (P,) pixels^2, the mean of those who have.
    """
    first = truths[0]
    persons = np.flatnonzero(first.counts)
    keypoints = np.zeros((len(truths), len(persons), *first.keypoints.shape[1:]))
    keypoints[0] = first.keypoints[persons]
    total, seen = first.areas[persons].copy(), np.ones(len(persons))
    for number, other in enumerate(truths[1:], start=1):
        for image in np.intersect1d(first.image_ids[persons], other.image_ids[other.counts]):
            mine = np.flatnonzero(first.image_ids[persons] == image)
            theirs = np.flatnonzero((other.image_ids == image) & other.counts)
            overlap = box_iou(first.boxes[persons[mine], None], other.boxes[None, theirs])
            while overlap.max(initial=0) >= SAME_PERSON:
                a, b = np.unravel_index(overlap.argmax(), overlap.shape)
                keypoints[number, mine[a]] = other.keypoints[theirs[b]]
                total[mine[a]] += other.areas[theirs[b]]
                seen[mine[a]] += 1
                overlap[a], overlap[:, b] = 0, 0
    return keypoints, total / seen


def estimate_sigmas(keypoints: np.ndarray, areas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sigmas in units of sqrt(area).

    The place of a keypoint is the mean of its labels, and a sum of squares over n of them counts n - 1
    times, since that mean follows them.

    Args:
        keypoints: (R, P, K, 3) of P persons in R files.
        areas: (P,) pixels^2.

    Returns:
        sigmas (K,) and the number (K,) of keypoints that two or more labelled.

    Raises:
        DataError: A keypoint that nobody labelled twice, or always at the very same place.
    """
    labeled = keypoints[..., 2] > 0
    times = labeled.sum(axis=0)
    repeated = times >= 2
    weights = (labeled & repeated)[..., None]
    mean = (keypoints[..., :2] * weights).sum(axis=0) / np.maximum(times, 1)[..., None]
    squares = (np.square(keypoints[..., :2] - mean) * weights).sum(axis=(0, 3)) / areas[:, None]
    sigmas = np.sqrt(squares.sum(axis=0) / np.maximum(((times - 1) * repeated).sum(axis=0), 1))
    counts = repeated.sum(axis=0)
    if not (sigmas > 0).all():
        keypoint = int(np.argmin(sigmas > 0))
        why = "labelled twice nowhere" if not counts[keypoint] else "always labelled at the very same place"
        raise DataError(f"keypoint {keypoint} is {why}: the files must be independent annotations of the same persons")
    return sigmas, counts
