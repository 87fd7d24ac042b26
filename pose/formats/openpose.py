"""OpenPose's JSON, a file an image, in the order of BODY_25, which its readers take for granted."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from pose.errors import DataError
from pose.files import make_folder, write_json
from pose.formats.dataset import PoseDataset, inner_names
from pose.formats.options import WriteOptions

BODY_25 = (
    "nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist",
    "pelvis", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "right_eye", "left_eye",
    "right_ear", "left_ear", "left_big_toe", "left_small_toe", "left_heel", "right_big_toe", "right_small_toe",
    "right_heel",
)  # fmt: skip
"""The keypoints by this project's names; OpenPose calls the pelvis MidHip."""

_MIDDLES = {"neck": ("left_shoulder", "right_shoulder"), "pelvis": ("left_hip", "right_hip")}
"""Joints that OpenPose learned as the middle of two, made so where a skeleton lacks them."""

_EMPTY = ("face", "hand_left", "hand_right")


def write(dataset: PoseDataset, path: Path, options: WriteOptions) -> Counter[str]:
    """Writes ``IMAGE_keypoints.json`` for every image into a folder; labeled joints have the confidence 1.

    Images' own folders are kept where two images in different ones have the same name.

    Returns:
        What the format cannot hold, and the joints that were made.

    Raises:
        DataError: The skeleton shares no name with BODY_25, or two images would share a file.
        OutputError: The folder cannot be written.
    """
    names = list(dataset.skeleton.keypoints)
    shared = [name for name in BODY_25 if name in names]
    if not shared:
        raise DataError(
            f"the skeleton {dataset.skeleton.name!r} has none of OpenPose's joints ({', '.join(BODY_25[:5])} ...)"
        )
    kept = dataset.take(dataset.persons)
    points = np.zeros((len(kept), len(BODY_25), 3))
    scores = np.where(np.isfinite(kept.joint_scores), kept.joint_scores, 1.0)
    values = np.dstack([kept.keypoints[..., :2], np.where(kept.labeled, scores, 0)])
    for place, name in enumerate(BODY_25):
        if name in names:
            points[:, place] = values[:, names.index(name)]
    made = 0
    for name, ends in _MIDDLES.items():
        if name not in names and set(ends) <= set(names):
            first, second = (values[:, names.index(end)] for end in ends)
            middle = (first + second) / 2
            middle[:, 2] = np.minimum(first[:, 2], second[:, 2])
            points[:, BODY_25.index(name)] = np.where(middle[:, 2:] > 0, middle, 0)
            made += int((middle[:, 2] > 0).sum())
    stems = [name.with_suffix("") for name in inner_names(dataset.images)]
    short = len({stem.name for stem in stems}) == len(stems)
    make_folder(path)
    for row, stem in enumerate(stems):
        people = [
            {
                "person_id": [int(kept.tracks[person])],
                "pose_keypoints_2d": points[person].round(6).ravel().tolist(),
                **{f"{part}_keypoints_2d": [] for part in _EMPTY},
            }
            for person in np.flatnonzero(kept.owners == row)
        ]
        write_json(path / f"{stem.name if short else stem}_keypoints.json", {"version": 1.3, "people": people})
    unknown = [names.index(name) for name in names if name not in BODY_25]
    return Counter(
        {
            "joints that BODY_25 does not have": int(kept.labeled[:, unknown].sum()),
            "necks and pelvises made of two joints": made,
            "boxes": int(np.isfinite(kept.boxes).all(1).sum()),
            "areas": int(np.isfinite(kept.areas).sum()),
            "hidden joints (seen now)": int((kept.keypoints[..., 2] == 1).sum()),
            "persons and regions without keypoints": int((~dataset.persons).sum()),
        }
    )
