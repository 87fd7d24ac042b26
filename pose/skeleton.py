"""Skeletons as data: keypoint names, flip pairs, limbs and OKS sigmas.

COCO's 17 keypoints and CrowdPose's 14 are built in; any other skeleton is one
JSON file with the same fields, read by :func:`load_skeleton`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from pose.errors import DataError

PERSON_CATEGORY = 1
"""COCO's category id of a person, which every annotation and every result carries."""

DEFAULT_SIGMA = 0.08
"""Used for every keypoint of a skeleton that gives no sigmas: COCO's mean is 0.065, its largest 0.107."""

SIDE_COLORS = {"left": (60, 170, 255), "right": (255, 150, 40), "center": (120, 230, 120)}
"""BGR: the person's left is orange, the right is blue, told apart with any colour vision; limbs across are green."""


@dataclass(frozen=True)
class Skeleton:
    """What a data set's keypoints are.

    Args:
        name: What the skeleton is called in configs and stamps.
        keypoints: K keypoint names, in the order of the annotations.
        flip_pairs: Pairs of keypoint names or indices that trade places in a mirror; a
            keypoint in no pair maps to itself.
        limbs: Pairs of keypoint names or indices joined by a line when drawn.
        sigmas: K positive floats, the per-keypoint standard deviation that OKS uses, in units
            of sqrt(area). ``None`` takes :data:`DEFAULT_SIGMA` and sets ``sigmas_estimated``.
        upper_body: Keypoints above the waist, for the half-body augmentation; empty
            switches that augmentation off.
        sigmas_estimated: True where the sigmas are not the data set's own.
        lengths: Lengths that PCK measures errors in, by name: the distance of two keypoints.

    Raises:
        ValueError: A pair or limb names an unknown keypoint, a keypoint is in two pairs or
            paired with itself, lengths differ or a sigma is not positive.
    """

    name: str
    keypoints: tuple[str, ...]
    flip_pairs: tuple[tuple[int, int], ...] = ()
    limbs: tuple[tuple[int, int], ...] = ()
    sigmas: tuple[float, ...] = None  # type: ignore[assignment]  # what is None becomes numbers in __post_init__
    upper_body: tuple[int, ...] = ()
    sigmas_estimated: bool = False
    lengths: Mapping[str, tuple[int, int]] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        def indices(entries: Sequence, what: str) -> tuple[int, ...]:
            return tuple(self._index(entry, what) for entry in entries)

        def pairs(entries: Sequence, what: str) -> tuple[tuple[int, ...], ...]:
            found = tuple(indices(entry, what) for entry in entries)
            for entry in found:
                if len(entry) != 2 or entry[0] == entry[1]:
                    raise ValueError(f"skeleton {self.name!r}: {what} needs two different keypoints, got {entry}")
            return found

        def put(field: str, value: object) -> None:
            object.__setattr__(self, field, value)

        put("keypoints", tuple(self.keypoints))
        if not all(isinstance(keypoint, str) for keypoint in self.keypoints):
            raise ValueError(f"skeleton {self.name!r}: keypoints must be names")
        if not self.keypoints or len(set(self.keypoints)) != len(self.keypoints):
            raise ValueError(f"skeleton {self.name!r}: keypoints must be a non-empty list of different names")
        put("flip_pairs", pairs(self.flip_pairs, "flip_pairs"))
        put("limbs", pairs(self.limbs, "limbs"))
        if not isinstance(self.lengths, Mapping):
            raise ValueError(f"skeleton {self.name!r}: lengths must be an object of name: [keypoint, keypoint]")
        ends = pairs(list(self.lengths.values()), "lengths")
        put("lengths", dict(zip(self.lengths, ends, strict=True)))
        put("upper_body", indices(self.upper_body, "upper_body"))
        paired = [i for pair in self.flip_pairs for i in pair]
        if len(set(paired)) != len(paired):
            twice = next(i for i in paired if paired.count(i) > 1)
            raise ValueError(f"skeleton {self.name!r}: {self.keypoints[twice]!r} stands in two flip_pairs")
        sigmas: Sequence[float] | None = self.sigmas
        if sigmas is None:
            sigmas = (DEFAULT_SIGMA,) * len(self.keypoints)
            put("sigmas_estimated", True)
        sigmas = tuple(float(sigma) for sigma in sigmas)
        put("sigmas", sigmas)
        if len(sigmas) != len(self.keypoints):
            raise ValueError(f"skeleton {self.name!r}: {len(sigmas)} sigmas for {len(self.keypoints)} keypoints")
        if not all(0 < sigma < float("inf") for sigma in sigmas):
            raise ValueError(f"skeleton {self.name!r}: every sigma must be positive and finite")

    def _index(self, entry: int | str, what: str) -> int:
        if isinstance(entry, str):
            if entry not in self.keypoints:
                raise ValueError(f"skeleton {self.name!r}: {what} names an unknown keypoint {entry!r}")
            return self.keypoints.index(entry)
        if isinstance(entry, bool) or not isinstance(entry, int) or not 0 <= entry < len(self.keypoints):
            raise ValueError(f"skeleton {self.name!r}: {what} has {entry!r}, not a keypoint name or index")
        return entry

    @property
    def num_keypoints(self) -> int:
        """K, the number of keypoints."""
        return len(self.keypoints)

    @cached_property
    def flip_index(self) -> np.ndarray:
        """(K,) int64: entry k is the keypoint that k becomes in a mirror."""
        index = np.arange(self.num_keypoints)
        for left, right in self.flip_pairs:
            index[left], index[right] = right, left
        return index

    @cached_property
    def sides(self) -> tuple[str, ...]:
        """K of 'left', 'right' or 'center': which side each keypoint is on, from its name.

        Names of a flip pair may say it by the letter that they differ in: ``LEye`` and ``REye``.
        """

        def side(name: str, mirrored: str) -> str:
            for word in ("left", "right"):
                if word in name.lower():
                    return word
            letters = next(
                (pair for pair in zip(name.lower(), mirrored.lower(), strict=False) if len(set(pair)) > 1), ("", "")
            )
            return {("l", "r"): "left", ("r", "l"): "right"}.get(letters, "center")

        return tuple(side(name, self.keypoints[self.flip_index[k]]) for k, name in enumerate(self.keypoints))


def limb_side(skeleton: Skeleton, first: int, second: int) -> str:
    """``left`` or ``right`` for a limb with no end on the other side, ``center`` for one across."""
    sides = {skeleton.sides[first], skeleton.sides[second]} - {"center"}
    return sides.pop() if len(sides) == 1 else "center"


COCO = Skeleton(
    name="coco",
    keypoints=(
        "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder",
        "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip",
        "left_knee", "right_knee", "left_ankle", "right_ankle",
    ),
    flip_pairs=((1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16)),
    limbs=(
        (15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8),
        (7, 9), (8, 10), (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6),
    ),
    sigmas=(
        0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062,
        0.107, 0.107, 0.087, 0.087, 0.089, 0.089,
    ),
    upper_body=tuple(range(11)),
)  # fmt: skip

CROWDPOSE = Skeleton(
    name="crowdpose",
    keypoints=(
        "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
        "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle", "head", "neck",
    ),
    flip_pairs=((0, 1), (2, 3), (4, 5), (6, 7), (8, 9), (10, 11)),
    limbs=(
        (12, 13), (13, 0), (13, 1), (0, 2), (2, 4), (1, 3), (3, 5), (0, 6), (1, 7), (6, 7),
        (6, 8), (8, 10), (7, 9), (9, 11),
    ),
    sigmas=(
        0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089, 0.089, 0.079, 0.079,
    ),
    upper_body=(0, 1, 2, 3, 4, 5, 12, 13),
)  # fmt: skip

BUILT_IN = {skeleton.name: skeleton for skeleton in (COCO, CROWDPOSE)}

_FIELDS = ("name", "keypoints", "flip_pairs", "limbs", "sigmas", "upper_body", "sigmas_estimated", "lengths")


def load_skeleton(source: str | Path) -> Skeleton:
    """A built-in skeleton by name, or one read from a JSON file.

    Args:
        source: ``"coco"``, ``"crowdpose"``, or the path of a JSON object with the fields of
            :class:`Skeleton`; ``name`` defaults to the file's stem.

    Raises:
        FileNotFoundError: Neither a built-in name nor a file.
        ValueError: The file is no JSON object, has an unknown or a missing field, or its
            fields contradict each other (see :class:`Skeleton`); the message names the file.
    """
    if str(source) in BUILT_IN:
        return BUILT_IN[str(source)]
    path = Path(source)
    if not path.is_file():
        raise FileNotFoundError(f"skeleton {str(source)!r} is neither built in ({', '.join(BUILT_IN)}) nor a file")
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(fields, dict) or "keypoints" not in fields:
            raise ValueError("needs a JSON object with a 'keypoints' list")
        unknown = sorted(set(fields) - set(_FIELDS))
        if unknown:
            raise ValueError(f"unknown field {unknown[0]!r}; known are {', '.join(_FIELDS)}")
        return Skeleton(**{"name": path.stem, **fields})
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise ValueError(f"{path}: {error}") from error


def choose_skeleton(source: str, option: str = "") -> Skeleton:
    """:func:`load_skeleton` for what a person named; the message begins with ``option`` where there is one.

    Raises:
        DataError: It is neither built in nor a file, or the file is wrong.
    """
    try:
        return load_skeleton(source)
    except (ValueError, OSError) as error:
        raise DataError(f"{option}: {error}" if option else str(error)) from error
