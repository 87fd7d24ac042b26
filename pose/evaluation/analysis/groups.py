"""Figures of groups of annotated persons: by size, by labelled keypoints, by crowding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pycocotools.coco import COCO

from pose.evaluation.matching import Matches, Truth, average_precision, average_recall, run_coco_eval
from pose.evaluation.results import Results
from pose.geometry import box_iou
from pose.skeleton import Skeleton

SIZES = (32, 64, 96, 192)
"""Bounds of the square root of the area, in pixels; COCO's medium is 32 to 96, its large above."""

LABELED = (6, 11, 16)
"""Bounds of the number of labelled keypoints."""

CROWDING = (1, 2, 4)
"""Bounds of the number of neighbors."""

NEIGHBOR_OVERLAP = 0.1
"""Two annotated persons whose boxes have this intersection over union are neighbors."""

Grouping = tuple[tuple[str, ...], np.ndarray]
"""Names of groups, and (G,) the index of each annotated person's."""


@dataclass(frozen=True)
class GroupFigures:
    """One group of annotated persons.

    Args:
        name: What they have in common.
        persons: How many persons of the group count.
        missed: How many of them nothing was found for.
        ap, ar: AP and AR of the results that were matched to them; -1 where nobody counts. False persons belong to no
            group.
    """

    name: str
    persons: int
    missed: int
    ap: float
    ar: float


def by_size(truth: Truth) -> Grouping:
    """Groups persons by the square root of the annotated area."""
    return _names(0, SIZES, " px"), np.digitize(np.sqrt(truth.areas), SIZES)


def by_labeled(truth: Truth) -> Grouping:
    """Groups persons by the number of labelled keypoints."""
    return _names(1, LABELED, "", whole=True), np.digitize(truth.labeled.sum(axis=1), LABELED)


def by_crowding(truth: Truth) -> Grouping:
    """Groups persons by how many others, crowds apart, have boxes that overlap by :data:`NEIGHBOR_OVERLAP`."""
    neighbors = np.zeros(len(truth), np.int64)
    for image in np.unique(truth.image_ids):
        rows = np.flatnonzero((truth.image_ids == image) & truth.counts)
        overlaps = box_iou(truth.boxes[rows, None], truth.boxes[None, rows])
        np.fill_diagonal(overlaps, 0)
        neighbors[rows] = (overlaps >= NEIGHBOR_OVERLAP).sum(axis=1)
    return _names(0, CROWDING, "", whole=True), np.digitize(neighbors, CROWDING)


GROUPINGS = {"size": by_size, "labelled keypoints": by_labeled, "crowding": by_crowding}


def group_figures(
    grouping: Grouping, results: Results, annotations: COCO, skeleton: Skeleton, truth: Truth, matches: Matches
) -> tuple[GroupFigures, ...]:
    """The figures of every group, in order.

    Args:
        grouping: The groups' names and members, made by one of :data:`GROUPINGS`.
        results: The persons.
        annotations: The annotation file.
        skeleton: Names the K keypoints.
        truth, matches: The annotated persons, and which result is which of them.
    """
    names, index = grouping
    rows = []
    for number, name in enumerate(names):
        mine = truth.counts & (index == number)
        own = results.select(matches.rows[mine[matches.persons]])
        evaluator = run_coco_eval(own, annotations, skeleton, counts=mine)
        missed = int(mine[matches.missed].sum())
        rows.append(
            GroupFigures(name, int(mine.sum()), missed, average_precision(evaluator), average_recall(evaluator))
        )
    return tuple(rows)


def _names(first: int, bounds: Sequence[int], unit: str, whole: bool = False) -> tuple[str, ...]:
    """What np.digitize's bins are called; whole numbers end one below the next bin's first."""
    names = []
    for low, high in zip((first, *bounds), bounds, strict=False):
        last = high - whole
        names.append(f"{low} to {last}{unit}" if last > low else f"{low}{unit}")
    return (*names, f"{bounds[-1]}{unit} or more")
