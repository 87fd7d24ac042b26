"""What a configuration says about a data set to train on; :mod:`pose.datasets.train_sets` reads it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class TrainSet:
    """A data set to train on.

    Labels that a network made may come with confidences: an annotation's own ones in its field ``confidences`` (a
    number for each of its keypoints), those of ``extra_joints`` in that file.

    Args:
        annotations: Annotation file in COCO's format.
        images: Folder of the pictures.
        weight: How often each person is drawn in an epoch. Of a fraction, the whole part draws everyone and the rest
            draws that share of the persons, chosen by the seed anew in each epoch: 2.5 of 100 persons is 250 draws.
        skeleton: The skeleton of the annotations, None for ``data.skeleton``. Keypoints are matched by name; those of
            ``data.skeleton`` that the set does not have weigh nothing in the loss.
        extra_joints: JSON file of a network's joints, from annotation id to (x, y, confidence) of every keypoint of
            ``data.skeleton``. They stand in for keypoints that the set's skeleton does not have, never for ones that
            it has and that are not labelled.
        least_confidence: Joints with a lower confidence are taken as not labelled.
        confidence_weight: Joints with a confidence weigh as much in the loss instead of 1.
        hold_out: How many pictures training leaves out, to validate on: ``tools/split_dataset.py CONFIG`` writes those
            of all sets to ``data.val.annotations``. They are the same for the same file and number.
        share: The share of the other pictures with a person that counts to learn from, the same ones for the same
            file; those of a smaller share are among those of a larger one.

    Raises:
        ValueError: A value is out of range.
    """

    annotations: str
    images: str
    weight: float = 1.0
    skeleton: str | None = None
    extra_joints: str | None = None
    least_confidence: float = 0.3
    confidence_weight: bool = False
    hold_out: int = 0
    share: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.weight < float("inf"):
            raise ValueError(f"weight must be positive, got {self.weight}; leave the set out instead")
        if not 0 <= self.least_confidence <= 1:
            raise ValueError(f"least_confidence must be between 0 and 1, got {self.least_confidence}")
        if self.hold_out < 0:
            raise ValueError(f"hold_out must not be negative, got {self.hold_out}")
        if not 0 < self.share <= 1:
            raise ValueError(f"share must be above 0 and at most 1, got {self.share}")

    @property
    def name(self) -> str:
        """What the set is called in messages."""
        return Path(self.annotations).stem
