"""PCK, the share of correct keypoints: a measure that needs no sigmas."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pycocotools.coco import COCO

from pose.evaluation.matching import Matches, Truth, match, read_truth
from pose.evaluation.results import Results
from pose.skeleton import Skeleton

FRACTIONS = (0.05, 0.1, 0.2)
"""A keypoint is correct within this fraction of the longer side of the annotated box."""


def distances(results: Results, truth: Truth, matches: Matches) -> np.ndarray:
    """(G, K) of every annotated person's keypoints in units of the box's longer side; infinite for those not found."""
    found = np.full(truth.labelled.shape, np.inf)
    offset = results.keypoints[matches.rows, :, :2] - truth.keypoints[matches.persons, :, :2]
    found[matches.persons] = np.linalg.norm(offset, axis=-1)
    return found / np.maximum(truth.boxes[:, 2:].max(axis=1, initial=0), np.spacing(1))[:, None]


def correct_shares(lengths: np.ndarray, fractions: Sequence[float] = FRACTIONS) -> tuple[float, ...]:
    """Shares of (N,) distances within each fraction; -1 for none at all."""
    return tuple(float((lengths <= fraction).mean()) if len(lengths) else -1.0 for fraction in fractions)


def pck(results: Results, annotations: COCO, skeleton: Skeleton) -> dict[str, float]:
    """``PCK@0.05`` and so on, over all labelled keypoints; those of persons not found are wrong.

    Raises:
        DataError: The annotations do not fit the skeleton.
    """
    truth = read_truth(annotations, skeleton)
    lengths = distances(results, truth, match(results, annotations, skeleton))
    shares = correct_shares(lengths[truth.labelled & truth.counts[:, None]])
    return {f"PCK@{fraction:g}": share for fraction, share in zip(FRACTIONS, shares, strict=True)}
