"""What is wrong with each keypoint, after Ronchi and Perona, ICCV 2017 (arXiv 1707.05388), section 3.

A keypoint's similarity to a place is exp(-d^2 / (2 s^2 k^2)): d in pixels, s^2 the person's area, k twice
the keypoint's sigma. A labelled keypoint of a matched person is

- good: at least 0.85 similar to its own place,
- jitter: at least 0.5 similar to it,
- inversion: else, and at least 0.5 similar to the place of its mirror partner on the same person,
- swap: else, and at least 0.5 similar to its place or its mirror partner's on another person,
- miss: near none of these.

Where both an inversion and a swap would do, the more similar place decides.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pose.evaluation.matching import Matches, Truth
from pose.evaluation.oks import keypoint_similarity
from pose.evaluation.results import Results
from pose.skeleton import Skeleton

KINDS = ("good", "jitter", "inversion", "swap", "miss")
"""The numbers that :func:`classify` gives are indices into this."""

UNLABELED = -1

GOOD, NEAR = 0.85, 0.5
"""The paper's bounds of similarity."""


def person_similarity(results: Results, truth: Truth, matches: Matches, skeleton: Skeleton) -> np.ndarray:
    """(P,) OKS of each match: the mean over labelled keypoints."""
    own = keypoint_similarity(
        results.keypoints[matches.rows, :, :2],
        truth.keypoints[matches.persons, :, :2],
        truth.areas[matches.persons],
        np.array(skeleton.sigmas),
    )
    labeled = truth.labeled[matches.persons]
    return (own * labeled).sum(axis=1) / np.maximum(labeled.sum(axis=1), 1)


def classify(results: Results, truth: Truth, matches: Matches, skeleton: Skeleton) -> np.ndarray:
    """(P, K) int8 indices into :data:`KINDS`; :data:`UNLABELLED` where the annotation has no label."""
    sigmas, partner = np.array(skeleton.sigmas), skeleton.flip_index
    points = results.keypoints[matches.rows, :, :2]
    places, labeled = truth.keypoints[..., :2], truth.labeled

    def near(mine: np.ndarray, persons: np.ndarray, joints: np.ndarray) -> np.ndarray:
        """Similarity of keypoints of matches to joints of annotated persons, 0 where unlabelled."""
        found = keypoint_similarity(points[mine], places[persons][:, joints], truth.areas[persons], sigmas[joints])
        return found * labeled[persons][:, joints]

    every, same = np.arange(len(points)), np.arange(skeleton.num_keypoints)
    own = near(every, matches.persons, same)
    inverted = near(every, matches.persons, partner) * (partner != same)
    mine, others = _others_on_the_image(truth, matches.persons)
    swapped = np.zeros_like(own)
    np.maximum.at(swapped, mine, np.maximum(near(mine, others, same), near(mine, others, partner)))
    kinds = np.select(
        [own >= GOOD, own >= NEAR, (inverted >= NEAR) & (inverted >= swapped), swapped >= NEAR], [0, 1, 2, 3], 4
    )
    return np.where(labeled[matches.persons], kinds, UNLABELED).astype(np.int8)


def corrected(results: Results, truth: Truth, matches: Matches, wrong: np.ndarray) -> Results:
    """The results with keypoints put where they belong.

    Args:
        results, truth, matches: What :func:`classify` was given.
        wrong: (P, K) bool, which keypoints of the matches.
    """
    keypoints = results.keypoints.copy()
    match, joint = np.nonzero(wrong)
    keypoints[matches.rows[match], joint, :2] = truth.keypoints[matches.persons[match], joint, :2]
    return replace(results, keypoints=keypoints)


def _others_on_the_image(truth: Truth, persons: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of an index into (P,) annotated persons and another annotated person of the same image."""
    order = np.argsort(truth.image_ids, kind="stable")
    images = truth.image_ids[order]
    first = np.searchsorted(images, truth.image_ids[persons], "left")
    counts = np.searchsorted(images, truth.image_ids[persons], "right") - first
    mine = np.repeat(np.arange(len(persons)), counts)
    within = np.arange(len(mine)) - np.repeat(np.cumsum(counts) - counts, counts)
    others = order[np.repeat(first, counts) + within]
    different = others != persons[mine]
    return mine[different], others[different]
