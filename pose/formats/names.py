"""A skeleton made of keypoint names: who trades places in a mirror, which numbers join limbs, which file to write."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pose.errors import DataError
from pose.files import write_json
from pose.skeleton import BUILT_IN, Skeleton

_SIDE_WORDS = re.compile(r"left|right", re.IGNORECASE)
_SIDE_LETTERS = re.compile(r"(?<![A-Za-z])[lr](?![A-Za-z])|^[LR](?=[A-Z][a-z])|^[lr](?=[A-Z])", re.IGNORECASE)
_GLUED = re.compile(r"^[lr](?=[a-z])|(?<=[a-z0-9])[LR]$")
_MIRRORED = {"left": "right", "right": "left", "l": "r", "r": "l"}


def skeleton_from_names(
    name: str,
    keypoints: Sequence[str],
    limbs: Sequence[Sequence[int]] = (),
    flip_index: Sequence[int] | None = None,
    first: int | None = None,
) -> Skeleton:
    """A skeleton from what a format says of it.

    A built-in skeleton of the same names in the same order is taken as it is, with its sigmas.

    Args:
        name: What the skeleton is called.
        keypoints: The K keypoints' names.
        limbs: Pairs of numbers, from 0 or from 1 on; see :func:`limbs_from_numbers`.
        flip_index: K numbers from 0 on, what each keypoint becomes in a mirror; None finds the pairs by name.
        first: What limbs call the first keypoint, 0 or 1, where the format says so.

    Raises:
        DataError: The names are not different, the limbs name unknown keypoints, or ``flip_index`` is no mirror.
    """
    keypoints = tuple(str(keypoint).strip() for keypoint in keypoints)
    pairs = pairs_by_name(keypoints) if flip_index is None else _pairs_of(flip_index, len(keypoints))
    for known in BUILT_IN.values():
        if known.keypoints == keypoints and {tuple(sorted(pair)) for pair in known.flip_pairs} == set(pairs):
            return known
    try:
        return Skeleton(name, keypoints, pairs, limbs_from_numbers(limbs, keypoints, pairs, first))
    except ValueError as error:
        raise DataError(str(error)) from error


def pairs_by_name(keypoints: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Keypoints whose names differ in the side alone: ``left_eye``, ``LEye``, ``eye_l``, ``L eye``, ``leftEye``.

    A single letter glued to a lower-case word (``lknee``, ``kneeL``) is a side only where the other name is there, too.
    """
    places = {keypoint.lower(): index for index, keypoint in enumerate(keypoints)}
    pairs: dict[int, int] = {}
    for pattern in (_SIDE_WORDS, _SIDE_LETTERS, _GLUED):
        for index, keypoint in enumerate(keypoints):
            for found in pattern.finditer(keypoint):
                mirrored = keypoint[: found.start()] + _MIRRORED[found[0].lower()] + keypoint[found.end() :]
                other = places.get(mirrored.lower())
                if other is not None and other != index and index not in pairs and other not in pairs:
                    pairs[index], pairs[other] = other, index
    return tuple(sorted((index, other) for index, other in pairs.items() if index < other))


def _pairs_of(flip_index: Sequence[int], count: int) -> tuple[tuple[int, int], ...]:
    mirror = [int(index) for index in flip_index]
    if sorted(mirror) != list(range(count)) or any(mirror[mirror[index]] != index for index in range(count)):
        raise DataError(f"flip_idx {mirror} is no mirror of {count} keypoints: twice mirrored must be as before")
    return tuple((index, other) for index, other in enumerate(mirror) if index < other)


def limbs_from_numbers(
    limbs: Sequence[Sequence[int]],
    keypoints: Sequence[str],
    flip_pairs: Sequence[tuple[int, int]],
    first: int | None = None,
) -> tuple[tuple[int, int], ...]:
    """Limbs from 0 on, of numbers that begin at 1, as COCO's do, or at 0, as several tools write them.

    ``first`` says which. Without it a 0 means from 0 on and the number K from 1 on; with neither, the limbs are read in
    the way that makes more of them symmetric in a mirror, and as COCO's where both are alike.

    Raises:
        DataError: A limb is no pair of numbers, or names a keypoint that is not there in either way.
    """
    count = len(keypoints)
    try:
        numbers = [(int(first), int(second)) for first, second in limbs]
    except (TypeError, ValueError) as error:
        raise DataError(f"the skeleton's limbs are no pairs of numbers: {str(limbs)[:80]}") from error
    ends = {end for limb in numbers for end in limb}
    starts = [
        start for start in ((1, 0) if first is None else (first,)) if all(start <= end < count + start for end in ends)
    ]
    if not starts:
        raise DataError(f"the skeleton's limbs name keypoints from {min(ends)} to {max(ends)}, but there are {count}")

    mirror = {index: other for pair in flip_pairs for index, other in (pair, pair[::-1])}

    def symmetric(start: int) -> int:
        drawn = {frozenset((first - start, second - start)) for first, second in numbers}
        return sum(frozenset(mirror.get(end, end) for end in limb) in drawn for limb in drawn)

    start = max(starts, key=symmetric)
    shifted = [(first - start, second - start) for first, second in numbers if first != second]
    return tuple(dict.fromkeys(shifted))


def skeleton_fields(skeleton: Skeleton) -> dict[str, Any]:
    """A skeleton as the JSON object that :func:`pose.skeleton.load_skeleton` reads, keypoints by name."""

    def named(pairs: Sequence[tuple[int, int]]) -> list[list[str]]:
        return [[skeleton.keypoints[index] for index in pair] for pair in pairs]

    fields: dict[str, Any] = {
        "name": skeleton.name,
        "keypoints": list(skeleton.keypoints),
        "flip_pairs": named(skeleton.flip_pairs),
        "limbs": named(skeleton.limbs),
        "upper_body": [skeleton.keypoints[index] for index in skeleton.upper_body],
        "sigmas": list(skeleton.sigmas or ()),
        "sigmas_estimated": skeleton.sigmas_estimated,
    }
    if skeleton.lengths:
        fields["lengths"] = {key: named([pair])[0] for key, pair in skeleton.lengths.items()}
    return fields


def write_skeleton(path: str | Path, skeleton: Skeleton) -> None:
    """Writes a skeleton file.

    Raises:
        OutputError: The place cannot be written.
    """
    write_json(path, skeleton_fields(skeleton))
