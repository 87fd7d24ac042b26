"""Boxes by hand that are of groups: data sets that mark a crowd with one box do not always say which boxes are such.

The numbers below were set by looking at what they tell on 7,951 everyday photos, some of them from Open Images: of 24
boxes that chance picked among the 624 that are told, 20 are around a group. Who is taken for a group is not learned
from, no more.
"""

from __future__ import annotations

import numpy as np

from pose.detection.suppression import suppress
from pose.geometry import box_iou

SAME_PERSON = 0.5
"""A detector's box of at least this overlap (IoU) with one by hand is of the same person."""

AGREED = 0.4
"""A detector's box of the same place and of at least this score says that a box is of one person."""

MEMBER = 0.3
"""A detector's box of at least this score may be a member."""

INSIDE = 0.75
"""The part of a member's area that is in the group's box, at least."""

SMALLER = 0.35
"""A member's area is a smaller part than this of the group's."""

ONE_MEMBER = 0.4
"""Boxes of a larger IoU are of one member."""

NEEDED = ((0.0, 3), (1.2, 2), (2.2, 1))
"""Ratios of width to height, and how many members make a box of such a ratio a group's: most people are upright."""


def are_groups(by_hand: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Which boxes by hand are around several persons: no detector sees one person there, and several are inside.

    Args:
        by_hand: (N, 4) x, y, width, height, above 0, of one picture.
        found: (M, 5) x, y, width, height and score of what a detector found there.

    Returns:
        (N,) bool.
    """
    likely = found[found[:, 4] >= AGREED]
    agreed = (box_iou(by_hand[:, None], likely[None, :, :4]) >= SAME_PERSON).any(1)
    members = _members(by_hand, found[found[:, 4] >= MEMBER])
    start = np.maximum(by_hand[:, None, :2], members[None, :, :2])
    end = np.minimum((by_hand[:, :2] + by_hand[:, 2:])[:, None], (members[:, :2] + members[:, 2:])[None])
    own, theirs = by_hand[:, None, 2:].prod(-1), members[None, :, 2:].prod(-1)
    inside = (end - start).clip(0).prod(-1) >= INSIDE * theirs
    count = (inside & (theirs < SMALLER * own)).sum(1)
    ratio = by_hand[:, 2] / by_hand[:, 3]
    enough = np.any([(ratio >= least) & (count >= needed) for least, needed in NEEDED], axis=0)
    return enough & ~agreed


def _members(by_hand: np.ndarray, found: np.ndarray) -> np.ndarray:
    """(K, 4) all boxes, those of one person once, those by hand first."""
    boxes = np.concatenate([by_hand, found[:, :4]])
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)
    scores = np.concatenate([np.full(len(by_hand), 2.0), found[:, 4]])
    return boxes[suppress(np.column_stack([corners, scores]), np.zeros(len(boxes), np.int64), ONE_MEMBER)]
