"""What a person can say about a conversion beyond the two places."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pose.skeleton import Skeleton
from pose.visualization import DRAWN_SCORE


@dataclass(frozen=True)
class ReadOptions:
    """How a format is read.

    Attributes:
        skeleton: What the keypoints are, where the format does not name them; None takes the format's names.
        images: The folder of the images, for formats that do not say how large they are.
        category: Name or number of the class that the persons are; None takes the one that has keypoints.
        joint_threshold: Found joints below this score count as unlabeled.
        split: The part of the data set, for formats that have several; None takes all of them.
    """

    skeleton: Skeleton | None = None
    images: Path | None = None
    category: str | None = None
    joint_threshold: float = DRAWN_SCORE
    split: str | None = None


@dataclass(frozen=True)
class WriteOptions:
    """How a format is written.

    Attributes:
        images: The folder of the images, for formats whose folders hold them.
        split: The part of the data set, for formats that name one.
        url_prefix: What an image's address begins with, for formats that hold addresses.
    """

    images: Path | None = None
    split: str = "train"
    url_prefix: str = "/data/local-files/?d="
