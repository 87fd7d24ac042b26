"""Skeletons of published data sets whose files do not name their keypoints."""

from __future__ import annotations

from pose.skeleton import COCO, Skeleton

HALPE_BODY = Skeleton(
    name="halpe_body",
    keypoints=(
        *COCO.keypoints,
        "head_top", "neck", "pelvis", "left_big_toe", "right_big_toe", "left_small_toe", "right_small_toe",
        "left_heel", "right_heel",
    ),
    flip_pairs=(*COCO.flip_pairs, (20, 21), (22, 23), (24, 25)),
    limbs=(
        *COCO.limbs[:4], (17, 18), (18, 5), (18, 6), (18, 19), (19, 11), (19, 12), *COCO.limbs[8:],
        (15, 24), (15, 20), (15, 22), (16, 25), (16, 21), (16, 23),
    ),
    upper_body=(*range(11), 17, 18),
)  # fmt: skip
"""Halpe-FullBody's 26 body joints, the first of its 136 (Fang et al., AlphaPose, TPAMI 2022; its README's table)."""

MPII = Skeleton(
    name="mpii",
    keypoints=(
        "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "pelvis", "thorax",
        "upper_neck", "head_top", "right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow",
        "left_wrist",
    ),
    flip_pairs=((0, 5), (1, 4), (2, 3), (10, 15), (11, 14), (12, 13)),
    limbs=(
        (0, 1), (1, 2), (2, 6), (6, 3), (3, 4), (4, 5), (6, 7), (7, 8), (8, 9), (10, 11), (11, 12), (12, 7),
        (7, 13), (13, 14), (14, 15),
    ),
    upper_body=(7, 8, 9, 10, 11, 12, 13, 14, 15),
    lengths={"head": (8, 9)},
)  # fmt: skip
"""MPII Human Pose (Andriluka et al., CVPR 2014): joint ids 0 to 15 of its release."""

AIC = Skeleton(
    name="aic",
    keypoints=(
        "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist", "right_hip",
        "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "head_top", "neck",
    ),
    flip_pairs=((0, 3), (1, 4), (2, 5), (6, 9), (7, 10), (8, 11)),
    limbs=(
        (12, 13), (13, 0), (0, 1), (1, 2), (13, 3), (3, 4), (4, 5), (0, 6), (3, 9), (6, 9), (6, 7), (7, 8),
        (9, 10), (10, 11),
    ),
    upper_body=(0, 1, 2, 3, 4, 5, 12, 13),
)  # fmt: skip
"""AI Challenger's human keypoints (Wu et al., 2017), in the order of its files."""
