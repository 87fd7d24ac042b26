"""Object keypoint similarity (OKS), suppression of duplicate persons and rescoring: pure functions on arrays.

The forms are HRNet's (lib/nms/nms.py and lib/dataset/coco.py of leoxiaobin/deep-high-resolution-net.pytorch),
which every published top-down figure on COCO was made with: all keypoints count, whether labelled,
confident or not, and the area of a person is that of its padded crop.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

RESCORE_THRESHOLD = 0.2
"""Joint scores above it count in a person's score (docs/protocol.md#rescore)."""

NMS_THRESHOLD = 0.9
"""OKS above which a person is taken for one found twice (docs/protocol.md#oks-nms)."""

NMS_METHODS = ("greedy", "soft", "off")

SOFT_MAX_PERSONS = 20
"""Persons that soft suppression keeps in one image: COCO's maxDets for keypoints."""


def oks(
    keypoints: ArrayLike, others: ArrayLike, areas: ArrayLike, other_areas: ArrayLike, sigmas: ArrayLike
) -> np.ndarray:
    """Object keypoint similarity of every person with every other, mean over keypoints of exp(-e).

    e = d^2 / (2 sigma)^2 / (mean of the two areas + spacing(1)) / 2, with d the distance in pixels.

    Args:
        keypoints: (N, K, 2 or 3) x, y in pixels; a third column is not used.
        others: (M, K, 2 or 3), likewise.
        areas: (N,) pixels^2, or one number for all.
        other_areas: (M,) pixels^2, or one number for all.
        sigmas: (K,) the per-keypoint standard deviations in units of sqrt(area).

    Returns:
        (N, M) float64 in [0, 1].

    Raises:
        ValueError: The shapes do not fit together.
    """
    ours, sigmas = _points(keypoints, sigmas)
    theirs, _ = _points(others, sigmas)
    ours_area = np.broadcast_to(np.asarray(areas, np.float64), len(ours))
    theirs_area = np.broadcast_to(np.asarray(other_areas, np.float64), len(theirs))
    return _similarity(ours[:, None], theirs[None], ours_area[:, None], theirs_area[None], sigmas)


def rescore(box_scores: ArrayLike, joint_scores: ArrayLike, threshold: float = RESCORE_THRESHOLD) -> np.ndarray:
    """Person scores: box score x mean of the joint scores above the threshold (docs/protocol.md#rescore).

    Args:
        box_scores: (N,) the detector's scores, 1 for annotated boxes.
        joint_scores: (N, K) heatmap maxima.
        threshold: Joints at or below it do not count.

    Returns:
        (N,) float64; 0 for a person with no joint above the threshold.
    """
    joint_scores = np.asarray(joint_scores, np.float64)
    counts = joint_scores > threshold
    total = np.where(counts, joint_scores, 0.0).sum(axis=-1)
    return np.asarray(box_scores, np.float64) * total / np.maximum(counts.sum(axis=-1), 1)


def oks_nms(
    keypoints: ArrayLike, scores: ArrayLike, areas: ArrayLike, sigmas: ArrayLike, threshold: float = NMS_THRESHOLD
) -> np.ndarray:
    """Greedy suppression within one image: drop each person whose OKS with a better kept one is > threshold.

    Args:
        keypoints: (N, K, 2 or 3) x, y in pixels.
        scores: (N,) person scores; of equal ones the first goes first.
        areas: (N,) pixels^2 of the padded crops.
        sigmas: (K,).
        threshold: An OKS of exactly the threshold stays.

    Returns:
        (kept,) int64 indices, best score first.

    Raises:
        ValueError: The shapes do not fit together.
    """
    return _suppress(np.zeros(len(np.asarray(scores)), np.int64), keypoints, scores, areas, sigmas, threshold, False)


def soft_oks_nms(
    keypoints: ArrayLike, scores: ArrayLike, areas: ArrayLike, sigmas: ArrayLike, threshold: float = NMS_THRESHOLD
) -> np.ndarray:
    """Soft suppression within one image: take the best, decay the rest by exp(-OKS^2 / threshold), repeat.

    Persons keep their own scores, as in HRNet; the decay only decides which
    :data:`SOFT_MAX_PERSONS` are kept. Arguments and exceptions are those of :func:`oks_nms`.

    Returns:
        (kept,) int64 indices in the order in which they were taken.
    """
    return _suppress(np.zeros(len(np.asarray(scores)), np.int64), keypoints, scores, areas, sigmas, threshold, True)


def nms_per_image(
    image_ids: ArrayLike,
    keypoints: ArrayLike,
    scores: ArrayLike,
    areas: ArrayLike,
    sigmas: ArrayLike,
    threshold: float = NMS_THRESHOLD,
    method: str = "greedy",
) -> np.ndarray:
    """OKS suppression within each image of a whole data set at once (docs/protocol.md#oks-nms).

    Args:
        image_ids: (N,) integers, in any order.
        keypoints: (N, K, 2 or 3) x, y in pixels.
        scores: (N,) person scores, after rescoring.
        areas: (N,) pixels^2 of the padded crops.
        sigmas: (K,).
        threshold: OKS above which greedy drops a person; the width of soft's decay.
        method: ``greedy`` (:func:`oks_nms`), ``soft`` (:func:`soft_oks_nms`) or ``off``.

    Returns:
        (kept,) int64 indices in ascending order.

    Raises:
        ValueError: An unknown method, or the shapes do not fit together.
    """
    if method not in NMS_METHODS:
        raise ValueError(f"nms must be one of {', '.join(NMS_METHODS)}, got {method!r}")
    if method == "off":
        return np.arange(len(np.asarray(scores)))
    return np.sort(_suppress(image_ids, keypoints, scores, areas, sigmas, threshold, method == "soft"))


def _suppress(
    image_ids: ArrayLike,
    keypoints: ArrayLike,
    scores: ArrayLike,
    areas: ArrayLike,
    sigmas: ArrayLike,
    threshold: float,
    soft: bool,
) -> np.ndarray:
    """Indices kept, in rounds: each round takes the best remaining person of every image at the same time."""
    points, sigmas = _points(keypoints, sigmas)
    image_ids, scores = np.asarray(image_ids), np.array(scores, np.float64)
    areas = np.broadcast_to(np.asarray(areas, np.float64), len(points))
    if not image_ids.shape == scores.shape == (len(points),):
        raise ValueError(f"{len(points)} persons, but {image_ids.shape} image ids and {scores.shape} scores")
    left = np.lexsort((-scores, image_ids))  # by image, best first; stable, so the first of equals goes first
    kept: list[np.ndarray] = []
    while left.size and not (soft and len(kept) == SOFT_MAX_PERSONS):
        first = np.concatenate(([True], image_ids[left[1:]] != image_ids[left[:-1]]))
        best, rest = left[first], left[~first]
        kept.append(best)
        taken = best[np.cumsum(first)[~first] - 1]  # for each of the rest, the person just taken in its image
        if soft:
            overlap = _similarity(points[rest], points[taken], areas[rest], areas[taken], sigmas)
            scores[rest] *= np.exp(-(overlap**2) / threshold)
            left = rest[np.lexsort((-scores[rest], image_ids[rest]))]
        else:
            left = rest[~_overlapping(points, areas, rest, taken, sigmas, threshold)]
    return np.concatenate(kept) if kept else np.zeros(0, np.int64)


def _overlapping(
    points: np.ndarray, areas: np.ndarray, ours: np.ndarray, theirs: np.ndarray, sigmas: np.ndarray, threshold: float
) -> np.ndarray:
    """(P,) bool: whether the OKS of persons ours (P,) with persons theirs (P,) is above the threshold.

    Most pairs are so far apart in the first few keypoints that perfect others could not make up for it.
    """
    count = len(sigmas)
    few = min(count, int(count * max(0.0, 1 - threshold)) + 2)
    first = _similarity(points[ours, :few], points[theirs, :few], areas[ours], areas[theirs], sigmas[:few])
    above = first * few + count - few > threshold * count - 1e-9
    ours, theirs = ours[above], theirs[above]
    above[above] = _similarity(points[ours], points[theirs], areas[ours], areas[theirs], sigmas) > threshold
    return above


def _similarity(
    ours: np.ndarray, theirs: np.ndarray, ours_area: np.ndarray, theirs_area: np.ndarray, sigmas: np.ndarray
) -> np.ndarray:
    """Mean over keypoints of their similarities, (...) from points (..., K, 2) and areas (...), broadcast together."""
    return keypoint_similarity(ours, theirs, (ours_area + theirs_area) / 2, sigmas).mean(axis=-1)


def keypoint_similarity(points: np.ndarray, others: np.ndarray, areas: np.ndarray, sigmas: np.ndarray) -> np.ndarray:
    """Similarity of single keypoints: exp(-d^2 / (2 area (2 sigma)^2)) with d the distance in pixels.

    Args:
        points: (..., K, 2) x, y in pixels.
        others: (..., K, 2), broadcast against ``points``.
        areas: (...) pixels^2.
        sigmas: (K,) in units of sqrt(area).

    Returns:
        (..., K) float64 in [0, 1].
    """
    squared = np.square(points[..., 0] - others[..., 0])
    squared += np.square(points[..., 1] - others[..., 1])
    squared /= -2 * np.square(2 * sigmas)
    squared /= (areas + np.spacing(1))[..., None]
    return np.exp(squared, out=squared)


def _points(keypoints: ArrayLike, sigmas: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """(N, K, 2) float64 coordinates and (K,) float64 sigmas, checked against each other."""
    points, sigmas = np.asarray(keypoints, np.float64), np.asarray(sigmas, np.float64)
    if points.ndim != 3 or points.shape[2] not in (2, 3) or points.shape[1:2] != sigmas.shape:
        raise ValueError(f"keypoints must be (N, {len(sigmas)}, 2 or 3) for {len(sigmas)} sigmas, got {points.shape}")
    return np.ascontiguousarray(points[..., :2]), sigmas
