"""Persons counted: how large, which joints, cut off by the image's edge, outside their boxes, left out and why."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pose.datasets.annotations import LEFT_OUT, area_is_box
from pose.formats.dataset import PoseDataset

SMALL, MEDIUM = 32**2, 96**2
"""COCO's sizes: persons of at most so many pixels^2 are small or medium; AP(M) and AP(L) leave small ones out."""

EDGE = 2.0
"""The distance in pixels from the image's edge at which a box is called cut off."""

OUTSIDE = 0.1
"""A joint is outside its box where it lies beyond it by more than this share of the box's longer side."""


NO_BOX = "box without size inside its image (training and testing refuse such a file)"


@dataclass(frozen=True)
class PersonCheck:
    """What was counted; rows are those of the data set.

    Attributes:
        sizes: Number of trainable persons by COCO's sizes, by the area, or the box's area where nobody drew an outline.
        boxed: How many trainable persons have their box's area, since nobody drew an outline.
        heights: Box heights in pixels that 5, 25, 50, 75 and 95 % of the trainable persons stay below.
        labeled: (K,) how many trainable persons have each joint labeled.
        hidden: (K,) how many of these are labeled as hidden.
        joints: (K + 1,) how many trainable persons have 0, 1, ... K joints labeled.
        cut: Rows of trainable persons whose box touches the image's edge.
        outside: Rows of trainable persons with a joint outside the box, the farthest first.
        off_image: Rows of trainable persons with a joint outside the image.
        left_out: Rows of what does not train, by the rule that leaves it out.
        trained: (N,) bool, who trains.
    """

    sizes: dict[str, int]
    boxed: int
    heights: np.ndarray
    labeled: np.ndarray
    hidden: np.ndarray
    joints: np.ndarray
    cut: np.ndarray
    outside: np.ndarray
    off_image: np.ndarray
    left_out: dict[str, np.ndarray]
    trained: np.ndarray


def check_persons(dataset: PoseDataset) -> PersonCheck:
    """Counts the persons of a data set."""
    limits = np.array([(image.width, image.height) for image in dataset.images], np.float64).reshape(-1, 2)
    limits = np.where(limits > 0, limits, np.inf)[dataset.owners]  # 0: not known
    boxes = dataset.boxes_or_extents()
    corners = boxes[:, :2] + boxes[:, 2:]
    inside = (np.minimum(corners, np.where(limits > 0, limits, np.inf)) - np.maximum(boxes[:, :2], 0) > 0).all(1)
    left_out: dict[str, np.ndarray] = {}
    trained = np.ones(len(dataset), bool)
    values = dataset.crowd, dataset.labeled.sum(1), dataset.areas
    rules = {name: rule(*values) for name, rule in LEFT_OUT.items()}
    rules[NO_BOX] = ~inside
    for rule, broken in rules.items():
        left_out[rule] = np.flatnonzero(broken & trained)
        trained &= ~broken
    filled = np.where(np.isfinite(dataset.areas), dataset.areas, boxes[:, 2] * boxes[:, 3])
    boxed = sum(map(area_is_box, filled[trained].tolist(), boxes[trained].tolist()))
    areas = filled[trained]
    sizes = {
        "small (up to 32 x 32)": int((areas <= SMALL).sum()),
        "medium (up to 96 x 96)": int(((areas > SMALL) & (areas <= MEDIUM)).sum()),
        "large": int((areas > MEDIUM).sum()),
    }
    at_edge = (boxes[:, :2] < EDGE).any(1) | (corners > limits - EDGE).any(1)
    points = dataset.keypoints[..., :2]
    beyond = np.maximum(boxes[:, None, :2] - points, points - corners[:, None]).max(-1)
    share = np.where(dataset.labeled, beyond / np.maximum(boxes[:, 2:].max(1), 1e-9)[:, None], 0).max(1, initial=0)
    outside = np.flatnonzero(trained & (share > OUTSIDE))
    off = dataset.labeled & ((points < 0) | (points > limits[:, None])).any(-1)
    counts = dataset.labeled[trained].sum(1)
    heights = boxes[trained, 3]
    return PersonCheck(
        sizes=sizes,
        boxed=boxed,
        heights=np.percentile(heights, [5, 25, 50, 75, 95]) if len(heights) else np.full(5, np.nan),
        labeled=dataset.labeled[trained].sum(0),
        hidden=(dataset.keypoints[trained, :, 2] == 1).sum(0),
        joints=np.bincount(counts, minlength=dataset.skeleton.num_keypoints + 1),
        cut=np.flatnonzero(trained & at_edge),
        outside=outside[np.argsort(-share[outside], kind="stable")],
        off_image=np.flatnonzero(trained & off.any(1)),
        left_out=left_out,
        trained=trained,
    )
